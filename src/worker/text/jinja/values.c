/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, dicts, undefined values, and values made from JSON. */
#include "lib/base/mem.h"
#include "worker/text/jinja/runtime.h"

struct jlist *list_new(struct rt *rt, size_t cap)
{
    struct jlist *l = rt_alloc(rt, 1, sizeof(*l));
    if (l && cap) {
        l->v = rt_alloc(rt, cap, sizeof(*l->v));
        if (!l->v)
            return NULL;
        l->cap = (uint32_t)cap;
    }
    return l;
}

int list_push(struct rt *rt, struct jlist *l, struct value v)
{
    if (l->n == l->cap) {
        if (l->cap > UINT32_MAX / 4)
            return rt_fail(rt, E_LIMIT, "a list is too long");
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        struct value *p = rt_alloc(rt, cap, sizeof(*p));
        if (!p)
            return -rt->err->code;
        if (l->n)
            memcpy(p, l->v, l->n * sizeof(*p));
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return 0;
}

struct jdict *dict_new(struct rt *rt)
{
    return rt_alloc(rt, 1, sizeof(struct jdict));
}

static int dict_grow(struct rt *rt, struct jdict *d)
{
    uint32_t cap = d->cap ? d->cap * 2 : 4;
    if (d->cap > UINT32_MAX / 8)
        return rt_fail(rt, E_LIMIT, "a dict is too large");
    struct dict_item *v = rt_alloc(rt, cap, sizeof(*v));
    if (!v)
        return -rt->err->code;
    if (d->n)
        memcpy(v, d->items, d->n * sizeof(*v));
    d->items = v;
    d->cap = cap;
    if (cap <= 8)
        return 0;
    d->index = rt_alloc(rt, (size_t)cap * 2, sizeof(*d->index));
    if (!d->index)
        return -rt->err->code;
    d->n_index = cap * 2;
    for (uint32_t k = 0; k < d->n; k++) {
        uint32_t i = (uint32_t)d->items[k].hash & (d->n_index - 1);
        while (d->index[i])
            i = (i + 1) & (d->n_index - 1);
        d->index[i] = k + 1;
    }
    return 0;
}

/* The next item whose hash is h; *at is the walk's state, 0 to begin. */
static struct dict_item *dict_probe(const struct jdict *d, uint64_t h, uint32_t *at)
{
    if (!d->n_index) {
        while (*at < d->n)
            if (d->items[(*at)++].hash == h)
                return &d->items[*at - 1];
        return NULL;
    }
    for (;;) {
        uint32_t slot = ((uint32_t)h + (*at)++) & (d->n_index - 1);
        if (!d->index[slot])
            return NULL;
        struct dict_item *it = &d->items[d->index[slot] - 1];
        if (it->hash == h)
            return it;
    }
}

int dict_get(struct rt *rt, const struct jdict *d, struct value key, const struct dict_item **ret)
{
    uint64_t h;
    uint32_t at = 0;
    struct dict_item *it;
    *ret = NULL;
    TRY(value_hash(rt, key, &h));
    while ((it = dict_probe(d, h, &at))) {
        bool same;
        TRY(value_eq(rt, it->key, key, &same));
        if (same) {
            *ret = it;
            return 0;
        }
    }
    return 0;
}

const struct value *dict_get_str(const struct jdict *d, struct str key)
{
    uint64_t h = map_hash(key.p, key.len);
    uint32_t at = 0;
    struct dict_item *it;
    while ((it = dict_probe(d, h, &at)))
        if (it->key.type == V_STR && str_eq(jstr_str(it->key.s), key))
            return &it->val;
    return NULL;
}

int dict_put(struct rt *rt, struct jdict *d, struct value key, struct value v)
{
    const struct dict_item *old;
    uint64_t h;
    TRY(rt_step(rt, 1));
    TRY(dict_get(rt, d, key, &old));
    if (old) {
        d->items[old - d->items].val = v;
        return 0;
    }
    if (d->n == d->cap)
        TRY(dict_grow(rt, d));
    TRY(value_hash(rt, key, &h));
    if (d->n_index) {
        uint32_t i = (uint32_t)h & (d->n_index - 1);
        while (d->index[i])
            i = (i + 1) & (d->n_index - 1);
        d->index[i] = d->n + 1;
    }
    d->items[d->n++] = (struct dict_item){key, v, h};
    return 0;
}

int dict_put_lit(struct rt *rt, struct jdict *d, const char *key, struct value v)
{
    struct value k;
    TRY(str_lit(rt, key, &k));
    return dict_put(rt, d, k, v);
}

static int undef_new(struct rt *rt, struct undef u, struct value *out)
{
    struct undef *p = rt_alloc(rt, 1, sizeof(*p));
    if (!p)
        return -rt->err->code;
    *p = u;
    *out = (struct value){.type = V_UNDEF, .u = p};
    return 0;
}

int value_undef(struct rt *rt, const char *hint, struct value *out)
{
    return undef_new(rt, (struct undef){.hint = hint}, out);
}

int value_undef_name(struct rt *rt, const struct name *name, struct value *out)
{
    return undef_new(rt, (struct undef){.name = value_str(name->s)}, out);
}

int value_undef_of(struct rt *rt, struct value obj, struct value name, bool is_unsafe,
                   struct value *out)
{
    return undef_new(
        rt, (struct undef){.has_obj = true, .obj = obj, .name = name, .is_unsafe = is_unsafe}, out);
}

int undef_fail(struct rt *rt, struct value v)
{
    const struct undef *u = v.u;
    struct sb b;
    struct value name = VALUE_NONE;
    if (u->hint)
        return rt_fail(rt, E_INVALID, "%s", u->hint);
    sb_init(&b, rt);
    if (u->name.type != V_MISSING)
        TRY(sb_repr(&b, u->name));
    TRY(sb_finish(&b, &name));
    int n = (int)MIN_OF(name.s->len, 200);
    const char *owner = u->obj.type == V_NONE ? "None" : type_name(u->obj);
    const char *object = u->obj.type == V_NONE ? "" : " object";
    if (u->is_unsafe)
        return rt_fail(rt, E_FORMAT, "access to attribute %.*s of '%s' object is unsafe", n,
                       name.s->p, owner);
    if (!u->has_obj)
        return rt_fail(rt, E_INVALID, "%.*s is undefined", n, name.s->p);
    if (u->name.type != V_STR)
        return rt_fail(rt, E_INVALID, "%s%s has no element %.*s", owner, object, n, name.s->p);
    return rt_fail(rt, E_INVALID, "'%s%s' has no attribute %.*s", owner, object, n, name.s->p);
}

struct jgen *gen_new(struct rt *rt, const char *type_name_,
                     int (*next)(struct rt *, struct jgen *, struct value *, bool *))
{
    struct jgen *g = rt_alloc(rt, 1, sizeof(*g));
    if (g) {
        g->type_name = type_name_;
        g->next = next;
    }
    return g;
}

static int str_from_json(struct rt *rt, const char *p, size_t n, bool is_input, struct value *out)
{
    struct jstr *s = rt_alloc(rt, 1, sizeof(*s));
    if (!s)
        return -rt->err->code;
    *s = (struct jstr){.p = p, .len = n, .n_chars = SIZE_MAX, .all_input = is_input};
    *out = value_str(s);
    return 0;
}

/* The words the API itself gives a message's role are no user's text: templates build control
 * tokens from them. */
static bool is_role_word(const char *s)
{
    static const char *const WORDS[] = {"system",  "user",      "assistant",
                                        "tool",    "developer", "function",
                                        "ipython", "model",     "latest_reminder"};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (strcmp(s, WORDS[i]) == 0)
            return true;
    return false;
}

static int dict_from_json(struct rt *rt, const json_t *v, bool is_input, uint32_t depth,
                          bool in_messages, struct value *out)
{
    struct jdict *d = dict_new(rt);
    const char *key;
    json_t *item;
    if (!d)
        return -rt->err->code;
    json_object_foreach((json_t *)v, key, item)
    {
        struct value k, x;
        bool is_role = in_messages && depth == 1 && strcmp(key, "role") == 0 &&
                       json_is_string(item) && is_role_word(json_string_value(item));
        TRY(str_from_json(rt, key, strlen(key), is_input, &k));
        TRY(value_from_json(rt, item, is_input && !is_role, depth + 1, in_messages, &x));
        TRY(dict_put(rt, d, k, x));
    }
    *out = value_dict(d);
    return 0;
}

int value_from_json(struct rt *rt, const json_t *v, bool is_input, uint32_t depth, bool in_messages,
                    struct value *out)
{
    TRY(rt_step(rt, 1));
    if (depth > LIMIT_TEMPLATE_DEPTH)
        return rt_fail(rt, E_LIMIT, "a value of the context is nested deeper than %u levels",
                       LIMIT_TEMPLATE_DEPTH);
    switch (json_typeof(v)) {
    case JSON_OBJECT: return dict_from_json(rt, v, is_input, depth, in_messages, out);
    case JSON_ARRAY: {
        struct jlist *l = list_new(rt, json_array_size(v));
        if (!l)
            return -rt->err->code;
        for (size_t i = 0; i < json_array_size(v); i++, l->n++)
            TRY(value_from_json(rt, json_array_get(v, i), is_input, depth + 1, in_messages,
                                &l->v[i]));
        *out = value_list(l);
        return 0;
    }
    case JSON_STRING:
        return str_from_json(rt, json_string_value(v), json_string_length(v), is_input, out);
    case JSON_INTEGER: *out = value_int(json_integer_value(v)); return 0;
    case JSON_REAL: *out = value_float(json_real_value(v)); return 0;
    case JSON_TRUE:
    case JSON_FALSE: *out = value_bool(json_is_true(v)); return 0;
    default: *out = VALUE_NONE; return 0;
    }
}
