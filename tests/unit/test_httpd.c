/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd.h over TCP: requests in order, bodies, answers from other threads, streams, the
 * end.  Who leaves, deadlines and crowds: test_httpd_clients.c; sockets of other kinds and TLS:
 * test_httpd_sockets.c. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "tests/support/fds.h"
#include "tests/support/http_client.h"
#include "tests/support/http_server.h"

/* --- requests and answers --- */

static void requests_are_served_in_order(void **state)
{
    (void)state;
    struct http_server s;
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
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_done), 6);
    assert_int_equal(atomic_load(&s.n_complete), 6);
    struct httpd_stats now = server_stats(&s);
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
    struct http_server s;
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
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    server_expect(&s, "GET /a HTTP/1.0\r\n\r\n", "Connection: close\r\n", 1);
    server_expect(&s, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" LAST,
                  "Connection: keep-alive\r\n", 1);
    server_expect(&s, "GET /a?x+y=1%2b1&b HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
                  " 1+1 >", 1);
    server_expect(&s, LAST "garbage", "HTTP/1.1", 1);
    server_expect(&s, GET("/a") "garbage\r\n", "HTTP/1.1 400 ", 1);
    server_expect(&s, GET("/a") "\r\n" LAST, "HTTP/1.1 200 ", 2);
    server_expect(&s, "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "<GET /b ",
                  1);
    httpd_stop(s.h);
}

static void bodies_refused_early_are_dropped_or_not_waited_for(void **state)
{
    (void)state;
    struct http_server s;
    server_start(&s, (struct httpd_config){.max_body_bytes = 4u << 20});
    /* A short one is dropped and the connection goes on. */
    server_expect(&s, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" LAST,
                  "<GET /last", 1);
    server_expect(
        &s,
        "POST /refused HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        "0\r\n\r\n" LAST,
        "<GET /last", 1);
    /* One that waits to be asked for, or is long, or of unknown length and long, ends it. */
    server_expect(
        &s,
        "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        "Connection: close", 1);
    server_expect(&s, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\nabc",
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
    server_expect(&s, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4194305\r\n\r\n",
                  "HTTP/1.1 413 ", 1);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(server_stats(&s).n_refused, 2);
    httpd_stop(s.h);
}

static void a_body_may_be_asked_for(void **state)
{
    (void)state;
    struct http_server s;
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
    struct http_server s;
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
    assert_int_equal(server_stats(&s).received_bytes, n);
    httpd_stop(s.h);
}

/* --- answers from other threads --- */

static void streams_come_as_written(void **state)
{
    (void)state;
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    for (int version = 0; version <= 1; version++) {
        char text[128];
        struct buf wanted;
        buf_init(&wanted, 1u << 20);
        int fd = client_dial(s.port);
        snprintf(text, sizeof(text), "GET /stream HTTP/1.%d\r\nHost: a\r\n\r\n%s", version,
                 version ? LAST : "");
        client_send(fd, text);
        struct httpd_request *r = server_kept(&s);
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
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    client_send(fd, "GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    struct httpd_request *r = server_kept(&s);
    httpd_run_later(r, server_count_later, &s);
    UNTIL(atomic_load(&s.n_later) == 1);
    UNTIL(atomic_load(&s.n_quiet) >= 3);
    assert_int_equal(server_stats(&s).n_requests, 1);
    httpd_answer(r, 202, NULL, STR_LIT("done"));
    httpd_request_unref(r);
    char *got = client_read_all(fd);
    assert_non_null(strstr(got, "HTTP/1.1 202 Accepted\r\n"));
    assert_non_null(strstr(got, "\r\n\r\ndone"));
    mem_free(got);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(server_stats(&s).n_requests, 0);
    assert_int_equal(atomic_load(&s.n_gone), 0);
    unsigned n = atomic_load(&s.n_quiet);
    client_wait_ms(120);
    assert_int_equal(atomic_load(&s.n_quiet), n);
    httpd_stop(s.h);
}

/* --- the end --- */

static void quiescing_lets_open_requests_end(void **state)
{
    (void)state;
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    uint16_t port = s.port;
    int idle = client_dial(port), busy = client_dial(port);
    UNTIL(server_stats(&s).n_connections == 2);
    client_send(busy, GET("/later"));
    struct httpd_request *r = server_kept(&s);
    httpd_quiesce(s.h);
    assert_true(client_sees_end(idle));
    close(idle);
    struct httpd *old = s.h;
    struct httpd *again = NULL;
    struct err err = ERR_INIT; /* the port is free at once */
    struct httpd_listen tcp = {.kind = HTTPD_TCP, .port = port};
    struct httpd_config cfg = {
        .listen = &tcp, .n_listen = 1, .on_request = server_on_request, .ctx = &s};
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
        struct http_server s;
        int fds[4];
        server_start(&s, (struct httpd_config){.n_threads = 2});
        fds[0] = client_dial(s.port);
        client_send(fds[0], GET("/later"));
        struct httpd_request *later = server_kept(&s);
        fds[1] = client_dial(s.port);
        client_send(fds[1], GET("/stream"));
        struct httpd_request *stream = server_kept(&s);
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
        httpd_run_later(later, server_count_later, &s);
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
    struct http_server s;
    struct httpd *h = NULL;
    size_t n_fds = fds_count();
    server_start(&s, (struct httpd_config){0});
    struct httpd_listen two[] = {{.kind = HTTPD_TCP}, {.kind = HTTPD_TCP, .port = s.port}};
    struct httpd_listen name = {.kind = HTTPD_TCP, .host = "example.org"};
    struct httpd_config cfg = {.listen = two, .n_listen = 2, .on_request = server_on_request};
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
        cmocka_unit_test(quiescing_lets_open_requests_end),
        cmocka_unit_test(stopping_ends_everything),
        cmocka_unit_test(a_bad_start_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
