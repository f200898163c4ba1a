/* SPDX-License-Identifier: Apache-2.0 */
/* 64 bytes of weights as one ZMM register, and their products with activation bytes, by VNNI where
 * the file's flags have it.  See b64_avx2.h.  Only for *_avx512.c and *_avx512vnni.c files. */
#ifndef WORKER_KERNEL_X86_B64_AVX512_H
#define WORKER_KERNEL_X86_B64_AVX512_H

#include <immintrin.h>

#include "worker/kernel/x86/x86.h"

typedef __m512i b64;

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
B64_OP2(b64_sub, _mm512_sub_epi8)
B64_OP2(b64_lut, _mm512_shuffle_epi8)
B64_OP2(b64_unpacklo32, _mm512_unpacklo_epi32)
B64_OP2(b64_unpackhi32, _mm512_unpackhi_epi32)
B64_OP2(b64_unpacklo64, _mm512_unpacklo_epi64)
B64_OP2(b64_unpackhi64, _mm512_unpackhi_epi64)
B64_OP2(b64_mul32, _mm512_mullo_epi32)
#undef B64_OP2

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

#ifdef __AVX512VNNI__

/* Signed weights gain 128, which the caller takes back by the sums of x. */
enum { SIGNED_OFFSET = 128, TILE_TOKENS = 8 };

struct dotw {
    b64 q[4];
};

INLINED void dotw_set(struct dotw *w, const b64 q[4], bool is_signed)
{
    UNROLL
    for (int j = 0; j < 4; j++)
        w->q[j] = is_signed ? _mm512_xor_si512(q[j], _mm512_set1_epi8(-128)) : q[j];
}

INLINED b64 dot_halves(const struct dotw *w, const int8_t *x, const int q_bits UNUSED)
{
    __m512i s = _mm512_setzero_si512();
    UNROLL
    for (int j = 0; j < 4; j++)
        s = _mm512_dpbusd_epi32(s, w->q[j], _mm512_load_si512(x + 64 * j));
    return s;
}

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

#endif

INLINED __m256i b64_fold(b64 h)
{
    return _mm256_add_epi32(_mm512_castsi512_si256(h), _mm512_extracti64x4_epi64(h, 1));
}

INLINED __m256i dot_blocks(const struct dotw *w, const int8_t *x, const int q_bits)
{
    return b64_fold(dot_halves(w, x, q_bits));
}

#endif
