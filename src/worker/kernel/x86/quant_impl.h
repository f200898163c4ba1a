/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of few tokens with quantised weights as they lie in the file, written in b64
 * (b64_avx2.h, b64_avx512.h); included once by each quant_*.c. Bit for bit ref/matmul.c: integers
 * are exact, and one float lane belongs to each of 8 blocks.
 *
 * A group of 256 weights is unpacked once into four registers of bytes, laid out as struct act_q8
 * is (32-bit lane = half block), and multiplied with that group of several tokens. */
#include "worker/kernel/x86/load_impl.h"

/* A group as the product takes it. */
struct pregs {
    struct dotw w;
    __m256 d, m;
    __m256i off, mn; /* 16-bit, to go with act_q8.sum */
    b64 sc;
};

/* acc[b] += D dx I + M: unpack.h */
INLINED __m256 step(const struct pregs *w, const struct act_q8 *x, __m256 acc, const int flags,
                    const int q_bits)
{
    __m256i isum, sums = _mm256_load_si256((const __m256i *)x->sum);
    if (flags & W_HALF)
        isum = b64_fold(b64_mul32(dot_halves(&w->w, x->q, q_bits), w->sc));
    else
        isum = dot_blocks(&w->w, x->q, q_bits);
    if (OFFSET(flags))
        isum = _mm256_sub_epi32(isum, _mm256_madd_epi16(sums, w->off));
    else if ((flags & IS_SIGNED) && SIGNED_OFFSET != 0)
        isum = _mm256_add_epi32(isum, _mm256_load_si256((const __m256i *)x->off));
    __m256 dx = _mm256_load_ps(x->d);
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(w->d, dx), acc);
    if (!(flags & W_MIN))
        return acc;
    if (!(flags & W_HALF))
        return _mm256_fmadd_ps(w->m, _mm256_load_ps(x->ds), acc);
    __m256 m = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, w->mn));
    return _mm256_fmadd_ps(w->m, _mm256_mul_ps(dx, m), acc);
}

/* Lane l takes in lane l + half: ref's order. */
INLINED float fold(__m256 v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* From w->q to: register j holds 32-bit item j of each half block. */
INLINED void pregs_set(struct pregs *p, const struct wregs *w, const int flags)
{
    b64 a = b64_unpacklo32(w->q[0], w->q[1]), b = b64_unpackhi32(w->q[0], w->q[1]);
    b64 c = b64_unpacklo32(w->q[2], w->q[3]), d = b64_unpackhi32(w->q[2], w->q[3]);
    b64 t[4] = {b64_unpacklo64(a, c), b64_unpackhi64(a, c), b64_unpacklo64(b, d),
                b64_unpackhi64(b, d)};
    dotw_set(&p->w, t, flags & IS_SIGNED);
    p->d = w->d;
    p->m = w->m;
    if (flags & W_HALF) {
        p->sc = b64_scales(w->sc);
        p->off = _mm256_mullo_epi16(_mm256_cvtepi8_epi16(w->sc), _mm256_set1_epi16(OFFSET(flags)));
        if (flags & W_MIN)
            p->mn = _mm256_cvtepi8_epi16(w->mn);
    } else {
        p->off = _mm256_set1_epi16(OFFSET(flags));
    }
}

/* Ahead of the weights in use: further than the processor looks by itself.  Past the end it does
 * nothing. */
enum { PREFETCH_BYTES = 8192 };

/* One row of a matrix that ends at mat_end times T tokens (a constant), or n_tok < TILE_TOKENS
 * tokens where T is 0. */
INLINED void quant_row(const char *row, const char *mat_end, uint32_t n_cols,
                       const size_t group_bytes, load_fn load, const int flags, const int q_bits,
                       const char *x, size_t x_row_bytes, const uint32_t T, uint32_t n_tok,
                       float *y, size_t ld_y)
{
    __m256 acc[TILE_TOKENS];
    struct wregs w;
    struct pregs p;
    const uint32_t n = T ? T : n_tok;
    for (uint32_t t = 0; t < n; t++)
        y[t * ld_y] = 0;
    for (uint32_t c = 0, end; c < n_cols; c = end) {
        end = MIN_OF(n_cols, c + QUANT_CHUNK);
        UNROLL
        for (uint32_t t = 0; t < TILE_TOKENS; t++)
            acc[t] = _mm256_setzero_ps();
        for (; c < end; c += 256, x += sizeof(struct act_q8)) {
            for (size_t o = 0; o < group_bytes; o += 64)
                _mm_prefetch(row + c / 256 * group_bytes + PREFETCH_BYTES + o, _MM_HINT_T1);
            load_group(row + c / 256 * group_bytes, MIN_OF(n_cols - c, 256u) / QK, mat_end,
                       group_bytes, load, &w, flags);
            pregs_set(&p, &w, flags);
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[t] =
                    step(&p, (const struct act_q8 *)(x + t * x_row_bytes), acc[t], flags, q_bits);
            for (uint32_t t = T; t < n; t++)
                acc[t] =
                    step(&p, (const struct act_q8 *)(x + t * x_row_bytes), acc[t], flags, q_bits);
        }
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            y[t * ld_y] += fold(acc[t]);
        for (uint32_t t = T; t < n; t++)
            y[t * ld_y] += fold(acc[t]);
    }
}

enum { SLAB_BYTES = 128 << 10 }; /* weights that stay in cache while all tokens pass over them */

INLINED void quant_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, const int flags, const int q_bits)
{
    const uint32_t slab = (uint32_t)MAX_OF(SLAB_BYTES / (w->row_bytes + 1), (size_t)1);
    const char *mat_end = (const char *)w->data + w->n_rows * w->row_bytes;
#define ROW(T, n)                                                                                  \
    quant_row((const char *)w->data + r * w->row_bytes, mat_end, w->n_cols, group_bytes, load,     \
              flags, q_bits, xt, x->row_bytes, T, n, yt + (r - row0), ld_y)
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
