/* SPDX-License-Identifier: Apache-2.0 */
/* One level of load on a server: so many answers at once, streamed, and when their tokens came. */
#ifndef CLI_BENCH_LOAD_H
#define CLI_BENCH_LOAD_H

#include <stdatomic.h>

#include "cli/bench/stats.h"
#include "cli/client.h"

/* How far a level is; read while it runs. */
struct load_progress {
    _Atomic uint32_t n_begun, n_done, n_failed, n_active;
    _Atomic uint64_t n_pieces; /* of answers: tokens, but for those that share an event */
    double begun_ms;           /* monotonic clock */
};

struct load {
    const struct client *client;
    const char *path;                       /* "/v1/completions" */
    json_t *(*body)(void *ctx, uint32_t n); /* of the n-th request: a new reference; any thread */
    void *body_ctx;
    uint32_t first;       /* number of the first request */
    uint32_t concurrency; /* answers under way at most */
    uint32_t n_prompts;   /* requests in all; 0: until the time is over */
    uint64_t duration_s;  /* none begins later */
    double request_rate;  /* requests a second, arriving by chance (Poisson); 0: at once */
    uint64_t seed;        /* of the arrivals */
    uint32_t timeout_s;   /* of one request; 0: none */
    void (*on_tick)(void *tick_ctx, const struct load_progress *p); /* every 100 ms; NULL: none */
    void *tick_ctx;
};

/* Runs the level with threads of its own and waits for every answer.  *ret is initialised here and
 * released by the caller, also after a failure.  E_NOMEM, E_IO when it cannot be set up; requests
 * that fail are counted, the first one's reason is *ret_failure (code 0: none). */
int load_run(const struct load *l, struct bench_samples *ret, struct err *ret_failure,
             struct err *err) MUST_USE;

/* Numbers that look like chance and repeat: splitmix64's mixer (Steele, Lea, Flood 2014). */
uint64_t load_mix(uint64_t x);
double load_now_ms(void); /* monotonic clock */

#endif
