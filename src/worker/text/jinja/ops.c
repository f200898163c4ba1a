/* SPDX-License-Identifier: Apache-2.0 */
/* Operators, comparison, truth and length, as Python defines them for its own types. */
#include <math.h>

#include "lib/base/mem.h"
#include "worker/text/jinja/runtime.h"

const char *type_name(struct value v)
{
    static const char *const NAMES[] = {[V_MISSING] = "missing",
                                        [V_UNDEF] = "Undefined",
                                        [V_NONE] = "NoneType",
                                        [V_BOOL] = "bool",
                                        [V_INT] = "int",
                                        [V_FLOAT] = "float",
                                        [V_LIST] = "list",
                                        [V_DICT] = "dict",
                                        [V_RANGE] = "range",
                                        [V_NS] = "Namespace",
                                        [V_LOOP] = "LoopContext",
                                        [V_MACRO] = "Macro",
                                        [V_FUNC] = "builtin_function_or_method",
                                        [V_CYCLER] = "Cycler",
                                        [V_JOINER] = "Joiner"};
    static const char *const VIEWS[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.type == V_STR)
        return v.s->is_markup ? "Markup" : "str";
    if (v.type == V_TUPLE)
        return v.l->is_group ? "_GroupTuple" : "tuple";
    if (v.type == V_VIEW)
        return VIEWS[v.view->kind];
    if (v.type == V_GEN)
        return v.gen->type_name;
    return NAMES[v.type];
}

bool is_integer(struct value v)
{
    return v.type == V_BOOL || v.type == V_INT;
}
bool is_num(struct value v)
{
    return is_integer(v) || v.type == V_FLOAT;
}
int64_t as_int(struct value v)
{
    return v.type == V_BOOL ? v.b : v.i;
}
double as_float(struct value v)
{
    return v.type == V_FLOAT ? v.f : (double)as_int(v);
}

int value_len(struct rt *rt, struct value v, int64_t *out)
{
    switch (v.type) {
    case V_UNDEF: *out = 0; return 0;
    case V_STR: *out = (int64_t)jstr_chars(v.s); return rt_charge(rt, v.s->len);
    case V_LIST:
    case V_TUPLE: *out = v.l->n; return 0;
    case V_DICT: *out = v.d->n; return 0;
    case V_VIEW: *out = v.view->d->n; return 0;
    case V_RANGE: *out = v.r->n; return 0;
    case V_LOOP: return loop_length(rt, v.loop, out);
    default: return rt_fail(rt, E_FORMAT, "object of type '%s' has no len()", type_name(v));
    }
}

int value_truth(struct rt *rt, struct value v, bool *out)
{
    int64_t n;
    switch (v.type) {
    case V_UNDEF:
    case V_NONE:
    case V_MISSING: *out = false; return 0;
    case V_BOOL: *out = v.b; return 0;
    case V_INT: *out = v.i != 0; return 0;
    case V_FLOAT: *out = v.f != 0; return 0;
    case V_STR: *out = v.s->len > 0; return 0;
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_RANGE:
    case V_LOOP:
        TRY(value_len(rt, v, &n));
        *out = n != 0;
        return 0;
    default: *out = true; return 0;
    }
}

bool value_is(struct value a, struct value b)
{
    if (a.type != b.type)
        return false;
    switch (a.type) {
    case V_NONE:
    case V_MISSING: return true;
    case V_BOOL: return a.b == b.b;
    case V_INT: return a.i == b.i;
    case V_FLOAT: return false;
    case V_STR: return a.s == b.s || str_eq(jstr_str(a.s), jstr_str(b.s));
    default: return a.p == b.p;
    }
}

static int list_eq(struct rt *rt, const struct jlist *a, const struct jlist *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++)
        TRY(value_eq(rt, a->v[i], b->v[i], out));
    return 0;
}

static int dict_eq(struct rt *rt, const struct jdict *a, const struct jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (uint32_t i = 0; *out && i < a->n; i++) {
        const struct dict_item *it;
        TRY(dict_get(rt, b, a->items[i].key, &it));
        *out = it != NULL;
        if (it)
            TRY(value_eq(rt, a->items[i].val, it->val, out));
    }
    return 0;
}

static int int_float_compare(int64_t i, double f)
{
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    int64_t t = (int64_t)f;
    if (i != t)
        return i < t ? -1 : 1;
    double rest = f - (double)t;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

/* -1, 0, 1, or 2 with a NaN. */
static int num_compare(struct value a, struct value b)
{
    if (is_integer(a) && is_integer(b))
        return as_int(a) < as_int(b) ? -1 : as_int(a) > as_int(b);
    if ((a.type == V_FLOAT && isnan(a.f)) || (b.type == V_FLOAT && isnan(b.f)))
        return 2;
    if (is_integer(a))
        return int_float_compare(as_int(a), b.f);
    if (is_integer(b))
        return -int_float_compare(as_int(b), a.f);
    return a.f < b.f ? -1 : a.f > b.f;
}

static bool range_eq(const struct jrange *a, const struct jrange *b)
{
    return a->n == b->n &&
           (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static int eq_deep(struct rt *rt, struct value a, struct value b, bool *out)
{
    switch (a.type) {
    case V_LIST:
    case V_TUPLE: return list_eq(rt, a.l, b.l, out);
    case V_DICT: return dict_eq(rt, a.d, b.d, out);
    default:
        if (a.view->kind != VIEW_VALUES && a.view->kind == b.view->kind)
            return dict_eq(rt, a.view->d, b.view->d, out);
        *out = a.view == b.view;
        return 0;
    }
}

int value_eq(struct rt *rt, struct value a, struct value b, bool *out)
{
    TRY(rt_step(rt, 1));
    if (is_num(a) && is_num(b)) {
        *out = num_compare(a, b) == 0;
        return 0;
    }
    *out = false;
    if (a.type != b.type)
        return 0;
    switch (a.type) {
    case V_STR:
        *out = str_eq(jstr_str(a.s), jstr_str(b.s));
        return *out ? rt_charge(rt, a.s->len) : 0;
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
        if (a.p == b.p) {
            *out = true;
            return 0;
        }
        TRY(rt_enter(rt));
        TRY(eq_deep(rt, a, b, out));
        rt->depth--;
        return 0;
    case V_RANGE: *out = range_eq(a.r, b.r); return 0;
    case V_UNDEF:
    case V_NONE: *out = true; return 0;
    case V_FUNC:
        *out =
            a.func == b.func || (a.func->fn == b.func->fn && value_is(a.func->self, b.func->self));
        return 0;
    default: *out = a.p == b.p; return 0;
    }
}

static int order_fail(struct rt *rt, const char *op, struct value a, struct value b)
{
    if (a.type == V_UNDEF)
        return undef_fail(rt, a);
    if (b.type == V_UNDEF)
        return undef_fail(rt, b);
    return rt_fail(rt, E_FORMAT, "'%s' not supported between instances of '%s' and '%s'", op,
                   type_name(a), type_name(b));
}

static int list_order(struct rt *rt, enum tok op, const struct jlist *a, const struct jlist *b,
                      bool *out);

static int order(struct rt *rt, enum tok op, struct value a, struct value b, bool *out)
{
    int c;
    if (is_num(a) && is_num(b)) {
        c = num_compare(a, b);
    } else if (a.type == V_STR && b.type == V_STR) {
        size_t n = MIN_OF(a.s->len, b.s->len);
        TRY(rt_charge(rt, n));
        int d = n ? memcmp(a.s->p, b.s->p, n) : 0;
        c = d < 0 ? -1 : d > 0 ? 1 : a.s->len < b.s->len ? -1 : a.s->len > b.s->len;
    } else if (a.type == b.type && (a.type == V_LIST || a.type == V_TUPLE)) {
        TRY(rt_enter(rt));
        TRY(list_order(rt, op, a.l, b.l, out));
        rt->depth--;
        return 0;
    } else {
        return order_fail(rt, tok_name(op), a, b);
    }
    *out = c != 2 && (op == T_LT ? c < 0 : op == T_LE ? c <= 0 : op == T_GT ? c > 0 : c >= 0);
    return 0;
}

static int list_order(struct rt *rt, enum tok op, const struct jlist *a, const struct jlist *b,
                      bool *out)
{
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        bool same;
        TRY(value_eq(rt, a->v[i], b->v[i], &same));
        if (!same)
            return order(rt, op, a->v[i], b->v[i], out);
    }
    return order(rt, op, value_int(a->n), value_int(b->n), out);
}

int value_order(struct rt *rt, struct value a, struct value b, bool *is_less)
{
    TRY(rt_step(rt, 1));
    return order(rt, T_LT, a, b, is_less);
}

static int range_contains(const struct jrange *r, struct value v, bool *out)
{
    *out = false;
    if (v.type == V_FLOAT && (v.f != floor(v.f) || fabs(v.f) > 9e15))
        return 0;
    int64_t i = v.type == V_FLOAT ? (int64_t)v.f : as_int(v);
    bool inside = r->step > 0 ? i >= r->start && i < r->stop : i <= r->start && i > r->stop;
    *out = inside && ((__int128)i - r->start) % r->step == 0;
    return 0;
}

int value_contains(struct rt *rt, struct value c, struct value v, bool *out)
{
    const struct dict_item *it;
    *out = false;
    if (c.type == V_STR) {
        if (v.type == V_UNDEF || v.type != V_STR)
            return rt_fail(rt, E_FORMAT, "'in <string>' requires string as left operand, not %s",
                           type_name(v));
        TRY(rt_charge(rt, c.s->len));
        *out = str_find(jstr_str(c.s), jstr_str(v.s), 0) != SIZE_MAX;
        return 0;
    }
    if (c.type == V_DICT || (c.type == V_VIEW && c.view->kind == VIEW_KEYS)) {
        TRY(dict_get(rt, c.type == V_DICT ? c.d : c.view->d, v, &it));
        *out = it != NULL;
        return 0;
    }
    if (c.type == V_RANGE && is_num(v))
        return range_contains(c.r, v, out);
    if (is_num(c) || c.type == V_NONE || c.type == V_FUNC || c.type == V_MACRO || c.type == V_NS ||
        c.type == V_JOINER || c.type == V_CYCLER)
        return rt_fail(rt, E_FORMAT, "argument of type '%s' is not iterable", type_name(c));
    struct iter walk;
    TRY(iter_init(rt, c, &walk));
    for (;;) {
        struct value item;
        bool has;
        TRY(iter_next(rt, &walk, &item, &has));
        if (!has)
            return 0;
        TRY(value_eq(rt, item, v, out));
        if (*out)
            return 0;
    }
}

int value_compare(struct rt *rt, enum tok op, struct value a, struct value b, bool *out)
{
    switch (op) {
    case T_EQ: return value_eq(rt, a, b, out);
    case T_NE:
        TRY(value_eq(rt, a, b, out));
        *out = !*out;
        return 0;
    case T_IN: return value_contains(rt, b, a, out);
    case T_NOTIN:
        TRY(value_contains(rt, b, a, out));
        *out = !*out;
        return 0;
    default: return order(rt, op, a, b, out);
    }
}

static int hash_list(struct rt *rt, const struct jlist *l, uint64_t *out)
{
    uint64_t h = 0x345678 + l->n;
    TRY(rt_enter(rt));
    for (uint32_t i = 0; i < l->n; i++) {
        uint64_t x;
        TRY(value_hash(rt, l->v[i], &x));
        h = (h ^ x) * 0x9e3779b97f4a7c15ull;
    }
    rt->depth--;
    *out = h;
    return 0;
}

int value_hash(struct rt *rt, struct value v, uint64_t *out)
{
    int64_t i = 0;
    switch (v.type) {
    case V_STR: *out = map_hash(v.s->p, v.s->len); return rt_charge(rt, v.s->len);
    case V_FLOAT:
        if (!(v.f == floor(v.f) && fabs(v.f) < 9e18)) {
            *out = map_hash(&v.f, sizeof(v.f));
            return 0;
        }
        i = (int64_t)v.f;
        break;
    case V_BOOL:
    case V_INT: i = as_int(v); break;
    case V_TUPLE: return hash_list(rt, v.l, out);
    case V_RANGE: i = v.r->n; break;
    case V_LIST:
    case V_DICT:
    case V_VIEW:
        if (v.type != V_VIEW || v.view->kind != VIEW_VALUES)
            return rt_fail(rt, E_FORMAT, "unhashable type: '%s'", type_name(v));
        /* fall through */
    default: /* by identity */
        i = v.type == V_UNDEF || v.type == V_NONE ? (int64_t)v.type : (int64_t)(uintptr_t)v.p;
    }
    *out = map_hash(&i, sizeof(i));
    return 0;
}

static int arith_fail(struct rt *rt, enum tok op, struct value a, struct value b)
{
    if (a.type == V_UNDEF)
        return undef_fail(rt, a);
    if (b.type == V_UNDEF)
        return undef_fail(rt, b);
    if (op == T_ADD && (a.type == V_STR || a.type == V_LIST || a.type == V_TUPLE))
        return rt_fail(rt, E_FORMAT, "can only concatenate %s (not \"%s\") to %s", type_name(a),
                       type_name(b), type_name(a));
    return rt_fail(rt, E_FORMAT, "unsupported operand type(s) for %s: '%s' and '%s'",
                   op == T_POW ? "** or pow()" : tok_name(op), type_name(a), type_name(b));
}

static int overflow(struct rt *rt)
{
    return rt_fail(rt, E_LIMIT, "an integer is larger than 64 bits");
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int int_pow(struct rt *rt, int64_t a, int64_t b, struct value *out)
{
    if (b < 0) {
        if (a == 0)
            return rt_fail(rt, E_FORMAT, "0.0 cannot be raised to a negative power");
        *out = value_float(pow((double)a, (double)b));
        return 0;
    }
    int64_t r = 1;
    for (; b; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(r, a, &r))
            return overflow(rt);
        if (b > 1 && __builtin_mul_overflow(a, a, &a))
            return overflow(rt);
    }
    *out = value_int(r);
    return 0;
}

static int arith_int(struct rt *rt, enum tok op, int64_t a, int64_t b, struct value *out)
{
    int64_t r = 0;
    bool bad = false;
    switch (op) {
    case T_ADD: bad = __builtin_add_overflow(a, b, &r); break;
    case T_SUB: bad = __builtin_sub_overflow(a, b, &r); break;
    case T_MUL: bad = __builtin_mul_overflow(a, b, &r); break;
    case T_POW: return int_pow(rt, a, b, out);
    case T_DIV:
        if (b == 0)
            return rt_fail(rt, E_FORMAT, "division by zero");
        *out = value_float((double)a / (double)b);
        return 0;
    default:
        if (b == 0)
            return rt_fail(rt, E_FORMAT, "integer division or modulo by zero");
        if (b == -1)
            bad = op == T_FLOORDIV && __builtin_sub_overflow(0, a, &r);
        else
            r = op == T_FLOORDIV ? floor_div(a, b) : a - b * floor_div(a, b);
    }
    if (bad)
        return overflow(rt);
    *out = value_int(r);
    return 0;
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m == 0)
        return copysign(0, b);
    return (b < 0) != (m < 0) ? m + b : m;
}

static double float_floor_div(double a, double b)
{
    double m = fmod(a, b), d = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0))
        d -= 1;
    if (d == 0)
        return copysign(0, a / b);
    double f = floor(d);
    return d - f > 0.5 ? f + 1 : f;
}

static int arith_float(struct rt *rt, enum tok op, double a, double b, struct value *out)
{
    if (b == 0 && (op == T_DIV || op == T_FLOORDIV || op == T_MOD))
        return rt_fail(rt, E_FORMAT,
                       op == T_DIV   ? "float division by zero"
                       : op == T_MOD ? "float modulo"
                                     : "float floor division by zero");
    switch (op) {
    case T_ADD: *out = value_float(a + b); break;
    case T_SUB: *out = value_float(a - b); break;
    case T_MUL: *out = value_float(a * b); break;
    case T_DIV: *out = value_float(a / b); break;
    case T_MOD: *out = value_float(float_mod(a, b)); break;
    case T_FLOORDIV: *out = value_float(float_floor_div(a, b)); break;
    default:
        if (a == 0 && b < 0)
            return rt_fail(rt, E_FORMAT, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b))
            return rt_fail(rt, E_UNSUPPORTED, "complex numbers are not supported");
        *out = value_float(pow(a, b));
        if (isinf(out->f) && !isinf(a) && !isinf(b))
            return rt_fail(rt, E_FORMAT, "a float is too large");
    }
    return 0;
}

static int repeat(struct rt *rt, struct value seq, int64_t times, struct value *out)
{
    uint64_t n = times > 0 ? (uint64_t)times : 0, total;
    if (seq.type == V_STR) {
        struct sb b;
        sb_init(&b, rt);
        if (!seq.s->n_marks) {
            sb_fill(&b, seq.s->p, seq.s->len, n, seq.s->all_input);
        } else {
            if (!size_mul(n, seq.s->len, &total) || total > LIMIT_TEMPLATE_MEMORY_BYTES)
                return rt_fail(rt, E_LIMIT, "a string needs more than %u bytes of memory",
                               LIMIT_TEMPLATE_MEMORY_BYTES);
            for (uint64_t i = 0; i < n && !b.failed; i++) {
                TRY(rt_step(rt, 1));
                sb_str(&b, seq.s);
            }
        }
        TRY(sb_finish(&b, out));
        out->s->is_markup = seq.s->is_markup;
        return 0;
    }
    if (!size_mul(n, seq.l->n, &total) ||
        total > LIMIT_TEMPLATE_MEMORY_BYTES / sizeof(struct value))
        return rt_fail(rt, E_LIMIT, "a list needs more than %u bytes of memory",
                       LIMIT_TEMPLATE_MEMORY_BYTES);
    TRY(rt_charge(rt, total * sizeof(struct value)));
    struct jlist *l = list_new(rt, total);
    if (!l)
        return -rt->err->code;
    for (uint64_t i = 0; seq.l->n && i < n; i++, l->n += seq.l->n)
        memcpy(l->v + l->n, seq.l->v, seq.l->n * sizeof(*l->v));
    *out = seq.type == V_LIST ? value_list(l) : value_tuple(l);
    return 0;
}

static int add_strings(struct rt *rt, struct value a, struct value b, struct value *out)
{
    bool markup = a.s->is_markup || b.s->is_markup;
    struct sb sb;
    if (markup && !a.s->is_markup)
        TRY(escape_html(rt, a, &a));
    if (markup && !b.s->is_markup)
        TRY(escape_html(rt, b, &b));
    sb_init(&sb, rt);
    sb_str(&sb, a.s);
    sb_str(&sb, b.s);
    TRY(sb_finish(&sb, out));
    out->s->is_markup = markup;
    return 0;
}

static int add_lists(struct rt *rt, struct value a, struct value b, struct value *out)
{
    struct jlist *l = list_new(rt, (size_t)a.l->n + b.l->n);
    if (!l)
        return -rt->err->code;
    TRY(rt_charge(rt, ((size_t)a.l->n + b.l->n) * sizeof(struct value)));
    for (uint32_t i = 0; i < a.l->n; i++)
        l->v[l->n++] = a.l->v[i];
    for (uint32_t i = 0; i < b.l->n; i++)
        l->v[l->n++] = b.l->v[i];
    *out = a.type == V_LIST ? value_list(l) : value_tuple(l);
    return 0;
}

static bool is_seq(struct value v)
{
    return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE;
}

int value_arith(struct rt *rt, enum tok op, struct value a, struct value b, struct value *out)
{
    if (is_integer(a) && is_integer(b))
        return arith_int(rt, op, as_int(a), as_int(b), out);
    if (is_num(a) && is_num(b))
        return arith_float(rt, op, as_float(a), as_float(b), out);
    if (op == T_ADD && a.type == V_STR && b.type == V_STR)
        return add_strings(rt, a, b, out);
    if (op == T_ADD && a.type == b.type && (a.type == V_LIST || a.type == V_TUPLE))
        return add_lists(rt, a, b, out);
    if (op == T_MUL && is_seq(a) && is_integer(b))
        return repeat(rt, a, as_int(b), out);
    if (op == T_MUL && is_seq(b) && is_integer(a))
        return repeat(rt, b, as_int(a), out);
    if (op == T_MOD && a.type == V_STR)
        return format_percent(rt, a.s, b, out);
    return arith_fail(rt, op, a, b);
}

int value_neg(struct rt *rt, struct value v, bool negate, struct value *out)
{
    if (v.type == V_UNDEF)
        return undef_fail(rt, v);
    if (v.type == V_FLOAT) {
        *out = value_float(negate ? -v.f : v.f);
        return 0;
    }
    if (!is_integer(v))
        return rt_fail(rt, E_FORMAT, "bad operand type for unary %c: '%s'", negate ? '-' : '+',
                       type_name(v));
    if (negate)
        return arith_int(rt, T_SUB, 0, as_int(v), out);
    *out = value_int(as_int(v));
    return 0;
}
