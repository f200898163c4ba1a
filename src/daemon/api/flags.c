/* SPDX-License-Identifier: Apache-2.0 */
/* Implements flags.h: the table of flag.def. */
#include "daemon/api/flags.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

enum kind {
    KIND_INT,
    KIND_NUM,
    KIND_WORD,
    KIND_MODEL,
    KIND_SPEC,
    KIND_ON,
    KIND_OFF,
    KIND_PLAIN,
    KIND_ONLY
};

struct row {
    const char *long_name, *short_name;
    enum kind kind;
    const char *setting; /* or, of ONLY, the neutral value */
    const char *why;
};

static const struct row rows[] = {
#define INT(l, s, track, setting)       {l, s, KIND_INT, setting, ""},
#define NUM(l, s, track, setting)       {l, s, KIND_NUM, setting, ""},
#define WORD(l, s, track, setting)      {l, s, KIND_WORD, setting, ""},
#define MODEL(l, s, track, setting)     {l, s, KIND_MODEL, setting, ""},
#define SPEC(l, s, track)               {l, s, KIND_SPEC, "", ""},
#define ON(l, s, track, setting)        {l, s, KIND_ON, setting, ""},
#define OFF(l, s, track, setting)       {l, s, KIND_OFF, setting, ""},
#define PLAIN(l, s, track, why)         {l, s, KIND_PLAIN, "", why},
#define ONLY(l, s, track, neutral, why) {l, s, KIND_ONLY, neutral, why},
#include "daemon/api/flag.def"
};

static const struct row *row_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (str_is(name, rows[i].long_name) ||
            (rows[i].short_name[0] && str_is(name, rows[i].short_name)))
            return &rows[i];
    }
    return NULL;
}

/* What a path, another program's argument or a line of a file would need. */
static bool is_harmless(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7F || strchr("/\\;|&$`<>\"'", c))
            return false;
    }
    return s.len > 0 && s.len <= 64;
}

/* A name with its registry and folders; never a path. */
static bool is_model_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7F || strchr("\\;|&$`<>\"'", c) ||
            (c == '.' && i + 1 < s.len && s.p[i + 1] == '.'))
            return false;
    }
    return s.len > 0 && s.len <= LIMIT_MODEL_NAME_BYTES && !strchr("/.~-", s.p[0]);
}

/* Puts value (taken) as setting, which row's flag may do once. */
static int put_setting(const struct row *row, const char *setting, json_t *v, json_t *settings,
                       struct err *err)
{
    const json_t *earlier = json_object_get(settings, setting);
    bool differs = earlier && !json_equal(earlier, v);
    if (!differs && json_object_set_new(settings, setting, v) < 0)
        return err_set(err, E_NOMEM, "runtime flags: no memory");
    if (differs)
        json_decref(v);
    return differs ? err_set(err, E_INVALID,
                             "runtime flag '%s' gives '%s' a second value; it can have one",
                             row->long_name, setting)
                   : 0;
}

static int put_spec(const struct row *row, const json_t *o, json_t *settings, struct err *err)
{
    const char *method = json_string_value(json_object_get(o, "method")), *key;
    const json_t *model = json_object_get(o, "model"),
                 *n = json_object_get(o, "num_speculative_tokens");
    json_t *v;
    bool is_ngram = method && strcmp(method, "ngram") == 0;
    if (json_object_get(o, "method") && !is_ngram &&
        (!method || strcmp(method, "draft_model") != 0))
        return err_set(err, E_UNSUPPORTED,
                       "runtime flag '%s': 'method' can be \"ngram\", which guesses from the text, "
                       "or \"draft_model\"",
                       row->long_name);
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        if (strcmp(key, "method") != 0 && v != model && v != n)
            return err_set(err, E_UNSUPPORTED, "runtime flag '%s': '%.64s' cannot be set here",
                           row->long_name, key);
    }
    if ((model &&
         !is_model_name((struct str){json_string_value(model), json_string_length(model)})) ||
        (n && !json_is_integer(n)) || is_ngram == (model != NULL))
        return err_set(err, E_INVALID,
                       "runtime flag '%s' needs a 'model' by its name, unless 'method' is "
                       "\"ngram\", and 'num_speculative_tokens' as a whole number",
                       row->long_name);
    int rc = 0;
    if (model)
        rc = put_setting(row, "speculative-draft-model", json_copy((json_t *)(uintptr_t)model),
                         settings, err);
    return rc == 0 && n ? put_setting(row, "speculative-num-tokens",
                                      json_copy((json_t *)(uintptr_t)n), settings, err)
                        : rc;
}

static int set_spec(const struct row *row, struct str text, json_t *settings, struct err *err)
{
    json_t *o = NULL;
    struct err why = ERR_INIT;
    int rc = json_parse(text, &o, &why);
    if (rc < 0 || !json_is_object(o))
        rc = err_set(err, E_INVALID, "runtime flag '%s' needs a JSON object%s%.200s",
                     row->long_name, rc < 0 ? ": " : "", rc < 0 ? why.msg : "");
    else
        rc = put_spec(row, o, settings, err);
    json_decref(o);
    return rc;
}

static int set_value(const struct row *row, struct str value, json_t *settings, struct err *err)
{
    char text[65], *end = NULL;
    snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(value.len, (size_t)64), value.p);
    json_t *v = NULL;
    double d = strtod(text, &end);
    bool is_number = *end == '\0' && isfinite(d);
    switch (row->kind) {
    case KIND_INT:
        if (!is_number || d != floor(d) || fabs(d) > 9007199254740992.0)
            return err_set(err, E_INVALID, "runtime flag '%s' needs a whole number, not '%s'",
                           row->long_name, text);
        v = json_integer((json_int_t)d);
        break;
    case KIND_NUM:
        if (!is_number)
            return err_set(err, E_INVALID, "runtime flag '%s' needs a number, not '%s'",
                           row->long_name, text);
        v = json_real(d);
        break;
    case KIND_SPEC: return set_spec(row, value, settings, err);
    case KIND_ON:
    case KIND_OFF: v = json_boolean(row->kind == KIND_ON); break;
    case KIND_MODEL:
    case KIND_WORD: v = json_stringn(value.p, value.len); break;
    case KIND_ONLY:
        if (strcmp(text, row->setting) != 0)
            return err_set(err, E_UNSUPPORTED, "runtime flag '%s' cannot be '%s': %s",
                           row->long_name, text, row->why);
        return 0;
    case KIND_PLAIN: return 0;
    }
    return put_setting(row, row->setting, v, settings, err);
}

static bool has_value(const struct row *row)
{
    return row->kind != KIND_ON && row->kind != KIND_OFF && row->kind != KIND_PLAIN;
}

static bool is_fit(const struct row *row, struct str value)
{
    switch (row->kind) {
    case KIND_SPEC:
        return value.len > 0 && value.len <= LIMIT_PATH_BYTES; /* its parts are judged */
    case KIND_MODEL: return is_model_name(value);
    default: return is_harmless(value);
    }
}

static struct str item_at(const json_t *flags, size_t i)
{
    const json_t *v = json_array_get(flags, i);
    return (struct str){json_string_value(v), json_string_length(v)};
}

/* What ends a flag's name where its value is in the same item: "--flag=VALUE", or "--flag VALUE" as
 * people write the items of Compose's runtime_flags.  NULL: nothing does. */
static const char *name_end(struct str item)
{
    for (size_t i = 0; i < item.len; i++) {
        if (item.p[i] == '=' || item.p[i] == ' ')
            return item.p + i;
    }
    return NULL;
}

/* The flag at *i, and its value, which may be the next item; *i is moved behind them. */
static int read_flag(const json_t *flags, size_t *i, json_t *settings, struct err *err)
{
    struct str item = item_at(flags, *i), value = {NULL, 0};
    char shown[65];
    const char *end = name_end(item);
    struct str name = {item.p, end ? (size_t)(end - item.p) : item.len};
    snprintf(shown, sizeof(shown), "%.*s", (int)MIN_OF(item.len, (size_t)64), item.p ? item.p : "");
    if (!item.p)
        return err_set(err, E_INVALID, "runtime flag %zu is %s, and must be a string", *i,
                       json_kind(json_array_get(flags, *i)));
    const struct row *row = row_find(name);
    if (!row)
        return err_set(err, E_UNSUPPORTED,
                       "runtime flag '%s' is not one of those that can be set here", shown);
    ++*i;
    if (end)
        value = (struct str){end + 1, (size_t)(item.p + item.len - end - 1)};
    else if (has_value(row) && *i < json_array_size(flags))
        value = item_at(flags, (*i)++);
    if (!has_value(row) && end)
        return err_set(err, E_INVALID, "runtime flag '%s' has no value", row->long_name);
    if (has_value(row) && !is_fit(row, value))
        return err_set(err, E_INVALID, "runtime flag '%s' needs %s after it: no path, no space%s",
                       row->long_name,
                       row->kind == KIND_MODEL ? "a model's name" : "a number or a plain word",
                       row->kind == KIND_SPEC ? "" : ", no quote");
    return set_value(row, value, settings, err);
}

int flags_read(const json_t *flags, json_t *settings, struct err *err)
{
    if (json_array_size(flags) > LIMIT_RUNTIME_FLAGS)
        return err_set(err, E_INVALID, "there are %zu runtime flags, more than %u",
                       json_array_size(flags), LIMIT_RUNTIME_FLAGS);
    for (size_t i = 0; i < json_array_size(flags);) {
        int rc = read_flag(flags, &i, settings, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int flags_split(struct str text, json_t **ret, struct err *err)
{
    json_t *list = json_array();
    struct buf word;
    char quote = 0;
    bool in_word = false;
    buf_init(&word, LIMIT_PATH_BYTES);
    for (size_t i = 0; i <= text.len; i++) {
        char c = i < text.len ? text.p[i] : ' ';
        if (quote && c == quote && i < text.len) {
            quote = 0;
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            in_word = true;
        } else if (!quote && (c == ' ' || c == '\t' || c == '\n')) {
            if (in_word)
                json_array_append_new(list, json_stringn(buf_str(&word), word.len));
            in_word = false;
            buf_clear(&word);
        } else {
            buf_append_char(&word, c);
            in_word = true;
        }
    }
    int rc = word.failed ? err_set(err, E_INVALID, "raw-runtime-flags: a word is too long")
             : quote     ? err_set(err, E_INVALID, "raw-runtime-flags: a quote is not closed")
                         : 0;
    buf_release(&word);
    if (rc < 0)
        json_decref(list);
    else
        *ret = list;
    return rc;
}
