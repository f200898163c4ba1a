/* SPDX-License-Identifier: Apache-2.0 */
/* Options: types, ranges, and the order flag, environment, file, default. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/sys/config.h"

#define ALL_OPTIONS ((1ull << CONFIG_N_OPTIONS) - 1)

static char home[] = "/tmp/berth-config-XXXXXX";

static void write_file(const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/berth", home);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/berth/config", home);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int group_setup(void **state)
{
    (void)state;
    return mkdtemp(home) ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof(path), "%s/berth/config", home);
    unlink(path);
    snprintf(path, sizeof(path), "%s/berth", home);
    rmdir(path);
    return rmdir(home);
}

static int setup(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", home, 1);
    write_file("");
    return 0;
}

static void test_defaults(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_load(&c, ALL_OPTIONS, &err), 0);
    assert_string_equal(config_str(&c, CONFIG_host), "127.0.0.1");
    assert_int_equal(config_u32(&c, CONFIG_port), 12434);
    assert_int_equal(config_u32(&c, CONFIG_kv_cache_type), 1); /* f32|f16 */
    assert_int_equal(c.values[CONFIG_port].source, CONFIG_FROM_DEFAULT);
    assert_non_null(strstr(config_str(&c, CONFIG_models_dir), "/share/berth/models"));
    config_release(&c);
}

static void test_precedence(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    write_file("# comment\n\n port = 1001 # and more\nthreads=3\nctx-size = 77\n");
    setenv("BERTH_PORT", "1002", 1);
    setenv("BERTH_MODELS", "/a:/b", 1); /* an alias */
    assert_int_equal(config_load(&c, ALL_OPTIONS, &err), 0);
    assert_int_equal(config_u32(&c, CONFIG_port), 1002);
    assert_int_equal(c.values[CONFIG_port].source, CONFIG_FROM_ENV);
    assert_int_equal(config_u32(&c, CONFIG_threads), 3);
    assert_int_equal(c.values[CONFIG_threads].source, CONFIG_FROM_FILE);
    assert_int_equal(config_u32(&c, CONFIG_max_model_len), 77);
    assert_string_equal(config_str(&c, CONFIG_models_dir), "/a:/b");
    assert_int_equal(config_set_flag(&c, CONFIG_port, "1003", &err), 0);
    assert_int_equal(config_u32(&c, CONFIG_port), 1003);
    config_release(&c);
    unsetenv("BERTH_PORT");
    unsetenv("BERTH_MODELS");
}

static void refused(uint32_t want, const char *part)
{
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_load(&c, want, &err), -E_INVALID);
    if (!strstr(err.msg, part))
        fail_msg("'%s' does not say '%s'", err.msg, part);
    config_release(&c);
}

static void test_refusals_name_their_source(void **state)
{
    (void)state;
    setenv("BERTH_PORT", "70000", 1);
    refused(ALL_OPTIONS, "BERTH_PORT in the environment: 70000 is out of range: from 0 to 65535");
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_load(&c, ALL_OPTIONS & ~(1ull << CONFIG_port), &err),
                     0); /* not asked for */
    config_release(&c);
    unsetenv("BERTH_PORT");
    write_file("port = 1\nprot = 2\n");
    refused(ALL_OPTIONS, "line 2: there is no option 'prot'");
    write_file("kv-cache-type = f64\n");
    refused(ALL_OPTIONS, "kv-cache-type: 'f64' is not one of f32|f16");
    write_file("just words\n");
    refused(ALL_OPTIONS, "is not `key = value`");
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", " 1", "+1", "-1", "1 ", "0x10", "1e3", "18446744073709551616", "1.5"};
    uint64_t v = 42;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(config_parse_number(wrong[i], 0, UINT64_MAX, &v, &err), -E_INVALID);
    }
    assert_int_equal(v, 42);
    struct err err = ERR_INIT;
    assert_int_equal(config_parse_number("18446744073709551615", 0, UINT64_MAX, &v, &err), 0);
    assert_true(v == UINT64_MAX);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},           {"1023", 1023},          {"1k", 1024},      {"3K", 3072},
                {"2M", 2u << 20},   {"2MiB", 2u << 20},      {"2MB", 2u << 20}, {"5g", 5ull << 30},
                {"1T", 1ull << 40}, {"4096m", 4096ull << 20}};
    static const char *const wrong[] = {"",    "k",     "1kk", "-1k", "1.5G", "99999999999999999T",
                                        "1 k", "1kiBs", "1x"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t v = 1;
        struct err err = ERR_INIT;
        assert_int_equal(config_parse_size(good[i].text, 0, UINT64_MAX, &v, &err), 0);
        assert_true(v == good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        uint64_t v = 1;
        struct err err = ERR_INIT;
        assert_int_equal(config_parse_size(wrong[i], 0, UINT64_MAX, &v, &err), -E_INVALID);
    }
}

static void test_names(void **state)
{
    (void)state;
    char env[64];
    config_env_name("max-num-batched-tokens", env);
    assert_string_equal(env, "BERTH_MAX_NUM_BATCHED_TOKENS");
    assert_int_equal(config_find("ctx-size"), CONFIG_max_model_len);
    assert_int_equal(config_find("nothing"), CONFIG_N_OPTIONS);
    for (int id = 0; id < CONFIG_N_OPTIONS; id++)
        assert_int_equal(config_find(config_option((enum config_id)id)->key), id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults, setup),
        cmocka_unit_test_setup(test_precedence, setup),
        cmocka_unit_test_setup(test_refusals_name_their_source, setup),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
