/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in v16; included once by attn_avx2.c and attn_avx512.c, which say how many rows and
 * vectors a register tile has (TILE_ROWS, TILE_VECS).  The order of ref/attn.c but for fused
 * multiply-adds and sums kept in 16 lanes: what a register tile holds changes no value.
 *
 * Query rows (positions times heads) pass together over each tile of keys and values: a small
 * matrix product for the scores, the softmax row by row, another product for the values.  Positions
 * that a row does not see weigh exactly 0, and so does what is below exp(-87) of the largest. Where
 * many rows pass, a tile is turned into float32 once for all of them. */
#include <math.h>

#include "worker/kernel/attn.h"
#include "worker/kernel/blocks.h"
#include "worker/kernel/x86/x86.h"

/* So many rows and more pay for turning a tile into float32. */
#define WIDE_FROM (2 * TILE_ROWS + 1)

struct job {
    const struct kern_attn *a;
    struct attn_rows rows;
    float *q, *p;       /* [n][q_step] scaled, [n][ATTN_TILE] */
    float *now, *total; /* [n] records: of this range, of those before */
    float *back;        /* [n] what the record so far is multiplied by */
    float *wide;        /* a tile's keys, then its values, in float32 */
    size_t q_step, rec_step;
    uint32_t v_wide; /* v_dim up to a multiple of 16 */
};

/* The tile's memory: groups of positions that some row sees. */
struct tile {
    const char *k[ATTN_GROUPS], *v[ATTN_GROUPS];
    size_t v_step;  /* bytes from one position's values to the next's in a group */
    uint32_t p0, n; /* first position, how many */
};

/* y = x * s */
static void scale_to(float *y, const float *x, float s, uint32_t n)
{
    const v16 by = v16_set1(s);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store(y + i, v16_mul(v16_load(x + i), by));
    if (i < n)
        v16_store_n(y + i, n - i, v16_mul(v16_load_n(x + i, n - i), by));
}

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
    j->wide = j->total + ATTN_ROWS * j->rec_step;
    j->back = j->wide + ATTN_TILE * attn_wide_floats(a->k_dim, a->v_dim);
    for (uint32_t r = 0; r < j->rows.n; r++)
        scale_to(j->q + r * j->q_step,
                 a->q + r / n_g * a->q_stride + (size_t)(g0 + r % n_g) * a->k_dim, a->scale,
                 a->k_dim);
}

static void recs_clear(const struct job *j, float *recs, uint32_t first, uint32_t end)
{
    memset(recs + first * j->rec_step, 0, sizeof(float) * (end - first) * j->rec_step);
    for (uint32_t r = first; r < end; r++)
        recs[r * j->rec_step] = ATTN_MIN;
}

/* Of x <= 0. */
static float exp1(float x)
{
    float t[16];
    v16_store(t, v16_exp_weight(v16_set1(x)));
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

/* x with -infinity for what row r does not see of 16 positions from p0 + at on. */
static v16 hide(const struct job *j, const struct tile *t, uint32_t r, uint32_t at, v16 x)
{
    static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint32_t pos = attn_row_pos(j->a, &j->rows, r), first = attn_first(pos, j->a->window);
    const v16 i = v16_load(lanes), none = v16_set1(-INFINITY);
    x = v16_if_less(v16_set1((float)(int)(pos - t->p0 - at)), i, none, x);
    return v16_if_less(i, v16_set1((float)(int)(first - t->p0 - at)), none, x);
}

/* Caps and hides the scores of row r; its largest so far to its record, what that differs by to
 * j->back. */
static void find_top(const struct job *j, const struct tile *t, uint32_t r)
{
    float *p = j->p + (size_t)r * ATTN_TILE, *rec = j->now + r * j->rec_step;
    const uint32_t pos = attn_row_pos(j->a, &j->rows, r);
    const v16 cap = v16_set1(j->a->softcap);
    const bool hides = pos < t->p0 + ATTN_TILE - 1 || attn_first(pos, j->a->window) > t->p0;
    v16 s[ATTN_GROUPS];
    UNROLL
    for (uint32_t i = 0; i < ATTN_GROUPS; i++)
        s[i] = v16_load(p + 16 * i);
    if (j->a->softcap > 0)
        for (uint32_t i = 0; i < ATTN_GROUPS; i++)
            s[i] = v16_mul(cap, v16_tanh(v16_div(s[i], cap)));
    if (hides)
        for (uint32_t i = 0; i < ATTN_GROUPS; i++)
            s[i] = hide(j, t, r, 16 * i, s[i]);
    if (hides || j->a->softcap > 0)
        for (uint32_t i = 0; i < ATTN_GROUPS; i++)
            v16_store(p + 16 * i, s[i]);
    const float top = v16_fold_max(v16_max(v16_max(s[0], s[1]), v16_max(s[2], s[3]))), old = rec[0];
    rec[0] = top > old ? top : old;
    j->back[r] = old - rec[0];
}

/* Scores of row r to weights, and their sums. */
static inline void weigh(const struct job *j, uint32_t r)
{
    float *p = j->p + (size_t)r * ATTN_TILE, *rec = j->now + r * j->rec_step;
    const v16 top = v16_set1(rec[0]);
    v16 s[ATTN_GROUPS];
    UNROLL
    for (uint32_t i = 0; i < ATTN_GROUPS; i++) {
        s[i] = v16_exp_weight(v16_sub(v16_load(p + 16 * i), top));
        v16_store(p + 16 * i, s[i]);
    }
    v16_store(rec + REC_SUM, v16_add(v16_mul(v16_load(rec + REC_SUM), v16_set1(j->back[r])),
                                     v16_add(v16_add(s[0], s[1]), v16_add(s[2], s[3]))));
}

/* Pass by pass over all rows, without a branch that depends on scores: rows overlap. */
static void soften(const struct job *j, const struct tile *t, uint32_t r0, uint32_t r1)
{
    for (uint32_t r = r0; r < r1; r++)
        find_top(j, t, r);
    for (uint32_t r = r0; r < r1; r += 16)
        v16_store(j->back + r, v16_exp_weight(v16_load(j->back + r)));
    for (uint32_t r = r0; r < r1; r++)
        weigh(j, r);
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
    v16 acc[TILE_ROWS][TILE_VECS], x[TILE_VECS];
    UNROLL
    for (uint32_t i = 0; i < n_r; i++) {
        const v16 back = v16_set1(j->back[r + i]);
        UNROLL
        for (uint32_t v = 0; v < n_v; v++)
            acc[i][v] = v16_mul(v16_load(out + i * j->rec_step + 16 * v), back);
    }
    for (uint32_t c = 0; c < t->n;) {
        const uint32_t end = MIN_OF(c + KV_LANES, t->n);
        for (const char *row = t->v[c / KV_LANES]; c < end; row += t->v_step, c++) {
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
    *t = (struct tile){
        .v_step = a->v_row_stride_bytes, .p0 = p0, .n = MIN_OF(last - p0 + 1, (uint32_t)ATTN_TILE)};
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

INLINED void scores(const struct job *j, const struct tile *t, uint32_t r, uint32_t r1,
                    enum kv_type type)
{
    for (; r + TILE_ROWS <= r1; r += TILE_ROWS)
        scores_rows(j, t, r, TILE_ROWS, type);
    ROWS_OF(scores_rows, r1 - r)
}

INLINED void values(const struct job *j, const struct tile *t, uint32_t r, uint32_t r1,
                    enum kv_type type)
{
    for (; r + TILE_ROWS <= r1; r += TILE_ROWS)
        values_rows(j, t, r, TILE_ROWS, type);
    ROWS_OF(values_rows, r1 - r)
}

/* Of a float32 tile: one copy for all types of cache. */
static void scores_wide(const struct job *j, const struct tile *t, uint32_t r0, uint32_t r1)
{
    scores(j, t, r0, r1, KV_F32);
}

static void values_wide(const struct job *j, const struct tile *t, uint32_t r0, uint32_t r1)
{
    values(j, t, r0, r1, KV_F32);
}

/* The tile's keys to j->wide, as a float32 cache has them; t points there. */
INLINED void widen_keys(const struct job *j, struct tile *t, enum kv_type type)
{
    const uint32_t k_dim = j->a->k_dim;
    for (uint32_t g = 0; g * KV_LANES < t->n; g++) {
        float *dst = j->wide + (size_t)g * KV_LANES * k_dim;
        for (uint32_t d = 0; d < k_dim;) {
            const uint32_t end = type == KV_Q8_0 ? d + QK : k_dim;
            const v16 scale = type == KV_Q8_0
                                  ? v16_load_f16(t->k[g] + (size_t)(d / QK) * KV_LANES * (2 + QK))
                                  : v16_zero();
            for (; d < end; d++)
                v16_store(dst + (size_t)d * KV_LANES, k_load(t->k[g], d, scale, type));
        }
        t->k[g] = (const char *)dst;
    }
}

/* The same for the values, once the keys have been used. */
INLINED void widen_values(const struct job *j, struct tile *t, enum kv_type type)
{
    for (uint32_t c = 0; c < t->n; c++) {
        const char *row = t->v[c / KV_LANES] + c % KV_LANES * t->v_step;
        for (uint32_t d = 0; d < j->v_wide; d += 16)
            v16_store(j->wide + (size_t)c * j->v_wide + d, v_load(row, d, type));
    }
    for (uint32_t g = 0; g < ATTN_GROUPS; g++)
        t->v[g] = (const char *)(j->wide + (size_t)g * KV_LANES * j->v_wide);
    t->v_step = sizeof(float) * j->v_wide;
}

INLINED void run_tile(const struct job *j, struct tile *t, uint32_t r0, uint32_t r1,
                      enum kv_type type)
{
    const bool wide = type != KV_F32 && r1 - r0 >= WIDE_FROM;
    if (wide) {
        widen_keys(j, t, type);
        scores_wide(j, t, r0, r1);
    } else {
        scores(j, t, r0, r1, type);
    }
    soften(j, t, r0, r1);
    if (wide) {
        widen_values(j, t, type);
        values_wide(j, t, r0, r1);
    } else {
        values(j, t, r0, r1, type);
    }
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
    const float less = exp1(total[0] > part[0] ? part[0] - max : total[0] - max);
    const v16 back = v16_set1(total[0] > part[0] ? 1 : less),
              scale = v16_set1(total[0] > part[0] ? less : 1);
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
    scale_to(out, total + REC_OUT, scale, a->v_dim);
}

/* What j->now has of a range, to the rows' totals: the first range that a row sees is its total. */
static void join_rows(const struct job *j, uint32_t range, uint32_t first, uint32_t end)
{
    for (uint32_t r = first; r < end; r++) {
        float *total = j->total + r * j->rec_step;
        const float *part = j->now + r * j->rec_step;
        const uint32_t pos = attn_row_pos(j->a, &j->rows, r);
        if (attn_first(pos, j->a->window) / ATTN_RANGE == range)
            memcpy(total, part, sizeof(float) * j->rec_step);
        else
            rec_join(j, total, part);
    }
}

INLINED void attn(const struct kern_attn *a, enum kv_type type)
{
    const uint32_t first = attn_first(a->pos, a->window) / ATTN_RANGE,
                   last = (a->pos + a->n_pos - 1) / ATTN_RANGE;
    for (uint32_t g = 0; g < a->n_group; g += ATTN_ROWS) {
        struct job j;
        uint32_t r0, r1;
        job_init(&j, a, g, MIN_OF(a->n_group - g, (uint32_t)ATTN_ROWS));
        float *now = j.now;
        j.now = j.total; /* nobody saw an earlier range */
        run_range(&j, first, type, &r0, &r1);
        j.now = now;
        for (uint32_t range = first + 1; range <= last; range++) {
            run_range(&j, range, type, &r0, &r1);
            join_rows(&j, range, r0, r1);
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
        memcpy(j.total, parts + g * j.rec_step, sizeof(float) * j.rec_step);
        for (uint32_t r = 1; r < n_ranges; r++)
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
