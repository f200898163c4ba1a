/* SPDX-License-Identifier: Apache-2.0 */
/* `berth configure`: what is declared of one model, which the daemon keeps
 * (daemon/runner/settings.h has the keys; the daemon checks them). */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/near.h"
#include "lib/sys/file.h"

enum kind {
    SET_MODEL,
    SET_NUMBER,
    SET_REAL,
    SET_SIZE,
    SET_TIME,
    SET_WORD,
    SET_FILE,
    SET_TRUE,
    SET_FALSE
};

/* Flags, the settings they give, and the widest range: the daemon knows each one's own.  Behind a
 * SET_TRUE comes its SET_FALSE. */
static const struct {
    const char *flag, *key;
    enum kind kind;
} settings[] = {{"context-size", "context-size", SET_NUMBER},
                {"max-num-seqs", "max-num-seqs", SET_NUMBER},
                {"max-num-batched-tokens", "max-num-batched-tokens", SET_NUMBER},
                {"kv-cache-type", "kv-cache-type", SET_WORD},
                {"kv-cache-memory", "kv-cache-memory", SET_SIZE},
                {"threads", "threads", SET_NUMBER},
                {"speculative-num-tokens", "speculative-num-tokens", SET_NUMBER},
                {"speculative-min-acceptance-rate", "speculative-min-acceptance-rate", SET_REAL},
                {"speculative-draft-model", "speculative-draft-model", SET_MODEL},
                {"no-prepare", "no-prepare", SET_TRUE},
                {"prepare", "no-prepare", SET_FALSE},
                {"keep-alive", "keep-alive", SET_TIME},
                {"pin", "pinned", SET_TRUE},
                {"no-pin", "pinned", SET_FALSE},
                {"chat-template", "chat-template", SET_FILE},
                {"temperature", "temperature", SET_REAL},
                {"top-p", "top-p", SET_REAL},
                {"min-p", "min-p", SET_REAL},
                {"top-k", "top-k", SET_NUMBER},
                {"repetition-penalty", "repetition-penalty", SET_REAL},
                {"presence-penalty", "presence-penalty", SET_REAL},
                {"frequency-penalty", "frequency-penalty", SET_REAL},
                {"max-tokens", "max-tokens", SET_NUMBER},
                {"seed", "seed", SET_NUMBER}};

static json_t *file_text(const char *path, struct err *err)
{
    struct buf text;
    json_t *j = NULL;
    if (file_read_all(path, LIMIT_TEMPLATE_BYTES, &text, err) == 0) {
        j = json_stringn(buf_str(&text), text.len);
        if (!j)
            err_set(err, E_INVALID, "%s is not valid UTF-8", path);
    }
    buf_release(&text);
    return j;
}

/* A name stays one; a path is made absolute, for the daemon to open. */
static json_t *model_value(const char *flag, const char *text, struct err *err)
{
    struct buf path;
    json_t *j = NULL;
    buf_init(&path, LIMIT_PATH_BYTES);
    int rc = model_is_path(text) ? model_real_path(text, &path, err) : 0;
    if (rc == 0)
        j = json_string(path.len ? buf_str(&path) : text);
    if (rc < 0)
        err_wrap(err, "--%s", flag);
    else if (!j)
        err_set(err, E_INVALID, "--%s: the value is not valid UTF-8", flag);
    buf_release(&path);
    return j;
}

/* The flag's value as the daemon takes it (new reference), or NULL. */
static json_t *value_of(const struct cli_args *a, size_t i, struct err *err)
{
    const char *flag = settings[i].flag, *text = cli_flag(a, flag);
    uint64_t n = 0;
    double x = 0;
    switch (settings[i].kind) {
    case SET_NUMBER:
        return cli_number(a, flag, 0, INT64_MAX, &n, err) < 0 ? NULL : json_integer((json_int_t)n);
    case SET_REAL: return cli_real(a, flag, -100, 100, &x, err) < 0 ? NULL : json_real(x);
    case SET_SIZE:
        if (config_parse_size(text, 0, INT64_MAX, &n, err) == 0)
            return json_integer((json_int_t)n);
        err_wrap(err, "--%s", flag);
        return NULL;
    case SET_TIME:
        if (config_parse_duration(text, 0, INT32_MAX, &n, err) == 0)
            return json_string(text);
        err_wrap(err, "--%s", flag);
        return NULL;
    case SET_MODEL: return model_value(flag, text, err);
    case SET_FILE: return file_text(text, err);
    case SET_TRUE: return json_true();
    case SET_FALSE: return json_false();
    case SET_WORD: break;
    }
    json_t *word = json_string(text);
    if (!word)
        err_set(err, E_INVALID, "--%s: the value is not valid UTF-8", flag);
    return word;
}

/* Puts null for a key that --unset names. */
static int unset(json_t *wanted, const char *key, struct err *err)
{
    const char *names[ARRAY_LEN(settings)];
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        names[i] = settings[i].key;
        if (strcmp(settings[i].key, key) != 0)
            continue;
        if (json_object_get(wanted, key) && !json_is_null(json_object_get(wanted, key)))
            return err_set(err, E_INVALID, "%s is both set and unset", key);
        json_object_set_new(wanted, key, json_null());
        return 0;
    }
    const char *near = near_name(key, names, ARRAY_LEN(names));
    return err_set(err, E_INVALID, "--unset: there is no setting '%.64s'%s%s%s", key,
                   near ? "; did you mean '" : "; `berth help configure` lists them",
                   near ? near : "", near ? "'?" : "");
}

/* What the flags want, by key. */
static int read_flags(const struct cli_args *a, json_t *wanted, struct err *err)
{
    for (size_t i = 0; cli_has(a, "reset") && i < ARRAY_LEN(settings); i++)
        json_object_set_new(wanted, settings[i].key, json_null());
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (!cli_has(a, settings[i].flag))
            continue;
        if (settings[i].kind == SET_FALSE && cli_has(a, settings[i - 1].flag))
            return err_set(err, E_INVALID, "--%s and --%s exclude each other", settings[i - 1].flag,
                           settings[i].flag);
        json_t *v = value_of(a, i, err);
        if (!v)
            return -err->code;
        json_object_set_new(wanted, settings[i].key, v);
    }
    for (unsigned i = 0; i < a->n_given; i++) {
        if (strcmp(a->given[i].flag->name, "unset") == 0 &&
            unset(wanted, a->given[i].value, err) < 0)
            return -err->code;
    }
    if (json_object_size(wanted) == 0)
        return err_set(err, E_INVALID,
                       "say what to declare, as in --context-size 8192; `berth help configure` "
                       "lists the flags, `berth configure show` what is declared");
    return 0;
}

static void add_settings(struct table *t, const json_t *m)
{
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(m, "settings"), key, v)
    {
        char *text =
            json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        const char *shown = text ? text : json_string_value(v);
        char clipped[64];
        snprintf(clipped, sizeof(clipped), "%.48s%s", shown, strlen(shown) > 48 ? "..." : "");
        table_add(t, answer_text(m, "name"));
        table_add(t, key);
        table_add(t, clipped);
        mem_free(text); /* jansson's, of the same allocator */
    }
}

static void print_settings(const json_t *models)
{
    static const char *const titles[] = {"MODEL", "SETTING", "VALUE"};
    struct table t;
    size_t i;
    const json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_array_foreach((json_t *)models, i, m) add_settings(&t, m);
    table_print(&t);
    table_release(&t);
}

/* {model, settings} of each in models that has some, or of all in it with every. */
static json_t *only_settings(const json_t *models, bool every)
{
    json_t *out = json_array(), *s;
    size_t i;
    const json_t *m;
    json_array_foreach((json_t *)models, i, m)
    {
        s = json_object_get(m, "settings");
        if (every || json_object_size(s))
            json_array_append_new(out, json_pack("{s:s, s:o}", "model", answer_text(m, "name"),
                                                 "settings", s ? json_incref(s) : json_object()));
    }
    return out;
}

/* Prints the settings of one model (NULL: of all that have some). */
static int show(const struct client *c, const char *model, bool is_json, struct err *err)
{
    json_t *all = NULL;
    int rc = models_fetch(c, &all, err);
    if (rc < 0)
        return rc;
    const json_t *one = model ? models_pick(all, model) : NULL;
    json_t *models = model ? json_array() : json_incref(all);
    if (one)
        json_array_append(models, (json_t *)one);
    if (model && !one) {
        rc = err_set(err, E_NOTFOUND, "there is no model '%.128s'; `berth list` lists them", model);
    } else if (is_json) {
        json_t *j = only_settings(models, model != NULL);
        cli_print_json(model ? json_array_get(j, 0) : j);
        json_decref(j);
    } else {
        print_settings(models);
    }
    json_decref(models);
    json_decref(all);
    return rc;
}

int cmd_configure(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct buf name;
    json_t *wanted = json_object(), *answer = NULL;
    if (read_flags(a, wanted, &err) < 0) {
        json_decref(wanted);
        cli_fail(&err);
        return CLI_USAGE;
    }
    buf_init(&name, LIMIT_PATH_BYTES);
    int rc = client_init(&c, &a->config, &err);
    if (rc == 0)
        rc = client_ensure(&c, &err);
    if (rc == 0)
        rc = model_name(&c, a->operands[0], &name, &err);
    if (rc == 0) {
        json_t *body = json_pack("{s:s, s:O}", "model", buf_str(&name), "settings", wanted);
        rc = body ? client_json(&c, "POST", "/berth/v1/configure", body, &answer, &err)
                  : err_set(&err, E_INVALID, "the model's name is not valid UTF-8");
        json_decref(body);
    }
    if (rc == 0 && cli_has(a, "json"))
        rc = show(&c, buf_str(&name), true, &err);
    json_decref(answer);
    json_decref(wanted);
    buf_release(&name);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

int cmd_configure_show(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    int rc = client_init(&c, &a->config, &err);
    if (rc == 0)
        rc = client_ensure(&c, &err);
    if (rc == 0)
        rc = show(&c, a->n_operands ? a->operands[0] : NULL, cli_has(a, "json"), &err);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
