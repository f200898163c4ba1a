/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with NEON's 8-bit matrix product (SMMLA): one instruction takes
 * 8 columns of two rows and two tokens.  One token alone goes row by row as on the level below. Any
 * thread; see kern.h.
 *
 * Bit for bit ref/matmul.c: a register holds the same block's value of four outputs (two rows, two
 * tokens), so the 8 float lanes of one output lie in 8 registers. */
#include <arm_neon.h>

#include "lib/base/compiler.h"

/* acc[l] += the products of the four bytes of lane l. */
static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x)
{
    return vdotq_s32(acc, w, x);
}

#include "worker/kernel/arm/quant_impl.h"

enum { PAIRS = 4, CHUNK_GROUPS = QUANT_CHUNK / 256 };

/* A group of two tokens: lanes of the last three are token 0, 1, 0, 1. */
struct xpair {
    int8x16_t q[16][2]; /* per half block: 8 bytes of either, then the other 8 */
    float32x4_t d[8], ds[8];
    int32x4_t sum[16];
};

/* A group of two rows: lanes are row 0, 0, 1, 1. */
struct wpair {
    int8x16_t q[16][2];
    float32x4_t d[8], m[8];
    int32x4_t sc[16], mn[16];
};

INLINED void interleave(int8x16_t a, int8x16_t b, int8x16_t out[2])
{
    int64x2_t a2 = vreinterpretq_s64_s8(a), b2 = vreinterpretq_s64_s8(b);
    out[0] = vreinterpretq_s8_s64(vzip1q_s64(a2, b2));
    out[1] = vreinterpretq_s8_s64(vzip2q_s64(a2, b2));
}

/* Half blocks in order, of what struct act_q8 has by 32-bit items. */
INLINED void halves_of(const struct act_q8 *x, int8x16_t out[16])
{
    for (int k = 0; k < 2; k++) {
        for (int h = 0; h < 2; h++) {
            const int8_t *q = x->q + 32 * h + 16 * k;
            int8x16_t t[4];
            turn(vld1q_s8(q), vld1q_s8(q + 64), vld1q_s8(q + 128), vld1q_s8(q + 192), t);
            for (int i = 0; i < 4; i++)
                out[8 * k + 2 * i + h] = t[i];
        }
    }
}

static void xpair_set(struct xpair *p, const struct act_q8 *x0, const struct act_q8 *x1)
{
    int8x16_t a[16], b[16];
    halves_of(x0, a);
    halves_of(x1, b);
    for (int h = 0; h < 16; h++) {
        interleave(a[h], b[h], p->q[h]);
        p->sum[h] = (int32x4_t){x0->sum[h], x1->sum[h], x0->sum[h], x1->sum[h]};
    }
    for (int b8 = 0; b8 < 8; b8++) {
        p->d[b8] = (float32x4_t){x0->d[b8], x1->d[b8], x0->d[b8], x1->d[b8]};
        p->ds[b8] = (float32x4_t){x0->ds[b8], x1->ds[b8], x0->ds[b8], x1->ds[b8]};
    }
}

INLINED void wpair_set(struct wpair *p, const struct wregs w[2], const int kind)
{
    for (int h = 0; h < 16; h++) {
        interleave(w[0].q[h], w[1].q[h], p->q[h]);
        if (kind & W_HALF)
            p->sc[h] = (int32x4_t){w[0].sc[h], w[0].sc[h], w[1].sc[h], w[1].sc[h]};
        if (kind == W_HALF_MIN)
            p->mn[h] = (int32x4_t){w[0].mn[h], w[0].mn[h], w[1].mn[h], w[1].mn[h]};
    }
    for (int b = 0; b < 8; b++) {
        p->d[b] = (float32x4_t){w[0].d[b], w[0].d[b], w[1].d[b], w[1].d[b]};
        if (kind & W_MIN)
            p->m[b] = (float32x4_t){w[0].m[b], w[0].m[b], w[1].m[b], w[1].m[b]};
    }
}

/* acc[b] += D dx I + M: unpack.h */
INLINED void pair_step(const struct wpair *w, const struct xpair *x, float32x4_t acc[8],
                       const int kind)
{
    UNROLL
    for (int b = 0; b < 8; b++) {
        int32x4_t dot[2], zero = vdupq_n_s32(0), isum;
        UNROLL
        for (int i = 0; i < 2; i++) {
            const int h = 2 * b + i;
            dot[i] =
                i && !(kind & W_HALF) ? dot[0] : zero; /* the second half on top of the first */
            dot[i] = vmmlaq_s32(dot[i], w->q[h][0], x->q[h][0]);
            dot[i] = vmmlaq_s32(dot[i], w->q[h][1], x->q[h][1]);
        }
        isum = kind & W_HALF ? vmlaq_s32(vmulq_s32(dot[0], w->sc[2 * b]), dot[1], w->sc[2 * b + 1])
                             : dot[1];
        acc[b] = vfmaq_f32(acc[b], vcvtq_f32_s32(isum), vmulq_f32(w->d[b], x->d[b]));
        if (kind == W_MIN)
            acc[b] = vfmaq_f32(acc[b], w->m[b], x->ds[b]);
        if (kind == W_HALF_MIN) {
            int32x4_t msum = vmlaq_s32(vmulq_s32(w->mn[2 * b], x->sum[2 * b]), w->mn[2 * b + 1],
                                       x->sum[2 * b + 1]);
            acc[b] = vfmaq_f32(acc[b], w->m[b], vmulq_f32(x->d[b], vcvtq_f32_s32(msum)));
        }
    }
}

/* Register l takes in register l + half: ref's order. */
INLINED float32x4_t fold_registers(const float32x4_t a[8])
{
    float32x4_t b0 = vaddq_f32(a[0], a[4]), b1 = vaddq_f32(a[1], a[5]);
    float32x4_t b2 = vaddq_f32(a[2], a[6]), b3 = vaddq_f32(a[3], a[7]);
    return vaddq_f32(vaddq_f32(b0, b2), vaddq_f32(b1, b3));
}

/* Up to QUANT_CHUNK columns from c on of rows r0 and r1 (which may be the same), times n_tok
 * tokens: added to y0 and y1. */
INLINED void chunk_rows(const char *r0, const char *r1, uint32_t c, uint32_t end, uint32_t n_cols,
                        const size_t group_bytes, load_fn load, const int kind,
                        const struct xpair x[PAIRS][CHUNK_GROUPS], uint32_t n_tok, float *y0,
                        float *y1, size_t ld_y)
{
    float32x4_t acc[PAIRS][8];
    char last[8 * sizeof(struct block_q8_0)];
    struct wregs w[2];
    struct wpair p;
    const uint32_t n_pairs = (n_tok + 1) / 2;
    for (uint32_t t = 0; t < n_pairs; t++)
        for (int b = 0; b < 8; b++)
            acc[t][b] = vdupq_n_f32(0);
    for (uint32_t g = 0; c < end; c += 256, g++) {
        load(group_at(r0, c, n_cols, group_bytes, last, sizeof(last)), &w[0]);
        load(group_at(r1, c, n_cols, group_bytes, last, sizeof(last)), &w[1]);
        wpair_set(&p, w, kind);
        for (uint32_t t = 0; t < n_pairs; t++)
            pair_step(&p, &x[t][g], acc[t], kind);
    }
    for (uint32_t t = 0; t < n_tok; t++) {
        float v[4];
        vst1q_f32(v, fold_registers(acc[t / 2]));
        y0[t * ld_y] += v[t % 2];
        if (r1 != r0)
            y1[t * ld_y] += v[2 + t % 2];
    }
}

/* All rows, times up to 2 * PAIRS tokens. */
INLINED void tile_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1, const char *x,
                         size_t x_row_bytes, uint32_t n_tok, float *y, size_t ld_y,
                         const size_t group_bytes, load_fn load, const int kind)
{
    struct xpair xs[PAIRS][CHUNK_GROUPS];
    for (uint32_t t = 0; t < n_tok; t++)
        memset(y + t * ld_y, 0, sizeof(*y) * (row1 - row0));
    for (uint32_t c = 0, end; c < w->n_cols; c = end) {
        end = MIN_OF(w->n_cols, c + QUANT_CHUNK);
        for (uint32_t t = 0; t < n_tok; t += 2) { /* the last of an odd number goes with itself */
            const char *x0 = x + t * x_row_bytes, *x1 = t + 1 < n_tok ? x0 + x_row_bytes : x0;
            for (uint32_t g = c / 256; g * 256 < end; g++)
                xpair_set(&xs[t / 2][g - c / 256], (const struct act_q8 *)x0 + g,
                          (const struct act_q8 *)x1 + g);
        }
        for (uint32_t r = row0; r < row1; r += 2) {
            const char *r0 = (const char *)w->data + r * w->row_bytes;
            const char *r1 = r + 1 < row1 ? r0 + w->row_bytes : r0;
            float *y0 = y + (r - row0);
            chunk_rows(r0, r1, c, end, w->n_cols, group_bytes, load, kind, xs, n_tok, y0, y0 + 1,
                       ld_y);
        }
    }
}

#define X(TYPE, LOAD, KIND)                                                                        \
    static void many_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                \
                            const struct kern_act *x, float *y, size_t ld_y)                       \
    {                                                                                              \
        if (x->n_tok == 1) {                                                                       \
            matmul_##TYPE(w, row0, row1, x, y, ld_y);                                              \
            return;                                                                                \
        }                                                                                          \
        for (uint32_t t = 0; t < x->n_tok; t += 2 * PAIRS)                                         \
            tile_matmul(w, row0, row1, (const char *)x->rows + t * x->row_bytes, x->row_bytes,     \
                        MIN_OF(x->n_tok - t, 2u * PAIRS), y + t * ld_y, ld_y, GROUP_BYTES_##TYPE,  \
                        LOAD, KIND);                                                               \
    }
QUANT_LOADERS(X)
#undef X

void quant_i8mm_fill(struct kern *k)
{
    quant_fill(k);
#define X(TYPE, ...) k->matmul[DTYPE_##TYPE] = many_##TYPE;
    QUANT_LOADERS(X)
#undef X
}
