/* SPDX-License-Identifier: Apache-2.0 */
/* `berth bench`: what a daemon and a model do under load, level by level, as clients see it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/bench/load.h"
#include "cli/commands.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"

#define MAX_LEVELS      16u
#define MAX_CONCURRENCY 1024u

struct bench {
    const struct cli_args *args;
    struct client client;
    struct buf model;
    struct load load;
    json_t *tokens; /* owned */
    uint32_t levels[MAX_LEVELS];
    unsigned n_levels;
    json_t *rows; /* owned */
    struct table table;
    unsigned n_failed;
};

/* "1,2,4,8" */
static int read_levels(struct bench *b, const char *text, struct err *err)
{
    for (const char *s = text; *s;) {
        char word[16];
        size_t n = strcspn(s, ",");
        uint64_t v = 0;
        snprintf(word, sizeof(word), "%.*s", (int)MIN_OF(n, sizeof(word) - 1), s);
        if (config_parse_number(word, 1, MAX_CONCURRENCY, &v, err) < 0)
            return err_wrap(err, "--concurrency");
        if (b->n_levels == MAX_LEVELS)
            return err_set(err, E_INVALID, "--concurrency: more than %u levels", MAX_LEVELS);
        b->levels[b->n_levels++] = (uint32_t)v;
        s += n + (s[n] == ',');
    }
    return b->n_levels ? 0 : err_set(err, E_INVALID, "--concurrency names no level");
}

static int read_flags(struct bench *b, struct err *err)
{
    const struct cli_args *a = b->args;
    const char *levels = cli_flag(a, "concurrency"), *duration = cli_flag(a, "duration");
    uint64_t n_prompts = 0, prompt_len = 128, output_len = 128, seconds = 10;
    int rc = read_levels(b, levels ? levels : "1,2,4,8", err);
    if (rc == 0)
        rc = cli_number(a, "num-prompts", 1, 1000000, &n_prompts, err);
    if (rc == 0)
        rc = cli_number(a, "prompt-len", 1, LIMIT_MODEL_CONTEXT, &prompt_len, err);
    if (rc == 0)
        rc = cli_number(a, "output-len", 1, LIMIT_MODEL_CONTEXT, &output_len, err);
    if (n_prompts)
        seconds = 86400;
    if (rc == 0 && duration && config_parse_duration(duration, 1, 86400, &seconds, err) < 0)
        rc = err_wrap(err, "--duration");
    b->load.n_prompts = (uint32_t)n_prompts;
    b->load.prompt_len = (uint32_t)prompt_len;
    b->load.output_len = (uint32_t)output_len;
    b->load.duration_s = MIN_OF(seconds, 86400);
    return rc;
}

/* Ids that prompts are drawn from: those of a plain sentence. */
static int make_tokens(struct bench *b, struct err *err)
{
    static const char sentence[] =
        "The ship lay at the quay and nobody knew where she would go, but "
        "every morning one more box was carried on board.";
    json_t *answer = NULL;
    json_t *body = json_pack("{s:s, s:s}", "model", buf_str(&b->model), "content", sentence);
    int rc = client_json(&b->client, "POST", "/tokenize", body, &answer, err);
    if (rc == 0 && json_array_size(json_object_get(answer, "tokens")) == 0)
        rc = err_set(err, E_FORMAT, "the daemon makes no tokens of a text");
    if (rc == 0)
        b->tokens = json_incref(json_object_get(answer, "tokens"));
    json_decref(answer);
    json_decref(body);
    return rc;
}

static json_t *quantiles_json(const struct load_quantiles *q)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "mean", q->mean, "p50", q->p50, "p90", q->p90, "p99",
                     q->p99);
}

static void add_time(struct table *t, double ms)
{
    char s[32];
    snprintf(s, sizeof(s), ms >= 100 ? "%.0f ms" : "%.2f ms", ms);
    table_add(t, s);
}

static void add_rate(struct table *t, double rate)
{
    char s[32];
    snprintf(s, sizeof(s), "%.1f", rate);
    table_add(t, s);
}

static void report(struct bench *b, const struct load_result *r)
{
    double wall = r->wall_s > 0 ? r->wall_s : 1e-9;
    struct table *t = &b->table;
    table_add_number(t, b->load.concurrency);
    table_add_number(t, r->n_requests - r->n_failed);
    add_rate(t, (double)(r->n_requests - r->n_failed) / wall);
    add_rate(t, (double)r->n_tokens / wall);
    add_time(t, r->ttft.p50);
    add_time(t, r->ttft.p90);
    add_time(t, r->ttft.p99);
    add_time(t, r->itl.p50);
    add_time(t, r->itl.p90);
    add_time(t, r->itl.p99);
    json_array_append_new(
        b->rows,
        json_pack("{s:i, s:i, s:i, s:f, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:s?}", "concurrency",
                  (int)b->load.concurrency, "requests", (int)r->n_requests, "failed",
                  (int)r->n_failed, "seconds", r->wall_s, "prompt_tokens",
                  (json_int_t)r->n_prompt_tokens, "cached_tokens", (json_int_t)r->n_cached_tokens,
                  "generated_tokens", (json_int_t)r->n_tokens, "requests_per_second",
                  (double)(r->n_requests - r->n_failed) / wall, "tokens_per_second",
                  (double)r->n_tokens / wall, "ttft_ms", quantiles_json(&r->ttft), "itl_ms",
                  quantiles_json(&r->itl), "first_failure",
                  r->first_failure.code ? r->first_failure.msg : NULL));
    if (r->n_failed)
        fprintf(stderr, "berth: %u of %u requests failed at concurrency %u: %s\n", r->n_failed,
                r->n_requests, b->load.concurrency, r->first_failure.msg);
    b->n_failed += r->n_failed;
}

static int run_levels(struct bench *b, struct err *err)
{
    for (unsigned i = 0; i < b->n_levels; i++) {
        struct load_result r;
        b->load.concurrency = b->levels[i];
        if (load_run(&b->load, &r, err) < 0)
            return -err->code;
        b->load.seed += r.n_requests;
        report(b, &r);
    }
    return 0;
}

static int prepare(struct bench *b, struct err *err)
{
    json_t *answer = NULL;
    int rc = client_init(&b->client, &b->args->config, err);
    if (rc == 0)
        rc = client_ensure(&b->client, err);
    if (rc == 0)
        rc = model_name(&b->client, b->args->operands[0], &b->model, err);
    if (rc == 0) { /* loading is not what is measured */
        json_t *body = json_pack("{s:s}", "model", buf_str(&b->model));
        rc = client_json(&b->client, "POST", "/berth/v1/load", body, &answer, err);
        json_decref(body);
        json_decref(answer);
    }
    if (rc == 0)
        rc = make_tokens(b, err);
    b->load.client = &b->client;
    b->load.model = buf_str(&b->model);
    b->load.tokens = b->tokens;
    b->load.seed = (uint64_t)time(NULL) << 20; /* not those of the last run, which are cached */
    return rc;
}

static void print(const struct bench *b)
{
    if (!cli_has(b->args, "json")) {
        printf("%s: prompts of %u tokens, answers of %u\n\n", buf_str(&b->model),
               b->load.prompt_len, b->load.output_len);
        table_print(&b->table);
        return;
    }
    json_t *j = json_pack("{s:s, s:i, s:i, s:O}", "model", buf_str(&b->model), "prompt_len",
                          (int)b->load.prompt_len, "output_len", (int)b->load.output_len, "levels",
                          b->rows);
    cli_print_json(j);
    json_decref(j);
}

int cmd_bench(const struct cli_args *a)
{
    static const char *const titles[] = {"AT ONCE",  "REQUESTS", "REQ/S",   "TOKENS/S", "TTFT P50",
                                         "TTFT P90", "TTFT P99", "ITL P50", "ITL P90",  "ITL P99"};
    struct err err = ERR_INIT;
    struct bench b = {.args = a};
    if (read_flags(&b, &err) < 0) {
        cli_fail(&err);
        return CLI_USAGE;
    }
    buf_init(&b.model, LIMIT_PATH_BYTES);
    table_init(&b.table, titles, ARRAY_LEN(titles));
    b.rows = json_array();
    int rc = prepare(&b, &err);
    if (rc == 0)
        rc = run_levels(&b, &err);
    if (rc == 0)
        print(&b);
    json_decref(b.rows);
    json_decref(b.tokens);
    table_release(&b.table);
    buf_release(&b.model);
    return rc < 0 ? cli_fail(&err) : b.n_failed ? CLI_FAILED : CLI_OK;
}
