/* SPDX-License-Identifier: Apache-2.0 */
/* `docker model ps`, `df`, `status`, `unload`, `configure`, `version`, `logs`, `bench`, `run`: what
 * runs, and how. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/bench/bench.h"
#include "cli/docker/plugin.h"
#include "cli/docker/text.h"
#include "cli/models.h"
#include "cli/artifact/facts.h"
#include "cli/artifact/artifact.h"
#include "cli/table.h"

#define KIND            "Docker Engine"
#define KEEP_ALIVE_S    300 /* where nothing else is declared */
#define IN_A_HURRY_MS   250
#define MAX_OTHER_WORDS (CLI_MAX_OPERANDS + 16u)

/* --- ps --- */

/* Seconds of a Go duration such as "1h2m3s"; -1: for ever. */
static int64_t go_duration(const char *s)
{
    uint64_t n = 0;
    struct err ignored = ERR_INIT;
    if (!*s)
        return KEEP_ALIVE_S;
    if (config_parse_duration(s, 0, INT32_MAX, &n, &ignored) < 0 || n == CONFIG_FOREVER)
        return -1;
    return (int64_t)n;
}

static int64_t unix_of(const char *rfc3339)
{
    struct tm tm = {0};
    return strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

static void add_until(struct table *t, const json_t *m)
{
    char span[32], text[64];
    int64_t keep = go_duration(answer_text(m, "keep_alive"));
    int64_t used = unix_of(answer_text(m, "last_used")), now = (int64_t)time(NULL);
    int64_t left = (used > 0 ? used : now) + keep - now; /* one in use begins anew when it ends */
    if (json_is_true(json_object_get(m, "loading")))
        snprintf(text, sizeof(text), "Loading...");
    else if (keep < 0)
        snprintf(text, sizeof(text), "Forever");
    else if (left <= 0)
        snprintf(text, sizeof(text), "Expiring");
    else
        snprintf(text, sizeof(text), "%s from now", docker_span(left, span));
    table_add(t, text);
}

int docker_ps(const struct cli_args *a)
{
    static const char *const titles[] = {"MODEL NAME", "BACKEND", "MODE", "UNTIL"};
    struct err err = ERR_INIT;
    struct client c;
    struct table t;
    json_t *list = NULL;
    const json_t *m;
    size_t i;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (client_json(&c, "GET", "/engines/ps", NULL, &list, &err) < 0)
        return cli_fail(&err);
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = true;
    json_array_foreach(list, i, m)
    {
        char name[256];
        table_add(&t, facts_short_name(answer_text(m, "model_name"), name, sizeof(name)));
        table_add(&t, answer_text(m, "backend_name"));
        table_add(&t, answer_text(m, "mode"));
        add_until(&t, m);
    }
    table_print(&t);
    table_release(&t);
    json_decref(list);
    return CLI_OK;
}

/* --- df --- */

static void add_size(struct table *t, const char *what, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    char text[32];
    double v = (double)bytes;
    unsigned u = 0;
    while (v >= 1000 && u + 1 < ARRAY_LEN(units)) {
        v /= 1000;
        u++;
    }
    snprintf(text, sizeof(text), "%.2f%s", v, units[u]);
    table_add(t, what);
    table_add(t, text);
}

int docker_df(const struct cli_args *a)
{
    static const char *const titles[] = {"TYPE", "SIZE"};
    struct err err = ERR_INIT;
    struct client c;
    struct table t;
    json_t *df = NULL;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (client_json(&c, "GET", "/engines/df", NULL, &df, &err) < 0)
        return cli_fail(&err);
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = true;
    add_size(&t, "Models", answer_number(df, "models_disk_usage"));
    if (answer_number(df, "default_backend_disk_usage"))
        add_size(&t, "Inference engine", answer_number(df, "default_backend_disk_usage"));
    table_print(&t);
    table_release(&t);
    json_decref(df);
    return CLI_OK;
}

/* --- status --- */

/* One engine's line: what stands before the colon, and after it. */
struct engine {
    const char *name, *status;
    char state[32];
    const char *details;
};

static int rank_of(const struct engine *e)
{
    static const char *const order[] = {"Running", "Error", "Not Installed", "Installing"};
    int i = 0;
    while (i < 4 && strcmp(e->state, order[i]) != 0)
        i++;
    return i;
}

static int by_state(const void *a, const void *b)
{
    int d = rank_of(a) - rank_of(b);
    return d ? d : strcmp(((const struct engine *)a)->name, ((const struct engine *)b)->name);
}

static void print_engines(const json_t *engines)
{
    static const char *const titles[] = {"BACKEND", "STATUS", "DETAILS"};
    struct engine all[32];
    struct table t;
    size_t n = 0;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)engines, name, v)
    {
        const char *s = json_is_string(v) ? json_string_value(v) : "";
        if (n == ARRAY_LEN(all))
            break;
        all[n] = (struct engine){.name = name, .status = s};
        snprintf(all[n].state, sizeof(all[n].state), "%.*s", (int)strcspn(s, ":"), s);
        s += strcspn(s, ":");
        all[n++].details = *s ? s + 1 + strspn(s + 1, " ") : "";
    }
    qsort(all, n, sizeof(all[0]), by_state);
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = true;
    for (size_t i = 0; i < n; i++) {
        table_add(&t, all[i].name);
        table_add(&t, all[i].state);
        table_add(&t, all[i].details);
    }
    table_print(&t);
    table_release(&t);
}

static int status_json(const struct client *c, const json_t *engines)
{
    char from_containers[320], inside[340], outside[340];
    snprintf(inside, sizeof(inside), "%s/v1/", docker_endpoint(c, from_containers));
    snprintf(outside, sizeof(outside), "%s/v1/", c->url);
    json_t *j = json_pack("{s:b, s:O, s:s, s:s, s:s}", "running", 1, "backends", engines, "kind",
                          KIND, "endpoint", inside, "endpointHost", outside);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
    return CLI_OK;
}

int docker_status(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *engines = NULL;
    /* For Compose, which asks in this form, there shall be a daemon. */
    int there = cli_has(a, "json") ? (docker_client(a, true, &c) ? 1 : -1) : docker_probe(a, &c);
    if (there < 0)
        return CLI_FAILED;
    if (there == 0) {
        puts("Docker Model Runner is not running");
        return docker_not_running(&c);
    }
    if (client_json(&c, "GET", "/engines/status", NULL, &engines, &err) < 0)
        return cli_fail(&err);
    if (cli_has(a, "json")) {
        status_json(&c, engines);
    } else {
        puts("Docker Model Runner is running\n");
        print_engines(engines);
    }
    json_decref(engines);
    return CLI_OK;
}

/* --- unload --- */

int docker_unload(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    bool all = cli_has(a, "all");
    json_t *answer = NULL, *models = json_array();
    if (all == (a->n_operands > 0)) {
        err_set(&err, E_INVALID, "%s",
                all ? "--all flag cannot be used together with models"
                    : "specify one or more models, or --all");
        json_decref(models);
        return cli_fail(&err);
    }
    if (!docker_client(a, false, &c)) {
        json_decref(models);
        return CLI_FAILED;
    }
    for (unsigned i = 0; i < a->n_operands; i++)
        json_array_append_new(models, json_string(a->operands[i]));
    const char *backend = cli_flag(a, "backend");
    json_t *body = json_pack("{s:b, s:s, s:o}", "all", all, "backend", backend ? backend : "",
                             "models", models);
    int rc = client_json(&c, "POST", "/engines/unload", body, &answer, &err);
    uint64_t n = answer_number(answer, "unloaded_runners");
    if (rc == 0 && n)
        printf("Unloaded %llu model(s).\n", (unsigned long long)n);
    else if (rc == 0)
        puts(all ? "No models are running." : "No such model(s) running.");
    json_decref(answer);
    json_decref(body);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

/* --- version --- */

int docker_version(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct utsname u;
    char server[CLIENT_VERSION_MAX] = "";
    int rc = client_init(&c, &a->config, &err);
    c.probe_ms = IN_A_HURRY_MS;
    bool there = rc == 0 && client_version(&c, server, &err) == 1;
    const char *arch = uname(&u) < 0                       ? "?"
                       : strcmp(u.machine, "x86_64") == 0  ? "amd64"
                       : strcmp(u.machine, "aarch64") == 0 ? "arm64"
                                                           : u.machine;
    printf("Client:\n Version:    %s\n OS/Arch:    linux/%s\n\nServer:\n Version:    %s\n"
           " Engine:     %s\n",
           BERTH_VERSION, arch, there ? server : "(not reachable)", KIND);
    return CLI_OK;
}

/* --- logs, bench, run: berth's own, by other words --- */

static int as_berth(const char **words, int n)
{
    struct cli_args args;
    int status = CLI_FAILED;
    if (cli_parse(n, (char **)words, &args, &status)) {
        status = args.command->run(&args);
        cli_args_release(&args);
    }
    return status;
}

int docker_logs(const struct cli_args *a)
{
    const char *words[] = {"berth", "logs", "--lines", "100000",
                           cli_has(a, "follow") ? "-f" : NULL};
    return as_berth(words, words[4] ? 5 : 4);
}

int docker_bench(const struct cli_args *a)
{
    return cmd_bench_docker(a);
}

/* Flags of the original's that berth has no counterpart of: says what to do instead. */
static bool run_can(const struct cli_args *a, struct err *err)
{
    if (cli_has(a, "openaiurl"))
        err_set(
            err, E_UNSUPPORTED,
            "--openaiurl is not what berth does: `docker model run` asks berth's daemon; that of "
            "another machine is named by MODEL_RUNNER_HOST=http://HOST:PORT");
    else if (cli_has(a, "websearch"))
        err_set(err, E_UNSUPPORTED,
                "--websearch is not what berth does: it sends no prompt to others; a client of the "
                "API may give the model tools and run them (`tools` of /v1/chat/completions)");
    else
        return true;
    return false;
}

int docker_run(const struct cli_args *a)
{
    const char *words[MAX_OTHER_WORDS] = {"berth", "run", "--pull", "missing"};
    const char *color = cli_flag(a, "color"), *backend = cli_flag(a, "backend");
    struct err err = ERR_INIT;
    int n = 4;
    if (!run_can(a, &err))
        return cli_fail(&err);
    if (backend && strcmp(backend, "llama.cpp") != 0) {
        err_set(&err, E_UNSUPPORTED,
                "backend \"%.64s\" is not installed: models are answered by llama.cpp", backend);
        return cli_fail(&err);
    }
    if (color && strcmp(color, "auto") != 0 && strcmp(color, "yes") != 0 &&
        strcmp(color, "no") != 0) {
        err_set(&err, E_INVALID, "--color must be one of: auto, yes, no (got \"%.64s\")", color);
        return cli_fail(&err);
    }
    if (!color || strcmp(color, "no") == 0)
        words[n++] = "--no-markdown";
    if (cli_has(a, "debug"))
        words[n++] = "--verbose";
    if (cli_has(a, "detach"))
        words[n++] = "--detach";
    words[n++] = "--";
    for (unsigned i = 0; i < a->n_operands; i++)
        words[n++] = a->operands[i];
    return as_berth(words, n);
}

/* --- configure --- */

static int add_number(const struct cli_args *a, const char *flag, json_t *to, const char *key,
                      bool is_real, struct err *err)
{
    double x = 0;
    uint64_t n = 0;
    const char *text = cli_flag(a, flag);
    if (!text)
        return 0;
    if (!is_real && strcmp(text, "-1") == 0)
        json_object_set_new(to, key, json_integer(-1));
    else if (!is_real && cli_number(a, flag, 0, INT32_MAX, &n, err) < 0)
        return -err->code;
    else if (is_real && cli_real(a, flag, 0, 1, &x, err) < 0)
        return -err->code;
    else
        json_object_set_new(to, key, is_real ? json_real(x) : json_integer((json_int_t)n));
    return 0;
}

/* The settings of other engines, each in an object of its own where one is given. */
static int add_engines(const struct cli_args *a, json_t *body, struct err *err)
{
    json_t *speculative = json_object(), *vllm = json_object();
    const char *draft = cli_flag(a, "speculative-draft-model"), *hf = cli_flag(a, "hf_overrides");
    int rc = add_number(a, "speculative-num-tokens", speculative, "num_tokens", false, err);
    if (rc == 0)
        rc = add_number(a, "speculative-min-acceptance-rate", speculative, "min_acceptance_rate",
                        true, err);
    if (rc == 0)
        rc = add_number(a, "gpu-memory-utilization", vllm, "gpu-memory-utilization", true, err);
    if (draft)
        json_object_set_new(speculative, "draft_model", json_string(draft));
    json_t *overrides = hf ? json_loads(hf, 0, NULL) : NULL;
    if (rc == 0 && hf && !json_is_object(overrides))
        rc = err_set(err, E_INVALID, "invalid --hf_overrides JSON: '%.64s' is not an object", hf);
    static const char *const engines_own[] = {"max_model_len", "gpu_memory_utilization",
                                              "max_num_seqs"};
    static const char *const meant[] = {"say --context-size N",
                                        "leave it out, this engine runs on the processor",
                                        "say -- --max-num-seqs=N"};
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(meant); i++) {
        if (json_object_get(overrides, engines_own[i]))
            rc = err_set(err, E_INVALID,
                         "--hf_overrides changes the model's config.json; '%s' is the engine's: %s",
                         engines_own[i], meant[i]);
    }
    if (overrides)
        json_object_set(vllm, "hf-overrides", overrides);
    json_decref(overrides);
    if (json_object_size(speculative))
        json_object_set(body, "speculative", speculative);
    if (json_object_size(vllm))
        json_object_set(body, "vllm", vllm);
    if (cli_has(a, "think"))
        json_object_set_new(body, "llamacpp", json_pack("{s:i}", "reasoning-budget", -1));
    json_decref(speculative);
    json_decref(vllm);
    return rc;
}

int docker_configure(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *answer = NULL, *body = json_object(), *flags = json_array();
    unsigned n_before = docker_operands_before_dash();
    int rc = 0;
    if (n_before != 1)
        rc = err_set(&err, E_INVALID, "Exactly one model must be specified, got %u: [%s]", n_before,
                     a->operands[0]);
    json_object_set_new(body, "model", json_string(a->operands[0]));
    for (unsigned i = n_before; i < a->n_operands; i++)
        json_array_append_new(flags, json_string(a->operands[i]));
    if (json_array_size(flags))
        json_object_set(body, "runtime-flags", flags);
    if (rc == 0)
        rc = add_number(a, "context-size", body, "context-size", false, &err);
    if (cli_flag(a, "mode"))
        json_object_set_new(body, "mode", json_string(cli_flag(a, "mode")));
    if (cli_flag(a, "keep-alive"))
        json_object_set_new(body, "keep_alive", json_string(cli_flag(a, "keep-alive")));
    if (rc == 0)
        rc = add_engines(a, body, &err);
    int status = CLI_FAILED;
    if (rc < 0)
        status = cli_fail(&err);
    else if (docker_client(a, false, &c))
        status = client_json(&c, "POST", "/engines/_configure", body, &answer, &err) < 0
                     ? cli_fail(&err)
                     : CLI_OK;
    json_decref(answer);
    json_decref(flags);
    json_decref(body);
    return status;
}

int docker_configure_show(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct buf path;
    json_t *answer = NULL;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    buf_init(&path, 1800);
    buf_append_str(&path, "/engines/_configure");
    if (a->n_operands) {
        buf_append_str(&path, "?model=");
        client_escape(&path, a->operands[0], false);
    }
    int rc = buf_status(&path, "the model's name", &err);
    if (rc == 0)
        rc = client_json(&c, "GET", buf_str(&path), NULL, &answer, &err);
    if (rc == 0)
        cli_print_json(answer);
    json_decref(answer);
    buf_release(&path);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
