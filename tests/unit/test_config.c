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
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), 0);
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
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), 0);
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

static void refused(uint64_t want, const char *part)
{
    struct config c;
    struct err err = ERR_INIT;
    assert_int_equal(config_load(&c, want, NULL, &err), -E_INVALID);
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
    assert_int_equal(config_load(&c, ALL_OPTIONS & ~(1ull << CONFIG_port), NULL, &err),
                     0); /* not asked for */
    config_release(&c);
    unsetenv("BERTH_PORT");
    write_file("port = 1\nprot = 2\n");
    refused(ALL_OPTIONS, "/berth/config:2: there is no option 'prot'; did you mean 'port'?");
    write_file("kv-cache-type = f64\n");
    refused(ALL_OPTIONS, "kv-cache-type: 'f64' is not one of f32|f16");
    write_file("just words\n");
    refused(ALL_OPTIONS, "is not `key = value`");
}

static char seen[4096];

static void note(void *ctx, const char *sentence)
{
    (void)ctx;
    size_t n = strlen(seen);
    snprintf(seen + n, sizeof(seen) - n, "%s\n", sentence);
}

/* What the file with this text says of itself, mistake by mistake. */
static const char *mistakes(const char *text)
{
    char path[128];
    struct err err = ERR_INIT;
    seen[0] = '\0';
    write_file(text);
    snprintf(path, sizeof(path), "%s/berth/config", home);
    assert_int_equal(config_check(path, note, NULL, &err), 0);
    return seen;
}

static void test_lines(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    struct buf b;
    write_file("audit-log=/a b#c # comment\r\n  tls-key = \" #x \"\nhost = ::1");
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), 0);
    assert_string_equal(config_str(&c, CONFIG_audit_log), "/a b#c");
    assert_string_equal(config_str(&c, CONFIG_tls_key), " #x ");
    assert_string_equal(config_str(&c, CONFIG_host), "::1");
    buf_init(&b, 4096);
    config_origin(&c, CONFIG_host, &b);
    assert_int_equal(strcmp(buf_str(&b) + strlen(home), "/berth/config:3"), 0);
    buf_release(&b);
    config_release(&c);

    assert_string_equal(mistakes("\n# all is well\nport=1\n"), "");
    const char *all = mistakes("port = 1\nctx-size = 5\nmax-model-len = 6\nport = x\n"
                               "hots = a\nabcdefghijk = 1\ntls-key = \"a\n[serve]\n");
    static const char *const parts[] = {
        "config:3: max-model-len stands on line 2 already",
        "config:4: port stands on line 1",
        "config:5: there is no option 'hots'; did you mean 'host'?",
        "config:6: there is no option 'abcdefghijk'; `berth config show` lists",
        "config:7: tls-key: a value that begins with a quotation mark ends with one",
        "config:8: '[serve]' is not `key = value`"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!strstr(all, parts[i]))
            fail_msg("'%s' is not in\n%s", parts[i], all);
    }
}

static void test_which_file(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    struct buf b;
    char path[128];
    bool there;
    buf_init(&b, 4096);
    write_file("port = 5");
    snprintf(path, sizeof(path), "%s/berth/config", home);
    assert_int_equal(config_path(NULL, &b, &there, &err), 0);
    assert_string_equal(buf_str(&b), path);
    assert_true(there);
    setenv("BERTH_CONFIG", "/dev/null", 1);
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), 0);
    assert_int_equal(config_u32(&c, CONFIG_port), 12434);
    config_release(&c);
    assert_int_equal(config_load(&c, ALL_OPTIONS, path, &err), 0); /* a flag is nearer */
    assert_int_equal(config_u32(&c, CONFIG_port), 5);
    config_release(&c);
    setenv("BERTH_CONFIG", "/nowhere/at/all", 1);
    assert_int_equal(config_load(&c, 0, NULL, &err), -E_NOTFOUND);
    assert_non_null(strstr(err.msg, "name one that is there with --config"));
    config_release(&c);
    setenv("BERTH_CONFIG", home, 1);
    assert_int_equal(config_load(&c, 0, NULL, &err), -E_IO);
    assert_non_null(strstr(err.msg, "is a folder"));
    config_release(&c);
    unsetenv("BERTH_CONFIG");
    setenv("XDG_CONFIG_HOME", "/nowhere", 1);
    buf_clear(&b);
    if (access("/etc/berth/config", F_OK) < 0) {
        assert_int_equal(config_path(NULL, &b, &there, &err), 0);
        assert_string_equal(buf_str(&b), "/nowhere/berth/config");
        assert_false(there);
    }
    buf_release(&b);
}

static void test_environment(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, 4096);
    setenv("BERTH_CTX_SIZE", "9", 1);
    setenv("BERTH_PORT", "", 1); /* as good as unset */
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), 0);
    config_origin(&c, CONFIG_max_model_len, &b);
    assert_string_equal(buf_str(&b), "BERTH_CTX_SIZE");
    assert_int_equal(c.values[CONFIG_port].source, CONFIG_FROM_DEFAULT);
    config_release(&c);
    setenv("BERTH_MAX_MODEL_LEN", "10", 1);
    refused(ALL_OPTIONS, "BERTH_MAX_MODEL_LEN and BERTH_CTX_SIZE");
    unsetenv("BERTH_MAX_MODEL_LEN");
    unsetenv("BERTH_CTX_SIZE");

    seen[0] = '\0';
    setenv("BERTH_PROT", "1", 1);
    setenv("BERTH_CONFIG", "/dev/null", 1);
    assert_int_equal(config_unknown_env(note, NULL), 1);
    assert_string_equal(
        seen, "BERTH_PROT in the environment means nothing to berth; did you mean BERTH_PORT?\n");
    unsetenv("BERTH_PROT");
    unsetenv("BERTH_CONFIG");
    buf_release(&b);
}

static void test_secrets_are_not_told(void **state)
{
    (void)state;
    struct config c;
    struct err err = ERR_INIT;
    static char key[5002];
    memset(key, 'k', sizeof(key) - 1);
    setenv("BERTH_API_KEY", key, 1);
    assert_int_equal(config_load(&c, ALL_OPTIONS, NULL, &err), -E_INVALID);
    assert_null(strstr(err.msg, "kkk"));
    config_release(&c);
    unsetenv("BERTH_API_KEY");
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
        cmocka_unit_test_setup(test_lines, setup),
        cmocka_unit_test_setup(test_which_file, setup),
        cmocka_unit_test_setup(test_environment, setup),
        cmocka_unit_test_setup(test_secrets_are_not_told, setup),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
