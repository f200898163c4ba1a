/* SPDX-License-Identifier: Apache-2.0 */
/* Everything done to one row of float32 in plain C: preparing activations, norms, elementwise
 * functions, rotary positions, cache rows, argmax.  Any thread; see kern.h.
 *
 * Sums run in 16 lanes (element i in lane i % 16) that are folded by halves.  Where no exponential
 * is involved, multiplications and additions are rounded one by one and other levels give the same
 * bits. */
#include <math.h>

#include "worker/kernel/blocks.h"
#include "worker/kernel/ref/ref.h"

static float fold16(float lane[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static void act_f32(const float *src, void *dst, uint32_t n)
{
    memcpy(dst, src, sizeof(float) * (size_t)n);
}

static void act_bf16(const float *src, void *dst, uint32_t n)
{
    uint16_t *to = dst;
    for (uint32_t i = 0; i < n; i++)
        to[i] = bf16_from_f32(src[i]);
    for (uint32_t i = n; i % 32; i++) /* tiles take 32 columns */
        to[i] = 0;
}

static void act_q8_block(const float *x, struct act_q8 *g, uint32_t b)
{
    uint32_t top = 0; /* bits of |x| sort as the values do, NaN above all */
    for (int i = 0; i < 32; i++)
        top = MAX_OF(top, f32_bits(x[i]) & 0x7fffffffu);
    float max = f32_from_bits(top);
    float inv = 0;
    g->d[b] = 0;
    g->sum[2 * b] = g->sum[2 * b + 1] = 0;
    if (top >= 0x7f800000u) {
        g->d[b] = f32_from_bits(0x7fc00000u);
    } else if (max >= 1e-30f) {
        g->d[b] = max / 127.0f;
        inv = 127.0f / max;
    }
    for (uint32_t i = 0; i < 32; i++) {
        int8_t q = inv > 0 ? (int8_t)lrintf(x[i] * inv) : 0;
        g->q[act_q8_at(32 * b + i)] = q;
        g->sum[2 * b + i / 16] = (int16_t)(g->sum[2 * b + i / 16] + q);
    }
    int sum0 = g->sum[2 * b], sum1 = g->sum[2 * b + 1];
    g->off_half[2 * b] = -128 * sum0;
    g->off_half[2 * b + 1] = -128 * sum1;
    g->off[b] = -128 * (sum0 + sum1);
    g->ds[b] = g->d[b] * (float)(sum0 + sum1);
}

static void act_q8(const float *src, void *dst, uint32_t n)
{
    struct act_q8 *g = dst;
    if (n % 256)
        memset(g + n / 256, 0, sizeof(*g));
    for (uint32_t b = 0; b < n / 32; b++)
        act_q8_block(src + 32 * (size_t)b, g + b / 8, b % 8);
}

static void rms_norm(const float *x, const float *w, float eps, float *y, uint32_t n)
{
    float lane[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % 16] += x[i] * x[i];
    float s = 1.0f / sqrtf(fold16(lane) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = w ? x[i] * s * w[i] : x[i] * s;
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    float lane[16] = {0}, dev[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % 16] += x[i];
    float mean = fold16(lane) / (float)n;
    for (uint32_t i = 0; i < n; i++)
        dev[i % 16] += (x[i] - mean) * (x[i] - mean);
    float s = 1.0f / sqrtf(fold16(dev) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * s;
        if (w)
            v *= w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static void add(const float *a, const float *b, float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void scale(const float *x, float s, float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * s;
}

static void softcap(const float *x, float cap, float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = cap * tanhf(x[i] / cap);
}

static void silu_mul(const float *gate, const float *up, float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

/* 0.5 x (1 + tanh u) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): the right side
 * loses no digits for negative x (Hendrycks and Gimpel, Gaussian Error Linear Units, section 2). */
static void gelu_mul(const float *gate, const float *up, float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float x = gate[i], u2 = 1.59576912160573f * x * (1.0f + 0.044715f * x * x);
        y[i] = x / (1.0f + expf(-u2)) * up[i];
    }
}

static inline void rotate(float *a, float *b, const float *cos_sin)
{
    float x = *a, y = *b;
    *a = x * cos_sin[0] - y * cos_sin[1];
    *b = y * cos_sin[0] + x * cos_sin[1];
}

static void rope_norm(float *head, const float *cos_sin, uint32_t n_rot)
{
    for (uint32_t i = 0; i < n_rot / 2; i++)
        rotate(&head[2 * i], &head[2 * i + 1], cos_sin + 2 * i);
}

static void rope_neox(float *head, const float *cos_sin, uint32_t n_rot)
{
    for (uint32_t i = 0; i < n_rot / 2; i++)
        rotate(&head[i], &head[i + n_rot / 2], cos_sin + 2 * i);
}

/* NaN is never the largest; of nothing but NaN and -infinity the answer is 0. */
static uint32_t argmax(const float *x, uint32_t n)
{
    float best = -INFINITY;
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > best) {
            best = x[i];
            at = i;
        }
    }
    return at;
}

static bool block_max(const float *x, uint32_t n, float *max)
{
    for (uint32_t i = 0; i < n; i++) {
        float *m = &max[i / KERN_ROW_BLOCK];
        if (!(x[i] < INFINITY))
            return false;
        *m = i % KERN_ROW_BLOCK && *m > x[i] ? *m : x[i];
    }
    return true;
}

static void exp_blocks(const float *x, float max, float t, float *y, float *sums, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float *sum = &sums[i / KERN_ROW_BLOCK], u = (x[i] - max) / t;
        y[i] = u < -87.0f ? 0.0f : expf(u);
        *sum = i % KERN_ROW_BLOCK ? *sum + y[i] : y[i];
    }
}

void ref_rows_fill(struct kern *k)
{
    k->act_prepare[ACT_F32] = act_f32;
    k->act_prepare[ACT_BF16] = act_bf16;
    k->act_prepare[ACT_Q8] = act_q8;
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->add = add;
    k->scale = scale;
    k->softcap = softcap;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->rope_norm = rope_norm;
    k->rope_neox = rope_neox;
    k->argmax = argmax;
    k->block_max = block_max;
    k->exp_blocks = exp_blocks;
}
