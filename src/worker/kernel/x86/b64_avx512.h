/* SPDX-License-Identifier: Apache-2.0 */
/* 64 bytes of weights as one ZMM register, and their products with activation bytes, by VNNI where
 * the file's flags have it.  See b64_avx2.h.  Only for *_avx512.c and *_avx512vnni.c files. */
#ifndef WORKER_KERNEL_X86_B64_AVX512_H
#define WORKER_KERNEL_X86_B64_AVX512_H

#include <immintrin.h>

#include "worker/kernel/x86/v16_avx512.h"
#include "worker/kernel/x86/x86.h"

typedef __m512i b64;

/* Panels that tokens pass over together, and the most tokens that one pass takes, where sums have
 * registers: of panels in a scratch half of them, since there are two. */
enum { PANELS = 2 };
#define MOST_TOKENS 8

INLINED __m128i xmm_load(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

INLINED b64 b64_load4(const void *p0, const void *p1, const void *p2, const void *p3)
{
    __m512i v = _mm512_castsi128_si512(xmm_load(p0));
    v = _mm512_inserti32x4(v, xmm_load(p1), 1);
    v = _mm512_inserti32x4(v, xmm_load(p2), 2);
    return _mm512_inserti32x4(v, xmm_load(p3), 3);
}

INLINED b64 b64_set1(int x)
{
    return _mm512_set1_epi8((char)x);
}

#define B64_OP2(name, op)                                                                          \
    INLINED b64 name(b64 x, b64 y)                                                                 \
    {                                                                                              \
        return op(x, y);                                                                           \
    }
B64_OP2(b64_and, _mm512_and_si512)
B64_OP2(b64_or, _mm512_or_si512)
B64_OP2(b64_xor, _mm512_xor_si512)
B64_OP2(b64_add, _mm512_add_epi8)
B64_OP2(b64_sub, _mm512_sub_epi8)
B64_OP2(b64_lut, _mm512_shuffle_epi8)
B64_OP2(b64_unpacklo32, _mm512_unpacklo_epi32)
B64_OP2(b64_unpackhi32, _mm512_unpackhi_epi32)
B64_OP2(b64_unpacklo64, _mm512_unpacklo_epi64)
B64_OP2(b64_unpackhi64, _mm512_unpackhi_epi64)
B64_OP2(b64_mul32, _mm512_mullo_epi32)
B64_OP2(b64_add32, _mm512_add_epi32)
B64_OP2(b64_sub32, _mm512_sub_epi32)
B64_OP2(b64_max32, _mm512_max_epi32)
B64_OP2(b64_add16, _mm512_add_epi16)
B64_OP2(b64_madd16, _mm512_madd_epi16)
B64_OP2(b64_maddubs, _mm512_maddubs_epi16)
#undef B64_OP2

INLINED b64 b64_negate_by(b64 x, b64 y)
{
    return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(y), _mm512_setzero_si512(), x);
}

INLINED b64 b64_equal(b64 x, b64 y)
{
    return _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(x, y));
}

INLINED b64 b64_now(b64 x)
{
    __asm__("" : "+v"(x));
    return x;
}

INLINED b64 b64_abs(b64 x)
{
    return _mm512_abs_epi8(x);
}

INLINED b64 b64_zero(void)
{
    return _mm512_setzero_si512();
}

INLINED b64 b64_load(const void *p)
{
    return _mm512_load_si512(p);
}

INLINED void b64_store(void *p, b64 x)
{
    _mm512_store_si512(p, x);
}

INLINED b64 b64_set32(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

INLINED b64 b64_from_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(xmm_load(p));
}

INLINED b64 b64_from_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

INLINED b64 b64_sll32(b64 x, int n)
{
    return _mm512_slli_epi32(x, (unsigned)n);
}

INLINED b64 b64_srl32(b64 x, int n)
{
    return _mm512_srli_epi32(x, (unsigned)n);
}

INLINED b64 b64_sra32(b64 x, int n)
{
    return _mm512_srai_epi32(x, (unsigned)n);
}

INLINED b64 b64_sra16(b64 x, int n)
{
    return _mm512_srai_epi16(x, (unsigned)n);
}

INLINED v16 b64_float(b64 x)
{
    return _mm512_cvtepi32_ps(x);
}

INLINED v16 b64_f16_low(b64 x)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
}

/* t[4 L + j] = dword j of 128-bit lane L of each of v[0..16). */
INLINED void transpose16(const __m512i v[16], __m512i t[16])
{
    __m512i a[4][4]; /* [four rows][j], each 128-bit lane by itself */
    UNROLL
    for (int s = 0; s < 4; s++) {
        const __m512i *r = v + 4 * s;
        __m512i lo0 = _mm512_unpacklo_epi32(r[0], r[1]), hi0 = _mm512_unpackhi_epi32(r[0], r[1]);
        __m512i lo1 = _mm512_unpacklo_epi32(r[2], r[3]), hi1 = _mm512_unpackhi_epi32(r[2], r[3]);
        a[s][0] = _mm512_unpacklo_epi64(lo0, lo1);
        a[s][1] = _mm512_unpackhi_epi64(lo0, lo1);
        a[s][2] = _mm512_unpacklo_epi64(hi0, hi1);
        a[s][3] = _mm512_unpackhi_epi64(hi0, hi1);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i p = _mm512_shuffle_i32x4(a[0][j], a[1][j], 0x88);
        __m512i q = _mm512_shuffle_i32x4(a[2][j], a[3][j], 0x88);
        __m512i r = _mm512_shuffle_i32x4(a[0][j], a[1][j], 0xdd);
        __m512i s = _mm512_shuffle_i32x4(a[2][j], a[3][j], 0xdd);
        t[0 + j] = _mm512_shuffle_i32x4(p, q, 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(r, s, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(p, q, 0xdd);
        t[12 + j] = _mm512_shuffle_i32x4(r, s, 0xdd);
    }
}

typedef __mmask16 row_mask;

INLINED row_mask row_mask_of(uint32_t n)
{
    return (__mmask16)(0xffffu >> (16 - n));
}

INLINED v16 rows_load(const float *y, row_mask m)
{
    return _mm512_maskz_loadu_ps(m, y);
}

INLINED void rows_store(float *y, row_mask m, v16 v)
{
    _mm512_mask_storeu_ps(y, m, v);
}

INLINED b64 b64_srl(b64 x, int n)
{
    return _mm512_srli_epi16(x, (unsigned)n);
}

INLINED b64 b64_sll(b64 x, int n)
{
    return _mm512_slli_epi16(x, (unsigned)n);
}

INLINED b64 b64_srl4_odd(b64 x)
{
    return _mm512_srlv_epi64(x, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
}

#include "worker/kernel/x86/b64_common.h"

INLINED b64 b64_nibbles(const void *p0, const void *p1)
{
    __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(xmm_load(p0)), xmm_load(p1), 1);
    __m512i n = _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4);
    return _mm512_and_si512(_mm512_srlv_epi64(_mm512_broadcast_i64x4(v), n), _mm512_set1_epi8(15));
}

INLINED b64 b64_fifth_bits(uint32_t h0, uint32_t h1)
{
    uint64_t lo = (h0 & 0xffffu) | h1 << 16, hi = h0 >> 16 | (h1 & 0xffff0000u);
    return _mm512_maskz_set1_epi8(lo | hi << 32, 16);
}

INLINED b64 b64_table(const int8_t t[16])
{
    return _mm512_broadcast_i32x4(xmm_load(t));
}

INLINED b64 b64_scales(__m128i s)
{
    s = _mm_shuffle_epi8(s, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return _mm512_cvtepi8_epi32(s);
}

INLINED __m256i b64_fold(b64 h)
{
    return _mm256_add_epi32(_mm512_castsi512_si256(h), _mm512_extracti64x4_epi64(h, 1));
}

#ifdef __AVX512VNNI__

INLINED b64 b64_dot(b64 acc, b64 w, b64 x)
{
    return _mm512_dpbusd_epi32(acc, w, x);
}

enum { TILE_TOKENS = 8 };

#include "worker/kernel/x86/b64_vnni_impl.h"

#else

enum { SIGNED_OFFSET = 0, TILE_TOKENS = 8 };

struct dotw {
    b64 q[4];              /* unsigned: themselves; signed: absolute values */
    __mmask64 negative[4]; /* signed only */
};

INLINED void dotw_set(struct dotw *w, const b64 q[4], bool is_signed)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        w->q[j] = is_signed ? _mm512_abs_epi8(q[j]) : q[j];
        w->negative[j] = is_signed ? _mm512_movepi8_mask(q[j]) : 0;
    }
}

INLINED __m512i widen(__m512i x)
{
    return _mm512_madd_epi16(x, _mm512_set1_epi16(1));
}

/* As in b64_avx2.h: how many 16-bit sums fit depends on the largest q. */
INLINED b64 dot_halves(const struct dotw *w, const int8_t *x, const int q_bits)
{
    __m512i p[4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i xj = _mm512_load_si512(x + 64 * j);
        if (q_bits == 8)
            xj = _mm512_mask_sub_epi8(xj, w->negative[j], _mm512_setzero_si512(), xj);
        p[j] = _mm512_maddubs_epi16(w->q[j], xj);
    }
    if (q_bits == 8)
        return _mm512_add_epi32(_mm512_add_epi32(widen(p[0]), widen(p[1])),
                                _mm512_add_epi32(widen(p[2]), widen(p[3])));
    __m512i s01 = _mm512_add_epi16(p[0], p[1]), s23 = _mm512_add_epi16(p[2], p[3]);
    if (q_bits == 6)
        return _mm512_add_epi32(widen(s01), widen(s23));
    return widen(_mm512_add_epi16(s01, s23));
}

INLINED __m256i dot_blocks(const struct dotw *w, const int8_t *x, const int q_bits)
{
    return b64_fold(dot_halves(w, x, q_bits));
}

#endif

#endif
