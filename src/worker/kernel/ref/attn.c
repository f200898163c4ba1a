/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in plain C, with the running maximum of "Online normalizer calculation for softmax"
 * (Milakov and Gimelshein, 2018), and the stores of the cache.  Any thread; see kern.h.
 *
 * One query row at a time.  Per tile of at most ATTN_TILE positions: the scores, their maximum, one
 * rescaling, then the values in order. */
#include <math.h>

#include "worker/kernel/attn.h"
#include "worker/kernel/blocks.h"
#include "worker/kernel/ref/ref.h"

/* ---- what lies in the cache ---- */

static const float largest[KV_N] = {
    [KV_F32] = 0x1.fffffep127f, [KV_F16] = 65504, [KV_BF16] = 0x1.fep127f, [KV_Q8_0] = 65504};

/* x within the type's range; what is not a number becomes the least. */
static inline float bound(float x, enum kv_type type)
{
    const float most = largest[type];
    x = x > -most ? x : -most;
    return x < most ? x : most;
}

static inline void item_put(char *p, float x, enum kv_type type)
{
    x = bound(x, type);
    if (type == KV_F32) {
        memcpy(p, &x, sizeof(x));
        return;
    }
    uint32_t bits = f32_bits(x);
    uint16_t h =
        type == KV_F16 ? f16_from_f32(x) : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    memcpy(p, &h, sizeof(h));
}

static inline float item_get(const char *p, enum kv_type type)
{
    if (type == KV_F32) {
        float f;
        memcpy(&f, p, sizeof(f));
        return f;
    }
    uint16_t h;
    memcpy(&h, p, sizeof(h));
    return type == KV_F16 ? f32_from_f16(h) : f32_from_bits((uint32_t)h << 16);
}

/* 32 elements of one position to int8, `step` bytes apart; returns the scale. */
static uint16_t block_put(const float *src, char *dst, size_t step)
{
    float most = 0;
    for (uint32_t i = 0; i < QK; i++)
        most = fabsf(bound(src[i], KV_Q8_0)) > most ? fabsf(bound(src[i], KV_Q8_0)) : most;
    const float inv = most >= 1e-4f ? 127.0f / most : 0; /* its scale is a normal float16 */
    for (uint32_t i = 0; i < QK; i++)
        dst[i * step] = (char)(int8_t)lrintf(bound(src[i], KV_Q8_0) * inv);
    return f16_from_f32(inv > 0 ? most / 127.0f : 0);
}

static inline float k_get(const char *group, uint32_t lane, uint32_t d, enum kv_type type)
{
    if (type != KV_Q8_0)
        return item_get(group + (size_t)(d * KV_LANES + lane) * (type == KV_F32 ? 4 : 2), type);
    const char *block = group + (size_t)(d / QK) * KV_LANES * (2 + QK);
    return item_get(block + 2 * (size_t)lane, KV_F16) *
           (float)(int8_t)block[2 * KV_LANES + d % QK * KV_LANES + lane];
}

static inline float v_get(const char *row, uint32_t d, enum kv_type type)
{
    if (type != KV_Q8_0)
        return item_get(row + (size_t)d * (type == KV_F32 ? 4 : 2), type);
    const char *block = row + (size_t)(d / QK) * (2 + QK);
    return item_get(block, KV_F16) * (float)(int8_t)block[2 + d % QK];
}

static inline void store_k(const float *src, char *group, uint32_t lane, uint32_t n,
                           enum kv_type type)
{
    const size_t item = type == KV_F32 ? 4 : 2;
    for (uint32_t i = 0; type != KV_Q8_0 && i < n; i++)
        item_put(group + (i * KV_LANES + lane) * item, src[i], type);
    for (uint32_t i = 0; type == KV_Q8_0 && i < n; i += QK) {
        char *block = group + (size_t)(i / QK) * KV_LANES * (2 + QK);
        uint16_t d = block_put(src + i, block + 2 * KV_LANES + lane, KV_LANES);
        memcpy(block + 2 * (size_t)lane, &d, sizeof(d));
    }
}

static inline void store_v(const float *src, char *row, uint32_t n, enum kv_type type)
{
    const size_t item = type == KV_F32 ? 4 : 2;
    for (uint32_t i = 0; type != KV_Q8_0 && i < n; i++)
        item_put(row + i * item, src[i], type);
    for (uint32_t i = 0; type == KV_Q8_0 && i < n; i += QK) {
        char *block = row + (size_t)(i / QK) * (2 + QK);
        uint16_t d = block_put(src + i, block + 2, 1);
        memcpy(block, &d, sizeof(d));
    }
}

/* ---- one row ---- */

static inline float dot(const float *q, const char *group, uint32_t lane, uint32_t n,
                        enum kv_type type)
{
    float sum = 0;
    for (uint32_t d = 0; d < n; d++)
        sum += q[d] * k_get(group, lane, d, type);
    return sum;
}

static void rec_clear(float *rec, uint32_t v_dim)
{
    memset(rec, 0, sizeof(float) * attn_rec_floats(v_dim));
    rec[0] = ATTN_MIN;
}

/* Positions p0 <= p < p1 of one tile into rec. */
static inline void tile_row(const struct kern_attn *a, const float *q, uint32_t p0, uint32_t p1,
                            enum kv_type type, float *rec)
{
    float w[ATTN_TILE], max = rec[0], sum = 0;
    for (uint32_t p = p0; p < p1; p++) {
        const uint32_t lane = p % KV_LANES;
        float s = a->scale * dot(q, attn_k_group(a, p - lane), lane, a->k_dim, type);
        w[p - p0] = a->softcap > 0 ? a->softcap * tanhf(s / a->softcap) : s;
        max = w[p - p0] > max ? w[p - p0] : max;
    }
    const float back = expf(rec[0] - max);
    for (uint32_t i = 0; i < p1 - p0; i++)
        sum += w[i] = expf(w[i] - max);
    for (uint32_t d = 0; d < a->v_dim; d++) {
        float v = rec[REC_OUT + d] * back;
        for (uint32_t p = p0; p < p1; p++)
            v += w[p - p0] * v_get(attn_v_group(a, p), d, type);
        rec[REC_OUT + d] = v;
    }
    rec[REC_SUM] = rec[REC_SUM] * back + sum;
    rec[0] = max;
}

/* What the position `pos` sees of a range, into rec. */
static inline void range_row(const struct kern_attn *a, const float *q, uint32_t pos,
                             uint32_t range, enum kv_type type, float *rec)
{
    const uint32_t first = MAX_OF(attn_first(pos, a->window), range * ATTN_RANGE),
                   end = MIN_OF(pos - range * ATTN_RANGE, ATTN_RANGE - 1u) + range * ATTN_RANGE + 1;
    rec_clear(rec, a->v_dim);
    for (uint32_t p = first, next; p < end; p = next) {
        next = MIN_OF(p / ATTN_TILE * ATTN_TILE + ATTN_TILE, end);
        tile_row(a, q, p, next, type, rec);
    }
}

static void join(float *total, const float *part, uint32_t v_dim)
{
    const float max = total[0] > part[0] ? total[0] : part[0], back = expf(total[0] - max),
                scale = expf(part[0] - max);
    total[0] = max;
    total[REC_SUM] = total[REC_SUM] * back + part[REC_SUM] * scale;
    for (uint32_t d = 0; d < v_dim; d++)
        total[REC_OUT + d] = total[REC_OUT + d] * back + part[REC_OUT + d] * scale;
}

/* Divides by the sum, with the sink's part in it: a score without a value. */
static void finish(const struct kern_attn *a, const float *total, uint32_t g, float *out)
{
    float scale = 1.0f / total[REC_SUM];
    if (a->sinks) {
        const float max = total[0] > a->sinks[g] ? total[0] : a->sinks[g],
                    back = expf(total[0] - max);
        scale = back / (total[REC_SUM] * back + expf(a->sinks[g] - max));
    }
    for (uint32_t d = 0; d < a->v_dim; d++)
        out[d] = total[REC_OUT + d] * scale;
}

static inline void attn(const struct kern_attn *a, enum kv_type type)
{
    float *part = a->scratch, *total = part + attn_rec_floats(a->v_dim);
    for (uint32_t i = 0; i < a->n_pos; i++) {
        uint32_t first;
        const uint32_t n = kern_attn_ranges(a->pos + i, a->window, &first);
        for (uint32_t g = 0; g < a->n_group; g++) {
            const float *q = a->q + i * a->q_stride + (size_t)g * a->k_dim;
            rec_clear(total, a->v_dim);
            for (uint32_t r = first; r < first + n; r++) {
                range_row(a, q, a->pos + i, r, type, part);
                join(total, part, a->v_dim);
            }
            finish(a, total, g, a->out + i * a->out_stride + (size_t)g * a->v_dim);
        }
    }
}

static inline void attn_part(const struct kern_attn *a, uint32_t range, float *part,
                             enum kv_type type)
{
    for (uint32_t g = 0; g < a->n_group; g++)
        range_row(a, a->q + (size_t)g * a->k_dim, a->pos, range, type,
                  part + g * attn_rec_floats(a->v_dim));
}

static void attn_join(const struct kern_attn *a, uint32_t n_ranges, const float *parts)
{
    float *total = a->scratch;
    const size_t step = attn_rec_floats(a->v_dim);
    for (uint32_t g = 0; g < a->n_group; g++) {
        rec_clear(total, a->v_dim);
        for (uint32_t r = 0; r < n_ranges; r++)
            join(total, parts + (r * a->n_group + g) * step, a->v_dim);
        finish(a, total, g, a->out + (size_t)g * a->v_dim);
    }
}

/* ---- by type ---- */

#define OF_TYPE(type, name)                                                                        \
    static void attn_##name(const struct kern_attn *a)                                             \
    {                                                                                              \
        attn(a, type);                                                                             \
    }                                                                                              \
    static void attn_part_##name(const struct kern_attn *a, uint32_t range, float *part)           \
    {                                                                                              \
        attn_part(a, range, part, type);                                                           \
    }                                                                                              \
    static void store_k_##name(const float *src, void *group, uint32_t lane, uint32_t n)           \
    {                                                                                              \
        store_k(src, group, lane, n, type);                                                        \
    }                                                                                              \
    static void store_v_##name(const float *src, void *row, uint32_t n)                            \
    {                                                                                              \
        store_v(src, row, n, type);                                                                \
    }
OF_TYPE(KV_F32, f32)
OF_TYPE(KV_F16, f16)
OF_TYPE(KV_BF16, bf16)
OF_TYPE(KV_Q8_0, q8_0)
#undef OF_TYPE

void ref_attn_fill(struct kern *k)
{
#define FILL(type, name)                                                                           \
    k->attn[type] = attn_##name;                                                                   \
    k->attn_part[type] = attn_part_##name;                                                         \
    k->kv_store_k[type] = store_k_##name;                                                          \
    k->kv_store_v[type] = store_v_##name;
    FILL(KV_F32, f32)
    FILL(KV_F16, f16)
    FILL(KV_BF16, bf16)
    FILL(KV_Q8_0, q8_0)
#undef FILL
    k->attn_join = attn_join;
}
