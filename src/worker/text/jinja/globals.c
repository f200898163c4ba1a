/* SPDX-License-Identifier: Apache-2.0 */
/* Functions every template may call: range, namespace, dict, cycler, joiner, raise_exception,
 * strftime_now. */
#include "worker/text/jinja/runtime.h"

static int global_range(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    struct value v[3];
    int64_t n[3] = {0, 0, 1};
    (void)self;
    TRY(bind_args(rt, "range", "start |stop step", args, v));
    for (int i = 0; i < 3; i++) {
        if (v[i].type == V_UNDEF)
            return rt_fail(rt, E_FORMAT, "'Undefined' object cannot be interpreted as an integer");
        TRY(arg_int(rt, "range", v[i], n[i], &n[i]));
    }
    if (v[1].type == V_MISSING) {
        n[1] = n[0];
        n[0] = 0;
    }
    if (n[2] == 0)
        return rt_fail(rt, E_FORMAT, "range() arg 3 must not be zero");
    __int128 span = n[2] > 0 ? (__int128)n[1] - n[0] : (__int128)n[0] - n[1];
    __int128 step = n[2] > 0 ? n[2] : -(__int128)n[2];
    __int128 len = span <= 0 ? 0 : (span + step - 1) / step;
    if (len > JINJA_MAX_RANGE)
        return rt_fail(rt, E_LIMIT,
                       "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                       JINJA_MAX_RANGE);
    struct jrange *r = rt_alloc(rt, 1, sizeof(*r));
    if (!r)
        return -rt->err->code;
    *r = (struct jrange){n[0], n[1], n[2], (int64_t)len};
    *out = (struct value){.type = V_RANGE, .r = r};
    return 0;
}

/* dict(mapping or pairs, **kwargs) */
static int make_dict(struct rt *rt, const struct args *args, struct jdict **ret)
{
    struct jdict *d = dict_new(rt);
    if (!d)
        return -rt->err->code;
    if (args->n > 1)
        return rt_fail(rt, E_FORMAT, "dict expected at most 1 argument, got %u", args->n);
    if (args->n && args->v[0].type == V_DICT) {
        for (uint32_t i = 0; i < args->v[0].d->n; i++)
            TRY(dict_put(rt, d, args->v[0].d->items[i].key, args->v[0].d->items[i].val));
    } else if (args->n) {
        struct jlist *l;
        TRY(list_from(rt, args->v[0], &l));
        for (uint32_t i = 0; i < l->n; i++) {
            struct value pair[2];
            TRY(unpack(rt, l->v[i], 2, pair));
            TRY(dict_put(rt, d, pair[0], pair[1]));
        }
    }
    for (uint32_t i = 0; i < args->n_kw; i++)
        TRY(dict_put(rt, d, value_str(args->kw[i].name), args->kw[i].v));
    *ret = d;
    return 0;
}

static int global_dict(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct jdict *d;
    (void)self;
    TRY(make_dict(rt, args, &d));
    *out = value_dict(d);
    return 0;
}

static int global_namespace(struct rt *rt, struct value self, const struct args *args,
                            struct value *out)
{
    struct jdict *d;
    (void)self;
    TRY(make_dict(rt, args, &d));
    *out = (struct value){.type = V_NS, .d = d};
    return 0;
}

static int global_cycler(struct rt *rt, struct value self, const struct args *args,
                         struct value *out)
{
    struct jcycler *c = rt_alloc(rt, 1, sizeof(*c));
    struct jlist *l = list_new(rt, args->n);
    (void)self;
    if (!c || !l)
        return -rt->err->code;
    if (!args->n || args->n_kw)
        return rt_fail(rt, E_FORMAT, "cycler: at least one item has to be provided");
    for (; l->n < args->n; l->n++)
        l->v[l->n] = args->v[l->n];
    c->items = l;
    *out = (struct value){.type = V_CYCLER, .cycler = c};
    return 0;
}

static int global_joiner(struct rt *rt, struct value self, const struct args *args,
                         struct value *out)
{
    struct jjoiner *j = rt_alloc(rt, 1, sizeof(*j));
    (void)self;
    if (!j)
        return -rt->err->code;
    TRY(bind_args(rt, "joiner", "|sep", args, &j->sep));
    if (j->sep.type == V_MISSING)
        TRY(str_lit(rt, ", ", &j->sep));
    *out = (struct value){.type = V_JOINER, .joiner = j};
    return 0;
}

static int global_raise(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    struct value v;
    struct jstr *s;
    (void)self, (void)out;
    TRY(bind_args(rt, "raise_exception", "message", args, &v));
    TRY(to_str(rt, v, &s));
    return err_set(rt->err, E_INVALID, "%.*s", STR_ARG(jstr_str(s)));
}

static int global_strftime_now(struct rt *rt, struct value self, const struct args *args,
                               struct value *out)
{
    struct value v;
    struct jstr *fmt;
    (void)self;
    TRY(bind_args(rt, "strftime_now", "format", args, &v));
    TRY(arg_str(rt, "strftime_now", v, &fmt));
    return strftime_format(rt, fmt, rt->opt->now_unix, out);
}

static int global_lipsum(struct rt *rt, struct value self, const struct args *args,
                         struct value *out)
{
    (void)self, (void)args, (void)out;
    return rt_fail(rt, E_UNSUPPORTED, "lipsum() is random, and a prompt must be repeatable");
}

int global_find(struct rt *rt, struct str name, struct value *out, bool *found)
{
    static const struct method ALL[] = {{"range", global_range},
                                        {"namespace", global_namespace},
                                        {"raise_exception", global_raise},
                                        {"strftime_now", global_strftime_now},
                                        {"dict", global_dict},
                                        {"cycler", global_cycler},
                                        {"joiner", global_joiner},
                                        {"lipsum", global_lipsum}};
    *found = false;
    for (size_t i = 0; i < ARRAY_LEN(ALL); i++) {
        if (!str_is(name, ALL[i].name))
            continue;
        struct jfunc *f = rt_alloc(rt, 1, sizeof(*f));
        if (!f)
            return -rt->err->code;
        *f = (struct jfunc){ALL[i].name, ALL[i].fn, VALUE_MISSING};
        *out = (struct value){.type = V_FUNC, .func = f};
        *found = true;
        return 0;
    }
    return 0;
}
