/* SPDX-License-Identifier: Apache-2.0 */
/* `berth list` and `berth ps`: the daemon's models as a table or as JSON. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "cli/artifact/facts.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"

/* As a person would type it. */
static const char *name_of(const json_t *m, char ret[LIMIT_MODEL_NAME_BYTES + 1])
{
    const char *name = answer_text(m, "name");
    bool is_stored = strcmp(answer_text(m, "source"), "store") == 0;
    return is_stored ? facts_clear_name(name, ret, LIMIT_MODEL_NAME_BYTES + 1) : name;
}

static void print_list(const json_t *models)
{
    static const char *const titles[] = {"NAME", "SIZE", "MODIFIED", "STATE", "DIGEST OR FILE"};
    struct table t;
    size_t i;
    const json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach((json_t *)models, i, m)
    {
        bool is_stored = strcmp(answer_text(m, "source"), "store") == 0;
        char name[LIMIT_MODEL_NAME_BYTES + 1], digest[32];
        snprintf(digest, sizeof(digest), "%.19s", answer_text(m, "id"));
        table_add(&t, name_of(m, name));
        table_add_bytes(&t, answer_number(m, "file_bytes"));
        table_add_ago(&t, answer_number(m, "modified_unix"));
        table_add(&t, answer_text(m, "state"));
        table_add(&t, is_stored ? digest : answer_text(m, "path"));
    }
    table_print(&t);
    table_release(&t);
}

/* When a model goes if nobody asks it. */
static void add_until(struct table *t, const json_t *m)
{
    char s[48];
    const json_t *left = json_object_get(m, "expires_in_s");
    if (strcmp(answer_text(m, "state"), "loading") == 0)
        table_add(t, "Loading...");
    else if (!left)
        table_add(t, "");
    else if (!json_is_integer(left) || json_integer_value(left) < 0 ||
             json_integer_value(left) > INT32_MAX)
        table_add(t, "Forever");
    else
        table_add(t, text_until((uint64_t)json_integer_value(left), s));
}

static void print_ps(const json_t *models)
{
    static const char *const titles[] = {"NAME",   "STATE",   "PARAMS",  "QUANT", "CONTEXT",
                                         "MEMORY", "RUNNING", "WAITING", "UNTIL"};
    struct table t;
    size_t i;
    const json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach((json_t *)models, i, m)
    {
        char s[32];
        table_add(&t, answer_text(m, "name"));
        table_add(&t, answer_text(m, "state"));
        text_count(answer_number(m, "n_params"), s);
        table_add(&t, s);
        table_add(&t, answer_text(m, "quant"));
        table_add_number(&t, answer_number(m, "n_ctx"));
        table_add_bytes(&t, model_memory(m));
        table_add_number(&t, answer_number(m, "n_running"));
        table_add_number(&t, answer_number(m, "n_waiting"));
        add_until(&t, m);
    }
    table_print(&t);
    table_release(&t);
    json_array_foreach((json_t *)models, i, m)
    {
        if (*answer_text(m, "draft_refusal"))
            fprintf(stderr, "berth: %s is loaded without the draft model that is set for all: %s\n",
                    answer_text(m, "name"), answer_text(m, "draft_refusal"));
    }
}

static void print_names(const json_t *models)
{
    size_t i;
    const json_t *m;
    json_array_foreach((json_t *)models, i, m)
    {
        char name[LIMIT_MODEL_NAME_BYTES + 1];
        puts(name_of(m, name));
    }
}

static bool is_known(const json_t *models, const char *name)
{
    size_t i;
    const json_t *m;
    json_array_foreach((json_t *)models, i, m)
    {
        if (strcmp(answer_text(m, "name"), name) == 0)
            return true;
    }
    return false;
}

/* The models of the folders that a daemon started now would look into, as the daemon's list would
 * begin. */
static json_t *local_models(const char *dirs)
{
    json_t *models = json_array();
    for (const char *s = dirs; *s;) {
        size_t n = strcspn(s, ":");
        struct buf dir;
        const struct dirent *e;
        buf_init(&dir, 65536);
        buf_append(&dir, s, n);
        DIR *d = n ? opendir(buf_str(&dir)) : NULL;
        while (d && (e = readdir(d))) {
            struct str name = str_from(e->d_name);
            char bare[NAME_MAX + 1];
            if (!str_has_suffix(name, STR_LIT(".gguf")) || name.len > NAME_MAX)
                continue;
            snprintf(bare, sizeof(bare), "%.*s", (int)name.len - 5, name.p);
            json_t *m = is_known(models, bare) ? NULL : json_pack("{s:s}", "name", bare);
            if (m)
                json_array_append_new(models, m);
        }
        if (d)
            closedir(d);
        buf_release(&dir);
        s += n + (s[n] == ':');
    }
    return models;
}

/* For completions: names at once, whatever else is the case, and without a word. */
static int list_quickly(const struct cli_args *a, struct client *c)
{
    struct err ignored = ERR_INIT;
    json_t *models = NULL;
    c->probe_ms = 200;
    if (client_probe(c, &ignored) != 1 || models_fetch(c, &models, &ignored) < 0)
        models = local_models(config_str(&a->config, CONFIG_models_dir));
    print_names(models);
    json_decref(models);
    return CLI_OK;
}

int cmd_list(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    if (client_init(&c, &a->config, &err) < 0)
        return cli_fail(&err);
    if (cli_has(a, "no-start"))
        return list_quickly(a, &c);
    if (client_ensure(&c, &err) < 0 || models_fetch(&c, &models, &err) < 0)
        return cli_fail(&err);
    if (cli_has(a, "json"))
        cli_print_json(models);
    else if (cli_has(a, "quiet"))
        print_names(models);
    else
        print_list(models);
    if (json_array_size(models) == 0)
        fprintf(stderr,
                "berth: the daemon on %s has no models; `berth pull NAME` fetches one, `berth "
                "package` makes "
                "one of files, and .gguf files in its models-dir are models too\n",
                client_place(&c));
    json_decref(models);
    return CLI_OK;
}

/* The loaded ones, an array of its own; models' reference is taken. */
static json_t *only_loaded(json_t *models)
{
    json_t *loaded = json_array(), *m;
    size_t i;
    json_array_foreach(models, i, m)
    {
        if (model_is_loaded(m))
            json_array_append(loaded, m);
    }
    json_decref(models);
    return loaded;
}

int cmd_ps(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    if (client_init(&c, &a->config, &err) < 0)
        return cli_fail(&err);
    int there = client_probe(&c, &err);
    if (there < 0 || (there && models_fetch(&c, &models, &err) < 0))
        return cli_fail(&err);
    models = there ? only_loaded(models) : json_array();
    if (cli_has(a, "json"))
        cli_print_json(models);
    else
        print_ps(models);
    if (!there)
        fprintf(stderr, "berth: no daemon listens on %s\n", client_place(&c));
    json_decref(models);
    return CLI_OK;
}
