/* SPDX-License-Identifier: Apache-2.0 */
/* str(), repr() and json.dumps() of values, as Python prints them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/text/jinja/runtime.h"

/* The shortest digits that read back as f, in Python's layout (float.__repr__). */
void sb_float(struct sb *b, double f)
{
    char tmp[40], digits[32];
    if (isnan(f) || isinf(f)) {
        sb_lit(b, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    int prec = 1;
    for (; prec < 17; prec++) {
        snprintf(tmp, sizeof(tmp), "%.*e", prec - 1, f);
        if (strtod(tmp, NULL) == f)
            break;
    }
    snprintf(tmp, sizeof(tmp), "%.*e", prec - 1, f);
    const char *p = tmp, *e = strchr(tmp, 'e');
    int n = 0, exp10 = (int)strtol(e + 1, NULL, 10);
    if (*p == '-') {
        sb_lit(b, "-");
        p++;
    }
    for (; p < e; p++)
        if (*p != '.')
            digits[n++] = *p;
    digits[n] = 0;
    if (exp10 < -4 || exp10 >= 16) {
        sb_put(b, digits, 1, false);
        if (n > 1) {
            sb_lit(b, ".");
            sb_lit(b, digits + 1);
        }
        snprintf(tmp, sizeof(tmp), "e%c%02d", exp10 < 0 ? '-' : '+', abs(exp10));
        sb_lit(b, tmp);
    } else if (exp10 < 0) {
        sb_lit(b, "0.");
        sb_fill(b, "0", 1, (size_t)(-exp10 - 1), false);
        sb_lit(b, digits);
    } else {
        int whole = exp10 + 1;
        sb_put(b, digits, (size_t)MIN_OF(n, whole), false);
        sb_fill(b, "0", 1, (size_t)MAX_OF(whole - n, 0), false);
        sb_lit(b, ".");
        sb_lit(b, n > whole ? digits + whole : "0");
    }
}

void sb_int(struct sb *b, int64_t i)
{
    char tmp[24];
    snprintf(tmp, sizeof(tmp), "%lld", (long long)i);
    sb_lit(b, tmp);
}

static void repr_char(struct sb *b, uint32_t c, char quote, bool in)
{
    char tmp[12];
    if (c == (uint32_t)quote || c == '\\')
        snprintf(tmp, sizeof(tmp), "\\%c", (char)c);
    else if (c == '\n' || c == '\r' || c == '\t')
        snprintf(tmp, sizeof(tmp), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else if (char_is_printable(c)) {
        sb_char(b, c, in);
        return;
    } else
        snprintf(tmp, sizeof(tmp), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    sb_put(b, tmp, strlen(tmp), in);
}

static int repr_str(struct sb *b, const struct jstr *s)
{
    bool has_single = memchr(s->p, '\'', s->len), has_double = memchr(s->p, '"', s->len);
    char quote = has_single && !has_double ? '"' : '\'';
    TRY(rt_charge(b->rt, s->len));
    if (s->is_markup)
        sb_lit(b, "Markup(");
    sb_put(b, &quote, 1, false);
    for (size_t i = 0; i < s->len && !b->failed;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        repr_char(b, c, quote, jstr_input_at(s, at));
    }
    sb_put(b, &quote, 1, false);
    if (s->is_markup)
        sb_lit(b, ")");
    return b->failed;
}

static int repr_list(struct sb *b, const struct jlist *l, const char *open, const char *close)
{
    sb_lit(b, open);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            sb_lit(b, ", ");
        TRY(sb_repr(b, l->v[i]));
    }
    sb_lit(b, close);
    return b->failed;
}

static int repr_dict(struct sb *b, const struct jdict *d)
{
    sb_lit(b, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        if (i)
            sb_lit(b, ", ");
        TRY(sb_repr(b, d->items[i].key));
        sb_lit(b, ": ");
        TRY(sb_repr(b, d->items[i].val));
    }
    sb_lit(b, "}");
    return b->failed;
}

static int repr_view(struct sb *b, const struct jview *v)
{
    static const char *const OPEN[] = {"dict_keys([", "dict_values([", "dict_items(["};
    sb_lit(b, OPEN[v->kind]);
    for (uint32_t i = 0; i < v->d->n; i++) {
        if (i)
            sb_lit(b, v->kind == VIEW_ITEMS ? "), (" : ", ");
        else if (v->kind == VIEW_ITEMS)
            sb_lit(b, "(");
        if (v->kind != VIEW_VALUES)
            TRY(sb_repr(b, v->d->items[i].key));
        if (v->kind == VIEW_ITEMS)
            sb_lit(b, ", ");
        if (v->kind != VIEW_KEYS)
            TRY(sb_repr(b, v->d->items[i].val));
    }
    sb_lit(b, v->kind == VIEW_ITEMS && v->d->n ? ")])" : "])");
    return b->failed;
}

static int repr_range(struct sb *b, const struct jrange *r)
{
    sb_lit(b, "range(");
    sb_int(b, r->start);
    sb_lit(b, ", ");
    sb_int(b, r->stop);
    if (r->step != 1) {
        sb_lit(b, ", ");
        sb_int(b, r->step);
    }
    sb_lit(b, ")");
    return b->failed;
}

static int repr_object(struct sb *b, struct value v)
{
    char tmp[128];
    int64_t n;
    switch (v.type) {
    case V_RANGE: return repr_range(b, v.r);
    case V_VIEW: return repr_view(b, v.view);
    case V_NS:
        sb_lit(b, "<Namespace ");
        TRY(repr_dict(b, v.d));
        sb_lit(b, ">");
        return b->failed;
    case V_LOOP:
        TRY(loop_length(b->rt, v.loop, &n));
        snprintf(tmp, sizeof(tmp), "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1,
                 (long long)n);
        break;
    case V_MACRO:
        if (v.macro->name)
            snprintf(tmp, sizeof(tmp), "<Macro '%.64s'>", v.macro->name);
        else
            snprintf(tmp, sizeof(tmp), "<Macro anonymous>");
        break;
    case V_FUNC:
        snprintf(tmp, sizeof(tmp),
                 v.func->self.type == V_MISSING ? "<function %.64s>"
                                                : "<built-in method %.64s of %.32s object>",
                 v.func->name, type_name(v.func->self));
        break;
    default: /* Python prints an address here */
        snprintf(tmp, sizeof(tmp), "<%.64s object>", type_name(v));
    }
    sb_lit(b, tmp);
    return b->failed;
}

static int repr_any(struct sb *b, struct value v)
{
    switch (v.type) {
    case V_UNDEF:
    case V_MISSING: sb_lit(b, "Undefined"); return b->failed;
    case V_NONE: sb_lit(b, "None"); return b->failed;
    case V_BOOL: sb_lit(b, v.b ? "True" : "False"); return b->failed;
    case V_INT: sb_int(b, v.i); return b->failed;
    case V_FLOAT: sb_float(b, v.f); return b->failed;
    case V_STR: return repr_str(b, v.s);
    case V_LIST: return repr_list(b, v.l, "[", "]");
    case V_TUPLE: return repr_list(b, v.l, "(", v.l->n == 1 ? ",)" : ")");
    case V_DICT: return repr_dict(b, v.d);
    default: return repr_object(b, v);
    }
}

/* With an input string anywhere in it, the whole is input: quotes and brackets are not worth
 * telling apart. */
int sb_repr(struct sb *b, struct value v)
{
    TRY(rt_enter(b->rt));
    TRY(rt_step(b->rt, 1));
    TRY(repr_any(b, v));
    b->rt->depth--;
    return b->failed;
}

int sb_to_str(struct sb *b, struct value v)
{
    if (v.type == V_STR) {
        sb_str(b, v.s);
        return b->failed;
    }
    if (v.type == V_UNDEF)
        return b->failed;
    if (v.type != V_LIST && v.type != V_TUPLE && v.type != V_DICT && v.type != V_VIEW &&
        v.type != V_NS)
        return sb_repr(b, v);
    struct jstr *s;
    TRY(to_str(b->rt, v, &s));
    sb_str(b, s);
    return b->failed;
}

int to_str(struct rt *rt, struct value v, struct jstr **out)
{
    struct sb b;
    struct value s;
    if (v.type == V_STR) {
        *out = v.s;
        return 0;
    }
    sb_init(&b, rt);
    if (v.type != V_UNDEF)
        TRY(sb_repr(&b, v));
    sb_mark_all(&b);
    TRY(sb_finish(&b, &s));
    *out = s.s;
    return 0;
}
