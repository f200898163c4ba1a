/* SPDX-License-Identifier: Apache-2.0 */
/* `berth status`: whether a daemon runs, and how it is. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/table.h"

static void print_memory(const json_t *status, const json_t *models)
{
    uint64_t planned = 0, limit = answer_number(status, "max_memory_bytes");
    char a[16], b[16];
    size_t i;
    const json_t *m;
    json_array_foreach((json_t *)models, i, m) planned += model_is_loaded(m) ? model_memory(m) : 0;
    text_bytes(planned, a);
    text_bytes(limit, b);
    fact_print("memory", limit ? "%s planned of %s" : "%s planned", a, b);
}

static void print_status(const struct client *c, const json_t *status, const json_t *models)
{
    uint64_t n_loaded = 0, n_running = 0, n_waiting = 0;
    char span[32];
    size_t i;
    const json_t *m;
    json_array_foreach((json_t *)models, i, m)
    {
        n_loaded += model_is_loaded(m);
        n_running += answer_number(m, "n_running");
        n_waiting += answer_number(m, "n_waiting");
    }
    printf("berth is running on %s\n\n", client_place(c));
    fact_print("version", "%s", answer_text(status, "version"));
    fact_print("process", "%llu, for %s", (unsigned long long)answer_number(status, "pid"),
               text_span(answer_number(status, "uptime_s"), span));
    if (!json_is_true(json_object_get(status, "ready")))
        fact_print("ready", "no: %s", answer_text(status, "ready_reason"));
    fact_print("models", "%zu, %llu of them loaded", json_array_size(models),
               (unsigned long long)n_loaded);
    print_memory(status, models);
    fact_print("answers", "%llu under way, %llu waiting", (unsigned long long)n_running,
               (unsigned long long)n_waiting);
    if (answer_number(status, "crashes") || answer_number(status, "hangs"))
        fact_print("mishaps", "%llu crashes and %llu hangs of workers; `berth logs` tells of them",
                   (unsigned long long)answer_number(status, "crashes"),
                   (unsigned long long)answer_number(status, "hangs"));
    fact_print("connections", "%llu", (unsigned long long)answer_number(status, "connections"));
    json_array_foreach(json_object_get(status, "models_dirs"), i, m)
        fact_print(i ? "" : "models-dir", "%s", json_string_value(m));
}

static int not_running(const struct client *c, bool is_json)
{
    if (is_json) {
        json_t *j = json_pack("{s:b, s:s}", "running", 0, "url", client_place(c));
        cli_print_json(j);
        json_decref(j);
    } else {
        printf("berth is not running on %s\n", client_place(c));
        fprintf(stderr, "berth: `berth serve` starts it; so does `berth run`\n");
    }
    return CLI_FAILED;
}

int cmd_status(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *status = NULL, *models = NULL;
    if (client_init(&c, &a->config, &err) < 0)
        return cli_fail(&err);
    int there = client_probe(&c, &err);
    if (there == 0)
        return not_running(&c, cli_has(a, "json"));
    int rc = there < 0 ? there : client_json(&c, "GET", "/berth/v1/status", NULL, &status, &err);
    if (rc == 0)
        rc = models_fetch(&c, &models, &err);
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = json_pack("{s:b, s:s}", "running", 1, "url", client_place(&c));
        json_object_update_missing(j, status);
        json_object_set(j, "models", models);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        print_status(&c, status, models);
    }
    json_decref(models);
    json_decref(status);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
