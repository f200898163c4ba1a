/* SPDX-License-Identifier: Apache-2.0 */
/* `berth config`: every option's value and where it came from, the file that is read, and what is
 * wrong in one. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/near.h"

/* What may be shown of a value. */
static const char *shown(const struct config *c, enum config_id id)
{
    const char *text = config_str(c, id);
    return config_option(id)->type == CONFIG_SECRET && *text ? "(set)" : text;
}

static json_t *typed_value(const struct config *c, enum config_id id)
{
    const struct config_value *v = &c->values[id];
    switch (config_option(id)->type) {
    case CONFIG_NUMBER:
    case CONFIG_SIZE: return json_integer((json_int_t)v->number);
    case CONFIG_DURATION:
        return json_integer(v->number == CONFIG_FOREVER ? -1 : (json_int_t)v->number);
    case CONFIG_SWITCH: return json_boolean(v->number);
    case CONFIG_SECRET: return json_boolean(*v->text);
    case CONFIG_STRING:
    case CONFIG_CHOICE: break;
    }
    return json_string(v->text);
}

static json_t *as_json(const struct config *c, enum config_id id)
{
    static const char *const sources[] = {[CONFIG_FROM_DEFAULT] = "default",
                                          [CONFIG_FROM_FILE] = "file",
                                          [CONFIG_FROM_ENV] = "environment",
                                          [CONFIG_FROM_FLAG] = "flag"};
    struct buf origin;
    buf_init(&origin, LIMIT_PATH_BYTES + 32);
    config_origin(c, id, &origin);
    json_t *value = typed_value(c, id); /* NULL: not UTF-8 */
    json_t *j = json_pack("{s:s, s:o, s:s, s:s, s:s?}", "key", config_option(id)->key, "value",
                          value ? value : json_null(), "text", value ? shown(c, id) : "", "source",
                          sources[c->values[id].source], "origin", buf_str(&origin));
    buf_release(&origin);
    return j;
}

static int print_all(const struct config *c, bool is_json)
{
    static const char *const titles[] = {"OPTION", "VALUE", "FROM"};
    struct table t;
    json_t *all = json_array();
    table_init(&t, titles, ARRAY_LEN(titles));
    for (int i = 0; i < CONFIG_N_OPTIONS; i++) {
        enum config_id id = (enum config_id)i;
        struct buf origin;
        json_array_append_new(all, as_json(c, id));
        buf_init(&origin, LIMIT_PATH_BYTES + 32);
        config_origin(c, id, &origin);
        table_add(&t, config_option(id)->key);
        table_add(&t, *config_str(c, id) ? shown(c, id) : "-");
        table_add(&t, buf_str(&origin));
        buf_release(&origin);
    }
    if (is_json)
        cli_print_json(all);
    else
        table_print(&t);
    json_decref(all);
    table_release(&t);
    return CLI_OK;
}

static int unknown_key(const char *key)
{
    struct err err = ERR_INIT;
    const char *names[CONFIG_N_OPTIONS];
    for (int i = 0; i < CONFIG_N_OPTIONS; i++)
        names[i] = config_option((enum config_id)i)->key;
    const char *near = near_name(key, names, CONFIG_N_OPTIONS);
    err_set(&err, E_NOTFOUND, "there is no option '%.64s'%s%s%s", key,
            near ? "; did you mean '" : "; `berth config show` lists those there are",
            near ? near : "", near ? "'?" : "");
    cli_fail(&err);
    return CLI_USAGE;
}

int cmd_config_show(const struct cli_args *a)
{
    if (a->n_operands == 0)
        return print_all(&a->config, cli_has(a, "json"));
    enum config_id id = config_find(a->operands[0]);
    if (id == CONFIG_N_OPTIONS)
        return unknown_key(a->operands[0]);
    if (cli_has(a, "json")) {
        json_t *j = as_json(&a->config, id);
        cli_print_json(j);
        json_decref(j);
    } else {
        printf("%s\n", shown(&a->config, id));
    }
    return CLI_OK;
}

int cmd_config_path(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct buf path;
    bool there = false;
    buf_init(&path, LIMIT_PATH_BYTES);
    int rc = config_path(cli_flag(a, "config"), &path, &there, &err);
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = json_pack("{s:s, s:b}", "path", buf_str(&path), "exists", there);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        puts(buf_str(&path));
        if (!there)
            fprintf(stderr, "berth: there is no such file yet; the defaults count\n");
    }
    buf_release(&path);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

static void collect(void *ctx, const char *sentence)
{
    json_array_append_new(ctx, json_string(sentence));
}

int cmd_config_check(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct buf path;
    bool there = true;
    json_t *mistakes = json_array();
    buf_init(&path, LIMIT_PATH_BYTES);
    int rc = a->n_operands ? buf_append_str(&path, a->operands[0])
                           : config_path(cli_flag(a, "config"), &path, &there, &err);
    if (rc == 0 && there)
        rc = config_check(buf_str(&path), collect, mistakes, &err);
    size_t n = json_array_size(mistakes), i;
    const json_t *m;
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = json_pack("{s:s, s:b, s:O}", "path", buf_str(&path), "exists", there,
                              "mistakes", mistakes);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        json_array_foreach(mistakes, i, m) fprintf(stderr, "berth: %s\n", json_string_value(m));
        if (n == 0)
            printf("%s: %s\n", buf_str(&path),
                   there ? "no mistakes" : "there is no such file; the defaults count");
    }
    json_decref(mistakes);
    buf_release(&path);
    return rc < 0 ? cli_fail(&err) : n ? CLI_FAILED : CLI_OK;
}
