/* SPDX-License-Identifier: Apache-2.0 */
/* 16 float lanes, and 64 bytes, as two YMM registers: what rows_impl.h, attn_impl.h, float_impl.h
 * and quant_impl.h are written in.  v16_avx512.h says the same in one ZMM; both give the same bits.
 * Only for *_avx2.c files. */
#ifndef WORKER_KERNEL_X86_V16_AVX2_H
#define WORKER_KERNEL_X86_V16_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "lib/base/compiler.h"

typedef struct {
    __m256 a, b; /* lanes 0..7 and 8..15 */
} v16;
typedef struct {
    __m256i a, b;
} v16i;
typedef __m256 v16_part; /* what one register holds of the lanes */
enum { PART_LANES = 8 };

static inline v16 v16_set1(float x)
{
    __m256 v = _mm256_set1_ps(x);
    return (v16){v, v};
}

static inline v16 v16_zero(void)
{
    return v16_set1(0);
}

static inline v16 v16_load(const void *p)
{
    return (v16){_mm256_loadu_ps((const float *)p), _mm256_loadu_ps((const float *)p + 8)};
}

/* The first n < 16 lanes; the others are zero and their memory is not touched. */
static inline v16 v16_load_n(const void *p, uint32_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof(float));
    return v16_load(t);
}

static inline void v16_store(void *p, v16 v)
{
    _mm256_storeu_ps((float *)p, v.a);
    _mm256_storeu_ps((float *)p + 8, v.b);
}

static inline void v16_store_n(void *p, uint32_t n, v16 v)
{
    float t[16];
    v16_store(t, v);
    memcpy(p, t, n * sizeof(float));
}

static inline v16 v16_load_f16(const void *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))};
}

static inline v16 v16_load_f16_n(const void *p, uint32_t n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof(*t));
    return v16_load_f16(t);
}

static inline __m256 v8_load_bf16(const void *p)
{
    __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(h, 16));
}

static inline v16 v16_load_bf16(const void *p)
{
    return (v16){v8_load_bf16(p), v8_load_bf16((const char *)p + 16)};
}

static inline v16 v16_load_bf16_n(const void *p, uint32_t n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof(*t));
    return v16_load_bf16(t);
}

static inline float v1_from_f16(uint16_t h)
{
    return _cvtsh_ss(h);
}

static inline v16_part part_zero(void)
{
    return _mm256_setzero_ps();
}

static inline v16_part part_load(const void *p)
{
    return _mm256_loadu_ps(p);
}

static inline v16_part part_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline v16_part part_load_bf16(const void *p)
{
    return v8_load_bf16(p);
}

static inline void part_store(void *p, v16_part v)
{
    _mm256_storeu_ps(p, v);
}

/* The same, and in a register from here on: not read from memory anew wherever it is used. */
static inline v16_part part_now(v16_part v)
{
    __asm__ volatile("" : "+x"(v));
    return v;
}

/* x * y + z, rounded once, in z's register: left to itself gcc 12 moves sums about and into memory.
 */
static inline v16_part part_fma(v16_part x, v16_part y, v16_part z)
{
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(z) : "x"(x), "x"(y));
    return z;
}

/* 16 signed bytes, as floats. */
static inline v16 v16_load_i8(const void *p)
{
    return (v16){
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
        _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)((const char *)p + 8)))),
    };
}

/* To half precision, nearest even. */
static inline void v16_store_f16(void *p, v16 v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}

static inline void v16_store_f16_n(void *p, uint32_t n, v16 v)
{
    uint16_t t[16];
    v16_store_f16(t, v);
    memcpy(p, t, n * sizeof(*t));
}

#define V16_OP2(name, op)                                                                          \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (v16){op(x.a, y.a), op(x.b, y.b)};                                                  \
    }
V16_OP2(v16_add, _mm256_add_ps)
V16_OP2(v16_sub, _mm256_sub_ps)
V16_OP2(v16_mul, _mm256_mul_ps)
V16_OP2(v16_div, _mm256_div_ps)
V16_OP2(v16_min, _mm256_min_ps) /* of a NaN and y: y */
V16_OP2(v16_max, _mm256_max_ps)
#undef V16_OP2

/* x * y + z, rounded once. */
static inline v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

/* z - x * y, rounded once. */
static inline v16 v16_fnma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}

static inline v16 v16_round(v16 x)
{
    return (v16){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

static inline v16i v16_to_int(v16 x)
{
    return (v16i){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}

static inline v16 v16_from_int(v16i x)
{
    return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

static inline __m256 v8_pow2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* 2^n for n in -126 .. 127. */
static inline v16 v16_pow2(v16i n)
{
    return (v16){v8_pow2(n.a), v8_pow2(n.b)};
}

/* y * 2^n for integral n in -252 .. 254, in two steps so that neither power leaves the range. */
static inline v16 v16_scale2(v16 y, v16 n)
{
    v16i i = v16_to_int(n);
    __m256i a1 = _mm256_srai_epi32(i.a, 1), b1 = _mm256_srai_epi32(i.b, 1);
    y.a = _mm256_mul_ps(_mm256_mul_ps(y.a, v8_pow2(a1)), v8_pow2(_mm256_sub_epi32(i.a, a1)));
    y.b = _mm256_mul_ps(_mm256_mul_ps(y.b, v8_pow2(b1)), v8_pow2(_mm256_sub_epi32(i.b, b1)));
    return y;
}

/* The same for n >= -126 and y >= 0.5, where nothing is rounded. */
static inline v16 v16_scale_normal(v16 y, v16 n)
{
    return v16_scale2(y, n);
}

static inline v16 v16_abs(v16 x)
{
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return (v16){_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}

/* |mag| with the sign of s. */
static inline v16 v16_copysign(v16 mag, v16 s)
{
    __m256 m = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_or_ps(_mm256_andnot_ps(m, mag.a), _mm256_and_ps(m, s.a)),
                 _mm256_or_ps(_mm256_andnot_ps(m, mag.b), _mm256_and_ps(m, s.b))};
}

/* Per lane: x < y ? yes : no */
static inline v16 v16_if_less(v16 x, v16 y, v16 yes, v16 no)
{
    return (v16){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}

/* Lanes from n on become zero. */
static inline v16 v16_keep(v16 x, uint32_t n)
{
    float t[16], z[16] = {0};
    v16_store(t, x);
    memcpy(z, t, n * sizeof(float));
    return v16_load(z);
}

/* Bit i: lane i equals. */
static inline uint32_t v16_equal_mask(v16 x, v16 y)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ)) |
           (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)) << 8;
}

/* Bits of |x| as integers; the largest of them, of NaN too. */
static inline v16i v16_abs_bits(v16 x)
{
    __m256i m = _mm256_set1_epi32(0x7fffffff);
    return (v16i){_mm256_and_si256(_mm256_castps_si256(x.a), m),
                  _mm256_and_si256(_mm256_castps_si256(x.b), m)};
}

static inline v16i v16i_max(v16i x, v16i y)
{
    return (v16i){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}

static inline __m256i v8i_max(v16i x)
{
    return _mm256_max_epi32(x.a, x.b);
}

/* Integers in -128 .. 127 as 16 bytes in order. */
static inline __m128i v16i_to_bytes(v16i x)
{
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

static inline __m256 v16_halves_add(v16 x)
{
    return _mm256_add_ps(x.a, x.b);
}

static inline __m256 v16_halves_max(v16 x)
{
    return _mm256_max_ps(x.a, x.b);
}

static inline v16 v16_swap_pairs(v16 x)
{
    return (v16){_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)};
}

static inline v16 v16_dup_even(v16 x)
{
    return (v16){_mm256_moveldup_ps(x.a), _mm256_moveldup_ps(x.b)};
}

static inline v16 v16_dup_odd(v16 x)
{
    return (v16){_mm256_movehdup_ps(x.a), _mm256_movehdup_ps(x.b)};
}

/* x - y in even lanes, x + y in odd ones. */
static inline v16 v16_subadd(v16 x, v16 y)
{
    return (v16){_mm256_addsub_ps(x.a, y.a), _mm256_addsub_ps(x.b, y.b)};
}

static inline __m256 v8_evens(v16 x)
{
    __m256 t = _mm256_shuffle_ps(x.a, x.b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(t), 0xd8));
}

static inline __m256 v8_odds(v16 x)
{
    __m256 t = _mm256_shuffle_ps(x.a, x.b, 0xdd);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(t), 0xd8));
}

/* The even and the odd elements of 32 in a row. */
static inline v16 v16_evens(v16 x, v16 y)
{
    return (v16){v8_evens(x), v8_evens(y)};
}

static inline v16 v16_odds(v16 x, v16 y)
{
    return (v16){v8_odds(x), v8_odds(y)};
}

#include "worker/kernel/x86/v16_common.h"

#endif
