/* SPDX-License-Identifier: Apache-2.0 */
/* Filters over numbers, and those that turn text into numbers. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/text/jinja/runtime.h"

static int filter_abs(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value none[1];
    TRY(bind_args(rt, "abs", "", args, none));
    if (in.type == V_UNDEF)
        return undef_fail(rt, in);
    if (!is_num(in))
        return rt_fail(rt, E_FORMAT, "bad operand type for abs(): '%s'", type_name(in));
    if (in.type == V_FLOAT) {
        *out = value_float(fabs(in.f));
        return 0;
    }
    return value_neg(rt, in, as_int(in) < 0, out);
}

/* Text without white space at its ends and without the underscores Python allows; false if they are
 * misplaced. */
static bool clean_number(struct jstr *s, char *tmp, size_t cap)
{
    size_t from = 0, to = s->len, k = 0;
    while (from < to && isspace((unsigned char)s->p[from]))
        from++;
    while (to > from && isspace((unsigned char)s->p[to - 1]))
        to--;
    if (to == from || to - from >= cap)
        return false;
    for (size_t i = from; i < to; i++) {
        bool inside = i > from && i + 1 < to && isalnum((unsigned char)s->p[i - 1]) &&
                      isalnum((unsigned char)s->p[i + 1]);
        if (s->p[i] == '_' && !inside)
            return false;
        if (s->p[i] != '_')
            tmp[k++] = s->p[i];
    }
    tmp[k] = 0;
    return true;
}

static bool parse_float(struct jstr *s, double *out)
{
    char tmp[512], *end;
    if (!clean_number(s, tmp, sizeof(tmp)) || strpbrk(tmp, "xXpP(") ||
        isspace((unsigned char)tmp[0]))
        return false;
    *out = strtod(tmp, &end);
    return *end == 0;
}

/* 1: parsed, 0: not a number, negative: too large. */
static int parse_int(struct rt *rt, struct jstr *s, int64_t base, int64_t *out)
{
    char tmp[512], *p = tmp;
    uint64_t v = 0;
    if (!clean_number(s, tmp, sizeof(tmp)))
        return 0;
    bool negative = *p == '-';
    p += *p == '-' || *p == '+';
    if (base == 16 || base == 8 || base == 2) {
        char mark = base == 16 ? 'x' : base == 8 ? 'o' : 'b';
        if (p[0] == '0' && (p[1] | 0x20) == mark)
            p += 2;
    }
    if (!*p)
        return 0;
    for (; *p; p++) {
        int d = isdigit((unsigned char)*p)   ? *p - '0'
                : isalpha((unsigned char)*p) ? (*p | 0x20) - 'a' + 10
                                             : 99;
        if (d >= base)
            return 0;
        if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v) || v > INT64_MAX)
            return rt_fail(rt, E_LIMIT, "an integer is larger than 64 bits");
    }
    *out = negative ? -(int64_t)v : (int64_t)v;
    return 1;
}

static int float_to_int(struct rt *rt, double f, struct value dflt, struct value *out)
{
    if (isnan(f)) {
        *out = dflt;
        return 0;
    }
    if (isinf(f))
        return rt_fail(rt, E_FORMAT, "cannot convert float infinity to integer");
    if (fabs(f) >= 9.2e18)
        return rt_fail(rt, E_LIMIT, "an integer is larger than 64 bits");
    *out = value_int((int64_t)f);
    return 0;
}

static int filter_int(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    int64_t base, i = 0;
    double f;
    TRY(bind_args(rt, "int", "|default base", args, v));
    TRY(arg_int(rt, "int", v[1], 10, &base));
    struct value dflt = v[0].type == V_MISSING ? value_int(0) : v[0];
    *out = dflt;
    if (in.type == V_UNDEF)
        return undef_fail(rt, in);
    if (is_integer(in)) {
        *out = value_int(as_int(in));
        return 0;
    }
    if (in.type == V_FLOAT)
        return float_to_int(rt, in.f, dflt, out);
    if (in.type != V_STR)
        return 0;
    int rc = base >= 2 && base <= 36 ? parse_int(rt, in.s, base, &i) : 0;
    if (rc < 0)
        return rc;
    if (rc) {
        *out = value_int(i);
        return 0;
    }
    return parse_float(in.s, &f) ? float_to_int(rt, f, dflt, out) : 0;
}

static int filter_float(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v;
    double f;
    TRY(bind_args(rt, "float", "|default", args, &v));
    *out = v.type == V_MISSING ? value_float(0) : v;
    if (in.type == V_UNDEF)
        return undef_fail(rt, in);
    if (is_num(in))
        *out = value_float(as_float(in));
    else if (in.type == V_STR && parse_float(in.s, &f))
        *out = value_float(f);
    return 0;
}

/* round(float, n): the decimal nearest to the exact binary value, ties to even. */
static double round_float(double f, int64_t n)
{
    char tmp[400];
    if (isnan(f) || isinf(f) || n > 30)
        return f;
    if (n >= 0) {
        snprintf(tmp, sizeof(tmp), "%.*f", (int)n, f);
        return strtod(tmp, NULL);
    }
    if (n < -308)
        return copysign(0, f);
    double p = pow(10, (double)-n);
    return nearbyint(f / p) * p;
}

static int round_int(struct rt *rt, int64_t i, int64_t n, struct value *out)
{
    if (n >= 0) {
        *out = value_int(i);
        return 0;
    }
    __int128 p = 1, v = i;
    for (int64_t k = n; k < 0 && p < ((__int128)1 << 100); k++)
        p *= 10;
    __int128 q = v / p, r = v % p;
    __int128 twice = r < 0 ? -2 * r : 2 * r;
    if (twice > p || (twice == p && q % 2 != 0))
        q += v < 0 ? -1 : 1;
    v = q * p;
    if (v > INT64_MAX || v < INT64_MIN)
        return rt_fail(rt, E_LIMIT, "an integer is larger than 64 bits");
    *out = value_int((int64_t)v);
    return 0;
}

static int filter_round(struct rt *rt, struct value in, const struct args *args, struct value *out)
{
    struct value v[2];
    int64_t n;
    TRY(bind_args(rt, "round", "|precision method", args, v));
    TRY(arg_int(rt, "round", v[0], 0, &n));
    bool common = v[1].type == V_MISSING || (v[1].type == V_STR && jstr_is(v[1].s, "common"));
    bool ceiling = v[1].type == V_STR && jstr_is(v[1].s, "ceil");
    if (!common && !ceiling && !(v[1].type == V_STR && jstr_is(v[1].s, "floor")))
        return rt_fail(rt, E_FORMAT, "method must be common, ceil or floor");
    if (in.type == V_UNDEF)
        return common ? rt_fail(rt, E_FORMAT, "type Undefined doesn't define __round__ method")
                      : undef_fail(rt, in);
    if (!is_num(in))
        return rt_fail(rt, E_FORMAT, "type %s doesn't define __round__ method", type_name(in));
    if (common && is_integer(in))
        return round_int(rt, as_int(in), n, out);
    if (common) {
        *out = value_float(round_float(in.f, n));
        return 0;
    }
    double p = pow(10, (double)n), x = as_float(in) * p;
    *out = value_float((ceiling ? ceil(x) : floor(x)) / p);
    return 0;
}

static int filter_filesizeformat(struct rt *rt, struct value in, const struct args *args,
                                 struct value *out)
{
    static const char *const DECIMAL[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const BINARY[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    struct value v, f;
    bool binary;
    char tmp[64];
    TRY(bind_args(rt, "filesizeformat", "|binary", args, &v));
    TRY(arg_bool(rt, v, false, &binary));
    struct value bad = VALUE_NONE;
    struct args dflt = {&bad, 1, NULL, 0};
    TRY(filter_float(rt, in, &dflt, &f));
    if (f.type != V_FLOAT)
        return rt_fail(rt, E_FORMAT, "could not convert to float");
    double base = binary ? 1024 : 1000, unit = base;
    if (f.f == 1)
        return str_lit(rt, "1 Byte", out);
    if (f.f < base) {
        snprintf(tmp, sizeof(tmp), "%lld Bytes", (long long)f.f);
        return str_lit(rt, tmp, out);
    }
    int i = 0;
    for (unit = base * base; i < 7 && f.f >= unit; i++)
        unit *= base;
    snprintf(tmp, sizeof(tmp), "%.1f %s", base * f.f / unit, binary ? BINARY[i] : DECIMAL[i]);
    return str_lit(rt, tmp, out);
}

const struct filter FILTERS_NUM[] = {
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"filesizeformat", filter_filesizeformat},
    {NULL, NULL},
};
