/* SPDX-License-Identifier: Apache-2.0 */
/* What a level's times come to: means and percentiles, tokens a second.  Definitions are those of
 * vLLM's bench, so that figures can be laid side by side.  Pure; any thread. */
#ifndef CLI_BENCH_STATS_H
#define CLI_BENCH_STATS_H

#include "lib/base/buf.h"

/* One request that was answered.  Milliseconds since the level began. */
struct bench_request {
    double sent_ms, first_ms, last_ms; /* when it was sent, its first and its last token came */
    uint32_t n_prompt, n_cached, n_tokens;
};

/* Everything measured at one level, over all rounds of it. */
struct bench_samples {
    struct buf requests; /* struct bench_request[], owned */
    struct buf itl;      /* double[], ms between pieces of one answer, owned */
    uint32_t n_failed;
    double duration_s;
};

void bench_samples_init(struct bench_samples *s);
void bench_samples_release(struct bench_samples *s);
/* Appends what `more` has, as if it had begun when s ended. E_LIMIT, E_NOMEM. */
int bench_samples_add(struct bench_samples *s, const struct bench_samples *more,
                      struct err *err) MUST_USE;

/* Milliseconds; percentiles by linear interpolation between ranks. */
struct bench_times {
    uint32_t n; /* 0: nothing was measured, all others are 0 */
    double mean, std, p50, p90, p99;
};

struct bench_stats {
    uint32_t n_completed, n_failed;
    uint64_t n_prompt, n_cached, n_tokens;
    double duration_s;
    struct bench_times ttft; /* first token - sent */
    struct bench_times tpot; /* (last - first) / (tokens - 1), of answers of two tokens and more */
    struct bench_times itl;  /* between pieces of one answer, all answers together */
    struct bench_times e2el; /* last token - sent */
    double prefill_tps;      /* prompt tokens that were not cached / time to first tokens; what one
                                stream gets: meant for a concurrency of 1 */
    double decode_tps;       /* tokens a second while as many answers as ever were being written */
    uint32_t n_decoding;     /* how many that were */
};

void bench_stats_of(const struct bench_samples *s, struct bench_stats *ret);

#endif
