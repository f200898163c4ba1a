/* SPDX-License-Identifier: Apache-2.0 */
/* `berth list` and `berth ps`: the daemon's models as a table or as JSON. */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

#define MODELS_PATH "/berth/v1/models"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static uint64_t number_of(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v > 0 ? (uint64_t)v : 0;
}

static void add_bytes(struct table *t, uint64_t n)
{
    char s[16];
    text_bytes(n, s);
    table_add(t, s);
}

static void add_ago(struct table *t, uint64_t unix_s)
{
    char s[32];
    text_ago((int64_t)unix_s, s);
    table_add(t, s);
}

static void print_list(const json_t *models)
{
    static const char *const titles[] = {"NAME", "SIZE", "MODIFIED", "STATE", "FILE"};
    struct table t;
    size_t i;
    const json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach((json_t *)models, i, m)
    {
        table_add(&t, text_of(m, "name"));
        add_bytes(&t, number_of(m, "file_bytes"));
        add_ago(&t, number_of(m, "modified_unix"));
        table_add(&t, text_of(m, "state"));
        table_add(&t, text_of(m, "path"));
    }
    table_print(&t);
    table_release(&t);
}

static bool is_loaded(const json_t *m)
{
    return strcmp(text_of(m, "state"), "ready") == 0 || strcmp(text_of(m, "state"), "loading") == 0;
}

static void print_ps(const json_t *models)
{
    static const char *const titles[] = {"NAME",  "STATE",   "PID",    "ARCH",    "PARAMS",
                                         "QUANT", "CONTEXT", "MEMORY", "RUNNING", "LOADED"};
    struct table t;
    size_t i;
    const json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach((json_t *)models, i, m)
    {
        char s[32];
        table_add(&t, text_of(m, "name"));
        table_add(&t, text_of(m, "state"));
        snprintf(s, sizeof(s), "%llu", (unsigned long long)number_of(m, "pid"));
        table_add(&t, s);
        table_add(&t, text_of(m, "arch"));
        text_count(number_of(m, "n_params"), s);
        table_add(&t, s);
        table_add(&t, text_of(m, "quant"));
        snprintf(s, sizeof(s), "%llu", (unsigned long long)number_of(m, "n_ctx"));
        table_add(&t, s);
        add_bytes(&t, number_of(m, "weight_bytes") + number_of(m, "kv_bytes") +
                          number_of(m, "scratch_bytes"));
        snprintf(s, sizeof(s), "%llu", (unsigned long long)number_of(m, "n_running"));
        table_add(&t, s);
        add_ago(&t, number_of(m, "loaded_unix"));
    }
    table_print(&t);
    table_release(&t);
}

/* The daemon's models as an array of its own (new reference); only the loaded ones when asked. */
static int fetch(const struct client *c, bool only_loaded, json_t **ret, struct err *err)
{
    json_t *answer = NULL;
    int rc = client_json(c, "GET", MODELS_PATH, NULL, &answer, err);
    if (rc < 0)
        return rc;
    json_t *models = json_array();
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(answer, "models"), i, m)
    {
        if (!only_loaded || is_loaded(m))
            json_array_append(models, m);
    }
    json_decref(answer);
    *ret = models;
    return 0;
}

int cmd_list(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    if (client_init(&c, &a->config, &err) < 0 || client_ensure(&c, &err) < 0 ||
        fetch(&c, false, &models, &err) < 0)
        return cli_fail(&err);
    if (cli_has(a, "json"))
        cli_print_json(models);
    else
        print_list(models);
    if (json_array_size(models) == 0)
        fprintf(stderr,
                "berth: the daemon on %s finds no models; put .gguf files into a folder of its "
                "models-dir "
                "(`berth help serve`), or run one by its path\n",
                c.url);
    json_decref(models);
    return CLI_OK;
}

int cmd_ps(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    if (client_init(&c, &a->config, &err) < 0)
        return cli_fail(&err);
    int there = client_probe(&c, &err);
    if (there < 0 || (there && fetch(&c, true, &models, &err) < 0))
        return cli_fail(&err);
    if (!there)
        models = json_array();
    if (cli_has(a, "json"))
        cli_print_json(models);
    else
        print_ps(models);
    if (!there)
        fprintf(stderr, "berth: no daemon listens on %s\n", c.url);
    json_decref(models);
    return CLI_OK;
}
