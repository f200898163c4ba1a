/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 32 columns of panels times tokens by dot products: a token's four columns against all
 * rows (dot4_by, which the includer has).  Included by sums_impl.h alone. */

/* Where sums begin: OFFSET per weight taken back. */
INLINED int32x4_t dots_begin(const int32_t *off, const int flags)
{
    const int32x4_t zero = vdupq_n_s32(SUM_BITS);
    if (!OFFSET(flags))
        return zero;
    return vaddq_s32(zero, vdupq_n_s32(*off) >> vdupq_n_s32(7 - __builtin_ctz(OFFSET(flags))));
}

/* s += products of a panel's rows 4 i0 .. 4 (i0 + n) - 1 with T tokens' block b of 8, steps k0 to
 * k1. */
INLINED void dots_steps(const struct panel_src *w, const struct act_q8 *const x[], uint32_t b,
                        const uint32_t k0, const uint32_t k1, const uint32_t i0, const uint32_t n,
                        const uint32_t T, int32x4_t s[MOST_TOKENS][4], panel_get_fn get,
                        const int flags)
{
    UNROLL
    for (uint32_t k = k0; k < k1; k++) {
        const b64 wk = panel_q(w, k, get, flags);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            const act4 xk = act4_load(x[t]->q + 64 * (k % 4) + 32 * (k / 4) + 4 * b);
            UNROLL
            for (uint32_t i = i0; i < i0 + n; i++)
                s[t][i] = dot4_by(s[t][i], S8(wk.r[i]), xk);
        }
    }
}

/* Of those rows and each token: sum_h sc[h] (q . x)_h of a block, exact. */
INLINED void dots_rows(const struct panel_src *w, const struct act_q8 *const x[], uint32_t b,
                       const uint32_t i0, const uint32_t n, const uint32_t T, v16 f[MOST_TOKENS],
                       panel_get_fn get, const int flags)
{
    const bool half = flags & W_HALF;
    int32x4_t s0[MOST_TOKENS][4], s1[MOST_TOKENS][4];
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t i = i0; i < i0 + n; i++) {
            s0[t][i] = dots_begin(half ? &x[t]->off_half[2 * b] : &x[t]->off[b], flags);
            s1[t][i] = dots_begin(&x[t]->off_half[2 * b + 1], flags);
        }
    }
    dots_steps(w, x, b, 0, half ? 4 : 8, i0, n, T, s0, get, flags);
    if (half)
        dots_steps(w, x, b, 4, 8, i0, n, T, s1, get, flags);
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t i = i0; i < i0 + n; i++) {
            f[t].r[i] = dots_float(s0[t][i]);
            if (half) {
                const float32x4_t lo = vmulq_f32(f[t].r[i], vld1q_f32(w->w->sc[0] + 4 * i));
                f[t].r[i] = vfmaq_f32(lo, dots_float(s1[t][i]), vld1q_f32(w->w->sc[1] + 4 * i));
            }
        }
    }
}

/* Of each panel and token: sum_h sc[h] (q . x)_h of a block.  Where halves have sums of their own
 * and tokens are many, 8 rows after 8. */
INLINED void panel_sums(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t R UNUSED, const uint32_t T, v16 f[PANELS][MOST_TOKENS],
                        panel_get_fn get, const int flags)
{
    const uint32_t n = flags & W_HALF && T > 2 ? 2 : 4;
    UNROLL
    for (uint32_t i = 0; i < 4; i += n)
        dots_rows(&w[0], x, b, i, n, T, f[0], get, flags);
}
