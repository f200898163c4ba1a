/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd.h: bodies handed over in pieces, and streams of any size, both with a slow other
 * side. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/net/httpd.h"
#include "tests/support/http_client.h"

#define BIG_BYTES (24u << 20)
#define MAX_BYTES (32u << 20)

static struct httpd *server;
static atomic_bool may_take;
static atomic_int last_rc; /* of the last httpd_body_take */
static atomic_uint n_begun, n_ended;
static pthread_t taker;

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8));
}

/* Takes the body, answers with its length and whether the bytes were right. */
static void *take_body(void *ctx)
{
    struct httpd_request *r = ctx;
    struct err err = ERR_INIT;
    struct buf piece;
    char text[128];
    size_t n = 0, n_most = 0;
    bool right = true;
    int rc;
    buf_init(&piece, SIZE_MAX / 4);
    while (!atomic_load(&may_take))
        client_wait_ms(1);
    while ((rc = httpd_body_take(r, &piece, &err)) == 1) {
        for (size_t i = 0; i < piece.len; i++)
            right = right && (unsigned char)piece.data[i] == byte_at(n + i);
        n += piece.len;
        n_most = MAX_OF(n_most, piece.len);
        if (strcmp(httpd_path(r), "/early") == 0) {
            rc = 7;
            break;
        }
    }
    buf_release(&piece);
    snprintf(text, sizeof(text), "<took %zu %s, at most %s, rc %d>", n, right ? "right" : "wrong",
             n_most <= 2 * LIMIT_HTTP_WINDOW_BYTES ? "a window" : "too much", rc);
    httpd_answer(r, rc == 0 ? 200 : 400, "text/plain", str_from(text));
    httpd_request_unref(r);
    atomic_store(&last_rc, rc);
    atomic_fetch_add(&n_ended, 1);
    return NULL;
}

static void *give_stream(void *ctx)
{
    struct httpd_request *r = ctx;
    char *piece = mem_alloc(100000);
    int rc = 0;
    httpd_stream_begin(r, 200, "application/x-tar");
    for (size_t at = 0; rc == 0 && at < BIG_BYTES; at += 100000) {
        size_t n = MIN_OF(100000, BIG_BYTES - at);
        for (size_t i = 0; i < n; i++)
            piece[i] = (char)byte_at(at + i);
        rc = httpd_stream_write_wait(r, (struct str){piece, n});
        assert_true(httpd_stream_unsent(r) <= LIMIT_HTTP_WINDOW_BYTES);
    }
    mem_free(piece);
    httpd_stream_end(r);
    httpd_request_unref(r);
    atomic_store(&last_rc, rc);
    atomic_fetch_add(&n_ended, 1);
    return NULL;
}

static void on_headers(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    if (strcmp(httpd_path(r), "/kept") != 0)
        httpd_body_stream(r, MAX_BYTES);
}

static void on_request(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    if (strcmp(httpd_path(r), "/kept") == 0) {
        httpd_answer(r, 200, "text/plain", STR_LIT("<kept>"));
        return;
    }
    void *(*fn)(void *) = strcmp(httpd_path(r), "/give") == 0 ? give_stream : take_body;
    httpd_request_ref(r);
    assert_int_equal(pthread_create(&taker, NULL, fn, r), 0);
    atomic_fetch_add(&n_begun, 1);
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct httpd_listen listen = {.kind = HTTPD_TCP};
    const struct httpd_config cfg = {.listen = &listen,
                                     .n_listen = 1,
                                     .n_threads = 1,
                                     .max_body_bytes = 1024,
                                     .write_timeout_ms = 700,
                                     .on_headers = on_headers,
                                     .on_request = on_request};
    atomic_store(&may_take, true);
    atomic_store(&n_begun, 0);
    atomic_store(&n_ended, 0);
    atomic_store(&last_rc, 99);
    return httpd_start(&cfg, &server, &err);
}

static int teardown(void **state)
{
    (void)state;
    httpd_stop(server);
    return 0;
}

static void join_taker(void)
{
    while (atomic_load(&n_begun) == 0)
        client_wait_ms(1);
    atomic_fetch_sub(&n_begun, 1);
    assert_int_equal(pthread_join(taker, NULL), 0);
}

static char *body_bytes(size_t n)
{
    char *p = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)byte_at(i);
    return p;
}

static void send_all(int fd, const char *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t done = send(fd, p + at, n - at, MSG_NOSIGNAL);
        assert_true(done > 0);
        at += (size_t)done;
    }
}

static void expect(int fd, const char *wanted)
{
    char *got = client_read_all(fd);
    if (!strstr(got, wanted))
        fail_msg("no %s: %.300s", wanted, got);
    mem_free(got);
}

static int post(const char *path, size_t length)
{
    char head[160];
    int fd = client_dial(httpd_port(server));
    snprintf(head, sizeof(head),
             "POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             path, length);
    client_send(fd, head);
    return fd;
}

static void test_long_body(void **state)
{
    (void)state;
    char *p = body_bytes(BIG_BYTES);
    int fd = post("/take", BIG_BYTES);
    send_all(fd, p, BIG_BYTES);
    expect(fd, "<took 25165824 right, at most a window, rc 0>");
    join_taker();
    mem_free(p);
}

static void test_no_body(void **state)
{
    (void)state;
    expect(post("/take", 0), "<took 0 right, at most a window, rc 0>");
    join_taker();
}

static void test_chunks(void **state)
{
    (void)state;
    char *p = body_bytes(3000000), size[32];
    int fd = client_dial(httpd_port(server));
    client_send(fd, "POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    char *got = client_read_until(fd, "100 Continue\r\n\r\n");
    mem_free(got);
    for (size_t at = 0; at < 3000000; at += 75000) {
        snprintf(size, sizeof(size), "%x\r\n", 75000);
        client_send(fd, size);
        send_all(fd, p + at, 75000);
        client_send(fd, "\r\n");
    }
    client_send(fd, "0\r\n\r\n");
    expect(fd, "<took 3000000 right, at most a window, rc 0>");
    join_taker();
    mem_free(p);
}

/* While nobody takes, the client cannot send more than windows and sockets hold. */
static void test_back_pressure(void **state)
{
    (void)state;
    char *p = body_bytes(BIG_BYTES);
    size_t at = 0;
    unsigned idle_ms = 0;
    atomic_store(&may_take, false);
    int fd = post("/take", BIG_BYTES);
    while (at < BIG_BYTES && idle_ms < 300) {
        ssize_t n = send(fd, p + at, BIG_BYTES - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            at += (size_t)n;
            idle_ms = 0;
        } else {
            assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
            client_wait_ms(10);
            idle_ms += 10;
        }
    }
    assert_true(at < BIG_BYTES / 2);
    client_wait_ms(900); /* our pause is longer than a client's may be, and no fault of its */
    atomic_store(&may_take, true);
    send_all(fd, p + at, BIG_BYTES - at);
    expect(fd, "<took 25165824 right, at most a window, rc 0>");
    join_taker();
    mem_free(p);
}

static void test_client_leaves(void **state)
{
    (void)state;
    char *p = body_bytes(100000);
    int fd = post("/take", BIG_BYTES);
    send_all(fd, p, 100000);
    client_wait_ms(50);
    client_reset(fd);
    join_taker();
    assert_int_equal(atomic_load(&last_rc), -E_CANCELED);
    fd = post("/take", BIG_BYTES);
    send_all(fd, p, 100000);
    close(fd);
    join_taker();
    assert_int_equal(atomic_load(&last_rc), -E_CANCELED);
    mem_free(p);
}

static void test_slow_client(void **state)
{
    (void)state;
    int fd = post("/take", 100);
    client_send(fd, "abc");
    expect(fd, ", rc -");
    join_taker();
    assert_int_equal(atomic_load(&last_rc), -E_TIMEOUT);
}

static void test_bad_bodies(void **state)
{
    (void)state;
    expect(post("/take", (size_t)MAX_BYTES + 1), " 413 ");
    expect(post("/kept", 2000), " 413 ");
    int fd = client_dial(httpd_port(server));
    client_send(fd, "POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n0\r\n\r\n");
    expect(fd, ", rc -");
    join_taker();
    assert_int_equal(atomic_load(&last_rc), -E_FORMAT);
}

/* An answer given early is read, and the connection closes though the client sends on. */
static void test_early_answer(void **state)
{
    (void)state;
    char *p = body_bytes(200000);
    int fd = client_dial(httpd_port(server));
    client_send(fd, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 25165824\r\n\r\n");
    send_all(fd, p, 200000);
    char *got = client_read_until(fd, "rc 7>");
    assert_non_null(strstr(got, "rc 7>"));
    mem_free(got);
    send_all(fd, p, 100000);
    assert_true(client_sees_end(fd));
    join_taker();
    mem_free(p);
}

static void test_long_stream(void **state)
{
    (void)state;
    int fd = post("/give", 0);
    client_wait_ms(100); /* it waits for us */
    assert_int_equal(atomic_load(&n_ended), 0);
    char *got = client_read_until(fd, "\r\n0\r\n\r\n");
    assert_non_null(strstr(got, "application/x-tar"));
    close(fd);
    mem_free(got);
    join_taker();
    assert_int_equal(atomic_load(&last_rc), 0);
}

static void test_stream_without_reader(void **state)
{
    (void)state;
    int fd = post("/give", 0);
    join_taker(); /* after write_timeout_ms it is cut */
    assert_int_equal(atomic_load(&last_rc), -E_CANCELED);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_long_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_without_reader, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
