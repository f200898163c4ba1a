/* SPDX-License-Identifier: Apache-2.0 */
/* Tests (`x is name`), and finding filters and tests by name. */
#include "worker/text/jinja/runtime.h"

static int no_args(struct rt *rt, const struct args *args)
{
    struct value none[1];
    return bind_args(rt, "test", "", args, none);
}

#define TEST(name, expr)                                                                           \
    static int name(struct rt *rt, struct value in, const struct args *args, bool *out)            \
    {                                                                                              \
        TRY(no_args(rt, args));                                                                    \
        *out = (expr);                                                                             \
        return 0;                                                                                  \
    }
TEST(test_defined, in.type != V_UNDEF)
TEST(test_undefined, in.type == V_UNDEF)
TEST(test_none, in.type == V_NONE)
TEST(test_boolean, in.type == V_BOOL)
TEST(test_true, in.type == V_BOOL && in.b)
TEST(test_false, in.type == V_BOOL && !in.b)
TEST(test_integer, in.type == V_INT)
TEST(test_float, in.type == V_FLOAT)
TEST(test_number, is_num(in))
TEST(test_string, in.type == V_STR)
TEST(test_mapping, in.type == V_DICT)
TEST(test_sequence, in.type == V_STR || in.type == V_LIST || in.type == V_TUPLE ||
                        in.type == V_DICT || in.type == V_RANGE || in.type == V_UNDEF)
TEST(test_iterable, in.type == V_STR || in.type == V_LIST || in.type == V_TUPLE ||
                        in.type == V_DICT || in.type == V_RANGE || in.type == V_UNDEF ||
                        in.type == V_VIEW || in.type == V_GEN || in.type == V_LOOP)
TEST(test_callable, in.type == V_FUNC || in.type == V_MACRO || in.type == V_UNDEF ||
                        in.type == V_LOOP || in.type == V_JOINER)
TEST(test_escaped, in.type == V_STR && in.s->is_markup)
TEST(test_filter, in.type == V_STR && jinja_find_filter(jstr_str(in.s)) != NULL)
TEST(test_test, in.type == V_STR && jinja_find_test(jstr_str(in.s)) != NULL)

static int remainder_is(struct rt *rt, struct value in, struct value by, int64_t want, bool *out)
{
    struct value m;
    TRY(value_arith(rt, T_MOD, in, by, &m));
    return value_eq(rt, m, value_int(want), out);
}
static int test_odd(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    TRY(no_args(rt, args));
    return remainder_is(rt, in, value_int(2), 1, out);
}
static int test_even(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    TRY(no_args(rt, args));
    return remainder_is(rt, in, value_int(2), 0, out);
}
static int test_divisibleby(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    struct value v;
    TRY(bind_args(rt, "divisibleby", "num", args, &v));
    return remainder_is(rt, in, v, 0, out);
}

static int test_case(struct rt *rt, struct value in, const struct args *args, bool upper, bool *out)
{
    struct jstr *s;
    TRY(no_args(rt, args));
    TRY(to_str(rt, in, &s));
    TRY(rt_charge(rt, s->len));
    *out = jstr_is_case(s, upper);
    return 0;
}
static int test_lower(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    return test_case(rt, in, args, false, out);
}
static int test_upper(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    return test_case(rt, in, args, true, out);
}

static int test_sameas(struct rt *rt, struct value in, const struct args *args, bool *out)
{
    struct value v;
    TRY(bind_args(rt, "sameas", "other", args, &v));
    *out = value_is(in, v);
    return 0;
}

static int compare(struct rt *rt, enum tok op, struct value in, const struct args *args, bool *out)
{
    struct value v;
    TRY(bind_args(rt, "test", "other", args, &v));
    return value_compare(rt, op, in, v, out);
}
#define COMPARE(name, op)                                                                          \
    static int name(struct rt *rt, struct value in, const struct args *args, bool *out)            \
    {                                                                                              \
        return compare(rt, op, in, args, out);                                                     \
    }
COMPARE(test_eq, T_EQ)
COMPARE(test_ne, T_NE)
COMPARE(test_lt, T_LT)
COMPARE(test_le, T_LE)
COMPARE(test_gt, T_GT)
COMPARE(test_ge, T_GE)
COMPARE(test_in, T_IN)

static const struct jinja_test TESTS[] = {
    {"defined", test_defined},
    {"undefined", test_undefined},
    {"none", test_none},
    {"string", test_string},
    {"mapping", test_mapping},
    {"iterable", test_iterable},
    {"sequence", test_sequence},
    {"boolean", test_boolean},
    {"true", test_true},
    {"false", test_false},
    {"integer", test_integer},
    {"float", test_float},
    {"number", test_number},
    {"callable", test_callable},
    {"escaped", test_escaped},
    {"filter", test_filter},
    {"test", test_test},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"lower", test_lower},
    {"upper", test_upper},
    {"sameas", test_sameas},
    {"in", test_in},
    {"==", test_eq},
    {"eq", test_eq},
    {"equalto", test_eq},
    {"!=", test_ne},
    {"ne", test_ne},
    {"<", test_lt},
    {"lt", test_lt},
    {"lessthan", test_lt},
    {"<=", test_le},
    {"le", test_le},
    {">", test_gt},
    {"gt", test_gt},
    {"greaterthan", test_gt},
    {">=", test_ge},
    {"ge", test_ge},
};

const struct jinja_test *jinja_find_test(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(TESTS); i++)
        if (str_is(name, TESTS[i].name))
            return &TESTS[i];
    return NULL;
}

const struct filter *jinja_find_filter(struct str name)
{
    const struct filter *const tables[] = {FILTERS_SEQ, FILTERS_TEXT, FILTERS_NUM, FILTERS_HTML};
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct filter *f = tables[t]; f->name; f++)
            if (str_is(name, f->name))
                return f;
    return NULL;
}
