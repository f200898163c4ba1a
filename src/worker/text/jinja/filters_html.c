/* SPDX-License-Identifier: Apache-2.0 */
/* Filters for HTML and URLs.  Nothing is escaped by itself: chat templates render plain text. */
#include <stdio.h>

#include "worker/text/jinja/runtime.h"

int escape_html(struct rt *rt, struct value v, struct value *out)
{
    struct jstr *s;
    struct sb b;
    *out = v;
    if (v.type == V_STR && v.s->is_markup)
        return 0;
    TRY(to_str(rt, v, &s));
    TRY(rt_charge(rt, s->len));
    sb_init(&b, rt);
    for (size_t i = 0; i < s->len && !b.failed;) {
        size_t n = 0;
        while (i + n < s->len && !memchr("&<>'\"", s->p[i + n], 5))
            n++;
        sb_sub(&b, s, i, i + n);
        i += n;
        if (i == s->len)
            break;
        char c = s->p[i];
        const char *e = c == '&'    ? "&amp;"
                        : c == '<'  ? "&lt;"
                        : c == '>'  ? "&gt;"
                        : c == '\'' ? "&#39;"
                                    : "&#34;";
        sb_put(&b, e, strlen(e), jstr_input_at(s, i));
        i++;
    }
    TRY(sb_finish(&b, out));
    out->s->is_markup = true;
    return 0;
}

static int filter_escape(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "escape", "", args, none));
    return escape_html(rt, in, out);
}

static int filter_forceescape(struct rt *rt, struct value in, const struct args *args,
                              struct value *out)
{
    struct value none[1];
    struct jstr *s;
    TRY(bind_args(rt, "forceescape", "", args, none));
    TRY(to_str(rt, in, &s));
    TRY(str_sub(rt, s, 0, s->len, &in));
    in.s->is_markup = false;
    return escape_html(rt, in, out);
}

static void put_quoted(struct sb *b, const struct jstr *s, bool for_qs)
{
    for (size_t i = 0; i < s->len && !b->failed; i++) {
        unsigned char c = (unsigned char)s->p[i];
        char tmp[4];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c && c < 0x80 && strchr("_.-~", c)) || (c == '/' && !for_qs);
        if (plain) {
            sb_sub(b, s, i, i + 1);
            continue;
        }
        snprintf(tmp, sizeof(tmp), c == ' ' && for_qs ? "+" : "%%%02X", c);
        sb_put(b, tmp, strlen(tmp), jstr_input_at(s, i));
    }
}

static int filter_urlencode(struct rt *rt, struct value in, const struct args *args,
                            struct value *out)
{
    struct value none[1], pair[2];
    struct jstr *s;
    struct jlist *l;
    struct sb b;
    struct jview view = {VIEW_ITEMS, in.d};
    TRY(bind_args(rt, "urlencode", "", args, none));
    sb_init(&b, rt);
    if (in.type == V_STR || is_num(in) || in.type == V_NONE) {
        TRY(to_str(rt, in, &s));
        TRY(rt_charge(rt, s->len));
        put_quoted(&b, s, false);
        return sb_finish(&b, out);
    }
    if (in.type == V_DICT)
        in = (struct value){.type = V_VIEW, .view = &view};
    TRY(list_from(rt, in, &l));
    for (uint32_t i = 0; i < l->n; i++) {
        TRY(unpack(rt, l->v[i], 2, pair));
        for (int k = 0; k < 2; k++) {
            TRY(to_str(rt, pair[k], &s));
            TRY(rt_charge(rt, s->len));
            sb_lit(&b, k ? "=" : i ? "&" : "");
            put_quoted(&b, s, true);
        }
    }
    return sb_finish(&b, out);
}

static int filter_xmlattr(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    struct value v, k;
    bool autospace, first = true;
    struct sb b;
    TRY(bind_args(rt, "xmlattr", "|autospace", args, &v));
    TRY(arg_bool(rt, v, true, &autospace));
    if (in.type != V_DICT)
        return in.type == V_UNDEF
                   ? undef_fail(rt, in)
                   : rt_fail(rt, E_FORMAT, "'%s' object has no attribute 'items'", type_name(in));
    sb_init(&b, rt);
    for (uint32_t i = 0; i < in.d->n; i++) {
        struct dict_item it = in.d->items[i];
        if (it.val.type == V_NONE || it.val.type == V_UNDEF)
            continue;
        if (it.key.type != V_STR)
            return rt_fail(rt, E_FORMAT, "expected string or bytes-like object, got '%s'",
                           type_name(it.key));
        for (size_t c = 0; c < it.key.s->len; c++)
            if (memchr(" \t\n\r\f\v/>=", it.key.s->p[c], 9))
                return rt_fail(rt, E_FORMAT, "Invalid character in attribute name");
        TRY(escape_html(rt, it.key, &k));
        TRY(escape_html(rt, it.val, &v));
        sb_lit(&b, first && !autospace ? "" : " ");
        first = false;
        sb_str(&b, k.s);
        sb_lit(&b, "=\"");
        sb_str(&b, v.s);
        sb_lit(&b, "\"");
    }
    return sb_finish(&b, out);
}

static size_t entity(const struct jstr *s, size_t i, uint32_t *c)
{
    static const struct {
        const char *name;
        uint32_t c;
    } NAMED[] = {{"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},
                 {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xa0}};
    for (size_t k = 0; k < ARRAY_LEN(NAMED); k++) {
        size_t n = strlen(NAMED[k].name);
        if (s->len - i >= n && memcmp(s->p + i, NAMED[k].name, n) == 0) {
            *c = NAMED[k].c;
            return n;
        }
    }
    size_t p = i + 2;
    bool hex = p < s->len && (s->p[p] | 0x20) == 'x';
    uint32_t v = 0;
    if (i + 1 >= s->len || s->p[i + 1] != '#')
        return 0;
    for (p += hex; p < s->len && s->p[p] != ';' && v <= 0x10ffff; p++) {
        char d = s->p[p];
        int x = d >= '0' && d <= '9'                            ? d - '0'
                : hex && (d | 0x20) >= 'a' && (d | 0x20) <= 'f' ? (d | 0x20) - 'a' + 10
                                                                : -1;
        if (x < 0)
            return 0;
        v = v * (hex ? 16 : 10) + (uint32_t)x;
    }
    if (p >= s->len || v == 0 || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return 0;
    *c = v;
    return p + 1 - i;
}

/* Without comments and tags, white space single, entities read (the common ones). */
static int filter_striptags(struct rt *rt, struct value in, const struct args *args,
                            struct value *out)
{
    struct value none[1], v;
    struct jstr *s;
    struct sb b;
    bool gap = false;
    TRY(bind_args(rt, "striptags", "", args, none));
    TRY(to_str(rt, in, &s));
    TRY(rt_charge(rt, 2 * s->len));
    sb_init(&b, rt);
    for (int comments = 1; comments >= 0; comments--) {
        struct str open = comments ? STR_LIT("<!--") : STR_LIT("<"),
                   close = comments ? STR_LIT("-->") : STR_LIT(">");
        sb_init(&b, rt);
        for (size_t i = 0; i < s->len && !b.failed;) {
            size_t at = str_find(jstr_str(s), open, i),
                   end = at == SIZE_MAX ? at : str_find(jstr_str(s), close, at);
            sb_sub(&b, s, i, end == SIZE_MAX ? s->len : at);
            i = end == SIZE_MAX ? s->len : end + close.len;
        }
        TRY(sb_finish(&b, &v));
        s = v.s;
    }
    sb_init(&b, rt);
    for (size_t i = 0; i < s->len && !b.failed;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        if (is_py_space(c)) {
            gap = b.len > 0;
            continue;
        }
        if (gap)
            sb_lit(&b, " ");
        gap = false;
        size_t n = c == '&' ? entity(s, at, &c) : 0;
        sb_char(&b, c, jstr_input_at(s, at));
        i = n ? at + n : i;
    }
    return sb_finish(&b, out);
}

static int filter_refused(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    (void)in, (void)args, (void)out;
    return rt_fail(rt, E_UNSUPPORTED, "the filters urlize and pprint are not supported");
}

const struct filter FILTERS_HTML[] = {
    {"e", filter_escape},
    {"escape", filter_escape},
    {"forceescape", filter_forceescape},
    {"urlencode", filter_urlencode},
    {"xmlattr", filter_xmlattr},
    {"striptags", filter_striptags},
    {"urlize", filter_refused},
    {"pprint", filter_refused},
    {NULL, NULL},
};
