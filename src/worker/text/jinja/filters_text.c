/* SPDX-License-Identifier: Apache-2.0 */
/* Filters over text. */
#include "worker/text/jinja/runtime.h"

/* soft_str(in).method(args): what many filters are. */
static int as_method(struct rt *rt, struct value in, const char *name, const struct args *args,
                     struct value *out)
{
    struct jstr *s;
    TRY(to_str(rt, in, &s));
    for (const struct method *m = STR_METHODS; m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m->fn(rt, value_str(s), args, out);
    return rt_fail(rt, E_INTERNAL, "no method '%s'", name);
}

static int filter_upper(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return as_method(rt, in, "upper", args, out);
}
static int filter_lower(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return as_method(rt, in, "lower", args, out);
}
static int filter_capitalize(struct rt *rt, struct value in, const struct args *args,
                             struct value *out)
{
    return as_method(rt, in, "capitalize", args, out);
}
static int filter_trim(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return as_method(rt, in, "strip", args, out);
}

static int filter_center(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v;
    TRY(bind_args(rt, "center", "|width", args, &v));
    if (v.type == V_MISSING)
        v = value_int(80);
    struct args a = {&v, 1, NULL, 0};
    return as_method(rt, in, "center", &a, out);
}

/* Words begin after white space, "-", "(", "{", "[" or "<". */
static bool is_word_gap(const struct jstr *s, size_t at)
{
    uint32_t c = char_next(s->p, s->len, &at);
    return is_py_space(c) || (c && c < 0x80 && strchr("-({[<", (int)c));
}

static int filter_title(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1], rest;
    struct jstr *s;
    struct sb b;
    TRY(bind_args(rt, "title", "", args, none));
    TRY(to_str(rt, in, &s));
    TRY(rt_charge(rt, s->len));
    sb_init(&b, rt);
    for (size_t i = 0; i < s->len && !b.failed;) {
        size_t at = i, first;
        char_next(s->p, s->len, &i);
        if (is_word_gap(s, at)) {
            sb_sub(&b, s, at, i);
            continue;
        }
        for (first = i; i < s->len && !is_word_gap(s, i);)
            char_next(s->p, s->len, &i);
        sb_case(&b, s, at, first, CASE_UPPER);
        TRY(str_sub(rt, s, first, i, &rest)); /* in lower case as a string of its own */
        sb_case(&b, rest.s, 0, rest.s->len, CASE_LOWER);
    }
    return sb_finish(&b, out);
}

static int filter_replace(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    struct value v[3];
    struct jstr *s, *old, *new;
    int64_t max;
    TRY(bind_args(rt, "replace", "old new |count", args, v));
    TRY(to_str(rt, in, &s));
    TRY(to_str(rt, v[0], &old));
    TRY(to_str(rt, v[1], &new));
    if (v[2].type == V_NONE)
        v[2] = VALUE_MISSING;
    TRY(arg_int(rt, "replace", v[2], -1, &max));
    TRY(str_replace(rt, s, old, new, max, out));
    out->s->is_markup = false; /* str(s) */
    return 0;
}

static int filter_string(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jstr *s;
    TRY(bind_args(rt, "string", "", args, none));
    TRY(to_str(rt, in, &s));
    *out = value_str(s);
    return 0;
}

static int filter_safe(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jstr *s;
    TRY(bind_args(rt, "safe", "", args, none));
    TRY(to_str(rt, in, &s));
    TRY(str_sub(rt, s, 0, s->len, out));
    out->s->is_markup = true;
    return 0;
}

static int indent_lines(struct rt *rt, const struct jstr *s, const struct jstr *by, bool first,
                        bool blank, struct value *out)
{
    struct jlist *lines;
    struct value list, keep_none = VALUE_NONE;
    struct sb b;
    struct args none = {&keep_none, 0, NULL, 0};
    sb_init(&b, rt);
    sb_str(&b, s);
    sb_lit(&b, "\n"); /* as Jinja2: a string that ends in a newline keeps an empty last line */
    TRY(sb_finish(&b, &list));
    TRY(as_method(rt, list, "splitlines", &none, &list));
    lines = list.l;
    sb_init(&b, rt);
    if (first)
        sb_str(&b, by);
    for (uint32_t i = 0; i < lines->n; i++) {
        if (i)
            sb_lit(&b, "\n");
        if (i && (blank || lines->v[i].s->len))
            sb_str(&b, by);
        sb_str(&b, lines->v[i].s);
    }
    return sb_finish(&b, out);
}

static int filter_indent(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[3], by;
    bool first, blank;
    struct sb b;
    TRY(bind_args(rt, "indent", "|width first blank", args, v));
    TRY(arg_bool(rt, v[1], false, &first));
    TRY(arg_bool(rt, v[2], false, &blank));
    if (in.type == V_UNDEF)
        return undef_fail(rt, in);
    if (in.type != V_STR)
        return rt_fail(rt, E_FORMAT, "unsupported operand type(s) for +=: '%s' and 'str'",
                       type_name(in));
    if (v[0].type == V_STR) {
        by = v[0];
    } else {
        int64_t n;
        TRY(arg_int(rt, "indent", v[0], 4, &n));
        sb_init(&b, rt);
        sb_fill(&b, " ", 1, (size_t)MAX_OF(n, 0), false);
        TRY(sb_finish(&b, &by));
    }
    TRY(indent_lines(rt, in.s, by.s, first, blank, out));
    out->s->is_markup = in.s->is_markup;
    return 0;
}

static int filter_truncate(struct rt *rt, struct value in, const struct args *args,
                           struct value *out)
{
    struct value v[4];
    int64_t length, leeway;
    bool kill;
    struct jstr *end, *s;
    struct sb b;
    TRY(bind_args(rt, "truncate", "|length killwords end leeway", args, v));
    TRY(arg_int(rt, "truncate", v[0], 255, &length));
    TRY(arg_bool(rt, v[1], false, &kill));
    if (v[2].type == V_MISSING)
        TRY(str_lit(rt, "...", &v[2]));
    TRY(arg_str(rt, "truncate", v[2], &end));
    if (v[3].type == V_NONE)
        v[3] = VALUE_MISSING;
    TRY(arg_int(rt, "truncate", v[3], 5, &leeway));
    int64_t n_end = (int64_t)jstr_chars(end), n;
    if (length < n_end || leeway < 0)
        return rt_fail(rt, E_FORMAT,
                       length < n_end ? "expected length >= the length of its end mark"
                                      : "expected leeway >= 0");
    TRY(value_len(rt, in, &n));
    *out = in;
    if (n <= length + leeway)
        return 0;
    if (in.type != V_STR)
        return rt_fail(rt, E_FORMAT, "truncate: '%s' is no string", type_name(in));
    s = in.s;
    size_t cut = jstr_byte_of(s, (size_t)(length - n_end)), at = SIZE_MAX;
    if (!kill)
        TRY(str_rfind(rt, (struct str){s->p, cut}, STR_LIT(" "), cut, &at));
    sb_init(&b, rt);
    sb_sub(&b, s, 0, at == SIZE_MAX ? cut : at);
    sb_str(&b, end);
    return sb_finish(&b, out);
}

static bool is_word_char(uint32_t c)
{
    return c == '_' || char_is_alpha(c) || char_is_numeric(c) || char_is_digit(c);
}

static int filter_wordcount(struct rt *rt, struct value in, const struct args *args,
                            struct value *out)
{
    struct value none[1];
    struct jstr *s;
    int64_t n = 0;
    bool in_word = false;
    TRY(bind_args(rt, "wordcount", "", args, none));
    TRY(to_str(rt, in, &s));
    TRY(rt_charge(rt, s->len));
    for (size_t i = 0; i < s->len;) {
        bool is = is_word_char(char_next(s->p, s->len, &i));
        n += is && !in_word;
        in_word = is;
    }
    *out = value_int(n);
    return 0;
}

/* One piece of a line to wrap: white space, or a word up to a hyphen it may break after. */
static size_t next_chunk(const struct jstr *s, size_t from, size_t to, bool on_hyphens)
{
    size_t i = from;
    bool space = false, after_letters = false;
    for (size_t at = i; i < to; at = i) {
        uint32_t c = char_next(s->p, to, &i);
        bool is = c < 0x80 && is_py_space(c);
        if (at == from)
            space = is;
        if (is != space)
            return at;
        if (!space && on_hyphens && c == '-' && after_letters && i < to) {
            size_t next = i;
            if (char_is_alpha(char_next(s->p, to, &next)))
                return i;
        }
        after_letters = char_is_alpha(c);
    }
    return to;
}

struct wrap {
    struct rt *rt;
    struct jstr *s, *sep;
    struct sb b;
    int64_t width;
    bool break_long, on_hyphens, has_line;
};

static void wrap_line_put(struct wrap *w, size_t from, size_t to)
{
    if (w->has_line)
        sb_str(&w->b, w->sep);
    w->has_line = true;
    sb_sub(&w->b, w->s, from, to);
}

static bool is_blank_chunk(const struct jstr *s, size_t at)
{
    return is_py_space((unsigned char)s->p[at]) && (unsigned char)s->p[at] < 0x80;
}

/* Greedy lines of whole chunks; white space at a line's ends is dropped (textwrap's rules). */
static int wrap_paragraph(struct wrap *w, size_t from, size_t to)
{
    bool any = false;
    while (from < to) {
        size_t end = from, last = from; /* last: end of the line without trailing space */
        int64_t used = 0;
        if (any && is_blank_chunk(w->s, from)) {
            from = next_chunk(w->s, from, to, w->on_hyphens);
            if (from == to)
                break;
            last = end = from;
        }
        while (end < to) {
            size_t next = next_chunk(w->s, end, to, w->on_hyphens);
            int64_t n = (int64_t)char_count(w->s->p + end, next - end);
            TRY(rt_step(w->rt, 1));
            if (used + n > w->width) {
                if (n > w->width && w->break_long && used < w->width) {
                    for (; used < w->width; used++)
                        char_next(w->s->p, to, &end);
                    last = end;
                } else if (n > w->width && !w->break_long && used == 0) {
                    last = end = next;
                }
                break;
            }
            used += n;
            if (!is_blank_chunk(w->s, end))
                last = next;
            end = next;
        }
        if (last == from && end == from) /* a width of 0 */
            return rt_fail(w->rt, E_FORMAT, "invalid width %lld (must be > 0)",
                           (long long)w->width);
        if (last > from)
            wrap_line_put(w, from, last);
        any |= last > from;
        from = end;
    }
    if (!any)
        wrap_line_put(w, to, to);
    return w->b.failed;
}

static int filter_wordwrap(struct rt *rt, struct value in, const struct args *args,
                           struct value *out)
{
    struct value v[4], list, nothing = VALUE_NONE;
    struct wrap w = {.rt = rt};
    struct args none = {&nothing, 0, NULL, 0};
    TRY(bind_args(rt, "wordwrap", "|width break_long_words wrapstring break_on_hyphens", args, v));
    TRY(arg_int(rt, "wordwrap", v[0], 79, &w.width));
    TRY(arg_bool(rt, v[1], true, &w.break_long));
    TRY(arg_bool(rt, v[3], true, &w.on_hyphens));
    if (v[2].type == V_MISSING || v[2].type == V_NONE)
        TRY(str_lit(rt, "\n", &v[2]));
    TRY(arg_str(rt, "wordwrap", v[2], &w.sep));
    if (in.type != V_STR)
        return in.type == V_UNDEF
                   ? undef_fail(rt, in)
                   : rt_fail(rt, E_FORMAT, "'%s' object has no attribute 'splitlines'",
                             type_name(in));
    if (w.width <= 0)
        return rt_fail(rt, E_FORMAT, "invalid width %lld (must be > 0)", (long long)w.width);
    TRY(as_method(rt, in, "splitlines", &none, &list));
    sb_init(&w.b, rt);
    for (uint32_t i = 0; i < list.l->n; i++) {
        w.s = list.l->v[i].s;
        TRY(rt_charge(rt, w.s->len * 4));
        TRY(wrap_paragraph(&w, 0, w.s->len));
    }
    return sb_finish(&w.b, out);
}

static int filter_format(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct jstr *s;
    struct value v;
    if (args->n && args->n_kw)
        return rt_fail(rt, E_FORMAT,
                       "can't handle positional and keyword arguments at the same time");
    TRY(to_str(rt, in, &s));
    if (args->n_kw) {
        struct jdict *d = dict_new(rt);
        if (!d)
            return -rt->err->code;
        for (uint32_t i = 0; i < args->n_kw; i++)
            TRY(dict_put(rt, d, value_str(args->kw[i].name), args->kw[i].v));
        v = value_dict(d);
    } else {
        struct jlist *l = list_new(rt, args->n);
        if (!l)
            return -rt->err->code;
        for (; l->n < args->n; l->n++)
            l->v[l->n] = args->v[l->n];
        v = value_tuple(l);
    }
    return format_percent(rt, s, v, out);
}

const struct filter FILTERS_TEXT[] = {
    {"trim", filter_trim},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"string", filter_string},
    {"safe", filter_safe},
    {"indent", filter_indent},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"wordwrap", filter_wordwrap},
    {"center", filter_center},
    {"format", filter_format},
    {NULL, NULL},
};
