/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 32 columns of panels times tokens by vpdpbusd: weights + 128 as unsigned bytes, scales
 * of half blocks as floats.  Included by panel_impl.h; panel/madd_impl.h does the same without
 * VNNI. */

/* Signed byte n of each 32-bit item. */
INLINED b64 byte_of(b64 v, int n)
{
    return b64_sra32(b64_sll32(v, 24 - 8 * n), 24);
}

/* w + 128 as unsigned bytes; where there are mins, w as it is. */
INLINED b64 panel_bytes(b64 q, const int flags)
{
    if (flags & W_MIN)
        return q;
    if (flags & IS_SIGNED)
        return b64_xor(q, b64_set1(-128));
    return b64_add(q, b64_set1(128 - OFFSET(flags)));
}

/* The scales of the two halves of a block, bytes n and n + 1 of 16 items. */
INLINED void panel_scales_store(struct panel_block *to, b64 v, const int n, const int flags UNUSED)
{
    v16_store(to->sc[0], b64_float(byte_of(v, n)));
    v16_store(to->sc[1], b64_float(byte_of(v, n + 1)));
}

/* Sums of products of R panels' block with T tokens' block b of 8, steps k0 to k1. */
INLINED void panel_dots(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t k0, const uint32_t k1, const uint32_t R, const uint32_t T,
                        b64 s[PANELS][MOST_TOKENS], panel_get_fn get, const int flags)
{
    UNROLL
    for (uint32_t k = k0; k < k1; k++) {
        b64 wk[PANELS];
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            wk[r] = panel_q(&w[r], k, get, flags);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            b64 xk = panel_act(x[t], b, k);
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                s[r][t] = b64_dot(s[r][t], wk[r], xk);
        }
    }
}

/* The integers of a block, its halves apart where they have scales, to one float. */
INLINED v16 panel_float(const struct panel_block *w, b64 s0, b64 s1, const int flags)
{
    if (!(flags & W_HALF))
        return b64_float(s0);
    v16 f = v16_mul(b64_float(s0), v16_load(w->sc[0]));
    return v16_fma(b64_float(s1), v16_load(w->sc[1]), f);
}

/* Where the sums of a block begin: its 128 per weight taken back. */
INLINED b64 panel_begin(const int32_t *off, const int flags)
{
    return flags & W_MIN ? b64_zero() : b64_set32(get32(off));
}

/* Of each panel and token: sum_h sc[h] (q . x)_h of a block, exact. */
INLINED void panel_sums(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t R, const uint32_t T, v16 f[PANELS][MOST_TOKENS],
                        panel_get_fn get, const int flags)
{
    b64 s0[PANELS][MOST_TOKENS], s1[PANELS][MOST_TOKENS];
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            s0[r][t] = panel_begin(flags & W_HALF ? &x[t]->off_half[2 * b] : &x[t]->off[b], flags);
            s1[r][t] = panel_begin(&x[t]->off_half[2 * b + 1], flags);
        }
    }
    panel_dots(w, x, b, 0, flags & W_HALF ? 4 : 8, R, T, s0, get, flags);
    if (flags & W_HALF)
        panel_dots(w, x, b, 4, 8, R, T, s1, get, flags);
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            f[r][t] = panel_float(w[r].w, s0[r][t], s1[r][t], flags);
    }
}
