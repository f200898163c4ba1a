/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd.h over TCP: requests in order, bodies, answers from other threads, streams, who
 * leaves, deadlines, limits, the end.  Sockets of other kinds and TLS: test_httpd_sockets.c. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/net/httpd.h"
#include "tests/support/fds.h"
#include "tests/support/http_client.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define LAST      "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

/* --- the server: what a request's path asks for ---
 * /later, /stream: kept for the test to answer; /stream-now: 1,000 bytes at once; /refused:
 * answered by on_headers; /big: a body of 32 MiB; the rest: method, path, query and body. */

struct server {
    struct httpd *h;
    uint16_t port;
    _Atomic(struct httpd_request *) kept;
    atomic_uint n_gone, n_quiet, n_later, n_done, n_complete, n_left;
    atomic_int last_status;
};

static void count_gone(void *ctx)
{
    atomic_fetch_add(&((struct server *)ctx)->n_gone, 1);
}

static void count_quiet(void *ctx)
{
    atomic_fetch_add(&((struct server *)ctx)->n_quiet, 1);
}

static void count_later(void *ctx)
{
    atomic_fetch_add(&((struct server *)ctx)->n_later, 1);
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

static void on_request(void *ctx, struct httpd_request *r)
{
    struct server *s = ctx;
    struct buf out;
    if (strcmp(httpd_path(r), "/later") == 0 || strcmp(httpd_path(r), "/stream") == 0) {
        httpd_on_gone(r, count_gone, s);
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
    struct server *s = ctx;
    assert_non_null(httpd_path(r));
    assert_true(result->total_ms >= 0 && result->total_ms < 60000);
    atomic_store(&s->last_status, result->status);
    atomic_fetch_add(&s->n_complete, result->complete);
    atomic_fetch_add(&s->n_left, result->status == 0);
    atomic_fetch_add(&s->n_done, 1);
}

static void server_start(struct server *s, struct httpd_config cfg)
{
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct err err = ERR_INIT;
    memset(s, 0, sizeof(*s));
    cfg.listen = &tcp;
    cfg.n_listen = 1;
    cfg.on_headers = on_headers;
    cfg.on_request = on_request;
    cfg.on_done = on_done;
    cfg.ctx = s;
    if (httpd_start(&cfg, &s->h, &err) < 0)
        fail_msg("%s", err.msg);
    s->port = httpd_port(s->h);
}

static struct httpd_stats stats(struct server *s)
{
    struct httpd_stats now;
    httpd_stats(s->h, &now);
    return now;
}

/* Waits up to a minute. */
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        for (int tries_ = 0; tries_ < 30000 && !(cond); tries_++)                                  \
            client_wait_ms(2);                                                                     \
        assert_true(cond);                                                                         \
    } while (0)

static struct httpd_request *kept(struct server *s)
{
    UNTIL(atomic_load(&s->kept));
    return atomic_exchange(&s->kept, NULL);
}

/* Sends text, expects the whole of what comes back to hold wanted, n times. */
static void expect(struct server *s, const char *text, const char *wanted, unsigned n)
{
    int fd = client_dial(s->port);
    client_send(fd, text);
    char *got = client_read_all(fd);
    if (client_count(got, wanted) != n || strstr(got, "<timeout>"))
        fail_msg("%s: not %u times %s: %s", text, n, wanted, got);
    mem_free(got);
}

/* --- requests and answers --- */

static void requests_are_served_in_order(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){.n_threads = 2});
    int fd = client_dial(s.port);
    client_send(fd, GET("/1") "POST /2?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                              "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
                              "HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n" GET("/refused") LAST);
    char *got = client_read_all(fd);
    const char *at = got;
    static const char *const wanted[] = {"<GET /1  - >",     "<POST /2 q - abc>",
                                         "<POST /3  - def>", "Content-Length: 13\r\n",
                                         "403 Forbidden",    "<GET /last"};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (!(at = strstr(at, wanted[i])))
            fail_msg("no %s in its place: %s", wanted[i], got);
    }
    assert_int_equal(client_count(got, "HTTP/1.1 200 OK\r\n"), 5);
    assert_null(strstr(got, "<HEAD"));
    assert_int_equal(client_count(got, "X-Good: yes\r\n"), 5);
    assert_null(strstr(got, "X-Worse"));
    assert_int_equal(client_count(got, "X-Content-Type-Options: nosniff\r\n"), 6);
    assert_int_equal(client_count(got, " GMT\r\n"), 6);
    assert_int_equal(client_count(got, "Connection: close\r\n"), 1);
    mem_free(got);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_done), 6);
    assert_int_equal(atomic_load(&s.n_complete), 6);
    struct httpd_stats now = stats(&s);
    assert_int_equal(now.n_requests_ever, 6);
    assert_int_equal(now.n_accepted, 1);
    assert_int_equal(now.received_bytes, 6);
    httpd_stop(s.h);
}

static void requests_arrive_in_any_pieces(void **state)
{
    (void)state;
    static const char text[] = "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3;e=f\r\nabc\r\n0\r\n\r\n" LAST;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        client_send_bytes(fd, text + i, 1);
        if (i % 16 == 0)
            client_wait_ms(1);
    }
    char *got = client_read_all(fd);
    assert_non_null(strstr(got, "<POST /p  - abc>"));
    assert_non_null(strstr(got, "<GET /last  - >"));
    mem_free(got);
    httpd_stop(s.h);
}

static void versions_and_persistence(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    expect(&s, "GET /a HTTP/1.0\r\n\r\n", "Connection: close\r\n", 1);
    expect(&s, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" LAST,
           "Connection: keep-alive\r\n", 1);
    expect(&s, "GET /a?x+y=1%2b1&b HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", " 1+1 >",
           1);
    expect(&s, LAST "garbage", "HTTP/1.1", 1);
    expect(&s, GET("/a") "garbage\r\n", "HTTP/1.1 400 ", 1);
    expect(&s, GET("/a") "\r\n" LAST, "HTTP/1.1 200 ", 2);
    expect(&s, "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "<GET /b ", 1);
    httpd_stop(s.h);
}

static void bodies_refused_early_are_dropped_or_not_waited_for(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){.max_body_bytes = 4u << 20});
    /* A short one is dropped and the connection goes on. */
    expect(&s, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" LAST,
           "<GET /last", 1);
    expect(&s,
           "POST /refused HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
           "0\r\n\r\n" LAST,
           "<GET /last", 1);
    /* One that waits to be asked for, or is long, or of unknown length and long, ends it. */
    expect(&s,
           "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
           "Connection: close", 1);
    expect(&s, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\nabc",
           "Connection: close", 1);
    int fd = client_dial(s.port);
    client_send(fd, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    char *block = mem_alloc(65536 + 16);
    size_t n = (size_t)snprintf(block, 16, "10000\r\n");
    block[n + 65536] = '\r';
    block[n + 65537] = '\n';
    for (int i = 0; i < 100; i++) /* 6.4 MiB, sent to the end */
        client_send_bytes(fd, block, n + 65538);
    mem_free(block);
    char *got = client_read_all(fd);
    assert_int_equal(client_count(got, "HTTP/1.1 413 "), 1);
    mem_free(got);
    expect(&s, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4194305\r\n\r\n", "HTTP/1.1 413 ",
           1);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(stats(&s).n_refused, 2);
    httpd_stop(s.h);
}

static void a_body_may_be_asked_for(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    client_send(fd, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
                    "Connection: close\r\n\r\n");
    char *got = client_read_until(fd, "\r\n\r\n");
    assert_string_equal(got, "HTTP/1.1 100 Continue\r\n\r\n");
    mem_free(got);
    client_send(fd, "abc");
    got = client_read_all(fd);
    assert_non_null(strstr(got, "<POST /p  - abc>"));
    mem_free(got);
    httpd_stop(s.h);
}

static void large_bodies_go_both_ways(void **state)
{
    (void)state;
    struct server s;
    char head[128];
    size_t n = 20u << 20;
    server_start(&s, (struct httpd_config){0});
    char *body = mem_alloc(n);
    memset(body, 'b', n);
    int fd = client_dial(s.port);
    snprintf(head, sizeof(head),
             "POST /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", n);
    client_send(fd, head);
    client_send_bytes(fd, body, n);
    char *got = client_read_all(fd), *end = strstr(got, "<POST /p  - ");
    assert_non_null(end);
    assert_int_equal(strlen(end), 12 + n + 1);
    assert_memory_equal(end + 12, body, n);
    mem_free(got);
    mem_free(body);
    assert_int_equal(stats(&s).received_bytes, n);
    httpd_stop(s.h);
}

/* --- answers from other threads --- */

static void streams_come_as_written(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    for (int version = 0; version <= 1; version++) {
        char text[128];
        struct buf wanted;
        buf_init(&wanted, 1u << 20);
        int fd = client_dial(s.port);
        snprintf(text, sizeof(text), "GET /stream HTTP/1.%d\r\nHost: a\r\n\r\n%s", version,
                 version ? LAST : "");
        client_send(fd, text);
        struct httpd_request *r = kept(&s);
        for (int i = 0; i < 300; i++) {
            snprintf(text, sizeof(text), "data: %d\n\n", i);
            assert_int_equal(httpd_stream_write(r, str_from(text)), 0);
            if (i % 50 == 0)
                client_wait_ms(3);
            buf_append_str(&wanted, text);
        }
        httpd_stream_end(r);
        httpd_request_unref(r);
        char *got = client_read_all(fd), *body = strstr(got, "\r\n\r\n");
        assert_non_null(body);
        body += 4;
        assert_int_equal(client_count(got, "chunked"), version);
        if (version == 0) {
            assert_string_equal(body, buf_str(&wanted));
        } else { /* chunks, then the answer to LAST */
            struct buf plain;
            buf_init(&plain, 1u << 20);
            for (size_t n; (n = strtoul(body, &body, 16)) > 0; body += n + 4)
                buf_append(&plain, body + 2, n);
            assert_string_equal(buf_str(&plain), buf_str(&wanted));
            assert_non_null(strstr(body, "\r\n\r\nHTTP/1.1 200 OK\r\n"));
            buf_release(&plain);
        }
        mem_free(got);
        buf_release(&wanted);
    }
    httpd_stop(s.h);
}

static void work_is_done_later_and_silence_is_told(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    client_send(fd, "GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    struct httpd_request *r = kept(&s);
    httpd_run_later(r, count_later, &s);
    UNTIL(atomic_load(&s.n_later) == 1);
    UNTIL(atomic_load(&s.n_quiet) >= 3);
    assert_int_equal(stats(&s).n_requests, 1);
    httpd_answer(r, 202, NULL, STR_LIT("done"));
    httpd_request_unref(r);
    char *got = client_read_all(fd);
    assert_non_null(strstr(got, "HTTP/1.1 202 Accepted\r\n"));
    assert_non_null(strstr(got, "\r\n\r\ndone"));
    mem_free(got);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(stats(&s).n_requests, 0);
    assert_int_equal(atomic_load(&s.n_gone), 0);
    unsigned n = atomic_load(&s.n_quiet);
    client_wait_ms(120);
    assert_int_equal(atomic_load(&s.n_quiet), n);
    httpd_stop(s.h);
}

/* --- clients that leave --- */

static void leaving_is_noticed_in_every_state(void **state)
{
    (void)state;
    static const char half_body[] =
        "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    const char *const begun[] = {"", "GET /la", half_body};
    struct server s;
    server_start(&s, (struct httpd_config){0});
    for (unsigned how = 0; how < 3; how++) { /* close, half close, reset */
        for (size_t i = 0; i < ARRAY_LEN(begun) + 2; i++) {
            bool whole = i >= ARRAY_LEN(begun);
            unsigned n_gone = atomic_load(&s.n_gone), n_left = atomic_load(&s.n_left);
            struct httpd_request *r = NULL;
            int fd = client_dial(s.port);
            client_send(fd, whole ? i & 1 ? GET("/later") : GET("/stream") : begun[i]);
            if (whole)
                r = kept(&s);
            else
                UNTIL(stats(&s).n_connections == 1);
            if (how == 0)
                close(fd);
            else if (how == 1)
                shutdown(fd, SHUT_WR);
            else
                client_reset(fd);
            UNTIL(stats(&s).n_connections == 0);
            assert_int_equal(stats(&s).n_requests, 0);
            assert_int_equal(atomic_load(&s.n_gone), n_gone + whole);
            if (how == 1)
                close(fd);
            if (whole) {
                assert_int_equal(atomic_load(&s.n_left), n_left + (i & 1));
                if (i & 1)
                    httpd_answer(r, 200, NULL, STR_LIT("too late"));
                else
                    assert_int_equal(httpd_stream_write(r, STR_LIT("x")), -E_CANCELED);
                httpd_request_unref(r);
            }
        }
    }
    httpd_stop(s.h);
}

static void being_gone_already_is_told_at_once(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    client_send(fd, GET("/later"));
    struct httpd_request *r = kept(&s);
    httpd_on_gone(r, NULL, NULL);
    close(fd);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_gone), 0);
    httpd_on_gone(r, count_gone, &s);
    assert_int_equal(atomic_load(&s.n_gone), 1);
    httpd_on_gone(r, count_gone, &s);
    assert_int_equal(atomic_load(&s.n_gone), 1);
    httpd_request_unref(r);
    httpd_stop(s.h);
}

static void a_reader_too_slow_is_dropped(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port), rc = 0;
    client_send(fd, GET("/stream"));
    struct httpd_request *r = kept(&s);
    char *piece = mem_alloc(65536);
    for (int i = 0; i < 4000 && rc == 0; i++) {
        rc = httpd_stream_write(r, (struct str){piece, 65536});
        client_wait_ms(i % 16 == 0);
    }
    assert_int_equal(rc, -E_LIMIT);
    assert_int_equal(httpd_stream_write(r, STR_LIT("x")), -E_CANCELED);
    UNTIL(atomic_load(&s.n_gone) == 1);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(stats(&s).n_dropped_slow, 1);
    httpd_request_unref(r);
    close(fd);
    mem_free(piece);
    httpd_stop(s.h);
}

/* --- deadlines --- */

/* A client whose half a request comes too late is told so; one that the machine held up before it
 * said a word was closed without one, and tries again. */
static void expect_late(struct server *s, const char *text)
{
    char *got = NULL;
    for (int i = 0; i < 50 && (!got || !strstr(got, "HTTP/1.1 408 ")); i++) {
        mem_free(got);
        int fd = client_dial(s->port);
        client_send(fd, text);
        got = client_read_all(fd);
    }
    assert_int_equal(client_count(got, "HTTP/1.1 408 "), 1);
    mem_free(got);
}

static void late_clients_are_told_and_closed(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){
                         .head_timeout_ms = 80, .idle_timeout_ms = 100, .write_timeout_ms = 150});
    int silent = client_dial(s.port);
    assert_true(client_sees_end(silent));
    close(silent);
    assert_int_equal(stats(&s).n_timed_out, 0);
    expect_late(&s, "GET /x HT");
    expect_late(&s, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    expect_late(&s, GET("/1") "GET /2");
    assert_int_equal(stats(&s).n_timed_out, 3);
    int fd = client_dial(s.port);
    client_send(fd, GET("/idle"));
    mem_free(client_read_all(fd)); /* closed in the end */
    assert_int_equal(stats(&s).n_timed_out, 3);
    UNTIL(stats(&s).n_connections == 0);
    httpd_stop(s.h);
}

/* Who takes nothing of an answer for as long as the write timeout. */
static void silent_readers_are_cut_off(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){.write_timeout_ms = 150});
    int fd = client_dial(s.port);
    client_send(fd, GET("/big"));
    UNTIL(stats(&s).n_timed_out == 1);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_done), 1);
    assert_int_equal(atomic_load(&s.n_complete), 0);
    close(fd);
    httpd_stop(s.h);
}

static void a_slow_head_has_one_deadline(void **state)
{
    (void)state;
    struct server s;
    char *got = NULL;
    server_start(&s, (struct httpd_config){.head_timeout_ms = 150});
    for (int turn = 0; turn < 20 && stats(&s).n_timed_out == 0; turn++) {
        mem_free(got);
        int fd = client_dial(s.port);
        client_send(fd, "GET /x HTTP/1.1\r\n"); /* held up before this, it is closed unheard */
        for (int i = 0; i < 200 && stats(&s).n_connections; i++) {
            client_send(fd, "A: b\r\n"); /* each byte does not buy more time */
            client_wait_ms(10);
        }
        got = client_read_all(fd);
    }
    assert_non_null(strstr(got, "HTTP/1.1 408 "));
    mem_free(got);
    httpd_stop(s.h);
}

/* --- many --- */

enum { MANY = 1000 };

static void many_connections_stay_open(void **state)
{
    (void)state;
    struct rlimit lim;
    struct server s;
    int fds[MANY];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    rlim_t before = lim.rlim_cur;
    lim.rlim_cur = MIN_OF(lim.rlim_max, 4096);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    size_t n_fds = fds_count();
    server_start(&s, (struct httpd_config){.n_threads = 3});
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            if (round == 0)
                fds[i] = client_dial(s.port);
            client_send(fds[i], GET("/x"));
        }
        for (int i = 0; i < MANY; i++) {
            char *got = client_read_until(fds[i], "<GET /x  - >");
            assert_int_equal(client_count(got, "<GET /x  - >"), 1);
            mem_free(got);
        }
    }
    assert_int_equal(stats(&s).n_connections, MANY);
    assert_int_equal(stats(&s).n_requests_ever, 2 * MANY);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    UNTIL(stats(&s).n_connections == 0);
    httpd_stop(s.h);
    assert_int_equal(fds_count(), n_fds);
    lim.rlim_cur = before;
    setrlimit(RLIMIT_NOFILE, &lim);
}

static void one_connection_too_many_is_told(void **state)
{
    (void)state;
    struct server s;
    int fds[4];
    server_start(&s, (struct httpd_config){.max_connections = 4});
    for (int i = 0; i < 4; i++)
        fds[i] = client_dial(s.port);
    UNTIL(stats(&s).n_connections == 4);
    expect(&s, LAST, "HTTP/1.1 503 ", 1);
    close(fds[0]);
    UNTIL(stats(&s).n_connections == 3);
    expect(&s, LAST, "HTTP/1.1 200 ", 1);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    httpd_stop(s.h);
}

static void descriptors_may_run_out(void **state)
{
    (void)state;
    struct server s;
    struct rlimit lim, low;
    server_start(&s, (struct httpd_config){.n_threads = 2});
    int one = client_dial(s.port), two = client_dial(s.port);
    UNTIL(stats(&s).n_connections == 2);
    int waiting = client_dial(s.port), other;
    UNTIL(stats(&s).n_connections == 3);
    /* From here nobody gets a descriptor; the reserve is one client's refusal. */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    other = dup(0);
    low = (struct rlimit){.rlim_cur = (rlim_t)other, .rlim_max = lim.rlim_max};
    int late = socket(AF_INET, SOCK_STREAM, 0), later = socket(AF_INET, SOCK_STREAM, 0);
    close(other);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    assert_int_equal(getpeername(one, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(connect(late, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(connect(later, (struct sockaddr *)&addr, len), 0);
    UNTIL(stats(&s).n_accept_failed >= 1);
    client_send(one, LAST); /* who is connected is served */
    char *got = client_read_until(one, "<GET /last  - >");
    assert_non_null(strstr(got, "<GET /last  - >"));
    mem_free(got);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    expect(&s, LAST, "HTTP/1.1 200 ", 1);
    close(one);
    close(two);
    close(waiting);
    close(late);
    close(later);
    UNTIL(stats(&s).n_connections == 0);
    httpd_stop(s.h);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    unsigned n_served = 0, n_cut = 0;
    for (long n = 0; n < 40; n++) {
        char in[1024];
        int fd = client_dial(s.port);
        mem_fault_after(n);
        client_send(fd, "POST /x?x+y=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        ssize_t got = recv(fd, in, sizeof(in), 0);
        bool served = got > 13 && memcmp(in, "HTTP/1.1 200 ", 13) == 0;
        assert_true(served || got <= 0 || memcmp(in, "HTTP/1.1 503 ", 13) == 0);
        n_served += served;
        n_cut += !served;
        mem_fault_after(-1);
        close(fd);
        UNTIL(stats(&s).n_connections == 0);
        assert_int_equal(stats(&s).n_requests, 0);
    }
    assert_true(n_served > 10 && n_cut > 5);
    httpd_stop(s.h);
}

/* Requests, halves of requests and nonsense, in any pieces, read or not, and left in any way. */
static void *unruly_client(void *arg)
{
    static const char *const texts[] = {
        GET("/x"),
        LAST,
        GET("/refused"),
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
        "HEAD /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
        "\r\n",
        "nonsense\n",
        GET("/big"),
        GET("/stream-now"),
    };
    struct server *s = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int round = 0; round < 20; round++) {
        char in[4096];
        int fd = client_dial(s->port), n_texts = rand_r(&seed) % 5;
        for (int i = 0; i < n_texts; i++) {
            const char *text = texts[(unsigned)rand_r(&seed) % ARRAY_LEN(texts)];
            size_t n = strlen(text), cut = (unsigned)rand_r(&seed) % (n + 1);
            client_send_bytes(fd, text, cut);
            if (rand_r(&seed) % 3)
                client_send_bytes(fd, text + cut, n - cut);
            if (rand_r(&seed) % 4 == 0)
                recv(fd, in, sizeof(in), MSG_DONTWAIT);
        }
        switch (rand_r(&seed) % 3) {
        case 0: client_reset(fd); break;
        case 1:
            shutdown(fd, SHUT_WR);
            mem_free(client_read_all(fd));
            break;
        default: close(fd); break;
        }
    }
    return NULL;
}

static void unruly_clients_leave_nothing_behind(void **state)
{
    (void)state;
    struct server s;
    pthread_t threads[8];
    size_t n_fds = fds_count();
    server_start(&s, (struct httpd_config){.n_threads = 3});
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, unruly_client, &s), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    UNTIL(stats(&s).n_connections == 0);
    assert_int_equal(stats(&s).n_requests, 0);
    expect(&s, LAST, "HTTP/1.1 200 ", 1);
    httpd_stop(s.h);
    assert_int_equal(fds_count(), n_fds);
}

/* --- the end --- */

static void quiescing_lets_open_requests_end(void **state)
{
    (void)state;
    struct server s;
    server_start(&s, (struct httpd_config){0});
    uint16_t port = s.port;
    int idle = client_dial(port), busy = client_dial(port);
    UNTIL(stats(&s).n_connections == 2);
    client_send(busy, GET("/later"));
    struct httpd_request *r = kept(&s);
    httpd_quiesce(s.h);
    assert_true(client_sees_end(idle));
    close(idle);
    struct httpd *old = s.h;
    struct httpd *again = NULL;
    struct err err = ERR_INIT; /* the port is free at once */
    struct httpd_listen tcp = {.kind = HTTPD_TCP, .port = port};
    struct httpd_config cfg = {.listen = &tcp, .n_listen = 1, .on_request = on_request, .ctx = &s};
    UNTIL(again || httpd_start(&cfg, &again, &err) == 0);
    httpd_stop(again);
    httpd_answer(r, 200, NULL, STR_LIT("ended well"));
    httpd_request_unref(r);
    char *got = client_read_all(busy);
    assert_non_null(strstr(got, "Connection: close\r\n"));
    assert_non_null(strstr(got, "ended well"));
    mem_free(got);
    httpd_stop(old);
}

static void stopping_ends_everything(void **state)
{
    (void)state;
    size_t n_fds = fds_count();
    for (int round = 0; round < 20; round++) {
        struct server s;
        int fds[4];
        server_start(&s, (struct httpd_config){.n_threads = 2});
        fds[0] = client_dial(s.port);
        client_send(fds[0], GET("/later"));
        struct httpd_request *later = kept(&s);
        fds[1] = client_dial(s.port);
        client_send(fds[1], GET("/stream"));
        struct httpd_request *stream = kept(&s);
        fds[2] = client_dial(s.port);
        client_send(fds[2], "GET /x");
        fds[3] = client_dial(s.port);
        assert_int_equal(httpd_stream_write(stream, STR_LIT("x")), 0);
        httpd_stop(s.h);
        assert_int_equal(atomic_load(&s.n_gone), 2);
        assert_int_equal(atomic_load(&s.n_done), 2);
        httpd_answer(later, 200, NULL, STR_LIT("too late"));
        assert_int_equal(httpd_stream_write(stream, STR_LIT("x")), -E_CANCELED);
        httpd_stream_end(stream);
        httpd_run_later(later, count_later, &s);
        httpd_request_unref(later);
        httpd_request_unref(stream);
        assert_int_equal(atomic_load(&s.n_later), 0);
        for (int i = 0; i < 4; i++)
            close(fds[i]);
    }
    assert_int_equal(fds_count(), n_fds);
}

static void a_bad_start_says_why(void **state)
{
    (void)state;
    struct server s;
    struct httpd *h = NULL;
    size_t n_fds = fds_count();
    server_start(&s, (struct httpd_config){0});
    struct httpd_listen two[] = {{.kind = HTTPD_TCP}, {.kind = HTTPD_TCP, .port = s.port}};
    struct httpd_listen name = {.kind = HTTPD_TCP, .host = "example.org"};
    struct httpd_config cfg = {.listen = two, .n_listen = 2, .on_request = on_request};
    struct err err = ERR_INIT;
    assert_int_equal(httpd_start(&cfg, &h, &err), -E_EXISTS);
    assert_non_null(strstr(err.msg, "is in use"));
    cfg.n_listen = 0;
    assert_int_equal(httpd_start(&cfg, &h, &err), -E_INVALID);
    cfg.listen = &name;
    cfg.n_listen = 1;
    assert_int_equal(httpd_start(&cfg, &h, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "example.org"));
    httpd_stop(s.h);
    assert_int_equal(fds_count(), n_fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_served_in_order),
        cmocka_unit_test(requests_arrive_in_any_pieces),
        cmocka_unit_test(versions_and_persistence),
        cmocka_unit_test(bodies_refused_early_are_dropped_or_not_waited_for),
        cmocka_unit_test(a_body_may_be_asked_for),
        cmocka_unit_test(large_bodies_go_both_ways),
        cmocka_unit_test(streams_come_as_written),
        cmocka_unit_test(work_is_done_later_and_silence_is_told),
        cmocka_unit_test(leaving_is_noticed_in_every_state),
        cmocka_unit_test(being_gone_already_is_told_at_once),
        cmocka_unit_test(a_reader_too_slow_is_dropped),
        cmocka_unit_test(late_clients_are_told_and_closed),
        cmocka_unit_test(silent_readers_are_cut_off),
        cmocka_unit_test(a_slow_head_has_one_deadline),
        cmocka_unit_test(many_connections_stay_open),
        cmocka_unit_test(one_connection_too_many_is_told),
        cmocka_unit_test(descriptors_may_run_out),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(unruly_clients_leave_nothing_behind),
        cmocka_unit_test(quiescing_lets_open_requests_end),
        cmocka_unit_test(stopping_ends_everything),
        cmocka_unit_test(a_bad_start_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
