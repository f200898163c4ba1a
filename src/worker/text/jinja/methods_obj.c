/* SPDX-License-Identifier: Apache-2.0 */
/* Methods of lists, tuples, dicts, numbers, ranges, loops and cyclers.
 *
 * NULL marks what Jinja2's ImmutableSandboxedEnvironment forbids.  list.pop and list.clear change
 * the list: Jinja2 3.1.2 lets them through. */
#include <math.h>

#include "worker/text/jinja/runtime.h"

static int seq_index(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v[3];
    int64_t from, to;
    TRY(bind_args(rt, "index", "value |start stop", args, v));
    TRY(arg_int(rt, "index", v[1], 0, &from));
    TRY(arg_int(rt, "index", v[2], INT64_MAX, &to));
    int64_t n = self.l->n;
    from = from < 0 ? MAX_OF(from + n, 0) : from;
    to = to < 0 ? to + n : MIN_OF(to, n);
    for (int64_t i = from; i < to; i++) {
        bool same;
        TRY(value_eq(rt, self.l->v[i], v[0], &same));
        if (same) {
            *out = value_int(i);
            return 0;
        }
    }
    return rt_fail(rt, E_FORMAT, "value is not in %s", type_name(self));
}

static int seq_count(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    int64_t n = 0;
    TRY(bind_args(rt, "count", "value", args, &v));
    for (uint32_t i = 0; i < self.l->n; i++) {
        bool same;
        TRY(value_eq(rt, self.l->v[i], v, &same));
        n += same;
    }
    *out = value_int(n);
    return 0;
}

static int list_copy(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jlist *l;
    TRY(bind_args(rt, "copy", "", args, none));
    TRY(list_from(rt, self, &l));
    *out = value_list(l);
    return 0;
}

static int list_pop(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    int64_t i;
    struct jlist *l = self.l;
    TRY(bind_args(rt, "pop", "|index", args, &v));
    TRY(arg_int(rt, "pop", v, -1, &i));
    if (i < 0)
        i += l->n;
    if (l->n == 0 || i < 0 || i >= l->n)
        return rt_fail(rt, E_FORMAT, l->n ? "pop index out of range" : "pop from empty list");
    TRY(rt_charge(rt, (l->n - (size_t)i) * sizeof(struct value)));
    *out = l->v[i];
    memmove(&l->v[i], &l->v[i + 1], (l->n - (size_t)i - 1) * sizeof(struct value));
    l->n--;
    return 0;
}

static int list_clear(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "clear", "", args, none));
    self.l->n = 0;
    *out = VALUE_NONE;
    return 0;
}

static int dict_get_(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v[2];
    const struct dict_item *it;
    if (args->n_kw)
        return rt_fail(rt, E_FORMAT, "dict.get() takes no keyword arguments");
    TRY(bind_args(rt, "get", "key |default", args, v));
    TRY(dict_get(rt, self.d, v[0], &it));
    *out = it ? it->val : v[1].type == V_MISSING ? VALUE_NONE : v[1];
    return 0;
}

static int view(struct rt *rt, struct value self, const struct args *args, enum view_kind kind,
                struct value *out)
{
    struct value none[1];
    struct jview *v = rt_alloc(rt, 1, sizeof(*v));
    if (!v)
        return -rt->err->code;
    TRY(bind_args(rt, "dict method", "", args, none));
    *v = (struct jview){kind, self.d};
    *out = (struct value){.type = V_VIEW, .view = v};
    return 0;
}
static int dict_keys(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return view(rt, self, args, VIEW_KEYS, out);
}
static int dict_values(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return view(rt, self, args, VIEW_VALUES, out);
}
static int dict_items(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return view(rt, self, args, VIEW_ITEMS, out);
}

static int dict_copy(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value none[1];
    struct jdict *d = dict_new(rt);
    if (!d)
        return -rt->err->code;
    TRY(bind_args(rt, "copy", "", args, none));
    for (uint32_t i = 0; i < self.d->n; i++)
        TRY(dict_put(rt, d, self.d->items[i].key, self.d->items[i].val));
    *out = value_dict(d);
    return 0;
}

static int dict_fromkeys(struct rt *rt, struct value self, const struct args *args,
                         struct value *out)
{
    struct value v[2];
    struct jlist *keys;
    struct jdict *d = dict_new(rt);
    (void)self;
    if (!d)
        return -rt->err->code;
    TRY(bind_args(rt, "fromkeys", "iterable |value", args, v));
    TRY(list_from(rt, v[0], &keys));
    for (uint32_t i = 0; i < keys->n; i++)
        TRY(dict_put(rt, d, keys->v[i], v[1].type == V_MISSING ? VALUE_NONE : v[1]));
    *out = value_dict(d);
    return 0;
}

static int num_is_integer(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "is_integer", "", args, none));
    if (self.type != V_FLOAT)
        return rt_fail(rt, E_FORMAT, "'%s' object has no attribute 'is_integer'", type_name(self));
    *out = value_bool(self.f == floor(self.f) && !isinf(self.f));
    return 0;
}

static int num_bit_length(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "bit_length", "", args, none));
    if (self.type == V_FLOAT)
        return rt_fail(rt, E_FORMAT, "'float' object has no attribute 'bit_length'");
    int64_t i = as_int(self), n = 0;
    for (uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; u; u >>= 1)
        n++;
    *out = value_int(n);
    return 0;
}

static int range_index(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    bool has = false;
    TRY(bind_args(rt, "index", "value", args, &v));
    if (is_integer(v))
        TRY(value_contains(rt, self, v, &has));
    if (!has)
        return rt_fail(rt, E_FORMAT, "value is not in range");
    *out = value_int((as_int(v) - self.r->start) / self.r->step);
    return 0;
}
static int range_count(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    bool has;
    TRY(bind_args(rt, "count", "value", args, &v));
    TRY(value_contains(rt, self, v, &has));
    *out = value_int(has);
    return 0;
}

static int loop_cycle(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    if (args->n_kw)
        return rt_fail(rt, E_FORMAT, "cycle() got an unexpected keyword argument");
    if (!args->n)
        return rt_fail(rt, E_FORMAT, "no items for cycling given");
    *out = args->v[self.loop->index0 % args->n];
    return 0;
}

static int loop_changed(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    struct jlist *l = list_new(rt, args->n);
    bool same = false;
    if (!l)
        return -rt->err->code;
    for (; l->n < args->n; l->n++)
        l->v[l->n] = args->v[l->n];
    if (self.loop->last_changed.type == V_TUPLE)
        TRY(value_eq(rt, self.loop->last_changed, value_tuple(l), &same));
    if (!same)
        self.loop->last_changed = value_tuple(l);
    *out = value_bool(!same);
    return 0;
}

static int cycler_next(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "next", "", args, none));
    *out = self.cycler->items->v[self.cycler->pos];
    self.cycler->pos = (self.cycler->pos + 1) % self.cycler->items->n;
    return 0;
}
static int cycler_reset(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "reset", "", args, none));
    self.cycler->pos = 0;
    *out = VALUE_NONE;
    return 0;
}

const struct method LIST_METHODS[] = {
    {"append", NULL},    {"extend", NULL},  {"insert", NULL},      {"remove", NULL},
    {"reverse", NULL},   {"sort", NULL},    {"index", seq_index},  {"count", seq_count},
    {"copy", list_copy}, {"pop", list_pop}, {"clear", list_clear}, {NULL, NULL},
};
const struct method TUPLE_METHODS[] = {{"index", seq_index}, {"count", seq_count}, {NULL, NULL}};
const struct method DICT_METHODS[] = {
    {"get", dict_get_},  {"items", dict_items},       {"keys", dict_keys}, {"values", dict_values},
    {"copy", dict_copy}, {"fromkeys", dict_fromkeys}, {"clear", NULL},     {"pop", NULL},
    {"popitem", NULL},   {"setdefault", NULL},        {"update", NULL},    {NULL, NULL},
};
const struct method NUM_METHODS[] = {
    {"is_integer", num_is_integer}, {"bit_length", num_bit_length}, {NULL, NULL}};
const struct method RANGE_METHODS[] = {
    {"index", range_index}, {"count", range_count}, {NULL, NULL}};
const struct method LOOP_METHODS[] = {
    {"cycle", loop_cycle}, {"changed", loop_changed}, {NULL, NULL}};
const struct method CYCLER_METHODS[] = {
    {"next", cycler_next}, {"reset", cycler_reset}, {NULL, NULL}};
