/* SPDX-License-Identifier: Apache-2.0 */
/* `docker model bench`: one prompt, asked again and again at each level; Docker's flags, table and
 * JSON. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/bench/bench.h"
#include "cli/commands.h"
#include "cli/table.h"

#define DEFAULT_PROMPT                                                                             \
    "Write a comprehensive 100 word summary on whales and their impact on society."

static int read_flags(struct bench_run *b, const struct cli_args *a, struct err *err)
{
    const char *levels = cli_flag(a, "concurrency"), *duration = cli_flag(a, "duration");
    const char *timeout = cli_flag(a, "timeout"), *prompt = cli_flag(a, "prompt");
    uint64_t timeout_s = 300;
    b->duration_s = 30;
    int rc = bench_read_levels(b, levels ? levels : "1,2,4,8", err);
    if (rc == 0 && duration && config_parse_duration(duration, 1, 86400, &b->duration_s, err) < 0)
        rc = err_wrap(err, "--duration");
    if (rc == 0 && timeout && config_parse_duration(timeout, 1, 86400, &timeout_s, err) < 0)
        rc = err_wrap(err, "--timeout");
    b->timeout_s = (uint32_t)MIN_OF(timeout_s, 86400u);
    b->prompts.text = prompt ? prompt : DEFAULT_PROMPT;
    return rc;
}

/* Docker's names; TotalTime in nanoseconds. */
static json_t *level_json(const struct bench_level *l)
{
    const struct bench_cell *c = &l->cells[BENCH_US];
    const struct bench_request *r = (const void *)buf_str(&c->samples.requests);
    json_t *counts = json_array();
    for (uint32_t i = 0; i < c->stats.n_completed; i++)
        json_array_append_new(counts, json_integer(r[i].n_tokens));
    return json_pack(
        "{s:I, s:f, s:I, s:f, s:I, s:I, s:o}", "Concurrency", (json_int_t)l->concurrency, "MeanRPS",
        c->stats.n_completed / c->stats.duration_s, "TotalTokens", (json_int_t)c->stats.n_tokens,
        "TPS", (double)c->stats.n_tokens / c->stats.duration_s, "TotalTime",
        (json_int_t)(c->stats.duration_s * 1e9), "Requests", (json_int_t)c->stats.n_completed,
        "TokenCounts", counts);
}

static void print_json(const struct bench_run *b)
{
    json_t *results = json_array();
    for (unsigned i = 0; i < b->n_levels; i++)
        json_array_append_new(results, level_json(&b->levels[i]));
    json_t *j = json_pack("{s:s, s:s, s:o}", "model", buf_str(&b->targets[0].model), "prompt",
                          b->prompts.text, "results", results);
    cli_print_json(j);
    json_decref(j);
}

static void print_table(const struct bench_run *b)
{
    static const char *const titles[] = {"CONCURRENCY", "TPS", "RPS", "REQUESTS", "TOKENS", "TIME"};
    struct table t;
    char s[32];
    table_init(&t, titles, ARRAY_LEN(titles));
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *st = &b->levels[i].cells[BENCH_US].stats;
        table_add_number(&t, b->levels[i].concurrency);
        snprintf(s, sizeof(s), "%.2f", (double)st->n_tokens / st->duration_s);
        table_add(&t, s);
        snprintf(s, sizeof(s), "%.2f", st->n_completed / st->duration_s);
        table_add(&t, s);
        table_add_number(&t, st->n_completed);
        table_add_number(&t, st->n_tokens);
        snprintf(s, sizeof(s), "%.1fs", st->duration_s);
        table_add(&t, s);
    }
    table_print(&t);
    table_release(&t);
}

int cmd_bench_docker(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct bench_run b;
    bench_init(&b);
    if (read_flags(&b, a, &err) < 0) {
        cli_fail(&err);
        return CLI_USAGE;
    }
    int rc = target_open(&b.targets[BENCH_US], &a->config, a->operands[0], &err);
    if (rc == 0)
        rc = bench_run_levels(&b, &err);
    if (rc == 0 && cli_has(a, "json"))
        print_json(&b);
    else if (rc == 0)
        print_table(&b);
    uint32_t n_failed = bench_n_failed(&b);
    bench_release(&b);
    return rc < 0 ? cli_fail(&err) : n_failed ? CLI_FAILED : CLI_OK;
}
