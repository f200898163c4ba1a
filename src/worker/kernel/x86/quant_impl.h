/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with quantised weights, written in b64 (b64_avx2.h, b64_avx512.h); included once
 * by each quant_*.c. Bit for bit ref/matmul.c: integers are exact, and one float lane belongs to
 * each of 8 blocks.
 *
 * A group of 256 weights is unpacked once into four registers of bytes, laid out as struct act_q8
 * is (32-bit lane = half block), and multiplied with that group of several tokens. */
#include "worker/kernel/unpack.h"
#include "worker/kernel/x86/x86.h"

/* What a type has besides d: compile-time constants for step(). */
enum {
    HAS_MIN = 1,  /* + m * mn * sum(x) */
    HAS_OFF = 2,  /* q is unsigned, off * sum(x) comes off */
    HAS_SC32 = 4, /* one integer scale per block (as float: the product stays below 2^24) */
    HAS_SC16 = 8, /* one per half block */
    IS_SIGNED = 16
};

/* 256 weights in registers. */
struct wregs {
    struct dotw w;
    __m256 d, m, sc;
    __m256i off, mn; /* 16-bit, to go with act_q8.sum */
    b64 sc16;
};

/* acc[b] += (d dx) I + (m dx) M */
INLINED __m256 step(const struct wregs *w, const struct act_q8 *x, __m256 acc, const int flags,
                    const int q_bits)
{
    __m256i isum, sums = _mm256_load_si256((const __m256i *)x->sum);
    if (flags & HAS_SC16)
        isum = b64_fold(b64_mul32(dot_halves(&w->w, x->q, q_bits), w->sc16));
    else
        isum = dot_blocks(&w->w, x->q, q_bits);
    if (flags & HAS_OFF)
        isum = _mm256_sub_epi32(isum, _mm256_madd_epi16(sums, w->off));
    else if ((flags & IS_SIGNED) && SIGNED_OFFSET != 0)
        isum = _mm256_sub_epi32(isum, _mm256_madd_epi16(sums, _mm256_set1_epi16(SIGNED_OFFSET)));
    __m256 f = _mm256_cvtepi32_ps(isum), dx = _mm256_load_ps(x->d);
    if (flags & HAS_SC32)
        f = _mm256_mul_ps(f, w->sc);
    f = _mm256_mul_ps(_mm256_mul_ps(w->d, dx), f);
    if (flags & HAS_MIN) {
        __m256 m = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, w->mn));
        f = _mm256_add_ps(f, _mm256_mul_ps(_mm256_mul_ps(w->m, dx), m));
    }
    return _mm256_add_ps(acc, f);
}

/* Lane l takes in lane l + half: ref's order. */
INLINED float fold(__m256 v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* q[i] holds blocks i and i + 4, lane = 16 elements; afterwards q[j] holds 32-bit item j of each.
 */
INLINED void wregs_set(struct wregs *w, const b64 q[4], const int flags)
{
    b64 a = b64_unpacklo32(q[0], q[1]), b = b64_unpackhi32(q[0], q[1]);
    b64 c = b64_unpacklo32(q[2], q[3]), d = b64_unpackhi32(q[2], q[3]);
    b64 t[4] = {b64_unpacklo64(a, c), b64_unpackhi64(a, c), b64_unpacklo64(b, d),
                b64_unpackhi64(b, d)};
    dotw_set(&w->w, t, flags & IS_SIGNED);
}

INLINED uint16_t get16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINED uint32_t get32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINED uint64_t get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
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

INLINED void load_nibbles(const char *p, struct wregs *w, const int flags, const size_t block,
                          const size_t qs_at, const bool fifth, const size_t qh_at,
                          const int offset)
{
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const char *b0 = p + (size_t)i * block, *b1 = b0 + 4 * block;
        q[i] = b64_nibbles(b0 + qs_at, b1 + qs_at);
        if (fifth)
            q[i] = b64_or(q[i], b64_fifth_bits(get32(b0 + qh_at), get32(b1 + qh_at)));
    }
    wregs_set(w, q, flags);
    w->d = halves8(p, block);
    w->off = _mm256_set1_epi16((short)offset);
    w->mn = _mm256_set1_epi16(1);
}

INLINED void load_q4_0(const char *p, struct wregs *w, const int flags)
{
    load_nibbles(p, w, flags, sizeof(struct block_q4_0), 2, false, 0, 8);
}

INLINED void load_q4_1(const char *p, struct wregs *w, const int flags)
{
    load_nibbles(p, w, flags, sizeof(struct block_q4_1), 4, false, 0, 0);
    w->m = halves8(p + 2, sizeof(struct block_q4_1));
}

INLINED void load_q5_0(const char *p, struct wregs *w, const int flags)
{
    load_nibbles(p, w, flags, sizeof(struct block_q5_0), 6, true, 2, 16);
}

INLINED void load_q5_1(const char *p, struct wregs *w, const int flags)
{
    load_nibbles(p, w, flags, sizeof(struct block_q5_1), 8, true, 4, 0);
    w->m = halves8(p + 2, sizeof(struct block_q5_1));
}

INLINED void load_q8_0(const char *p, struct wregs *w, const int flags)
{
    const size_t block = sizeof(struct block_q8_0);
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const char *b0 = p + (size_t)i * block + 2, *b1 = b0 + 4 * block;
        q[i] = b64_load4(b0, b1, b0 + 16, b1 + 16);
    }
    wregs_set(w, q, flags);
    w->d = halves8(p, block);
}

INLINED void load_table(const char *p, struct wregs *w, const int flags, const size_t block,
                        const size_t qs_at, const int8_t table[16])
{
    b64 q[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_lut(b64_table(table), b64_nibbles(p + (size_t)i * block + qs_at,
                                                     p + ((size_t)i + 4) * block + qs_at));
    wregs_set(w, q, flags);
}

INLINED void load_iq4_nl(const char *p, struct wregs *w, const int flags)
{
    load_table(p, w, flags, sizeof(struct block_q4_0), 2, iq4_values);
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

INLINED void load_mxfp4(const char *p, struct wregs *w, const int flags)
{
    load_table(p, w, flags, sizeof(struct block_mxfp4), 1, mxfp4_values);
    w->d = e8m0_8(p, sizeof(struct block_mxfp4));
}

/* Types of blocks of 256. */

INLINED void load_iq4_xs(const char *p, struct wregs *w, const int flags)
{
    const struct block_iq4_xs *b = (const struct block_iq4_xs *)p;
    __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i shift_h = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)get32(b->scales_l)), shift);
    __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h), shift_h);
    low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
    load_table((const char *)b->qs, w, flags, 16, 0, iq4_values);
    w->d = half1(b->d);
    w->sc = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32)));
}

/* The 12 bytes of 8 scales and mins; see k_scale_min. */
INLINED void load_k_scales(const uint8_t s[12], struct wregs *w)
{
    uint32_t a = get32(s), b = get32(s + 4), c = get32(s + 8);
    uint64_t sc1 = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030); /* numbers 4 to 7 */
    uint64_t mn1 = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    uint64_t sc = (a & 0x3f3f3f3f) | sc1 << 32, mn = (b & 0x3f3f3f3f) | mn1 << 32;
    __m256i m = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn));
    w->sc = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)sc)));
    w->mn = _mm256_or_si256(m, _mm256_slli_epi32(m, 16));
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

INLINED void load_q4_k(const char *p, struct wregs *w, const int flags)
{
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    b64 q[4];
    k_nibbles(b->qs, q);
    wregs_set(w, q, flags);
    load_k_scales(b->scales, w);
    w->d = half1(b->d);
    w->m = minus(half1(b->dmin));
}

INLINED void load_q5_k(const char *p, struct wregs *w, const int flags)
{
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    /* Bit i of a byte: block i in even lanes, block i + 4 in odd ones. */
    b64 q[4], h = b64_srl4_odd(b64_load4(b->qh, b->qh, b->qh + 16, b->qh + 16));
    k_nibbles(b->qs, q);
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_or(q[i], b64_sll(b64_and(b64_srl(h, i), b64_set1(1)), 4));
    wregs_set(w, q, flags);
    load_k_scales(b->scales, w);
    w->d = half1(b->d);
    w->m = minus(half1(b->dmin));
}

/* 64 bytes whose two-bit field i is block i (first 32 bytes) and block i + 4 (last 32). */
INLINED b64 k_planes(const uint8_t *qs)
{
    return b64_load4(qs, qs + 32, qs + 16, qs + 48);
}

INLINED void load_q2_k(const char *p, struct wregs *w, const int flags)
{
    const struct block_q2_k *b = (const struct block_q2_k *)p;
    b64 q[4], v = k_planes(b->qs);
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_and(b64_srl(v, 2 * i), b64_set1(3));
    wregs_set(w, q, flags);
    __m128i s = _mm_loadu_si128((const __m128i *)b->scales), m = _mm_set1_epi8(15);
    w->sc16 = b64_scales(_mm_and_si128(s, m));
    w->mn = _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(s, 4), m));
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

INLINED void load_q3_k(const char *p, struct wregs *w, const int flags)
{
    const struct block_q3_k *b = (const struct block_q3_k *)p;
    b64 q[4], v = k_planes(b->qs);
    b64 h = b64_srl4_odd(b64_load4(b->hmask, b->hmask, b->hmask + 16, b->hmask + 16));
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = b64_or(b64_and(b64_srl(v, 2 * i), b64_set1(3)),
                      b64_sll(b64_and(b64_srl(h, i), b64_set1(1)), 2));
    wregs_set(w, q, flags);
    __m128i s = q3k_scales(b->scales);
    w->sc16 = b64_scales(s);
    w->off = _mm256_slli_epi16(_mm256_cvtepi8_epi16(s), 2);
    w->d = half1(b->d);
}

INLINED void load_q6_k(const char *p, struct wregs *w, const int flags)
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
    wregs_set(w, q, flags);
    __m128i s = _mm_loadu_si128((const __m128i *)b->scales);
    w->sc16 = b64_scales(s);
    w->off = _mm256_slli_epi16(_mm256_cvtepi8_epi16(s), 5);
    w->d = half1(b->d);
}

typedef void (*load_fn)(const char *p, struct wregs *w, const int flags);

/* The group of a row that begins at column c, missing blocks filled up with zeros in `last`. */
INLINED const char *group_at(const char *row, uint32_t c, uint32_t n_cols, const size_t group_bytes,
                             char *last, size_t last_bytes)
{
    const char *p = row + c / 256 * group_bytes;
    if (LIKELY(n_cols - c >= 256))
        return p;
    memset(last, 0, last_bytes);
    memcpy(last, p, (n_cols - c) / 32 * (group_bytes / 8));
    return last;
}

/* Ahead of the weights in use: further than the processor looks by itself.  Past the end it does
 * nothing. */
enum { PREFETCH_BYTES = 1536 };

/* One weight row times T tokens (a constant), or n_tok < TILE_TOKENS tokens where T is 0. */
INLINED void quant_row(const char *row, uint32_t n_cols, const size_t group_bytes, load_fn load,
                       const int flags, const int q_bits, const char *x, size_t x_row_bytes,
                       const uint32_t T, uint32_t n_tok, float *y, size_t ld_y)
{
    __m256 acc[TILE_TOKENS];
    char last[8 * sizeof(struct block_q8_0)];
    struct wregs w;
    UNROLL
    for (uint32_t t = 0; t < TILE_TOKENS; t++)
        acc[t] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < n_cols; c += 256, x += sizeof(struct act_q8)) {
        for (size_t o = 0; o < group_bytes; o += 64)
            _mm_prefetch(row + c / 256 * group_bytes + PREFETCH_BYTES + o, _MM_HINT_T0);
        load(group_at(row, c, n_cols, group_bytes, last, sizeof(last)), &w, flags);
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            acc[t] = step(&w, (const struct act_q8 *)(x + t * x_row_bytes), acc[t], flags, q_bits);
        for (uint32_t t = T; t < n_tok; t++)
            acc[t] = step(&w, (const struct act_q8 *)(x + t * x_row_bytes), acc[t], flags, q_bits);
    }
    UNROLL
    for (uint32_t t = 0; t < T; t++)
        y[t * ld_y] = fold(acc[t]);
    for (uint32_t t = T; t < n_tok; t++)
        y[t * ld_y] = fold(acc[t]);
}

enum { SLAB_BYTES = 128 << 10 }; /* weights that stay in cache while all tokens pass over them */

INLINED void quant_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, const int flags, const int q_bits)
{
    const uint32_t slab = (uint32_t)MAX_OF(SLAB_BYTES / (w->row_bytes + 1), (size_t)1);
#define ROW(T, n)                                                                                  \
    quant_row((const char *)w->data + r * w->row_bytes, w->n_cols, group_bytes, load, flags,       \
              q_bits, xt, x->row_bytes, T, n, yt + (r - row0), ld_y)
    for (uint32_t r0 = row0, r1; r0 < row1; r0 = r1) {
        r1 = r0 + MIN_OF(slab, row1 - r0);
        for (uint32_t t = 0, n; t < x->n_tok; t += n) {
            const char *xt = (const char *)x->rows + t * x->row_bytes;
            float *yt = y + t * ld_y;
            n = MIN_OF(x->n_tok - t, (uint32_t)TILE_TOKENS);
            if (n == TILE_TOKENS)
                for (uint32_t r = r0; r < r1; r++)
                    ROW(TILE_TOKENS, TILE_TOKENS);
            else if (n == 1)
                for (uint32_t r = r0; r < r1; r++)
                    ROW(1, 1);
            else
                for (uint32_t r = r0; r < r1; r++)
                    ROW(0, n);
        }
    }
#undef ROW
}

/* X(dtype, loader, flags, bits of q) */
#define QUANT_LOADERS(X)                                                                           \
    X(Q4_0, load_q4_0, HAS_OFF, 4)                                                                 \
    X(Q4_1, load_q4_1, HAS_MIN, 4)                                                                 \
    X(Q5_0, load_q5_0, HAS_OFF, 5)                                                                 \
    X(Q5_1, load_q5_1, HAS_MIN, 5)                                                                 \
    X(Q8_0, load_q8_0, IS_SIGNED, 8)                                                               \
    X(Q2_K, load_q2_k, HAS_SC16 | HAS_MIN, 2)                                                      \
    X(Q3_K, load_q3_k, HAS_SC16 | HAS_OFF, 3)                                                      \
    X(Q4_K, load_q4_k, HAS_SC32 | HAS_MIN, 4)                                                      \
    X(Q5_K, load_q5_k, HAS_SC32 | HAS_MIN, 5)                                                      \
    X(Q6_K, load_q6_k, HAS_SC16 | HAS_OFF, 6)                                                      \
    X(IQ4_NL, load_iq4_nl, IS_SIGNED, 8)                                                           \
    X(IQ4_XS, load_iq4_xs, IS_SIGNED | HAS_SC32, 8)                                                \
    X(MXFP4, load_mxfp4, IS_SIGNED, 8)

#define X(TYPE, LOAD, FLAGS, Q_BITS)                                                               \
    static void matmul_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        quant_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, FLAGS, Q_BITS);          \
    }
QUANT_LOADERS(X)
#undef X

static void quant_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul[DTYPE_##TYPE] = matmul_##TYPE;
    QUANT_LOADERS(X)
#undef X
}
