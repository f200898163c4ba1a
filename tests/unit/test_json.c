/* SPDX-License-Identifier: Apache-2.0 */
/* lib/codec/json: JSONTestSuite (tests/data/json), bounds, typed getters, the writer. */
#include "tests/support/cmocka_all.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define SUITE "tests/data/json/test_parsing"

/* Accepted by the standard and refused here on purpose. */
static const char *const stricter[] = {"y_object_duplicated_key.json",
                                       "y_object_duplicated_key_and_value.json",
                                       "y_object_escaped_null_in_key.json"};

static bool parses(const void *p, size_t n)
{
    json_t *v = NULL;
    struct err err = ERR_INIT;
    int rc = json_parse((struct str){p, n}, &v, &err);
    assert_true(rc == 0 ? v && !err.code : !v && err.msg[0]);
    json_decref(v);
    return rc == 0;
}

static bool file_parses(const char *name)
{
    char path[1024];
    snprintf(path, sizeof(path), SUITE "/%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = mem_alloc(1 << 20);
    size_t n = fread(p, 1, 1 << 20, f);
    fclose(f);
    bool ok = parses(p, n);
    mem_free(p);
    return ok;
}

static void the_suite_of_others(void **state)
{
    (void)state;
    DIR *d = opendir(SUITE);
    assert_non_null(d);
    struct dirent *e;
    unsigned n_yes = 0, n_no = 0;
    while ((e = readdir(d))) {
        const char *name = e->d_name;
        bool expected = name[0] == 'y';
        for (size_t i = 0; i < ARRAY_LEN(stricter); i++)
            expected &= strcmp(name, stricter[i]) != 0;
        if (name[0] == '.')
            continue;
        bool ok = file_parses(name);
        if (name[0] != 'i' && ok != expected)
            fail_msg("%s: %s", name, ok ? "accepted" : "refused");
        n_yes += name[0] == 'y';
        n_no += name[0] == 'n';
    }
    closedir(d);
    assert_int_equal(n_yes, 95);
    assert_int_equal(n_no, 188);
}

static void refusal(const char *text, size_t n, int code, const char *wanted)
{
    json_t *v = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse((struct str){text, n}, &v, &err), -code);
    if (!strstr(err.msg, wanted))
        fail_msg("'%.40s': '%s' without '%s'", text, err.msg, wanted);
}

static void numbers_too_large_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"{\"a\":1,\"seed\" : 9223372036854775808}", ": 'seed' is an integer beyond -92"},
        {"{\"seed\":-9223372036854775809,\"b\":1}", ": 'seed' is an integer beyond -92"},
        {"{\"min_p\":1e400}", ": 'min_p' is a number beyond 1.8e308"},
        {"[1,99999999999999999999]", ": there is an integer beyond -92"},
        {"99999999999999999999", ": there is an integer beyond -92"},
        {"{\"a\\\"b\":99999999999999999999}", ": there is an integer"},
        {"{\"\":99999999999999999999}", ": there is an integer"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refusal(cases[i].text, strlen(cases[i].text), E_FORMAT, cases[i].said);
}

static void refusals_say_where(void **state)
{
    (void)state;
    refusal("{\"a\":1,}", 8, E_FORMAT, "at byte 8");
    refusal("{\"a\":1,\"a\":2}", 13, E_FORMAT, "duplicate");
    refusal("\xEF\xBB\xBF{}", 5, E_FORMAT, "byte order mark");
    refusal("\xFF\xFE{\0}\0", 6, E_FORMAT, "UTF-16");
    refusal("[1e400]", 7, E_FORMAT, "beyond");
    refusal("[1180591620717411303424]", 24, E_FORMAT, "integer");
    refusal("[\"\\ud800\"]", 10, E_FORMAT, "at byte");
    refusal("[NaN]", 5, E_FORMAT, "at byte");
    refusal("", 0, E_FORMAT, "at byte 0");
    refusal("{}{}", 4, E_FORMAT, "end of file expected");
}

static void depth_and_size_are_bounded(void **state)
{
    (void)state;
    enum { N = 1000000 };
    char *p = mem_alloc(2 * (size_t)LIMIT_JSON_VALUES + 16);
    memset(p, '[', N);
    refusal(p, N, E_LIMIT, "deeper than 512 levels");
    memset(p, '[', LIMIT_JSON_DEPTH);
    memset(p + LIMIT_JSON_DEPTH, ']', LIMIT_JSON_DEPTH);
    assert_true(parses(p, 2 * LIMIT_JSON_DEPTH));
    p[0] = '[';
    for (size_t i = 0; i < LIMIT_JSON_VALUES + 2; i++)
        memcpy(p + 1 + 2 * i, "0,", 2);
    refusal(p, 2 * (size_t)LIMIT_JSON_VALUES + 4, E_LIMIT, "more than 2097152 values");
    assert_true(parses("\"[[[[{{{{,,,,\\\"[[[\"", 19));
    mem_free(p);
}

static void getters_name_the_field(void **state)
{
    (void)state;
    json_t *o = NULL;
    struct err err = ERR_INIT;
    struct str s = {NULL, 0};
    struct str text = STR_LIT(
        "{\"s\":\"x\",\"n\":null,\"b\":true,\"i\":7,\"w\":8.0,\"d\":0.5,\"a\":[1],\"o\":{}}");
    int64_t i = -1;
    double d = -1;
    bool b = false;
    const json_t *v = NULL;
    assert_int_equal(json_parse(text, &o, &err), 0);
    assert_int_equal(json_field_str(o, "s", &s, &err), 1);
    assert_true(str_is(s, "x"));
    assert_int_equal(json_field_str(o, "n", &s, &err), 0);
    assert_int_equal(json_field_str(o, "missing", &s, &err), 0);
    assert_int_equal(json_field_bool(o, "b", &b, &err), 1);
    assert_true(b);
    assert_int_equal(json_field_int(o, "i", 0, 7, &i, &err), 1);
    assert_int_equal(i, 7);
    assert_int_equal(json_field_int(o, "w", 0, 8, &i, &err), 1);
    assert_int_equal(i, 8);
    assert_int_equal(json_field_num(o, "d", 0, 1, &d, &err), 1);
    assert_true(d == 0.5);
    assert_int_equal(json_field_arr(o, "a", &v, &err), 1);
    assert_int_equal(json_field_obj(o, "o", &v, &err), 1);
    assert_int_equal(err.code, 0);
    assert_int_equal(json_field_int(o, "i", 0, 6, &i, &err), -E_INVALID);
    assert_string_equal(err.msg, "'i' must be between 0 and 6, not 7");
    assert_int_equal(json_field_int(o, "d", 0, 6, &i, &err), -E_INVALID);
    assert_string_equal(err.msg, "'d' must be an integer, not a number");
    assert_int_equal(json_field_str(o, "b", &s, &err), -E_INVALID);
    assert_string_equal(err.msg, "'b' must be a string, not a boolean");
    json_decref(o);
}

static void written(const char *got, const char *wanted)
{
    assert_string_equal(got, wanted);
}

static void writer_makes_json_of_anything(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4096);
    json_put_str(&b, STR_LIT("a\"\\\n\x01\x7f\xC3\xA9\xFF\xE2\x82z\xED\xA0\x80\xF0\x9F\x8C\x8A"));
    written(buf_str(&b), "\"a\\\"\\\\\\n\\u0001\\u007f\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz"
                         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xF0\x9F\x8C\x8A\"");
    assert_true(parses(b.data, b.len));
    buf_clear(&b);
    json_put_str(&b, (struct str){"a\0b", 3});
    written(buf_str(&b), "\"a\\u0000b\"");
    buf_clear(&b);
    json_put_num(&b, 0.1);
    buf_append_char(&b, ' ');
    json_put_num(&b, 1.0);
    buf_append_char(&b, ' ');
    json_put_num(&b, 1e300);
    buf_append_char(&b, ' ');
    json_put_float(&b, -0.30000001f);
    buf_append_char(&b, ' ');
    json_put_float(&b, -INFINITY);
    written(buf_str(&b), "0.1 1.0 1e+300 -0.3 null");
    buf_release(&b);
}

static void values_survive_a_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"z\":1,\"a\":[true,false,null,-7,0.1,1.0,\"\xC3\xA9\",\"\\u0000\"],\"m\":{\"\":{}}}",
        "[]", "\"x\"", "-0.0"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        json_t *v = NULL;
        struct err err = ERR_INIT;
        struct buf b;
        buf_init(&b, 4096);
        assert_int_equal(json_parse(str_from(texts[i]), &v, &err), 0);
        json_put_value(&b, v);
        written(buf_str(&b), texts[i]);
        buf_release(&b);
        json_decref(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_suite_of_others),
        cmocka_unit_test(numbers_too_large_are_named),
        cmocka_unit_test(refusals_say_where),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(getters_name_the_field),
        cmocka_unit_test(writer_makes_json_of_anything),
        cmocka_unit_test(values_survive_a_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
