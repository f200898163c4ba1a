/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over a paged cache, on every level: against softmax in double, independent of where
 * blocks lie and of which heads are computed together, with windows, soft caps, sinks and extreme
 * scores. */
#include "tests/kernel/kernel_test.h"
#include "worker/kernel/blocks.h"

enum { MAX_POS = 700, MAX_DIM = 160, MAX_GROUP = 9 };

/* A cache of one layer and two heads, blocks in random order, and the values it holds as float. */
struct cache {
    enum kv_type type;
    uint32_t block_len, n_blocks, k_dim, v_dim;
    uint32_t table[MAX_POS + 1];
    size_t k_row_bytes, v_row_bytes;
    char *k, *v;
    float *kf, *vf; /* [pos][dim] */
};

static void cache_init(struct cache *c, const struct kern *ref, enum kv_type type,
                       uint32_t block_len, uint32_t k_dim, uint32_t v_dim)
{
    struct err err = ERR_INIT;
    size_t item = type == KV_F32 ? 4 : 2;
    *c = (struct cache){.type = type, .block_len = block_len, .k_dim = k_dim, .v_dim = v_dim};
    c->n_blocks = MAX_POS / block_len + 1;
    c->k_row_bytes = 2 * k_dim * item;
    c->v_row_bytes = 2 * v_dim * item;
    c->k = mem_try_aligned(c->n_blocks * block_len * c->k_row_bytes, &err);
    c->v = mem_try_aligned(c->n_blocks * block_len * c->v_row_bytes, &err);
    c->kf = mem_try_alloc(MAX_POS, sizeof(float) * k_dim, &err);
    c->vf = mem_try_alloc(MAX_POS, sizeof(float) * v_dim, &err);
    for (uint32_t b = 0; b < c->n_blocks; b++)
        c->table[b] = b;
    for (uint32_t b = c->n_blocks; b-- > 1;) {
        uint32_t other = rng() % (b + 1), keep = c->table[b];
        c->table[b] = c->table[other];
        c->table[other] = keep;
    }
    for (uint32_t p = 0; p < MAX_POS; p++) {
        size_t row = (size_t)c->table[p / block_len] * block_len + p % block_len;
        fill_random(c->kf + (size_t)p * k_dim, k_dim, 1);
        fill_random(c->vf + (size_t)p * v_dim, v_dim, 1);
        ref->kv_store[type](c->kf + (size_t)p * k_dim, c->k + row * c->k_row_bytes, k_dim);
        ref->kv_store[type](c->vf + (size_t)p * v_dim, c->v + row * c->v_row_bytes, v_dim);
        for (uint32_t d = 0; type == KV_F16 && d < k_dim; d++)
            c->kf[(size_t)p * k_dim + d] = f32_from_f16(f16_from_f32(c->kf[(size_t)p * k_dim + d]));
        for (uint32_t d = 0; type == KV_F16 && d < v_dim; d++)
            c->vf[(size_t)p * v_dim + d] = f32_from_f16(f16_from_f32(c->vf[(size_t)p * v_dim + d]));
    }
}

static void cache_release(struct cache *c)
{
    mem_free(c->k);
    mem_free(c->v);
    mem_free(c->kf);
    mem_free(c->vf);
}

static struct kern_attn cache_attn(const struct cache *c, const float *q, float *out,
                                   uint32_t n_group, uint32_t first, uint32_t last)
{
    return (struct kern_attn){
        .q = q,
        .out = out,
        .block_table = c->table,
        .k = c->k,
        .v = c->v,
        .k_block_stride_bytes = c->block_len * c->k_row_bytes,
        .v_block_stride_bytes = c->block_len * c->v_row_bytes,
        .k_row_stride_bytes = c->k_row_bytes,
        .v_row_stride_bytes = c->v_row_bytes,
        .n_group = n_group,
        .k_dim = c->k_dim,
        .v_dim = c->v_dim,
        .block_len = c->block_len,
        .first = first,
        .last = last,
        .scale = 1.0f / sqrtf((float)c->k_dim),
        .softcap = 0,
        .sinks = NULL,
    };
}

/* softmax in double for head g. */
static void attn_exact(const struct cache *c, const struct kern_attn *a, uint32_t g, double *out)
{
    static double s[MAX_POS];
    double max = a->sinks ? a->sinks[g] : -INFINITY, sum = 0;
    for (uint32_t p = a->first; p <= a->last; p++) {
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
    for (uint32_t p = a->first; p <= a->last; p++) {
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
                fail_msg(
                    "%s kv %d, positions %u to %u, head %u of %u, element %u of %u: %a, exactly %a",
                    k->level, (int)c->type, a->first, a->last, h, a->n_group, d, c->v_dim,
                    (double)a->out[(size_t)h * c->v_dim + d], want[d]);
    }
    guarded_free(&g);
}

static void shapes(const struct kern *k, const struct kern *ref)
{
    static const struct {
        uint32_t block_len, k_dim, v_dim;
    } s[] = {{16, 64, 64},  {32, 128, 128}, {64, 8, 8},      {128, 80, 96},
             {100, 33, 17}, {1, 16, 16},    {256, 160, 128}, {7, 1, 1}};
    static const uint32_t lasts[] = {0, 1, 6, 15, 16, 63, 64, 65, 200, MAX_POS - 1};
    static float q[MAX_GROUP * MAX_DIM];
    for (size_t i = 0; i < 2 * ARRAY_LEN(s); i++) {
        struct cache c;
        cache_init(&c, ref, i % 2 ? KV_F16 : KV_F32, s[i / 2].block_len, s[i / 2].k_dim,
                   s[i / 2].v_dim);
        fill_random(q, ARRAY_LEN(q), 1);
        for (size_t l = 0; l < ARRAY_LEN(lasts); l++) {
            float sinks[MAX_GROUP];
            fill_random(sinks, MAX_GROUP, 3);
            struct kern_attn a =
                cache_attn(&c, q, NULL, 1 + (uint32_t)(l % MAX_GROUP), 0, lasts[l]);
            check(k, &c, &a, 3e-6);
            a.first = rng() % (a.last + 1);
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
static void extremes(const struct kern *k, const struct kern *ref)
{
    static float q[4 * 64];
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        float sinks[4] = {-1e5f, 1e5f, 0, 300};
        cache_init(&c, ref, (enum kv_type)type, 32, 64, 64);
        fill_random(q, ARRAY_LEN(q), 300);
        struct kern_attn a = cache_attn(&c, q, NULL, 4, 0, 300);
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

/* The same bytes for a head alone or among others, and wherever the blocks lie. */
static void grouping(const struct kern *k, const struct kern *ref)
{
    static float q[MAX_GROUP * 64], out[MAX_GROUP * 64], alone[64];
    for (int type = 0; type < KV_N; type++) {
        struct cache c;
        cache_init(&c, ref, (enum kv_type)type, 32, 64, 64);
        fill_random(q, ARRAY_LEN(q), 1);
        struct kern_attn a = cache_attn(&c, q, out, MAX_GROUP, 3, 500);
        k->attn[type](&a);
        for (uint32_t h = 0; h < MAX_GROUP; h++) {
            struct kern_attn b = cache_attn(&c, q + 64 * h, alone, 1, 3, 500);
            k->attn[type](&b);
            assert_memory_equal(alone, out + 64 * h, sizeof(alone));
        }
        /* swap two blocks, data and table */
        size_t k_bytes = c.block_len * c.k_row_bytes, v_bytes = c.block_len * c.v_row_bytes;
        uint32_t b0 = c.table[2], b1 = c.table[9];
        for (size_t i = 0; i < k_bytes; i++) {
            char keep = c.k[b0 * k_bytes + i];
            c.k[b0 * k_bytes + i] = c.k[b1 * k_bytes + i];
            c.k[b1 * k_bytes + i] = keep;
        }
        for (size_t i = 0; i < v_bytes; i++) {
            char keep = c.v[b0 * v_bytes + i];
            c.v[b0 * v_bytes + i] = c.v[b1 * v_bytes + i];
            c.v[b1 * v_bytes + i] = keep;
        }
        c.table[2] = b1;
        c.table[9] = b0;
        static float moved[MAX_GROUP * 64];
        a = cache_attn(&c, q, moved, MAX_GROUP, 3, 500);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_match_softmax),
        cmocka_unit_test(extreme_scores_stay_finite),
        cmocka_unit_test(a_head_does_not_depend_on_its_neighbours),
    };
    return cmocka_run_group_tests_name("attn", tests, NULL, NULL);
}
