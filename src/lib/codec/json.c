/* SPDX-License-Identifier: Apache-2.0 */
/* Implements json.h's reading half.  A scan before jansson bounds depth and the number of values,
 * because jansson's own depth limit is fixed at build time and a value costs some sixty bytes of
 * memory for one byte of text. */
#include "lib/codec/json.h"

#include <math.h>
#include <string.h>

#include "lib/base/limits.h"

/* Counts levels and values outside strings; jansson judges everything else. */
static int scan(struct str text, struct err *err)
{
    size_t depth = 0, n_values = 1;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '\0') { /* jansson takes one at the end for the end */
            return err_set(err, E_FORMAT, "JSON at byte %zu has a NUL", i);
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            n_values++;
            if (++depth > LIMIT_JSON_DEPTH)
                return err_set(err, E_LIMIT, "JSON at byte %zu is nested deeper than %u levels", i,
                               LIMIT_JSON_DEPTH);
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',') {
            n_values++;
        }
        if (n_values > LIMIT_JSON_VALUES)
            return err_set(err, E_LIMIT, "JSON at byte %zu has more than %u values", i,
                           LIMIT_JSON_VALUES);
    }
    return 0;
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The name of the member whose number ends before byte `end`; empty when it is an array's item, or
 * no plain name. */
static struct str member_of_number(struct str text, size_t end)
{
    size_t i = MIN_OF(end, text.len);
    while (i > 0 && strchr("+-.0123456789eE", text.p[i - 1]))
        i--;
    while (i > 0 && strchr(" \t\r\n:", text.p[i - 1]))
        i--;
    size_t last = i;
    if (i < 2 || text.p[i - 1] != '"')
        return STR_LIT("");
    for (i--; i > 0 && is_plain(text.p[i - 1]); i--)
        ;
    bool is_whole = i > 0 && text.p[i - 1] == '"' && (i < 2 || text.p[i - 2] != '\\');
    return is_whole ? (struct str){text.p + i, last - 1 - i} : STR_LIT("");
}

/* jansson names the digits alone; the parameter and what it may be say more. */
static int too_large(struct str text, const json_error_t *e, struct err *err)
{
    struct str name = member_of_number(text, e->position < 0 ? 0 : (size_t)e->position);
    const char *what = strncmp(e->text, "real", 4) == 0
                           ? "a number beyond 1.8e308"
                           : "an integer beyond -9223372036854775808 to 9223372036854775807";
    return err_set(err, E_FORMAT, "JSON at byte %d (line %d, column %d): %s%.*s%s %s", e->position,
                   e->line, e->column, name.len ? "'" : "", (int)MIN_OF(name.len, 64u), name.p,
                   name.len ? "' is" : "there is", what);
}

int json_parse(struct str text, json_t **ret, struct err *err)
{
    if (text.len >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0)
        return err_set(err, E_FORMAT,
                       "JSON at byte 0 starts with a byte order mark, which JSON does not allow");
    if (text.len >= 2 && (memcmp(text.p, "\xFE\xFF", 2) == 0 || memcmp(text.p, "\xFF\xFE", 2) == 0))
        return err_set(err, E_FORMAT, "JSON at byte 0 is in UTF-16; it must be in UTF-8");
    int rc = scan(text, err);
    if (rc < 0)
        return rc;
    json_error_t e;
    json_t *v = json_loadb(text.len ? text.p : "", text.len,
                           JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    if (!v) {
        if (json_error_code(&e) == json_error_out_of_memory)
            return err_set(err, E_NOMEM, "JSON of %zu bytes: no memory to read it", text.len);
        if (json_error_code(&e) == json_error_numeric_overflow)
            return too_large(text, &e, err);
        return err_set(err, E_FORMAT, "JSON at byte %d (line %d, column %d): %s", e.position,
                       e.line, e.column, e.text);
    }
    *ret = v;
    return 0;
}

const char *json_kind(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL:
    default: return "null";
    }
}

static const json_t *field(const json_t *obj, const char *name)
{
    const json_t *v = json_object_get(obj, name);
    return json_is_null(v) ? NULL : v;
}

static int wrong_type(const char *name, const char *wanted, const json_t *v, struct err *err)
{
    return err_set(err, E_INVALID, "'%s' must be %s, not %s", name, wanted, json_kind(v));
}

int json_field_str(const json_t *obj, const char *name, struct str *ret, struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return wrong_type(name, "a string", v, err);
    *ret = (struct str){json_string_value(v), json_string_length(v)};
    return 1;
}

int json_field_bool(const json_t *obj, const char *name, bool *ret, struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong_type(name, "true or false", v, err);
    *ret = json_is_true(v);
    return 1;
}

int json_field_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret,
                   struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    double real = json_real_value(v);
    /* 1.0 is an integer to clients that know only doubles; 2^53 is the last they can count to. */
    bool whole = json_is_real(v) && real == floor(real) && fabs(real) <= 9007199254740992.0;
    if (!json_is_integer(v) && !whole)
        return wrong_type(name, "an integer", v, err);
    int64_t i = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)real;
    if (i < min || i > max)
        return err_set(err, E_INVALID, "'%s' must be between %lld and %lld, not %lld", name,
                       (long long)min, (long long)max, (long long)i);
    *ret = i;
    return 1;
}

int json_field_num(const json_t *obj, const char *name, double min, double max, double *ret,
                   struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return wrong_type(name, "a number", v, err);
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return err_set(err, E_INVALID, "'%s' must be between %g and %g, not %g", name, min, max, d);
    *ret = d;
    return 1;
}

int json_field_obj(const json_t *obj, const char *name, const json_t **ret, struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    if (!json_is_object(v))
        return wrong_type(name, "an object", v, err);
    *ret = v;
    return 1;
}

int json_field_arr(const json_t *obj, const char *name, const json_t **ret, struct err *err)
{
    const json_t *v = field(obj, name);
    if (!v)
        return 0;
    if (!json_is_array(v))
        return wrong_type(name, "an array", v, err);
    *ret = v;
    return 1;
}
