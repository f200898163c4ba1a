/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of cli/bench share: a run of levels against one or two servers, and what came of
 * it.  Main thread. */
#ifndef CLI_BENCH_BENCH_H
#define CLI_BENCH_BENCH_H

#include "cli/bench/load.h"
#include "cli/bench/machine.h"
#include "cli/bench/target.h"

enum { BENCH_MAX_LEVELS = 16, BENCH_MAX_ROUNDS = 16, BENCH_MAX_CONCURRENCY = 1024 };
enum { BENCH_US, BENCH_PEER, BENCH_TARGETS };

/* One server at one level. */
struct bench_cell {
    struct bench_samples samples; /* of all rounds, owned */
    struct bench_stats stats;
    double round_tps[BENCH_MAX_ROUNDS]; /* tokens of answers a second, round by round */
    struct err failure;                 /* of the first request that failed; code 0: none */
    bool has_daemon, has_worker;        /* which of the two are known */
    struct bench_memory daemon, worker; /* at the end of the level */
};

struct bench_level {
    uint32_t concurrency;
    struct bench_cell cells[BENCH_TARGETS];
};

struct bench_run {
    struct target targets[BENCH_TARGETS];
    unsigned n_targets;
    struct target_prompts prompts;
    uint32_t n_prompts, n_warmup, n_rounds, timeout_s;
    uint64_t duration_s;
    double request_rate; /* 0: as fast as answers come */
    bool is_quiet;       /* no live line */
    struct bench_level levels[BENCH_MAX_LEVELS];
    unsigned n_levels;
    struct machine machine; /* of this machine, and of the work a token is: where known */
    struct work work;
};

void bench_init(struct bench_run *b);
void bench_release(struct bench_run *b);
/* "1,8,16".  E_INVALID. */
int bench_read_levels(struct bench_run *b, const char *text, struct err *err) MUST_USE;
/* Warms the servers up and runs every level, round by round, in turns.  Requests that fail are
 * counted. */
int bench_run_levels(struct bench_run *b, struct err *err) MUST_USE;
uint32_t bench_n_failed(const struct bench_run *b);

/* report.c: tables, or JSON (new reference), of a run that is over; and, on standard error, which
 * server's prompts and answers were of other lengths than asked for, so that nobody takes unlike
 * work for like. */
void bench_tell_lengths(const struct bench_run *b);
void bench_print(const struct bench_run *b);
json_t *bench_json(const struct bench_run *b);
/* plot.c: throughput against latency, as SVG; and, before the load, whether it can be written. */
int bench_plot_try(const char *path, struct err *err) MUST_USE;
int bench_plot(const struct bench_run *b, const char *path, struct err *err) MUST_USE;

/* docker.c: `docker model bench`: levels of a conversation's one prompt, Docker's table or JSON.
 * Flags of the row that names it: prompt, duration, concurrency, timeout, json; one operand. */
struct cli_args;
int cmd_bench_docker(const struct cli_args *a);

#endif
