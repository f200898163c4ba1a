/* SPDX-License-Identifier: Apache-2.0 */
/* Where every name lives: Jinja's scoping, worked out before anything runs.
 *
 * The template, each loop, macro, call, filter, set and with block is a scope with numbered slots;
 * `if` is none.  A name stored in a scope starts as a copy of the outer scope's variable, or
 * undefined; one stored in some branches of an `if` only falls back to the outer or the context's
 * value.  A name only read refers to the nearest scope that knows it, or else to the context as it
 * was when the scope was entered.  (Jinja2 documentation, "Scoping Behavior"; the exact order of
 * events is that of Jinja2 3.1's idtracking.)  Called by jinja_compile only. */
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/runtime.h"

struct resolver {
    struct jinja *j;
    struct err *err;
    uint32_t stamp;
    uint32_t n_for; /* enclosing loops */
    bool ok;
};

static void *take(struct resolver *r, size_t n, size_t size)
{
    void *p = r->ok ? arena_try_alloc(&r->j->arena, n * size, r->err) : NULL;
    if (!p)
        r->ok = false;
    return p;
}

static struct scope *scope_new(struct resolver *r, struct scope *parent)
{
    struct scope *s = take(r, 1, sizeof(*s));
    if (s)
        s->parent = parent;
    return s;
}

static uint32_t index_start(const struct scope *s, const struct name *name)
{
    return (name->id * 2654435761u) & (s->n_index - 1);
}

/* The sym of name, whether it has a reference or not; UINT32_MAX for none. */
static uint32_t sym_find(const struct scope *s, const struct name *name)
{
    if (!s->n_index)
        return UINT32_MAX;
    for (uint32_t i = index_start(s, name); s->index[i]; i = (i + 1) & (s->n_index - 1))
        if (s->syms[s->index[i] - 1].name == name)
            return s->index[i] - 1;
    return UINT32_MAX;
}

static bool scope_grow(struct resolver *r, struct scope *s)
{
    uint32_t cap = s->cap ? s->cap * 2 : 8;
    struct sym *v = take(r, cap, sizeof(*v));
    uint32_t *index = take(r, (size_t)cap * 2, sizeof(*index));
    if (!v || !index)
        return false;
    if (s->n)
        memcpy(v, s->syms, s->n * sizeof(*v));
    s->syms = v;
    s->cap = cap;
    s->index = index;
    s->n_index = cap * 2;
    for (uint32_t k = 0; k < s->n; k++) {
        uint32_t i = index_start(s, v[k].name);
        while (index[i])
            i = (i + 1) & (s->n_index - 1);
        index[i] = k + 1;
    }
    return true;
}

static uint32_t sym_take(struct resolver *r, struct scope *s, struct name *name)
{
    uint32_t k = sym_find(s, name);
    if (k != UINT32_MAX)
        return k;
    if (s->n == s->cap && !scope_grow(r, s))
        return UINT32_MAX;
    s->syms[s->n] = (struct sym){.name = name};
    uint32_t i = index_start(s, name);
    while (s->index[i])
        i = (i + 1) & (s->n_index - 1);
    s->index[i] = s->n + 1;
    return s->n++;
}

/* The sym, about to change: what it was is kept for the end of the branch. */
static struct sym *sym_change(struct resolver *r, struct scope *s, uint32_t k)
{
    if (k == UINT32_MAX)
        return NULL;
    if (s->n_journal == s->cap_journal) {
        uint32_t cap = s->cap_journal ? s->cap_journal * 2 : 16;
        struct sym_change *v = take(r, cap, sizeof(*v));
        if (!v)
            return NULL;
        if (s->n_journal)
            memcpy(v, s->journal, s->n_journal * sizeof(*v));
        s->journal = v;
        s->cap_journal = cap;
    }
    s->journal[s->n_journal++] = (struct sym_change){k, s->syms[k]};
    return &s->syms[k];
}

/* The nearest scope from s on that knows name. */
static bool find_ref(const struct scope *s, const struct name *name, uint32_t *hops, uint32_t *slot)
{
    *hops = 0;
    for (; s; s = s->parent, (*hops)++) {
        *slot = sym_find(s, name);
        if (*slot != UINT32_MAX && s->syms[*slot].has_ref)
            return true;
    }
    return false;
}

static void define(struct resolver *r, struct scope *s, struct name *name, enum load_kind load,
                   bool is_store)
{
    struct sym *y = sym_change(r, s, sym_take(r, s, name));
    if (!y)
        return;
    y->has_ref = true;
    y->load = load;
    y->is_stored |= is_store;
}

static void set_outer_load(struct scope *s, struct sym *y, enum load_kind otherwise)
{
    uint32_t hops, slot;
    y->load = otherwise;
    if (s->parent && find_ref(s->parent, y->name, &hops, &slot)) {
        y->load = LOAD_ALIAS;
        y->hops = hops + 1;
        y->slot = slot;
    }
}

static void store(struct resolver *r, struct scope *s, struct name *name)
{
    struct sym *y = sym_change(r, s, sym_take(r, s, name));
    if (!y)
        return;
    y->is_stored = true;
    if (!y->has_ref) {
        y->has_ref = true;
        set_outer_load(s, y, LOAD_UNDEFINED);
    }
}

static void load(struct resolver *r, struct scope *s, struct name *name)
{
    uint32_t hops, slot;
    name->is_read = true;
    if (!find_ref(s, name, &hops, &slot))
        define(r, s, name, LOAD_RESOLVE, false);
}

static void analyse(struct resolver *r, struct scope *s, struct node *n);

static void analyse_all(struct resolver *r, struct scope *s, struct nodes l)
{
    for (uint32_t i = 0; i < l.n && r->ok; i++)
        analyse(r, s, l.v[i]);
}

/* What a branch did, to be done again once all branches are known. */
struct delta {
    struct sym_change *v;
    uint32_t n;
};

static struct delta end_branch(struct resolver *r, struct scope *s, uint32_t mark)
{
    struct delta d = {take(r, s->n_journal - mark + 1, sizeof(*d.v)), 0};
    r->stamp++;
    for (uint32_t i = mark; d.v && i < s->n_journal; i++) {
        struct sym *y = &s->syms[s->journal[i].sym];
        if (y->stamp == r->stamp)
            continue;
        y->stamp = r->stamp;
        d.v[d.n++] = (struct sym_change){s->journal[i].sym, *y};
    }
    while (s->n_journal > mark) {
        struct sym_change *c = &s->journal[--s->n_journal];
        uint32_t stamp = s->syms[c->sym].stamp;
        s->syms[c->sym] = c->before;
        s->syms[c->sym].stamp = stamp;
    }
    return d;
}

static void analyse_if(struct resolver *r, struct scope *s, struct node *n)
{
    struct delta d[3];
    analyse(r, s, n->a);
    for (int branch = 0; branch < 3; branch++) {
        uint32_t mark = s->n_journal;
        if (branch == 0)
            analyse_all(r, s, n->list);
        for (uint32_t i = 0; branch && i < n->list2.n && r->ok; i++) {
            struct node *e = n->list2.v[i];
            struct node alone = {.kind = N_IF, .a = e->a, .list = e->list};
            if (branch == 1 && e->a)
                analyse_if(r, s, &alone);
            else if (branch == 2 && !e->a)
                analyse_all(r, s, e->list);
        }
        d[branch] = end_branch(r, s, mark);
    }
    for (int branch = 0; branch < 3; branch++)
        for (uint32_t i = 0; r->ok && i < d[branch].n; i++) {
            struct sym *y = &s->syms[d[branch].v[i].sym];
            y->n_branches += d[branch].v[i].before.is_stored && !y->is_stored;
        }
    for (int branch = 0; branch < 3; branch++)
        for (uint32_t i = 0; r->ok && i < d[branch].n; i++) {
            struct sym_change *c = &d[branch].v[i];
            struct sym *y = sym_change(r, s, c->sym);
            if (!y)
                return;
            uint32_t n_branches = y->n_branches;
            bool was_stored = y->is_stored;
            *y = c->before;
            y->is_stored |= was_stored;
            y->n_branches = n_branches;
        }
    for (int branch = 0; branch < 3; branch++)
        for (uint32_t i = 0; r->ok && i < d[branch].n; i++) {
            struct sym *y = &s->syms[d[branch].v[i].sym];
            if (y->n_branches && y->n_branches != 3)
                set_outer_load(s, y, LOAD_RESOLVE);
            y->n_branches = 0;
        }
}

static void analyse_expr(struct resolver *r, struct scope *s, struct node *n)
{
    struct node *one[] = {n->a, n->b, n->c};
    for (size_t i = 0; i < ARRAY_LEN(one); i++)
        if (one[i])
            analyse(r, s, one[i]);
    analyse_all(r, s, n->list);
    analyse_all(r, s, n->list2);
    for (uint32_t i = 0; i < n->n_kw; i++)
        analyse(r, s, n->kw[i].value);
    if (n->dyn_args)
        analyse(r, s, n->dyn_args);
    if (n->dyn_kwargs)
        analyse(r, s, n->dyn_kwargs);
}

static void analyse(struct resolver *r, struct scope *s, struct node *n)
{
    if (!r->ok || !n)
        return;
    switch (n->kind) {
    case N_NAME:
        if (n->ctx == CTX_PARAM)
            define(r, s, n->name, LOAD_PARAM, true);
        else if (n->ctx == CTX_STORE)
            store(r, s, n->name);
        else
            load(r, s, n->name);
        break;
    case N_NSREF: load(r, s, n->name); break;
    case N_IF: analyse_if(r, s, n); break;
    case N_MACRO: store(r, s, n->name); break;
    case N_SET:
        analyse(r, s, n->b);
        analyse(r, s, n->a);
        break;
    case N_SETBLOCK: analyse(r, s, n->a); break;
    case N_FOR:
    case N_CALLBLOCK:
    case N_FILTERBLOCK: analyse(r, s, n->b); break;
    case N_WITH:
        for (uint32_t i = 0; i < n->list2.n; i++)
            analyse(r, s, n->list2.v[i]->b);
        break;
    case N_SCOPED:
    case N_BLOCK:
    case N_TEXT:
    case N_CONST:
    case N_BREAK:
    case N_CONTINUE: break;
    default: analyse_expr(r, s, n);
    }
}

/* Names of a loop's or with's target belong to the inner scope. */
static void declare_target(struct resolver *r, struct scope *s, struct node *n)
{
    if (n->kind == N_NAME)
        define(r, s, n->name, LOAD_PARAM, true);
    for (uint32_t i = 0; n->kind == N_TUPLE && i < n->list.n; i++)
        declare_target(r, s, n->list.v[i]);
}

/* Whether a name is read below before it is stored: 0 not seen, 1 read, 2 stored first. */
static int first_use(const struct node *n, const char *name);

static int first_use_all(struct nodes l, const char *name)
{
    int u = 0;
    for (uint32_t i = 0; i < l.n && !u; i++)
        u = first_use(l.v[i], name);
    return u;
}

static int first_use(const struct node *n, const char *name)
{
    if (!n || n->kind == N_BLOCK)
        return 0;
    if (n->kind == N_NAME)
        return !str_is(n->name->text, name) ? 0 : n->ctx == CTX_LOAD ? 1 : 2;
    bool is_macro = n->kind == N_MACRO || n->kind == N_CALLBLOCK; /* whose body comes last */
    int u = is_macro ? 0 : first_use(n->a, name);
    if (!u)
        u = first_use(n->b, name);
    if (!u)
        u = first_use(n->c, name);
    if (!u)
        u = first_use_all(n->list, name);
    if (!u)
        u = first_use_all(n->list2, name);
    for (uint32_t i = 0; i < n->n_kw && !u; i++)
        u = first_use(n->kw[i].value, name);
    if (!u)
        u = first_use(n->dyn_args, name);
    if (!u)
        u = first_use(n->dyn_kwargs, name);
    if (!u && is_macro)
        u = first_use(n->a, name);
    return u;
}

static void resolve(struct resolver *r, struct scope *s, struct node *n, bool soft);

static void resolve_all(struct resolver *r, struct scope *s, struct nodes l, bool soft)
{
    for (uint32_t i = 0; i < l.n && r->ok; i++)
        resolve(r, s, l.v[i], soft);
}

static struct name *known_name(struct resolver *r, const char *s)
{
    struct name *n = r->ok ? jinja_name(r->j, str_from(s), r->err) : NULL;
    r->ok = n != NULL;
    return n;
}

static uint32_t declare_special(struct resolver *r, struct scope *s, const char *text)
{
    struct name *name = known_name(r, text);
    if (!name)
        return 0;
    define(r, s, name, LOAD_PARAM, true);
    return sym_find(s, name);
}

static void resolve_for(struct resolver *r, struct scope *s, struct node *n, bool soft)
{
    resolve(r, s, n->b, soft);
    r->n_for++;
    n->scope = scope_new(r, s);
    if (!r->ok)
        return;
    declare_target(r, n->scope, n->a);
    for (uint32_t i = 0; i < n->list.n && !n->flag2; i++)
        n->flag2 = first_use(n->list.v[i], "loop") == 1;
    n->flag2 |= n->flag;
    if (n->flag2)
        n->slot_loop = declare_special(r, n->scope, "loop");
    analyse_all(r, n->scope, n->list);
    if (n->c) {
        n->scope2 = scope_new(r, s);
        if (!r->ok)
            return;
        declare_target(r, n->scope2, n->a);
        analyse(r, n->scope2, n->c);
        resolve(r, n->scope2, n->c, false);
    }
    resolve(r, n->scope, n->a, false);
    resolve_all(r, n->scope, n->list, false);
    r->n_for--;
    if (n->list2.n && r->ok && (n->scope3 = scope_new(r, s))) {
        analyse_all(r, n->scope3, n->list2);
        resolve_all(r, n->scope3, n->list2, false);
    }
}

static bool has_param(const struct node *n, const char *name, uint32_t *pos)
{
    for (*pos = 0; *pos < n->list.n; (*pos)++)
        if (str_is(n->list.v[*pos]->name->text, name))
            return true;
    return false;
}

/* Of a macro or a call block: n->a is its body. */
static void resolve_macro(struct resolver *r, struct scope *s, struct node *n)
{
    uint32_t pos;
    n->scope = scope_new(r, s);
    if (!r->ok)
        return;
    analyse_all(r, n->scope, n->list);
    analyse_all(r, n->scope, n->list2);
    analyse_all(r, n->scope, n->a->list);
    if (first_use_all(n->a->list, "caller") == 1) {
        n->flag2 = true;
        if (!has_param(n, "caller", &pos)) {
            n->slot_caller = declare_special(r, n->scope, "caller");
        } else if (pos + n->list2.n < n->list.n) {
            r->ok = false;
            err_set(r->err, E_FORMAT, "line %u: the special parameter 'caller' must have a default",
                    n->line);
        }
    }
    n->wants_kwargs = first_use_all(n->a->list, "kwargs") == 1 && !has_param(n, "kwargs", &pos);
    n->wants_varargs = first_use_all(n->a->list, "varargs") == 1 && !has_param(n, "varargs", &pos);
    if (n->wants_kwargs)
        n->slot_kwargs = declare_special(r, n->scope, "kwargs");
    if (n->wants_varargs)
        n->slot_varargs = declare_special(r, n->scope, "varargs");
    resolve_all(r, n->scope, n->list, false);
    resolve_all(r, n->scope, n->list2, false);
    resolve_all(r, n->scope, n->a->list, false);
}

/* A block with a scope of its own and nothing else: its statements are n->list. */
static void resolve_scoped(struct resolver *r, struct scope *s, struct node *n)
{
    n->scope = scope_new(r, n->kind == N_BLOCK && !n->flag ? NULL : s);
    if (!r->ok)
        return;
    if (n->kind == N_WITH)
        for (uint32_t i = 0; i < n->list2.n; i++)
            declare_target(r, n->scope, n->list2.v[i]->a);
    analyse_all(r, n->scope, n->list);
    if (n->kind == N_FILTERBLOCK || n->kind == N_SETBLOCK) {
        analyse(r, n->scope, n->b);
        if (n->b)
            resolve(r, n->scope, n->b, false);
    }
    for (uint32_t i = 0; n->kind == N_WITH && i < n->list2.n; i++)
        resolve(r, n->scope, n->list2.v[i]->a, false);
    resolve_all(r, n->scope, n->list, false);
}

static void resolve_name(struct resolver *r, struct scope *s, struct node *n, struct name *name)
{
    if (str_is(name->text, "self") && n->ctx == CTX_LOAD && n->kind == N_NAME) {
        r->ok = false;
        err_set(r->err, E_FORMAT, "line %u: 'self' (a template's own blocks) is not supported",
                n->line);
        return;
    }
    if (n->ctx == CTX_STORE && n->kind == N_NAME && r->n_for && str_is(name->text, "loop")) {
        r->ok = false;
        err_set(r->err, E_FORMAT, "line %u: can't assign to special loop variable in for-loop",
                n->line);
        return;
    }
    if (!find_ref(s, name, &n->hops, &n->slot)) {
        r->ok = false;
        err_set(r->err, E_INTERNAL, "line %u: the name '%.*s' has no place", n->line,
                STR_ARG(name->text));
    }
}

static void resolve_filter(struct resolver *r, struct node *n, bool soft)
{
    bool is_filter = n->kind == N_FILTER;
    n->fn = is_filter ? (const void *)jinja_find_filter(n->name->text)
                      : (const void *)jinja_find_test(n->name->text);
    if (n->fn || soft)
        return;
    r->ok = false;
    err_set(r->err, E_FORMAT, "line %u: No %s named '%.*s'", n->line, is_filter ? "filter" : "test",
            STR_ARG(n->name->text));
}

static void resolve_expr(struct resolver *r, struct scope *s, struct node *n, bool soft)
{
    struct node *one[] = {n->a, n->b, n->c, n->dyn_args, n->dyn_kwargs};
    for (size_t i = 0; i < ARRAY_LEN(one) && r->ok; i++)
        if (one[i])
            resolve(r, s, one[i], soft);
    resolve_all(r, s, n->list, soft);
    resolve_all(r, s, n->list2, soft);
    for (uint32_t i = 0; i < n->n_kw && r->ok; i++)
        resolve(r, s, n->kw[i].value, soft);
}

/* soft: inside an `if`, where an unknown filter is an error only when reached. */
static void resolve(struct resolver *r, struct scope *s, struct node *n, bool soft)
{
    if (!r->ok)
        return;
    switch (n->kind) {
    case N_NAME:
    case N_NSREF: resolve_name(r, s, n, n->name); break;
    case N_FOR: resolve_for(r, s, n, soft); break;
    case N_MACRO:
        resolve_name(r, s, n, n->name);
        resolve_macro(r, s, n);
        break;
    case N_CALLBLOCK:
        resolve_macro(r, s, n);
        if (r->ok)
            resolve(r, s, n->b, soft);
        break;
    case N_WITH:
        for (uint32_t i = 0; i < n->list2.n && r->ok; i++)
            resolve(r, s, n->list2.v[i]->b, soft);
        resolve_scoped(r, s, n);
        break;
    case N_SETBLOCK:
        resolve(r, s, n->a, soft);
        resolve_scoped(r, s, n);
        break;
    case N_FILTERBLOCK:
    case N_SCOPED:
    case N_BLOCK: resolve_scoped(r, s, n); break;
    case N_FILTER:
    case N_TEST:
        resolve_filter(r, n, soft);
        resolve_expr(r, s, n, soft);
        break;
    case N_IF:
    case N_COND: resolve_expr(r, s, n, true); break;
    default: resolve_expr(r, s, n, soft);
    }
}

int jinja_resolve(struct jinja *j, struct err *err)
{
    struct resolver r = {.j = j, .err = err, .ok = true};
    j->root = scope_new(&r, NULL);
    if (r.ok)
        analyse_all(&r, j->root, j->body);
    resolve_all(&r, j->root, j->body, false);
    return r.ok ? 0 : -err->code;
}
