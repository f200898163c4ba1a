/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one position in v16; included once by attn_avx2.c and attn_avx512.c.  The order of
 * ref/attn.c with fused multiply-adds: query heads are taken GROUP at a time, which shares loads
 * and changes no value. */
#include <math.h>

#include "worker/kernel/attn.h"
#include "worker/kernel/blocks.h"
#include "worker/kernel/x86/x86.h"

enum { GROUP = 4 };

struct soft {
    float max[GROUP], sum[GROUP];
    float p[GROUP][ATTN_CHUNK];
};

INLINED v16 kv_load(const char *row, uint32_t i, enum kv_type type)
{
    return type == KV_F32 ? v16_load(row + 4 * (size_t)i) : v16_load_f16(row + 2 * (size_t)i);
}

INLINED v16 kv_load_n(const char *row, uint32_t i, uint32_t n, enum kv_type type)
{
    return type == KV_F32 ? v16_load_n(row + 4 * (size_t)i, n)
                          : v16_load_f16_n(row + 2 * (size_t)i, n);
}

/* p[g][i] = scale q[g] . k[i] */
INLINED void chunk_scores(const struct kern_attn *a, const float *q, const struct attn_chunk *c,
                          const uint32_t n_g, enum kv_type type, struct soft *s)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const char *k = c->k + i * a->k_row_stride_bytes;
        v16 acc[GROUP];
        uint32_t d = 0, rest = a->k_dim % 16;
        UNROLL
        for (uint32_t g = 0; g < n_g; g++)
            acc[g] = v16_zero();
        for (; d + 16 <= a->k_dim; d += 16) {
            v16 kv = kv_load(k, d, type);
            UNROLL
            for (uint32_t g = 0; g < n_g; g++)
                acc[g] = v16_fma(v16_load(q + (size_t)g * a->k_dim + d), kv, acc[g]);
        }
        if (rest) {
            v16 kv = kv_load_n(k, d, rest, type);
            UNROLL
            for (uint32_t g = 0; g < n_g; g++)
                acc[g] = v16_fma(v16_load_n(q + (size_t)g * a->k_dim + d, rest), kv, acc[g]);
        }
        UNROLL
        for (uint32_t g = 0; g < n_g; g++)
            s->p[g][i] = a->scale * v16_fold(acc[g]);
    }
}

/* Scores of one head become weights; returns what the sum so far shrinks by. */
static float chunk_soften(const struct kern_attn *a, uint32_t g, uint32_t n, struct soft *s)
{
    float *p = s->p[g];
    uint32_t n16 = (n + 15) / 16 * 16;
    for (uint32_t i = n; i < n16; i++)
        p[i] = -INFINITY; /* weighs nothing */
    v16 max = v16_set1(s->max[g]), sum = v16_zero();
    for (uint32_t i = 0; i < n16; i += 16) {
        v16 v = v16_load(p + i);
        if (a->softcap > 0) {
            v16 cap = v16_set1(a->softcap);
            v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
            if (n - i < 16) {
                float t[16];
                v16_store(t, v);
                for (uint32_t j = n - i; j < 16; j++)
                    t[j] = -INFINITY;
                v = v16_load(t);
            }
            v16_store(p + i, v);
        }
        max = v16_max(v, max);
    }
    float top = v16_fold_max(max);
    for (uint32_t i = 0; i < n16; i += 16) {
        v16 e = v16_exp(v16_sub(v16_load(p + i), v16_set1(top)));
        v16_store(p + i, e);
        sum = v16_add(sum, e);
    }
    float t[16];
    v16_store(t, v16_exp(v16_set1(s->max[g] - top)));
    s->sum[g] = s->sum[g] * t[0] + v16_fold(sum);
    s->max[g] = top;
    return t[0];
}

/* out[g] = out[g] * back[g] + sum_i p[g][i] v[i], for the 16 (or `rest`) elements from d on. */
INLINED void chunk_values(const struct kern_attn *a, float *out, const struct attn_chunk *c,
                          const float *back, uint32_t d, uint32_t rest, const uint32_t n_g,
                          enum kv_type type, const struct soft *s)
{
    v16 acc[GROUP];
    UNROLL
    for (uint32_t g = 0; g < n_g; g++) {
        const float *o = out + (size_t)g * a->v_dim + d;
        acc[g] = v16_mul(rest ? v16_load_n(o, rest) : v16_load(o), v16_set1(back[g]));
    }
    for (uint32_t i = 0; i < c->n; i++) {
        const char *v = c->v + i * a->v_row_stride_bytes;
        v16 vv = rest ? kv_load_n(v, d, rest, type) : kv_load(v, d, type);
        UNROLL
        for (uint32_t g = 0; g < n_g; g++)
            acc[g] = v16_fma(v16_set1(s->p[g][i]), vv, acc[g]);
    }
    UNROLL
    for (uint32_t g = 0; g < n_g; g++) {
        float *o = out + (size_t)g * a->v_dim + d;
        if (rest)
            v16_store_n(o, rest, acc[g]);
        else
            v16_store(o, acc[g]);
    }
}

/* Divides by the sum, with the sink's part in it. */
static void finish(const struct kern_attn *a, uint32_t g, float max, float sum)
{
    float scale = 1.0f / sum, *out = a->out + (size_t)g * a->v_dim;
    if (a->sinks) {
        float top = max > a->sinks[g] ? max : a->sinks[g], back = expf(max - top);
        scale = back / (sum * back + expf(a->sinks[g] - top));
    }
    for (uint32_t d = 0; d < a->v_dim; d++)
        out[d] *= scale;
}

/* Query heads g0 .. g0 + n_g. */
INLINED void heads(const struct kern_attn *a, uint32_t g0, const uint32_t n_g, enum kv_type type)
{
    struct soft s;
    float *out = a->out + (size_t)g0 * a->v_dim, back[GROUP];
    const float *q = a->q + (size_t)g0 * a->k_dim;
    memset(out, 0, sizeof(float) * (size_t)n_g * a->v_dim);
    UNROLL
    for (uint32_t g = 0; g < n_g; g++) {
        s.max[g] = ATTN_MIN;
        s.sum[g] = 0;
    }
    struct attn_chunk c;
    for (uint64_t p = a->first; p <= a->last; p += c.n) {
        c = attn_chunk(a, (uint32_t)p);
        chunk_scores(a, q, &c, n_g, type, &s);
        UNROLL
        for (uint32_t g = 0; g < n_g; g++)
            back[g] = chunk_soften(a, g, c.n, &s);
        uint32_t d = 0;
        for (; d + 16 <= a->v_dim; d += 16)
            chunk_values(a, out, &c, back, d, 0, n_g, type, &s);
        if (d < a->v_dim)
            chunk_values(a, out, &c, back, d, a->v_dim - d, n_g, type, &s);
    }
    UNROLL
    for (uint32_t g = 0; g < n_g; g++)
        finish(a, g0 + g, s.max[g], s.sum[g]);
}

INLINED void attn(const struct kern_attn *a, enum kv_type type)
{
    uint32_t g = 0;
    for (; g + GROUP <= a->n_group; g += GROUP)
        heads(a, g, GROUP, type);
    for (; g < a->n_group; g++)
        heads(a, g, 1, type);
}

static void attn_f32(const struct kern_attn *a)
{
    attn(a, KV_F32);
}

static void attn_f16(const struct kern_attn *a)
{
    attn(a, KV_F16);
}

static void attn_fill(struct kern *k)
{
    k->attn[KV_F32] = attn_f32;
    k->attn[KV_F16] = attn_f16;
}
