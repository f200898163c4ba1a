/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of filters, tests and methods to parameters, by position and by name. */
#include "worker/text/jinja/runtime.h"

/* The next name of spec; a "|" switches to optional ones. */
static bool next_param(const char **spec, struct str *name, bool *optional)
{
    const char *s = *spec;
    while (*s == ' ' || *s == '|')
        *optional |= *s++ == '|';
    if (!*s)
        return false;
    size_t n = strcspn(s, " ");
    *name = (struct str){s, n};
    *spec = s + n;
    return true;
}

int bind_args(struct rt *rt, const char *fn, const char *spec, const struct args *args,
              struct value *out)
{
    uint32_t n = 0, n_kw = 0;
    struct str name;
    bool optional = false;
    while (next_param(&spec, &name, &optional)) {
        out[n] = n < args->n ? args->v[n] : VALUE_MISSING;
        for (uint32_t i = 0; i < args->n_kw; i++) {
            if (!str_eq(jstr_str(args->kw[i].name), name))
                continue;
            if (out[n].type != V_MISSING)
                return rt_fail(rt, E_FORMAT, "%s() got multiple values for argument '%.*s'", fn,
                               STR_ARG(name));
            out[n] = args->kw[i].v;
            n_kw++;
        }
        if (out[n].type == V_MISSING && !optional)
            return rt_fail(rt, E_FORMAT, "%s() missing 1 required positional argument: '%.*s'", fn,
                           STR_ARG(name));
        n++;
    }
    if (args->n > n)
        return rt_fail(rt, E_FORMAT, "%s() takes at most %u arguments (%u given)", fn, n, args->n);
    if (n_kw < args->n_kw)
        return rt_fail(rt, E_FORMAT, "%s() got an unexpected keyword argument", fn);
    return 0;
}

int arg_int(struct rt *rt, const char *fn, struct value v, int64_t dflt, int64_t *out)
{
    *out = dflt;
    if (v.type == V_MISSING)
        return 0;
    if (v.type == V_UNDEF)
        return undef_fail(rt, v);
    if (!is_integer(v))
        return rt_fail(rt, E_FORMAT, "%s: '%s' object cannot be interpreted as an integer", fn,
                       type_name(v));
    *out = as_int(v);
    return 0;
}

int arg_bool(struct rt *rt, struct value v, bool dflt, bool *out)
{
    *out = dflt;
    return v.type == V_MISSING ? 0 : value_truth(rt, v, out);
}

int arg_str(struct rt *rt, const char *fn, struct value v, struct jstr **out)
{
    *out = NULL;
    if (v.type == V_MISSING)
        return 0;
    if (v.type == V_UNDEF)
        return rt_fail(rt, E_FORMAT, "%s() argument must be str, not Undefined", fn);
    if (v.type != V_STR)
        return rt_fail(rt, E_FORMAT, "%s() argument must be str, not %s", fn, type_name(v));
    *out = v.s;
    return 0;
}
