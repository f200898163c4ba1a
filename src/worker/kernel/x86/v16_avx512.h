/* SPDX-License-Identifier: Apache-2.0 */
/* 16 float lanes as one ZMM register; see v16_avx2.h, which says the same in two YMM.  Only for
 * *_avx512.c files. */
#ifndef WORKER_KERNEL_X86_V16_AVX512_H
#define WORKER_KERNEL_X86_V16_AVX512_H

#include <immintrin.h>

#include "lib/base/compiler.h"

typedef __m512 v16;
typedef __m512i v16i;
typedef v16 v16_part; /* what one register holds of the lanes: all */
enum { PART_LANES = 16 };

static inline __mmask16 v16_first(uint32_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}

static inline v16 v16_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

/* The first n < 16 lanes; the others are zero and their memory is not touched. */
static inline v16 v16_load_n(const void *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}

static inline void v16_store(void *p, v16 v)
{
    _mm512_storeu_ps(p, v);
}

static inline void v16_store_n(void *p, uint32_t n, v16 v)
{
    _mm512_mask_storeu_ps(p, v16_first(n), v);
}

static inline v16 v16_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline v16 v16_load_f16_n(const void *p, uint32_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v16_first(n), p));
}

static inline v16 v16_widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline v16 v16_load_bf16(const void *p)
{
    return v16_widen_bf16(_mm256_loadu_si256((const __m256i *)p));
}

static inline v16 v16_load_bf16_n(const void *p, uint32_t n)
{
    return v16_widen_bf16(_mm256_maskz_loadu_epi16(v16_first(n), p));
}

static inline float v1_from_f16(uint16_t h)
{
    return _cvtsh_ss(h);
}

#define part_zero      v16_zero
#define part_load      v16_load
#define part_load_f16  v16_load_f16
#define part_load_bf16 v16_load_bf16
#define part_store     v16_store

/* The same, and in a register from here on: not read from memory anew wherever it is used. */
static inline v16_part part_now(v16_part v)
{
    __asm__ volatile("" : "+v"(v));
    return v;
}

/* x * y + z, rounded once, in z's register; see v16_avx2.h. */
static inline v16_part part_fma(v16_part x, v16_part y, v16_part z)
{
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(z) : "v"(x), "v"(y));
    return z;
}

/* 16 signed bytes, as floats. */
static inline v16 v16_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

static inline void v16_store_f16(void *p, v16 v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

static inline void v16_store_f16_n(void *p, uint32_t n, v16 v)
{
    _mm256_mask_storeu_epi16(p, v16_first(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#define V16_OP2(name, op)                                                                          \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return op(x, y);                                                                           \
    }
V16_OP2(v16_add, _mm512_add_ps)
V16_OP2(v16_sub, _mm512_sub_ps)
V16_OP2(v16_mul, _mm512_mul_ps)
V16_OP2(v16_div, _mm512_div_ps)
V16_OP2(v16_min, _mm512_min_ps) /* of a NaN and y: y */
V16_OP2(v16_max, _mm512_max_ps)
#undef V16_OP2

static inline v16 v16_fma(v16 x, v16 y, v16 z)
{
    return _mm512_fmadd_ps(x, y, z);
}

static inline v16 v16_fnma(v16 x, v16 y, v16 z)
{
    return _mm512_fnmadd_ps(x, y, z);
}

static inline v16 v16_round(v16 x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline v16i v16_to_int(v16 x)
{
    return _mm512_cvtps_epi32(x);
}

static inline v16 v16_from_int(v16i x)
{
    return _mm512_cvtepi32_ps(x);
}

static inline v16 v16_pow2(v16i n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

/* Not scalef, which rounds a subnormal once: AVX2 has to give the same bits. */
static inline v16 v16_scale2(v16 y, v16 n)
{
    v16i i = v16_to_int(n), half = _mm512_srai_epi32(i, 1);
    return v16_mul(v16_mul(y, v16_pow2(half)), v16_pow2(_mm512_sub_epi32(i, half)));
}

/* The same for n >= -126 and y >= 0.5, where nothing is rounded. */
static inline v16 v16_scale_normal(v16 y, v16 n)
{
    return _mm512_scalef_ps(y, n);
}

static inline v16 v16_abs(v16 x)
{
    return _mm512_abs_ps(x);
}

static inline v16 v16_copysign(v16 mag, v16 s)
{
    __m512 m = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(m, mag), _mm512_and_ps(m, s));
}

static inline v16 v16_if_less(v16 x, v16 y, v16 yes, v16 no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), no, yes);
}

static inline v16 v16_keep(v16 x, uint32_t n)
{
    return _mm512_maskz_mov_ps(v16_first(n), x);
}

static inline uint32_t v16_equal_mask(v16 x, v16 y)
{
    return _mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ);
}

static inline v16i v16_abs_bits(v16 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

static inline v16i v16i_max(v16i x, v16i y)
{
    return _mm512_max_epi32(x, y);
}

static inline __m256i v8i_max(v16i x)
{
    return _mm256_max_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
}

static inline __m128i v16i_to_bytes(v16i x)
{
    return _mm512_cvtepi32_epi8(x);
}

static inline __m256 v16_halves_add(v16 x)
{
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

static inline __m256 v16_halves_max(v16 x)
{
    return _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

static inline v16 v16_swap_pairs(v16 x)
{
    return _mm512_permute_ps(x, 0xb1);
}

static inline v16 v16_dup_even(v16 x)
{
    return _mm512_moveldup_ps(x);
}

static inline v16 v16_dup_odd(v16 x)
{
    return _mm512_movehdup_ps(x);
}

static inline v16 v16_subadd(v16 x, v16 y)
{
    return _mm512_mask_sub_ps(_mm512_add_ps(x, y), 0x5555, x, y);
}

static inline v16 v16_evens(v16 x, v16 y)
{
    __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(x, at, y);
}

static inline v16 v16_odds(v16 x, v16 y)
{
    __m512i at = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(x, at, y);
}

#include "worker/kernel/x86/v16_common.h"

#endif
