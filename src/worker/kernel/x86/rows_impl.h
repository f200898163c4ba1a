/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that work on one row, in v16 (v16_avx2.h, v16_avx512.h, arm/v16_neon.h); included once
 * by rows_avx2.c, rows_avx512.c and arm/rows_neon.c. Same results as ref/rows.c bit for bit, except
 * where exp or tanh takes part.
 */
#include <math.h>

#include "worker/kernel/blocks.h"
#include "worker/kernel/x86/x86.h"

/* Runs body over whole vectors and once more over the rest: i is the first element, and LOAD and
 * STORE know how many. */
#define ROW_LOOP(n, BODY)                                                                          \
    do {                                                                                           \
        uint32_t i = 0;                                                                            \
        for (; i + 16 <= (n); i += 16)                                                             \
            BODY(v16_load, v16_store);                                                             \
        if (i < (n)) {                                                                             \
            const uint32_t rest = (n)-i;                                                           \
            BODY(LOAD_REST, STORE_REST);                                                           \
        }                                                                                          \
    } while (0)
#define LOAD_REST(p)     v16_load_n(p, rest)
#define STORE_REST(p, v) v16_store_n(p, rest, v)

static void add(const float *a, const float *b, float *y, uint32_t n)
{
#define BODY(LOAD, STORE) STORE(y + i, v16_add(LOAD(a + i), LOAD(b + i)))
    ROW_LOOP(n, BODY);
#undef BODY
}

static void scale(const float *x, float s, float *y, uint32_t n)
{
    const v16 vs = v16_set1(s);
#define BODY(LOAD, STORE) STORE(y + i, v16_mul(LOAD(x + i), vs))
    ROW_LOOP(n, BODY);
#undef BODY
}

static void softcap(const float *x, float cap, float *y, uint32_t n)
{
    const v16 c = v16_set1(cap);
#define BODY(LOAD, STORE) STORE(y + i, v16_mul(c, v16_tanh(v16_div(LOAD(x + i), c))))
    ROW_LOOP(n, BODY);
#undef BODY
}

/* x / (1 + exp(-u)) */
static inline v16 gated(v16 x, v16 u)
{
    return v16_div(x, v16_exp_plus1(v16_sub(v16_zero(), u)));
}

/* Rows that a product has written lie past the caches, and no hardware fetches across a page. */
enum { ROW_AHEAD = 768 };
static inline void fetch_ahead(const float *x, const float *y)
{
    __builtin_prefetch(x + ROW_AHEAD);
    __builtin_prefetch(y + ROW_AHEAD);
}

static void silu_mul(const float *gate, const float *up, float *y, uint32_t n)
{
#define BODY(LOAD, STORE)                                                                          \
    do {                                                                                           \
        fetch_ahead(gate + i, up + i);                                                             \
        v16 x = LOAD(gate + i);                                                                    \
        STORE(y + i, v16_mul(gated(x, x), LOAD(up + i)));                                          \
    } while (0)
    ROW_LOOP(n, BODY);
#undef BODY
}

/* 2 sqrt(2 / pi) (x + 0.044715 x^3); see ref/rows.c */
static inline v16 gelu_u2(v16 x)
{
    v16 cubic = v16_add(v16_set1(1.0f), v16_mul(v16_mul(v16_set1(0.044715f), x), x));
    return v16_mul(v16_mul(v16_set1(1.59576912160573f), x), cubic);
}

static void gelu_mul(const float *gate, const float *up, float *y, uint32_t n)
{
#define BODY(LOAD, STORE)                                                                          \
    do {                                                                                           \
        fetch_ahead(gate + i, up + i);                                                             \
        v16 x = LOAD(gate + i);                                                                    \
        STORE(y + i, v16_mul(gated(x, gelu_u2(x)), LOAD(up + i)));                                 \
    } while (0)
    ROW_LOOP(n, BODY);
#undef BODY
}

static void rms_norm(const float *x, const float *w, float eps, float *y, uint32_t n)
{
    v16 sum = v16_zero();
#define BODY(LOAD, STORE)                                                                          \
    do {                                                                                           \
        v16 v = LOAD(x + i);                                                                       \
        sum = v16_add(sum, v16_mul(v, v));                                                         \
    } while (0)
    ROW_LOOP(n, BODY);
#undef BODY
    float s = 1.0f / sqrtf(v16_fold(sum) / (float)n + eps);
    const v16 vs = v16_set1(s);
    if (!w) {
        scale(x, s, y, n);
        return;
    }
#define BODY(LOAD, STORE) STORE(y + i, v16_mul(v16_mul(LOAD(x + i), vs), LOAD(w + i)))
    ROW_LOOP(n, BODY);
#undef BODY
}

static float row_mean(const float *x, uint32_t n)
{
    v16 sum = v16_zero();
#define BODY(LOAD, STORE) sum = v16_add(sum, LOAD(x + i))
    ROW_LOOP(n, BODY);
#undef BODY
    return v16_fold(sum) / (float)n;
}

static float row_variance(const float *x, float mean, uint32_t n)
{
    const v16 m = v16_set1(mean);
    v16 sum = v16_zero(), v;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v = v16_sub(v16_load(x + i), m);
        sum = v16_add(sum, v16_mul(v, v));
    }
    if (i < n) {
        v = v16_keep(v16_sub(v16_load_n(x + i, n - i), m), n - i);
        sum = v16_add(sum, v16_mul(v, v));
    }
    return v16_fold(sum) / (float)n;
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    float mean = row_mean(x, n), s = 1.0f / sqrtf(row_variance(x, mean, n) + eps);
    const v16 vm = v16_set1(mean), vs = v16_set1(s);
#define BODY(LOAD, STORE)                                                                          \
    do {                                                                                           \
        v16 v = v16_mul(v16_sub(LOAD(x + i), vm), vs);                                             \
        if (w)                                                                                     \
            v = v16_mul(v, LOAD(w + i));                                                           \
        if (b)                                                                                     \
            v = v16_add(v, LOAD(b + i));                                                           \
        STORE(y + i, v);                                                                           \
    } while (0)
    ROW_LOOP(n, BODY);
#undef BODY
}

static void rope_norm(float *head, const float *cos_sin, uint32_t n_rot)
{
#define BODY(LOAD, STORE)                                                                          \
    do {                                                                                           \
        v16 x = LOAD(head + i), cs = LOAD(cos_sin + i);                                            \
        v16 by_cos = v16_mul(x, v16_dup_even(cs)),                                                 \
            by_sin = v16_mul(v16_swap_pairs(x), v16_dup_odd(cs));                                  \
        STORE(head + i, v16_subadd(by_cos, by_sin));                                               \
    } while (0)
    ROW_LOOP(n_rot, BODY);
#undef BODY
}

static void rope_neox(float *head, const float *cos_sin, uint32_t n_rot)
{
    uint32_t half = n_rot / 2, i = 0;
    float *other = head + half;
    for (; i + 16 <= half; i += 16) {
        v16 cs0 = v16_load(cos_sin + 2 * i), cs1 = v16_load(cos_sin + 2 * i + 16);
        v16 c = v16_evens(cs0, cs1), s = v16_odds(cs0, cs1);
        v16 x = v16_load(head + i), y = v16_load(other + i);
        v16_store(head + i, v16_sub(v16_mul(x, c), v16_mul(y, s)));
        v16_store(other + i, v16_add(v16_mul(y, c), v16_mul(x, s)));
    }
    for (; i < half; i++) {
        float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], x = head[i], y = other[i];
        head[i] = x * c - y * s;
        other[i] = y * c + x * s;
    }
}

static uint32_t argmax(const float *x, uint32_t n)
{
    v16 best = v16_set1(-INFINITY);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        best = v16_max(v16_load(x + i), best); /* of a NaN and best: best */
    float top = v16_fold_max(best);
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    if (!(top > -INFINITY))
        return 0;
    for (i = 0; i + 16 <= n; i += 16) {
        uint32_t mask = v16_equal_mask(v16_load(x + i), v16_set1(top));
        if (mask)
            return i + (uint32_t)__builtin_ctz(mask);
    }
    while (x[i] != top)
        i++;
    return i;
}

#if defined(__x86_64__) /* arm/v16_neon.h has its own */

/* 16 rounded values to their places; their sum. */
static inline int put_half(v16 x, v16 inv, int8_t *q)
{
    __m128i bytes = v16i_to_bytes(v16_to_int(v16_mul(x, inv)));
    uint32_t dword[4];
    _mm_storeu_si128((__m128i *)dword, bytes);
    for (int j = 0; j < 4; j++)
        memcpy(q + 64 * j, &dword[j], 4);
    __m128i sad = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(sad) + _mm_extract_epi16(sad, 4) - 16 * 128;
}

#endif

static void act_q8_block(const float *x, struct act_q8 *g, uint32_t b)
{
    v16 x0 = v16_load(x), x1 = v16_load(x + 16);
    uint32_t top = v16i_fold_max(v16i_max(v16_abs_bits(x0), v16_abs_bits(x1)));
    float max = f32_from_bits(top), inv = 0, d = 0;
    if (top >= 0x7f800000u) {
        d = f32_from_bits(0x7fc00000u);
        x0 = x1 = v16_zero();
    } else if (max >= 1e-30f) {
        d = max / 127.0f;
        inv = 127.0f / max;
    }
    g->d[b] = d;
    const int sum0 = put_half(x0, v16_set1(inv), g->q + 4 * b);
    const int sum1 = put_half(x1, v16_set1(inv), g->q + 32 + 4 * b);
    g->sum[2 * b] = (int16_t)sum0;
    g->sum[2 * b + 1] = (int16_t)sum1;
    g->off_half[2 * b] = -128 * sum0;
    g->off_half[2 * b + 1] = -128 * sum1;
    g->off[b] = -128 * (sum0 + sum1);
    g->ds[b] = d * (float)(sum0 + sum1);
}

static void act_q8(const float *src, void *dst, uint32_t n)
{
    struct act_q8 *g = dst;
    if (n % 256)
        memset(g + n / 256, 0, sizeof(*g));
    for (uint32_t b = 0; b < n / 32; b++)
        act_q8_block(src + 32 * (size_t)b, g + b / 8, b % 8);
}

/* n elements, fewer than 16, and -infinity after them: it is nobody's largest, and its exponential
 * is 0. */
static inline v16 load_padded(const float *x, uint32_t n)
{
    float padded[16];
    for (uint32_t i = 0; i < 16; i++)
        padded[i] = i < n ? x[i] : -INFINITY;
    return v16_load(padded);
}

static bool block_max(const float *x, uint32_t n, float *max)
{
    const v16 inf = v16_set1(INFINITY), one = v16_set1(1.0f);
    v16 odd = v16_zero();
    for (uint32_t b = 0; b < n; b += KERN_ROW_BLOCK) {
        const uint32_t end = n - b < KERN_ROW_BLOCK ? n : b + KERN_ROW_BLOCK;
        v16 m = v16_set1(-INFINITY);
        for (uint32_t i = b; i < end; i += 16) {
            v16 v = end - i < 16 ? load_padded(x + i, end - i) : v16_load(x + i);
            m = v16_max(m, v);
            odd = v16_if_less(v, inf, odd, one);
        }
        max[b / KERN_ROW_BLOCK] = v16_fold_max(m);
    }
    return v16_fold_max(odd) == 0;
}

static void exp_blocks(const float *x, float max, float t, float *y, float *sums, uint32_t n)
{
    const v16 vmax = v16_set1(max), vt = v16_set1(t);
    for (uint32_t b = 0; b < n; b += KERN_ROW_BLOCK) {
        const uint32_t end = n - b < KERN_ROW_BLOCK ? n : b + KERN_ROW_BLOCK;
        v16 sum = v16_zero();
        for (uint32_t i = b; i < end; i += 16) {
            const uint32_t rest = end - i;
            v16 v = rest < 16 ? load_padded(x + i, rest) : v16_load(x + i);
            v = v16_exp_weight(v16_div(v16_sub(v, vmax), vt));
            if (rest < 16)
                v16_store_n(y + i, rest, v);
            else
                v16_store(y + i, v);
            sum = v16_add(sum, v);
        }
        sums[b / KERN_ROW_BLOCK] = v16_fold(sum);
    }
}

static void rows_fill(struct kern *k)
{
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
