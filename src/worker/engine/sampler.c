/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sampler.h. */
#include "worker/engine/sampler.h"

#include <math.h>
#include <string.h>

#include "lib/base/mem.h"

#define TEMPERATURE_MIN 1e-5f /* below it, greedy */
#define BIAS_BAN        (-100.0f)

uint64_t sampler_bytes(uint32_t n_vocab)
{
    return 4 * (((uint64_t)n_vocab * 4 + 63) / 64 * 64);
}

int sampler_init(struct sampler *s, uint32_t n_vocab, struct err *err)
{
    *s = (struct sampler){.n_vocab = n_vocab,
                          .mem = mem_try_aligned((size_t)sampler_bytes(n_vocab), err)};
    if (!s->mem)
        return err_wrap(err, "memory for sampling");
    const size_t step = (size_t)sampler_bytes(n_vocab) / 4;
    s->logits = s->mem;
    s->ids = (uint32_t *)((char *)s->mem + step);
    s->values = (float *)((char *)s->mem + 2 * step);
    s->counts = (uint32_t *)((char *)s->mem + 3 * step);
    return 0;
}

void sampler_release(struct sampler *s)
{
    mem_free(s->mem);
    *s = (struct sampler){0};
}

/* ---- random numbers ---- */

static void philox_round(uint32_t c[4], const uint32_t k[2])
{
    const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
    const uint32_t n[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1,
                           (uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0};
    memcpy(c, n, sizeof n);
}

double sampler_uniform(uint64_t seed, uint32_t choice, uint32_t index)
{
    uint32_t c[4] = {index, choice, 0, 0}, k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < 10; i++) {
        philox_round(c, k);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) * 0x1p-53;
}

/* ---- log-probabilities ---- */

/* False for a row with a NaN, +infinity, or nothing finite. */
static bool row_max(const float *x, uint32_t n, float *ret_max)
{
    float max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (!(x[i] < INFINITY))
            return false;
        max = x[i] > max ? x[i] : max;
    }
    *ret_max = max;
    return max > -INFINITY;
}

static double log_sum_exp(const float *x, uint32_t n, float max)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - max);
    return (double)max + log(sum);
}

/* The n_top largest by insertion: n_top is small, and few elements pass the first comparison. */
static void find_top(const float *x, uint32_t n, uint32_t n_top, struct sampler_result *r)
{
    for (uint32_t i = 0; n_top && i < n; i++) {
        if (r->n_top == n_top && !(x[i] > r->top[n_top - 1].logprob))
            continue;
        uint32_t j = r->n_top < n_top ? r->n_top++ : n_top - 1;
        for (; j > 0 && x[i] > r->top[j - 1].logprob; j--)
            r->top[j] = r->top[j - 1];
        r->top[j] = (struct engine_top){.token = (int32_t)i, .logprob = x[i]};
    }
}

/* ---- changes to the logits ---- */

static void ban(struct sampler *s, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] >= 0 && (uint32_t)tokens[i] < s->n_vocab)
            s->logits[tokens[i]] = -INFINITY;
}

static void apply_bias(struct sampler *s, const struct sampler_input *in)
{
    for (uint32_t i = 0; i < in->n_bias; i++) {
        const struct gen_logit_bias *b = &in->bias[i];
        if (b->token >= 0 && (uint32_t)b->token < s->n_vocab)
            s->logits[b->token] = b->bias <= BIAS_BAN ? -INFINITY : s->logits[b->token] + b->bias;
    }
}

static void repeat_once(struct sampler *s, const int32_t *tokens, uint32_t n, float penalty)
{
    for (uint32_t i = 0; i < n; i++) {
        float *l = &s->logits[tokens[i]];
        if (s->counts[tokens[i]]++ == 0)
            *l = *l > 0 ? *l / penalty : *l * penalty;
    }
}

static void forget(struct sampler *s, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->counts[tokens[i]] = 0;
}

static void apply_penalties(struct sampler *s, const struct sampler_input *in)
{
    const struct gen_params *p = in->params;
    if (p->repetition_penalty != 1.0f) {
        repeat_once(s, in->prompt, in->n_prompt, p->repetition_penalty);
        repeat_once(s, in->answer, in->n_answer, p->repetition_penalty);
        forget(s, in->prompt, in->n_prompt);
        forget(s, in->answer, in->n_answer);
    }
    if (p->presence_penalty == 0 && p->frequency_penalty == 0)
        return;
    for (uint32_t i = 0; i < in->n_answer; i++)
        s->counts[in->answer[i]]++;
    for (uint32_t i = 0; i < in->n_answer; i++) {
        const int32_t t = in->answer[i];
        if (s->counts[t])
            s->logits[t] -= p->frequency_penalty * (float)s->counts[t] + p->presence_penalty;
        s->counts[t] = 0;
    }
}

/* ---- filters: ids and values hold n kept tokens ---- */

/* A key whose unsigned order is the order of the floats (no NaN here). */
static uint32_t float_key(float f)
{
    uint32_t u;
    f += 0.0f; /* -0 counts as 0 */
    memcpy(&u, &f, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

struct cut {
    uint32_t key;    /* larger keys are kept */
    uint32_t n_ties; /* and of this key the first n_ties */
};

/* Walking the values downwards, the place where the sum of weights reaches target: three rounds
 * over 11, 11 and 10 bits of the key.  weights NULL: every value weighs 1. */
static struct cut find_cut(const float *values, const float *weights, uint32_t n, double target)
{
    static const int shifts[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    double sums[2048];
    uint32_t prefix = 0, mask = 0;
    double above = 0;
    for (int round = 0; round < 3; round++) {
        const uint32_t n_bins = 1u << bits[round];
        memset(sums, 0, n_bins * sizeof *sums);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t key = float_key(values[i]);
            if ((key & mask) == prefix)
                sums[key >> shifts[round] & (n_bins - 1)] += weights ? (double)weights[i] : 1.0;
        }
        uint32_t bin = n_bins - 1;
        while (bin > 0 && !(sums[bin] > 0 && above + sums[bin] >= target))
            above += sums[bin--];
        if (above + sums[bin] <
            target) /* rounding: the finer sums fall short.  All of this range is kept. */
            return (struct cut){.key = prefix, .n_ties = UINT32_MAX};
        prefix |= bin << shifts[round];
        mask |= (n_bins - 1) << shifts[round];
    }
    struct cut c = {.key = prefix};
    for (uint32_t i = 0; i < n && (c.n_ties == 0 || above < target); i++)
        if (float_key(values[i]) == prefix) {
            above += weights ? (double)weights[i] : 1.0;
            c.n_ties++;
        }
    return c;
}

/* Keeps what is above the cut; returns how many. */
static uint32_t keep(struct sampler *s, float *weights, uint32_t n, struct cut c)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t key = float_key(s->values[i]);
        if (key < c.key || (key == c.key && c.n_ties == 0))
            continue;
        if (key == c.key)
            c.n_ties--;
        s->ids[m] = s->ids[i];
        s->values[m] = s->values[i];
        if (weights)
            weights[m] = weights[i];
        m++;
    }
    return m;
}

/* Tokens at or above `floor` to ids and values. */
static uint32_t collect(struct sampler *s, float floor)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (s->logits[i] < floor || s->logits[i] == -INFINITY)
            continue;
        s->ids[n] = i;
        s->values[n++] = s->logits[i];
    }
    return n;
}

static int32_t draw(const struct sampler *s, const float *weights, uint32_t n, double total,
                    double u)
{
    double left = u * total;
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (weights[i] <= 0)
            continue;
        last = i;
        left -= (double)weights[i];
        if (left < 0)
            break;
    }
    return (int32_t)s->ids[last];
}

static int32_t sample(struct sampler *s, const struct sampler_input *in, float max)
{
    const struct gen_params *p = in->params;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        s->logits[i] =
            (s->logits[i] - max) / p->temperature; /* the largest becomes 0: no overflow */
    uint32_t n = collect(s, p->min_p > 0 ? fminf(logf(p->min_p), 0.0f) : -INFINITY);
    if (p->top_k && p->top_k < n)
        n = keep(s, NULL, n, find_cut(s->values, NULL, n, p->top_k));
    float *weights = s->logits; /* no longer needed as logits */
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += (double)(weights[i] = expf(s->values[i]));
    if (p->top_p < 1.0f) {
        n = keep(s, weights, n, find_cut(s->values, weights, n, (double)p->top_p * total));
        total = 0;
        for (uint32_t i = 0; i < n; i++)
            total += (double)weights[i];
    }
    return draw(s, weights, n, total, sampler_uniform(p->seed, in->choice, in->n_answer));
}

static int32_t first_max(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (int32_t)best;
}

int sampler_run(struct sampler *s, const struct sampler_input *in, struct sampler_result *ret)
{
    const struct gen_params *p = in->params;
    float max;
    ret->n_top = 0;
    ret->logprob = 0;
    if (!row_max(in->logits, s->n_vocab, &max))
        return -E_INTERNAL;
    const double norm = p->want_logprobs ? log_sum_exp(in->logits, s->n_vocab, max) : 0;
    if (p->want_logprobs) {
        find_top(in->logits, s->n_vocab,
                 MIN_OF(MIN_OF(p->top_logprobs, SAMPLER_TOP_MAX), s->n_vocab), ret);
        for (uint32_t i = 0; i < ret->n_top; i++)
            ret->top[i].logprob = (float)((double)ret->top[i].logprob - norm);
    }
    memcpy(s->logits, in->logits, s->n_vocab * sizeof *s->logits);
    if (in->n_answer < p->min_tokens) {
        ban(s, in->eog, in->n_eog);
        ban(s, in->stop_tokens, in->n_stop_tokens);
    }
    apply_bias(s, in);
    apply_penalties(s, in);
    if (!row_max(s->logits, s->n_vocab, &max))
        return -E_INVALID;
    ret->token =
        p->temperature < TEMPERATURE_MIN ? first_max(s->logits, s->n_vocab) : sample(s, in, max);
    if (p->want_logprobs)
        ret->logprob = (float)((double)in->logits[ret->token] - norm);
    return 0;
}
