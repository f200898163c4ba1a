/* SPDX-License-Identifier: Apache-2.0 */
/* A run that is over, as tables for people and as JSON.  Names in the JSON are those of vLLM's
 * bench where it has them. */
#include <stdio.h>
#include <string.h>

#include "cli/bench/bench.h"
#include "cli/table.h"

static void add_time(struct table *t, double ms)
{
    char s[32];
    snprintf(s, sizeof(s),
             ms >= 10000 ? "%.1f s"
             : ms >= 100 ? "%.0f ms"
                         : "%.2f ms",
             ms >= 10000 ? ms / 1e3 : ms);
    table_add(t, s);
}

static void add_number(struct table *t, int digits, double v, const char *unit)
{
    char s[48];
    snprintf(s, sizeof(s), "%.*f%s", digits, v, unit);
    table_add(t, s);
}

/* "-" where there is nothing to divide by. */
static void add_ratio(struct table *t, double ours, double theirs)
{
    if (theirs > 0)
        add_number(t, 2, ours / theirs, "");
    else
        table_add(t, "-");
}

static double per_second(const struct bench_stats *s, double n)
{
    return n / s->duration_s;
}

static void print_levels(const struct bench_run *b, unsigned target)
{
    static const char *const titles[] = {"AT ONCE",  "REQ/S",    "IN TOK/S", "OUT TOK/S",
                                         "TTFT P50", "TTFT P90", "TTFT P99", "TPOT P50",
                                         "ITL P99",  "E2E P50"};
    struct table t;
    table_init(&t, titles, ARRAY_LEN(titles));
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *s = &b->levels[i].cells[target].stats;
        table_add_number(&t, b->levels[i].concurrency);
        add_number(&t, 2, per_second(s, s->n_completed), "");
        add_number(&t, 1, per_second(s, (double)s->n_prompt), "");
        add_number(&t, 1, per_second(s, (double)s->n_tokens), "");
        add_time(&t, s->ttft.p50);
        add_time(&t, s->ttft.p90);
        add_time(&t, s->ttft.p99);
        add_time(&t, s->tpot.p50);
        add_time(&t, s->itl.p99);
        add_time(&t, s->e2el.p50);
    }
    table_print(&t);
    table_release(&t);
}

/* Bytes a second that the decoding steps of a level read: weights once a step, and each answer's
 * cache, half full of its tokens on average. */
static double decode_bps(const struct bench_run *b, const struct bench_stats *s)
{
    double positions = b->prompts.prompt_len + b->prompts.output_len / 2.0;
    if (!s->n_decoding)
        return 0;
    return s->decode_tps * (b->work.step_bytes / s->n_decoding + b->work.kv_bytes * positions);
}

static double prefill_flops(const struct bench_run *b, const struct bench_stats *s)
{
    return s->prefill_tps * b->work.prefill_flop;
}

static bool has_shares(const struct bench_run *b)
{
    return b->machine.is_known && b->work.is_known;
}

static void print_shares(const struct bench_run *b, unsigned target)
{
    static const char *const titles[] = {"AT ONCE",  "PREFILL TOK/S", "GFLOP/S", "OF PEAK",
                                         "DECODING", "DECODE TOK/S",  "GB/S",    "OF BUS"};
    struct table t;
    table_init(&t, titles, ARRAY_LEN(titles));
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *s = &b->levels[i].cells[target].stats;
        bool is_alone = b->levels[i].concurrency == 1;
        table_add_number(&t, b->levels[i].concurrency);
        if (is_alone) {
            add_number(&t, 1, s->prefill_tps, "");
            add_number(&t, 0, prefill_flops(b, s) * 1e-9, "");
            add_number(&t, 0, b->work.peak > 0 ? prefill_flops(b, s) / b->work.peak * 100 : 0,
                       " %");
        } else {
            for (int k = 0; k < 3; k++)
                table_add(&t, "-");
        }
        table_add_number(&t, s->n_decoding);
        add_number(&t, 1, s->decode_tps, "");
        add_number(&t, 1, decode_bps(b, s) * 1e-9, "");
        add_number(&t, 0, decode_bps(b, s) / b->machine.read_bps * 100, " %");
    }
    table_print(&t);
    table_release(&t);
}

static void print_machine(const struct bench_run *b)
{
    const json_t *peak;
    size_t i;
    heading_print("This machine's limits");
    fact_print(
        "memory", "%.1f GB/s read by %d threads, %.1f by one", b->machine.read_bps * 1e-9,
        (int)json_integer_value(json_object_get(b->machine.limits, "threads")),
        json_number_value(json_object_get(b->machine.limits, "read_bytes_per_second_one_thread")) *
            1e-9);
    json_array_foreach(json_object_get(b->machine.limits, "peaks"), i, peak) fact_print(
        json_string_value(json_object_get(peak, "name")), "%.0f G%s/s",
        json_number_value(json_object_get(peak, "ops_per_second")) * 1e-9,
        strcmp(json_string_value(json_object_get(peak, "type")), "int8") ? "FLOP" : "OP");
    if (has_shares(b))
        fact_print("the model",
                   "reads %.1f MB of weights a step, %.2f GFLOP for a token of a prompt "
                   "(%s peak)",
                   b->work.step_bytes * 1e-6, b->work.prefill_flop * 1e-9, b->work.peak_name);
}

static void print_memory(const struct bench_run *b, unsigned target)
{
    const struct bench_cell *c = &b->levels[b->n_levels - 1].cells[target];
    char rss[16], own[16];
    if (c->has_daemon) {
        text_bytes(c->daemon.rss_bytes, rss);
        text_bytes(c->daemon.private_bytes, own);
        fact_print(c->has_worker ? "daemon" : "server", "%s resident, %s of its own", rss, own);
    }
    if (c->has_worker) {
        text_bytes(c->worker.rss_bytes, rss);
        text_bytes(c->worker.private_bytes, own);
        fact_print("worker", "%s resident, %s of its own", rss, own);
    }
}

static void range_of(const struct bench_run *b, const struct bench_level *l, double *low,
                     double *high)
{
    *low = 0;
    *high = 0;
    for (unsigned r = 0; r < b->n_rounds; r++) {
        double theirs = l->cells[BENCH_PEER].round_tps[r];
        double x = theirs > 0 ? l->cells[BENCH_US].round_tps[r] / theirs : 0;
        *low = r == 0 || x < *low ? x : *low;
        *high = x > *high ? x : *high;
    }
}

static void print_ratios(const struct bench_run *b)
{
    static const char *const titles[] = {"AT ONCE",  "OUT TOK/S", "ROUND BY ROUND",
                                         "DECODE",   "TTFT P50",  "TTFT P99",
                                         "TPOT P50", "ITL P99",   "E2E P50"};
    struct table t;
    table_init(&t, titles, ARRAY_LEN(titles));
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_level *l = &b->levels[i];
        const struct bench_stats *a = &l->cells[BENCH_US].stats, *z = &l->cells[BENCH_PEER].stats;
        double low, high;
        char range[48];
        range_of(b, l, &low, &high);
        snprintf(range, sizeof(range), "%.2f to %.2f", low, high);
        table_add_number(&t, l->concurrency);
        add_ratio(&t, per_second(a, (double)a->n_tokens), per_second(z, (double)z->n_tokens));
        table_add(&t, range);
        add_ratio(&t, a->decode_tps, z->decode_tps);
        add_ratio(&t, a->ttft.p50, z->ttft.p50);
        add_ratio(&t, a->ttft.p99, z->ttft.p99);
        add_ratio(&t, a->tpot.p50, z->tpot.p50);
        add_ratio(&t, a->itl.p99, z->itl.p99);
        add_ratio(&t, a->e2el.p50, z->e2el.p50);
    }
    table_print(&t);
    table_release(&t);
}

void bench_print(const struct bench_run *b)
{
    printf("%s: prompts of %u tokens, answers of %u", buf_str(&b->targets[0].model),
           b->prompts.prompt_len, b->prompts.output_len);
    if (b->prompts.prefix_len)
        printf(", the first %u the same in all", b->prompts.prefix_len);
    if (b->request_rate > 0)
        printf(", %g requests a second", b->request_rate);
    printf("\n");
    for (unsigned t = 0; t < b->n_targets; t++) {
        heading_print(b->n_targets > 1 ? b->targets[t].name : "As clients see it");
        print_levels(b, t);
        print_memory(b, t);
    }
    if (b->n_targets > 1) {
        heading_print("berth divided by the other (speeds: more is better; times: less is)");
        print_ratios(b);
    }
    if (!b->machine.is_known)
        return;
    print_machine(b);
    for (unsigned t = 0; has_shares(b) && t < b->n_targets; t++) {
        heading_print(b->n_targets > 1 ? b->targets[t].name : "As shares of these limits");
        print_shares(b, t);
    }
}

/* Whether a length that was measured is the one asked for, as far as words can be. */
static bool is_near(double is, uint32_t asked)
{
    return is > asked * 0.95 && is < asked * 1.05;
}

void bench_tell_lengths(const struct bench_run *b)
{
    for (unsigned t = 0; t < b->n_targets; t++) {
        double n = 0, prompt = 0, answer = 0;
        for (unsigned i = 0; i < b->n_levels; i++) {
            const struct bench_stats *s = &b->levels[i].cells[t].stats;
            n += s->n_completed;
            prompt += (double)s->n_prompt;
            answer += (double)s->n_tokens;
        }
        prompt /= MAX_OF(n, 1);
        answer /= MAX_OF(n, 1);
        if (n > 0 && prompt <= 0)
            fprintf(stderr, "berth: %s does not say how many tokens its prompts had\n",
                    b->targets[t].name);
        else if (n > 0 && !is_near(prompt, b->prompts.prompt_len))
            fprintf(stderr, "berth: %s: prompts had %.1f tokens on average, not the %u asked for\n",
                    b->targets[t].name, prompt, b->prompts.prompt_len);
        if (n > 0 && !is_near(answer, b->prompts.output_len))
            fprintf(stderr, "berth: %s: answers had %.1f tokens on average, not the %u asked for\n",
                    b->targets[t].name, answer, b->prompts.output_len);
    }
}

/* mean_ttft_ms and so on. */
static void put_times(json_t *o, const char *name, const struct bench_times *t)
{
    const struct {
        const char *form;
        double v;
    } rows[] = {{"mean_%s_ms", t->mean}, {"median_%s_ms", t->p50}, {"std_%s_ms", t->std},
                {"p50_%s_ms", t->p50},   {"p90_%s_ms", t->p90},    {"p99_%s_ms", t->p99}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char key[32];
        const char *rest = strchr(rows[i].form, '%') + 2;
        snprintf(key, sizeof(key), "%.*s%s%s", (int)(rest - 2 - rows[i].form), rows[i].form, name,
                 rest);
        json_object_set_new(o, key, json_real(rows[i].v));
    }
}

static void put_shares(json_t *o, const struct bench_run *b, const struct bench_stats *s,
                       bool is_alone)
{
    if (is_alone)
        json_object_set_new(o, "prefill_throughput", json_real(s->prefill_tps));
    json_object_set_new(o, "decode_throughput", json_real(s->decode_tps));
    json_object_set_new(o, "decoding", json_integer(s->n_decoding));
    if (!has_shares(b))
        return;
    json_object_set_new(o, "decode_bytes_per_second", json_real(decode_bps(b, s)));
    json_object_set_new(o, "share_of_memory_bus",
                        json_real(decode_bps(b, s) / b->machine.read_bps));
    if (is_alone && b->work.peak > 0) {
        json_object_set_new(o, "prefill_ops_per_second", json_real(prefill_flops(b, s)));
        json_object_set_new(o, "share_of_matrix_peak",
                            json_real(prefill_flops(b, s) / b->work.peak));
    }
}

static void put_memory(json_t *o, const char *name, bool is_known, const struct bench_memory *m)
{
    if (is_known)
        json_object_set_new(o, name,
                            json_pack("{s:I, s:I}", "rss_bytes", (json_int_t)m->rss_bytes,
                                      "private_bytes", (json_int_t)m->private_bytes));
}

static json_t *cell_json(const struct bench_run *b, const struct bench_level *l, unsigned target)
{
    const struct bench_cell *c = &l->cells[target];
    const struct bench_stats *s = &c->stats;
    json_t *o = json_pack("{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:f, s:f, s:f}", "max_concurrency",
                          (json_int_t)l->concurrency, "completed", (json_int_t)s->n_completed,
                          "failed", (json_int_t)s->n_failed, "duration", s->duration_s,
                          "total_input_tokens", (json_int_t)s->n_prompt, "total_cached_tokens",
                          (json_int_t)s->n_cached, "total_output_tokens", (json_int_t)s->n_tokens,
                          "request_throughput", per_second(s, s->n_completed), "output_throughput",
                          per_second(s, (double)s->n_tokens), "total_token_throughput",
                          per_second(s, (double)(s->n_tokens + s->n_prompt)));
    put_times(o, "ttft", &s->ttft);
    put_times(o, "tpot", &s->tpot);
    put_times(o, "itl", &s->itl);
    put_times(o, "e2el", &s->e2el);
    put_shares(o, b, s, l->concurrency == 1);
    put_memory(o, "daemon_memory", c->has_daemon, &c->daemon);
    put_memory(o, "worker_memory", c->has_worker, &c->worker);
    if (c->failure.code)
        json_object_set_new(o, "first_failure", json_string(c->failure.msg));
    return o;
}

static json_t *ratios_json(const struct bench_run *b, const struct bench_level *l)
{
    const struct bench_stats *a = &l->cells[BENCH_US].stats, *z = &l->cells[BENCH_PEER].stats;
    const struct {
        const char *name;
        double ours, theirs;
    } rows[] = {
        {"output_throughput", per_second(a, (double)a->n_tokens),
         per_second(z, (double)z->n_tokens)},
        {"decode_throughput", a->decode_tps, z->decode_tps},
        {"mean_ttft_ms", a->ttft.mean, z->ttft.mean},
        {"median_ttft_ms", a->ttft.p50, z->ttft.p50},
        {"p99_ttft_ms", a->ttft.p99, z->ttft.p99},
        {"median_tpot_ms", a->tpot.p50, z->tpot.p50},
        {"p99_itl_ms", a->itl.p99, z->itl.p99},
        {"median_e2el_ms", a->e2el.p50, z->e2el.p50},
    };
    json_t *o = json_pack("{s:I}", "max_concurrency", (json_int_t)l->concurrency);
    double low, high;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        json_object_set_new(o, rows[i].name,
                            rows[i].theirs > 0 ? json_real(rows[i].ours / rows[i].theirs)
                                               : json_null());
    range_of(b, l, &low, &high);
    json_object_set_new(o, "output_throughput_rounds", json_pack("[f, f]", low, high));
    return o;
}

json_t *bench_json(const struct bench_run *b)
{
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:I, s:I}", "backend", "berth", "model_id",
        buf_str(&b->targets[0].model), "prompt_len", (json_int_t)b->prompts.prompt_len,
        "prefix_len", (json_int_t)b->prompts.prefix_len, "output_len",
        (json_int_t)b->prompts.output_len, "num_prompts", (json_int_t)b->n_prompts, "request_rate",
        b->request_rate > 0 ? json_real(b->request_rate) : json_string("inf"), "rounds",
        (json_int_t)b->n_rounds, "seed", (json_int_t)(b->prompts.seed & INT64_MAX));
    json_t *lists[BENCH_TARGETS] = {json_array(), json_array()}, *ratios = json_array();
    for (unsigned i = 0; i < b->n_levels; i++) {
        for (unsigned t = 0; t < b->n_targets; t++)
            json_array_append_new(lists[t], cell_json(b, &b->levels[i], t));
        if (b->n_targets > 1)
            json_array_append_new(ratios, ratios_json(b, &b->levels[i]));
    }
    if (b->machine.is_known)
        json_object_set(o, "machine", b->machine.limits);
    if (has_shares(b))
        json_object_set_new(o, "work",
                            json_pack("{s:f, s:f, s:f, s:s}", "weight_bytes_per_step",
                                      b->work.step_bytes, "kv_bytes_per_position", b->work.kv_bytes,
                                      "prefill_flop_per_token", b->work.prefill_flop, "peak",
                                      b->work.peak_name));
    json_object_set_new(o, "results", lists[BENCH_US]);
    if (b->n_targets > 1) {
        json_object_set_new(o, "vs",
                            json_pack("{s:s, s:s, s:O}", "url", b->targets[BENCH_PEER].name,
                                      "model_id", buf_str(&b->targets[BENCH_PEER].model), "results",
                                      lists[BENCH_PEER]));
        json_object_set(o, "ratios", ratios);
    }
    json_decref(lists[BENCH_PEER]);
    json_decref(ratios);
    return o;
}
