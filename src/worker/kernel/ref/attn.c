/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one position in plain C, with the running maximum of "Online normalizer calculation
 * for softmax" (Milakov and Gimelshein, 2018).  Any thread; see kern.h.
 *
 * Positions pass in chunks: of at most ATTN_CHUNK, cut at multiples of it within a block,
 * ascending.  Per chunk: the scores, their maximum, one rescaling, then the values in order. */
#include <math.h>

#include "worker/kernel/blocks.h"
#include "worker/kernel/attn.h"
#include "worker/kernel/ref/ref.h"

static inline float kv_get(const char *row, uint32_t i, enum kv_type type)
{
    if (type == KV_F32) {
        float f;
        memcpy(&f, row + 4 * (size_t)i, sizeof(f));
        return f;
    }
    uint16_t h;
    memcpy(&h, row + 2 * (size_t)i, sizeof(h));
    return f32_from_f16(h);
}

static inline float dot(const float *q, const char *k, uint32_t n, enum kv_type type)
{
    float lane[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % 16] += q[i] * kv_get(k, i, type);
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

struct soft {
    float max, sum;
};

/* Query head g over one chunk. */
static inline void chunk_head(const struct kern_attn *a, uint32_t g, const struct attn_chunk *c,
                              enum kv_type type, struct soft *s)
{
    float p[ATTN_CHUNK], max = s->max, *out = a->out + (size_t)g * a->v_dim;
    for (uint32_t i = 0; i < c->n; i++) {
        float v = a->scale * dot(a->q + (size_t)g * a->k_dim, c->k + i * a->k_row_stride_bytes,
                                 a->k_dim, type);
        p[i] = a->softcap > 0 ? a->softcap * tanhf(v / a->softcap) : v;
        max = p[i] > max ? p[i] : max;
    }
    float back = expf(s->max - max), sum = 0;
    for (uint32_t i = 0; i < c->n; i++)
        sum += p[i] = expf(p[i] - max);
    for (uint32_t d = 0; d < a->v_dim; d++) {
        float v = out[d] * back;
        for (uint32_t i = 0; i < c->n; i++)
            v += p[i] * kv_get(c->v + i * a->v_row_stride_bytes, d, type);
        out[d] = v;
    }
    s->sum = s->sum * back + sum;
    s->max = max;
}

static inline void attn(const struct kern_attn *a, enum kv_type type)
{
    for (uint32_t g = 0; g < a->n_group; g++) {
        float *out = a->out + (size_t)g * a->v_dim;
        struct soft s = {ATTN_MIN, 0};
        struct attn_chunk c;
        memset(out, 0, sizeof(float) * (size_t)a->v_dim);
        for (uint64_t p = a->first; p <= a->last; p += c.n) {
            c = attn_chunk(a, (uint32_t)p);
            chunk_head(a, g, &c, type, &s);
        }
        float scale = 1.0f / s.sum;
        if (a->sinks) { /* a score without a value */
            float max = s.max > a->sinks[g] ? s.max : a->sinks[g], back = expf(s.max - max);
            scale = back / (s.sum * back + expf(a->sinks[g] - max));
        }
        for (uint32_t d = 0; d < a->v_dim; d++)
            out[d] *= scale;
    }
}

static void attn_f32(const struct kern_attn *a)
{
    attn(a, KV_F32);
}

static void attn_f16(const struct kern_attn *a)
{
    attn(a, KV_F16);
}

void ref_attn_fill(struct kern *k)
{
    k->attn[KV_F32] = attn_f32;
    k->attn[KV_F16] = attn_f16;
}
