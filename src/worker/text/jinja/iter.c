/* SPDX-License-Identifier: Apache-2.0 */
/* Walking anything iterable, as Python's iter() and next() do. */
#include "worker/text/jinja/runtime.h"

int iter_init(struct rt *rt, struct value v, struct iter *it)
{
    switch (v.type) {
    case V_UNDEF:
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_RANGE:
    case V_VIEW:
    case V_GEN:
    case V_LOOP: *it = (struct iter){v, 0}; return 0;
    default: return rt_fail(rt, E_FORMAT, "'%s' object is not iterable", type_name(v));
    }
}

static int pair(struct rt *rt, struct value a, struct value b, struct value *out)
{
    struct jlist *l = list_new(rt, 2);
    if (!l)
        return -rt->err->code;
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    *out = value_tuple(l);
    return 0;
}

static int next_view(struct rt *rt, const struct jdict *d, enum view_kind kind, size_t i,
                     struct value *out)
{
    if (kind == VIEW_ITEMS)
        return pair(rt, d->items[i].key, d->items[i].val, out);
    *out = kind == VIEW_KEYS ? d->items[i].key : d->items[i].val;
    return 0;
}

static int next_gen(struct rt *rt, struct jgen *g, struct value *out, bool *has)
{
    *has = false;
    if (g->is_done)
        return 0;
    TRY(rt_enter(rt));
    TRY(g->next(rt, g, out, has));
    rt->depth--;
    g->is_done = !*has;
    return 0;
}

/* An iteration of a loop object inside its own loop takes its next items. */
static int next_loop(struct rt *rt, struct jloop *l, struct value *out, bool *has)
{
    TRY(loop_next(rt, l, has));
    if (!*has)
        return 0;
    return pair(rt, l->current, (struct value){.type = V_LOOP, .loop = l}, out);
}

int iter_next(struct rt *rt, struct iter *it, struct value *out, bool *has)
{
    size_t from = it->pos;
    TRY(rt_step(rt, 1));
    *has = false;
    switch (it->src.type) {
    case V_STR:
        if (from >= it->src.s->len)
            return 0;
        char_next(it->src.s->p, it->src.s->len, &it->pos);
        *has = true;
        TRY(str_sub(rt, it->src.s, from, it->pos, out));
        out->s->is_markup = false;
        return 0;
    case V_LIST:
    case V_TUPLE:
        if (from >= it->src.l->n)
            return 0;
        *out = it->src.l->v[it->pos++];
        break;
    case V_DICT:
        if (from >= it->src.d->n)
            return 0;
        *out = it->src.d->items[it->pos++].key;
        break;
    case V_VIEW:
        if (from >= it->src.view->d->n)
            return 0;
        it->pos++;
        *has = true;
        return next_view(rt, it->src.view->d, it->src.view->kind, from, out);
    case V_RANGE:
        if ((int64_t)from >= it->src.r->n)
            return 0;
        *out = value_int(it->src.r->start + (int64_t)it->pos++ * it->src.r->step);
        break;
    case V_GEN: return next_gen(rt, it->src.gen, out, has);
    case V_LOOP: return next_loop(rt, it->src.loop, out, has);
    default: /* undefined: nothing */ return 0;
    }
    *has = true;
    return 0;
}

int list_from(struct rt *rt, struct value v, struct jlist **out)
{
    struct iter it;
    struct jlist *l = list_new(rt, v.type == V_LIST || v.type == V_TUPLE ? v.l->n : 0);
    if (!l)
        return -rt->err->code;
    TRY(iter_init(rt, v, &it));
    for (;;) {
        struct value item;
        bool has;
        TRY(iter_next(rt, &it, &item, &has));
        if (!has)
            break;
        TRY(list_push(rt, l, item));
    }
    *out = l;
    return 0;
}
