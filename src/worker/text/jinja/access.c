/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes, subscripts and slices: obj.name, obj[key], obj[a:b:c], under the sandbox's rules. */
#include <stdlib.h>

#include "worker/text/jinja/runtime.h"

static const struct method *methods_of(struct value v)
{
    static const struct method NONE[] = {{NULL, NULL}};
    switch (v.type) {
    case V_STR: return STR_METHODS;
    case V_LIST: return LIST_METHODS;
    case V_TUPLE: return TUPLE_METHODS;
    case V_DICT: return DICT_METHODS;
    case V_BOOL:
    case V_INT:
    case V_FLOAT: return NUM_METHODS;
    case V_RANGE: return RANGE_METHODS;
    case V_LOOP: return LOOP_METHODS;
    case V_CYCLER: return CYCLER_METHODS;
    default: return NONE;
    }
}

static int bind_method(struct rt *rt, const struct method *m, struct value self, struct value *out)
{
    struct jfunc *f = rt_alloc(rt, 1, sizeof(*f));
    if (!f)
        return -rt->err->code;
    *f = (struct jfunc){m->name, m->fn, self};
    *out = (struct value){.type = V_FUNC, .func = f};
    return 0;
}

static int loop_attr(struct rt *rt, struct jloop *l, struct str name, struct value *out,
                     bool *found)
{
    int64_t n;
    bool has;
    *found = true;
    if (str_is(name, "index") || str_is(name, "index0")) {
        *out = value_int(l->index0 + (name.len == 5));
    } else if (str_is(name, "first")) {
        *out = value_bool(l->index0 == 0);
    } else if (str_is(name, "last")) {
        TRY(loop_peek(rt, l, out, &has));
        *out = value_bool(!has);
    } else if (str_is(name, "length") || str_is(name, "revindex") || str_is(name, "revindex0")) {
        TRY(loop_length(rt, l, &n));
        *out = value_int(name.len == 6 ? n : name.len == 8 ? n - l->index0 : n - l->index0 - 1);
    } else if (str_is(name, "previtem")) {
        if (l->index0 == 0)
            return value_undef(rt, "there is no previous item", out);
        *out = l->before;
    } else if (str_is(name, "nextitem")) {
        TRY(loop_peek(rt, l, out, &has));
        if (!has)
            return value_undef(rt, "there is no next item", out);
    } else if (str_is(name, "depth") || str_is(name, "depth0")) {
        *out = value_int(l->depth0 + (name.len == 5));
    } else {
        *found = false;
    }
    return 0;
}

static int macro_attr(struct rt *rt, struct jmacro *m, struct str name, struct value *out,
                      bool *found)
{
    *found = true;
    if (str_is(name, "name")) {
        if (m->name)
            return str_lit(rt, m->name, out);
        *out = VALUE_NONE;
    } else if (str_is(name, "arguments")) {
        struct jlist *l = list_new(rt, m->node->list.n);
        if (!l)
            return -rt->err->code;
        for (; l->n < m->node->list.n; l->n++)
            l->v[l->n] = value_str(m->node->list.v[l->n]->name->s);
        *out = value_tuple(l);
    } else if (str_is(name, "catch_kwargs")) {
        *out = value_bool(m->node->wants_kwargs);
    } else if (str_is(name, "catch_varargs")) {
        *out = value_bool(m->node->wants_varargs);
    } else if (str_is(name, "caller")) {
        *out = value_bool(m->node->flag2);
    } else {
        *found = false;
    }
    return 0;
}

static bool num_attr(struct value v, struct str name, struct value *out)
{
    bool is_int = is_integer(v);
    if (str_is(name, "real"))
        *out = is_int ? value_int(as_int(v)) : v;
    else if (str_is(name, "imag"))
        *out = is_int ? value_int(0) : value_float(0);
    else if (is_int && str_is(name, "numerator"))
        *out = value_int(as_int(v));
    else if (is_int && str_is(name, "denominator"))
        *out = value_int(1);
    else
        return false;
    return true;
}

static int data_attr(struct rt *rt, struct value obj, struct str name, struct value *out,
                     bool *found)
{
    *found = true;
    if (obj.type == V_LOOP)
        return loop_attr(rt, obj.loop, name, out, found);
    if (obj.type == V_MACRO)
        return macro_attr(rt, obj.macro, name, out, found);
    if (obj.type == V_NS) {
        const struct value *v = dict_get_str(obj.d, name);
        *found = v != NULL;
        if (v)
            *out = *v;
        return 0;
    }
    if (is_num(obj) && num_attr(obj, name, out))
        return 0;
    if (obj.type == V_TUPLE && obj.l->is_group && (str_is(name, "grouper") || str_is(name, "list")))
        *out = obj.l->v[name.len == 4];
    else if (obj.type == V_CYCLER && str_is(name, "current"))
        *out = obj.cycler->items->v[obj.cycler->pos];
    else if (obj.type == V_CYCLER && str_is(name, "pos"))
        *out = value_int(obj.cycler->pos);
    else if (obj.type == V_RANGE &&
             (str_is(name, "start") || str_is(name, "stop") || str_is(name, "step")))
        *out = value_int(name.len == 5      ? obj.r->start
                         : name.p[2] == 'o' ? obj.r->stop
                                            : obj.r->step);
    else
        *found = false;
    return 0;
}

/* Attributes every Python object has; all of them are out of bounds. */
static bool is_dunder(struct str s)
{
    static const char *const ALL[] = {
        "__class__",   "__init__",    "__new__",     "__doc__",          "__dict__",
        "__module__",  "__repr__",    "__str__",     "__eq__",           "__ne__",
        "__lt__",      "__le__",      "__gt__",      "__ge__",           "__hash__",
        "__dir__",     "__format__",  "__reduce__",  "__reduce_ex__",    "__getattribute__",
        "__setattr__", "__delattr__", "__sizeof__",  "__subclasshook__", "__init_subclass__",
        "__len__",     "__iter__",    "__getitem__", "__contains__",     "__add__",
        "__call__",    "__globals__", "__code__"};
    for (size_t i = 0; i < ARRAY_LEN(ALL); i++)
        if (str_is(s, ALL[i]))
            return true;
    return false;
}

int py_attr(struct rt *rt, struct value obj, struct str name, struct value *out, bool *found,
            bool *is_unsafe)
{
    *is_unsafe = false;
    TRY(data_attr(rt, obj, name, out, found));
    if (*found)
        return 0;
    for (const struct method *m = methods_of(obj); m->name; m++) {
        if (!str_is(name, m->name))
            continue;
        *found = true;
        *is_unsafe = m->fn == NULL;
        return m->fn ? bind_method(rt, m, obj, out) : 0;
    }
    *found = *is_unsafe = name.len > 4 && name.p[0] == '_' && obj.type != V_NS && is_dunder(name);
    return 0;
}

int value_attr(struct rt *rt, struct value obj, struct jstr *name, struct value *out)
{
    bool found, is_unsafe;
    const struct dict_item *it = NULL;
    if (obj.type == V_UNDEF)
        return undef_fail(rt, obj);
    TRY(py_attr(rt, obj, jstr_str(name), out, &found, &is_unsafe));
    if (found && !is_unsafe)
        return 0;
    if (!found && obj.type == V_DICT)
        TRY(dict_get(rt, obj.d, value_str(name), &it));
    if (it) {
        *out = it->val;
        return 0;
    }
    return value_undef_of(rt, obj, value_str(name), is_unsafe, out);
}

/* Item i of a sequence, counted from the end when negative; false outside. */
static int seq_item(struct rt *rt, struct value obj, int64_t i, struct value *out, bool *found)
{
    int64_t n;
    TRY(value_len(rt, obj, &n));
    if (i < 0)
        i += n;
    *found = i >= 0 && i < n;
    if (!*found)
        return 0;
    if (obj.type == V_STR) {
        size_t at = jstr_byte_of(obj.s, (size_t)i), end = at;
        TRY(rt_charge(rt, obj.s->n_chars == obj.s->len ? 0 : at));
        char_next(obj.s->p, obj.s->len, &end);
        return str_sub(rt, obj.s, at, end, out);
    }
    *out = obj.type == V_RANGE ? value_int(obj.r->start + i * obj.r->step) : obj.l->v[i];
    return 0;
}

int value_item(struct rt *rt, struct value obj, struct value key, struct value *out)
{
    bool found = false, is_unsafe = false;
    if (obj.type == V_UNDEF)
        return undef_fail(rt, obj);
    if (obj.type == V_DICT) {
        const struct dict_item *it = NULL;
        bool is_hashable = key.type != V_LIST && key.type != V_DICT;
        if (is_hashable)
            TRY(dict_get(rt, obj.d, key, &it));
        if (it) {
            *out = it->val;
            return 0;
        }
    } else if (is_integer(key) && (obj.type == V_STR || obj.type == V_LIST || obj.type == V_TUPLE ||
                                   obj.type == V_RANGE)) {
        TRY(seq_item(rt, obj, as_int(key), out, &found));
        if (found)
            return 0;
    }
    if (key.type == V_STR)
        TRY(py_attr(rt, obj, jstr_str(key.s), out, &found, &is_unsafe));
    if (found && !is_unsafe)
        return 0;
    return value_undef_of(rt, obj, key, is_unsafe, out);
}

static int slice_part(struct rt *rt, struct value v, int64_t *out, bool *given)
{
    *given = v.type != V_NONE && v.type != V_MISSING;
    if (!*given)
        return 0;
    if (!is_integer(v))
        return rt_fail(rt, E_FORMAT,
                       "slice indices must be integers or None or have an __index__ method");
    *out = as_int(v);
    return 0;
}

struct bounds {
    int64_t from, to, step, n; /* n items */
};

/* Python's slice.indices(len). */
static int slice_bounds(struct rt *rt, const struct value part[3], int64_t len, struct bounds *b)
{
    bool has_from, has_to, has_step;
    TRY(slice_part(rt, part[0], &b->from, &has_from));
    TRY(slice_part(rt, part[1], &b->to, &has_to));
    TRY(slice_part(rt, part[2], &b->step, &has_step));
    if (!has_step)
        b->step = 1;
    if (b->step == 0)
        return rt_fail(rt, E_FORMAT, "slice step cannot be zero");
    bool back = b->step < 0;
    int64_t lowest = back ? -1 : 0, highest = back ? len - 1 : len;
    int64_t *p[] = {&b->from, &b->to};
    bool given[] = {has_from, has_to};
    int64_t dflt[] = {back ? highest : lowest, back ? lowest : highest};
    for (int i = 0; i < 2; i++) {
        if (!given[i])
            *p[i] = dflt[i];
        else if (*p[i] < 0)
            *p[i] = *p[i] < -len ? lowest : *p[i] + len;
        else if (*p[i] > highest)
            *p[i] = highest;
    }
    __int128 span = back ? (__int128)b->from - b->to : (__int128)b->to - b->from;
    __int128 step = back ? -(__int128)b->step : b->step;
    b->n = span <= 0 ? 0 : (int64_t)((span + step - 1) / step);
    return 0;
}

static int slice_str(struct rt *rt, struct jstr *s, const struct bounds *k, struct value *out)
{
    TRY(rt_charge(rt, s->len));
    if (k->step == 1 || k->n == 0) {
        size_t from = k->n ? jstr_byte_of(s, (size_t)k->from) : 0;
        size_t to = k->n ? jstr_byte_of(s, (size_t)(k->from + k->n)) : 0;
        return str_sub(rt, s, from, to, out);
    }
    struct sb b;
    sb_init(&b, rt);
    size_t at = jstr_byte_of(s, (size_t)k->from);
    for (int64_t i = 0; i < k->n && !b.failed; i++) {
        size_t end = at;
        char_next(s->p, s->len, &end);
        sb_sub(&b, s, at, end);
        for (int64_t m = 0; i + 1 < k->n && m < llabs(k->step); m++) {
            if (k->step > 0) {
                char_next(s->p, s->len, &at);
            } else {
                do
                    at--;
                while (((unsigned char)s->p[at] & 0xc0) == 0x80);
            }
        }
    }
    TRY(sb_finish(&b, out));
    out->s->is_markup = s->is_markup;
    return 0;
}

int value_slice(struct rt *rt, struct value obj, const struct value part[3], struct value *out)
{
    struct bounds b = {0, 0, 1, 0};
    int64_t len;
    if (obj.type == V_UNDEF)
        return undef_fail(rt, obj);
    if (obj.type == V_DICT)
        return rt_fail(rt, E_FORMAT, "unhashable type: 'slice'");
    if (obj.type != V_STR && obj.type != V_LIST && obj.type != V_TUPLE && obj.type != V_RANGE)
        return rt_fail(rt, E_FORMAT, "'%s' object is not subscriptable", type_name(obj));
    TRY(value_len(rt, obj, &len));
    TRY(slice_bounds(rt, part, len, &b));
    if (obj.type == V_STR)
        return slice_str(rt, obj.s, &b, out);
    if (obj.type == V_RANGE) {
        struct jrange *r = rt_alloc(rt, 1, sizeof(*r));
        if (!r)
            return -rt->err->code;
        *r = (struct jrange){obj.r->start + b.from * obj.r->step, obj.r->start + b.to * obj.r->step,
                             0, b.n};
        if (__builtin_mul_overflow(obj.r->step, b.step, &r->step))
            return rt_fail(rt, E_LIMIT, "an integer is larger than 64 bits");
        *out = (struct value){.type = V_RANGE, .r = r};
        return 0;
    }
    TRY(rt_charge(rt, (size_t)b.n * sizeof(struct value)));
    struct jlist *l = list_new(rt, (size_t)b.n);
    if (!l)
        return -rt->err->code;
    for (int64_t i = 0; i < b.n; i++)
        l->v[l->n++] = obj.l->v[b.from + i * b.step];
    *out = obj.type == V_LIST ? value_list(l) : value_tuple(l);
    return 0;
}

/* One part of a dotted path: digits are an index. */
static int path_part(struct rt *rt, struct value *obj, const struct jstr *path, size_t from,
                     size_t to, struct value dflt)
{
    struct value key;
    bool is_index = to > from;
    int64_t i = 0;
    for (size_t k = from; k < to && is_index; k++) {
        is_index = path->p[k] >= '0' && path->p[k] <= '9' && i < INT64_MAX / 10 - 10;
        i = i * 10 + (path->p[k] - '0');
    }
    if (is_index)
        key = value_int(i);
    else
        TRY(str_sub(rt, path, from, to, &key));
    TRY(value_item(rt, *obj, key, obj));
    if (obj->type == V_UNDEF && dflt.type != V_MISSING && dflt.type != V_NONE)
        *obj = dflt;
    return 0;
}

int value_path(struct rt *rt, struct value obj, struct value path, struct value dflt,
               struct value *out)
{
    *out = obj;
    if (path.type == V_NONE || path.type == V_MISSING)
        return 0;
    if (path.type != V_STR) {
        TRY(value_item(rt, obj, path, out));
        if (out->type == V_UNDEF && dflt.type != V_MISSING && dflt.type != V_NONE)
            *out = dflt;
        return 0;
    }
    for (size_t from = 0; from <= path.s->len;) {
        const char *dot = memchr(path.s->p + from, '.', path.s->len - from);
        size_t to = dot ? (size_t)(dot - path.s->p) : path.s->len;
        TRY(path_part(rt, out, path.s, from, to, dflt));
        from = to + 1;
    }
    return 0;
}
