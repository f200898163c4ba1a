/* SPDX-License-Identifier: Apache-2.0 */
/* "…" % values and "…".format(…), as Python formats them. */
#include <math.h>
#include <stdio.h>

#include "worker/text/jinja/runtime.h"

#define MAX_PRECISION 300

/* How one value is to look. */
struct spec {
    char fill[5];
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' ' ' '-' or 0 */
    bool alt, zero;
    int64_t width, prec; /* prec -1: none */
    char group;          /* ',' '_' or 0 */
    char type;           /* 0: the value's own */
};

/* sign and digits (already text) in their field. */
static void put_number(struct sb *b, const struct spec *s, const char *sign, const char *digits)
{
    int64_t n = (int64_t)(strlen(sign) + strlen(digits)), room = s->width > n ? s->width - n : 0;
    char align = s->align ? s->align : s->zero ? '=' : '>';
    const char *fill = s->zero && !s->align ? "0" : s->fill[0] ? s->fill : " ";
    int64_t left = align == '<' ? 0 : align == '^' ? room / 2 : room;
    if (align != '=')
        sb_fill(b, fill, strlen(fill), (size_t)left, false);
    sb_lit(b, sign);
    if (align == '=')
        sb_fill(b, fill, strlen(fill), (size_t)left, false);
    sb_lit(b, digits);
    sb_fill(b, fill, strlen(fill), (size_t)(room - left), false);
}

static void put_text(struct sb *b, const struct spec *s, struct jstr *t)
{
    size_t len = s->prec >= 0 ? jstr_byte_of(t, (size_t)s->prec) : t->len;
    int64_t n = (int64_t)char_count(t->p, len), room = s->width > n ? s->width - n : 0;
    const char *fill = s->fill[0] ? s->fill : s->zero ? "0" : " ";
    int64_t left = s->align == '>' ? room : s->align == '^' ? room / 2 : 0;
    sb_fill(b, fill, strlen(fill), (size_t)left, false);
    sb_sub(b, t, 0, len);
    sb_fill(b, fill, strlen(fill), (size_t)(room - left), false);
}

static void group_digits(const char *in, size_t n_whole, char sep, int every, char *out)
{
    for (size_t i = 0; i < n_whole; i++) {
        if (i && (n_whole - i) % (size_t)every == 0)
            *out++ = sep;
        *out++ = in[i];
    }
    memcpy(out, in + n_whole, strlen(in + n_whole) + 1);
}

static void int_digits(uint64_t u, unsigned base, bool upper, char *out)
{
    char tmp[72];
    int n = 0;
    do {
        unsigned d = (unsigned)(u % base);
        tmp[n++] = (char)(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
        u /= base;
    } while (u);
    for (int i = 0; i < n; i++)
        out[i] = tmp[n - 1 - i];
    out[n] = 0;
}

static const char *sign_of(bool negative, const struct spec *s)
{
    return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

static int put_int(struct rt *rt, struct sb *b, const struct spec *s, int64_t i)
{
    char digits[80], grouped[160], sign[8];
    char t = s->type ? s->type : 'd';
    unsigned base = t == 'x' || t == 'X' ? 16 : t == 'o' ? 8 : t == 'b' ? 2 : 10;
    int_digits(i < 0 ? 0 - (uint64_t)i : (uint64_t)i, base, t == 'X', digits);
    if (s->group)
        group_digits(digits, strlen(digits), s->group, base == 10 ? 3 : 4, grouped);
    else
        snprintf(grouped, sizeof(grouped), "%s", digits);
    snprintf(sign, sizeof(sign), "%s%s%c", sign_of(i < 0, s), s->alt && base != 10 ? "0" : "", t);
    if (!(s->alt && base != 10))
        sign[strlen(sign) - 1] = 0;
    (void)rt;
    put_number(b, s, sign, grouped);
    return b->failed;
}

static int put_float(struct rt *rt, struct sb *b, const struct spec *s, double f)
{
    char digits[700], grouped[1000];
    char t = s->type;
    int prec = s->prec >= 0 ? (int)MIN_OF(s->prec, MAX_PRECISION + 1) : 6;
    if (prec > MAX_PRECISION)
        return rt_fail(rt, E_LIMIT, "a number is asked for with more than %d digits",
                       MAX_PRECISION);
    double a = fabs(f) * (t == '%' ? 100 : 1);
    if (isnan(f) || isinf(f))
        snprintf(digits, sizeof(digits), "%s", isnan(f) ? "nan" : "inf");
    else if (t == 'e' || t == 'E')
        snprintf(digits, sizeof(digits), "%.*e", prec, a);
    else if (t == 'f' || t == 'F' || t == '%')
        snprintf(digits, sizeof(digits), "%.*f", prec, a);
    else if (s->alt)
        snprintf(digits, sizeof(digits), "%#.*g", prec, a);
    else
        snprintf(digits, sizeof(digits), "%.*g", prec ? prec : 1, a);
    if (t == 'E' || t == 'G' || t == 'F')
        for (char *p = digits; *p; p++)
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    size_t n_whole = strspn(digits, "0123456789");
    if (s->group)
        group_digits(digits, n_whole, s->group, 3, grouped);
    else
        snprintf(grouped, sizeof(grouped), "%s", digits);
    if (t == '%')
        snprintf(grouped + strlen(grouped), 2, "%%");
    put_number(b, s, sign_of(signbit(f) && !isnan(f), s), grouped);
    return b->failed;
}

static int put_char(struct rt *rt, struct sb *b, const struct spec *s, struct value v)
{
    struct value text;
    struct sb one;
    if (v.type == V_STR && jstr_chars(v.s) == 1) {
        put_text(b, s, v.s);
        return b->failed;
    }
    if (!is_integer(v))
        return rt_fail(rt, E_FORMAT, "%%c requires int or char");
    int64_t c = as_int(v);
    if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return rt_fail(rt, E_FORMAT, "%%c arg not in range(0x110000)");
    sb_init(&one, rt);
    sb_char(&one, (uint32_t)c, false);
    TRY(sb_finish(&one, &text));
    put_text(b, s, text.s);
    return b->failed;
}

static int put_str(struct rt *rt, struct sb *b, const struct spec *s, struct value v, bool repr)
{
    struct jstr *t;
    struct value made;
    if (repr) {
        struct sb one;
        sb_init(&one, rt);
        TRY(sb_repr(&one, v));
        sb_mark_all(&one);
        TRY(sb_finish(&one, &made));
        t = made.s;
    } else {
        TRY(to_str(rt, v, &t));
    }
    put_text(b, s, t);
    return b->failed;
}

static int to_int(struct rt *rt, char type, struct value v, int64_t *out)
{
    if (v.type == V_UNDEF)
        return undef_fail(rt, v);
    if (v.type == V_FLOAT && type == 'd') {
        if (!(fabs(v.f) < 9.2e18))
            return rt_fail(rt, E_LIMIT, "a float is no 64-bit integer");
        *out = (int64_t)v.f;
        return 0;
    }
    if (!is_integer(v))
        return rt_fail(rt, E_FORMAT, "%%%c format: a real number is required, not %s", type,
                       type_name(v));
    *out = as_int(v);
    return 0;
}

/* One conversion of a % format. */
static int put_percent(struct rt *rt, struct sb *b, struct spec *s, struct value v)
{
    int64_t i;
    switch (s->type) {
    case 's':
    case 'r':
    case 'a':
        if (!s->align)
            s->align = '>';
        s->zero = false;
        return put_str(rt, b, s, v, s->type != 's');
    case 'c':
        if (!s->align)
            s->align = '>';
        return put_char(rt, b, s, v);
    case 'd':
    case 'i':
    case 'u':
        s->type = 'd';
        TRY(to_int(rt, 'd', v, &i));
        return put_int(rt, b, s, i);
    case 'x':
    case 'X':
    case 'o': TRY(to_int(rt, s->type, v, &i)); return put_int(rt, b, s, i);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (v.type == V_UNDEF)
            return undef_fail(rt, v);
        if (!is_num(v))
            return rt_fail(rt, E_FORMAT, "must be real number, not %s", type_name(v));
        return put_float(rt, b, s, as_float(v));
    default: return rt_fail(rt, E_FORMAT, "unsupported format character");
    }
}

struct percent_args {
    struct value all;
    uint32_t next;
};

static int next_arg(struct rt *rt, struct percent_args *a, struct value *out)
{
    if (a->all.type != V_TUPLE) {
        if (a->next++)
            return rt_fail(rt, E_FORMAT, "not enough arguments for format string");
        *out = a->all;
        return 0;
    }
    if (a->next >= a->all.l->n)
        return rt_fail(rt, E_FORMAT, "not enough arguments for format string");
    *out = a->all.l->v[a->next++];
    return 0;
}

static int percent_number(struct rt *rt, const struct jstr *f, size_t *i, struct percent_args *a,
                          int64_t *out)
{
    struct value v;
    *out = 0;
    if (*i < f->len && f->p[*i] == '*') {
        (*i)++;
        TRY(next_arg(rt, a, &v));
        return arg_int(rt, "*", v, 0, out);
    }
    while (*i < f->len && f->p[*i] >= '0' && f->p[*i] <= '9') {
        *out = *out * 10 + (f->p[(*i)++] - '0');
        if (*out > (int64_t)LIMIT_TEMPLATE_MEMORY_BYTES)
            return rt_fail(rt, E_LIMIT, "a field is wider than %u", LIMIT_TEMPLATE_MEMORY_BYTES);
    }
    return 0;
}

/* "(name)": looks the value up in the mapping. */
static int percent_key(struct rt *rt, const struct jstr *f, size_t *i, struct value map,
                       struct value *out)
{
    size_t from = ++*i;
    struct value key;
    const struct dict_item *it;
    const char *end = memchr(f->p + from, ')', f->len - from);
    if (!end)
        return rt_fail(rt, E_FORMAT, "incomplete format key");
    *i = (size_t)(end - f->p) + 1;
    if (map.type != V_DICT)
        return rt_fail(rt, E_FORMAT, "format requires a mapping");
    TRY(str_sub(rt, f, from, *i - 1, &key));
    TRY(dict_get(rt, map.d, key, &it));
    if (!it)
        return rt_fail(rt, E_FORMAT, "the format names a key the mapping lacks");
    *out = it->val;
    return 0;
}

static int percent_one(struct rt *rt, struct sb *b, const struct jstr *f, size_t *i,
                       struct percent_args *a)
{
    struct spec s = {.prec = -1};
    struct value v = VALUE_MISSING;
    if (*i < f->len && f->p[*i] == '(') {
        TRY(percent_key(rt, f, i, a->all, &v));
        a->next = 1;
    }
    for (; *i < f->len && strchr("-+ #0", f->p[*i]) && f->p[*i]; (*i)++) {
        char c = f->p[*i];
        s.align = c == '-' ? '<' : s.align;
        s.sign = c == '+' ? '+' : c == ' ' && s.sign != '+' ? ' ' : s.sign;
        s.alt |= c == '#';
        s.zero |= c == '0';
    }
    TRY(percent_number(rt, f, i, a, &s.width));
    if (s.width < 0) {
        s.align = '<';
        s.width = -s.width;
    }
    if (*i < f->len && f->p[*i] == '.') {
        (*i)++;
        TRY(percent_number(rt, f, i, a, &s.prec));
        s.prec = MAX_OF(s.prec, 0);
    }
    while (*i < f->len && strchr("hlL", f->p[*i]) && f->p[*i])
        (*i)++;
    if (*i >= f->len)
        return rt_fail(rt, E_FORMAT, "incomplete format");
    s.type = f->p[(*i)++];
    if (s.type == '%') {
        sb_lit(b, "%");
        return b->failed;
    }
    if (v.type == V_MISSING)
        TRY(next_arg(rt, a, &v));
    return put_percent(rt, b, &s, v);
}

static int escape_args(struct rt *rt, struct value *args)
{
    struct jlist *l;
    if (args->type == V_STR)
        return escape_html(rt, *args, args);
    if (args->type != V_TUPLE)
        return 0;
    TRY(list_from(rt, *args, &l));
    for (uint32_t i = 0; i < l->n; i++)
        if (l->v[i].type == V_STR)
            TRY(escape_html(rt, l->v[i], &l->v[i]));
    *args = value_tuple(l);
    return 0;
}

int format_percent(struct rt *rt, struct jstr *fmt, struct value args, struct value *out)
{
    struct sb b;
    if (fmt->is_markup)
        TRY(escape_args(rt, &args));
    struct percent_args a = {args, 0};
    sb_init(&b, rt);
    TRY(rt_charge(rt, fmt->len));
    for (size_t i = 0; i < fmt->len && !b.failed;) {
        const char *at = memchr(fmt->p + i, '%', fmt->len - i);
        size_t end = at ? (size_t)(at - fmt->p) : fmt->len;
        sb_sub(&b, fmt, i, end);
        i = end + 1;
        TRY(rt_step(rt, 1));
        if (at)
            TRY(percent_one(rt, &b, fmt, &i, &a));
    }
    bool is_map = args.type == V_DICT || args.type == V_LIST || args.type == V_RANGE;
    if (args.type == V_TUPLE ? a.next < args.l->n : !is_map && a.next == 0)
        return rt_fail(rt, E_FORMAT, "not all arguments converted during string formatting");
    TRY(sb_finish(&b, out));
    out->s->is_markup = fmt->is_markup;
    return 0;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static int parse_spec(struct rt *rt, const struct jstr *t, struct spec *s)
{
    size_t i = 0, first = 0;
    *s = (struct spec){.prec = -1};
    char_next(t->p, t->len, &first);
    if (first < t->len && strchr("<>=^", t->p[first]) && t->p[first]) {
        memcpy(s->fill, t->p, first);
        s->align = t->p[first];
        i = first + 1;
    } else if (t->len && strchr("<>=^", t->p[0]) && t->p[0]) {
        s->align = t->p[i++];
    }
    if (i < t->len && strchr("+- ", t->p[i]) && t->p[i])
        s->sign = t->p[i++];
    if (i < t->len && t->p[i] == '#')
        s->alt = t->p[i++] == '#';
    if (i < t->len && t->p[i] == '0')
        s->zero = t->p[i++] == '0';
    struct percent_args none = {VALUE_NONE, 0};
    if (i < t->len && t->p[i] != '*')
        TRY(percent_number(rt, t, &i, &none, &s->width));
    if (i < t->len && (t->p[i] == ',' || t->p[i] == '_'))
        s->group = t->p[i++];
    if (i + 1 < t->len && t->p[i] == '.' && t->p[i + 1] >= '0' && t->p[i + 1] <= '9') {
        i++;
        TRY(percent_number(rt, t, &i, &none, &s->prec));
    }
    if (i < t->len)
        s->type = t->p[i++];
    if (i != t->len)
        return rt_fail(rt, E_FORMAT, "Invalid format specifier");
    return 0;
}

static int put_formatted(struct rt *rt, struct sb *b, struct value v, const struct jstr *text)
{
    struct spec s;
    TRY(parse_spec(rt, text, &s));
    if (text->len == 0)
        return put_str(rt, b, &s, v, false);
    if (v.type == V_STR) {
        if ((s.type && s.type != 's') || s.align == '=' || s.sign)
            return rt_fail(rt, E_FORMAT, "Unknown format code for object of type 'str'");
        put_text(b, &s, v.s);
        return b->failed;
    }
    if (!is_num(v))
        return rt_fail(rt, E_FORMAT, "unsupported format string passed to %s.__format__",
                       type_name(v));
    if (is_integer(v) && strchr("bdoxXn", s.type ? s.type : 'd')) {
        s.type = s.type == 'n' ? 'd' : s.type;
        return put_int(rt, b, &s, as_int(v));
    }
    if (is_integer(v) && s.type == 'c') {
        s.align = s.align ? s.align : '<';
        return put_char(rt, b, &s, v);
    }
    if (!s.type && s.prec < 0) { /* as str() */
        struct sb one;
        struct value t;
        sb_init(&one, rt);
        sb_float(&one, fabs(v.f));
        TRY(sb_finish(&one, &t));
        char digits[64];
        snprintf(digits, sizeof(digits), "%.*s", (int)MIN_OF(t.s->len, 63), t.s->p);
        put_number(b, &s, sign_of(signbit(v.f), &s), digits);
        return b->failed;
    }
    s.type = s.type ? s.type : 'g';
    if (!strchr("eEfFgGn%", s.type))
        return rt_fail(rt, E_FORMAT, "Unknown format code '%c' for object of type '%s'", s.type,
                       type_name(v));
    return put_float(rt, b, &s, as_float(v));
}

struct brace {
    struct jstr *fmt;
    const struct args *args;
    int64_t next; /* automatic number; -1: numbered by hand */
};

/* "0", "name", "" and then ".attr" and "[key]". */
static int field_value(struct rt *rt, struct brace *k, size_t from, size_t to, struct value *out)
{
    const struct jstr *f = k->fmt;
    size_t end = from;
    struct value key;
    while (end < to && f->p[end] != '.' && f->p[end] != '[')
        end++;
    struct str name = {f->p + from, end - from};
    int64_t i = 0;
    bool is_number = name.len < 10;
    for (size_t c = 0; c < name.len && is_number; c++) {
        is_number = name.p[c] >= '0' && name.p[c] <= '9';
        i = i * 10 + (name.p[c] - '0');
    }
    if (is_number) {
        if ((name.len == 0) != (k->next >= 0) && (name.len == 0 || k->next > 0))
            return rt_fail(rt, E_FORMAT,
                           "cannot switch between automatic and manual field numbering");
        if (name.len)
            k->next = -1;
        else
            i = k->next++;
        if (i >= k->args->n)
            return rt_fail(rt, E_FORMAT,
                           "Replacement index %lld out of range for positional args tuple",
                           (long long)i);
        *out = k->args->v[i];
    } else {
        uint32_t w = 0;
        while (w < k->args->n_kw && !str_eq(jstr_str(k->args->kw[w].name), name))
            w++;
        if (w == k->args->n_kw)
            return rt_fail(rt, E_FORMAT, "the format names '%.*s', which is not given",
                           STR_ARG(name));
        *out = k->args->kw[w].v;
    }
    while (end < to) {
        bool is_attr = f->p[end] == '.';
        size_t start = ++end;
        while (end < to && (is_attr ? f->p[end] != '.' && f->p[end] != '[' : f->p[end] != ']'))
            end++;
        TRY(str_sub(rt, f, start, end, &key));
        if (is_attr)
            TRY(value_attr(rt, *out, key.s, out));
        else
            TRY(key.s->len && key.s->p[0] >= '0' && key.s->p[0] <= '9'
                    ? value_path(rt, *out, key, VALUE_MISSING, out)
                    : value_item(rt, *out, key, out));
        end += !is_attr && end < to;
    }
    return 0;
}

static int brace_text(struct rt *rt, struct sb *b, struct brace *k, size_t from, size_t to,
                      int depth);

static int brace_field(struct rt *rt, struct sb *b, struct brace *k, size_t from, size_t to,
                       int depth)
{
    size_t end = from;
    struct value v, spec;
    struct sb s;
    char conv = 0;
    for (bool in_key = false;
         end < to && (in_key || (k->fmt->p[end] != '!' && k->fmt->p[end] != ':')); end++)
        in_key = k->fmt->p[end] == '[' || (in_key && k->fmt->p[end] != ']');
    TRY(field_value(rt, k, from, end, &v));
    if (end < to && k->fmt->p[end] == '!') {
        conv = end + 1 < to ? k->fmt->p[end + 1] : 0;
        end += 2;
        if (!strchr("sra", conv) || !conv || (end < to && k->fmt->p[end] != ':'))
            return rt_fail(rt, E_FORMAT, "expected ':' after conversion specifier");
    }
    sb_init(&s, rt);
    if (end < to)
        TRY(brace_text(rt, &s, k, end + 1, to, depth + 1));
    TRY(sb_finish(&s, &spec));
    if (conv) {
        struct sb one;
        sb_init(&one, rt);
        TRY(conv == 's' ? sb_to_str(&one, v) : sb_repr(&one, v));
        sb_mark_all(&one);
        TRY(sb_finish(&one, &v));
    }
    if (!k->fmt->is_markup || (v.type == V_STR && v.s->is_markup))
        return put_formatted(rt, b, v, spec.s);
    sb_init(&s, rt);
    TRY(put_formatted(rt, &s, v, spec.s));
    TRY(sb_finish(&s, &v));
    TRY(escape_html(rt, v, &v));
    sb_str(b, v.s);
    return b->failed;
}

static int brace_text(struct rt *rt, struct sb *b, struct brace *k, size_t from, size_t to,
                      int depth)
{
    const char *p = k->fmt->p;
    if (depth > 1)
        return rt_fail(rt, E_FORMAT, "Max string recursion exceeded");
    for (size_t i = from; i < to && !b->failed;) {
        size_t end = i;
        while (end < to && p[end] != '{' && p[end] != '}')
            end++;
        sb_sub(b, k->fmt, i, end);
        if (end == to)
            break;
        TRY(rt_step(rt, 1));
        if (end + 1 < to && p[end + 1] == p[end] && depth == 0) {
            sb_sub(b, k->fmt, end, end + 1);
            i = end + 2;
            continue;
        }
        if (p[end] == '}')
            return rt_fail(rt, E_FORMAT, "Single '}' encountered in format string");
        size_t close = end + 1;
        for (int open = 1; close < to; close++) {
            open += p[close] == '{' ? 1 : p[close] == '}' ? -1 : 0;
            if (!open)
                break;
        }
        if (close >= to)
            return rt_fail(rt, E_FORMAT, "expected '}' before end of string");
        TRY(brace_field(rt, b, k, end + 1, close, depth));
        i = close + 1;
    }
    return b->failed;
}

int format_brace(struct rt *rt, struct jstr *fmt, const struct args *args, struct value *out)
{
    struct brace k = {fmt, args, 0};
    struct sb b;
    TRY(rt_charge(rt, fmt->len));
    sb_init(&b, rt);
    TRY(brace_text(rt, &b, &k, 0, fmt->len, 0));
    TRY(sb_finish(&b, out));
    out->s->is_markup = fmt->is_markup;
    return 0;
}
