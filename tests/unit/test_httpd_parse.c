/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd_parse.h: good and hostile heads and chunked bodies, each cut at every byte, with
 * the same result. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_parse.h"

#define GET  "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"

static const struct {
    const char *text;
    size_t len; /* 0: strlen */
    int status; /* HTTP_MORE, HTTP_DONE or a refusal */
} heads[] = {
    {GET HOST "\r\n", 0, HTTP_DONE},
    {"\r\n" GET HOST "\r\n", 0, HTTP_DONE},
    {"\r\n\r\n" GET HOST "\r\n", 0, 400},
    {"GET / HTTP/1.0\r\n\r\n", 0, HTTP_DONE},
    {"M-SEARCH * HTTP/1.1\r\nhOST:a\r\n\r\n", 0, HTTP_DONE},
    {GET "Host:\r\nX:\r\nY: \t \r\nZ: a\tb \xff\r\n\r\n", 0, HTTP_DONE},
    {"POST /x?y#z HTTP/1.1\r\n" HOST "\r\n", 0, 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 0, HTTP_DONE},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 999999999999999999\r\n\r\n", 0, HTTP_DONE},
    {GET HOST "\r", 0, HTTP_MORE},
    {"", 0, HTTP_MORE},
    {"GET ", 0, HTTP_MORE},
    /* the request line */
    {" GET / HTTP/1.1\r\n" HOST "\r\n", 0, 400},
    {"GET\t/ HTTP/1.1\r\n", 0, 400},
    {"GET  / HTTP/1.1\r\n", 0, 400},
    {"GET /  HTTP/1.1\r\n", 0, 400},
    {"GET /\tx HTTP/1.1\r\n", 0, 400},
    {"GET /\xc3\xa9 HTTP/1.1\r\n", 0, 400},
    {"GET /\x7f HTTP/1.1\r\n", 0, 400},
    {"GET / HTTP/1.1 \r\n", 0, 400},
    {"GET / http/1.1\r\n", 0, 400},
    {"GET / HTTP/1.\r\n", 0, 400},
    {"GET / HTTP/1.10\r\n", 0, 400},
    {"GET / HTTPS/1.1\r\n", 0, 400},
    {"GET / \r\n", 0, 400},
    {"GET /\r\n", 0, 400},
    {"G(T / HTTP/1.1\r\n", 0, 400},
    {"G\xc3T / HTTP/1.1\r\n", 0, 400},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", 0, 400},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 505},
    {"GET / HTTP/0.9\r\n", 0, 505},
    {"GET / HTTP/1.2\r\n", 0, 505},
    {"GET / HTTP/3.0\r\n", 0, 505},
    {"\x16\x03\x01", 0, 400},
    /* line ends and control bytes */
    {"GET / HTTP/1.1\n" HOST "\r\n", 0, 400},
    {"GET / HTTP/1.1\r" HOST "\r\n", 0, 400},
    {"GET / HTTP/1.1\r\r\n" HOST "\r\n", 0, 400},
    {GET "Host: a\n\r\n", 0, 400},
    {GET "Host: a\rX: b\r\n\r\n", 0, 400},
    {GET "Host: a\r\r\n\r\n", 0, 400},
    {GET HOST "\n", 0, 400},
    {GET HOST "\rX", 0, 400},
    {"\n" GET HOST "\r\n", 0, 400},
    {"\rGET", 0, 400},
    {GET "Host: a\0b\r\n\r\n", 28, 400},
    {GET "Ho\0st: a\r\n\r\n", 28, 400},
    {"GET /\0 HTTP/1.1\r\n", 17, 400},
    {"GE\0T / HTTP/1.1\r\n", 17, 400},
    {GET HOST "X: a\x01\r\n\r\n", 0, 400},
    {GET HOST "X: \x1b[2J\r\n\r\n", 0, 400},
    {GET HOST "X: a\x7f\r\n\r\n", 0, 400},
    /* fields */
    {GET "Host : a\r\n\r\n", 0, 400},
    {GET "Host\t: a\r\n\r\n", 0, 400},
    {GET ": a\r\n\r\n", 0, 400},
    {GET HOST "nonsense\r\n\r\n", 0, 400},
    {GET HOST " folded\r\n\r\n", 0, 400},
    {GET HOST "X: y\r\n\tfolded\r\n\r\n", 0, 400},
    {GET " Host: a\r\n\r\n", 0, 400},
    {GET HOST "X\xc3: y\r\n\r\n", 0, 400},
    {GET HOST "X(y): z\r\n\r\n", 0, 400},
    {GET "\r\n", 0, 400},
    {GET HOST HOST "\r\n", 0, 400},
    {"GET / HTTP/1.0\r\n" HOST HOST "\r\n", 0, 400},
    /* framing */
    {GET HOST "Content-Length: 2\r\nContent-Length: 2\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: 2, 2\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: -1\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: +5\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: 0x5\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: 5 5\r\n\r\n", 0, 400},
    {GET HOST "Content-Length:\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: 18446744073709551617\r\n\r\n", 0, 400},
    {GET HOST "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400},
    {GET HOST "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", 0, 400},
    {GET HOST "Transfer-Encoding: Chunked\r\n\r\n", 0, HTTP_DONE},
    {GET HOST "Transfer-Encoding: xchunked\r\n\r\n", 0, 501},
    {GET HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, 501},
    {GET HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 501},
    {GET HOST "Transfer-Encoding: identity\r\n\r\n", 0, 501},
    {GET HOST "Transfer-Encoding:\r\n\r\n", 0, 501},
    {GET HOST "Transfer-Encoding: \x0b"
              "chunked\r\n\r\n",
     0, 400},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400},
    {GET HOST "Expect: 100-Continue\r\n\r\n", 0, HTTP_DONE},
    {GET HOST "Expect: 200-ok\r\n\r\n", 0, 417},
};

/* Feeds in two pieces, or byte by byte for cut == SIZE_MAX; the status and how much was used. */
static int feed_head(struct http_head *h, const char *p, size_t n, size_t cut, size_t *ret_used)
{
    int rc = HTTP_MORE;
    size_t used, at = 0;
    http_head_init(h);
    while (at < n && rc == HTTP_MORE) {
        size_t step = cut == SIZE_MAX ? 1 : at < cut ? cut - at : n - at;
        rc = http_head_feed(h, p + at, step, &used);
        assert_true(used <= step);
        if (rc == HTTP_MORE)
            assert_int_equal(used, step);
        at += used;
    }
    *ret_used = at;
    return rc;
}

static void heads_are_read_alike_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        size_t len = heads[i].len ? heads[i].len : strlen(heads[i].text), used, first_used = 0;
        const char *why = NULL;
        for (size_t cut = 0; cut <= len; cut++) {
            struct http_head h;
            /* A block of exactly that size, so that ASan sees a byte read beyond. */
            char *copy = mem_alloc(len);
            memcpy(copy, heads[i].text, len);
            int rc = feed_head(&h, copy, len, cut == len ? SIZE_MAX : cut, &used);
            if (rc != heads[i].status)
                fail_msg("head %zu cut at %zu: %d (%s), not %d: %s", i, cut, rc,
                         h.why ? h.why : "-", heads[i].status, heads[i].text);
            assert_true((h.why != NULL) == (rc >= 400));
            if (cut == 0) {
                why = h.why;
                first_used = used;
            }
            assert_ptr_equal(h.why, why);
            assert_int_equal(used, first_used);
            http_head_release(&h);
            mem_free(copy);
        }
    }
}

static void a_head_is_taken_apart(void **state)
{
    (void)state;
    static const char text[] =
        "POST /a%2Fb//c?d=e HTTP/1.1\r\nHost: h:1\r\nX:  y z\t \r\nx: second\r\n"
        "Empty:\r\nConnection: foo , Close\r\nContent-Length: 17\r\n"
        "Expect: 100-continue\r\n\r\nrest";
    struct http_head h;
    char path[64];
    const char *query;
    size_t used;
    http_head_init(&h);
    assert_true(http_head_is_empty(&h));
    assert_int_equal(http_head_feed(&h, text, sizeof(text) - 1, &used), HTTP_DONE);
    assert_string_equal(text + used, "rest");
    assert_string_equal(http_head_method(&h), "POST");
    assert_string_equal(http_head_target(&h), "/a%2Fb//c?d=e");
    assert_string_equal(http_head_get(&h, "x"), "y z");
    assert_string_equal(http_head_get(&h, "EMPTY"), "");
    assert_null(http_head_get(&h, "Y"));
    assert_true(h.wants_close && h.wants_continue && h.has_length && !h.is_chunked && !h.is_1_0);
    assert_int_equal(h.length, 17);
    assert_true(http_head_path(&h, path, &query));
    assert_string_equal(path, "/a/b/c");
    assert_string_equal(query, "d=e");
    http_head_release(&h);
}

/* The path of a request for target, or "-". */
static void expect_path(const char *method, const char *target, const char *wanted,
                        const char *wanted_query)
{
    char text[256], path[256];
    struct http_head h;
    const char *query;
    size_t used;
    http_head_init(&h);
    int n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: Me:80\r\n\r\n", method, target);
    assert_int_equal(http_head_feed(&h, text, (size_t)n, &used), HTTP_DONE);
    bool ok = http_head_path(&h, path, &query);
    assert_string_equal(ok ? path : "-", wanted);
    assert_string_equal(query, wanted_query);
    http_head_release(&h);
}

static void targets_name_a_path_here(void **state)
{
    (void)state;
    expect_path("GET", "/", "/", "");
    expect_path("GET", "/?", "/", "");
    expect_path("GET", "//a///b/", "/a/b/", "");
    expect_path("GET", "/%41%zz", "-", "");
    expect_path("GET", "/%4", "-", "");
    expect_path("GET", "/%", "-", "");
    expect_path("GET", "/%00", "-", "");
    expect_path("GET", "/%4?1=%zz", "-", "1=%zz");
    expect_path("GET", "/a?b?c%20", "/a", "b?c%20");
    expect_path("GET", "http://me:80/a?b", "/a", "b");
    expect_path("GET", "HTTP://ME:80", "/", "");
    expect_path("GET", "http://me:80?x", "/", "x");
    expect_path("GET", "http://me:81/a", "-", "");
    expect_path("GET", "http://me:80@evil/a", "-", "");
    expect_path("GET", "http://", "-", "");
    expect_path("GET", "http:///a", "-", "");
    expect_path("GET", "ftp://me:80/a", "-", "");
    expect_path("CONNECT", "me:80", "-", "");
    expect_path("OPTIONS", "*", "*", "");
    expect_path("GET", "*", "-", "");
    expect_path("GET", "a", "-", "");
    char out[16];
    assert_true(http_decode_value("a+b%20%2b", 9, out));
    assert_string_equal(out, "a b +");
    assert_false(http_decode_value("%2", 2, out));
    assert_false(http_decode_value("%00", 3, out));
}

/* What is endless in one place, fed in pieces of 1,000 bytes, ends with that status and within its
 * limit. */
static void expect_endless(const char *begin, const char *again, int status, size_t max)
{
    struct http_head h;
    char piece[1000];
    size_t n = strlen(again), used, total = 0;
    http_head_init(&h);
    for (size_t i = 0; i + n <= sizeof(piece); i += n)
        memcpy(piece + i, again, n);
    int rc = http_head_feed(&h, begin, strlen(begin), &used);
    while (rc == HTTP_MORE && total < 1000000) {
        rc = http_head_feed(&h, piece, sizeof(piece) / n * n, &used);
        total += used;
    }
    assert_int_equal(rc, status);
    assert_true(total <= max);
    assert_true(h.text.cap <= 2 * LIMIT_HTTP_MEMORY_PER_CONN);
    http_head_release(&h);
}

static void heads_are_bounded(void **state)
{
    (void)state;
    expect_endless("", "G", 400, 32);
    expect_endless("GET /", "a", 414, LIMIT_HTTP_TARGET_BYTES);
    expect_endless(GET, "a", 431, LIMIT_HTTP_MEMORY_PER_CONN);
    expect_endless(GET "a: ", "a", 431, LIMIT_HTTP_MEMORY_PER_CONN);
    expect_endless(GET "a:", " ", 431, LIMIT_HTTP_MEMORY_PER_CONN);
    expect_endless(GET, "a: b\r\n", 431, LIMIT_HTTP_HEADERS * 6 + 1);
    expect_endless(GET HOST "\r\n", "x", HTTP_DONE, 0);
}

static void memory_that_is_out_is_a_status(void **state)
{
    (void)state;
    static const char text[] = GET HOST "X: y\r\n\r\n";
    struct http_head h;
    size_t used;
    for (long n = 0; n < 2; n++) {
        http_head_init(&h);
        mem_fault_after(n);
        assert_int_equal(http_head_feed(&h, text, sizeof(text) - 1, &used), 503);
        mem_fault_after(-1);
        http_head_release(&h);
    }
}

static const struct {
    const char *text;
    int status;
    const char *data; /* of HTTP_DONE; rest is what was not used */
    const char *rest;
} bodies[] = {
    {"0\r\n\r\n", HTTP_DONE, "", ""},
    {"0\r\n\r\nGET", HTTP_DONE, "", "GET"},
    {"3\r\nabc\r\n0\r\n\r\n", HTTP_DONE, "abc", ""},
    {"000003\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n", HTTP_DONE, "abc0123456789", ""},
    {"1;a\r\nx\r\n1;a=b;c=\"d;\\\"e\"\r\ny\r\n0;z\r\n\r\n", HTTP_DONE, "xy", ""},
    {"0\r\nA: b\r\nC:\r\n\r\nrest", HTTP_DONE, "", "rest"},
    {"3\r\nab", HTTP_MORE, NULL, NULL},
    {"\r\n", 400, NULL, NULL},
    {"x\r\n", 400, NULL, NULL},
    {"-1\r\n", 400, NULL, NULL},
    {"+1\r\nx\r\n", 400, NULL, NULL},
    {" 1\r\nx\r\n", 400, NULL, NULL},
    {"1 \r\nx\r\n", 400, NULL, NULL},
    {"0x1\r\nx\r\n", 400, NULL, NULL},
    {"1\nx\n0\n\n", 400, NULL, NULL},
    {"1\rx", 400, NULL, NULL},
    {"1\r\nxy\r\n0\r\n\r\n", 400, NULL, NULL},
    {"1\r\nx\n0\r\n\r\n", 400, NULL, NULL},
    {"1\r\nx\rx", 400, NULL, NULL},
    {"1;\r\nx\r\n", 400, NULL, NULL},
    {"1;=\r\nx\r\n", 400, NULL, NULL},
    {"1;a=\r\nx\r\n", 400, NULL, NULL},
    {"1;a b\r\nx\r\n", 400, NULL, NULL},
    {"1;a=\"b\r\nx\r\n", 400, NULL, NULL},
    {"1;a=\"b\"c\r\nx\r\n", 400, NULL, NULL},
    {"1;a\nx\r\n", 400, NULL, NULL},
    {"10000000000000000\r\nx", 400, NULL, NULL},
    {"fffffffffffffffff\r\nx", 400, NULL, NULL},
    {"0\r\nbad\r\n\r\n", 400, NULL, NULL},
    {"0\r\n: b\r\n\r\n", 400, NULL, NULL},
    {"0\r\n folded\r\n\r\n", 400, NULL, NULL},
    {"0\r\nA: b\n\r\n", 400, NULL, NULL},
    {"0\r\nA: \x01\r\n\r\n", 400, NULL, NULL},
    {"0\r\n\rx", 400, NULL, NULL},
    {"0\r\n\n", 400, NULL, NULL},
};

static int feed_chunks(const char *p, size_t n, size_t cut, struct buf *out, size_t *ret_used)
{
    struct http_chunked c;
    struct str data;
    int rc = HTTP_MORE;
    size_t used, at = 0;
    http_chunked_init(&c);
    while (at < n && rc == HTTP_MORE) {
        size_t step = cut == SIZE_MAX ? 1 : at < cut ? cut - at : n - at;
        rc = http_chunked_feed(&c, p + at, step, &used, &data);
        assert_true(used > 0 && used <= step);
        buf_append(out, data.p, data.len);
        at += used;
    }
    assert_true((c.why != NULL) == (rc >= 400));
    *ret_used = at;
    return rc;
}

static void chunks_are_read_alike_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        size_t len = strlen(bodies[i].text), used;
        for (size_t cut = 0; cut <= len; cut++) {
            struct buf out;
            buf_init(&out, 1000);
            int rc = feed_chunks(bodies[i].text, len, cut == len ? SIZE_MAX : cut, &out, &used);
            if (rc != bodies[i].status)
                fail_msg("body %zu cut at %zu: %d, not %d: %s", i, cut, rc, bodies[i].status,
                         bodies[i].text);
            if (rc == HTTP_DONE) {
                assert_string_equal(buf_str(&out), bodies[i].data);
                assert_string_equal(bodies[i].text + used, bodies[i].rest);
            }
            buf_release(&out);
        }
    }
}

static void expect_endless_chunks(const char *begin, const char *again, size_t max)
{
    struct http_chunked c;
    struct str data;
    size_t used, total = 0;
    int rc = HTTP_MORE;
    http_chunked_init(&c);
    for (const char *p = begin; *p && rc == HTTP_MORE; p += used)
        rc = http_chunked_feed(&c, p, strlen(p), &used, &data);
    while (rc == HTTP_MORE && total < 1000000) {
        for (const char *p = again; *p && rc == HTTP_MORE; p += used, total += used)
            rc = http_chunked_feed(&c, p, strlen(p), &used, &data);
    }
    assert_int_equal(rc, 400);
    assert_true(total <= max);
}

static void chunk_lines_and_trailers_are_bounded(void **state)
{
    (void)state;
    expect_endless_chunks("", "0", 257);
    expect_endless_chunks("1;a", "a", 257);
    expect_endless_chunks("", "1;abcdefghijklmnop\r\nx\r\n", 16384);
    expect_endless_chunks("0\r\nA: ", "b", 8193);
    expect_endless_chunks("0\r\n", "A:\r\n", 8193);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_read_alike_however_they_are_cut),
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(targets_name_a_path_here),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(memory_that_is_out_is_a_status),
        cmocka_unit_test(chunks_are_read_alike_however_they_are_cut),
        cmocka_unit_test(chunk_lines_and_trailers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
