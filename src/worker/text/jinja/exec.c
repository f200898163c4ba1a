/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: what a template does, in order; loops, macros and blocks with their frames. */
#include "worker/text/jinja/runtime.h"

enum { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE };

struct frame *frame_new(struct rt *rt, const struct scope *s, struct frame *up)
{
    struct frame *f = rt_alloc(rt, 1, sizeof(*f));
    if (!f || (s->n && !(f->slots = rt_alloc(rt, s->n, sizeof(*f->slots)))))
        return NULL;
    f->up = up;
    f->scope = s;
    return f;
}

int rt_resolve(struct rt *rt, const struct name *name, struct value *out)
{
    bool found;
    *out = VALUE_MISSING;
    for (uint32_t i = 0; rt->n_blocks && i < rt->root->scope->n;
         i++) { /* blocks see what the template has set */
        const struct sym *y = &rt->root->scope->syms[i];
        if (y->name == name && y->is_stored && rt->root->slots[i].type != V_MISSING) {
            *out = rt->root->slots[i];
            return 0;
        }
    }
    if (!rt->is_looked_up[name->id]) {
        json_t *v = rt->opt->context
                        ? json_object_getn(rt->opt->context, name->text.p, name->text.len)
                        : NULL;
        struct value got = VALUE_MISSING;
        bool is_messages = str_is(name->text, "messages");
        if (v)
            TRY(value_from_json(rt, v, jinja_is_input_key(rt->opt->input_keys, name->text), 0,
                                is_messages, &got));
        else
            TRY(global_find(rt, name->text, &got, &found));
        rt->is_looked_up[name->id] = true;
        rt->context[name->id] = got;
    }
    *out = rt->context[name->id];
    return 0;
}

int frame_enter(struct rt *rt, struct frame *f)
{
    TRY(rt_step(rt, f->scope->n));
    for (uint32_t i = 0; i < f->scope->n; i++) {
        const struct sym *y = &f->scope->syms[i];
        struct frame *from = f;
        switch (y->load) {
        case LOAD_RESOLVE: TRY(rt_resolve(rt, y->name, &f->slots[i])); break;
        case LOAD_ALIAS:
            for (uint32_t h = 0; h < y->hops; h++)
                from = from->up;
            f->slots[i] = from->slots[y->slot];
            break;
        case LOAD_UNDEFINED: f->slots[i] = VALUE_MISSING; break;
        default: break;
        }
    }
    return 0;
}

int unpack(struct rt *rt, struct value v, uint32_t n, struct value *out)
{
    struct iter it;
    bool has = false;
    if (v.type == V_NONE || is_num(v) || v.type == V_FUNC || v.type == V_MACRO || v.type == V_NS)
        return rt_fail(rt, E_FORMAT, "cannot unpack non-iterable %s object", type_name(v));
    TRY(iter_init(rt, v, &it));
    for (uint32_t i = 0; i < n; i++) {
        TRY(iter_next(rt, &it, &out[i], &has));
        if (!has)
            return rt_fail(rt, E_FORMAT, "not enough values to unpack (expected %u, got %u)", n, i);
    }
    struct value extra;
    TRY(iter_next(rt, &it, &extra, &has));
    if (has)
        return rt_fail(rt, E_FORMAT, "too many values to unpack (expected %u)", n);
    return 0;
}

static int assign_ns(struct rt *rt, struct frame *f, const struct node *n, struct value **ret_dict)
{
    for (uint32_t i = 0; i < n->hops; i++)
        f = f->up;
    if (f->slots[n->slot].type != V_NS)
        return rt_fail(rt, E_FORMAT, "cannot assign attribute on non-namespace object");
    *ret_dict = &f->slots[n->slot];
    return 0;
}

/* Stores v where the target n says. */
static int assign(struct rt *rt, struct frame *f, const struct node *n, struct value v)
{
    if (n->kind == N_NAME) {
        for (uint32_t i = 0; i < n->hops; i++)
            f = f->up;
        f->slots[n->slot] = v;
        return 0;
    }
    if (n->kind == N_NSREF) {
        struct value *ns = NULL;
        TRY(assign_ns(rt, f, n, &ns));
        return dict_put(rt, ns->d, value_str(n->attr->s), v);
    }
    struct value *items = rt_alloc(rt, n->list.n + 1, sizeof(*items));
    if (!items)
        return -rt->err->code;
    TRY(rt_enter(rt));
    TRY(unpack(rt, v, n->list.n, items));
    for (uint32_t i = 0; i < n->list.n; i++)
        TRY(assign(rt, f, n->list.v[i], items[i]));
    rt->depth--;
    return 0;
}

/* Runs body into a string. */
static int capture(struct rt *rt, struct frame *f, struct nodes body, struct value *out, int *jump)
{
    struct sb b, *outer = rt->out;
    sb_init(&b, rt);
    rt->out = &b;
    TRY(exec_body(rt, f, body, jump));
    rt->out = outer;
    return sb_finish(&b, out);
}

int loop_peek(struct rt *rt, struct jloop *l, struct value *out, bool *has)
{
    if (!l->has_peeked && !l->is_exhausted) {
        TRY(iter_next(rt, &l->it, &l->after, &l->has_peeked));
        l->is_exhausted = !l->has_peeked;
    }
    *has = l->has_peeked;
    if (*has)
        *out = l->after;
    return 0;
}

int loop_length(struct rt *rt, struct jloop *l, int64_t *out)
{
    if (l->length < 0) {
        if (l->iterable.type != V_GEN) {
            TRY(value_len(rt, l->iterable, &l->length));
        } else { /* what is left of a generator becomes a list */
            struct jlist *rest;
            TRY(list_from(rt, l->it.src, &rest));
            l->it = (struct iter){value_list(rest), 0};
            l->is_exhausted = false;
            l->length = (int64_t)rest->n + l->index0 + 1 + l->has_peeked;
        }
    }
    *out = l->length;
    return 0;
}

int loop_next(struct rt *rt, struct jloop *l, bool *has)
{
    struct value item;
    TRY(loop_peek(rt, l, &item, has));
    if (!*has)
        return 0;
    l->has_peeked = false;
    l->index0++;
    l->before = l->current;
    l->current = item;
    return 0;
}

/* The target's variables as one value again: what a loop's `if` hands on. */
static int collect_target(struct rt *rt, struct frame *f, const struct node *n, struct value *out)
{
    if (n->kind == N_NAME) {
        *out = f->slots[n->slot];
        return 0;
    }
    struct jlist *l = list_new(rt, n->list.n);
    if (!l)
        return -rt->err->code;
    for (; l->n < n->list.n; l->n++)
        TRY(collect_target(rt, f, n->list.v[l->n], &l->v[l->n]));
    *out = value_tuple(l);
    return 0;
}

static int next_filtered(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    const struct node *n = g->fn;
    struct frame *f = (struct frame *)g->extra.p;
    for (;;) {
        struct value item, test;
        bool keep;
        TRY(iter_next(rt, &g->src, &item, has));
        if (!*has)
            return 0;
        TRY(assign(rt, f, n->a, item));
        TRY(eval(rt, f, n->c, &test));
        TRY(value_truth(rt, test, &keep));
        if (keep)
            return collect_target(rt, f, n->a, out);
    }
}

static int filtered(struct rt *rt, struct frame *up, const struct node *n, struct value iterable,
                    struct value *out)
{
    struct jgen *g = gen_new(rt, "generator", next_filtered);
    struct frame *f = frame_new(rt, n->scope2, up);
    if (!g || !f)
        return -rt->err->code;
    TRY(iter_init(rt, iterable, &g->src));
    TRY(frame_enter(rt, f));
    g->fn = n;
    g->extra.p = f;
    *out = (struct value){.type = V_GEN, .gen = g};
    return 0;
}

/* ret_ran: whether a round came to its end, which is what the else branch asks. */
static int run_rounds(struct rt *rt, struct frame *f, struct jloop *l, const struct node *n,
                      bool *ret_ran)
{
    *ret_ran = false;
    for (;;) {
        bool has;
        int jump = JUMP_NONE;
        TRY(loop_next(rt, l, &has));
        if (!has)
            return 0;
        rt->line = n->line;
        TRY(assign(rt, f, n->a, l->current));
        if (n->flag2)
            f->slots[n->slot_loop] = (struct value){.type = V_LOOP, .loop = l};
        TRY(frame_enter(rt, f));
        TRY(exec_body(rt, f, n->list, &jump));
        if (jump == JUMP_BREAK)
            return 0;
        *ret_ran |= jump == JUMP_NONE;
    }
}

static int run_loop(struct rt *rt, struct frame *up, const struct node *n, struct value iterable,
                    int64_t depth0, int *jump)
{
    struct jloop *l = rt_alloc(rt, 1, sizeof(*l));
    struct frame *f = frame_new(rt, n->scope, up);
    bool ran;
    if (!l || !f)
        return -rt->err->code;
    if (n->c)
        TRY(filtered(rt, up, n, iterable, &iterable));
    TRY(iter_init(rt, iterable, &l->it));
    l->iterable = iterable;
    l->index0 = -1;
    l->length = -1;
    l->node = n->flag ? n : NULL;
    l->up = up;
    l->depth0 = depth0;
    TRY(run_rounds(rt, f, l, n, &ran));
    for (uint32_t i = 0; i < n->scope->n && !n->flag; i++)
        f->slots[i] = VALUE_MISSING; /* a macro that outlives its loop finds nothing */
    if (ran || !n->list2.n)
        return 0;
    struct frame *other = frame_new(rt, n->scope3, up);
    if (!other)
        return -rt->err->code;
    TRY(frame_enter(rt, other));
    return exec_body(rt, other, n->list2, jump);
}

int loop_recurse(struct rt *rt, struct jloop *l, struct value iterable, struct value *out)
{
    struct sb b, *outer = rt->out;
    int jump = JUMP_NONE;
    if (++rt->n_macros > LIMIT_TEMPLATE_DEPTH)
        return rt_fail(rt, E_LIMIT, "loops recurse deeper than %u levels", LIMIT_TEMPLATE_DEPTH);
    sb_init(&b, rt);
    rt->out = &b;
    TRY(run_loop(rt, l->up, l->node, iterable, l->depth0 + 1, &jump));
    rt->out = outer;
    rt->n_macros--;
    return sb_finish(&b, out);
}

static int exec_for(struct rt *rt, struct frame *f, const struct node *n, int *jump)
{
    struct value iterable;
    TRY(eval(rt, f, n->b, &iterable));
    rt->line = n->line;
    return run_loop(rt, f, n, iterable, 0, jump);
}

static int exec_if(struct rt *rt, struct frame *f, const struct node *n, int *jump)
{
    struct value v;
    bool truth;
    TRY(eval(rt, f, n->a, &v));
    TRY(value_truth(rt, v, &truth));
    if (truth)
        return exec_body(rt, f, n->list, jump);
    for (uint32_t i = 0; i < n->list2.n; i++) {
        const struct node *e = n->list2.v[i];
        if (e->a) {
            TRY(eval(rt, f, e->a, &v));
            TRY(value_truth(rt, v, &truth));
        }
        if (!e->a || truth)
            return exec_body(rt, f, e->list, jump);
    }
    return 0;
}

static int exec_set(struct rt *rt, struct frame *f, const struct node *n)
{
    struct value v, *ns;
    if (n->a->kind == N_NSREF)
        TRY(assign_ns(rt, f, n->a, &ns));
    TRY(eval(rt, f, n->b, &v));
    return assign(rt, f, n->a, v);
}

/* What a call or filter block made: Jinja2 prints it without str(), so it has to be a string. */
static int put_result(struct rt *rt, struct value v)
{
    if (v.type != V_STR)
        return rt_fail(rt, E_FORMAT, "sequence item 0: expected str instance, %s found",
                       type_name(v));
    return sb_to_str(rt->out, v);
}

/* A block with a frame of its own: set, filter, with, generation. */
static int exec_scoped(struct rt *rt, struct frame *f, const struct node *n, int *jump)
{
    bool is_block = n->kind == N_BLOCK && !n->flag;
    struct frame *inner = frame_new(rt, n->scope, is_block ? NULL : f);
    struct value v;
    if (!inner)
        return -rt->err->code;
    rt->n_blocks += is_block;
    TRY(frame_enter(rt, inner));
    for (uint32_t i = 0; n->kind == N_WITH && i < n->list2.n; i++) {
        TRY(eval(rt, f, n->list2.v[i]->b, &v));
        TRY(assign(rt, inner, n->list2.v[i]->a, v));
    }
    if (n->kind != N_SETBLOCK && n->kind != N_FILTERBLOCK) {
        TRY(exec_body(rt, inner, n->list, jump));
        rt->n_blocks -= is_block;
        return 0;
    }
    TRY(capture(rt, inner, n->list, &v, jump));
    if (*jump)
        return 0;
    if (n->b)
        TRY(eval_filters(rt, inner, n->b, v, &v));
    return n->kind == N_SETBLOCK ? assign(rt, f, n->a, v) : put_result(rt, v);
}

static int make_macro(struct rt *rt, struct frame *f, const struct node *n, const char *name,
                      struct value *out)
{
    struct jmacro *m = rt_alloc(rt, 1, sizeof(*m));
    if (!m)
        return -rt->err->code;
    *m = (struct jmacro){n, f, name};
    *out = (struct value){.type = V_MACRO, .macro = m};
    return 0;
}

static int exec_macro(struct rt *rt, struct frame *f, const struct node *n)
{
    struct value m;
    TRY(make_macro(rt, f, n, n->name->s->p, &m));
    for (uint32_t i = 0; i < n->hops; i++)
        f = f->up;
    f->slots[n->slot] = m;
    return 0;
}

static int exec_call_block(struct rt *rt, struct frame *f, const struct node *n)
{
    struct value caller, fn, v;
    struct args args;
    TRY(make_macro(rt, f, n, NULL, &caller));
    TRY(eval(rt, f, n->b->a, &fn));
    TRY(eval_args(rt, f, n->b, &args));
    struct kwarg *kw = rt_alloc(rt, (size_t)args.n_kw + 1, sizeof(*kw));
    struct value name;
    if (!kw)
        return -rt->err->code;
    if (args.n_kw)
        memcpy(kw, args.kw, args.n_kw * sizeof(*kw));
    TRY(str_lit(rt, "caller", &name));
    kw[args.n_kw++] = (struct kwarg){name.s, caller};
    args.kw = kw;
    rt->line = n->line;
    TRY(rt_call(rt, fn, &args, &v));
    return put_result(rt, v);
}

/* The keyword argument called name, marked as used. */
static bool take_kwarg(const struct args *args, bool *used, const char *name, struct value *out)
{
    for (uint32_t i = 0; i < args->n_kw; i++)
        if (!used[i] && jstr_is(args->kw[i].name, name)) {
            used[i] = true;
            *out = args->kw[i].v;
            return true;
        }
    return false;
}

static int bind_rest(struct rt *rt, struct jmacro *m, const struct args *args, const bool *used,
                     struct frame *f)
{
    const struct node *n = m->node;
    struct jdict *kwargs = dict_new(rt);
    struct jlist *varargs = list_new(rt, 0);
    const char *name = m->name ? m->name : "anonymous";
    if (!kwargs || !varargs)
        return -rt->err->code;
    for (uint32_t i = 0; i < args->n_kw; i++) {
        if (used[i])
            continue;
        if (!n->wants_kwargs && jstr_is(args->kw[i].name, "caller"))
            return rt_fail(rt, E_FORMAT,
                           "macro '%s' was invoked with two values for the special caller argument",
                           name);
        if (!n->wants_kwargs)
            return rt_fail(rt, E_FORMAT, "macro '%s' takes no keyword argument '%.*s'", name,
                           STR_ARG(jstr_str(args->kw[i].name)));
        TRY(dict_put(rt, kwargs, value_str(args->kw[i].name), args->kw[i].v));
    }
    for (uint32_t i = n->list.n; i < args->n; i++)
        TRY(list_push(rt, varargs, args->v[i]));
    if (varargs->n && !n->wants_varargs)
        return rt_fail(rt, E_FORMAT, "macro '%s' takes not more than %u argument(s)", name,
                       n->list.n);
    if (n->wants_kwargs)
        f->slots[n->slot_kwargs] = value_dict(kwargs);
    if (n->wants_varargs)
        f->slots[n->slot_varargs] = value_tuple(varargs);
    return 0;
}

static int bind_macro(struct rt *rt, struct jmacro *m, const struct args *args, struct frame *f)
{
    const struct node *n = m->node;
    bool has_caller = false;
    bool *used = rt_alloc(rt, args->n_kw + 1, sizeof(*used));
    if (!used)
        return -rt->err->code;
    for (uint32_t i = 0; i < n->list.n; i++) {
        struct value *slot = &f->slots[n->list.v[i]->slot];
        bool is_caller = str_is(n->list.v[i]->name->text, "caller");
        has_caller |= is_caller;
        *slot = VALUE_MISSING;
        if (i < args->n)
            *slot = args->v[i];
        else
            take_kwarg(args, used, n->list.v[i]->name->s->p, slot);
    }
    if (n->flag2 && !has_caller) {
        struct value *slot = &f->slots[n->slot_caller];
        if (!take_kwarg(args, used, "caller", slot) || slot->type == V_NONE)
            TRY(value_undef(rt, "No caller defined", slot));
    }
    TRY(bind_rest(rt, m, args, used, f));
    TRY(frame_enter(rt, f));
    for (uint32_t i = 0; i < n->list.n; i++) {
        struct value *slot = &f->slots[n->list.v[i]->slot];
        uint32_t first_default = n->list.n - n->list2.n;
        if (slot->type != V_MISSING)
            continue;
        if (i >= first_default)
            TRY(eval(rt, f, n->list2.v[i - first_default], slot));
        else
            TRY(value_undef(rt, "a parameter of a macro was not provided", slot));
    }
    return 0;
}

int macro_call(struct rt *rt, struct jmacro *m, const struct args *args, struct value *out)
{
    struct frame *f = frame_new(rt, m->node->scope, m->env);
    uint32_t line = rt->line;
    int jump = JUMP_NONE;
    if (!f)
        return -rt->err->code;
    if (++rt->n_macros > LIMIT_TEMPLATE_DEPTH)
        return rt_fail(rt, E_LIMIT, "macros call each other deeper than %u levels",
                       LIMIT_TEMPLATE_DEPTH);
    TRY(bind_macro(rt, m, args, f));
    TRY(capture(rt, f, m->node->a->list, out, &jump));
    rt->n_macros--;
    rt->line = line;
    return 0;
}

static int print(struct rt *rt, struct frame *f, const struct node *n)
{
    for (uint32_t i = 0; i < n->list.n; i++) {
        struct value v;
        TRY(eval(rt, f, n->list.v[i], &v));
        TRY(sb_to_str(rt->out, v));
    }
    return 0;
}

static int exec(struct rt *rt, struct frame *f, const struct node *n, int *jump)
{
    rt->line = n->line;
    switch (n->kind) {
    case N_TEXT:
        sb_str(rt->out, n->v.s);
        TRY(rt_charge(rt, n->v.s->len));
        return rt->out->failed;
    case N_PRINT: return print(rt, f, n);
    case N_IF: return exec_if(rt, f, n, jump);
    case N_FOR: return exec_for(rt, f, n, jump);
    case N_SET: return exec_set(rt, f, n);
    case N_MACRO: return exec_macro(rt, f, n);
    case N_CALLBLOCK: return exec_call_block(rt, f, n);
    case N_SETBLOCK:
    case N_FILTERBLOCK:
    case N_WITH:
    case N_SCOPED:
    case N_BLOCK: return exec_scoped(rt, f, n, jump);
    case N_BREAK:
    case N_CONTINUE: *jump = n->kind == N_BREAK ? JUMP_BREAK : JUMP_CONTINUE; return 0;
    default: return rt_fail(rt, E_INTERNAL, "node %d is no statement", (int)n->kind);
    }
}

int exec_body(struct rt *rt, struct frame *f, struct nodes body, int *jump)
{
    TRY(rt_enter(rt));
    for (uint32_t i = 0; i < body.n && !*jump; i++) {
        TRY(rt_step(rt, 1));
        TRY(exec(rt, f, body.v[i], jump));
        if (rt->out->len > LIMIT_TEMPLATE_OUTPUT_BYTES)
            return rt_fail(rt, E_LIMIT, "the output is larger than %u bytes",
                           LIMIT_TEMPLATE_OUTPUT_BYTES);
    }
    rt->depth--;
    return 0;
}
