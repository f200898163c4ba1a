/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over a paged cache, on every level: against softmax in double, independent of where
 * blocks lie and of which positions and heads are computed together, with windows, soft caps, sinks
 * and extreme scores. */
#include "tests/kernel/kernel_test.h"
#include "worker/kernel/blocks.h"

enum { MAX_POS = 700, MAX_DIM = 160, MAX_GROUP = 35 };

/* A cache of one layer and two heads, blocks in random order, and the values it holds as float. */
struct cache {
    enum kv_type type;
    uint32_t block_len, n_blocks, k_dim, v_dim;
    uint32_t table[MAX_POS + 1];
    size_t k_group_bytes, v_row_bytes; /* from one to the next: of two heads */
    char *k, *v;
    float *kf, *vf; /* [pos][dim] */
    float *scratch;
};

static char *k_group(const struct cache *c, uint32_t p)
{
    size_t row = (size_t)c->table[p / c->block_len] * c->block_len + p % c->block_len;
    return c->k + row / KV_LANES * c->k_group_bytes;
}

static char *v_row(const struct cache *c, uint32_t p)
{
    size_t row = (size_t)c->table[p / c->block_len] * c->block_len + p % c->block_len;
    return c->v + row * c->v_row_bytes;
}

static float item_read(const char *p, enum kv_type type)
{
    uint16_t h;
    uint32_t w;
    memcpy(&h, p, 2);
    memcpy(&w, p, type == KV_F32 ? 4 : 2);
    return type == KV_F32   ? f32_from_bits(w)
           : type == KV_F16 ? f32_from_f16(h)
                            : f32_from_bits((uint32_t)h << 16);
}

/* What the cache holds of position p, read by the layout's words in kern.h. */
static void read_back(const struct cache *c, uint32_t p)
{
    const char *k = k_group(c, p), *v = v_row(c, p);
    const uint32_t lane = p % KV_LANES;
    const size_t item = c->type == KV_F32 ? 4 : 2;
    for (uint32_t d = 0; d < c->k_dim; d++) {
        const char *b = k + (size_t)(d / 32) * (16 * 2 + 32 * 16);
        c->kf[(size_t)p * c->k_dim + d] = c->type == KV_Q8_0
                                              ? item_read(b + 2 * (size_t)lane, KV_F16) *
                                                    (float)(int8_t)b[32 + d % 32 * 16 + lane]
                                              : item_read(k + (d * 16 + lane) * item, c->type);
    }
    for (uint32_t d = 0; d < c->v_dim; d++) {
        const char *b = v + (size_t)(d / 32) * 34;
        c->vf[(size_t)p * c->v_dim + d] = c->type == KV_Q8_0
                                              ? item_read(b, KV_F16) * (float)(int8_t)b[2 + d % 32]
                                              : item_read(v + d * item, c->type);
    }
}

/* How far a value may be from what was stored, as a part of the largest beside it. */
static double type_error(enum kv_type type)
{
    static const double e[KV_N] = {
        [KV_F32] = 0, [KV_F16] = 0x1p-11, [KV_BF16] = 0x1p-8, [KV_Q8_0] = 0.51 / 127};
    return e[type];
}

static void cache_init(struct cache *c, const struct kern *k, enum kv_type type, uint32_t block_len,
                       uint32_t k_dim, uint32_t v_dim)
{
    struct err err = ERR_INIT;
    *c = (struct cache){.type = type, .block_len = block_len, .k_dim = k_dim, .v_dim = v_dim};
    c->n_blocks = MAX_POS / block_len + 1;
    c->k_group_bytes = 2 * kern_kv_group_bytes(type, k_dim);
    c->v_row_bytes = 2 * kern_kv_row_bytes(type, v_dim);
    c->k = mem_try_aligned(c->n_blocks * block_len / KV_LANES * c->k_group_bytes, &err);
    c->v = mem_try_aligned(c->n_blocks * block_len * c->v_row_bytes, &err);
    memset(c->k, 0, c->n_blocks * block_len / KV_LANES * c->k_group_bytes);
    memset(c->v, 0, c->n_blocks * block_len * c->v_row_bytes);
    c->kf = mem_try_alloc(MAX_POS, sizeof(float) * k_dim, &err);
    c->vf = mem_try_alloc(MAX_POS, sizeof(float) * v_dim, &err);
    c->scratch = mem_try_aligned(kern_attn_scratch_floats(k_dim, v_dim) * sizeof(float), &err);
    assert_non_null(c->scratch);
    for (uint32_t b = 0; b < c->n_blocks; b++)
        c->table[b] = b;
    for (uint32_t b = c->n_blocks; b-- > 1;) {
        uint32_t other = rng() % (b + 1), keep = c->table[b];
        c->table[b] = c->table[other];
        c->table[other] = keep;
    }
    for (uint32_t p = 0; p < MAX_POS; p++) {
        float x[MAX_DIM], y[MAX_DIM];
        fill_random(x, k_dim, 1);
        fill_random(y, v_dim, 1);
        k->kv_store_k[type](x, k_group(c, p), p % KV_LANES, k_dim);
        k->kv_store_v[type](y, v_row(c, p), v_dim);
        read_back(c, p);
        for (uint32_t d = 0; d < k_dim; d++)
            assert_true(close_to(c->kf[(size_t)p * k_dim + d], x[d], 0, 3 * type_error(type)));
        for (uint32_t d = 0; d < v_dim; d++)
            assert_true(close_to(c->vf[(size_t)p * v_dim + d], y[d], 0, 3 * type_error(type)));
    }
}

static void cache_release(struct cache *c)
{
    mem_free(c->k);
    mem_free(c->v);
    mem_free(c->kf);
    mem_free(c->vf);
    mem_free(c->scratch);
}

static struct kern_attn cache_attn(const struct cache *c, const float *q, float *out,
                                   uint32_t n_group, uint32_t pos, uint32_t window)
{
    return (struct kern_attn){
        .q = q,
        .out = out,
        .q_stride = (size_t)n_group * c->k_dim,
        .out_stride = (size_t)n_group * c->v_dim,
        .block_table = c->table,
        .k = c->k,
        .v = c->v,
        .k_block_stride_bytes = c->block_len / KV_LANES * c->k_group_bytes,
        .v_block_stride_bytes = c->block_len * c->v_row_bytes,
        .k_group_stride_bytes = c->k_group_bytes,
        .v_row_stride_bytes = c->v_row_bytes,
        .n_group = n_group,
        .k_dim = c->k_dim,
        .v_dim = c->v_dim,
        .block_len = c->block_len,
        .pos = pos,
        .n_pos = 1,
        .window = window,
        .scale = 1.0f / sqrtf((float)c->k_dim),
        .softcap = 0,
        .sinks = NULL,
        .scratch = c->scratch,
    };
}

/* softmax in double for head g. */
static void attn_exact(const struct cache *c, const struct kern_attn *a, uint32_t g, double *out)
{
    static double s[MAX_POS];
    double max = a->sinks ? a->sinks[g] : -INFINITY, sum = 0;
    const uint32_t first = a->window && a->pos >= a->window ? a->pos - a->window + 1 : 0;
    for (uint32_t p = first; p <= a->pos; p++) {
        s[p] = 0;
        for (uint32_t d = 0; d < c->k_dim; d++)
            s[p] += (double)a->q[(size_t)g * c->k_dim + d] * c->kf[(size_t)p * c->k_dim + d];
        s[p] *= a->scale;
        if (a->softcap > 0)
            s[p] = a->softcap * tanh(s[p] / a->softcap);
        max = fmax(max, s[p]);
    }
    for (uint32_t d = 0; d < c->v_dim; d++)
        out[d] = 0;
    for (uint32_t p = first; p <= a->pos; p++) {
        double w = exp(s[p] - max);
        sum += w;
        for (uint32_t d = 0; d < c->v_dim; d++)
            out[d] += w * c->vf[(size_t)p * c->v_dim + d];
    }
    if (a->sinks)
        sum += exp(a->sinks[g] - max);
    for (uint32_t d = 0; d < c->v_dim; d++)
        out[d] /= sum;
}

/* |v| is at most 3: errors are counted against that, and grow with the scores' own rounding. */
static void check(const struct kern *k, const struct cache *c, struct kern_attn *a, double tol)
{
    struct guarded g;
    double want[MAX_DIM];
    a->out = guarded_new(&g, sizeof(float) * a->n_group * c->v_dim, 4);
    k->attn[c->type](a);
    for (uint32_t h = 0; h < a->n_group; h++) {
        attn_exact(c, a, h, want);
        for (uint32_t d = 0; d < c->v_dim; d++)
            if (!close_to(a->out[(size_t)h * c->v_dim + d], want[d], 0, tol))
                fail_msg("%s kv %s, position %u, window %u, head %u of %u, element %u of %u: %a, "
                         "exactly "
                         "%a",
                         k->level, kv_type_name(c->type), a->pos, a->window, h, a->n_group, d,
                         c->v_dim, (double)a->out[(size_t)h * c->v_dim + d], want[d]);
    }
    guarded_free(&g);
}

static void shapes(const struct kern *k, const struct kern *ref UNUSED)
{
    static const struct {
        uint32_t block_len, k_dim, v_dim;
    } s[] = {{16, 64, 64},  {32, 128, 128}, {64, 8, 8},
             {128, 80, 96}, {48, 33, 17},   {256, 160, 128}};
    static const uint32_t at[] = {0, 1, 6, 15, 16, 63, 64, 65, 200, 255, 256, 512, MAX_POS - 1};
    static const uint32_t groups[] = {1, 2, 3, 4, 5, 7, 9, 35};
    static float q[MAX_GROUP * MAX_DIM];
    for (size_t i = 0; i < ARRAY_LEN(s) * KV_N; i++) {
        const enum kv_type type = (enum kv_type)(i % KV_N);
        const uint32_t k_dim = s[i / KV_N].k_dim, v_dim = s[i / KV_N].v_dim;
        struct cache c;
        if (type == KV_Q8_0 && (k_dim % 32 || v_dim % 32))
            continue;
        cache_init(&c, k, type, s[i / KV_N].block_len, k_dim, v_dim);
        fill_random(q, ARRAY_LEN(q), 1);
        for (size_t l = 0; l < ARRAY_LEN(at); l++) {
            float sinks[MAX_GROUP];
            fill_random(sinks, MAX_GROUP, 3);
            struct kern_attn a = cache_attn(&c, q, NULL, groups[l % ARRAY_LEN(groups)], at[l], 0);
            check(k, &c, &a, 3e-6);
            a.window = 1 + rng() % (a.pos + 1);
            a.softcap = l % 2 ? 5 : 0;
            check(k, &c, &a, 3e-6);
            a.sinks = sinks;
            check(k, &c, &a, 3e-6);
        }
        cache_release(&c);
    }
}

static void outputs_match_softmax(void **state)
{
    (void)state;
    for_levels(shapes);
}

/* Scores of +-1000: one position takes all, none overflows; sinks far above and below. */
static void extremes(const struct kern *k, const struct kern *ref UNUSED)
{
    static float q[4 * 64];
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        float sinks[4] = {-1e5f, 1e5f, 0, 300};
        cache_init(&c, k, (enum kv_type)type, 32, 64, 64);
        fill_random(q, ARRAY_LEN(q), 300);
        struct kern_attn a = cache_attn(&c, q, NULL, 4, 300, 0);
        check(k, &c, &a, 1e-3); /* a score of 1000 is known to 1e-4 */
        a.sinks = sinks;
        check(k, &c, &a, 1e-3);
        memset(q, 0, sizeof(q)); /* all alike */
        a.sinks = NULL;
        check(k, &c, &a, 1e-5);
        for (size_t i = 0; i < ARRAY_LEN(q); i++)
            q[i] = i % 3 ? INFINITY : NAN;
        float out[4 * 64];
        a.out = out;
        k->attn[type](&a); /* NaN out, nothing worse */
        cache_release(&c);
    }
}

static void extreme_scores_stay_finite(void **state)
{
    (void)state;
    for_levels(extremes);
}

/* Swaps two blocks, data and table. */
static void swap_blocks(struct cache *c, uint32_t i, uint32_t j)
{
    const size_t k_bytes = c->block_len / KV_LANES * c->k_group_bytes,
                 v_bytes = c->block_len * c->v_row_bytes;
    const uint32_t b0 = c->table[i], b1 = c->table[j];
    for (size_t n = 0; n < k_bytes; n++) {
        char keep = c->k[b0 * k_bytes + n];
        c->k[b0 * k_bytes + n] = c->k[b1 * k_bytes + n];
        c->k[b1 * k_bytes + n] = keep;
    }
    for (size_t n = 0; n < v_bytes; n++) {
        char keep = c->v[b0 * v_bytes + n];
        c->v[b0 * v_bytes + n] = c->v[b1 * v_bytes + n];
        c->v[b1 * v_bytes + n] = keep;
    }
    c->table[i] = b1;
    c->table[j] = b0;
}

/* The same bytes for a head alone or among others, and wherever the blocks lie. */
static void grouping(const struct kern *k, const struct kern *ref UNUSED)
{
    static float q[MAX_GROUP * 64], out[MAX_GROUP * 64], alone[64], moved[MAX_GROUP * 64];
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        cache_init(&c, k, (enum kv_type)type, 32, 64, 64);
        fill_random(q, ARRAY_LEN(q), 1);
        struct kern_attn a = cache_attn(&c, q, out, MAX_GROUP, 500, 498);
        k->attn[type](&a);
        for (uint32_t h = 0; h < MAX_GROUP; h++) {
            struct kern_attn b = cache_attn(&c, q + 64 * h, alone, 1, 500, 498);
            k->attn[type](&b);
            assert_memory_equal(alone, out + 64 * h, sizeof(alone));
        }
        swap_blocks(&c, 2, 9);
        a = cache_attn(&c, q, moved, MAX_GROUP, 500, 498);
        k->attn[type](&a);
        assert_memory_equal(moved, out, sizeof(out));
        cache_release(&c);
    }
}

static void a_head_does_not_depend_on_its_neighbours(void **state)
{
    (void)state;
    for_levels(grouping);
}

/* The same bytes for a position alone, among others of its sequence, and range by range. */
static void cutting(const struct kern *k, const struct kern *ref UNUSED)
{
    enum { DIM = 32, MOST = ATTN_ROWS };
    static const uint32_t windows[] = {0, 1, 40, 64, 300}, groups[] = {1, 3, 4, 8};
    static float q[MOST * DIM], out[MOST * DIM], alone[MOST * DIM], parts[4 * MOST * (DIM + 32)];
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        cache_init(&c, k, (enum kv_type)type, 16, DIM, DIM);
        assert_true(kern_attn_part_floats(DIM) <= DIM + 32);
        fill_random(q, ARRAY_LEN(q), 1);
        for (uint32_t i = 0; i < 60; i++) {
            const uint32_t n_group = groups[i % 4], pos = i % 3 ? rng() % 660 : 250 + i % 8;
            struct kern_attn a = cache_attn(&c, q, out, n_group, pos, windows[i % 5]);
            a.n_pos = 1 + rng() % (ATTN_ROWS / n_group);
            a.softcap = i % 7 == 3 ? 3 : 0;
            k->attn[type](&a);
            for (uint32_t j = 0; j < a.n_pos; j++) {
                struct kern_attn b = a;
                uint32_t first;
                const uint32_t n = kern_attn_ranges(pos + j, a.window, &first);
                b.q = q + j * a.q_stride;
                b.out = alone;
                b.pos = pos + j;
                b.n_pos = 1;
                k->attn[type](&b);
                assert_memory_equal(alone, out + j * a.out_stride, sizeof(float) * n_group * DIM);
                memset(alone, 0, sizeof(alone));
                for (uint32_t r = n; r-- > 0;)
                    k->attn_part[type](&b, first + r,
                                       parts + r * n_group * kern_attn_part_floats(DIM));
                k->attn_join(&b, n, parts);
                assert_memory_equal(alone, out + j * a.out_stride, sizeof(float) * n_group * DIM);
            }
        }
        cache_release(&c);
    }
}

static void a_position_does_not_depend_on_how_work_is_cut(void **state)
{
    (void)state;
    for_levels(cutting);
}

/* Whatever is stored, what is read back is finite: a position that nobody sees yet weighs 0. */
static void storing(const struct kern *k, const struct kern *ref)
{
    static const float odd[] = {INFINITY, -INFINITY, NAN, 1e30f, -1e30f, 3.4e38f, 1e-40f, 0};
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        float x[64];
        cache_init(&c, k, (enum kv_type)type, 16, 64, 64);
        for (uint32_t p = 0; p < 64; p++) {
            char want[64 * 4] = {0};
            for (uint32_t d = 0; d < 64; d++)
                x[d] = rng() % 3 ? odd[rng() % ARRAY_LEN(odd)] : f32_from_bits(rng());
            k->kv_store_k[type](x, k_group(&c, p), p % KV_LANES, 64);
            k->kv_store_v[type](x, v_row(&c, p), 64);
            ref->kv_store_v[type](x, want, 64);
            assert_memory_equal(v_row(&c, p), want, kern_kv_row_bytes((enum kv_type)type, 64));
            read_back(&c, p);
            for (uint32_t d = 0; d < 64; d++) {
                assert_true(isfinite(c.kf[p * 64 + d]));
                assert_int_equal(f32_bits(c.kf[p * 64 + d]), f32_bits(c.vf[p * 64 + d]));
            }
        }
        cache_release(&c);
    }
}

static void stores_are_finite_and_alike(void **state)
{
    (void)state;
    for_levels(storing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_match_softmax),
        cmocka_unit_test(extreme_scores_stay_finite),
        cmocka_unit_test(a_head_does_not_depend_on_its_neighbours),
        cmocka_unit_test(a_position_does_not_depend_on_how_work_is_cut),
        cmocka_unit_test(stores_are_finite_and_alike),
    };
    return cmocka_run_group_tests_name("attn", tests, NULL, NULL);
}
