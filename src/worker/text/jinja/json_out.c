/* SPDX-License-Identifier: Apache-2.0 */
/* The tojson filter, as transformers sets it up: Python's json.dumps(x, ensure_ascii, indent,
 * separators, sort_keys). */
#include <math.h>
#include <stdio.h>

#include "worker/text/jinja/runtime.h"

struct dump {
    struct rt *rt;
    struct sb *b;
    bool ascii, sort_keys, has_indent;
    struct jstr *indent;
    struct jstr *item_sep, *key_sep; /* NULL: the default ones */
};

static void put_escape(struct sb *b, uint32_t c, bool in)
{
    char tmp[16];
    if (c >= 0x10000) {
        c -= 0x10000;
        snprintf(tmp, sizeof(tmp), "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
    } else {
        snprintf(tmp, sizeof(tmp), "\\u%04x", c);
    }
    sb_put(b, tmp, strlen(tmp), in);
}

static int dump_str(struct dump *d, const struct jstr *s)
{
    static const char FROM[] = "\"\\\n\r\t\f\b", TO[] = "\"\\nrtfb";
    struct sb *b = d->b;
    TRY(rt_charge(d->rt, s->len));
    sb_lit(b, "\"");
    for (size_t i = 0; i < s->len && !b->failed;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        bool in = jstr_input_at(s, at);
        const char *f = c && c < 0x80 ? strchr(FROM, (int)c) : NULL;
        if (f) {
            char esc[2] = {'\\', TO[f - FROM]};
            sb_put(b, esc, 2, in);
        } else if (c < 0x20 || (d->ascii && c > 0x7e)) {
            put_escape(b, c, in);
        } else {
            sb_sub(b, s, at, i);
        }
    }
    sb_lit(b, "\"");
    return b->failed;
}

static int dump_any(struct dump *d, struct value v, int level);

static void newline(struct dump *d, int level)
{
    if (!d->has_indent)
        return;
    sb_lit(d->b, "\n");
    for (int i = 0; i < level; i++)
        sb_str(d->b, d->indent);
}

static void item_sep(struct dump *d, int level)
{
    if (d->item_sep)
        sb_str(d->b, d->item_sep);
    else
        sb_lit(d->b, d->has_indent ? "," : ", ");
    newline(d, level);
}

static int dump_list(struct dump *d, const struct jlist *l, int level)
{
    if (!l->n) {
        sb_lit(d->b, "[]");
        return d->b->failed;
    }
    sb_lit(d->b, "[");
    newline(d, level + 1);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            item_sep(d, level + 1);
        TRY(dump_any(d, l->v[i], level + 1));
    }
    newline(d, level);
    sb_lit(d->b, "]");
    return d->b->failed;
}

static int dump_float(struct dump *d, double f)
{
    if (isnan(f) || isinf(f))
        sb_lit(d->b, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    else
        sb_float(d->b, f);
    return d->b->failed;
}

static int dump_key(struct dump *d, struct value k)
{
    if (k.type == V_STR)
        return dump_str(d, k.s);
    if (!is_num(k) && k.type != V_NONE)
        return rt_fail(d->rt, E_FORMAT, "keys must be str, int, float, bool or None, not %s",
                       type_name(k));
    sb_lit(d->b, "\"");
    TRY(dump_any(d, k, 0));
    sb_lit(d->b, "\"");
    return d->b->failed;
}

/* The items in the order they are written. */
static int ordered(struct dump *d, const struct jdict *v, const struct dict_item **ret)
{
    *ret = v->items;
    if (!d->sort_keys || v->n < 2)
        return 0;
    struct jlist *keys = list_new(d->rt, v->n);
    struct dict_item *items = rt_alloc(d->rt, v->n, sizeof(*items));
    uint32_t *pos = NULL;
    if (!keys || !items)
        return -d->rt->err->code;
    for (; keys->n < v->n; keys->n++)
        keys->v[keys->n] = v->items[keys->n].key;
    TRY(sort_values(d->rt, keys, false, &pos));
    for (uint32_t i = 0; i < v->n; i++)
        items[i] = v->items[pos[i]];
    *ret = items;
    return 0;
}

static int dump_dict(struct dump *d, const struct jdict *v, int level)
{
    const struct dict_item *items;
    if (!v->n) {
        sb_lit(d->b, "{}");
        return d->b->failed;
    }
    TRY(ordered(d, v, &items));
    sb_lit(d->b, "{");
    newline(d, level + 1);
    for (uint32_t i = 0; i < v->n; i++) {
        if (i)
            item_sep(d, level + 1);
        TRY(dump_key(d, items[i].key));
        if (d->key_sep)
            sb_str(d->b, d->key_sep);
        else
            sb_lit(d->b, ": ");
        TRY(dump_any(d, items[i].val, level + 1));
    }
    newline(d, level);
    sb_lit(d->b, "}");
    return d->b->failed;
}

static int dump_any(struct dump *d, struct value v, int level)
{
    int rc;
    TRY(rt_enter(d->rt));
    switch (v.type) {
    case V_NONE:
        sb_lit(d->b, "null");
        rc = d->b->failed;
        break;
    case V_BOOL:
        sb_lit(d->b, v.b ? "true" : "false");
        rc = d->b->failed;
        break;
    case V_INT:
        sb_int(d->b, v.i);
        rc = d->b->failed;
        break;
    case V_FLOAT: rc = dump_float(d, v.f); break;
    case V_STR: rc = dump_str(d, v.s); break;
    case V_LIST:
    case V_TUPLE: rc = dump_list(d, v.l, level); break;
    case V_DICT: rc = dump_dict(d, v.d, level); break;
    default:
        rc = rt_fail(d->rt, E_FORMAT, "Object of type %s is not JSON serializable", type_name(v));
    }
    d->rt->depth--;
    return rc;
}

static int read_indent(struct dump *d, struct value v)
{
    struct value s;
    struct sb b;
    if (v.type == V_MISSING || v.type == V_NONE)
        return 0;
    d->has_indent = true;
    if (v.type == V_STR) {
        d->indent = v.s;
        return 0;
    }
    int64_t n;
    TRY(arg_int(d->rt, "tojson", v, 0, &n));
    sb_init(&b, d->rt);
    sb_fill(&b, " ", 1, (size_t)MAX_OF(n, 0), false);
    TRY(sb_finish(&b, &s));
    d->indent = s.s;
    return 0;
}

int filter_tojson(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[4], sep[2];
    struct sb b;
    struct dump d = {.rt = rt, .b = &b};
    TRY(bind_args(rt, "tojson", "|ensure_ascii indent separators sort_keys", args, v));
    TRY(arg_bool(rt, v[0], false, &d.ascii));
    TRY(read_indent(&d, v[1]));
    TRY(arg_bool(rt, v[3], false, &d.sort_keys));
    if (v[2].type != V_MISSING && v[2].type != V_NONE) {
        TRY(unpack(rt, v[2], 2, sep));
        TRY(arg_str(rt, "tojson", sep[0], &d.item_sep));
        TRY(arg_str(rt, "tojson", sep[1], &d.key_sep));
    }
    sb_init(&b, rt);
    TRY(dump_any(&d, in, 0));
    sb_mark_all(&b);
    return sb_finish(&b, out);
}
