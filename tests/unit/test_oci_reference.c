/* SPDX-License-Identifier: Apache-2.0 */
/* Model names: completed as Docker Model Runner's normalisation does it, refused where no registry
 * would take them. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/oci/reference.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_full_forms(void **state)
{
    (void)state;
    static const struct {
        const char *given, *stored, *shown;
    } cases[] = {
        {"gemma3", "docker.io/ai/gemma3:latest", "gemma3"},
        {"MyModel", "docker.io/ai/mymodel:latest", "mymodel"},
        {"model:", "docker.io/ai/model:latest", "model"},
        {"  model:V2 ", "docker.io/ai/model:V2", "model:V2"},
        {"ai/model", "docker.io/ai/model:latest", "model"},
        {"myorg/model:v2", "docker.io/myorg/model:v2", "myorg/model:v2"},
        {"docker.io/ai/x", "docker.io/ai/x:latest", "x"},
        {"index.docker.io/ai/x:q4", "docker.io/ai/x:q4", "x:q4"},
        {"registry.example.com/model", "registry.example.com/model:latest",
         "registry.example.com/model"},
        {"Registry.Example.com:5000/A/B:T", "registry.example.com:5000/a/b:T",
         "registry.example.com:5000/a/b:T"},
        {"localhost/m", "localhost/m:latest", "localhost/m"},
        {"[::1]:5000/m", "[::1]:5000/m:latest", "[::1]:5000/m"},
        {"hf.co/Org/Model:Q4_K_M", "huggingface.co/org/model:Q4_K_M",
         "huggingface.co/org/model:Q4_K_M"},
        {"m@sha256:" HEX, "docker.io/ai/m@sha256:" HEX, "m@sha256:" HEX},
        {"m:t@sha256:" HEX, "docker.io/ai/m:t@sha256:" HEX, "m:t@sha256:" HEX},
        {"abc123", "docker.io/ai/abc123:latest", "abc123"},
        {"a__b--c/d.e_f", "docker.io/a__b--c/d.e_f:latest", "a__b--c/d.e_f"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct oci_reference r, again;
        struct err err = ERR_INIT;
        struct buf out;
        buf_init(&out, 4096);
        int rc = oci_reference_parse(str_from(cases[i].given), NULL, &r, &err);
        if (rc < 0)
            fail_msg("%s: %s", cases[i].given, err.msg);
        oci_reference_put(&r, &out);
        assert_string_equal(buf_str(&out), cases[i].stored);
        assert_int_equal(oci_reference_parse(str_from(buf_str(&out)), NULL, &again, &err), 0);
        assert_string_equal(again.registry, r.registry);
        assert_string_equal(again.repository, r.repository);
        assert_string_equal(again.tag, r.tag);
        buf_clear(&out);
        oci_reference_put_short(&r, &out);
        assert_string_equal(buf_str(&out), cases[i].shown);
        assert_int_equal(oci_reference_parse(str_from(buf_str(&out)), NULL, &again, &err), 0);
        assert_string_equal(again.repository, r.repository);
        buf_release(&out);
    }
}

static void test_hub_keeps_case(void **state)
{
    (void)state;
    struct oci_reference r;
    struct err err = ERR_INIT;
    assert_int_equal(oci_reference_parse(STR_LIT("hf.co/Org/Model-GGUF"), NULL, &r, &err), 0);
    assert_string_equal(r.repository_as_given, "Org/Model-GGUF");
    assert_true(oci_registry_is_hub(r.registry));
}

static void test_hub_has_revisions(void **state)
{
    (void)state;
    static const char *const good[][3] = {
        {"hf.co/Org/M@main", "latest", "main"},
        {"huggingface.co/o/m:Q8_0@refs/pr/3", "Q8_0", "refs/pr/3"},
        {"hf.co/o/m@0123456789abcdef0123456789abcdef01234567", "latest",
         "0123456789abcdef0123456789abcdef01234567"},
    };
    static const char *const bad[] = {"hf.co/o/m@",         "hf.co/o/m@a..b", "hf.co/o/m@/x",
                                      "hf.co/o/m@x/",       "hf.co/o/m@a?b",  "hf.co/o/m@a b",
                                      "hf.co/o/m@a//b",     "o/m@main",       "ghcr.io/o/m@main",
                                      "hf.co/o/m@sha256:12"};
    struct oci_reference r, again;
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, 1000);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(oci_reference_parse(str_from(good[i][0]), NULL, &r, &err), 0);
        assert_string_equal(r.tag, good[i][1]);
        assert_string_equal(r.revision, good[i][2]);
        assert_string_equal(r.digest, "");
        buf_clear(&out);
        oci_reference_put(&r, &out);
        assert_int_equal(oci_reference_parse(str_from(buf_str(&out)), NULL, &again, &err), 0);
        assert_string_equal(again.revision, r.revision);
        assert_string_equal(again.tag, r.tag);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(oci_reference_parse(str_from(bad[i]), NULL, &r, &err), -E_INVALID);
    buf_release(&out);
}

static void test_default_registry(void **state)
{
    (void)state;
    struct oci_reference r;
    struct err err = ERR_INIT;
    assert_int_equal(oci_reference_parse(STR_LIT("m"), "harbor.corp:8443", &r, &err), 0);
    assert_string_equal(r.registry, "harbor.corp:8443");
    assert_string_equal(r.repository, "ai/m");
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "   ",
        "/m",
        "m/",
        "a//b",
        "../m",
        "a/../b",
        "m:-x",
        "m:.x",
        "m: x",
        "m:a/b:c d",
        "m@sha256:abc",
        "m@md5:" HEX,
        "m@",
        "m\nx",
        "-m",
        "m-",
        "a___b",
        "a..b/c",
        "ho st.com/m",
        "h.com:/m",
        "h.com:1x/m",
        "h.com:99999999/m",
        "[::1/m",
        "h..com/m",
        "m@sha256:" HEX "0",
        "m@sha256:ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef01234567",
        "a_b.c/d",
        "user@h.com/m",
        "h.com/%2e%2e/m",
        "h.com/m?x",
        "h.com/m#x",
        "http://h.com/m",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct oci_reference r;
        struct err err = ERR_INIT;
        if (oci_reference_parse(str_from(bad[i]), NULL, &r, &err) >= 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_true(err.msg[0]);
    }
    char text[1024];
    struct oci_reference r;
    struct err err = ERR_INIT;
    assert_int_equal(oci_reference_parse(STR_LIT("https://huggingface.co/o/m"), NULL, &r, &err),
                     -E_INVALID);
    assert_non_null(strstr(err.msg, "leave out 'https://'"));
    for (size_t n = 200; n < sizeof(text); n++) {
        memset(text, 'a', n);
        int rc = oci_reference_parse((struct str){text, n}, NULL, &r, &err);
        assert_true((rc == 0) == (n + strlen("docker.io/ai/") <= OCI_REPOSITORY_CHARS));
    }
    text[200] = '/'; /* with the registry that it names, which is not counted twice */
    text[100] = '.';
    memset(text + 101, 'b', 20);
    for (size_t n = 202; n < sizeof(text); n++) {
        int rc = oci_reference_parse((struct str){text, n}, NULL, &r, &err);
        assert_true((rc == 0) == (n <= OCI_REPOSITORY_CHARS));
    }
}

static void test_digests_and_ids(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(oci_digest_check(STR_LIT("sha256:" HEX), &err), 0);
    assert_int_equal(oci_digest_check(STR_LIT("sha512:" HEX HEX), &err), -E_UNSUPPORTED);
    static const char *const bad[] = {"sha256:../../etc/x", "sha256:",  HEX, "SHA256:" HEX,
                                      "sha256:" HEX "a",    "md5:" HEX, ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(oci_digest_check(str_from(bad[i]), &err), -E_INVALID);
    assert_true(oci_may_be_id(STR_LIT("0123456789ab")));
    assert_true(oci_may_be_id(STR_LIT(HEX)));
    assert_true(oci_may_be_id(STR_LIT("sha256:" HEX)));
    assert_false(oci_may_be_id(STR_LIT("0123456789AB")));
    assert_false(oci_may_be_id(STR_LIT("abc123")));
}

static void test_local_registries(void **state)
{
    (void)state;
    static const char *const local[] = {"localhost",     "localhost:5000", "127.0.0.1:5000",
                                        "127.9.9.9",     "[::1]:5000",     "nas.local",
                                        "x.localhost:80"};
    static const char *const remote[] = {"docker.io",     "localhost.evil.com",
                                         "10.0.0.1:5000", "[fe80::1]:5000",
                                         "local",         "evil.com:127"};
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        assert_true(oci_registry_is_local(local[i]));
    for (size_t i = 0; i < ARRAY_LEN(remote); i++)
        assert_false(oci_registry_is_local(remote[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_forms),        cmocka_unit_test(test_hub_keeps_case),
        cmocka_unit_test(test_hub_has_revisions), cmocka_unit_test(test_default_registry),
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_digests_and_ids),
        cmocka_unit_test(test_local_registries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
