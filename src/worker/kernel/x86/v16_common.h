/* SPDX-License-Identifier: Apache-2.0 */
/* What all forms of v16 share: exp and tanh, and on x86 the fold of lanes.  Included by
 * v16_avx2.h, v16_avx512.h and arm/v16_neon.h alone. */
#ifndef WORKER_KERNEL_X86_V16_COMMON_H
#define WORKER_KERNEL_X86_V16_COMMON_H

#if defined(__x86_64__)

/* By one number for all lanes. */
static inline v16 v16_mul1(v16 x, float y)
{
    return v16_mul(x, v16_set1(y));
}

static inline v16 v16_fma1(v16 x, float y, v16 z)
{
    return v16_fma(x, v16_set1(y), z);
}

/* Lane l takes in lane l + half, halving until one is left: ref's order. */
static inline float v8_fold(__m256 v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline float v16_fold(v16 v)
{
    return v8_fold(v16_halves_add(v));
}

static inline __m128 v16_halve_twice(v16 v)
{
    __m256 h = v16_halves_add(v);
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

/* v16_fold of four at x, to dst. */
static inline void v16_fold4(const float (*x)[16], float *dst)
{
    __m128 a = v16_halve_twice(v16_load(x[0])), b = v16_halve_twice(v16_load(x[1])),
           c = v16_halve_twice(v16_load(x[2])), d = v16_halve_twice(v16_load(x[3]));
    __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a)),
           cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    _mm_storeu_ps(dst, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd)));
}

static inline float v16_fold_max(v16 v)
{
    __m256 h = v16_halves_max(v);
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline uint32_t v16i_fold_max(v16i v)
{
    __m256i h = v8i_max(v);
    __m128i x = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(x);
}

#endif

/* exp x = 2^n exp r, n = round(x / ln 2), |r| <= ln 2 / 2, exp r = 1 + r + r^2 P(r): P of degree 4
 * fitted by us for the least relative error (3e-9).  Returns exp r; n to *ret_n. */
static inline v16 v16_exp_parts(v16 x, v16 *ret_n)
{
    v16 n = v16_round(v16_mul(x, v16_set1(0x1.715476p+0f)));
    v16 r = v16_fnma(n, v16_set1(0x1.62e4p-1f), x);
    r = v16_fnma(n, v16_set1(0x1.7f7d1cp-20f), r);
    v16 p = v16_set1(0x1.6a2430p-10f);
    p = v16_fma(p, r, v16_set1(0x1.1239e4p-7f));
    p = v16_fma(p, r, v16_set1(0x1.5558f2p-5f));
    p = v16_fma(p, r, v16_set1(0x1.555492p-3f));
    p = v16_fma(p, r, v16_set1(0x1.fffffcp-2f));
    p = v16_fma(v16_mul(r, r), p, r);
    *ret_n = n;
    return v16_add(p, v16_set1(1.0f));
}

/* Within 1 ulp of libm; subnormal results rounded twice; NaN stays NaN. */
static inline v16 v16_exp(v16 x)
{
    x = v16_max(v16_set1(-104.0f),
                v16_min(v16_set1(89.0f), x)); /* outside it is 0 and infinity anyway */
    v16 n, y = v16_exp_parts(x, &n);
    return v16_scale2(y, n);
}

/* The same for x <= 0, and exactly 0 below -87: never a subnormal number, which costs some
 * processors more than a hundred cycles.  NaN stays NaN. */
static inline v16 v16_exp_weight(v16 x)
{
    const v16 least = v16_set1(-87.0f);
    v16 n, y = v16_exp_parts(v16_max(least, x), &n);
    return v16_if_less(x, least, v16_zero(), v16_mul(y, v16_pow2(v16_to_int(n))));
}

/* 1 + exp x, as if v16_exp had been asked: what is left out is lost in the sum.  NaN stays NaN. */
static inline v16 v16_exp_plus1(v16 x)
{
    v16 n, y = v16_exp_parts(v16_max(v16_set1(-87.0f), v16_min(v16_set1(89.0f), x)), &n);
    return v16_add(v16_scale_normal(y, n), v16_set1(1.0f));
}

/* Below 0.625 x + x^3 P(x^2), fitted likewise (4e-9); above, 1 - 2 / (exp 2x + 1). */
static inline v16 v16_tanh(v16 x)
{
    v16 a = v16_abs(x), one = v16_set1(1.0f), u = v16_mul(x, x);
    v16 p = v16_set1(-0x1.76abf6p-8f);
    p = v16_fma(p, u, v16_set1(0x1.5256cep-6f));
    p = v16_fma(p, u, v16_set1(-0x1.b84448p-5f));
    p = v16_fma(p, u, v16_set1(0x1.110768p-3f));
    p = v16_fma(p, u, v16_set1(-0x1.555534p-2f));
    v16 small = v16_fma(v16_mul(u, a), p, a);
    v16 e = v16_exp(v16_add(a, a));
    v16 large = v16_sub(one, v16_div(v16_set1(2.0f), v16_add(e, one)));
    return v16_copysign(v16_if_less(a, v16_set1(0.625f), small, large), x);
}

#endif
