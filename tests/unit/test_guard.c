/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/api/guard's rules: names of hosts, origins of pages, what a key is read from, and how many
 * wrong ones may be tried. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "daemon/api/guard.h"
#include "lib/base/mem.h"

static struct guard *make(const char *bound, const char *hosts, const char *origins, bool any)
{
    struct guard *g = NULL;
    struct err err = ERR_INIT;
    const struct guard_config cfg = {
        .bound = bound, .allowed_hosts = hosts, .allowed_origins = origins, .any_address = any};
    if (guard_new(&cfg, &g, &err) < 0)
        fail_msg("%s", err.msg);
    return g;
}

static void hosts_are(struct guard *g, bool want, const char *const *hosts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (guard_host_is_ours(g, hosts[i]) != want)
            fail_msg("Host '%s' is %sours", hosts[i], want ? "not " : "");
    }
}

static void hosts_that_name_the_daemon(void **state)
{
    (void)state;
    static const char *const local[] = {
        "localhost", "LOCALHOST:1", "127.0.0.1",  "127.0.0.1:12434",
        "[::1]",     "[::1]:80",    "localhost:", "[0:0:0:0:0:0:0:1]:1"};
    static const char *const never[] = {"",
                                        " ",
                                        ":",
                                        ":80",
                                        "[",
                                        "[]",
                                        "[::1",
                                        "[::1]x",
                                        "[::1]80",
                                        "::1",
                                        "localhost:80:90",
                                        "127.0.0.1:x",
                                        "localhost@evil.com",
                                        "localhost.evil.com",
                                        "evil.com",
                                        "localhost/",
                                        "localhost.",
                                        "127.0.0.1.evil.com",
                                        "127.1",
                                        "0x7f.0.0.1",
                                        "2130706433",
                                        "[localhost]",
                                        "localhost\t",
                                        "[::1%lo]",
                                        "0"};
    static const char *const numbers[] = {"10.1.2.3", "10.1.2.3:80", "[2001:db8::1]:1", "0.0.0.0",
                                          "192.168.1.10"};
    static const char *const named[] = {"models.example.org", "MODELS.example.org:8443", "10.1.2.3",
                                        "[2001:db8::1]", "[2001:DB8:0::1]:4"};
    struct guard *g = make("127.0.0.1", NULL, NULL, false);
    hosts_are(g, true, local, ARRAY_LEN(local));
    hosts_are(g, false, never, ARRAY_LEN(never));
    hosts_are(g, false, numbers, ARRAY_LEN(numbers));
    hosts_are(g, false, named, ARRAY_LEN(named));
    guard_free(g);

    g = make("0.0.0.0", "", "", true);
    hosts_are(g, true, local, ARRAY_LEN(local));
    hosts_are(g, true, numbers, ARRAY_LEN(numbers));
    hosts_are(g, false, never, ARRAY_LEN(never));
    hosts_are(g, false, named, 2);
    guard_free(g);

    g = make("10.1.2.3", " models.example.org , 2001:DB8::1,,", "", false);
    hosts_are(g, true, named, ARRAY_LEN(named));
    hosts_are(g, false, never, ARRAY_LEN(never));
    assert_false(guard_host_is_ours(g, "10.1.2.4"));
    guard_free(g);

    g = make("::", "*", "", false);
    assert_true(guard_host_is_ours(g, "anything.example.org:8080"));
    assert_false(guard_host_is_ours(g, "localhost:80:90"));
    guard_free(g);
}

static void origins_that_may_come(void **state)
{
    (void)state;
    static const struct {
        const char *list, *origin, *host;
        enum guard_origin want;
    } cases[] = {
        {"", "http://localhost:3000", NULL, GUARD_ORIGIN_LOCAL},
        {"", "https://LOCALHOST", NULL, GUARD_ORIGIN_LOCAL},
        {"", "http://[::1]:8080", NULL, GUARD_ORIGIN_LOCAL},
        {"", "http://127.0.0.1", NULL, GUARD_ORIGIN_LOCAL},
        {"", "http://192.168.1.7:12434", "192.168.1.7:12434", GUARD_ORIGIN_LOCAL},
        {"", "http://192.168.1.7:12435", "192.168.1.7:12434", GUARD_ORIGIN_FOREIGN},
        {"", "http://192.168.1.7", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "null", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "localhost", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "ftp://localhost", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://localhost@evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://localhost.evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://localhost:80@evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://localhost/x", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://evil.com#localhost", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "http://", NULL, GUARD_ORIGIN_FOREIGN},
        {"", "://localhost", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "https://a.example.org", NULL, GUARD_ORIGIN_LISTED},
        {"https://a.example.org", "https://A.Example.ORG", NULL, GUARD_ORIGIN_LISTED},
        {"https://A.example.org:443", "https://a.example.org", NULL, GUARD_ORIGIN_LISTED},
        {"http://a.example.org:80", "http://a.example.org", NULL, GUARD_ORIGIN_LISTED},
        {"http://a.example.org:443", "http://a.example.org", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "http://a.example.org", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "https://a.example.org:8443", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "https://b.a.example.org", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "https://a.example.org.evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"https://a.example.org", "null", NULL, GUARD_ORIGIN_FOREIGN},
        {"http://app:*", "http://app:3000", NULL, GUARD_ORIGIN_LISTED},
        {"http://app:*", "http://app", NULL, GUARD_ORIGIN_LISTED},
        {"http://app:*", "http://app:", NULL, GUARD_ORIGIN_FOREIGN},
        {"http://app:*", "http://app:30x", NULL, GUARD_ORIGIN_FOREIGN},
        {"http://app:*", "http://app:1@evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"http://app:*", "http://apple:3000", NULL, GUARD_ORIGIN_FOREIGN},
        {"http://app:*", "https://app:3000", NULL, GUARD_ORIGIN_FOREIGN},
        {"x://y, null", "null", NULL, GUARD_ORIGIN_LISTED},
        {"*", "https://evil.com", NULL, GUARD_ORIGIN_ANY},
        {"*", "null", NULL, GUARD_ORIGIN_ANY},
        {"*", "http://localhost", NULL, GUARD_ORIGIN_LOCAL},
        {"*,https://a.example.org", "https://a.example.org", NULL, GUARD_ORIGIN_LISTED},
        {"vscode-webview://*", "vscode-webview://1ab2-c", NULL, GUARD_ORIGIN_LISTED},
        {"vscode-webview://*", "vscode-webview://", NULL, GUARD_ORIGIN_FOREIGN},
        {"vscode-webview://*", "https://evil.com", NULL, GUARD_ORIGIN_FOREIGN},
        {"chrome-extension://abc", "chrome-extension://abc", NULL, GUARD_ORIGIN_LISTED},
        {"chrome-extension://abc", "chrome-extension://abcd", NULL, GUARD_ORIGIN_FOREIGN},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct guard *g = make(NULL, NULL, cases[i].list, false);
        int got = (int)guard_origin(g, cases[i].origin, cases[i].host);
        if (got != (int)cases[i].want)
            fail_msg("'%s' with the list '%s': %d", cases[i].origin, cases[i].list, got);
        guard_free(g);
    }
    struct guard *g = make(NULL, NULL, "*", false);
    char *big = mem_alloc(5000);
    memset(big, 'a', 4999);
    memcpy(big, "http://", 7);
    assert_int_equal(guard_origin(g, big, NULL), GUARD_ORIGIN_FOREIGN);
    assert_false(guard_host_is_ours(g, big));
    mem_free(big);
    guard_free(g);
}

static void mistakes_of_a_list_are_named(void **state)
{
    (void)state;
    static const char *const origins[] = {
        "localhost:3000", "https://",           "https://*",     "http://*:80",
        "a b://c",        "https://a/b",        "https://a:b",   "https://a.org,evil",
        "https://*.org",  "https://user@a.org", "https://a:*:*", "**",
        "http://:80",     "http://[::1"};
    static const char *const hosts[] = {"a b", "http://a", "a/b",         "*.example.org",
                                        "a:b", "[::1",     "good.org,b@d"};
    struct guard *g = NULL;
    for (size_t i = 0; i < ARRAY_LEN(origins); i++) {
        struct err err = ERR_INIT;
        const struct guard_config cfg = {.allowed_origins = origins[i]};
        if (guard_new(&cfg, &g, &err) != -E_INVALID)
            fail_msg("the origin '%s' was taken", origins[i]);
        assert_non_null(strstr(err.msg, "allowed-origins: '"));
    }
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct err err = ERR_INIT;
        const struct guard_config cfg = {.allowed_hosts = hosts[i]};
        if (guard_new(&cfg, &g, &err) != -E_INVALID)
            fail_msg("the host '%s' was taken", hosts[i]);
        assert_non_null(strstr(err.msg, "allowed-hosts: '"));
    }
}

static void header_names_are_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *want;
    } cases[] = {
        {"", ""},
        {"content-type,x-stainless-os", "content-type,x-stainless-os"},
        {" content-type ,\tAuthorization , ,", "content-type,Authorization"},
        {"x y,ok", "ok"},
        {"ok,a\"b,c:d,\x80,e(f),g/h,good!", "ok,good!"},
    };
    char out[40];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        guard_header_names(cases[i].asked, out, sizeof(out));
        assert_string_equal(out, cases[i].want);
    }
    guard_header_names("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,bbbbbbbbbb,c", out, sizeof(out));
    assert_true(strlen(out) < sizeof(out));
    assert_null(strstr(out, "bbb"));
}

static void where_a_key_is_read_from(void **state)
{
    (void)state;
    static const struct {
        const char *authorization, *x_api_key, *api_key, *want;
    } cases[] = {
        {NULL, NULL, NULL, NULL},         {"Bearer k", NULL, NULL, "k"},
        {"bearer   k ", NULL, NULL, "k"}, {"BEARER\tk\t", NULL, NULL, "k"},
        {"Bearer", NULL, NULL, NULL},     {"Bearer ", NULL, NULL, NULL},
        {"Bearerk", NULL, NULL, NULL},    {"Basic azpr", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},           {"k", NULL, NULL, NULL},
        {NULL, "k", NULL, "k"},           {NULL, NULL, " k ", "k"},
        {NULL, "", NULL, NULL},           {NULL, "a", "b", "a"},
        {"Bearer a", "b", "c", "a"},      {"Basic azpr", "b", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str got = {NULL, 0};
        bool found =
            guard_presented(cases[i].authorization, cases[i].x_api_key, cases[i].api_key, &got);
        assert_int_equal(found, cases[i].want != NULL);
        assert_true(!found || str_is(got, cases[i].want));
    }
}

static unsigned refused_of(struct guard *g, const char *address, unsigned n, uint64_t now_ms)
{
    unsigned n_refused = 0;
    while (n--)
        n_refused += guard_too_many(g, address, now_ms);
    return n_refused;
}

static void wrong_keys_are_slowed_by_address(void **state)
{
    (void)state;
    struct guard *g = make(NULL, NULL, NULL, false);
    assert_int_equal(refused_of(g, "127.0.0.1", 20, 1000), 0);
    assert_int_equal(refused_of(g, "127.0.0.1", 80, 1000), 80);
    assert_int_equal(refused_of(g, "127.0.0.2", 1, 1000), 0);
    assert_int_equal(refused_of(g, "127.0.0.1", 20, 2000), 10); /* ten a second */
    assert_int_equal(refused_of(g, "127.0.0.1", 20, 60000), 0);
    assert_int_equal(refused_of(g, "127.0.0.1", 1, 1), 1); /* a clock that goes back: no harm */
    /* one customer's IPv6 addresses are one */
    assert_int_equal(refused_of(g, "2001:db8::1", 20, 1000), 0);
    assert_int_equal(refused_of(g, "2001:db8::ffff:2", 1, 1000), 1);
    assert_int_equal(refused_of(g, "2001:db8:0:1::1", 1, 1000), 0);
    /* more addresses than the table holds: none is refused for what others did */
    char address[32];
    unsigned n_refused = 0;
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(address, sizeof(address), "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255);
        n_refused += guard_too_many(g, address, 70000 + i / 100);
    }
    assert_int_equal(n_refused, 0);
    guard_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_that_name_the_daemon),
        cmocka_unit_test(origins_that_may_come),
        cmocka_unit_test(mistakes_of_a_list_are_named),
        cmocka_unit_test(header_names_are_tokens),
        cmocka_unit_test(where_a_key_is_read_from),
        cmocka_unit_test(wrong_keys_are_slowed_by_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
