/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net: event streams cut anywhere, the HTTP client against a server of our own. */
#include "tests/support/cmocka_all.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/httpc.h"
#include "lib/net/httpd.h"
#include "lib/net/sse.h"

static bool note_event(void *ctx, struct str name, struct str data)
{
    struct buf *out = ctx;
    buf_printf(out, "[%.*s|%.*s]", STR_ARG(name), STR_ARG(data));
    return !str_is(data, "stop");
}

static void events_survive_any_cut(void **state)
{
    (void)state;
    static const char stream[] =
        ": ping\n\ndata: {\"a\":1}\n\nevent: e\r\ndata:x\r\ndata: y\r\n\r\nid: 7\rdata\r\r\n"
        "data: [DONE]\n\ndata: unfinished";
    for (size_t step = 1; step < sizeof(stream); step++) {
        struct sse_reader r;
        struct buf out;
        struct err err = ERR_INIT;
        sse_reader_init(&r, 1000);
        buf_init(&out, 10000);
        for (size_t i = 0; i < sizeof(stream) - 1; i += step)
            assert_int_equal(sse_reader_feed(&r, stream + i, MIN_OF(step, sizeof(stream) - 1 - i),
                                             note_event, &out, &err),
                             0);
        assert_string_equal(buf_str(&out), "[message|{\"a\":1}][e|x\ny][message|][message|[DONE]]");
        buf_release(&out);
        sse_reader_release(&r);
    }
}

static void events_are_bounded_and_can_be_ended(void **state)
{
    (void)state;
    struct sse_reader r;
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, 1000);
    sse_reader_init(&r, 20);
    assert_int_equal(sse_reader_feed(&r, "data: 0123456789012345678", 25, note_event, &out, &err),
                     -E_LIMIT);
    sse_reader_release(&r);
    assert_int_equal(
        sse_reader_feed(&r, "data: 01234567\ndata: 890123456789\n\n", 35, note_event, &out, &err),
        -E_LIMIT);
    sse_reader_release(&r);
    assert_int_equal(sse_reader_feed(&r, "data: stop\n\ndata: x\n\n", 21, note_event, &out, &err),
                     -E_CANCELED);
    assert_string_equal(buf_str(&out), "[message|stop]");
    sse_reader_release(&r);
    buf_release(&out);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    struct sse_reader r;
    struct buf b, out;
    struct err err = ERR_INIT;
    buf_init(&b, 1000);
    buf_init(&out, 1000);
    sse_put_data(&b, STR_LIT("{\"x\":\"\\n\"}"));
    sse_put_comment(&b, STR_LIT("keep-alive"));
    assert_string_equal(buf_str(&b), "data: {\"x\":\"\\n\"}\n\n: keep-alive\n\n");
    sse_reader_init(&r, 1000);
    assert_int_equal(sse_reader_feed(&r, b.data, b.len, note_event, &out, &err), 0);
    assert_string_equal(buf_str(&out), "[message|{\"x\":\"\\n\"}]");
    sse_reader_release(&r);
    buf_release(&b);
    buf_release(&out);
}

/* Answers with method, path, x-test header and body. */
static void on_request(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    struct buf out;
    const char *h = httpd_header(r, "x-test");
    if (strcmp(httpd_path(r), "/silent") == 0) {
        httpd_request_unref(httpd_request_ref(r));
        return;
    }
    buf_init(&out, 1 << 20);
    buf_printf(&out, "%s %s %s %.*s", httpd_method(r), httpd_path(r), h ? h : "-",
               STR_ARG(httpd_body(r)));
    httpd_answer_buf(r, strcmp(httpd_path(r), "/teapot") == 0 ? 418 : 200, "text/plain", &out);
    buf_release(&out);
}

static struct httpd *server(void)
{
    struct httpd *h = NULL;
    struct err err = ERR_INIT;
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct httpd_config cfg = {.listen = &tcp, .n_listen = 1, .on_request = on_request};
    assert_int_equal(httpd_start(&cfg, &h, &err), 0);
    return h;
}

static void fetch(struct httpd *h, const char *method, const char *path, const char *body,
                  int status, const char *wanted)
{
    char url[64];
    struct buf out;
    struct err err = ERR_INIT;
    int got = 0;
    static const char *const headers[] = {"x-test: yes", NULL};
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", httpd_port(h), path);
    buf_init(&out, 1 << 20);
    struct httpc_request rq = {.method = method,
                               .url = url,
                               .body = body,
                               .body_len = body ? strlen(body) : 0,
                               .headers = headers,
                               .total_timeout_ms = 5000};
    int rc = httpc_fetch(&rq, &got, &out, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(got, status);
    assert_string_equal(buf_str(&out), wanted);
    buf_release(&out);
}

static void client_fetches(void **state)
{
    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* must not be used for loopback */
    struct httpd *h = server();
    fetch(h, "GET", "/a%2Fb?x=1", NULL, 200, "GET /a/b yes ");
    fetch(h, "POST", "//p//q/", "{\"k\":1}", 200, "POST /p/q/ yes {\"k\":1}");
    fetch(h, "POST", "/", NULL, 200, "POST / yes ");
    fetch(h, "DELETE", "/teapot", NULL, 418, "DELETE /teapot yes ");
    httpd_stop(h);
    unsetenv("http_proxy");
}

static bool refuse_data(void *ctx, int status, const char *p, size_t n)
{
    (void)p;
    (void)n;
    *(int *)ctx = status;
    return false;
}

static void client_says_why_it_failed(void **state)
{
    (void)state;
    struct httpd *h = server();
    uint16_t port = httpd_port(h);
    char url[64];
    int status = 0, seen = 0;
    struct err err = ERR_INIT;
    struct buf out;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/silent", port);
    struct httpc_request rq = {.method = "GET", .url = url, .total_timeout_ms = 100};
    assert_int_equal(httpc_do(&rq, &status, &err), -E_TIMEOUT);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", port);
    rq.on_data = refuse_data;
    rq.ctx = &seen;
    rq.total_timeout_ms = 5000;
    assert_int_equal(httpc_do(&rq, &status, &err), -E_CANCELED);
    assert_int_equal(seen, 200);
    buf_init(&out, 4);
    assert_int_equal(httpc_fetch(&rq, &status, &out, &err), -E_LIMIT);
    buf_release(&out);
    httpd_stop(h);
    assert_int_equal(httpc_do(&rq, &status, &err), -E_NET);
    assert_non_null(strstr(err.msg, url));
    rq.url = "file:///etc/passwd";
    assert_int_equal(httpc_do(&rq, &status, &err), -E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_survive_any_cut),
        cmocka_unit_test(events_are_bounded_and_can_be_ended),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(client_fetches),
        cmocka_unit_test(client_says_why_it_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
