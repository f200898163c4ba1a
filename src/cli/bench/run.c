/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the levels: the servers in turns, round by round, so that whatever else the machine does
 * meets both alike. */
#include <stdio.h>
#include <string.h>

#include "cli/bench/bench.h"
#include "cli/bench/live.h"

#define WARM_UP_TOKENS 8u

void bench_init(struct bench_run *b)
{
    *b = (struct bench_run){.n_targets = 1,
                            .prompts = {.prompt_len = 128, .output_len = 128},
                            .n_warmup = 1,
                            .n_rounds = 1,
                            .duration_s = 10};
    for (unsigned i = 0; i < BENCH_MAX_LEVELS; i++) {
        for (unsigned t = 0; t < BENCH_TARGETS; t++)
            bench_samples_init(&b->levels[i].cells[t].samples);
    }
}

void bench_release(struct bench_run *b)
{
    for (unsigned i = 0; i < BENCH_MAX_LEVELS; i++) {
        for (unsigned t = 0; t < BENCH_TARGETS; t++)
            bench_samples_release(&b->levels[i].cells[t].samples);
    }
    for (unsigned t = 0; t < BENCH_TARGETS; t++)
        target_release(&b->targets[t]);
    machine_release(&b->machine);
}

int bench_read_levels(struct bench_run *b, const char *text, struct err *err)
{
    b->n_levels = 0;
    for (const char *s = text; *s;) {
        char word[16];
        size_t n = strcspn(s, ",");
        uint64_t v = 0;
        snprintf(word, sizeof(word), "%.*s", (int)MIN_OF(n, sizeof(word) - 1), s);
        if (config_parse_number(word, 1, BENCH_MAX_CONCURRENCY, &v, err) < 0)
            return err_wrap(err, "--concurrency");
        if (b->n_levels == BENCH_MAX_LEVELS)
            return err_set(err, E_INVALID, "--concurrency: more than %d levels", BENCH_MAX_LEVELS);
        b->levels[b->n_levels++].concurrency = (uint32_t)v;
        s += n + (s[n] == ',');
    }
    return b->n_levels ? 0 : err_set(err, E_INVALID, "--concurrency names no level");
}

/* For load.body. */
struct prompter {
    const struct target *target;
    const struct target_prompts *prompts;
};

static json_t *next_body(void *ctx, uint32_t n)
{
    const struct prompter *p = ctx;
    return target_body(p->target, p->prompts, n);
}

static void load_of(const struct bench_run *b, const struct target *t, struct prompter *p,
                    struct load *ret)
{
    *p = (struct prompter){t, &b->prompts};
    *ret = (struct load){.client = &t->client,
                         .path = target_path(t, &b->prompts),
                         .body = next_body,
                         .body_ctx = p,
                         .concurrency = 1,
                         .timeout_s = b->timeout_s,
                         .seed = b->prompts.seed};
}

/* Requests before the first that counts; one that fails ends the run with its reason. */
static int warm_up(const struct bench_run *b, const struct target *t, struct err *err)
{
    struct prompter p;
    struct load load;
    struct bench_samples samples;
    struct err failure;
    struct target_prompts prompts = b->prompts;
    prompts.output_len = MIN_OF(prompts.output_len, WARM_UP_TOKENS);
    load_of(b, t, &p, &load);
    p.prompts = &prompts;
    load.n_prompts = b->n_warmup;
    load.duration_s = 86400;
    load.first = UINT32_MAX / 2; /* prompts of their own */
    int rc = b->n_warmup ? load_run(&load, &samples, &failure, err) : 0;
    if (b->n_warmup) {
        bench_samples_release(&samples);
        if (rc == 0 && failure.code)
            rc = err_set(err, (enum err_code)failure.code, "%s: warming up: %s", t->name,
                         failure.msg);
    }
    return rc;
}

static int run_round(struct bench_run *b, struct bench_level *level, unsigned target,
                     unsigned round, uint32_t first, uint32_t *ret_n, struct err *err)
{
    const struct target *t = &b->targets[target];
    struct bench_cell *cell = &level->cells[target];
    struct prompter p;
    struct load load;
    struct live live;
    struct bench_samples samples;
    struct bench_stats stats;
    struct err failure;
    load_of(b, t, &p, &load);
    load.concurrency = level->concurrency;
    load.n_prompts = b->n_prompts;
    load.duration_s = b->duration_s;
    load.request_rate = b->request_rate;
    load.first = first;
    load.on_tick = live_tick;
    load.tick_ctx = &live;
    live_begin(&live, !b->is_quiet, b->n_targets > 1 ? t->name : NULL, &load);
    int rc = load_run(&load, &samples, &failure, err);
    live_end(&live);
    if (rc == 0) {
        bench_stats_of(&samples, &stats);
        cell->round_tps[round] = (double)stats.n_tokens / stats.duration_s;
        *ret_n = stats.n_completed + stats.n_failed;
        rc = bench_samples_add(&cell->samples, &samples, err);
    }
    if (failure.code && !cell->failure.code)
        cell->failure = failure;
    bench_samples_release(&samples);
    return rc;
}

static int run_level(struct bench_run *b, struct bench_level *level, uint32_t *first,
                     struct err *err)
{
    for (unsigned round = 0; round < b->n_rounds; round++) {
        uint32_t n = 0, most = 0;
        for (unsigned t = 0; t < b->n_targets; t++) {
            if (run_round(b, level, t, round, *first, &n, err) < 0)
                return -err->code;
            most = MAX_OF(most, n);
        }
        *first += most; /* both get the same prompts, and neither any twice */
    }
    for (unsigned t = 0; t < b->n_targets; t++) {
        struct bench_cell *c = &level->cells[t];
        bench_stats_of(&c->samples, &c->stats);
        target_memory(&b->targets[t], &c->has_daemon, &c->daemon, &c->has_worker, &c->worker);
        if (c->failure.code)
            fprintf(stderr, "berth: %u of %u requests failed at concurrency %u%s%s: %s\n",
                    c->stats.n_failed, c->stats.n_failed + c->stats.n_completed, level->concurrency,
                    t == BENCH_PEER ? " of " : "", t == BENCH_PEER ? b->targets[t].name : "",
                    c->failure.msg);
    }
    return 0;
}

int bench_run_levels(struct bench_run *b, struct err *err)
{
    uint32_t first = 0;
    for (unsigned t = 0; t < b->n_targets; t++) {
        if (warm_up(b, &b->targets[t], err) < 0)
            return -err->code;
    }
    for (unsigned i = 0; i < b->n_levels; i++) {
        if (run_level(b, &b->levels[i], &first, err) < 0)
            return -err->code;
    }
    return 0;
}

uint32_t bench_n_failed(const struct bench_run *b)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < b->n_levels; i++) {
        for (unsigned t = 0; t < b->n_targets; t++)
            n += b->levels[i].cells[t].stats.n_failed;
    }
    return n;
}
