/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: flags in their forms, operands, refusals, near names; and that the command table
 * is sound. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "lib/base/near.h"

static const struct cli_flag flags[] = {{"max-tokens", 'n', "N", "", false},
                                        {"stop", 0, "TEXT", "", true},
                                        {"json", 0, NULL, "", false},
                                        {NULL, 0, NULL, NULL, false}};
static const struct cli_command command = {.name = "test",
                                           .operands = "MODEL [WORD]",
                                           .min_operands = 1,
                                           .max_operands = 2,
                                           .flags = flags,
                                           .config = 1ull << CONFIG_port | 1ull << CONFIG_insecure |
                                                     1ull << CONFIG_api_key};

/* Parses words up to NULL. */
static int parse(struct cli_args *a, struct err *err, const char *const *words)
{
    char *argv[16];
    int n = 0;
    for (; words[n]; n++)
        argv[n] = (char *)words[n];
    return cli_args_parse(&command, n, argv, a, err);
}
#define PARSE(a, err, ...) parse(a, err, (const char *const[]){__VA_ARGS__, NULL})

static void test_forms(void **state)
{
    (void)state;
    struct cli_args a;
    struct err err = ERR_INIT;
    uint64_t n = 7;
    assert_int_equal(PARSE(&a, &err, "-n", "3", "m", "--stop=", "--json", "--stop", "--x",
                           "--port=9", "--insecure", "--", "--json"),
                     0);
    assert_int_equal(a.n_operands, 2);
    assert_string_equal(a.operands[0], "m");
    assert_string_equal(a.operands[1], "--json");
    assert_int_equal(cli_number(&a, "max-tokens", 1, 10, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_true(cli_has(&a, "json"));
    assert_string_equal(cli_flag(&a, "stop"), "--x");
    assert_int_equal(a.n_given, 4);
    assert_int_equal(config_u32(&a.config, CONFIG_port), 9);
    assert_int_equal(config_u32(&a.config, CONFIG_insecure), 1);
    assert_int_equal(cli_number(&a, "max-tokens", 4, 10, &n, &err), -E_INVALID);
    assert_string_equal(err.msg, "--max-tokens: 3 is out of range: from 4 to 10");
    cli_args_release(&a);
}

static void refused(const char *const *words, const char *part)
{
    struct cli_args a;
    struct err err = ERR_INIT;
    assert_true(parse(&a, &err, words) < 0);
    if (!strstr(err.msg, part))
        fail_msg("'%s' does not say '%s'", err.msg, part);
    cli_args_release(&a);
}
#define REFUSED(part, ...) refused((const char *const[]){__VA_ARGS__, NULL}, part)

static void test_refusals(void **state)
{
    (void)state;
    REFUSED("did you mean --max-tokens?", "m", "--max-token", "3");
    REFUSED("did you mean --port?", "m", "--prot=3");
    REFUSED("lists those it has", "m", "--zzzzzzzz");
    REFUSED("has no flag -x", "m", "-x");
    REFUSED("needs a value: --max-tokens N", "m", "--max-tokens");
    REFUSED("takes no value", "m", "--json=1");
    REFUSED("is given twice", "m", "-n", "1", "--max-tokens", "2");
    REFUSED("needs MODEL [WORD]", "--json");
    REFUSED("'c' is one word too many", "a", "b", "c");
    REFUSED("--port: '1x' is not a whole number", "m", "--port", "1x");
    REFUSED("set BERTH_API_KEY in the environment", "m", "--api-key", "x");
    REFUSED("--config needs a value", "m", "--config");
    REFUSED("there is no configuration file /nowhere", "m", "--config=/nowhere");
    REFUSED("neither yes nor no", "m", "--insecure=perhaps");
    REFUSED("has no flag --host", "m", "--host", "x"); /* an option of other commands */
}

static void test_help_works_whatever_else_is_wrong(void **state)
{
    (void)state;
    struct cli_args a;
    struct err err = ERR_INIT;
    assert_int_equal(PARSE(&a, &err, "--zzz", "a", "b", "c", "--help"), 0);
    assert_true(a.want_help);
    cli_args_release(&a);
}

static void test_reals(void **state)
{
    (void)state;
    struct cli_args a;
    struct err err = ERR_INIT;
    double v = 5;
    static const char *const wrong[] = {"", "x", "1x", "nan", "inf", "-1", "11"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(PARSE(&a, &err, "m", "--stop", wrong[i]), 0);
        assert_int_equal(cli_real(&a, "stop", 0, 10, &v, &err), -E_INVALID);
        cli_args_release(&a);
    }
    assert_int_equal(PARSE(&a, &err, "m", "--stop", "0.25"), 0);
    assert_int_equal(cli_real(&a, "stop", 0, 10, &v, &err), 0);
    assert_true(v == 0.25);
    cli_args_release(&a);
}

static void test_near_names(void **state)
{
    (void)state;
    static const char *const names[] = {"stories-chat", "stories", "list", "ps", "serve"};
    assert_string_equal(near_name("storise", names, 5), "stories");
    assert_string_equal(near_name("stor", names, 5), "stories");
    assert_string_equal(near_name("lsit", names, 5), "list");
    assert_string_equal(near_name("server", names, 5), "serve");
    assert_null(near_name("qwen3", names, 5));
    assert_null(near_name("", names, 5));
}

/* What help, parser and dispatch take for granted of every row. */
static void test_table(void **state)
{
    (void)state;
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        assert_true(c[i].min_operands <= c[i].max_operands &&
                    c[i].max_operands <= CLI_MAX_OPERANDS);
        assert_int_equal(c[i].operands[0] != '\0', c[i].max_operands > 0);
        assert_int_equal(c[i].role == CLI_ROLE_CLI, c[i].run != NULL);
        assert_true(strlen(c[i].about) > 10 && c[i].summary[strlen(c[i].summary) - 1] != '.');
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(c[i].name, c[j].name);
        for (const struct cli_flag *f = c[i].flags; f && f->name; f++) {
            enum config_id id = config_find(f->name);
            assert_true(id == CONFIG_N_OPTIONS || !(c[i].config & (1ull << id)));
            assert_true(strlen(f->help) > 5);
        }
    }
}

static void test_texts(void **state)
{
    (void)state;
    char s[32];
    static const struct {
        uint64_t n;
        const char *bytes, *count;
    } rows[] = {{0, "0 B", "0"},
                {999, "999 B", "999"},
                {1000, "1.00 kB", "1.00K"},
                {292800, "293 kB", "293K"},
                {1185376, "1.19 MB", "1.19M"},
                {999999, "1.00 MB", "1.00M"},
                {7240000000, "7.24 GB", "7.24B"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        text_bytes(rows[i].n, s);
        assert_string_equal(s, rows[i].bytes);
        text_count(rows[i].n, s);
        assert_string_equal(s, rows[i].count);
    }
    text_ago(0, s);
    assert_string_equal(s, "");
    text_ago(1, s);
    assert_non_null(strstr(s, "years ago"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_help_works_whatever_else_is_wrong),
        cmocka_unit_test(test_reals),
        cmocka_unit_test(test_near_names),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
