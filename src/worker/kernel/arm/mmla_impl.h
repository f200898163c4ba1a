/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 32 columns of panels times tokens by SMMLA: two rows and two tokens, eight columns.
 * Included by sums_impl.h in the place of dots_impl.h, where SUMS_BY_MMLA says so (panels_i8mm.c).
 *
 * Panels lie for it: 16 bytes are 8 columns of two rows, eight such for 16 rows, then the next 8
 * columns; weights are signed.  So do two tokens' activations, in two act_q8 whose q alone differ:
 * 16 bytes are 8 columns of either, those of columns 0 to 15 of a block in the first, of 16 to 31
 * in the second, block after block.  One token without another has its own columns in order. */

/* Lanes: row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1.  Asm as in
 * dot_lane_impl.h. */
INLINED int32x4_t mmla(int32x4_t acc, int8x16_t w, int8x16_t x)
{
    __asm__ volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
}

/* Columns 8 m .. 8 m + 7 of block b of tokens 2 i and 2 i + 1, or of the one that there is. */
INLINED int8x16_t pair_load(const struct act_q8 *const x[], uint32_t b, const uint32_t m,
                            const uint32_t i, const uint32_t T)
{
    if (T == 1)
        return vcombine_s8(vld1_s8(x[0]->q + 32 * b + 8 * m), vdup_n_s8(0));
    return vld1q_s8(x[2 * i + m / 2]->q + 32 * b + 16 * (m % 2));
}

/* s = sums over columns 8 m0 .. 8 m1 - 1 of the row pairs p0 to p0 + n, as dots_float takes them.
 */
INLINED void mmla_steps(const struct panel_block *w, const struct act_q8 *const x[], uint32_t b,
                        const uint32_t m0, const uint32_t m1, const uint32_t p0, const uint32_t n,
                        const uint32_t T, int32x4_t s[MOST_TOKENS / 2][8])
{
    UNROLL
    for (uint32_t i = 0; i < (T + 1) / 2; i++) {
        UNROLL
        for (uint32_t p = p0; p < p0 + n; p++)
            s[i][p] = vdupq_n_s32(SUM_BITS);
    }
    UNROLL
    for (uint32_t m = m0; m < m1; m++) {
        int8x16_t xm[MOST_TOKENS / 2];
        UNROLL
        for (uint32_t i = 0; i < (T + 1) / 2; i++)
            xm[i] = pair_load(x, b, m, i, T);
        UNROLL
        for (uint32_t p = p0; p < p0 + n; p++) {
            const int8x16_t wm = vld1q_s8((const int8_t *)w->q[2 * m] + 16 * p);
            UNROLL
            for (uint32_t i = 0; i < (T + 1) / 2; i++)
                s[i][p] = mmla(s[i][p], wm, xm[i]);
        }
    }
}

/* Of rows 4 i .. 4 i + 3 and token t, from the sums of two row pairs and two tokens each. */
INLINED float32x4_t mmla_float(const int32x4_t s[MOST_TOKENS / 2][8], const uint32_t i,
                               const uint32_t t)
{
    const int32x4_t a = s[t / 2][2 * i], b = s[t / 2][2 * i + 1];
    return dots_float(t % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b));
}

/* Of a panel and each token: sum_h sc[h] (q . x)_h of a block, exact; 8 rows after 8. */
INLINED void panel_sums(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t R UNUSED, const uint32_t T, v16 f[PANELS][MOST_TOKENS],
                        panel_get_fn get UNUSED, const int flags)
{
    const struct panel_block *const p = w[0].w;
    int32x4_t s[MOST_TOKENS / 2][8];
    UNROLL
    for (uint32_t i0 = 0; i0 < 4; i0 += 2) {
        mmla_steps(p, x, b, 0, flags & W_HALF ? 2 : 4, 2 * i0, 4, T, s);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            UNROLL
            for (uint32_t i = i0; i < i0 + 2; i++) {
                f[0][t].r[i] = mmla_float(s, i, t);
                if (flags & W_HALF)
                    f[0][t].r[i] = vmulq_f32(f[0][t].r[i], vld1q_f32(p->sc[0] + 4 * i));
            }
        }
        if (!(flags & W_HALF))
            continue;
        mmla_steps(p, x, b, 2, 4, 2 * i0, 4, T, s);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            UNROLL
            for (uint32_t i = i0; i < i0 + 2; i++)
                f[0][t].r[i] =
                    vfmaq_f32(f[0][t].r[i], mmla_float(s, i, t), vld1q_f32(p->sc[1] + 4 * i));
        }
    }
}
