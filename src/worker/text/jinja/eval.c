/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions: a tree and a frame to a value.  Also the accounts every part pays into: steps,
 * depth, memory. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/mem.h"
#include "worker/text/jinja/runtime.h"

int rt_fail(struct rt *rt, enum err_code code, const char *fmt, ...)
{
    char msg[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return err_set(rt->err, code, "line %u: %s", rt->line, msg);
}

int rt_step(struct rt *rt, uint64_t n)
{
    rt->steps += n;
    if (LIKELY(rt->steps <= LIMIT_TEMPLATE_STEPS))
        return 0;
    return rt_fail(rt, E_LIMIT, "the template takes more than %u steps", LIMIT_TEMPLATE_STEPS);
}

int rt_charge(struct rt *rt, size_t n_bytes)
{
    return rt_step(rt, n_bytes / STEP_BYTES);
}

void *rt_alloc(struct rt *rt, size_t n, size_t size)
{
    uint64_t total;
    if (!size_mul(n, size, &total) || total > LIMIT_TEMPLATE_MEMORY_BYTES) {
        rt_fail(rt, E_LIMIT, "the template needs more than %u bytes of memory",
                LIMIT_TEMPLATE_MEMORY_BYTES);
        return NULL;
    }
    return arena_try_alloc(&rt->arena, total, rt->err);
}

int rt_enter(struct rt *rt)
{
    if (++rt->depth > JINJA_EVAL_DEPTH)
        return rt_fail(rt, E_LIMIT, "the template nests deeper than %u evaluations",
                       JINJA_EVAL_DEPTH);
    return rt_step(rt, 1);
}

static int eval_list(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct jlist *l = list_new(rt, n->list.n);
    if (!l)
        return -rt->err->code;
    for (; l->n < n->list.n; l->n++)
        TRY(eval(rt, f, n->list.v[l->n], &l->v[l->n]));
    *out = n->kind == N_TUPLE ? value_tuple(l) : value_list(l);
    return 0;
}

static int eval_dict(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct jdict *d = dict_new(rt);
    if (!d)
        return -rt->err->code;
    for (uint32_t i = 0; i < n->list.n; i++) {
        struct value k, v;
        TRY(eval(rt, f, n->list.v[i], &k));
        TRY(eval(rt, f, n->list2.v[i], &v));
        TRY(dict_put(rt, d, k, v));
    }
    *out = value_dict(d);
    return 0;
}

static int eval_concat(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct sb b;
    sb_init(&b, rt);
    for (uint32_t i = 0; i < n->list.n; i++) {
        struct value v;
        TRY(eval(rt, f, n->list.v[i], &v));
        TRY(sb_to_str(&b, v));
    }
    return sb_finish(&b, out);
}

static bool is_plain_str(struct value v)
{
    return v.type == V_STR && !v.s->is_markup;
}

/* a + b + c …: strings are gathered in one buffer instead of one new string a sign. */
static int eval_sum(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    uint32_t n_terms = 1;
    for (const struct node *m = n; m->kind == N_BIN && m->op == T_ADD; m = m->a)
        n_terms++;
    const struct node **terms = rt_alloc(rt, n_terms, sizeof(const struct node *));
    if (!terms)
        return -rt->err->code;
    uint32_t i = n_terms;
    for (; i > 1; n = n->a)
        terms[--i] = n->b;
    terms[0] = n;
    struct sb b;
    bool building = false;
    TRY(eval(rt, f, terms[0], out));
    for (i = 1; i < n_terms; i++) {
        struct value v;
        TRY(eval(rt, f, terms[i], &v));
        if (is_plain_str(v) && (building || is_plain_str(*out))) {
            if (!building) {
                sb_init(&b, rt);
                sb_str(&b, out->s);
            }
            building = true;
            sb_str(&b, v.s);
            continue;
        }
        if (building)
            TRY(sb_finish(&b, out));
        building = false;
        TRY(value_arith(rt, T_ADD, *out, v, out));
    }
    return building ? sb_finish(&b, out) : 0;
}

static int eval_binary(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value a, b;
    TRY(eval(rt, f, n->a, &a));
    TRY(eval(rt, f, n->b, &b));
    return value_arith(rt, n->op, a, b, out);
}

static int eval_logic(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    bool truth;
    TRY(eval(rt, f, n->a, out));
    TRY(value_truth(rt, *out, &truth));
    if (n->kind == N_NOT) {
        *out = value_bool(!truth);
        return 0;
    }
    return truth == (n->kind == N_AND) ? eval(rt, f, n->b, out) : 0;
}

/* a < b < c: each operand once, stopping at the first false. */
static int eval_compare(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value a, b;
    bool r = true;
    TRY(eval(rt, f, n->a, &a));
    for (uint32_t i = 0; r && i < n->list.n; i++) {
        TRY(eval(rt, f, n->list.v[i]->a, &b));
        TRY(value_compare(rt, n->list.v[i]->op, a, b, &r));
        a = b;
    }
    *out = value_bool(r);
    return 0;
}

static int eval_cond(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value v;
    bool truth;
    TRY(eval(rt, f, n->a, &v));
    TRY(value_truth(rt, v, &truth));
    if (truth)
        return eval(rt, f, n->b, out);
    if (n->c)
        return eval(rt, f, n->c, out);
    return value_undef(
        rt, "the inline if-expression evaluated to false and no else section was defined.", out);
}

static int eval_item(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value obj, key;
    TRY(eval(rt, f, n->a, &obj));
    if (n->b->kind == N_SLICE) {
        const struct node *part[] = {n->b->a, n->b->b, n->b->c};
        struct value v[3];
        for (int i = 0; i < 3; i++) {
            v[i] = VALUE_NONE;
            if (part[i])
                TRY(eval(rt, f, part[i], &v[i]));
        }
        rt->line = n->line;
        return value_slice(rt, obj, v, out);
    }
    TRY(eval(rt, f, n->b, &key));
    rt->line = n->line;
    return value_item(rt, obj, key, out);
}

static int push_dyn_kwargs(struct rt *rt, struct value v, struct args *a, uint32_t n_static)
{
    if (v.type != V_DICT)
        return v.type == V_UNDEF
                   ? undef_fail(rt, v)
                   : rt_fail(rt, E_FORMAT, "argument after ** must be a mapping, not %s",
                             type_name(v));
    struct kwarg *kw = rt_alloc(rt, (size_t)n_static + v.d->n, sizeof(*kw));
    if (!kw)
        return -rt->err->code;
    if (n_static)
        memcpy(kw, a->kw, n_static * sizeof(*kw));
    a->kw = kw;
    for (uint32_t i = 0; i < v.d->n; i++) {
        if (v.d->items[i].key.type != V_STR)
            return rt_fail(rt, E_FORMAT, "keywords must be strings");
        for (uint32_t k = 0; k < n_static; k++)
            if (str_eq(jstr_str(kw[k].name), jstr_str(v.d->items[i].key.s)))
                return rt_fail(rt, E_FORMAT, "got multiple values for a keyword argument");
        kw[a->n_kw++] = (struct kwarg){v.d->items[i].key.s, v.d->items[i].val};
    }
    return 0;
}

int eval_args(struct rt *rt, struct frame *f, const struct node *n, struct args *out)
{
    struct jlist *l = NULL;
    struct value v;
    *out = (struct args){NULL, 0, NULL, 0};
    if (n->list.n || n->dyn_args) {
        l = list_new(rt, n->list.n);
        if (!l)
            return -rt->err->code;
        for (; l->n < n->list.n; l->n++)
            TRY(eval(rt, f, n->list.v[l->n], &l->v[l->n]));
    }
    if (n->n_kw && !(out->kw = rt_alloc(rt, n->n_kw, sizeof(*out->kw))))
        return -rt->err->code;
    for (; out->n_kw < n->n_kw; out->n_kw++) {
        out->kw[out->n_kw].name = n->kw[out->n_kw].name->s;
        TRY(eval(rt, f, n->kw[out->n_kw].value, &out->kw[out->n_kw].v));
    }
    if (n->dyn_args) {
        struct jlist *more;
        TRY(eval(rt, f, n->dyn_args, &v));
        TRY(list_from(rt, v, &more));
        for (uint32_t i = 0; i < more->n; i++)
            TRY(list_push(rt, l, more->v[i]));
    }
    if (n->dyn_kwargs) {
        TRY(eval(rt, f, n->dyn_kwargs, &v));
        TRY(push_dyn_kwargs(rt, v, out, out->n_kw));
    }
    if (l) {
        out->v = l->v;
        out->n = l->n;
    }
    return 0;
}

static int call_loop(struct rt *rt, struct jloop *l, const struct args *args, struct value *out)
{
    struct value v;
    TRY(bind_args(rt, "loop", "iterable", args, &v));
    if (!l->node)
        return rt_fail(rt, E_FORMAT,
                       "The loop must have the 'recursive' marker to be called recursively.");
    return loop_recurse(rt, l, v, out);
}

int rt_call(struct rt *rt, struct value fn, const struct args *args, struct value *out)
{
    switch (fn.type) {
    case V_UNDEF: return undef_fail(rt, fn);
    case V_FUNC: return fn.func->fn(rt, fn.func->self, args, out);
    case V_MACRO: return macro_call(rt, fn.macro, args, out);
    case V_LOOP: return call_loop(rt, fn.loop, args, out);
    case V_JOINER:
        if (fn.joiner->used) {
            *out = fn.joiner->sep;
            return 0;
        }
        fn.joiner->used = true;
        return str_lit(rt, "", out);
    default: return rt_fail(rt, E_FORMAT, "'%s' object is not callable", type_name(fn));
    }
}

static int eval_call(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value fn;
    struct args args;
    TRY(eval(rt, f, n->a, &fn));
    TRY(eval_args(rt, f, n, &args));
    rt->line = n->line;
    return rt_call(rt, fn, &args, out);
}

static int eval_filter(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value in = rt->filter_in;
    struct args args;
    const struct filter *filter = n->fn;
    if (n->a)
        TRY(eval(rt, f, n->a, &in));
    TRY(eval_args(rt, f, n, &args));
    rt->line = n->line;
    if (!filter)
        return rt_fail(rt, E_FORMAT, "No filter named '%.*s' found.", STR_ARG(n->name->text));
    return filter->fn(rt, in, &args, out);
}

int eval_filters(struct rt *rt, struct frame *f, const struct node *n, struct value in,
                 struct value *out)
{
    rt->filter_in = in;
    return eval(rt, f, n, out);
}

static int eval_test(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value in;
    struct args args;
    const struct jinja_test *test = n->fn;
    bool r = false;
    TRY(eval(rt, f, n->a, &in));
    TRY(eval_args(rt, f, n, &args));
    rt->line = n->line;
    if (!test)
        return rt_fail(rt, E_FORMAT, "No test named '%.*s' found.", STR_ARG(n->name->text));
    TRY(test->fn(rt, in, &args, &r));
    *out = value_bool(r);
    return 0;
}

static int eval_name(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    for (uint32_t i = 0; i < n->hops; i++)
        f = f->up;
    *out = f->slots[n->slot];
    return out->type == V_MISSING ? value_undef_name(rt, n->name, out) : 0;
}

static int eval_inner(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    struct value v;
    switch (n->kind) {
    case N_TUPLE:
    case N_LIST: return eval_list(rt, f, n, out);
    case N_DICT: return eval_dict(rt, f, n, out);
    case N_CONCAT: return eval_concat(rt, f, n, out);
    case N_BIN: return n->op == T_ADD ? eval_sum(rt, f, n, out) : eval_binary(rt, f, n, out);
    case N_NEG:
    case N_POS: TRY(eval(rt, f, n->a, &v)); return value_neg(rt, v, n->kind == N_NEG, out);
    case N_NOT:
    case N_AND:
    case N_OR: return eval_logic(rt, f, n, out);
    case N_COMPARE: return eval_compare(rt, f, n, out);
    case N_COND: return eval_cond(rt, f, n, out);
    case N_ATTR:
        TRY(eval(rt, f, n->a, &v));
        rt->line = n->line;
        return value_attr(rt, v, n->name->s, out);
    case N_ITEM: return eval_item(rt, f, n, out);
    case N_CALL: return eval_call(rt, f, n, out);
    case N_FILTER: return eval_filter(rt, f, n, out);
    case N_TEST: return eval_test(rt, f, n, out);
    default: return rt_fail(rt, E_INTERNAL, "node %d is no expression", (int)n->kind);
    }
}

int eval(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    if (n->kind == N_CONST) {
        *out = n->v;
        return rt_step(rt, 1);
    }
    if (n->kind == N_NAME) {
        TRY(rt_step(rt, 1));
        return eval_name(rt, f, n, out);
    }
    TRY(rt_enter(rt));
    TRY(eval_inner(rt, f, n, out));
    rt->depth--;
    return 0;
}
