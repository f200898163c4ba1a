/* SPDX-License-Identifier: Apache-2.0 */
/* Implements json.h's writing half, onto a buf.  Any thread. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/limits.h"
#include "lib/codec/json.h"

/* Length of the valid UTF-8 sequence at p (Unicode 15, table 3-7: no overlong forms, no
 * surrogates), or 0. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    unsigned char lo = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char hi = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return n;
}

static void put_escape(struct buf *b, unsigned char c)
{
    static const char names[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    for (size_t i = 0; i + 1 < sizeof(names); i += 2) {
        if ((unsigned char)names[i] == c) {
            char two[2] = {'\\', names[i + 1]};
            buf_append(b, two, 2);
            return;
        }
    }
    buf_printf(b, "\\u%04x", c);
}

void json_put_chars(struct buf *b, struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t from = 0, i = 0; /* [from, i) is plain and not yet written */
    while (i < s.len) {
        bool plain = p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7F;
        size_t n = plain ? utf8_len(p + i, s.len - i) : 0;
        if (n) {
            i += n;
            continue;
        }
        buf_append(b, p + from, i - from);
        if (p[i] < 0x80)
            put_escape(b, p[i]);
        else
            buf_append(b, "\xEF\xBF\xBD", 3);
        from = ++i;
    }
    if (i > from)
        buf_append(b, p + from, i - from);
}

void json_put_str(struct buf *b, struct str s)
{
    buf_append_char(b, '"');
    json_put_chars(b, s);
    buf_append_char(b, '"');
}

/* %.{digits}g made a JSON real: inf and nan never come here. */
static void put_real_text(struct buf *b, const char *text)
{
    buf_append_str(b, text);
    if (!strpbrk(text, ".e"))
        buf_append_str(b, ".0");
}

void json_put_num(struct buf *b, double v)
{
    if (!isfinite(v)) {
        buf_append_str(b, "null");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    put_real_text(b, text);
}

void json_put_float(struct buf *b, float v)
{
    if (!isfinite(v)) {
        buf_append_str(b, "null");
        return;
    }
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    put_real_text(b, text);
}

static void put_value(struct buf *b, const json_t *v, unsigned depth)
{
    /* Values come from json_parse, which bounds depth, at most one parsed text put into another. */
    BUG_ON(depth > 2 * LIMIT_JSON_DEPTH + 16);
    const char *sep = "";
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        const char *key;
        const json_t *item;
        size_t key_len;
        buf_append_char(b, '{');
        json_object_keylen_foreach((json_t *)v, key, key_len, item)
        {
            buf_append_str(b, sep);
            json_put_str(b, (struct str){key, key_len});
            buf_append_char(b, ':');
            put_value(b, item, depth + 1);
            sep = ",";
        }
        buf_append_char(b, '}');
        break;
    }
    case JSON_ARRAY:
        buf_append_char(b, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            buf_append_str(b, sep);
            put_value(b, json_array_get(v, i), depth + 1);
            sep = ",";
        }
        buf_append_char(b, ']');
        break;
    case JSON_STRING:
        json_put_str(b, (struct str){json_string_value(v), json_string_length(v)});
        break;
    case JSON_INTEGER: buf_printf(b, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: json_put_num(b, json_real_value(v)); break;
    case JSON_TRUE: buf_append_str(b, "true"); break;
    case JSON_FALSE: buf_append_str(b, "false"); break;
    case JSON_NULL:
    default: buf_append_str(b, "null"); break;
    }
}

void json_put_value(struct buf *b, const json_t *v)
{
    put_value(b, v, 0);
}
