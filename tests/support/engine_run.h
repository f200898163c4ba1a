/* SPDX-License-Identifier: Apache-2.0 */
/* Runs requests through an engine and keeps what came of them, for comparison. */
#ifndef TESTS_SUPPORT_ENGINE_RUN_H
#define TESTS_SUPPORT_ENGINE_RUN_H

#include "worker/engine/engine.h"

#define RUN_TOKENS  320
#define RUN_CHOICES 6
#define RUN_TOP     4

struct run_choice {
    uint32_t n;
    int32_t tokens[RUN_TOKENS];
    float logprobs[RUN_TOKENS];
    struct engine_top tops[RUN_TOKENS][RUN_TOP];
    enum gen_finish finish;
    uint32_t n_done;
};

/* One request: what to ask, when to leave, and what came. */
struct run {
    struct engine_request req;
    uint32_t cancel_after;        /* tokens of choice 0, then engine_cancel; 0: never */
    uint32_t finish_choice_after; /* tokens of each choice, then engine_finish_choice; 0: never */
    uint32_t submit_at_step;
    uint32_t started_at_step, ended_at_step, n_started, n_cached;
    bool is_over; /* cancelled, or all choices done */
    uint32_t n_choices_over;
    struct run_choice choices[RUN_CHOICES];
};

struct run_set {
    struct engine *e;
    struct run *runs;
    uint32_t n;
    uint32_t step;
    bool validate; /* the cache after every step */
    /* NULL, or what e runs and what guesses for it: from step prepare_at on it computes from
     * prepared weights of it, made now. */
    const struct gguf *prepare[WEIGHTS_N];
    uint32_t prepare_at[WEIGHTS_N];
};

struct engine *run_open(const struct gguf *g, const struct engine_config *cfg);
/* The prepared weights of g, an anonymous file; close it. */
int run_prepare(const struct gguf *g, const char *cpu_level);
/* Submits each run at its step and steps until all are over.  Ends the test on errors. */
void run_all(struct run_set *s);
/* A request of n_prompt pseudo-random tokens (greedy, 8 tokens); prompt has room for them. */
void run_request(struct run *r, uint64_t id, int32_t *prompt, uint32_t n_prompt, uint32_t n_vocab);

#endif
