/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sampler.h. */
#include "worker/engine/sampler.h"

#include <math.h>
#include <string.h>

#include "lib/base/mem.h"

#define TEMPERATURE_MIN 1e-5f /* below it, greedy */
#define BIAS_BAN        (-100.0f)

static uint64_t array_bytes(uint64_t n)
{
    return (n * 4 + 63) / 64 * 64;
}

static uint32_t n_blocks_of(uint32_t n)
{
    return (uint32_t)(((uint64_t)n + KERN_ROW_BLOCK - 1) / KERN_ROW_BLOCK);
}

uint64_t sampler_bytes(uint32_t n_vocab)
{
    return 5 * array_bytes(n_vocab) + 2 * array_bytes(n_blocks_of(n_vocab));
}

int sampler_init(struct sampler *s, const struct kern *kern, uint32_t n_vocab, struct err *err)
{
    *s = (struct sampler){.kern = kern,
                          .n_vocab = n_vocab,
                          .n_blocks = n_blocks_of(n_vocab),
                          .mem = mem_try_aligned((size_t)sampler_bytes(n_vocab), err)};
    if (!s->mem)
        return err_wrap(err, "memory for sampling");
    const size_t step = (size_t)array_bytes(n_vocab);
    char *at = s->mem;
    s->logits = (float *)at;
    s->ids = (uint32_t *)(at + step);
    s->values = (float *)(at + 2 * step);
    s->weights = (float *)(at + 3 * step);
    s->counts = (uint32_t *)(at + 4 * step);
    s->maxima = (float *)(at + 5 * step);
    s->sums = (float *)(at + 5 * step + array_bytes(s->n_blocks));
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

/* ---- passes over a row ---- */

/* The tokens of block b: *ret_end is one past the last. */
static uint32_t block_begin(const struct sampler *s, uint32_t b, uint32_t *ret_end)
{
    const uint32_t first = b * KERN_ROW_BLOCK;
    *ret_end = MIN_OF(first + KERN_ROW_BLOCK, s->n_vocab);
    return first;
}

/* The blocks' maxima, and the row's.  False for a row with a NaN, +infinity, or nothing finite. */
static bool row_max(struct sampler *s, const float *x, float *ret_max)
{
    float max = -INFINITY;
    if (!s->kern->block_max(x, s->n_vocab, s->maxima))
        return false;
    for (uint32_t b = 0; b < s->n_blocks; b++)
        max = s->maxima[b] > max ? s->maxima[b] : max;
    *ret_max = max;
    return max > -INFINITY;
}

static double sum_of(const float *x, uint32_t n)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += (double)x[i];
    return total;
}

/* ---- log-probabilities ---- */

static double log_sum_exp(struct sampler *s, const float *x, float max)
{
    s->kern->exp_blocks(x, max, 1.0f, s->weights, s->sums, s->n_vocab);
    return (double)max + log(sum_of(s->sums, s->n_blocks));
}

static void insert_top(struct sampler_result *r, uint32_t n_top, uint32_t token, float x)
{
    uint32_t j = r->n_top < n_top ? r->n_top++ : n_top - 1;
    for (; j > 0 && x > r->top[j - 1].logprob; j--)
        r->top[j] = r->top[j - 1];
    r->top[j] = (struct engine_top){.token = (int32_t)token, .logprob = x};
}

/* The n_top largest by insertion: n_top is small, and few elements pass the first comparison. */
static void find_top(const struct sampler *s, const float *x, uint32_t n_top,
                     struct sampler_result *r)
{
    for (uint32_t b = 0, end; n_top && b < s->n_blocks; b++) {
        if (r->n_top == n_top && !(s->maxima[b] > r->top[n_top - 1].logprob))
            continue;
        for (uint32_t i = block_begin(s, b, &end); i < end; i++)
            if (r->n_top < n_top || x[i] > r->top[n_top - 1].logprob)
                insert_top(r, n_top, i, x[i]);
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

static float float_of_key(uint32_t key)
{
    float f;
    key = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    memcpy(&f, &key, sizeof f);
    return f;
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

/* Keeps what is above the cut; returns how many.  Without branches, here and below: what a value is
 * cannot be guessed. */
static uint32_t keep(struct sampler *s, uint32_t n, struct cut c)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t key = float_key(s->values[i]), is_tie = key == c.key;
        s->ids[m] = s->ids[i];
        s->values[m] = s->values[i];
        s->weights[m] = s->weights[i];
        m += (key > c.key) | (is_tie & (c.n_ties != 0));
        c.n_ties -= is_tie & (c.n_ties != 0);
    }
    return m;
}

/* ---- the draw ---- */

/* One row of logits, and what is done to them first: the largest becomes 0, so that nothing
 * overflows. */
struct row {
    const float *x;
    float max, temperature;
};

static float scaled(const struct row *r, float x)
{
    return (x - r->max) / r->temperature;
}

/* A value that at least k tokens reach: so many blocks do.  Cheaper than asking every token. */
static float floor_of_top(struct sampler *s, const struct row *r, uint32_t k)
{
    if (k > s->n_blocks)
        return -INFINITY;
    for (uint32_t b = 0; b < s->n_blocks; b++)
        s->values[b] = scaled(r, s->maxima[b]);
    return float_of_key(find_cut(s->values, NULL, s->n_blocks, k).key);
}

/* Tokens whose values reach `floor` to ids and values. */
static uint32_t collect(struct sampler *s, const struct row *r, float floor)
{
    uint32_t n = 0;
    for (uint32_t b = 0, end; b < s->n_blocks; b++) {
        if (scaled(r, s->maxima[b]) < floor)
            continue;
        for (uint32_t i = block_begin(s, b, &end); i < end; i++) {
            const float value = scaled(r, r->x[i]);
            if (value < floor || value == -INFINITY)
                continue;
            s->ids[n] = i;
            s->values[n++] = value;
        }
    }
    return n;
}

/* Tokens whose weights, which are there for all with their sums, reach `floor`. */
static uint32_t collect_heavy(struct sampler *s, const struct row *r, double floor)
{
    uint32_t n = 0;
    for (uint32_t b = 0, end; b < s->n_blocks; b++) {
        if ((double)s->sums[b] < floor)
            continue;
        for (uint32_t i = block_begin(s, b, &end); i < end; i++) {
            const float w = s->weights[i];
            s->ids[n] = i;
            s->weights[n] = w;
            n += (double)w >= floor;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        s->values[i] = scaled(r, r->x[s->ids[i]]);
    return n;
}

/* The first of n weights at which their sum passes `left`; the last that is not 0 where rounding
 * leaves none. */
static uint32_t walk(const float *weights, uint32_t n, double left)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (weights[i] <= 0)
            continue;
        last = i;
        left -= (double)weights[i];
        if (left < 0)
            break;
    }
    return last;
}

/* The same over the weights of all tokens, block by block. */
static uint32_t walk_blocks(const struct sampler *s, double left)
{
    uint32_t block = 0, end;
    double rest = left;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->sums[b] <= 0)
            continue;
        block = b;
        rest = left;
        left -= (double)s->sums[b];
        if (left < 0)
            break;
    }
    const uint32_t first = block_begin(s, block, &end);
    return first + walk(s->weights + first, end - first, rest);
}

/* Tokens dropped here weigh less together than what top_p may drop; 1e-6 is for rounding. */
static double floor_of_top_p(const struct sampler *s, float top_p, double total)
{
    return (1.0 - (double)top_p) * total / s->n_vocab * (1 - 1e-6);
}

static int32_t sample(struct sampler *s, const struct sampler_input *in, const struct row *r)
{
    const struct gen_params *p = in->params;
    const double u = sampler_uniform(p->seed, in->choice, in->n_answer);
    const bool has_top_k = p->top_k && p->top_k < s->n_vocab;
    uint32_t n;
    double total;
    if (has_top_k || p->min_p > 0) {
        float floor = p->min_p > 0 ? fminf(logf(p->min_p), 0.0f) : -INFINITY;
        if (has_top_k)
            floor = fmaxf(floor, floor_of_top(s, r, p->top_k));
        n = collect(s, r, floor);
        if (has_top_k && p->top_k < n)
            n = keep(s, n, find_cut(s->values, NULL, n, p->top_k));
        s->kern->exp_blocks(s->values, 0.0f, 1.0f, s->weights, s->sums, n);
        total = sum_of(s->sums, n_blocks_of(n));
    } else {
        s->kern->exp_blocks(r->x, r->max, r->temperature, s->weights, s->sums, s->n_vocab);
        total = sum_of(s->sums, s->n_blocks);
        if (p->top_p >= 1.0f)
            return (int32_t)walk_blocks(s, u * total);
        n = collect_heavy(s, r, floor_of_top_p(s, p->top_p, total));
    }
    if (p->top_p < 1.0f) {
        n = keep(s, n, find_cut(s->values, s->weights, n, (double)p->top_p * total));
        total = sum_of(s->weights, n);
    }
    return (int32_t)s->ids[walk(s->weights, n, u * total)];
}

static int32_t first_max(const struct sampler *s, const struct row *r)
{
    uint32_t b = 0, end;
    while (s->maxima[b] != r->max)
        b++;
    uint32_t i = block_begin(s, b, &end);
    while (r->x[i] != r->max)
        i++;
    return (int32_t)i;
}

/* The logits that are sampled from: the model's, or a copy that the parameters change. */
static const float *change(struct sampler *s, const struct sampler_input *in)
{
    const struct gen_params *p = in->params;
    const bool bans = in->n_answer < p->min_tokens && in->n_eog + in->n_stop_tokens > 0;
    if (!bans && !in->n_bias && p->repetition_penalty == 1.0f && p->presence_penalty == 0 &&
        p->frequency_penalty == 0)
        return in->logits;
    memcpy(s->logits, in->logits, s->n_vocab * sizeof *s->logits);
    if (bans) {
        ban(s, in->eog, in->n_eog);
        ban(s, in->stop_tokens, in->n_stop_tokens);
    }
    apply_bias(s, in);
    apply_penalties(s, in);
    return s->logits;
}

int sampler_run(struct sampler *s, const struct sampler_input *in, struct sampler_result *ret)
{
    const struct gen_params *p = in->params;
    float max;
    ret->n_top = 0;
    ret->logprob = 0;
    if (!row_max(s, in->logits, &max))
        return -E_INTERNAL;
    const double norm = p->want_logprobs ? log_sum_exp(s, in->logits, max) : 0;
    if (p->want_logprobs) {
        find_top(s, in->logits, MIN_OF(MIN_OF(p->top_logprobs, SAMPLER_TOP_MAX), s->n_vocab), ret);
        for (uint32_t i = 0; i < ret->n_top; i++)
            ret->top[i].logprob = (float)((double)ret->top[i].logprob - norm);
    }
    struct row r = {.x = change(s, in), .max = max, .temperature = p->temperature};
    if (r.x != in->logits && !row_max(s, r.x, &r.max))
        return -E_INVALID;
    ret->token = p->temperature < TEMPERATURE_MIN ? first_max(s, &r) : sample(s, in, &r);
    if (p->want_logprobs)
        ret->logprob = (float)((double)in->logits[ret->token] - norm);
    return 0;
}
