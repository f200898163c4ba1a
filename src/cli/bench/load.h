/* SPDX-License-Identifier: Apache-2.0 */
/* One level of load on a daemon: so many completions at once, streamed, and how long their tokens
 * took. */
#ifndef CLI_BENCH_LOAD_H
#define CLI_BENCH_LOAD_H

#include "cli/client.h"

struct load {
    const struct client *client;
    const char *model;
    const json_t *tokens; /* ids that prompts are drawn from, one or more */
    uint32_t concurrency, prompt_len, output_len;
    uint32_t n_prompts;  /* requests in all; 0: until the time is over */
    uint64_t duration_s; /* none begins later */
    uint64_t seed;       /* of the draws; n further on for the n-th prompt */
};

/* Quantiles in milliseconds. */
struct load_quantiles {
    double p50, p90, p99, mean;
};
struct load_result {
    uint32_t n_requests, n_failed;
    uint64_t n_prompt_tokens, n_cached_tokens, n_tokens;
    double wall_s;
    struct load_quantiles ttft, itl; /* first token; between tokens of one answer */
    struct err first_failure;        /* code 0: none */
};

/* Runs the level with threads of its own and waits for every answer.  E_NOMEM, E_IO when it cannot
 * be set up; requests that fail are counted. */
int load_run(const struct load *l, struct load_result *ret, struct err *err) MUST_USE;

#endif
