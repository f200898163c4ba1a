/* SPDX-License-Identifier: Apache-2.0 */
/* From a row of logits to a token.
 *
 * Order (vLLM's): log-probabilities are read from the raw logits; end-of-generation and stop tokens
 * are banned below min_tokens; logit_bias (-100 and less bans); repetition penalty over prompt and
 * answer (a positive logit is divided, others multiplied, once per distinct token); frequency and
 * presence penalties over the answer; temperature 0 takes the largest, the first of equals;
 * otherwise temperature, min_p, top_k, top_p, and one draw.
 *
 *   min_p  keeps tokens whose probability is at least min_p times the largest's
 *   top_k  keeps exactly the k largest, of equal logits those with lower ids
 *   top_p  keeps the smallest set of largest tokens whose probabilities sum to at least top_p, ties
 * alike
 *
 * The draw inverts the cumulative distribution over the kept tokens in id order with one uniform
 * number, which is a function of the request's seed, the choice and the index of the token in its
 * answer (Philox4x32-10, Salmon et al. 2011): nothing depends on what other requests did.  No
 * sorting: thresholds are found by radix selection on the bits of the logits, linear in the
 * vocabulary whatever the values are.
 *
 * The vocabulary is passed over by vector code, in blocks of KERN_ROW_BLOCK tokens whose largest
 * logits, and sums of weights, are kept: what follows looks into blocks that have something for it.
 *
 * Allocates nothing after sampler_init.  One struct sampler per thread. */
#ifndef WORKER_ENGINE_SAMPLER_H
#define WORKER_ENGINE_SAMPLER_H

#include "lib/ipc/gen.h"
#include "worker/engine/engine.h"
#include "worker/kernel/kern.h"

#define SAMPLER_TOP_MAX LIMIT_REQUEST_TOP_LOGPROBS

struct sampler {
    const struct kern *kern; /* borrowed */
    uint32_t n_vocab, n_blocks;
    float *logits;    /* [n_vocab] working copy of logits that the parameters change */
    uint32_t *ids;    /* [n_vocab] kept tokens, ascending */
    float *values;    /* [n_vocab] their logits, less the largest, over the temperature */
    float *weights;   /* [n_vocab] exp of those */
    uint32_t *counts; /* [n_vocab], all 0 between calls */
    float *maxima;    /* [n_blocks] of the logits sampled from */
    float *sums;      /* [n_blocks] of weights */
    void *mem;        /* owned: all of the above */
};

uint64_t sampler_bytes(uint32_t n_vocab);
/* kern is borrowed for the sampler's life. */
int sampler_init(struct sampler *s, const struct kern *kern, uint32_t n_vocab,
                 struct err *err) MUST_USE;
void sampler_release(struct sampler *s);

/* What is known of the sequence that the row belongs to.  All borrowed. */
struct sampler_input {
    const float *logits; /* [n_vocab], raw; not written */
    const struct gen_params *params;
    uint32_t choice;
    const int32_t *prompt, *answer;
    uint32_t n_prompt, n_answer;
    const int32_t *eog, *stop_tokens;
    uint32_t n_eog, n_stop_tokens;
    const struct gen_logit_bias *bias;
    uint32_t n_bias;
};

struct sampler_result {
    int32_t token;
    float logprob; /* 0 unless params->want_logprobs */
    uint32_t n_top;
    struct engine_top top[SAMPLER_TOP_MAX]; /* best first, of equals the lower id */
};

/* 0, or why nothing can be sampled: -E_INTERNAL, a logit is not a number or +infinity, or all are
 * -infinity (the model's fault); -E_INVALID, the parameters ban every token or make its logit
 * infinite (the request's). */
int sampler_run(struct sampler *s, const struct sampler_input *in, struct sampler_result *ret);

/* Uniform in [0, 1), 53 bits. */
double sampler_uniform(uint64_t seed, uint32_t choice, uint32_t index);

#endif
