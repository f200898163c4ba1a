/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts of daemon/registry and what it brought to lib: addresses, whom we trust, what is
 * asked for, credentials; programs that are run. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "daemon/registry/challenge.h"
#include "daemon/registry/credentials.h"
#include "daemon/registry/trust.h"
#include "lib/codec/base64.h"
#include "lib/oci/git_blob.h"
#include "lib/sys/command.h"
#include "lib/sys/loop.h"

static struct url url_of(const char *text)
{
    struct url u = {0};
    struct err err = ERR_INIT;
    assert_int_equal(url_parse(str_from(text), &u, &err), 0);
    return u;
}

static void addresses_are_read(void **state)
{
    (void)state;
    struct url u = url_of("HTTPS://Registry.Example:5000/v2/x?a=b#part");
    assert_true(u.is_https);
    assert_string_equal(u.host, "registry.example");
    assert_int_equal(u.port, 5000);
    assert_true(str_is(u.target, "/v2/x?a=b"));
    u = url_of("http://[::1]/x");
    assert_true(u.is_v6 && u.port == 80);
    assert_string_equal(u.host, "::1");
    assert_int_equal(url_of("https://a").port, 443);
}

static void addresses_that_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "file:///etc/passwd",
                                      "ftp://a/",
                                      "http://",
                                      "http://user@a/",
                                      "http://user:pw@a/",
                                      "http://a:0/",
                                      "http://a:65536/",
                                      "http://a:8a/",
                                      "http://a b/",
                                      "http://a\\@b/",
                                      "http://a/\r\nX: y",
                                      "http://a/\xc3\xa9",
                                      "http://[::1/",
                                      "http://[1.2.3.4]/",
                                      "http://[::1]x/",
                                      "//a/b",
                                      "http:/a",
                                      "http://-a/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct url u;
        struct err err = ERR_INIT;
        assert_int_equal(url_parse(str_from(bad[i]), &u, &err), -E_INVALID);
    }
}

static void references_are_resolved(void **state)
{
    (void)state;
    static const char *const good[][3] = {
        {"http://a:1/v2/x/uploads/?mount=y", "/v2/z?k=1", "http://a:1/v2/z?k=1"},
        {"http://a:1/v2/x/uploads/7?s=1", "8?s=2", "http://a:1/v2/x/uploads/8?s=2"},
        {"http://a/v2/x", "?s=2", "http://a/v2/x?s=2"},
        {"https://a", "b", "https://a/b"},
        {"https://a/b/c", "//d/e", "https://d/e"},
        {"https://a/b/c", "http://[::1]:5/e", "http://[::1]:5/e"},
    };
    static const char *const bad[] = {"", "../x", "/a/../b", "/..", "./x", "http://u@b/", "/a b"};
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, URL_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct url base = url_of(good[i][0]);
        if (i == 2) /* the query alone changes, as RFC 3986, 5.4 has it */
            base.target = STR_LIT("/v2/x");
        buf_clear(&out);
        assert_int_equal(url_resolve(&base, str_from(good[i][1]), &out, &err), 0);
        assert_string_equal(buf_str(&out), good[i][2]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct url base = url_of("https://a/b/c");
        buf_clear(&out);
        assert_int_equal(url_resolve(&base, str_from(bad[i]), &out, &err), -E_INVALID);
    }
    buf_clear(&out);
    url_put_escaped(STR_LIT("a/b c&d\xff"), "/", &out);
    assert_string_equal(buf_str(&out), "a/b%20c%26d%FF");
    buf_release(&out);
}

static void plain_http_only_here_or_by_name(void **state)
{
    (void)state;
    static const char list[] = "reg.corp:5000, other.corp";
    assert_true(trust_allows_http(NULL, "localhost:5000"));
    assert_true(trust_allows_http(NULL, "127.0.0.1:5000"));
    assert_true(trust_allows_http(NULL, "[::1]:5000"));
    assert_true(trust_allows_http(NULL, "nas.local"));
    assert_false(trust_allows_http(NULL, "reg.corp:5000"));
    assert_true(trust_allows_http(list, "reg.corp:5000"));
    assert_false(trust_allows_http(list, "reg.corp:5001"));
    assert_false(trust_allows_http(list, "reg.corp"));
    assert_true(trust_allows_http(list, "other.corp:77"));
    assert_false(trust_allows_http(list, "another.corp"));
}

static void redirects_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        bool ok;
    } cases[] = {
        {"https://a.example/x", "https://cdn.example.net/y", true},
        {"https://a.example/x", "http://a.example/y", false},
        {"https://a.example/x", "https://127.0.0.1/y", false},
        {"https://a.example/x", "https://localhost:99/y", false},
        {"https://a.example/x", "https://localhost./y", false},
        {"https://a.example/x", "https://x.localhost/y", false},
        {"https://a.example/x", "https://[::1]/y", false},
        {"https://a.example/x", "https://[::ffff:127.0.0.1]/y", false},
        {"https://a.example/x", "https://2130706433/y", false},
        {"https://a.example/x", "https://0x7f.1/y", false},
        {"https://a.example/x", "https://0/y", false},
        {"https://a.example/x", "https://169.254.169.254/latest", false},
        {"https://a.example/x", "https://[fe80::1]/y", false},
        {"https://a.example/x", "https://10.0.0.5/y", true}, /* a company's own storage */
        {"http://127.0.0.1:1/x", "http://127.0.0.1:2/y", true},
        {"http://127.0.0.1:1/x", "http://localhost:2/y", true},
        {"http://reg.corp:1/x", "http://reg.corp:2/y", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url from = url_of(cases[i].from), to = url_of(cases[i].to);
        struct err err = ERR_INIT;
        if (trust_redirect(&from, &to, &err) != (cases[i].ok ? 0 : -E_DENIED))
            fail_msg("%s -> %s: %s", cases[i].from, cases[i].to, err.msg);
    }
}

static void realms_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *list, *registry, *realm;
        bool ok;
    } cases[] = {
        {NULL, "https://registry-1.docker.io", "https://auth.docker.io/token", true},
        {NULL, "https://ghcr.io", "https://ghcr.io/token", true},
        {NULL, "https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true},
        {NULL, "https://reg.corp.example:5000", "https://auth.corp.example:5001/t", true},
        {NULL, "https://reg.corp.example", "https://auth.example/t", false},
        {NULL, "https://reg.example", "https://evil.example2/t", false},
        {NULL, "https://reg.example", "https://notreg.example.net/t", false},
        {NULL, "https://a.co.uk", "https://b.co.uk/t", false},
        {NULL, "https://r.a.co.uk", "https://b.a.co.uk/t", true},
        {NULL, "https://reg.example", "http://reg.example/t", false},
        {NULL, "https://reg.example", "https://127.0.0.1/t", false},
        {NULL, "https://reg.example", "https://169.254.169.254/t", false},
        {"169.254.169.254", "https://reg.example", "https://169.254.169.254/t", false},
        {NULL, "https://10.0.0.1", "https://10.0.0.2/t", false},
        {"10.0.0.2", "https://10.0.0.1", "https://10.0.0.2/t", true},
        {"sso.other.net", "https://reg.example", "https://sso.other.net/t", true},
        {"sso.other.net", "https://reg.example", "http://sso.other.net/t", false},
        {NULL, "http://reg.corp:5000", "http://reg.corp:5001/t", true},
        {NULL, "http://reg.corp:5000", "http://auth.corp/t", false},
        {NULL, "http://reg.corp:5000", "https://auth.reg.corp/t", true},
        {NULL, "http://127.0.0.1:5000", "http://localhost:5001/t", true},
        {NULL, "https://reg", "https://other/t", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url registry = url_of(cases[i].registry), realm = url_of(cases[i].realm);
        struct err err = ERR_INIT;
        if (trust_realm(cases[i].list, &registry, &realm, &err) != (cases[i].ok ? 0 : -E_DENIED))
            fail_msg("%s -> %s: %s", cases[i].registry, cases[i].realm, err.msg);
    }
}

static void challenges_are_read(void **state)
{
    (void)state;
    struct challenge c = {0};
    challenge_add(&c, STR_LIT("Basic realm=\"a, Bearer realm=\\\"x\\\"\", bearer Realm = "
                              "\"https://a/t\" ,service=s, scope=\"repository:a/b:pull,push\""));
    assert_true(c.has_basic && c.has_bearer);
    assert_string_equal(c.realm, "https://a/t");
    assert_string_equal(c.service, "s");
    assert_string_equal(c.scope, "repository:a/b:pull,push");
    static const char *const odd[] = {"",
                                      ",,,",
                                      "Bearer",
                                      "Bearer realm=",
                                      "Bearer =x",
                                      "\"Bearer\"",
                                      "Bearer realm=\"x",
                                      "Negotiate a==",
                                      "Bearer realm=\"\\"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        c = (struct challenge){0};
        challenge_add(&c, str_from(odd[i]));
        assert_string_equal(c.realm, "");
    }
    char longest[CHALLENGE_VALUE_BYTES + 100] = "Bearer realm=\"";
    memset(longest + 14, 'x', sizeof(longest) - 16);
    longest[sizeof(longest) - 2] = '"';
    c = (struct challenge){0};
    challenge_add(&c, (struct str){longest, sizeof(longest) - 1});
    assert_true(c.has_bearer);
    assert_string_equal(c.realm, "");
}

static void parse(const char *text, const char *registry, char *helper, struct credentials *c)
{
    struct err err = ERR_INIT;
    if (credentials_parse(str_from(text), registry, helper, c, &err) < 0)
        fail_msg("%s", err.msg);
}

static void credentials_are_found(void **state)
{
    (void)state;
    char helper[CREDENTIALS_HELPER_BYTES];
    struct credentials c;
    static const char text[] =
        "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOnE=\"},\"reg:5000\":{"
        "\"username\":\"a\",\"password\":\"b\"},\"https://x.example/team\":{\"auth\":\"dTpw\"},"
        "\"tok\":{\"auth\":\"\",\"identitytoken\":\"i\",\"registrytoken\":\"r\"},\"empty\":{}},"
        "\"credsStore\":\"all\",\"credHelpers\":{\"gcr.io\":\"gcloud\"},\"other\":[1]}";
    parse(text, "docker.io", helper, &c);
    assert_string_equal(c.username, "u");
    assert_string_equal(c.secret, "p:q");
    assert_string_equal(helper, "all");
    credentials_release(&c);
    parse(text, "reg:5000", helper, &c);
    assert_string_equal(c.username, "a");
    credentials_release(&c);
    parse(text, "reg:5001", helper, &c);
    assert_null(c.username);
    parse(text, "x.example", helper, &c);
    assert_null(c.username); /* a part of it */
    parse(text, "gcr.io", helper, &c);
    assert_string_equal(helper, "gcloud");
    parse(text, "tok", helper, &c);
    assert_string_equal(c.identity_token, "i");
    assert_string_equal(c.registry_token, "r");
    credentials_release(&c);
    parse(text, "empty", helper, &c);
    assert_null(c.username);
}

static void credentials_that_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"auths\":[]}",
                                      "{\"auths\":{\"r\":{\"auth\":\"%%\"}}}",
                                      "{\"auths\":{\"r\":{\"auth\":\"dXA=\"}}}",
                                      "{\"auths\":{\"r\":{\"auth\":7}}}",
                                      "{\"credsStore\":\"a/b\"}",
                                      "{\"credHelpers\":{\"r\":\"../sh\"}}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char helper[CREDENTIALS_HELPER_BYTES];
        struct credentials c;
        struct err err = ERR_INIT;
        assert_true(credentials_parse(str_from(bad[i]), "r", helper, &c, &err) < 0);
        assert_null(c.username);
    }
    struct credentials c;
    struct err err = ERR_INIT;
    assert_int_equal(
        credentials_parse_helper(
            STR_LIT("{\"ServerURL\":\"r\",\"Username\":\"<token>\",\"Secret\":\"t\"}"), &c, &err),
        0);
    assert_string_equal(c.identity_token, "t");
    credentials_release(&c);
    /* What would end a header's line is no credential. */
    assert_int_equal(
        credentials_parse_helper(STR_LIT("{\"Username\":\"u\",\"Secret\":\"a\\nX: y\"}"), &c, &err),
        0);
    assert_null(c.secret);
    credentials_release(&c);
}

static void base64_goes_there_and_back(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"\xff\xfe", "//4="}};
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zg===", "Z===", "Zg==Zg==", "Zm9v\n", "Z\0g="};
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, 100);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&b);
        base64_encode(str_from(pairs[i][0]), &b);
        assert_string_equal(buf_str(&b), pairs[i][1]);
        buf_clear(&b);
        assert_int_equal(base64_decode(str_from(pairs[i][1]), &b, &err), 0);
        assert_int_equal(b.len, strlen(pairs[i][0]));
        assert_string_equal(buf_str(&b), pairs[i][0]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(base64_decode(str_from(bad[i]), &b, &err), -E_FORMAT);
    buf_release(&b);
}

static void git_names_a_file(void **state)
{
    (void)state;
    struct git_blob g;
    char id[GIT_BLOB_ID_CHARS + 1];
    git_blob_init(&g, 6);
    git_blob_add(&g, "hello\n", 6);
    git_blob_end(&g, id);
    assert_string_equal(id, "ce013625030ba8dba906f756967f9e9ca394464a"); /* git hash-object */
}

static void programs_are_run_in_bounds(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct buf out;
    int status = -1;
    const char *cat[] = {"cat", NULL}, *none[] = {"berth-no-such-program", NULL},
               *slow[] = {"sleep", "30", NULL}, *yes[] = {"yes", NULL},
               *fails[] = {"sh", "-c", "echo x; exit 7", NULL},
               *deaf[] = {"sh", "-c", "exec <&-; echo y", NULL};
    buf_init(&out, 1 << 20);
    char *text = memset(test_malloc(300000), 'a', 300000);
    assert_int_equal(command_run(cat, (struct str){text, 300000}, &out, 10000, &status, &err), 0);
    assert_int_equal(out.len, 300000);
    test_free(text);
    assert_int_equal(status, 0);
    buf_clear(&out);
    assert_int_equal(command_run(fails, STR_LIT(""), &out, 10000, &status, &err), 0);
    assert_int_equal(status, 7);
    assert_string_equal(buf_str(&out), "x\n");
    buf_clear(&out);
    assert_int_equal(command_run(deaf, STR_LIT("input"), &out, 10000, &status, &err), 0);
    assert_string_equal(buf_str(&out), "y\n");
    assert_int_equal(command_run(none, STR_LIT(""), &out, 10000, &status, &err), -E_NOTFOUND);
    assert_int_equal(command_run(yes, STR_LIT(""), &out, 30000, &status, &err), -E_LIMIT);
    uint64_t begun = loop_now_ms();
    assert_int_equal(command_run(slow, STR_LIT(""), &out, 200, &status, &err), -E_TIMEOUT);
    assert_true(loop_now_ms() - begun < 20000);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read),
        cmocka_unit_test(addresses_that_are_refused),
        cmocka_unit_test(references_are_resolved),
        cmocka_unit_test(plain_http_only_here_or_by_name),
        cmocka_unit_test(redirects_are_judged),
        cmocka_unit_test(realms_are_judged),
        cmocka_unit_test(challenges_are_read),
        cmocka_unit_test(credentials_are_found),
        cmocka_unit_test(credentials_that_are_refused),
        cmocka_unit_test(base64_goes_there_and_back),
        cmocka_unit_test(git_names_a_file),
        cmocka_unit_test(programs_are_run_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
