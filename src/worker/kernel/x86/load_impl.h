/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of 256 quantised weights from the file into registers, in b64 (b64_avx2.h, b64_avx512.h):
 * what quant_impl.h and panel/ share.  Included once by each quant_*.c. */
#include "worker/kernel/unpack.h"
#include "worker/kernel/x86/quant_common.h"
#include "worker/kernel/x86/x86.h"

/* 256 weights in registers: w = d (q - offset) + m, where a scale or min per block is within d and
 * m; those per half block are apart. */
struct wregs {
    b64 q[4]; /* [i]: halves of blocks i and i + 4, a lane each: i h0, i + 4 h0, i h1, i + 4 h1 */
    __m256 d, m;    /* lane = block */
    __m128i sc, mn; /* 8-bit, lane = half block in order */
};

INLINED void set_q(struct wregs *w, const b64 q[4])
{
    UNROLL
    for (int i = 0; i < 4; i++)
        w->q[i] = q[i];
}

/* The halves at p, p + stride, ... of 8 blocks. */
INLINED __m256 halves8(const char *p, const size_t stride)
{
    __m128i v = _mm_cvtsi32_si128(get16(p));
    v = _mm_insert_epi16(v, get16(p + stride), 1);
    v = _mm_insert_epi16(v, get16(p + 2 * stride), 2);
    v = _mm_insert_epi16(v, get16(p + 3 * stride), 3);
    v = _mm_insert_epi16(v, get16(p + 4 * stride), 4);
    v = _mm_insert_epi16(v, get16(p + 5 * stride), 5);
    v = _mm_insert_epi16(v, get16(p + 6 * stride), 6);
    v = _mm_insert_epi16(v, get16(p + 7 * stride), 7);
    return _mm256_cvtph_ps(v);
}

INLINED __m256 half1(uint16_t h)
{
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}

INLINED __m256 minus(__m256 v)
{
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f));
}

/* Types of blocks of 32: nibbles, a fifth bit, a table, bytes. */

INLINED void load_nibbles(const char *p, struct wregs *w, const size_t block, const size_t qs_at,
                          const bool fifth, const size_t qh_at)
{
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const char *b0 = p + (size_t)i * block, *b1 = b0 + 4 * block;
        q[i] = b64_nibbles(b0 + qs_at, b1 + qs_at);
        if (fifth)
            q[i] = b64_or(q[i], b64_fifth_bits(get32(b0 + qh_at), get32(b1 + qh_at)));
    }
    set_q(w, q);
    w->d = halves8(p, block);
}

INLINED void load_q4_0(const char *p, struct wregs *w)
{
    load_nibbles(p, w, sizeof(struct block_q4_0), 2, false, 0);
}

INLINED void load_q4_1(const char *p, struct wregs *w)
{
    load_nibbles(p, w, sizeof(struct block_q4_1), 4, false, 0);
    w->m = halves8(p + 2, sizeof(struct block_q4_1));
}

INLINED void load_q5_0(const char *p, struct wregs *w)
{
    load_nibbles(p, w, sizeof(struct block_q5_0), 6, true, 2);
}

INLINED void load_q5_1(const char *p, struct wregs *w)
{
    load_nibbles(p, w, sizeof(struct block_q5_1), 8, true, 4);
    w->m = halves8(p + 2, sizeof(struct block_q5_1));
}

INLINED void load_q8_0(const char *p, struct wregs *w)
{
    const size_t block = sizeof(struct block_q8_0);
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const char *b0 = p + (size_t)i * block + 2, *b1 = b0 + 4 * block;
        q[i] = b64_load4(b0, b1, b0 + 16, b1 + 16);
    }
    set_q(w, q);
    w->d = halves8(p, block);
}

INLINED void load_table(const char *p, struct wregs *w, const size_t block, const size_t qs_at,
                        const int8_t table[16])
{
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_lut(b64_table(table), b64_nibbles(p + (size_t)i * block + qs_at,
                                                     p + ((size_t)i + 4) * block + qs_at));
    set_q(w, q);
}

INLINED void load_iq4_nl(const char *p, struct wregs *w)
{
    load_table(p, w, sizeof(struct block_q4_0), 2, iq4_values);
    w->d = halves8(p, sizeof(struct block_q4_0));
}

/* f32_from_e8m0_half of the bytes at p, p + stride, ... */
INLINED __m256 e8m0_8(const char *p, const size_t stride)
{
    uint64_t v = 0;
    UNROLL
    for (int b = 0; b < 8; b++)
        v |= (uint64_t)(uint8_t)p[(size_t)b * stride] << 8 * b;
    __m256i e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)v)), one = _mm256_set1_epi32(1);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
    __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(tiny, normal, _mm256_cmpgt_epi32(e, one)));
}

INLINED void load_mxfp4(const char *p, struct wregs *w)
{
    load_table(p, w, sizeof(struct block_mxfp4), 1, mxfp4_values);
    w->d = e8m0_8(p, sizeof(struct block_mxfp4));
}

/* Types of blocks of 256. */

INLINED void load_iq4_xs(const char *p, struct wregs *w)
{
    const struct block_iq4_xs *b = (const struct block_iq4_xs *)p;
    __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i shift_h = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)get32(b->scales_l)), shift);
    __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h), shift_h);
    low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
    load_table((const char *)b->qs, w, 16, 0, iq4_values);
    __m256i sc = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
    w->d = _mm256_mul_ps(half1(b->d), _mm256_cvtepi32_ps(sc));
}

/* The 12 bytes of 8 scales and mins (k_scale_min), times d and -dmin. */
INLINED void load_k_scales(const uint8_t s[12], uint16_t d, uint16_t dmin, struct wregs *w)
{
    uint32_t a = get32(s), b = get32(s + 4), c = get32(s + 8);
    uint64_t sc1 = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030); /* numbers 4 to 7 */
    uint64_t mn1 = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    uint64_t sc = (a & 0x3f3f3f3f) | sc1 << 32, mn = (b & 0x3f3f3f3f) | mn1 << 32;
    __m256i m = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn));
    __m256i n = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)sc));
    w->d = _mm256_mul_ps(half1(d), _mm256_cvtepi32_ps(n));
    w->m = _mm256_mul_ps(minus(half1(dmin)), _mm256_cvtepi32_ps(m));
}

/* Nibbles of Q4_K and Q5_K: chunk k of 32 bytes holds blocks 2k and 2k + 1. */
INLINED void k_nibbles(const uint8_t *qs, b64 q[4])
{
    UNROLL
    for (int k = 0; k < 2; k++) {
        const uint8_t *c = qs + 32 * k;
        b64 v = b64_load4(c, c + 64, c + 16, c + 80);
        q[2 * k] = b64_and(v, b64_set1(15));
        q[2 * k + 1] = b64_and(b64_srl(v, 4), b64_set1(15));
    }
}

INLINED void load_q4_k(const char *p, struct wregs *w)
{
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    b64 q[4];
    k_nibbles(b->qs, q);
    set_q(w, q);
    load_k_scales(b->scales, b->d, b->dmin, w);
}

INLINED void load_q5_k(const char *p, struct wregs *w)
{
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    /* Bit i of a byte: block i in even lanes, block i + 4 in odd ones. */
    b64 q[4], h = b64_srl4_odd(b64_load4(b->qh, b->qh, b->qh + 16, b->qh + 16));
    k_nibbles(b->qs, q);
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_or(q[i], b64_sll(b64_and(b64_srl(h, i), b64_set1(1)), 4));
    set_q(w, q);
    load_k_scales(b->scales, b->d, b->dmin, w);
}

/* 64 bytes whose two-bit field i is block i (first 32 bytes) and block i + 4 (last 32). */
INLINED b64 k_planes(const uint8_t *qs)
{
    return b64_load4(qs, qs + 32, qs + 16, qs + 48);
}

INLINED void load_q2_k(const char *p, struct wregs *w)
{
    const struct block_q2_k *b = (const struct block_q2_k *)p;
    b64 q[4], v = k_planes(b->qs);
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_and(b64_srl(v, 2 * i), b64_set1(3));
    set_q(w, q);
    __m128i s = _mm_loadu_si128((const __m128i *)b->scales), m = _mm_set1_epi8(15);
    w->sc = _mm_and_si128(s, m);
    w->mn = _mm_and_si128(_mm_srli_epi16(s, 4), m);
    w->d = half1(b->d);
    w->m = minus(half1(b->dmin));
}

/* 16 scales of 6 bits, minus 32; see q3k_scale. */
INLINED __m128i q3k_scales(const uint8_t s[12])
{
    const uint64_t nibbles = 0x0f0f0f0f0f0f0f0full, m = 0x03030303;
    uint64_t low = get64(s), high = get32(s + 8);
    uint64_t high0 = (high & m) | (high >> 2 & m) << 32;
    uint64_t high1 = (high >> 4 & m) | (high >> 6 & m) << 32;
    uint64_t sc0 = (low & nibbles) | high0 << 4, sc1 = (low >> 4 & nibbles) | high1 << 4;
    return _mm_sub_epi8(_mm_set_epi64x((long long)sc1, (long long)sc0), _mm_set1_epi8(32));
}

INLINED void load_q3_k(const char *p, struct wregs *w)
{
    const struct block_q3_k *b = (const struct block_q3_k *)p;
    b64 q[4], v = k_planes(b->qs);
    b64 h = b64_srl4_odd(b64_load4(b->hmask, b->hmask, b->hmask + 16, b->hmask + 16));
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_or(b64_and(b64_srl(v, 2 * i), b64_set1(3)),
                      b64_sll(b64_and(b64_srl(h, i), b64_set1(1)), 2));
    set_q(w, q);
    w->sc = q3k_scales(b->scales);
    w->d = half1(b->d);
}

INLINED void load_q6_k(const char *p, struct wregs *w)
{
    const struct block_q6_k *b = (const struct block_q6_k *)p;
    b64 v[2] = {b64_load4(b->ql, b->ql + 64, b->ql + 16, b->ql + 80),
                b64_load4(b->ql + 32, b->ql + 96, b->ql + 48, b->ql + 112)};
    b64 q[4], h = k_planes(b->qh);
    UNROLL
    for (int i = 0; i < 4; i++) {
        b64 low = b64_and(b64_srl(v[i & 1], i & 2 ? 4 : 0), b64_set1(15));
        q[i] = b64_or(low, b64_sll(b64_and(b64_srl(h, 2 * i), b64_set1(3)), 4));
    }
    set_q(w, q);
    w->sc = _mm_loadu_si128((const __m128i *)b->scales);
    w->d = half1(b->d);
}

typedef void (*load_fn)(const char *p, struct wregs *w);

/* Lanes 0 to n - 1 as they are, the others zero. */
INLINED __m256 first_lanes(__m256 v, uint32_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i keep = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
    return _mm256_and_ps(v, _mm256_castsi256_ps(keep));
}

/* The group at p, of which n_blocks exist (8, or less at a row's end); the others weigh nothing,
 * whatever comes there: the next row, or where the matrix ends (`end`) zeros. */
INLINED void load_group(const char *p, uint32_t n_blocks, const char *end, const size_t group_bytes,
                        load_fn load, struct wregs *w, const int flags)
{
    char last[8 * sizeof(struct block_q8_0)];
    if (UNLIKELY(n_blocks < 8 && group_bytes > (size_t)(end - p))) {
        memset(last, 0, sizeof(last));
        memcpy(last, p, n_blocks * (group_bytes / 8));
        p = last;
    }
    load(p, w);
    if (LIKELY(n_blocks == 8))
        return;
    w->d = first_lanes(w->d, n_blocks);
    if (flags & W_MIN)
        w->m = first_lanes(w->m, n_blocks);
}

/* X(dtype, loader, flags, bits of q) */
#define QUANT_LOADERS(X)                                                                           \
    X(Q4_0, load_q4_0, BY(8), 4)                                                                   \
    X(Q4_1, load_q4_1, W_MIN, 4)                                                                   \
    X(Q5_0, load_q5_0, BY(16), 5)                                                                  \
    X(Q5_1, load_q5_1, W_MIN, 5)                                                                   \
    X(Q8_0, load_q8_0, IS_SIGNED, 8)                                                               \
    X(Q2_K, load_q2_k, W_HALF_MIN, 2)                                                              \
    X(Q3_K, load_q3_k, W_HALF | BY(4), 3)                                                          \
    X(Q4_K, load_q4_k, W_MIN, 4)                                                                   \
    X(Q5_K, load_q5_k, W_MIN, 5)                                                                   \
    X(Q6_K, load_q6_k, W_HALF | BY(32), 6)                                                         \
    X(IQ4_NL, load_iq4_nl, IS_SIGNED, 8)                                                           \
    X(IQ4_XS, load_iq4_xs, IS_SIGNED, 8)                                                           \
    X(MXFP4, load_mxfp4, IS_SIGNED, 8)
