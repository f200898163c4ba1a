/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with F32, F16 and BF16 weights in v16; included once by float_avx2.c and
 * float_avx512.c.
 *
 * One accumulator of 16 lanes per output: column c adds to lane c % 16 by a fused multiply-add, in
 * ascending order, a last part vector filled up with zeros; then the lanes fold.  Tiles of rows and
 * tokens only share loads. */
#include "worker/kernel/x86/x86.h"
#include "worker/kernel/unpack.h"

typedef v16 (*load_fn)(const void *);
typedef v16 (*load_n_fn)(const void *, uint32_t);

/* Weights come from memory once: with one row at a time what lies this far on, the next row's
 * beginning too; with several, while the first tokens pass, the rows after them. */
enum { PREFETCH_BYTES = 8192 };

/* R rows from `w` times T tokens from `x`; R, T and the loads are constants where this is inlined.
 */
INLINED void tile(const char *w, size_t w_row_bytes, size_t item_bytes, load_fn load,
                  load_n_fn load_n, const char *x, size_t x_row_bytes, uint32_t n_cols,
                  const uint32_t R, const uint32_t T, bool first, float *y, size_t ld_y)
{
    v16 acc[4][4];
    uint32_t c = 0;
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            acc[r][t] = v16_zero();
    }
    for (; c + 16 <= n_cols; c += 16) {
        v16 xv[4];
        if (R == 1)
            __builtin_prefetch(w + c * item_bytes + PREFETCH_BYTES, 0, 2);
        if (R > 1 && first && c * item_bytes % 64 == 0) {
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                __builtin_prefetch(w + (R + r) * w_row_bytes + c * item_bytes, 0, 2);
        }
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            xv[t] = v16_load(x + t * x_row_bytes + c * sizeof(float));
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            v16 wv = load(w + r * w_row_bytes + c * item_bytes);
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[r][t] = v16_fma(wv, xv[t], acc[r][t]);
        }
    }
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        if (c == n_cols)
            break;
        v16 wv = load_n(w + r * w_row_bytes + c * item_bytes, n_cols - c);
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            acc[r][t] = v16_fma(wv, v16_load_n(x + t * x_row_bytes + c * sizeof(float), n_cols - c),
                                acc[r][t]);
    }
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            y[t * ld_y + r] = v16_fold(acc[r][t]);
    }
}

/* All tokens over a few rows: the weights stay in cache. */
INLINED void float_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, size_t item_bytes,
                          load_fn load, load_n_fn load_n)
{
#define TILE(R, T)                                                                                 \
    tile((const char *)w->data + r * w->row_bytes, w->row_bytes, item_bytes, load, load_n,         \
         (const char *)x->rows + t * x->row_bytes, x->row_bytes, w->n_cols, R, T, t == 0,          \
         y + t * ld_y + (r - row0), ld_y)
    uint32_t r = row0;
    for (; x->n_tok > 1 && r + FLOAT_ROWS <= row1; r += FLOAT_ROWS) {
        uint32_t t = 0;
        for (; t + FLOAT_TOKENS <= x->n_tok; t += FLOAT_TOKENS)
            TILE(FLOAT_ROWS, FLOAT_TOKENS);
        for (; t < x->n_tok; t++)
            TILE(FLOAT_ROWS, 1);
    }
    for (; r < row1; r++)
        for (uint32_t t = 0; t < x->n_tok; t++)
            TILE(1, 1);
#undef TILE
}

static void matmul_F32(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                       const struct kern_act *x, float *y, size_t ld_y)
{
    float_matmul(w, row0, row1, x, y, ld_y, 4, v16_load, v16_load_n);
}

static void matmul_F16(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                       const struct kern_act *x, float *y, size_t ld_y)
{
    float_matmul(w, row0, row1, x, y, ld_y, 2, v16_load_f16, v16_load_f16_n);
}

static void matmul_BF16(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                        const struct kern_act *x, float *y, size_t ld_y)
{
    float_matmul(w, row0, row1, x, y, ld_y, 2, v16_load_bf16, v16_load_bf16_n);
}

static void dequant_F16(const void *src, float *dst, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store(dst + i, v16_load_f16((const char *)src + 2 * (size_t)i));
    if (i < n)
        v16_store_n(dst + i, n - i, v16_load_f16_n((const char *)src + 2 * (size_t)i, n - i));
}

static void float_fill(struct kern *k)
{
    k->matmul[DTYPE_F32] = matmul_F32;
    k->matmul[DTYPE_F16] = matmul_F16;
    k->matmul[DTYPE_BF16] = matmul_BF16;
    k->dequant[DTYPE_F16] = dequant_F16;
}
