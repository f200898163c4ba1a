/* SPDX-License-Identifier: Apache-2.0 */
/* Implements http_server.h. */
#include "tests/support/http_server.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/http_client.h"

void server_count_gone(void *ctx)
{
    atomic_fetch_add(&((struct http_server *)ctx)->n_gone, 1);
}

static void count_quiet(void *ctx)
{
    atomic_fetch_add(&((struct http_server *)ctx)->n_quiet, 1);
}

void server_count_later(void *ctx)
{
    atomic_fetch_add(&((struct http_server *)ctx)->n_later, 1);
}

static void on_headers(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    if (strcmp(httpd_path(r), "/refused") == 0)
        httpd_answer(r, 403, "text/plain", STR_LIT("no"));
}

static void answer_big(struct httpd_request *r)
{
    struct buf out;
    buf_init(&out, 32u << 20);
    assert_int_equal(buf_reserve(&out, 32u << 20), 0);
    memset(out.data, 'x', 32u << 20);
    out.len = 32u << 20;
    httpd_answer_buf(r, 200, "text/plain", &out);
}

void server_on_request(void *ctx, struct httpd_request *r)
{
    struct http_server *s = ctx;
    struct buf out;
    if (strcmp(httpd_path(r), "/later") == 0 || strcmp(httpd_path(r), "/stream") == 0) {
        httpd_on_gone(r, server_count_gone, s);
        httpd_on_quiet(r, 50, count_quiet, s);
        if (strcmp(httpd_path(r), "/stream") == 0)
            httpd_stream_begin(r, 200, "text/event-stream");
        atomic_store(&s->kept, httpd_request_ref(r));
        return;
    }
    if (strcmp(httpd_path(r), "/big") == 0) {
        answer_big(r);
        return;
    }
    if (strcmp(httpd_path(r), "/stream-now") == 0) {
        httpd_stream_begin(r, 200, "text/plain");
        for (int i = 0; i < 100 && httpd_stream_write(r, STR_LIT("0123456789")) == 0; i++)
            ;
        httpd_stream_end(r);
        return;
    }
    const char *x = httpd_query_value(r, "x y");
    buf_init(&out, 64u << 20);
    buf_printf(&out, "<%s %s %s %s ", httpd_method(r), httpd_path(r), httpd_query(r), x ? x : "-");
    buf_append(&out, httpd_body(r).p, httpd_body(r).len);
    buf_append_char(&out, '>');
    httpd_set_header(r, "X-Good", "yes");
    httpd_set_header(r, "X-Bad", "a\r\nX-Worse: b");
    httpd_answer_buf(r, 200, "text/plain", &out);
}

static void on_done(void *ctx, struct httpd_request *r, const struct httpd_result *result)
{
    struct http_server *s = ctx;
    assert_non_null(httpd_path(r));
    assert_true(result->total_ms >= 0 && result->total_ms < 60000);
    atomic_store(&s->last_status, result->status);
    atomic_fetch_add(&s->n_complete, result->complete);
    atomic_fetch_add(&s->n_left, result->status == 0);
    atomic_fetch_add(&s->n_done, 1);
}

void server_start(struct http_server *s, struct httpd_config cfg)
{
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct err err = ERR_INIT;
    memset(s, 0, sizeof(*s));
    cfg.listen = &tcp;
    cfg.n_listen = 1;
    cfg.on_headers = on_headers;
    cfg.on_request = server_on_request;
    cfg.on_done = on_done;
    cfg.ctx = s;
    if (httpd_start(&cfg, &s->h, &err) < 0)
        fail_msg("%s", err.msg);
    s->port = httpd_port(s->h);
}

struct httpd_stats server_stats(struct http_server *s)
{
    struct httpd_stats now;
    httpd_stats(s->h, &now);
    return now;
}

struct httpd_request *server_kept(struct http_server *s)
{
    UNTIL(atomic_load(&s->kept));
    return atomic_exchange(&s->kept, NULL);
}

void server_expect(struct http_server *s, const char *text, const char *wanted, unsigned n)
{
    int fd = client_dial(s->port);
    client_send(fd, text);
    char *got = client_read_all(fd);
    if (client_count(got, wanted) != n || strstr(got, "<timeout>"))
        fail_msg("%s: not %u times %s: %s", text, n, wanted, got);
    mem_free(got);
}
