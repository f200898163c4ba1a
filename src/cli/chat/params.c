/* SPDX-License-Identifier: Apache-2.0 */
/* Implements params.h. */
#include "cli/chat/params.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/near.h"

enum kind { REAL, COUNT, SWITCH, TEXTS, IDS, BIASES };

static const struct param {
    const char *flag, *key, *other; /* other: Ollama's name, where it differs */
    enum kind kind;
    double min, max;
    const char *doc;
} table[] = {
    {"temperature", "temperature", NULL, REAL, 0, 100, "0: the likeliest token each time"},
    {"top-k", "top_k", NULL, COUNT, 0, LIMIT_MODEL_VOCAB, "sample among the likeliest; 0: all"},
    {"top-p", "top_p", NULL, REAL, 0, 1, "sample among those that add up to it; 1: all"},
    {"min-p", "min_p", NULL, REAL, 0, 1, "leave out the far less likely; 0: none"},
    {"repetition-penalty", "repetition_penalty", "repeat_penalty", REAL, 0.01, 100, "1: off"},
    {"presence-penalty", "presence_penalty", NULL, REAL, -2, 2, "0: off"},
    {"frequency-penalty", "frequency_penalty", NULL, REAL, -2, 2, "0: off"},
    {"seed", "seed", NULL, COUNT, 0, 0x1p63, "default: drawn for each answer"},
    {"max-tokens", "max_tokens", "num_predict", COUNT, 1, LIMIT_MODEL_CONTEXT,
     "default: up to the end of the context"},
    {"min-tokens", "min_tokens", NULL, COUNT, 0, LIMIT_MODEL_CONTEXT, "no end before so many"},
    {"stop", "stop", NULL, TEXTS, 0, 0, "end the answer before this text; several add up"},
    {"stop-token-ids", "stop_token_ids", NULL, IDS, 0, LIMIT_MODEL_VOCAB,
     "token ids that end the answer, separated by commas"},
    {"logit-bias", "logit_bias", NULL, BIASES, -100, 100,
     "TOKEN:BIAS, separated by commas: added to the token's logit"},
    {"ignore-eos", "ignore_eos", NULL, SWITCH, 0, 0, "yes: go on past the model's end"},
};

static const struct param *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct param *p = &table[i];
        if (strcmp(name, p->flag) == 0 || strcmp(name, p->key) == 0 ||
            (p->other && strcmp(name, p->other) == 0))
            return p;
    }
    return NULL;
}

const char *params_name(const char *name)
{
    const struct param *p = find(name);
    return p ? p->key : NULL;
}

static int read_real(const char *text, const char **ret_end, double *ret)
{
    char *end;
    errno = 0;
    *ret = strtod(text, &end);
    *ret_end = end;
    return end == text || errno || !isfinite(*ret) ? -1 : 0;
}

static uint64_t max_count(const struct param *p)
{
    return p->max >= 0x1p63 ? INT64_MAX : (uint64_t)p->max;
}

static int out_of_range(const char *value, const struct param *p, struct err *err)
{
    if (p->kind == REAL)
        return err_set(err, E_INVALID, "'%.64s' is not a number from %g to %g", value, p->min,
                       p->max);
    return err_set(err, E_INVALID, "'%.64s' is not a whole number from %.0f to %llu", value, p->min,
                   (unsigned long long)max_count(p));
}

/* "12,345" as an array. */
static json_t *read_ids(const struct param *p, const char *value, struct err *err)
{
    json_t *ids = json_array();
    for (const char *s = value;;) {
        char *end;
        errno = 0;
        unsigned long long id = strtoull(s, &end, 10);
        if (end == s || errno || *s < '0' || *s > '9' || (double)id > p->max ||
            (*end && *end != ',')) {
            err_set(err, E_INVALID, "'%.64s' is not a list of token ids such as 2,13", value);
            json_decref(ids);
            return NULL;
        }
        json_array_append_new(ids, json_integer((json_int_t)id));
        if (!*end)
            return ids;
        s = end + 1;
    }
}

/* "12:-100,345:1.5" as an object. */
static json_t *read_biases(const struct param *p, const char *value, struct err *err)
{
    json_t *map = json_object();
    for (const char *s = value;;) {
        char key[16];
        size_t n = strspn(s, "0123456789");
        const char *end = s;
        double bias;
        if (n == 0 || n >= sizeof(key) || s[n] != ':' || read_real(s + n + 1, &end, &bias) < 0 ||
            bias < p->min || bias > p->max || (*end && *end != ',')) {
            err_set(err, E_INVALID,
                    "'%.64s' is not a list such as 13:-100,42:1.5 of token ids and biases from %g "
                    "to %g",
                    value, p->min, p->max);
            json_decref(map);
            return NULL;
        }
        memcpy(key, s, n);
        key[n] = '\0';
        json_object_set_new(map, key, json_real(bias));
        if (!*end)
            return map;
        s = end + 1;
    }
}

/* The value as JSON (a new reference), or NULL and err. */
static json_t *read_value(const struct param *p, const char *value, struct err *err)
{
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                "off", "0"};
    uint64_t count;
    double real;
    const char *end;
    struct err why = ERR_INIT;
    json_t *text;
    switch (p->kind) {
    case REAL:
        if (read_real(value, &end, &real) == 0 && !*end && real >= p->min && real <= p->max)
            return json_real(real);
        out_of_range(value, p, err);
        return NULL;
    case COUNT:
        if (config_parse_number(value, (uint64_t)p->min, max_count(p), &count, &why) == 0)
            return json_integer((json_int_t)count);
        out_of_range(value, p, err);
        return NULL;
    case SWITCH:
        for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
            if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0)
                return json_boolean(strcmp(value, yes[i]) == 0);
        }
        err_set(err, E_INVALID, "'%.64s' is neither yes nor no", value);
        return NULL;
    case TEXTS:
        text = *value ? json_string(value) : NULL;
        if (text)
            return json_pack("[o]", text);
        err_set(err, E_INVALID, "the text is %s", *value ? "not valid UTF-8" : "empty");
        return NULL;
    case IDS: return read_ids(p, value, err);
    case BIASES: return read_biases(p, value, err);
    }
    return NULL;
}

int params_set(json_t *params, const char *name, const char *value, struct err *err)
{
    const struct param *p = find(name);
    if (!p) {
        const char *names[ARRAY_LEN(table)];
        for (size_t i = 0; i < ARRAY_LEN(table); i++)
            names[i] = table[i].key;
        const char *near = near_name(name, names, ARRAY_LEN(names));
        return err_set(err, E_INVALID, "there is no parameter '%.64s'%s%s%s", name,
                       near ? "; did you mean " : "; /set parameter lists them", near ? near : "",
                       near ? "?" : "");
    }
    if (strcmp(value, "default") == 0) {
        json_object_del(params, p->key);
        return 0;
    }
    json_t *v = read_value(p, value, err);
    if (!v)
        return err_wrap(err, "%s", p->key);
    json_t *old = json_object_get(params, p->key);
    if (p->kind == TEXTS && old) {
        json_array_extend(old, v);
        json_decref(v);
        return 0;
    }
    json_object_set_new(params, p->key, v);
    return 0;
}

int params_from_flags(const struct cli_args *a, json_t *params, struct err *err)
{
    for (unsigned i = 0; i < a->n_given; i++) {
        const struct cli_flag *f = a->given[i].flag;
        const struct param *p = find(f->name);
        if (!p)
            continue;
        const char *value = p->kind == SWITCH ? "yes" : a->given[i].value;
        json_t *v = read_value(p, value, err);
        if (!v)
            return err_wrap(err, "--%s", f->name);
        json_t *old = json_object_get(params, p->key);
        if (old && p->kind == TEXTS) {
            json_array_extend(old, v);
            json_decref(v);
        } else {
            json_object_set_new(params, p->key, v);
        }
    }
    return 0;
}

int params_take(json_t *params, const json_t *given, struct err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)given, key, v)
    {
        const struct param *p = find(key);
        static const char *const form[] = {
            "a number",        "a whole number",      "true or false",
            "a list of texts", "a list of token ids", "an object"};
        if (!p)
            return err_set(err, E_INVALID, "there is no parameter '%.64s'", key);
        bool is_right = p->kind == REAL     ? json_is_number(v)
                        : p->kind == COUNT  ? json_is_integer(v)
                        : p->kind == SWITCH ? json_is_boolean(v)
                        : p->kind == BIASES ? json_is_object(v)
                                            : json_is_array(v);
        double n = json_number_value(v);
        if (is_right && (p->kind == REAL || p->kind == COUNT))
            is_right = n >= p->min && n <= p->max;
        if (!is_right)
            return err_set(err, E_INVALID, "%s is not %s in its range", p->key, form[p->kind]);
        json_object_set(params, p->key, v);
    }
    return 0;
}

void params_show(const json_t *params, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct param *p = &table[i];
        const json_t *v = json_object_get(params, p->key);
        char number[32];
        char *text = NULL; /* jansson's */
        if (json_is_real(v))
            snprintf(number, sizeof(number), "%.6g", json_real_value(v));
        else if (v)
            text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        buf_printf(out, "%-19s %-8s %s\n", p->key,
                   text              ? text
                   : json_is_real(v) ? number
                                     : "default",
                   p->doc);
        mem_free(text); /* of the same allocator */
    }
}
