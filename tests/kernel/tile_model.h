/* SPDX-License-Identifier: Apache-2.0 */
/* What levels with tiles make of quantised weights, in plain C: "amx" and the tests' stand-ins for
 * it.  Weights become bfloat16, activations are bfloat16, and a product is a sum in the order of
 * the instruction TDPBF16PS over tiles of 32 columns, ascending.
 *
 * A weight d sc q + m mn (unpack.h) in float32, with K = 32768 and q unsigned for types with mins,
 * else K = 32768 + 128:
 *     D = (d sc) R,  M = (m mn) R or 0,  C = M - K D by one fma,  w = fma(K + q, D, C)
 * and the upper half of w.  K + q is a float whose bits are known from q's byte, which is what this
 * way is for; R makes up for what cutting off takes in the mean. */
#ifndef TESTS_KERNEL_TILE_MODEL_H
#define TESTS_KERNEL_TILE_MODEL_H

#include <float.h>

#include "tests/kernel/kernel_test.h"
#include "worker/kernel/unpack.h"

/* Cutting a float in [1, 2) to 8 bits takes 2^-8 in the mean, so of it the part 2^-8 ln 2. */
#define TILE_R 1.0027076f

/* How far a weight is from the truth, with e = 2^-24 the rounding of float32:
 *   R and the cut:  w lies between R (1 - 2^-7) and R times what it was: 0.9949 .. 1.0027;
 *   the rest:       D, M and w are rounded, each e of itself, and C, e of (|M| + K |D|).  The
 * latter is as large as a 512th of D, and the same in all weights of a scale. Together |w - exact|
 * <= TILE_REL |exact| + slack. */
#define TILE_REL 0.00513
static double tile_slack(double d, double m)
{
    return 0x1p-24 * 1.003 * (2 * fabs(m) + (32768 + 128 + 204) * fabs(d));
}

/* And how far a sum of products is from the exact one of the same factors, whose sizes add up to
 * abs_sum: 16 fused steps in each of two chains, their sum, and the sums of tiles. */
static double tile_sum_tolerance(uint32_t n_cols, double abs_sum)
{
    return 0x1p-24 * 1.01 * (18 + n_cols / 32) * abs_sum + 1e-37;
}

static enum weight_kind tile_unpack(enum dtype type, const void *src, uint32_t nb, struct wgroup *g,
                                    size_t *ret_bytes)
{
    switch (type) {
#define X(TYPE, UNPACK, KIND)                                                                      \
    case DTYPE_##TYPE:                                                                             \
        UNPACK(src, nb, g);                                                                        \
        *ret_bytes = GROUP_BYTES_##TYPE;                                                           \
        return KIND;
        QUANT_TYPES(X)
#undef X
    default: fail_msg("%s is no quantised type", dtype_info(type)->name);
    }
    return W_PLAIN;
}

/* A row's weights as tiles have them; slack may be NULL. */
UNUSED static void tile_weights(enum dtype type, const void *row, uint32_t n_cols, float *w,
                                double *slack)
{
    for (uint32_t c0 = 0; c0 < n_cols; c0 += 256) {
        const uint32_t n = MIN_OF(n_cols - c0, 256u);
        size_t group_bytes = 0;
        struct wgroup g;
        const bool mins = tile_unpack(type, row, n / 32, &g, &group_bytes) & W_MIN;
        row = (const char *)row + group_bytes;
        for (uint32_t c = 0; c < n; c++) {
            const float d = g.d[c / 32] * (float)g.sc[c / 16],
                        m = mins ? g.m[c / 32] * (float)g.mn[c / 16] : 0; /* both exact */
            const float k = mins ? 32768 : 32768 + 128, by = d * TILE_R;
            const float from = fmaf(-k, by, m * TILE_R);
            const float v = fmaf(k + (float)g.q[c], by, from);
            w[c0 + c] = f32_from_bits(f32_bits(v) & 0xffff0000u);
            if (slack)
                slack[c0 + c] = tile_slack(d, m);
        }
    }
}

/* The unit takes subnormals for zero, as operands and as results. */
static float tile_flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

/* Where there are tiles there is this: one instruction, not a call, for each step. */
#if defined(__x86_64__)
__attribute__((target("fma")))
#endif
static float
tile_sum(const float *w, const float *x, uint32_t n_cols)
{
    float sum = 0;
    for (uint32_t c = 0; c < n_cols; c += 32) {
        float even = 0, odd = 0;
        for (uint32_t i = c; i < c + 32; i += 2) {
            even = tile_flush(fmaf(w[i], x[i], even));
            odd = tile_flush(fmaf(w[i + 1], x[i + 1], odd));
        }
        sum = tile_flush(sum + tile_flush(even + odd));
    }
    return sum;
}

/* All rows of w times all tokens of x. */
UNUSED static void tile_matmul(const struct kern_mat *w, const struct kern_act *x, float *y,
                               size_t ld_y)
{
    struct err err = ERR_INIT;
    const size_t n = w->n_cols;
    float *xs = mem_try_aligned(sizeof(float) * n * x->n_tok, &err),
          *ws = mem_try_aligned(sizeof(float) * n, &err);
    assert_true(xs && ws && x->format == ACT_BF16);
    for (size_t t = 0; t < x->n_tok; t++)
        for (size_t c = 0; c < n; c++)
            xs[t * n + c] = tile_flush(
                f32_from_bf16(((const uint16_t *)((const char *)x->rows + t * x->row_bytes))[c]));
    for (uint32_t r = 0; r < w->n_rows; r++) {
        tile_weights(w->type, (const char *)w->data + r * w->row_bytes, w->n_cols, ws, NULL);
        for (size_t c = 0; c < n; c++)
            ws[c] = tile_flush(ws[c]);
        for (size_t t = 0; t < x->n_tok; t++)
            y[t * ld_y + r] = tile_sum(ws, xs + t * n, w->n_cols);
    }
    mem_free(xs);
    mem_free(ws);
}

#endif
