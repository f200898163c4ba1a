/* SPDX-License-Identifier: Apache-2.0 */
/* Implements settings.h: one table of fields behind reading, writing and comparing. */
#include "daemon/runner/settings.h"

#include <stddef.h>
#include <string.h>

#include "daemon/runner/models.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/codec/json.h"
#include "lib/sys/config.h"

enum field_kind {
    FIELD_TEXT,
    FIELD_MODEL,
    FIELD_U32,
    FIELD_U64,
    FIELD_SIZE,
    FIELD_TYPE,
    FIELD_TIME,
    FIELD_BOOL,   /* false: absent */
    FIELD_SWITCH, /* true, false or absent */
    FIELD_FLOAT
};

enum { RELOADS = 1, SHAPES = 2, NOT_ZERO = 4 };

struct field {
    const char *key;
    enum field_kind kind;
    unsigned flags; /* RELOADS: a change takes a new worker; SHAPES: answers depend on it */
    size_t at, has; /* offsets of the value and of its has_ */
    double min, max;
};

#define AT(name) offsetof(struct model_settings, name), offsetof(struct model_settings, has_##name)

static const struct field fields[] = {
    {"chat-template", FIELD_TEXT, RELOADS | SHAPES, offsetof(struct model_settings, chat_template),
     0, 0, 0},
    {"context-size", FIELD_U32, RELOADS | SHAPES, AT(context_size), 2, LIMIT_MODEL_CONTEXT},
    {"max-num-seqs", FIELD_U32, RELOADS, AT(max_num_seqs), 1, 4096},
    {"max-num-batched-tokens", FIELD_U32, RELOADS, AT(max_num_batched_tokens), 1, 65536},
    {"kv-cache-type", FIELD_TYPE, RELOADS | SHAPES, AT(kv_cache_type), 0, 0},
    {"kv-cache-memory", FIELD_SIZE, RELOADS, AT(kv_cache_memory), 1, (double)(1ull << 46)},
    {"threads", FIELD_U32, RELOADS, AT(threads), 1, 1024},
    {"speculative-num-tokens", FIELD_U32, RELOADS, AT(speculative_num_tokens), 0, 16},
    {"speculative-min-acceptance-rate", FIELD_FLOAT, RELOADS, AT(speculative_min_acceptance_rate),
     0, 1},
    {"speculative-draft-model", FIELD_MODEL, RELOADS,
     offsetof(struct model_settings, speculative_draft_model), 0, 0, 0},
    {"no-prepare", FIELD_SWITCH, RELOADS, AT(no_prepare), 0, 0},
    {"keep-alive", FIELD_TIME, 0, offsetof(struct model_settings, keep_alive_s),
     offsetof(struct model_settings, has_keep_alive), 0, 31536000},
    {"pinned", FIELD_BOOL, 0, offsetof(struct model_settings, pinned), 0, 0, 0},
    {"temperature", FIELD_FLOAT, SHAPES, AT(temperature), 0, 100},
    {"top-p", FIELD_FLOAT, SHAPES | NOT_ZERO, AT(top_p), 0, 1},
    {"min-p", FIELD_FLOAT, SHAPES, AT(min_p), 0, 1},
    {"top-k", FIELD_U32, SHAPES, AT(top_k), 0, INT32_MAX},
    {"repetition-penalty", FIELD_FLOAT, SHAPES | NOT_ZERO, AT(repetition_penalty), 0, 100},
    {"presence-penalty", FIELD_FLOAT, SHAPES, AT(presence_penalty), -2, 2},
    {"frequency-penalty", FIELD_FLOAT, SHAPES, AT(frequency_penalty), -2, 2},
    {"max-tokens", FIELD_U32, SHAPES, AT(max_tokens), 1, INT32_MAX},
    {"seed", FIELD_U64, SHAPES, AT(seed), 0, (double)INT64_MAX},
};

static const char *const kv_types[] = {"f32", "f16", "bf16",
                                       "q8_0"}; /* in the order of the option's choices */

static bool *has_of(const struct model_settings *s, const struct field *f)
{
    return (bool *)(uintptr_t)((const char *)s + f->has);
}

static void *value_of(const struct model_settings *s, const struct field *f)
{
    return (void *)(uintptr_t)((const char *)s + f->at);
}

static bool is_given(const struct model_settings *s, const struct field *f)
{
    if (f->kind == FIELD_TEXT)
        return s->chat_template;
    if (f->kind == FIELD_MODEL)
        return s->speculative_draft_model;
    return f->kind == FIELD_BOOL ? s->pinned : *has_of(s, f);
}

void model_settings_init(struct model_settings *s)
{
    *s = (struct model_settings){0};
}

void model_settings_release(struct model_settings *s)
{
    mem_free(s->chat_template);
    mem_free(s->speculative_draft_model);
    model_settings_init(s);
}

int model_settings_copy(struct model_settings *ret, const struct model_settings *s, struct err *err)
{
    char *text = NULL;
    if (s->chat_template) {
        text = mem_try_alloc(s->chat_template_len + 1, 1, err);
        if (!text)
            return -err->code;
        memcpy(text, s->chat_template, s->chat_template_len);
    }
    const char *draft = s->speculative_draft_model;
    *ret = *s;
    ret->chat_template = text;
    ret->speculative_draft_model = draft ? mem_dup(draft, strlen(draft)) : NULL;
    return 0;
}

/* --- from JSON
 * ------------------------------------------------------------------------------------------------
 */

static int apply_text(struct model_settings *s, const struct field *f, const json_t *v,
                      struct err *err)
{
    if (!json_is_string(v))
        return err_set(err, E_INVALID, "'%s' must be a string, not %s", f->key, json_kind(v));
    size_t len = json_string_length(v);
    if (len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_INVALID, "'%s' has %zu bytes, more than %u", f->key, len,
                       LIMIT_TEMPLATE_BYTES);
    char *text = len ? mem_try_alloc(len + 1, 1, err) : NULL; /* empty: the model's own */
    if (len && !text)
        return -err->code;
    if (len)
        memcpy(text, json_string_value(v), len);
    mem_free(s->chat_template);
    s->chat_template = text;
    s->chat_template_len = len;
    return 0;
}

/* Empty: none. */
static int apply_model(struct model_settings *s, const struct field *f, const json_t *v,
                       struct err *err)
{
    const size_t len = json_string_length(v);
    if (!json_is_string(v))
        return err_set(err, E_INVALID, "'%s' must be a model's name, not %s", f->key, json_kind(v));
    const char *name = json_string_value(v);
    if (len >= LIMIT_PATH_BYTES || memchr(name, '\0', len))
        return err_set(err, E_INVALID,
                       "'%s' must be a model's name or the absolute path of a GGUF file, of less "
                       "than %u bytes",
                       f->key, LIMIT_PATH_BYTES);
    mem_free(s->speculative_draft_model);
    s->speculative_draft_model = len ? mem_dup(name, len) : NULL;
    return 0;
}

static int apply_int(struct model_settings *s, const struct field *f, const json_t *v,
                     struct err *err)
{
    if (!json_is_integer(v))
        return err_set(err, E_INVALID, "'%s' must be a whole number, not %s", f->key, json_kind(v));
    json_int_t n = json_integer_value(v);
    if (f->kind == FIELD_U64 && n < 0)
        return err_set(err, E_INVALID, "'%s' is %lld, and must not be negative", f->key,
                       (long long)n);
    if (f->kind == FIELD_U32 && ((double)n < f->min || (double)n > f->max))
        return err_set(err, E_INVALID, "'%s' is %lld, and must be from %.0f to %.0f", f->key,
                       (long long)n, f->min, f->max);
    if (f->kind == FIELD_U64)
        *(uint64_t *)value_of(s, f) = (uint64_t)n;
    else
        *(uint32_t *)value_of(s, f) = (uint32_t)n;
    return 0;
}

static int apply_float(struct model_settings *s, const struct field *f, const json_t *v,
                       struct err *err)
{
    if (!json_is_number(v))
        return err_set(err, E_INVALID, "'%s' must be a number, not %s", f->key, json_kind(v));
    double n = json_number_value(v);
    float kept =
        (float)n; /* above 0 as a double may be 0 here, and no file may say what we refuse */
    bool is_low = f->flags & NOT_ZERO ? !((double)kept > f->min) : !(n >= f->min);
    if (is_low || n > f->max)
        return err_set(err, E_INVALID, "'%s' is %g, and must be %s %g and at most %g", f->key, n,
                       f->flags & NOT_ZERO ? "above" : "at least", f->min, f->max);
    *(float *)value_of(s, f) = kept;
    return 0;
}

/* Bytes or seconds: a number, or text with units. */
static int apply_amount(struct model_settings *s, const struct field *f, const json_t *v,
                        struct err *err)
{
    uint64_t n = 0, min = (uint64_t)f->min, max = (uint64_t)f->max;
    int rc = 0;
    if (json_is_integer(v)) {
        json_int_t i = json_integer_value(v);
        bool is_forever = f->kind == FIELD_TIME && i == -1;
        n = is_forever ? CONFIG_FOREVER : (uint64_t)i;
        if (!is_forever && (i < (json_int_t)min || i > (json_int_t)max))
            return err_set(err, E_INVALID, "'%s' is %lld, and must be from %llu to %llu%s", f->key,
                           (long long)i, (unsigned long long)min, (unsigned long long)max,
                           f->kind == FIELD_TIME ? " seconds, or -1 for ever" : " bytes");
    } else if (!json_is_string(v)) {
        return err_set(err, E_INVALID, "'%s' must be a number or a string such as \"%s\", not %s",
                       f->key, f->kind == FIELD_TIME ? "5m" : "2G", json_kind(v));
    } else if (f->kind == FIELD_TIME) {
        rc = config_parse_duration(json_string_value(v), min, max, &n, err);
    } else {
        rc = config_parse_size(json_string_value(v), min, max, &n, err);
    }
    if (rc < 0)
        return err_wrap(err, "'%s'", f->key);
    *(uint64_t *)value_of(s, f) = n;
    return 0;
}

static int apply_type(struct model_settings *s, const struct field *f, const json_t *v,
                      struct err *err)
{
    for (uint32_t i = 0; i < ARRAY_LEN(kv_types); i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), kv_types[i]) == 0) {
            *(uint32_t *)value_of(s, f) = i;
            return 0;
        }
    }
    return err_set(err, E_INVALID, "'%s' must be \"f32\", \"f16\", \"bf16\" or \"q8_0\"", f->key);
}

static int apply_bool(struct model_settings *s, const struct field *f, const json_t *v,
                      struct err *err)
{
    if (!json_is_boolean(v))
        return err_set(err, E_INVALID, "'%s' must be true or false, not %s", f->key, json_kind(v));
    *(bool *)value_of(s, f) = json_is_true(v);
    return 0;
}

static int apply_field(struct model_settings *s, const struct field *f, const json_t *v,
                       struct err *err)
{
    int rc = 0;
    switch (f->kind) {
    case FIELD_TEXT: return apply_text(s, f, v, err);
    case FIELD_MODEL: return apply_model(s, f, v, err);
    case FIELD_BOOL: return apply_bool(s, f, v, err);
    case FIELD_SWITCH: rc = apply_bool(s, f, v, err); break;
    case FIELD_U32:
    case FIELD_U64: rc = apply_int(s, f, v, err); break;
    case FIELD_SIZE:
    case FIELD_TIME: rc = apply_amount(s, f, v, err); break;
    case FIELD_TYPE: rc = apply_type(s, f, v, err); break;
    case FIELD_FLOAT: rc = apply_float(s, f, v, err); break;
    }
    if (rc == 0)
        *has_of(s, f) = true;
    return rc;
}

/* Absent, with the value of a fresh one, so that equal settings have equal fields. */
static void clear_field(struct model_settings *s, const struct field *f)
{
    switch (f->kind) {
    case FIELD_TEXT:
        mem_free(s->chat_template);
        s->chat_template = NULL;
        s->chat_template_len = 0;
        return;
    case FIELD_MODEL:
        mem_free(s->speculative_draft_model);
        s->speculative_draft_model = NULL;
        return;
    case FIELD_BOOL: s->pinned = false; return;
    case FIELD_SWITCH: *(bool *)value_of(s, f) = false; break;
    case FIELD_U32:
    case FIELD_TYPE: *(uint32_t *)value_of(s, f) = 0; break;
    case FIELD_FLOAT: *(float *)value_of(s, f) = 0; break;
    case FIELD_U64:
    case FIELD_SIZE:
    case FIELD_TIME: *(uint64_t *)value_of(s, f) = 0; break;
    }
    *has_of(s, f) = false;
}

static int unknown_key(const char *key, struct err *err)
{
    const struct field *best = &fields[0];
    unsigned least = UINT32_MAX;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        unsigned d = name_distance(str_from(key), str_from(fields[i].key));
        if (d < least) {
            least = d;
            best = &fields[i];
        }
    }
    if (least == UINT32_MAX)
        return err_set(err, E_INVALID, "'%s' is not a setting of a model", key);
    return err_set(err, E_INVALID, "'%s' is not a setting of a model; did you mean '%s'?", key,
                   best->key);
}

static int apply_key(struct model_settings *s, const char *key, const json_t *v, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (strcmp(fields[i].key, key) != 0)
            continue;
        if (!json_is_null(v))
            return apply_field(s, &fields[i], v, err);
        clear_field(s, &fields[i]);
        return 0;
    }
    return unknown_key(key, err);
}

int model_settings_apply(struct model_settings *s, const json_t *obj, struct err *err)
{
    struct model_settings new;
    const char *key;
    json_t *v;
    if (!json_is_object(obj))
        return err_set(err, E_INVALID, "settings must be an object, not %s", json_kind(obj));
    int rc = model_settings_copy(&new, s, err);
    if (rc < 0)
        return rc;
    json_object_foreach((json_t *)(uintptr_t)obj, key, v)
    {
        rc = apply_key(&new, key, v, err);
        if (rc < 0)
            break;
    }
    if (rc == 0 &&
        new.has_max_num_seqs &&new.has_max_num_batched_tokens &&new.max_num_batched_tokens <
            new.max_num_seqs)
        rc = err_set(err, E_INVALID,
                     "'max-num-batched-tokens' is %u, less than 'max-num-seqs', %u: every sequence "
                     "needs one token a step",
                     new.max_num_batched_tokens, new.max_num_seqs);
    if (rc < 0) {
        model_settings_release(&new);
        return rc;
    }
    model_settings_release(s);
    *s = new;
    return 0;
}

/* --- to JSON, and comparing
 * -----------------------------------------------------------------------------------------------
 */

/* The shortest decimal of a float is what was given: 0.7, not 0.699999988. */
static json_t *float_json(float v)
{
    struct buf b;
    buf_init(&b, 64);
    json_put_float(&b, v);
    json_t *j = json_loads(buf_str(&b), JSON_DECODE_ANY, NULL);
    buf_release(&b);
    return j;
}

static json_t *field_json(const struct model_settings *s, const struct field *f)
{
    const void *v = value_of(s, f);
    switch (f->kind) {
    case FIELD_TEXT: return json_stringn(s->chat_template, s->chat_template_len);
    case FIELD_MODEL: return json_string(s->speculative_draft_model);
    case FIELD_BOOL:
    case FIELD_SWITCH: return json_boolean(*(const bool *)v);
    case FIELD_U32: return json_integer(*(const uint32_t *)v);
    case FIELD_TYPE:
        return json_string(
            kv_types[*(const uint32_t *)v < ARRAY_LEN(kv_types) ? *(const uint32_t *)v : 0]);
    case FIELD_FLOAT: return float_json(*(const float *)v);
    case FIELD_U64:
    case FIELD_SIZE: return json_integer((json_int_t) * (const uint64_t *)v);
    case FIELD_TIME:
        return json_integer(
            *(const uint64_t *)v == CONFIG_FOREVER ? -1 : (json_int_t) * (const uint64_t *)v);
    }
    return NULL;
}

json_t *model_settings_json(const struct model_settings *s)
{
    json_t *obj = json_object();
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (is_given(s, &fields[i]))
            json_object_set_new(obj, fields[i].key, field_json(s, &fields[i]));
    }
    return obj;
}

static bool field_equals(const struct model_settings *a, const struct model_settings *b,
                         const struct field *f)
{
    if (is_given(a, f) != is_given(b, f))
        return false;
    if (!is_given(a, f))
        return true;
    json_t *ja = field_json(a, f), *jb = field_json(b, f);
    bool same = json_equal(ja, jb);
    json_decref(ja);
    json_decref(jb);
    return same;
}

bool model_settings_reload(const struct model_settings *a, const struct model_settings *b)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if ((fields[i].flags & RELOADS) && !field_equals(a, b, &fields[i]))
            return true;
    }
    return false;
}

uint64_t model_settings_hash(const struct model_settings *s)
{
    uint64_t h = 14695981039346656037ull;
    json_t *obj = json_object();
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if ((fields[i].flags & SHAPES) && is_given(s, &fields[i]))
            json_object_set_new(obj, fields[i].key, field_json(s, &fields[i]));
    }
    struct buf text;
    buf_init(&text, 8u * LIMIT_TEMPLATE_BYTES);
    json_put_value(&text, obj); /* in the table's order */
    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.data[i]) * 1099511628211ull;
    buf_release(&text);
    json_decref(obj);
    return h;
}
