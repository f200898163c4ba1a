/* SPDX-License-Identifier: Apache-2.0 */
/* Filters over sequences: map, select, sort, unique, join, batch and their like.  Those that Jinja2
 * writes as generators are lazy here too: they do nothing until walked, can be walked once, and
 * have no length. */
#include "worker/text/jinja/runtime.h"

static int lower_key(struct rt *rt, struct value *v)
{
    struct sb b;
    if (v->type != V_STR)
        return 0;
    TRY(rt_charge(rt, v->s->len));
    sb_init(&b, rt);
    sb_case(&b, v->s, 0, v->s->len, CASE_LOWER);
    return sb_finish(&b, v);
}

/* Merge sort of positions: stable, and an incomparable pair is an error. */
static int merge_sort(struct rt *rt, const struct value *keys, bool reverse, uint32_t *pos,
                      uint32_t *tmp, uint32_t n)
{
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t lo = 0; lo < n; lo += 2 * width) {
            uint32_t mid = MIN_OF(lo + width, n), hi = MIN_OF(lo + 2 * width, n), a = lo, b = mid;
            for (uint32_t k = lo; k < hi; k++) {
                bool take_b = false;
                if (a < mid && b < hi) {
                    struct value x = keys[pos[reverse ? a : b]], y = keys[pos[reverse ? b : a]];
                    TRY(value_order(rt, x, y, &take_b));
                }
                tmp[k] = a == mid || (b < hi && take_b) ? pos[b++] : pos[a++];
            }
        }
        memcpy(pos, tmp, n * sizeof(*pos));
        if (width > UINT32_MAX / 4)
            break;
    }
    return 0;
}

int sort_values(struct rt *rt, const struct jlist *keys, bool reverse, uint32_t **ret_pos)
{
    uint32_t *pos = rt_alloc(rt, keys->n + 1, sizeof(*pos)),
             *tmp = rt_alloc(rt, keys->n + 1, sizeof(*tmp));
    if (!pos || !tmp)
        return -rt->err->code;
    for (uint32_t i = 0; i < keys->n; i++)
        pos[i] = i;
    TRY(merge_sort(rt, keys->v, reverse, pos, tmp, keys->n));
    *ret_pos = pos;
    return 0;
}

/* The key of an item under attribute= and case_sensitive=. */
static int item_key(struct rt *rt, struct value item, struct value attribute, bool case_sensitive,
                    struct value dflt, struct value *out)
{
    TRY(value_path(rt, item, attribute, dflt, out));
    return case_sensitive ? 0 : lower_key(rt, out);
}

/* attribute="a,b": a list of keys; without a comma also a list, of one. */
static int multi_key(struct rt *rt, struct value item, struct value attribute, bool case_sensitive,
                     struct value *out)
{
    struct jlist *l = list_new(rt, 1);
    struct value k, part;
    if (!l)
        return -rt->err->code;
    if (attribute.type != V_STR) {
        TRY(item_key(rt, item, attribute, case_sensitive, VALUE_MISSING, &k));
        TRY(list_push(rt, l, k));
    } else {
        for (size_t from = 0; from <= attribute.s->len;) {
            const char *comma = memchr(attribute.s->p + from, ',', attribute.s->len - from);
            size_t to = comma ? (size_t)(comma - attribute.s->p) : attribute.s->len;
            TRY(str_sub(rt, attribute.s, from, to, &part));
            TRY(item_key(rt, item, part, case_sensitive, VALUE_MISSING, &k));
            TRY(list_push(rt, l, k));
            from = to + 1;
        }
    }
    *out = value_list(l);
    return 0;
}

static int apply_order(struct rt *rt, const struct jlist *items, const struct jlist *keys,
                       bool reverse, struct value *out)
{
    uint32_t *pos;
    struct jlist *l = list_new(rt, items->n);
    if (!l)
        return -rt->err->code;
    TRY(sort_values(rt, keys, reverse, &pos));
    for (; l->n < items->n; l->n++)
        l->v[l->n] = items->v[pos[l->n]];
    *out = value_list(l);
    return 0;
}

static int filter_sort(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[3];
    bool reverse, sensitive;
    struct jlist *items, *keys;
    TRY(bind_args(rt, "sort", "|reverse case_sensitive attribute", args, v));
    TRY(arg_bool(rt, v[0], false, &reverse));
    TRY(arg_bool(rt, v[1], false, &sensitive));
    TRY(list_from(rt, in, &items));
    if (!(keys = list_new(rt, items->n)))
        return -rt->err->code;
    for (; keys->n < items->n; keys->n++)
        TRY(multi_key(rt, items->v[keys->n], v[2], sensitive, &keys->v[keys->n]));
    return apply_order(rt, items, keys, reverse, out);
}

static int filter_dictsort(struct rt *rt, struct value in, const struct args *args,
                           struct value *out)
{
    struct value v[3], view;
    bool sensitive, reverse, by_value = false;
    struct jlist *items, *keys;
    TRY(bind_args(rt, "dictsort", "|case_sensitive by reverse", args, v));
    TRY(arg_bool(rt, v[0], false, &sensitive));
    TRY(arg_bool(rt, v[2], false, &reverse));
    if (v[1].type != V_MISSING) {
        by_value = v[1].type == V_STR && jstr_is(v[1].s, "value");
        if (!by_value && !(v[1].type == V_STR && jstr_is(v[1].s, "key")))
            return rt_fail(rt, E_FORMAT, "You can only sort by either \"key\" or \"value\"");
    }
    if (in.type != V_DICT)
        return in.type == V_UNDEF
                   ? undef_fail(rt, in)
                   : rt_fail(rt, E_FORMAT, "'%s' object has no attribute 'items'", type_name(in));
    struct jview items_view = {VIEW_ITEMS, in.d};
    view = (struct value){.type = V_VIEW, .view = &items_view};
    TRY(list_from(rt, view, &items));
    if (!(keys = list_new(rt, items->n)))
        return -rt->err->code;
    for (; keys->n < items->n; keys->n++) {
        keys->v[keys->n] = items->v[keys->n].l->v[by_value];
        if (!sensitive)
            TRY(lower_key(rt, &keys->v[keys->n]));
    }
    return apply_order(rt, items, keys, reverse, out);
}

static int min_or_max(struct rt *rt, const char *name, struct value in, const struct args *args,
                      bool max, struct value *out)
{
    struct value v[2], best = VALUE_MISSING;
    bool sensitive;
    struct jlist *items;
    TRY(bind_args(rt, name, "|case_sensitive attribute", args, v));
    TRY(arg_bool(rt, v[0], false, &sensitive));
    TRY(list_from(rt, in, &items));
    if (!items->n)
        return value_undef(rt, "No aggregated item, sequence was empty.", out);
    for (uint32_t i = 0; i < items->n; i++) {
        struct value k;
        bool better = i == 0;
        TRY(item_key(rt, items->v[i], v[1], sensitive, VALUE_MISSING, &k));
        if (i)
            TRY(max ? value_order(rt, best, k, &better) : value_order(rt, k, best, &better));
        if (better) {
            best = k;
            *out = items->v[i];
        }
    }
    return 0;
}
static int filter_min(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return min_or_max(rt, "min", in, args, false, out);
}
static int filter_max(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return min_or_max(rt, "max", in, args, true, out);
}

static int filter_sum(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    struct iter it;
    TRY(bind_args(rt, "sum", "|attribute start", args, v));
    *out = v[1].type == V_MISSING ? value_int(0) : v[1];
    if (out->type == V_STR)
        return rt_fail(rt, E_FORMAT, "sum() can't sum strings [use ''.join(seq) instead]");
    TRY(iter_init(rt, in, &it));
    for (;;) {
        struct value item;
        bool has;
        TRY(iter_next(rt, &it, &item, &has));
        if (!has)
            return 0;
        TRY(value_path(rt, item, v[0], VALUE_MISSING, &item));
        TRY(value_arith(rt, T_ADD, *out, item, out));
    }
}

static int filter_join(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    struct jstr *sep = NULL;
    struct iter it;
    struct sb b;
    TRY(bind_args(rt, "join", "|d attribute", args, v));
    if (v[0].type != V_MISSING)
        TRY(to_str(rt, v[0], &sep));
    TRY(iter_init(rt, in, &it));
    sb_init(&b, rt);
    for (bool first = true;; first = false) {
        struct value item;
        bool has;
        TRY(iter_next(rt, &it, &item, &has));
        if (!has)
            return sb_finish(&b, out);
        TRY(value_path(rt, item, v[1], VALUE_MISSING, &item));
        if (!first && sep)
            sb_str(&b, sep);
        TRY(sb_to_str(&b, item));
    }
}

static int filter_first(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct iter it;
    bool has;
    TRY(bind_args(rt, "first", "", args, none));
    TRY(iter_init(rt, in, &it));
    TRY(iter_next(rt, &it, out, &has));
    return has ? 0 : value_undef(rt, "No first item, sequence was empty.", out);
}

static bool is_reversible(struct value v)
{
    return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE || v.type == V_DICT ||
           v.type == V_VIEW || v.type == V_RANGE || v.type == V_UNDEF;
}

static int filter_last(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jlist *l;
    TRY(bind_args(rt, "last", "", args, none));
    if (!is_reversible(in))
        return rt_fail(rt, E_FORMAT, "'%s' object is not reversible", type_name(in));
    if (in.type == V_STR && in.s->len)
        return value_item(rt, in, value_int(-1), out);
    TRY(list_from(rt, in, &l));
    if (!l->n)
        return value_undef(rt, "No last item, sequence was empty.", out);
    *out = l->v[l->n - 1];
    return 0;
}

static int filter_list(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jlist *l;
    TRY(bind_args(rt, "list", "", args, none));
    TRY(list_from(rt, in, &l));
    *out = value_list(l);
    return 0;
}

static int filter_length(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    int64_t n;
    TRY(bind_args(rt, "len", "", args, none));
    TRY(value_len(rt, in, &n));
    *out = value_int(n);
    return 0;
}

static int next_of_list(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    return iter_next(rt, &g->src, out, has);
}

static int gen_of(struct rt *rt, const char *type, struct value list, struct value *out)
{
    struct jgen *g = gen_new(rt, type, next_of_list);
    if (!g)
        return -rt->err->code;
    g->src = (struct iter){list, 0};
    *out = (struct value){.type = V_GEN, .gen = g};
    return 0;
}

static int filter_reverse(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    struct value none[1];
    struct value back[3] = {VALUE_NONE, VALUE_NONE, value_int(-1)};
    struct jlist *l;
    TRY(bind_args(rt, "reverse", "", args, none));
    if (in.type == V_STR)
        return value_slice(rt, in, back, out);
    if (!is_reversible(in) && in.type != V_GEN && in.type != V_LOOP)
        return rt_fail(rt, E_FORMAT, "argument must be iterable");
    TRY(list_from(rt, in, &l));
    TRY(value_slice(rt, value_list(l), back, out));
    return is_reversible(in) ? gen_of(rt, "list_reverseiterator", *out, out) : 0;
}

/* Jinja2 complains when the generator is walked, not before. */
static int next_no_items(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    (void)g, (void)out, (void)has;
    return rt_fail(rt, E_FORMAT, "Can only get item pairs from a mapping.");
}

static int filter_items(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jview *view = rt_alloc(rt, 1, sizeof(*view));
    struct jlist *empty = list_new(rt, 0);
    if (!view || !empty)
        return -rt->err->code;
    TRY(bind_args(rt, "items", "", args, none));
    if (in.type == V_UNDEF)
        return gen_of(rt, "generator", value_list(empty), out);
    if (in.type != V_DICT) {
        TRY(gen_of(rt, "generator", VALUE_NONE, out));
        out->gen->next = next_no_items;
        return 0;
    }
    *view = (struct jview){VIEW_ITEMS, in.d};
    return gen_of(rt, "generator", (struct value){.type = V_VIEW, .view = view}, out);
}

/* Generators over another sequence: src is opened at the first step, as Python's generators do. */
static int lazy(struct rt *rt, int (*next)(struct rt *, struct jgen *, struct value *, bool *),
                struct value in, const struct args *args, struct value *out)
{
    struct jgen *g = gen_new(rt, "generator", next);
    struct args *a = rt_alloc(rt, 1, sizeof(*a));
    if (!g || !a)
        return -rt->err->code;
    *a = *args;
    g->args = a;
    g->extra = in;
    *out = (struct value){.type = V_GEN, .gen = g};
    return 0;
}

/* Opens g->src; *has is false when `if value:` fails. */
static int lazy_open(struct rt *rt, struct jgen *g, bool check_truth, bool *has)
{
    *has = true;
    if (g->pos++)
        return 0;
    if (check_truth)
        TRY(value_truth(rt, g->extra, has));
    return *has ? iter_init(rt, g->extra, &g->src) : 0;
}

static int next_map(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    const struct args *a = g->args;
    struct value item, v[2];
    TRY(lazy_open(rt, g, true, has));
    if (!*has)
        return 0;
    if (!a->n && (a->n_kw == 0 || a->n_kw > 2))
        return rt_fail(rt, E_FORMAT, "map requires a filter argument");
    TRY(iter_next(rt, &g->src, &item, has));
    if (!*has)
        return 0;
    if (!a->n) {
        TRY(bind_args(rt, "map", "attribute |default", a, v));
        return value_path(rt, item, v[0], v[1], out);
    }
    const struct filter *f = a->v[0].type == V_STR ? jinja_find_filter(jstr_str(a->v[0].s)) : NULL;
    if (!f)
        return rt_fail(rt, E_FORMAT, "No filter named '%.*s'.",
                       STR_ARG(a->v[0].type == V_STR ? jstr_str(a->v[0].s) : STR_LIT("?")));
    struct args rest = {a->v + 1, a->n - 1, a->kw, a->n_kw};
    return f->fn(rt, item, &rest, out);
}

static int keep_item(struct rt *rt, struct jgen *g, struct value item, bool *keep)
{
    const struct args *a = g->args;
    uint32_t off = g->flag; /* …attr: the first argument is the attribute */
    if (off)
        TRY(value_path(rt, item, a->v[0], VALUE_MISSING, &item));
    if (a->n <= off) {
        TRY(value_truth(rt, item, keep));
    } else {
        const struct jinja_test *t =
            a->v[off].type == V_STR ? jinja_find_test(jstr_str(a->v[off].s)) : NULL;
        struct args rest = {a->v + off + 1, a->n - off - 1, a->kw, a->n_kw};
        if (!t)
            return rt_fail(rt, E_FORMAT, "No test named '%.*s'.",
                           STR_ARG(a->v[off].type == V_STR ? jstr_str(a->v[off].s) : STR_LIT("?")));
        TRY(t->fn(rt, item, &rest, keep));
    }
    *keep ^= g->flag2;
    return 0;
}

static int next_select(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    TRY(lazy_open(rt, g, true, has));
    if (*has && g->flag && !g->args->n)
        return rt_fail(rt, E_FORMAT, "Missing parameter for attribute name");
    while (*has) {
        bool keep;
        TRY(iter_next(rt, &g->src, out, has));
        if (!*has)
            break;
        TRY(keep_item(rt, g, *out, &keep));
        if (keep)
            break;
    }
    return 0;
}

static int filter_map(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return lazy(rt, next_map, in, args, out);
}
static int select_any(struct rt *rt, struct value in, const struct args *args, bool attr,
                      bool reject, struct value *out)
{
    TRY(lazy(rt, next_select, in, args, out));
    out->gen->flag = attr;
    out->gen->flag2 = reject;
    return 0;
}
static int filter_select(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return select_any(rt, in, args, false, false, out);
}
static int filter_reject(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    return select_any(rt, in, args, false, true, out);
}
static int filter_selectattr(struct rt *rt, struct value in, const struct args *args,
                             struct value *out)
{
    return select_any(rt, in, args, true, false, out);
}
static int filter_rejectattr(struct rt *rt, struct value in, const struct args *args,
                             struct value *out)
{
    return select_any(rt, in, args, true, true, out);
}

/* unique: what was seen is a dict kept in args' place. */
static int next_unique(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    struct value v[2], key;
    bool sensitive;
    TRY(lazy_open(rt, g, false, has));
    TRY(bind_args(rt, "unique", "|case_sensitive attribute", g->args, v));
    TRY(arg_bool(rt, v[0], false, &sensitive));
    if (!g->fn && !(g->fn = dict_new(rt)))
        return -rt->err->code;
    struct jdict *seen = (struct jdict *)(uintptr_t)g->fn;
    for (;;) {
        const struct dict_item *old;
        TRY(iter_next(rt, &g->src, out, has));
        if (!*has)
            return 0;
        TRY(item_key(rt, *out, v[1], sensitive, VALUE_MISSING, &key));
        TRY(dict_get(rt, seen, key, &old));
        if (!old)
            return dict_put(rt, seen, key, VALUE_NONE);
    }
}
static int filter_unique(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    TRY(bind_args(rt, "unique", "|case_sensitive attribute", args, v));
    return lazy(rt, next_unique, in, args, out);
}

static int next_batch(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    struct value v[2], item;
    int64_t size;
    struct jlist *l = list_new(rt, 0);
    if (!l)
        return -rt->err->code;
    TRY(lazy_open(rt, g, false, has));
    TRY(bind_args(rt, "batch", "linecount |fill_with", g->args, v));
    TRY(arg_int(rt, "batch", v[0], 0, &size));
    while (size <= 0 || l->n < size) {
        TRY(iter_next(rt, &g->src, &item, has));
        if (!*has)
            break;
        TRY(list_push(rt, l, item));
    }
    *has = l->n > 0;
    while (*has && l->n < size && v[1].type != V_MISSING && v[1].type != V_NONE) {
        TRY(rt_step(rt, 1));
        TRY(list_push(rt, l, v[1]));
    }
    *out = value_list(l);
    return 0;
}
static int filter_batch(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    TRY(bind_args(rt, "batch", "linecount |fill_with", args, v));
    return lazy(rt, next_batch, in, args, out);
}

static int next_slice(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    struct value v[2];
    struct jlist *items, *l;
    int64_t n;
    TRY(bind_args(rt, "slice", "slices |fill_with", g->args, v));
    TRY(arg_int(rt, "slice", v[0], 0, &n));
    if (!g->pos) {
        TRY(list_from(rt, g->extra, &items));
        g->extra = value_list(items);
        if (n == 0)
            return rt_fail(rt, E_FORMAT, "integer division or modulo by zero");
    }
    int64_t k = g->pos++, per = n ? g->extra.l->n / n : 0, more = n ? g->extra.l->n % n : 0;
    *has = k < n;
    if (!*has)
        return 0;
    int64_t from = k * per + MIN_OF(k, more), to = (k + 1) * per + MIN_OF(k + 1, more);
    if (!(l = list_new(rt, 0)))
        return -rt->err->code;
    for (int64_t i = from; i < to; i++)
        TRY(list_push(rt, l, g->extra.l->v[i]));
    if (v[1].type != V_MISSING && v[1].type != V_NONE && k >= more)
        TRY(list_push(rt, l, v[1]));
    *out = value_list(l);
    return 0;
}
static int filter_slice(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    TRY(bind_args(rt, "slice", "slices |fill_with", args, v));
    return lazy(rt, next_slice, in, args, out);
}

static int filter_groupby(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    struct value v[3], raw, order;
    bool sensitive;
    struct jlist *items, *keys, *groups = list_new(rt, 0), *group = NULL;
    uint32_t *pos;
    TRY(bind_args(rt, "groupby", "attribute |default case_sensitive", args, v));
    TRY(arg_bool(rt, v[2], false, &sensitive));
    TRY(list_from(rt, in, &items));
    keys = list_new(rt, items->n);
    if (!groups || !keys)
        return -rt->err->code;
    for (; keys->n < items->n; keys->n++)
        TRY(item_key(rt, items->v[keys->n], v[0], sensitive, v[1], &keys->v[keys->n]));
    TRY(sort_values(rt, keys, false, &pos));
    for (uint32_t i = 0; i < items->n; i++) {
        bool same = false;
        if (i)
            TRY(value_eq(rt, keys->v[pos[i - 1]], keys->v[pos[i]], &same));
        if (!same) {
            struct jlist *pair = list_new(rt, 2);
            if (!pair || !(group = list_new(rt, 0)))
                return -rt->err->code;
            TRY(item_key(rt, items->v[pos[i]], v[0], true, v[1], &raw));
            pair->v[0] = raw;
            pair->v[1] = value_list(group);
            pair->n = 2;
            pair->is_group = true;
            order = value_tuple(pair);
            TRY(list_push(rt, groups, order));
        }
        TRY(list_push(rt, group, items->v[pos[i]]));
    }
    *out = value_list(groups);
    return 0;
}

static int filter_attr(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v;
    struct jstr *name;
    bool found, is_unsafe;
    TRY(bind_args(rt, "attr", "name", args, &v));
    TRY(arg_str(rt, "attr", v, &name));
    if (in.type == V_UNDEF)
        return undef_fail(rt, in);
    TRY(py_attr(rt, in, jstr_str(name), out, &found, &is_unsafe));
    return found && !is_unsafe ? 0 : value_undef_of(rt, in, v, is_unsafe, out);
}

static int filter_default(struct rt *rt, struct value in, const struct args *args,
                          struct value *out)
{
    struct value v[2];
    bool boolean, truth = true;
    TRY(bind_args(rt, "default", "|default_value boolean", args, v));
    TRY(arg_bool(rt, v[1], false, &boolean));
    if (boolean)
        TRY(value_truth(rt, in, &truth));
    *out = in;
    if (in.type != V_UNDEF && truth)
        return 0;
    *out = v[0];
    return v[0].type == V_MISSING ? str_lit(rt, "", out) : 0;
}

static int filter_random(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    (void)in, (void)args, (void)out;
    return rt_fail(rt, E_UNSUPPORTED,
                   "the filter 'random' is refused: a prompt must be repeatable");
}

const struct filter FILTERS_SEQ[] = {
    {"tojson", filter_tojson},
    {"length", filter_length},
    {"count", filter_length},
    {"items", filter_items},
    {"join", filter_join},
    {"list", filter_list},
    {"default", filter_default},
    {"d", filter_default},
    {"first", filter_first},
    {"last", filter_last},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"dictsort", filter_dictsort},
    {"sort", filter_sort},
    {"unique", filter_unique},
    {"reverse", filter_reverse},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"batch", filter_batch},
    {"slice", filter_slice},
    {"groupby", filter_groupby},
    {"attr", filter_attr},
    {"random", filter_random},
    {NULL, NULL},
};
