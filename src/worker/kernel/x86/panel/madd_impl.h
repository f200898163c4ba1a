/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 32 columns of panels times tokens by vpmaddubsw and vpmaddwd: weights as unsigned
 * bytes that are too large by OFFSET, or signed ones; scales of half blocks as 16-bit pairs, so
 * that widening to 32 bits multiplies by them.  Included by panel_impl.h; panel/vnni_impl.h does
 * the same with VNNI. */

INLINED b64 panel_bytes(b64 q, const int flags UNUSED)
{
    return q;
}

/* Signed bytes `even` and `odd` of each 32-bit item as 16-bit ones, times 2^shift. */
INLINED b64 pairs(b64 v, int even, int odd, int shift)
{
    const int32_t at = even << 8 | odd << 24 | 0x00800080;
    const b64 in_lane = b64_table(
        (const int8_t *)(const int32_t[4]){at, at + 0x04000400, at + 0x08000800, at + 0x0c000c00});
    return b64_sra16(b64_lut(v, in_lane), 8 - shift);
}

/* The scales of the two halves of a block, bytes n and n + 1 of 16 items; times OFFSET they are
 * what the sums of x take back, in the place of mins. */
INLINED void panel_scales_store(struct panel_block *to, b64 v, const int n, const int flags)
{
    b64_store(to->sc_pairs[0], pairs(v, n, n, 0));
    b64_store(to->sc_pairs[1], pairs(v, n + 1, n + 1, 0));
    if (OFFSET(flags))
        b64_store(to->mn, pairs(v, n, n + 1, __builtin_ctz(OFFSET(flags))));
}

/* How many steps of a block (4 columns each) fit 16 bits: 2 x 127 x the largest weight for each. */
INLINED uint32_t panel_steps(const int flags)
{
    switch (BITS_OF(flags)) {
    case 8: return 1;
    case 6: return 2;
    case 5: return 4;
    default: return flags & W_HALF ? 4 : 8;
    }
}

/* What widens the 16-bit sums of half h: ones or its scales. */
INLINED b64 panel_widener(const struct panel_src *s, uint32_t h, const int flags)
{
    return flags & W_HALF ? b64_load(s->w->sc_pairs[h]) : b64_set32(0x00010001);
}

/* s += products of the steps from k on, up to two of them: one after the other in 16 bits. */
INLINED void panel_wide(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t k, const uint32_t R, const uint32_t T,
                        b64 s[PANELS][MOST_TOKENS], panel_get_fn get, const int flags)
{
    const bool two = panel_steps(flags) == 2, is_signed = flags & IS_SIGNED;
    b64 w0[PANELS], w1[PANELS];
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        w0[r] = panel_q(&w[r], k, get, flags);
        w1[r] = two ? panel_q(&w[r], k + 1, get, flags) : b64_abs(w0[r]);
    }
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        const b64 x0 = panel_act(x[t], b, k);
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            b64 p =
                is_signed ? b64_maddubs(w1[r], b64_negate_by(x0, w0[r])) : b64_maddubs(w0[r], x0);
            if (two)
                p = b64_add16(p, b64_maddubs(w1[r], panel_act(x[t], b, k + 1)));
            p = b64_madd16(p, panel_widener(&w[r], k / 4, flags));
            s[r][t] = b64_now(b64_add32(s[r][t], p));
        }
    }
}

/* s += products of the steps k0 to k1 that fit 16 bits together. */
INLINED void panel_narrow(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                          const uint32_t k0, const uint32_t k1, const uint32_t R, const uint32_t T,
                          b64 s[PANELS][MOST_TOKENS], panel_get_fn get, const int flags)
{
    b64 p[PANELS][MOST_TOKENS];
    UNROLL
    for (uint32_t k = k0; k < k1; k++) {
        b64 wk[PANELS];
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            wk[r] = panel_q(&w[r], k, get, flags);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            const b64 xk = panel_act(x[t], b, k);
            UNROLL
            for (uint32_t r = 0; r < R; r++) {
                const b64 m = b64_maddubs(wk[r], xk);
                p[r][t] = k == k0 ? m : b64_now(b64_add16(p[r][t], m));
            }
        }
    }
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            s[r][t] = b64_add32(s[r][t], b64_madd16(p[r][t], panel_widener(&w[r], k0 / 4, flags)));
    }
}

/* Where the sums of a block begin: OFFSET per weight taken back, if it has no scales of its own. */
INLINED b64 panel_begin(const int32_t *off, const int flags)
{
    if (!OFFSET(flags) || flags & W_HALF)
        return b64_zero();
    return b64_sra32(b64_set32(get32(off)), 7 - __builtin_ctz(OFFSET(flags)));
}

/* Of each panel and token: sum_h sc[h] (q . x)_h of a block, exact. */
INLINED void panel_sums(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t R, const uint32_t T, v16 f[PANELS][MOST_TOKENS],
                        panel_get_fn get, const int flags)
{
    b64 s[PANELS][MOST_TOKENS];
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            s[r][t] = panel_begin(&x[t]->off[b], flags);
    }
    const uint32_t step = panel_steps(flags);
    UNROLL
    for (uint32_t k = 0; k < 8; k += step)
        if (step <= 2)
            panel_wide(w, x, b, k, R, T, s, get, flags);
        else
            panel_narrow(w, x, b, k, k + step, R, T, s, get, flags);
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            if (OFFSET(flags) && flags & W_HALF)
                s[r][t] = b64_sub32(
                    s[r][t], b64_madd16(b64_load(w[r].w->mn), b64_set32(get32(&x[t]->sum[2 * b]))));
            f[r][t] = b64_float(s[r][t]);
        }
    }
}
