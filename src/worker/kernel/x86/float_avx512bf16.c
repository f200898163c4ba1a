/* SPDX-License-Identifier: Apache-2.0 */
/* Products with BF16 weights by vdpbf16ps: activations rounded to bfloat16, exact products of pairs
 * added to float32.  Any thread; see kern.h.
 *
 * One accumulator of 16 lanes per output: columns c, c + 1 (c even) add to lane c / 2 % 16, in
 * ascending order, a last part vector filled up with zeros; then the lanes fold.  Tiles of rows and
 * tokens only share loads.  Weights are read as they lie in the file. */
#include <immintrin.h>

#include "worker/kernel/blocks.h"
#include "worker/kernel/x86/v16_avx512.h"
#include "worker/kernel/x86/x86.h"

enum { ROWS = 4, TOKENS = 6, PREFETCH_BYTES = 8192 /* float_impl.h */ };

INLINED __m512bh load(const char *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

INLINED __m512bh load_n(const char *p, uint32_t n)
{
    return (__m512bh)_mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), p);
}

/* R rows from w times T tokens from x; R and T are constants where this is inlined. */
INLINED void tile(const char *w, size_t w_row_bytes, const char *x, size_t x_row_bytes,
                  uint32_t n_cols, const uint32_t R, const uint32_t T, bool first, float *y,
                  size_t ld_y)
{
    __m512 acc[ROWS][TOKENS];
    uint32_t c = 0;
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            acc[r][t] = _mm512_setzero_ps();
    }
#define STEP(LOAD, ...)                                                                            \
    do {                                                                                           \
        __m512bh wv[ROWS];                                                                         \
        UNROLL                                                                                     \
        for (uint32_t r = 0; r < R; r++)                                                           \
            wv[r] = LOAD(w + r * w_row_bytes + 2 * (size_t)c __VA_ARGS__);                         \
        UNROLL                                                                                     \
        for (uint32_t t = 0; t < T; t++) {                                                         \
            const __m512bh xv = LOAD(x + t * x_row_bytes + 2 * (size_t)c __VA_ARGS__);             \
            UNROLL                                                                                 \
            for (uint32_t r = 0; r < R; r++)                                                       \
                acc[r][t] = _mm512_dpbf16_ps(acc[r][t], wv[r], xv);                                \
        }                                                                                          \
    } while (0)
    for (; c + 32 <= n_cols; c += 32) {
        if (R == 1)
            _mm_prefetch(w + 2 * (size_t)c + PREFETCH_BYTES, _MM_HINT_T0);
        if (R > 1 && first) {
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                _mm_prefetch(w + (R + r) * w_row_bytes + 2 * (size_t)c, _MM_HINT_T1);
        }
        STEP(load);
    }
    if (c < n_cols)
        STEP(load_n, , n_cols - c);
#undef STEP
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            y[t * ld_y + r] = v16_fold(acc[r][t]);
    }
}

static void matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1, const struct kern_act *x,
                   float *y, size_t ld_y)
{
#define TILE(R, T)                                                                                 \
    tile((const char *)w->data + r * w->row_bytes, w->row_bytes,                                   \
         (const char *)x->rows + t * x->row_bytes, x->row_bytes, w->n_cols, R, T, t == 0,          \
         y + t * ld_y + (r - row0), ld_y)
    uint32_t r = row0;
    for (; x->n_tok > 1 && r + ROWS <= row1; r += ROWS) {
        uint32_t t = 0;
        for (; t + TOKENS <= x->n_tok; t += TOKENS)
            TILE(ROWS, TOKENS);
        for (; t + 2 <= x->n_tok; t += 2)
            TILE(ROWS, 2);
        for (; t < x->n_tok; t++)
            TILE(ROWS, 1);
    }
    for (; r < row1; r++)
        for (uint32_t t = 0; t < x->n_tok; t++)
            TILE(1, 1);
#undef TILE
}

/* By integers, as ref does it: vcvtneps2bf16 would lose subnormals.  Zeros fill up 32 columns. */
static void act_bf16(const float *src, void *dst, uint32_t n)
{
    const __m512i bias = _mm512_set1_epi32(0x7fff), one = _mm512_set1_epi32(1);
    for (uint32_t i = 0; i < (n + 31) / 32 * 32; i += 16) {
        const __mmask16 m = i + 16 <= n ? 0xffff : i < n ? (__mmask16)((1u << (n - i)) - 1) : 0;
        __m512 f = _mm512_maskz_loadu_ps(m, src + i);
        __m512i u = _mm512_castps_si512(f);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
        __m512i v = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(bias, odd)), 16);
        __m512i nan = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
        v = _mm512_mask_mov_epi32(v, _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q), nan);
        _mm256_storeu_si256((__m256i *)((uint16_t *)dst + i), _mm512_cvtepi32_epi16(v));
    }
}

void float_avx512bf16_fill(struct kern *k)
{
    k->matmul[DTYPE_BF16] = matmul;
    k->act_for[DTYPE_BF16] = ACT_BF16;
    k->act_prepare[ACT_BF16] = act_bf16;
}
