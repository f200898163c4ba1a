/* SPDX-License-Identifier: Apache-2.0 */
/* `berth bench`: what a daemon and a model do under load, level by level, as clients see it; beside
 * another server under the same load where one is named, and as shares of what this machine can do
 * at most. */
#include "cli/bench/bench.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/lock/lock.h"
#include "cli/models.h"
#include "cli/self.h"
#include "cli/table.h"
#include "lib/base/limits.h"

/* More than these at once, at a rate: the server has long lost. */
#define RATE_CONCURRENCY "256"
#define VS_ROUNDS        3

static int read_u32(const struct cli_args *a, const char *name, uint64_t min, uint64_t max,
                    uint32_t *ret, struct err *err)
{
    uint64_t v = *ret;
    int rc = cli_number(a, name, min, max, &v, err);
    *ret = (uint32_t)v;
    return rc;
}

static int read_load(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    const char *levels = cli_flag(a, "concurrency"), *duration = cli_flag(a, "duration");
    int rc = cli_real(a, "request-rate", 0.001, 100000, &b->request_rate, err);
    if (rc == 0)
        rc = bench_read_levels(b,
                               levels                ? levels
                               : b->request_rate > 0 ? RATE_CONCURRENCY
                                                     : "1,2,4,8",
                               err);
    if (rc == 0)
        rc = read_u32(a, "num-prompts", 1, 1000000, &b->n_prompts, err);
    if (b->n_prompts)
        b->duration_s = 86400;
    if (rc == 0 && duration && config_parse_duration(duration, 1, 86400, &b->duration_s, err) < 0)
        rc = err_wrap(err, "--duration");
    b->duration_s = MIN_OF(b->duration_s, 86400);
    return rc;
}

static int read_flags(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME,
                  &now); /* not the seed of the last run, whose prompts are cached */
    uint64_t seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    b->n_rounds = cli_has(a, "vs") ? VS_ROUNDS : 1;
    int rc = read_load(b, a, err);
    if (rc == 0)
        rc = read_u32(a, "prompt-len", 1, LIMIT_MODEL_CONTEXT, &b->prompts.prompt_len, err);
    if (rc == 0)
        rc = read_u32(a, "prefix-len", 0, LIMIT_MODEL_CONTEXT, &b->prompts.prefix_len, err);
    if (rc == 0)
        rc = read_u32(a, "output-len", 1, LIMIT_MODEL_CONTEXT, &b->prompts.output_len, err);
    if (rc == 0)
        rc = read_u32(a, "warmup", 0, 1000, &b->n_warmup, err);
    if (rc == 0)
        rc = read_u32(a, "rounds", 1, BENCH_MAX_ROUNDS, &b->n_rounds, err);
    if (rc == 0)
        rc = read_u32(a, "timeout", 1, 86400, &b->timeout_s, err);
    if (rc == 0)
        rc = cli_number(a, "seed", 0, INT64_MAX, &seed, err);
    b->prompts.seed = seed;
    if (rc == 0 && b->prompts.prefix_len > b->prompts.prompt_len)
        rc = err_set(err, E_INVALID, "--prefix-len %u is longer than the prompt, %u tokens",
                     b->prompts.prefix_len, b->prompts.prompt_len);
    if (rc == 0 && !cli_has(a, "vs") && (cli_has(a, "vs-model") || cli_has(a, "vs-key")))
        rc = err_set(err, E_INVALID, "--vs-model and --vs-key belong to --vs");
    return rc;
}

/* Limits of the machine, and the model's work: without them there are no shares, and that is said.
 */
static void look_at_machine(struct bench_run *b)
{
    struct err err = ERR_INIT;
    json_t *models = NULL, *file = NULL;
    int rc = machine_measure(&b->machine, &err);
    if (rc == 0)
        rc = models_fetch(&b->targets[0].client, &models, &err);
    const json_t *m = models_pick(models, buf_str(&b->targets[0].listed));
    if (rc == 0 && *answer_text(m, "path")) /* of a stored model the file is not here */
        rc = self_show_model(answer_text(m, "path"), &file, &err);
    if (rc == 0 && file)
        work_of(file, &b->machine, &b->work);
    if (rc < 0)
        fprintf(stderr, "berth: no shares of the machine's limits: %s\n", err.msg);
    json_decref(file);
    json_decref(models);
}

/* With --locked the bytes that the lock names, if all that it says is so. */
static int open_us(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    struct client c;
    struct buf ref;
    const char *model = a->operands[0];
    int rc = 0;
    buf_init(&ref, LIMIT_PATH_BYTES);
    if (cli_has(a, "locked")) {
        rc = client_init(&c, &a->config, err);
        if (rc == 0)
            rc = client_ensure(&c, err);
        if (rc == 0)
            rc = lock_demand(&c, LOCK_FILE, model, true, &ref, err);
        model = buf_str(&ref);
    }
    if (rc == 0)
        rc = target_open(&b->targets[BENCH_US], &a->config, model, err);
    buf_release(&ref);
    return rc;
}

static int open_targets(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    int rc = open_us(b, a, err);
    if (rc == 0 && cli_has(a, "vs")) {
        b->n_targets = 2;
        rc = target_open_url(&b->targets[BENCH_PEER], cli_flag(a, "vs"), cli_flag(a, "vs-model"),
                             cli_flag(a, "vs-key"), err);
    }
    return rc;
}

static int run(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    int rc = cli_has(a, "plot") ? bench_plot_try(cli_flag(a, "plot"), err) : 0;
    if (rc == 0)
        rc = open_targets(b, a, err);
    if (rc == 0 && !cli_has(a, "no-limits") && target_is_here(&b->targets[BENCH_US]))
        look_at_machine(b);
    if (rc == 0)
        rc = bench_run_levels(b, err);
    if (rc == 0)
        bench_tell_lengths(b);
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = bench_json(b);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        bench_print(b);
    }
    if (rc == 0 && cli_has(a, "plot"))
        rc = bench_plot(b, cli_flag(a, "plot"), err);
    return rc;
}

int cmd_bench(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct bench_run b;
    bench_init(&b);
    if (read_flags(&b, a, &err) < 0) {
        cli_fail(&err);
        return CLI_USAGE;
    }
    int rc = run(&b, a, &err);
    uint32_t n_failed = bench_n_failed(&b);
    bench_release(&b);
    return rc < 0 ? cli_fail(&err) : n_failed ? CLI_FAILED : CLI_OK;
}
