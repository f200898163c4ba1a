/* SPDX-License-Identifier: Apache-2.0 */
/* 64 bytes of weights as two YMM registers (four lanes of 16 bytes: first halves of two blocks,
 * then their second halves), and their products with activation bytes.  b64_avx512.h says the same
 * in one ZMM. Only for *_avx2.c files. */
#ifndef WORKER_KERNEL_X86_B64_AVX2_H
#define WORKER_KERNEL_X86_B64_AVX2_H

#include <immintrin.h>

#include "worker/kernel/x86/v16_avx2.h"
#include "worker/kernel/x86/x86.h"

typedef struct {
    __m256i lo, hi;
} b64;

/* 16 vector registers hold one panel's 4 tokens, and a first-level cache of 32 KiB one panel. */
enum { PANELS = 1 };
#define MOST_TOKENS 4

INLINED __m256i ymm_load2(const void *p0, const void *p1)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p0)),
                                   _mm_loadu_si128((const __m128i *)p1), 1);
}

/* Lanes p0 p1 p2 p3. */
INLINED b64 b64_load4(const void *p0, const void *p1, const void *p2, const void *p3)
{
    return (b64){ymm_load2(p0, p1), ymm_load2(p2, p3)};
}

INLINED b64 b64_set1(int x)
{
    __m256i v = _mm256_set1_epi8((char)x);
    return (b64){v, v};
}

#define B64_OP2(name, op)                                                                          \
    INLINED b64 name(b64 x, b64 y)                                                                 \
    {                                                                                              \
        return (b64){op(x.lo, y.lo), op(x.hi, y.hi)};                                              \
    }
B64_OP2(b64_and, _mm256_and_si256)
B64_OP2(b64_or, _mm256_or_si256)
B64_OP2(b64_xor, _mm256_xor_si256)
B64_OP2(b64_add, _mm256_add_epi8)
B64_OP2(b64_sub, _mm256_sub_epi8)
B64_OP2(b64_lut, _mm256_shuffle_epi8) /* x: the table in every lane */
B64_OP2(b64_unpacklo32, _mm256_unpacklo_epi32)
B64_OP2(b64_unpackhi32, _mm256_unpackhi_epi32)
B64_OP2(b64_unpacklo64, _mm256_unpacklo_epi64)
B64_OP2(b64_unpackhi64, _mm256_unpackhi_epi64)
B64_OP2(b64_mul32, _mm256_mullo_epi32)
B64_OP2(b64_add32, _mm256_add_epi32)
B64_OP2(b64_sub32, _mm256_sub_epi32)
B64_OP2(b64_max32, _mm256_max_epi32)
B64_OP2(b64_equal, _mm256_cmpeq_epi8) /* bytes of ones where they are */
B64_OP2(b64_add16, _mm256_add_epi16)
B64_OP2(b64_madd16, _mm256_madd_epi16)
B64_OP2(b64_maddubs, _mm256_maddubs_epi16) /* x unsigned, y signed bytes */
B64_OP2(b64_negate_by, _mm256_sign_epi8)   /* x where y > 0, -x where y < 0, else anything */
#undef B64_OP2

/* Computed here, not later: a compiler that may add in any order would keep many terms, in memory,
 * to add them in a tree. */
INLINED b64 b64_now(b64 x)
{
    __asm__("" : "+x"(x.lo), "+x"(x.hi));
    return x;
}

INLINED b64 b64_abs(b64 x)
{
    return (b64){_mm256_abs_epi8(x.lo), _mm256_abs_epi8(x.hi)};
}

INLINED b64 b64_zero(void)
{
    return (b64){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

/* 64 bytes, aligned. */
INLINED b64 b64_load(const void *p)
{
    return (b64){_mm256_load_si256(p), _mm256_load_si256((const __m256i *)p + 1)};
}

INLINED void b64_store(void *p, b64 x)
{
    _mm256_store_si256(p, x.lo);
    _mm256_store_si256((__m256i *)p + 1, x.hi);
}

/* 32 bits to all 16 lanes. */
INLINED b64 b64_set32(uint32_t x)
{
    __m256i v = _mm256_set1_epi32((int)x);
    return (b64){v, v};
}

/* 16 unsigned bytes, or 16-bit items, as 32-bit ones. */
INLINED b64 b64_from_u8(const void *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)p);
    return (b64){_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}

INLINED b64 b64_from_u16(const void *p)
{
    return (b64){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1))};
}

/* Shifts of 32-bit items; _sra keeps the sign. */
INLINED b64 b64_sll32(b64 x, int n)
{
    return (b64){_mm256_slli_epi32(x.lo, n), _mm256_slli_epi32(x.hi, n)};
}

INLINED b64 b64_srl32(b64 x, int n)
{
    return (b64){_mm256_srli_epi32(x.lo, n), _mm256_srli_epi32(x.hi, n)};
}

INLINED b64 b64_sra32(b64 x, int n)
{
    return (b64){_mm256_srai_epi32(x.lo, n), _mm256_srai_epi32(x.hi, n)};
}

/* Of 16-bit items. */
INLINED b64 b64_sra16(b64 x, int n)
{
    return (b64){_mm256_srai_epi16(x.lo, n), _mm256_srai_epi16(x.hi, n)};
}

/* 16 integers as floats. */
INLINED v16 b64_float(b64 x)
{
    return (v16){_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}

/* The float16 in the lower half of each 32-bit item. */
INLINED v16 b64_f16_low(b64 x)
{
    const __m256i low = _mm256_set1_epi32(0xffff);
    __m256i h = _mm256_packus_epi32(_mm256_and_si256(x.lo, low), _mm256_and_si256(x.hi, low));
    h = _mm256_permute4x64_epi64(h, 0xd8);
    return (v16){_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}

#include "worker/kernel/x86/row_count_impl.h"

/* Shifts 16-bit items: mask what comes over from the neighbour byte. */
INLINED b64 b64_srl(b64 x, int n)
{
    return (b64){_mm256_srli_epi16(x.lo, n), _mm256_srli_epi16(x.hi, n)};
}

INLINED b64 b64_sll(b64 x, int n)
{
    return (b64){_mm256_slli_epi16(x.lo, n), _mm256_slli_epi16(x.hi, n)};
}

/* Odd lanes (the second block's) shifted right by 4. */
INLINED b64 b64_srl4_odd(b64 x)
{
    __m256i n = _mm256_setr_epi64x(0, 0, 4, 4);
    return (b64){_mm256_srlv_epi64(x.lo, n), _mm256_srlv_epi64(x.hi, n)};
}

#include "worker/kernel/x86/b64_common.h"

/* Lanes lo(p0) lo(p1) hi(p0) hi(p1): the low nibbles are the first half of a block, the high ones
 * the second. */
INLINED b64 b64_nibbles(const void *p0, const void *p1)
{
    __m256i v = ymm_load2(p0, p1), m = _mm256_set1_epi8(15);
    return (b64){_mm256_and_si256(v, m), _mm256_and_si256(_mm256_srli_epi16(v, 4), m)};
}

/* 16 where the bit of h0 (lanes 0 and 2) or h1 (lanes 1 and 3) is set, else 0. */
INLINED b64 b64_fifth_bits(uint32_t h0, uint32_t h1)
{
    __m256i v = _mm256_setr_m128i(_mm_set1_epi32((int)h0), _mm_set1_epi32((int)h1));
    __m256i lo_at = _mm256_setr_epi64x(0, 0x0101010101010101, 0, 0x0101010101010101);
    __m256i hi_at = _mm256_add_epi8(lo_at, _mm256_set1_epi8(2));
    __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull), m = _mm256_set1_epi8(16);
    __m256i lo = _mm256_and_si256(_mm256_shuffle_epi8(v, lo_at), bit);
    __m256i hi = _mm256_and_si256(_mm256_shuffle_epi8(v, hi_at), bit);
    return (b64){_mm256_and_si256(_mm256_cmpeq_epi8(lo, bit), m),
                 _mm256_and_si256(_mm256_cmpeq_epi8(hi, bit), m)};
}

/* 16 bytes in every lane. */
INLINED b64 b64_table(const int8_t t[16])
{
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t));
    return (b64){v, v};
}

/* Even bytes to the 8 lanes of the first halves, odd ones to those of the second, as 32-bit
 * integers. */
INLINED b64 b64_scales(__m128i s)
{
    s = _mm_shuffle_epi8(s, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return (b64){_mm256_cvtepi8_epi32(s), _mm256_cvtepi8_epi32(_mm_srli_si128(s, 8))};
}

/* Sums of the two halves of 8 blocks: of the blocks. */
INLINED __m256i b64_fold(b64 h)
{
    return _mm256_add_epi32(h.lo, h.hi);
}

#ifdef __AVXVNNI__

/* acc[i] += the four products of 32-bit item i: w unsigned, x signed bytes. */
INLINED b64 b64_dot(b64 acc, b64 w, b64 x)
{
    return (b64){_mm256_dpbusd_avx_epi32(acc.lo, w.lo, x.lo),
                 _mm256_dpbusd_avx_epi32(acc.hi, w.hi, x.hi)};
}

enum { TILE_TOKENS = 4 };

#include "worker/kernel/x86/b64_vnni_impl.h"

#else

/* Weights ready to be multiplied. */
struct dotw {
    b64 q[4];    /* unsigned: themselves; signed: absolute values */
    b64 sign[4]; /* signed only */
};

enum { SIGNED_OFFSET = 0, TILE_TOKENS = 4 };

INLINED void dotw_set(struct dotw *w, const b64 q[4], bool is_signed)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        w->q[j] = q[j];
        if (is_signed) {
            w->sign[j] = q[j];
            w->q[j] = (b64){_mm256_abs_epi8(q[j].lo), _mm256_abs_epi8(q[j].hi)};
        }
    }
}

INLINED __m256i widen(__m256i x)
{
    return _mm256_madd_epi16(x, _mm256_set1_epi16(1));
}

INLINED __m256i x_load(const int8_t *x, int j, int half)
{
    return _mm256_load_si256((const __m256i *)(x + 64 * j + 32 * half));
}

/* The four steps of one half of 8 blocks, in 16 bits: only while 4 * 2 * 127 * max(q) < 2^15. */
INLINED __m256i dot16(const struct dotw *w, const int8_t *x, int half)
{
    __m256i s = _mm256_maddubs_epi16(half ? w->q[0].hi : w->q[0].lo, x_load(x, 0, half));
    UNROLL
    for (int j = 1; j < 4; j++)
        s = _mm256_add_epi16(
            s, _mm256_maddubs_epi16(half ? w->q[j].hi : w->q[j].lo, x_load(x, j, half)));
    return s;
}

/* The same for q up to 63: two steps fit. */
INLINED __m256i dot_wide(const struct dotw *w, const int8_t *x, int half)
{
    __m256i p[4];
    UNROLL
    for (int j = 0; j < 4; j++)
        p[j] = _mm256_maddubs_epi16(half ? w->q[j].hi : w->q[j].lo, x_load(x, j, half));
    return _mm256_add_epi32(widen(_mm256_add_epi16(p[0], p[1])),
                            widen(_mm256_add_epi16(p[2], p[3])));
}

/* Signed q: |q| times x with q's sign; |-128 * 127 * 2| still fits 16 bits. */
INLINED __m256i dot_signed(const struct dotw *w, const int8_t *x, int half)
{
    __m256i s = _mm256_setzero_si256();
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m256i xs = _mm256_sign_epi8(x_load(x, j, half), half ? w->sign[j].hi : w->sign[j].lo);
        s = _mm256_add_epi32(s, widen(_mm256_maddubs_epi16(half ? w->q[j].hi : w->q[j].lo, xs)));
    }
    return s;
}

/* Sums of the 16 half blocks, for q of at most q_bits bits; 8: signed. */
INLINED b64 dot_halves(const struct dotw *w, const int8_t *x, const int q_bits)
{
    if (q_bits == 8)
        return (b64){dot_signed(w, x, 0), dot_signed(w, x, 1)};
    if (q_bits == 6)
        return (b64){dot_wide(w, x, 0), dot_wide(w, x, 1)};
    return (b64){widen(dot16(w, x, 0)), widen(dot16(w, x, 1))};
}

/* Sums of the 8 blocks. */
INLINED __m256i dot_blocks(const struct dotw *w, const int8_t *x, const int q_bits)
{
    if (q_bits <= 4) /* all eight steps fit 16 bits */
        return widen(_mm256_add_epi16(dot16(w, x, 0), dot16(w, x, 1)));
    return b64_fold(dot_halves(w, x, q_bits));
}

#endif

#endif
