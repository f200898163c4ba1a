/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with quantised weights as they lie in the file; included once by each quant_*.c,
 * after dot4().  Bit for bit ref/matmul.c: integers are exact, and one float lane belongs to each
 * of 8 blocks.
 *
 * A group of 256 weights is unpacked once into 16 registers and turned so that, as in struct
 * act_q8, a 32-bit lane belongs to one half block; then it is multiplied with that group of several
 * tokens and nothing has to be added up across lanes. */
#include "worker/kernel/arm/load_impl.h"

enum { TILE_TOKENS = 8, SLAB_BYTES = 128 << 10, PREFETCH_BYTES = 1024 };

/* A group as the product takes it: [h][k][j] = 32-bit item j of half h of blocks 4 k .. 4 k + 3. */
struct pregs {
    int8x16_t q[2][2][4];
    float32x4_t d[2], m[2];
    int32x4_t sc[2][2];
    int16x8_t mn[2];
};

/* out[j] lane i = item j of r[i] */
INLINED void turn(int8x16_t r0, int8x16_t r1, int8x16_t r2, int8x16_t r3, int8x16_t out[4])
{
    int32x4_t a = vreinterpretq_s32_s8(r0), b = vreinterpretq_s32_s8(r1);
    int32x4_t c = vreinterpretq_s32_s8(r2), d = vreinterpretq_s32_s8(r3);
    int64x2_t ab0 = vreinterpretq_s64_s32(vtrn1q_s32(a, b));
    int64x2_t ab1 = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    int64x2_t cd0 = vreinterpretq_s64_s32(vtrn1q_s32(c, d));
    int64x2_t cd1 = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    out[0] = vreinterpretq_s8_s64(vtrn1q_s64(ab0, cd0));
    out[1] = vreinterpretq_s8_s64(vtrn1q_s64(ab1, cd1));
    out[2] = vreinterpretq_s8_s64(vtrn2q_s64(ab0, cd0));
    out[3] = vreinterpretq_s8_s64(vtrn2q_s64(ab1, cd1));
}

INLINED void pregs_set(struct pregs *p, const struct wregs *w, const int kind)
{
    UNROLL
    for (int k = 0; k < 2; k++) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            const int8x16_t *q = w->q + 8 * k + h;
            turn(q[0], q[2], q[4], q[6], p->q[h][k]);
        }
        p->d[k] = vld1q_f32(w->d + 4 * k);
        if (kind & W_MIN)
            p->m[k] = vld1q_f32(w->m + 4 * k);
        if (kind & W_HALF) {
            int16x8x2_t sc = vld2q_s16(w->sc); /* the first halves', the second halves' */
            p->sc[0][k] = vmovl_s16(k ? vget_high_s16(sc.val[0]) : vget_low_s16(sc.val[0]));
            p->sc[1][k] = vmovl_s16(k ? vget_high_s16(sc.val[1]) : vget_low_s16(sc.val[1]));
        }
        if (kind == W_HALF_MIN)
            p->mn[k] = vld1q_s16(w->mn + 8 * k);
    }
}

/* acc[b] += D dx I + M for blocks 4 k .. 4 k + 3: unpack.h */
INLINED float32x4_t step(const struct pregs *p, const struct act_q8 *x, const int k,
                         float32x4_t acc, const int kind)
{
    int32x4_t dot[2];
    UNROLL
    for (int h = 0; h < 2; h++) {
        dot[h] = vdupq_n_s32(0);
        UNROLL
        for (int j = 0; j < 4; j++)
            dot[h] = dot4(dot[h], p->q[h][k][j], vld1q_s8(x->q + 64 * j + 32 * h + 16 * k));
    }
    int32x4_t isum = kind & W_HALF ? vmlaq_s32(vmulq_s32(dot[0], p->sc[0][k]), dot[1], p->sc[1][k])
                                   : vaddq_s32(dot[0], dot[1]);
    float32x4_t dx = vld1q_f32(x->d + 4 * k);
    acc = vfmaq_f32(acc, vcvtq_f32_s32(isum), vmulq_f32(p->d[k], dx));
    if (!(kind & W_MIN))
        return acc;
    if (!(kind & W_HALF))
        return vfmaq_f32(acc, p->m[k], vld1q_f32(x->ds + 4 * k));
    int16x8_t sums = vld1q_s16(x->sum + 8 * k);
    int32x4_t msum = vpaddq_s32(vmull_s16(vget_low_s16(sums), vget_low_s16(p->mn[k])),
                                vmull_high_s16(sums, p->mn[k]));
    return vfmaq_f32(acc, p->m[k], vmulq_f32(dx, vcvtq_f32_s32(msum)));
}

/* Lane l takes in lane l + half: ref's order. */
INLINED float fold8(const float32x4_t acc[2])
{
    float32x4_t v = vaddq_f32(acc[0], acc[1]);
    float32x2_t x = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
}

/* One weight row times T tokens (a constant), or n_tok < TILE_TOKENS tokens where T is 0. */
INLINED void quant_row(const char *row, uint32_t n_cols, const size_t group_bytes, load_fn load,
                       const int kind, const char *x, size_t x_row_bytes, const uint32_t T,
                       uint32_t n_tok, float *y, size_t ld_y)
{
    float32x4_t acc[TILE_TOKENS][2];
    char last[8 * sizeof(struct block_q8_0)];
    struct wregs w;
    struct pregs p;
    const uint32_t n = T ? T : n_tok;
    for (uint32_t t = 0; t < n; t++)
        y[t * ld_y] = 0;
    for (uint32_t c = 0, end; c < n_cols; c = end) {
        end = MIN_OF(n_cols, c + QUANT_CHUNK);
        for (uint32_t t = 0; t < n; t++)
            acc[t][0] = acc[t][1] = vdupq_n_f32(0);
        for (; c < end; c += 256, x += sizeof(struct act_q8)) {
            for (size_t o = 0; o < group_bytes; o += 64)
                __builtin_prefetch(row + c / 256 * group_bytes + PREFETCH_BYTES + o);
            load(group_at(row, c, n_cols, group_bytes, last, sizeof(last)), &w);
            pregs_set(&p, &w, kind);
            for (uint32_t t = 0; t < n; t++) {
                const struct act_q8 *xt = (const struct act_q8 *)(x + t * x_row_bytes);
                acc[t][0] = step(&p, xt, 0, acc[t][0], kind);
                acc[t][1] = step(&p, xt, 1, acc[t][1], kind);
            }
        }
        for (uint32_t t = 0; t < n; t++)
            y[t * ld_y] += fold8(acc[t]);
    }
}

INLINED void quant_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, const int kind)
{
    const uint32_t slab = (uint32_t)MAX_OF(SLAB_BYTES / (w->row_bytes + 1), (size_t)1);
#define ROW(T, n)                                                                                  \
    quant_row((const char *)w->data + r * w->row_bytes, w->n_cols, group_bytes, load, kind, xt,    \
              x->row_bytes, T, n, yt + (r - row0), ld_y)
    for (uint32_t r0 = row0, r1; r0 < row1; r0 = r1) {
        r1 = r0 + MIN_OF(slab, row1 - r0);
        for (uint32_t t = 0, n; t < x->n_tok; t += n) {
            const char *xt = (const char *)x->rows + t * x->row_bytes;
            float *yt = y + t * ld_y;
            n = MIN_OF(x->n_tok - t, (uint32_t)TILE_TOKENS);
            if (n == 1)
                for (uint32_t r = r0; r < r1; r++)
                    ROW(1, 1);
            else
                for (uint32_t r = r0; r < r1; r++)
                    ROW(0, n);
        }
    }
#undef ROW
}

#define X(TYPE, LOAD, KIND)                                                                        \
    static void matmul_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        quant_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, KIND);                   \
    }
QUANT_LOADERS(X)
#undef X

static void quant_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul[DTYPE_##TYPE] = matmul_##TYPE;
    QUANT_LOADERS(X)
#undef X
}
