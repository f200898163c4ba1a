/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in v16; included once by attn_avx2.c and attn_avx512.c, which say how many rows and
 * vectors a register tile has (TILE_ROWS, TILE_VECS).  The order of ref/attn.c but for fused
 * multiply-adds and sums kept in 16 lanes: what a register tile holds changes no value.
 *
 * Query rows (positions times heads) pass together over each tile of keys and values: a small
 * matrix product for the scores, the softmax row by row, another product for the values.  Positions
 * that a row does not see weigh exactly 0. */
#include <math.h>

#include "worker/kernel/attn.h"
#include "worker/kernel/blocks.h"
#include "worker/kernel/x86/x86.h"

struct job {
    const struct kern_attn *a;
    struct attn_rows rows;
    float *q, *p;       /* [n][q_step] scaled, [n][ATTN_TILE] */
    float *now, *total; /* [n] records: of this range, of those before */
    size_t q_step, rec_step;
    uint32_t v_wide; /* v_dim up to a multiple of 16 */
};

/* The tile's memory: groups of positions that some row sees. */
struct tile {
    const char *k[ATTN_GROUPS], *v[ATTN_GROUPS];
    uint32_t p0, n; /* first position, how many */
};

static void job_init(struct job *j, const struct kern_attn *a, uint32_t g0, uint32_t n_g)
{
    *j = (struct job){.a = a,
                      .rows = {g0, n_g, n_g * a->n_pos},
                      .q_step = attn_q_floats(a->k_dim),
                      .rec_step = attn_rec_floats(a->v_dim),
                      .v_wide = (a->v_dim + 15) / 16 * 16};
    j->q = a->scratch;
    j->p = j->q + ATTN_ROWS * j->q_step;
    j->now = j->p + ATTN_ROWS * ATTN_TILE;
    j->total = j->now + ATTN_ROWS * j->rec_step;
    for (uint32_t r = 0; r < j->rows.n; r++) {
        const float *src = a->q + r / n_g * a->q_stride + (size_t)(g0 + r % n_g) * a->k_dim;
        float *q = j->q + r * j->q_step;
        for (uint32_t d = 0; d < a->k_dim; d++)
            q[d] = src[d] * a->scale;
    }
}

static void recs_clear(const struct job *j, float *recs, uint32_t first, uint32_t end)
{
    memset(recs + first * j->rec_step, 0, sizeof(float) * (end - first) * j->rec_step);
    for (uint32_t r = first; r < end; r++)
        recs[r * j->rec_step] = ATTN_MIN;
}

static float exp1(float x)
{
    float t[16];
    v16_store(t, v16_exp(v16_set1(x)));
    return t[0];
}

/* ---- scores ---- */

INLINED v16 k_load(const char *group, uint32_t d, v16 scale, enum kv_type type)
{
    switch (type) {
    case KV_F32: return v16_load(group + (size_t)d * 64);
    case KV_F16: return v16_load_f16(group + (size_t)d * 32);
    case KV_BF16: return v16_load_bf16(group + (size_t)d * 32);
    default:
        return v16_mul(scale, v16_load_i8(group + (size_t)(d / QK) * KV_LANES * (2 + QK) +
                                          2 * KV_LANES + (size_t)(d % QK) * KV_LANES));
    }
}

/* Scores of n_r rows from r on with n_v groups from g on. */
INLINED void scores_tile(const struct job *j, const struct tile *t, uint32_t r, const uint32_t n_r,
                         uint32_t g, const uint32_t n_v, enum kv_type type)
{
    const float *q = j->q + r * j->q_step;
    const uint32_t k_dim = j->a->k_dim;
    v16 acc[TILE_ROWS][TILE_VECS], scale[TILE_VECS], k[TILE_VECS];
    UNROLL
    for (uint32_t i = 0; i < n_r; i++) {
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            acc[i][v] = v16_zero();
    }
    for (uint32_t d = 0; d < k_dim;) {
        const uint32_t end = type == KV_Q8_0 ? d + QK : k_dim;
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            scale[v] = type == KV_Q8_0
                           ? v16_load_f16(t->k[g + v] + (size_t)(d / QK) * KV_LANES * (2 + QK))
                           : v16_zero();
        for (; d < end; d++) {
            UNROLL
            for (uint32_t v = 0; v < n_v; v++)
                k[v] = k_load(t->k[g + v], d, scale[v], type);
            UNROLL
            for (uint32_t i = 0; i < n_r; i++) {
                const v16 x = v16_set1(q[i * j->q_step + d]);
                UNROLL
                for (uint32_t v = 0; v < n_v; v++)
                    acc[i][v] = v16_fma(x, k[v], acc[i][v]);
            }
        }
    }
    UNROLL
    for (uint32_t i = 0; i < n_r; i++) {
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            v16_store(j->p + (size_t)(r + i) * ATTN_TILE + (g + v) * 16, acc[i][v]);
    }
}

INLINED void scores_rows(const struct job *j, const struct tile *t, uint32_t r, const uint32_t n_r,
                         enum kv_type type)
{
    const uint32_t n_groups = (t->n + 15) / 16;
    uint32_t g = 0;
    for (; g + TILE_VECS <= n_groups; g += TILE_VECS)
        scores_tile(j, t, r, n_r, g, TILE_VECS, type);
    for (; g < n_groups; g++)
        scores_tile(j, t, r, n_r, g, 1, type);
}

/* ---- softmax ---- */

/* What row r does not see of the tile becomes -infinity. */
static void hide(const struct job *j, const struct tile *t, uint32_t r)
{
    float *p = j->p + (size_t)r * ATTN_TILE;
    const uint32_t pos = attn_row_pos(j->a, &j->rows, r), first = attn_first(pos, j->a->window);
    for (uint32_t i = 0; t->p0 + i < first && i < ATTN_TILE; i++)
        p[i] = -INFINITY;
    for (uint32_t i = pos - t->p0 + 1; i < ATTN_TILE; i++)
        p[i] = -INFINITY;
}

static void soften(const struct job *j, const struct tile *t, uint32_t r)
{
    float *p = j->p + (size_t)r * ATTN_TILE, *rec = j->now + r * j->rec_step;
    const uint32_t pos = attn_row_pos(j->a, &j->rows, r);
    const float cap = j->a->softcap;
    v16 s[ATTN_GROUPS];
    if (cap > 0)
        for (uint32_t i = 0; i < t->n; i += 16)
            v16_store(p + i,
                      v16_mul(v16_set1(cap), v16_tanh(v16_div(v16_load(p + i), v16_set1(cap)))));
    if (pos < t->p0 + ATTN_TILE - 1 || attn_first(pos, j->a->window) > t->p0)
        hide(j, t, r);
    UNROLL
    for (uint32_t i = 0; i < ATTN_GROUPS; i++)
        s[i] = v16_load(p + 16 * i);
    float top = v16_fold_max(v16_max(v16_max(s[0], s[1]), v16_max(s[2], s[3])));
    top = top > rec[0] ? top : rec[0];
    UNROLL
    for (uint32_t i = 0; i < ATTN_GROUPS; i++) {
        s[i] = v16_exp(v16_sub(s[i], v16_set1(top)));
        v16_store(p + 16 * i, s[i]);
    }
    if (top > rec[0]) {
        const v16 back = v16_set1(exp1(rec[0] - top));
        for (size_t i = REC_SUM; i < j->rec_step; i += 16)
            v16_store(rec + i, v16_mul(v16_load(rec + i), back));
        rec[0] = top;
    }
    v16_store(rec + REC_SUM,
              v16_add(v16_load(rec + REC_SUM), v16_add(v16_add(s[0], s[1]), v16_add(s[2], s[3]))));
}

/* ---- values ---- */

INLINED v16 v_load(const char *row, uint32_t d, enum kv_type type)
{
    switch (type) {
    case KV_F32: return v16_load(row + (size_t)d * 4);
    case KV_F16: return v16_load_f16(row + (size_t)d * 2);
    case KV_BF16: return v16_load_bf16(row + (size_t)d * 2);
    default: {
        const char *block = row + (size_t)(d / QK) * (2 + QK);
        uint16_t scale;
        memcpy(&scale, block, sizeof(scale));
        return v16_mul(v16_set1(v1_from_f16(scale)), v16_load_i8(block + 2 + d % QK));
    }
    }
}

/* Elements d .. d + 16 n_v of the weighted sums of n_r rows from r on. */
INLINED void values_tile(const struct job *j, const struct tile *t, uint32_t r, const uint32_t n_r,
                         uint32_t d, const uint32_t n_v, enum kv_type type)
{
    float *out = j->now + r * j->rec_step + REC_OUT + d;
    const float *p = j->p + (size_t)r * ATTN_TILE;
    const size_t step = j->a->v_row_stride_bytes;
    v16 acc[TILE_ROWS][TILE_VECS], x[TILE_VECS];
    UNROLL
    for (uint32_t i = 0; i < n_r; i++) {
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            acc[i][v] = v16_load(out + i * j->rec_step + 16 * v);
    }
    for (uint32_t c = 0; c < t->n; c++) {
        const char *row = t->v[c / KV_LANES] + c % KV_LANES * step;
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            x[v] = v_load(row, d + 16 * v, type);
        UNROLL
        for (uint32_t i = 0; i < n_r; i++) {
            const v16 w = v16_set1(p[i * ATTN_TILE + c]);
            UNROLL
            for (uint32_t v = 0; v < n_v; v++)
                acc[i][v] = v16_fma(w, x[v], acc[i][v]);
        }
    }
    UNROLL
    for (uint32_t i = 0; i < n_r; i++) {
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            v16_store(out + i * j->rec_step + 16 * v, acc[i][v]);
    }
}

INLINED void values_rows(const struct job *j, const struct tile *t, uint32_t r, const uint32_t n_r,
                         enum kv_type type)
{
    uint32_t d = 0;
    for (; d + 16 * TILE_VECS <= j->v_wide; d += 16 * TILE_VECS)
        values_tile(j, t, r, n_r, d, TILE_VECS, type);
    for (; d < j->v_wide; d += 16)
        values_tile(j, t, r, n_r, d, 1, type);
}

/* ---- tiles and ranges ---- */

static void tile_at(const struct kern_attn *a, uint32_t p0, struct tile *t)
{
    const uint32_t last = a->pos + a->n_pos - 1;
    *t = (struct tile){.p0 = p0, .n = MIN_OF(last - p0 + 1, (uint32_t)ATTN_TILE)};
    for (uint32_t g = 0; g * KV_LANES < t->n; g++) {
        t->k[g] = attn_k_group(a, p0 + g * KV_LANES);
        t->v[g] = attn_v_group(a, p0 + g * KV_LANES);
    }
}

/* The rest of the rows, fewer than TILE_ROWS, in tiles of constant size. */
#if TILE_ROWS == 6
#define MORE_REST(fn)                                                                              \
    case 5: fn(j, t, r, 5, type); break;                                                           \
    case 4: fn(j, t, r, 4, type); break;                                                           \
    case 3: fn(j, t, r, 3, type); break;                                                           \
    case 2:                                                                                        \
        fn(j, t, r, 2, type);                                                                      \
        break;
#elif TILE_ROWS == 2
#define MORE_REST(fn)
#endif
#define ROWS_OF(fn, left)                                                                          \
    switch (left) {                                                                                \
        MORE_REST(fn)                                                                              \
    case 1: fn(j, t, r, 1, type); break;                                                           \
    default: break;                                                                                \
    }

INLINED void run_tile(const struct job *j, const struct tile *t, uint32_t r0, uint32_t r1,
                      enum kv_type type)
{
    uint32_t r = r0;
    for (; r + TILE_ROWS <= r1; r += TILE_ROWS)
        scores_rows(j, t, r, TILE_ROWS, type);
    ROWS_OF(scores_rows, r1 - r)
    for (r = r0; r < r1; r++)
        soften(j, t, r);
    for (r = r0; r + TILE_ROWS <= r1; r += TILE_ROWS)
        values_rows(j, t, r, TILE_ROWS, type);
    ROWS_OF(values_rows, r1 - r)
}

/* What the rows see of a range, into j->now; the rows that see any: *ret_first to before *ret_end.
 */
INLINED void run_range(const struct job *j, uint32_t range, enum kv_type type, uint32_t *ret_first,
                       uint32_t *ret_end)
{
    const uint32_t p0 = range * ATTN_RANGE, last = j->a->pos + j->a->n_pos - 1;
    attn_seeing(j->a, &j->rows, p0, p0 + ATTN_RANGE, ret_first, ret_end);
    recs_clear(j, j->now, *ret_first, *ret_end);
    for (uint32_t i = 0; i < ATTN_RANGE / ATTN_TILE && p0 + i * ATTN_TILE <= last; i++) {
        const uint32_t p = p0 + i * ATTN_TILE;
        uint32_t r0, r1;
        struct tile t;
        attn_seeing(j->a, &j->rows, p, p + ATTN_TILE, &r0, &r1);
        if (r0 == r1)
            continue;
        tile_at(j->a, p, &t);
        run_tile(j, &t, r0, r1, type);
    }
}

static void rec_join(const struct job *j, float *total, const float *part)
{
    const float max = total[0] > part[0] ? total[0] : part[0];
    const v16 back = v16_set1(exp1(total[0] - max)), scale = v16_set1(exp1(part[0] - max));
    for (size_t i = REC_SUM; i < j->rec_step; i += 16)
        v16_store(total + i,
                  v16_fma(v16_load(part + i), scale, v16_mul(v16_load(total + i), back)));
    total[0] = max;
}

/* Divides by the sum, with the sink's part in it. */
static void finish(const struct job *j, const float *total, uint32_t r)
{
    const struct kern_attn *a = j->a;
    const uint32_t g = j->rows.g0 + r % j->rows.n_g;
    const float sum = v16_fold(v16_load(total + REC_SUM));
    float scale = 1.0f / sum,
          *out = a->out + r / j->rows.n_g * a->out_stride + (size_t)g * a->v_dim;
    if (a->sinks) {
        float top = total[0] > a->sinks[g] ? total[0] : a->sinks[g], back = expf(total[0] - top);
        scale = back / (sum * back + expf(a->sinks[g] - top));
    }
    for (uint32_t d = 0; d < a->v_dim; d++)
        out[d] = total[REC_OUT + d] * scale;
}

INLINED void attn(const struct kern_attn *a, enum kv_type type)
{
    const uint32_t first = attn_first(a->pos, a->window) / ATTN_RANGE,
                   last = (a->pos + a->n_pos - 1) / ATTN_RANGE;
    for (uint32_t g = 0; g < a->n_group; g += ATTN_ROWS) {
        struct job j;
        job_init(&j, a, g, MIN_OF(a->n_group - g, (uint32_t)ATTN_ROWS));
        recs_clear(&j, j.total, 0, j.rows.n);
        for (uint32_t range = first; range <= last; range++) {
            uint32_t r0, r1;
            run_range(&j, range, type, &r0, &r1);
            for (uint32_t r = r0; r < r1; r++)
                rec_join(&j, j.total + r * j.rec_step, j.now + r * j.rec_step);
        }
        for (uint32_t r = 0; r < j.rows.n; r++)
            finish(&j, j.total + r * j.rec_step, r);
    }
}

INLINED void attn_part(const struct kern_attn *a, uint32_t range, float *part, enum kv_type type)
{
    for (uint32_t g = 0; g < a->n_group; g += ATTN_ROWS) {
        struct job j;
        uint32_t r0, r1;
        job_init(&j, a, g, MIN_OF(a->n_group - g, (uint32_t)ATTN_ROWS));
        j.now = part + g * j.rec_step;
        run_range(&j, range, type, &r0, &r1);
    }
}

static void attn_join(const struct kern_attn *a, uint32_t n_ranges, const float *parts)
{
    struct job j = {.a = a,
                    .rows = {0, a->n_group, a->n_group},
                    .total = a->scratch,
                    .rec_step = attn_rec_floats(a->v_dim)};
    for (uint32_t g = 0; g < a->n_group; g++) {
        recs_clear(&j, j.total, 0, 1);
        for (uint32_t r = 0; r < n_ranges; r++)
            rec_join(&j, j.total, parts + (r * a->n_group + g) * j.rec_step);
        finish(&j, j.total, g);
    }
}

#define OF_TYPE(type, name)                                                                        \
    static void attn_##name(const struct kern_attn *a)                                             \
    {                                                                                              \
        attn(a, type);                                                                             \
    }                                                                                              \
    static void attn_part_##name(const struct kern_attn *a, uint32_t range, float *part)           \
    {                                                                                              \
        attn_part(a, range, part, type);                                                           \
    }
OF_TYPE(KV_F32, f32)
OF_TYPE(KV_F16, f16)
OF_TYPE(KV_BF16, bf16)
OF_TYPE(KV_Q8_0, q8_0)
#undef OF_TYPE

/* ---- float16, the usual cache, stored by vectors; ref stores the others ---- */

static v16 f16_bound(v16 x)
{
    return v16_min(v16_max(x, v16_set1(-65504)), v16_set1(65504));
}

static void store_k_f16(const float *src, void *group, uint32_t lane, uint32_t n)
{
    char *dst = (char *)group + 2 * (size_t)lane;
    for (uint32_t d = 0; d < n; d += 16) {
        const uint32_t n_d = MIN_OF(n - d, 16u);
        uint16_t h[16];
        v16_store_f16(h, f16_bound(n_d == 16 ? v16_load(src + d) : v16_load_n(src + d, n_d)));
        for (uint32_t i = 0; i < n_d; i++)
            memcpy(dst + (size_t)(d + i) * 2 * KV_LANES, &h[i], 2);
    }
}

static void store_v_f16(const float *src, void *row, uint32_t n)
{
    uint32_t d = 0;
    for (; d + 16 <= n; d += 16)
        v16_store_f16((char *)row + 2 * (size_t)d, f16_bound(v16_load(src + d)));
    if (d < n)
        v16_store_f16_n((char *)row + 2 * (size_t)d, n - d, f16_bound(v16_load_n(src + d, n - d)));
}

static void attn_fill(struct kern *k)
{
#define FILL(type, name)                                                                           \
    k->attn[type] = attn_##name;                                                                   \
    k->attn_part[type] = attn_part_##name;
    FILL(KV_F32, f32)
    FILL(KV_F16, f16)
    FILL(KV_BF16, bf16)
    FILL(KV_Q8_0, q8_0)
#undef FILL
    k->attn_join = attn_join;
    k->kv_store_k[KV_F16] = store_k_f16;
    k->kv_store_v[KV_F16] = store_v_f16;
}
