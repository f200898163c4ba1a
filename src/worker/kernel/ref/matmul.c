/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products in plain C: the definition of the order in which every level adds up.
 *
 * Quantised weights: column c belongs to block c / 32; integers are exact within a block, and block
 * b adds to float lane b % 8 (unpack.h gives the terms); every QUANT_CHUNK columns the lanes fold
 * and add to the result.  All levels but amx (x86/amx/quant_impl.h) do just this, so they agree bit
 * for bit.  Float weights: column c adds to lane c % 16, in ascending order; other levels fuse
 * multiply and add.  In the end lane l takes in lane l + half, halving until one is left.  Any
 * thread; see kern.h. */
#include <math.h>

#include "worker/kernel/panels.h"
#include "worker/kernel/ref/ref.h"
#include "worker/kernel/unpack.h"

enum {
    TOKENS = 8,            /* tokens that share one unpacking of a weight row */
    SLAB_BYTES = 128 << 10 /* weights kept in cache while all tokens pass over them */
};

static float fold(float *lane, int n)
{
    for (int half = n / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static uint32_t slab_rows(const struct kern_mat *w)
{
    size_t n = SLAB_BYTES / (w->row_bytes + 1);
    return n < 1 ? 1 : (uint32_t)n;
}

/* Block b of a group: see unpack.h. */
static inline float block_add(const struct wgroup *g, const struct act_q8 *x, uint32_t b,
                              enum weight_kind kind, float acc)
{
    const bool half = kind & W_HALF;
    int32_t isum = 0, msum = 0;
    for (uint32_t h = 2 * b; h < 2 * b + 2; h++) {
        int32_t dot = 0;
        for (uint32_t i = 0; i < 16; i++)
            dot += g->q[16 * h + i] * x->q[act_q8_at(16 * h + i)];
        isum += half ? g->sc[h] * dot : dot;
        msum += kind == W_HALF_MIN ? g->mn[h] * x->sum[h] : 0;
    }
    const float d = half ? g->d[b] : g->d[b] * (float)g->sc[2 * b];
    acc = fmaf((float)isum, d * x->d[b], acc);
    if (!(kind & W_MIN))
        return acc;
    const float m = half ? g->m[b] : g->m[b] * (float)g->mn[2 * b];
    return fmaf(m, half ? x->d[b] * (float)msum : x->ds[b], acc);
}

/* Group i of row r of a matrix; from panels it is put together in buf. */
static inline const char *quant_group(const struct kern_mat *w, uint32_t r, uint32_t i,
                                      size_t group_bytes, bool panels, char buf[PANELS_GROUP_MAX])
{
    if (!panels)
        return (const char *)w->data + r * w->row_bytes + i * group_bytes;
    const size_t strip = r / PANELS_ROWS * panels_strip_bytes(w->type, w->n_cols);
    panels_row_group(w->type, (const char *)w->panels + strip, r % PANELS_ROWS, w->n_cols, i, buf);
    return buf;
}

/* Weight row r times up to TOKENS tokens. */
static inline void quant_row(const struct kern_mat *w, uint32_t r, size_t group_bytes,
                             unpack_fn unpack, enum weight_kind kind, bool panels, const char *x,
                             size_t x_row_bytes, uint32_t n_tok, float *y, size_t ld_y)
{
    const uint32_t n_cols = w->n_cols;
    float total[TOKENS] = {0}, acc[TOKENS][8] = {{0}};
    for (uint32_t c = 0, i = 0; c < n_cols; c += 256, i++) {
        uint32_t nb = MIN_OF(n_cols - c, 256u) / 32;
        struct wgroup g;
        char buf[PANELS_GROUP_MAX];
        unpack(quant_group(w, r, i, group_bytes, panels, buf), nb, &g);
        const bool last = (c + 256) % QUANT_CHUNK == 0 || n_cols - c <= 256;
        for (uint32_t t = 0; t < n_tok; t++) {
            const struct act_q8 *xg = (const struct act_q8 *)(x + t * x_row_bytes) + i;
            for (uint32_t b = 0; b < nb; b++)
                acc[t][b] = block_add(&g, xg, b, kind, acc[t][b]);
            if (!last)
                continue;
            total[t] += fold(acc[t], 8);
            memset(acc[t], 0, sizeof(acc[t]));
        }
    }
    for (uint32_t t = 0; t < n_tok; t++)
        y[t * ld_y] = total[t];
}

static inline void quant_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                                const struct kern_act *x, float *y, size_t ld_y, size_t group_bytes,
                                unpack_fn unpack, enum weight_kind kind, bool panels)
{
    for (uint32_t r0 = row0, r1; r0 < row1; r0 = r1) {
        r1 = r0 + MIN_OF(slab_rows(w), row1 - r0);
        for (uint32_t t = 0; t < x->n_tok; t += TOKENS) {
            const char *xt = (const char *)x->rows + t * x->row_bytes;
            for (uint32_t r = r0; r < r1; r++)
                quant_row(w, r, group_bytes, unpack, kind, panels, xt, x->row_bytes,
                          MIN_OF(x->n_tok - t, (uint32_t)TOKENS), y + t * ld_y + (r - row0), ld_y);
        }
    }
}

#define X(TYPE, UNPACK, KIND)                                                                      \
    static void matmul_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        quant_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, UNPACK, KIND, false);          \
    }                                                                                              \
    static void panels_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        quant_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, UNPACK, KIND, true);           \
    }
QUANT_TYPES(X)
#undef X

static inline float load_F32(const char *row, uint32_t c)
{
    float f;
    memcpy(&f, row + 4 * (size_t)c, sizeof(f));
    return f;
}

static inline uint16_t load_16(const char *row, uint32_t c)
{
    uint16_t h;
    memcpy(&h, row + 2 * (size_t)c, sizeof(h));
    return h;
}

static inline float load_F16(const char *row, uint32_t c)
{
    return f32_from_f16(load_16(row, c));
}

static inline float load_BF16(const char *row, uint32_t c)
{
    return f32_from_bf16(load_16(row, c));
}

static inline void float_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                                const struct kern_act *x, float *y, size_t ld_y,
                                float (*load)(const char *, uint32_t))
{
    for (uint32_t r = row0; r < row1; r++) {
        const char *row = (const char *)w->data + r * w->row_bytes;
        for (uint32_t t = 0; t < x->n_tok; t++) {
            const float *xt = (const float *)((const char *)x->rows + t * x->row_bytes);
            float acc[16] = {0};
            for (uint32_t c = 0; c < w->n_cols; c++)
                acc[c % 16] += load(row, c) * xt[c];
            y[t * ld_y + (r - row0)] = fold(acc, 16);
        }
    }
}

#define X(TYPE)                                                                                    \
    static void matmul_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        float_matmul(w, row0, row1, x, y, ld_y, load_##TYPE);                                      \
    }
FLOAT_TYPES(X)
#undef X

void ref_matmul_fill(struct kern *k)
{
#define X(TYPE, UNPACK, KIND)                                                                      \
    k->matmul[DTYPE_##TYPE] = matmul_##TYPE;                                                       \
    k->matmul_panels[DTYPE_##TYPE] = panels_##TYPE;                                                \
    k->act_for[DTYPE_##TYPE] = ACT_Q8;
    QUANT_TYPES(X)
#undef X
#define X(TYPE)                                                                                    \
    k->matmul[DTYPE_##TYPE] = matmul_##TYPE;                                                       \
    k->act_for[DTYPE_##TYPE] = ACT_F32;
    FLOAT_TYPES(X)
#undef X
}
