/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd.h over TCP and its clients: who leaves, who is late or silent, and more of them
 * than there are descriptors or memory for. */
#include "tests/support/cmocka_all.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "tests/support/fds.h"
#include "tests/support/http_client.h"
#include "tests/support/http_server.h"

/* --- clients that leave --- */

static void leaving_is_noticed_in_every_state(void **state)
{
    (void)state;
    static const char half_body[] =
        "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    const char *const begun[] = {"", "GET /la", half_body};
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    for (unsigned how = 0; how < 3; how++) { /* close, half close, reset */
        for (size_t i = 0; i < ARRAY_LEN(begun) + 2; i++) {
            bool whole = i >= ARRAY_LEN(begun);
            unsigned n_gone = atomic_load(&s.n_gone), n_left = atomic_load(&s.n_left);
            struct httpd_request *r = NULL;
            int fd = client_dial(s.port);
            client_send(fd, whole ? i & 1 ? GET("/later") : GET("/stream") : begun[i]);
            if (whole)
                r = server_kept(&s);
            else
                UNTIL(server_stats(&s).n_connections == 1);
            if (how == 0)
                close(fd);
            else if (how == 1)
                shutdown(fd, SHUT_WR);
            else
                client_reset(fd);
            UNTIL(server_stats(&s).n_connections == 0);
            assert_int_equal(server_stats(&s).n_requests, 0);
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
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port);
    client_send(fd, GET("/later"));
    struct httpd_request *r = server_kept(&s);
    httpd_on_gone(r, NULL, NULL);
    close(fd);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_gone), 0);
    httpd_on_gone(r, server_count_gone, &s);
    assert_int_equal(atomic_load(&s.n_gone), 1);
    httpd_on_gone(r, server_count_gone, &s);
    assert_int_equal(atomic_load(&s.n_gone), 1);
    httpd_request_unref(r);
    httpd_stop(s.h);
}

static void a_reader_too_slow_is_dropped(void **state)
{
    (void)state;
    struct http_server s;
    server_start(&s, (struct httpd_config){0});
    int fd = client_dial(s.port), rc = 0;
    client_send(fd, GET("/stream"));
    struct httpd_request *r = server_kept(&s);
    char *piece = mem_alloc(65536);
    for (int i = 0; i < 4000 && rc == 0; i++) {
        rc = httpd_stream_write(r, (struct str){piece, 65536});
        client_wait_ms(i % 16 == 0);
    }
    assert_int_equal(rc, -E_LIMIT);
    assert_int_equal(httpd_stream_write(r, STR_LIT("x")), -E_CANCELED);
    UNTIL(atomic_load(&s.n_gone) == 1);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(server_stats(&s).n_dropped_slow, 1);
    httpd_request_unref(r);
    close(fd);
    mem_free(piece);
    httpd_stop(s.h);
}

/* --- deadlines --- */

/* A client whose half a request comes too late is told so; one that the machine held up before it
 * said a word was closed without one, and tries again. */
static void expect_late(struct http_server *s, const char *text)
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
    struct http_server s;
    server_start(&s, (struct httpd_config){
                         .head_timeout_ms = 80, .idle_timeout_ms = 100, .write_timeout_ms = 150});
    int silent = client_dial(s.port);
    assert_true(client_sees_end(silent));
    close(silent);
    assert_int_equal(server_stats(&s).n_timed_out, 0);
    expect_late(&s, "GET /x HT");
    expect_late(&s, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    expect_late(&s, GET("/1") "GET /2");
    assert_int_equal(server_stats(&s).n_timed_out, 3);
    int fd = client_dial(s.port);
    client_send(fd, GET("/idle"));
    mem_free(client_read_all(fd)); /* closed in the end */
    assert_int_equal(server_stats(&s).n_timed_out, 3);
    UNTIL(server_stats(&s).n_connections == 0);
    httpd_stop(s.h);
}

/* Who takes nothing of an answer for as long as the write timeout. */
static void silent_readers_are_cut_off(void **state)
{
    (void)state;
    struct http_server s;
    server_start(&s, (struct httpd_config){.write_timeout_ms = 150});
    int fd = client_dial(s.port);
    client_send(fd, GET("/big"));
    UNTIL(server_stats(&s).n_timed_out == 1);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(atomic_load(&s.n_done), 1);
    assert_int_equal(atomic_load(&s.n_complete), 0);
    close(fd);
    httpd_stop(s.h);
}

static void a_slow_head_has_one_deadline(void **state)
{
    (void)state;
    struct http_server s;
    char *got = NULL;
    server_start(&s, (struct httpd_config){.head_timeout_ms = 150});
    for (int turn = 0; turn < 20 && server_stats(&s).n_timed_out == 0; turn++) {
        mem_free(got);
        int fd = client_dial(s.port);
        client_send(fd, "GET /x HTTP/1.1\r\n"); /* held up before this, it is closed unheard */
        for (int i = 0; i < 200 && server_stats(&s).n_connections; i++) {
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
    struct http_server s;
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
    assert_int_equal(server_stats(&s).n_connections, MANY);
    assert_int_equal(server_stats(&s).n_requests_ever, 2 * MANY);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    UNTIL(server_stats(&s).n_connections == 0);
    httpd_stop(s.h);
    assert_int_equal(fds_count(), n_fds);
    lim.rlim_cur = before;
    setrlimit(RLIMIT_NOFILE, &lim);
}

static void one_connection_too_many_is_told(void **state)
{
    (void)state;
    struct http_server s;
    int fds[4];
    server_start(&s, (struct httpd_config){.max_connections = 4});
    for (int i = 0; i < 4; i++)
        fds[i] = client_dial(s.port);
    UNTIL(server_stats(&s).n_connections == 4);
    server_expect(&s, LAST, "HTTP/1.1 503 ", 1);
    close(fds[0]);
    UNTIL(server_stats(&s).n_connections == 3);
    server_expect(&s, LAST, "HTTP/1.1 200 ", 1);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    httpd_stop(s.h);
}

static void descriptors_may_run_out(void **state)
{
    (void)state;
    struct http_server s;
    struct rlimit lim, low;
    server_start(&s, (struct httpd_config){.n_threads = 2});
    int one = client_dial(s.port), two = client_dial(s.port);
    UNTIL(server_stats(&s).n_connections == 2);
    int waiting = client_dial(s.port), other;
    UNTIL(server_stats(&s).n_connections == 3);
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
    UNTIL(server_stats(&s).n_accept_failed >= 1);
    client_send(one, LAST); /* who is connected is served */
    char *got = client_read_until(one, "<GET /last  - >");
    assert_non_null(strstr(got, "<GET /last  - >"));
    mem_free(got);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    server_expect(&s, LAST, "HTTP/1.1 200 ", 1);
    close(one);
    close(two);
    close(waiting);
    close(late);
    close(later);
    UNTIL(server_stats(&s).n_connections == 0);
    httpd_stop(s.h);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    struct http_server s;
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
        UNTIL(server_stats(&s).n_connections == 0);
        assert_int_equal(server_stats(&s).n_requests, 0);
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
    struct http_server *s = arg;
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
    struct http_server s;
    pthread_t threads[8];
    size_t n_fds = fds_count();
    server_start(&s, (struct httpd_config){.n_threads = 3});
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, unruly_client, &s), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    UNTIL(server_stats(&s).n_connections == 0);
    assert_int_equal(server_stats(&s).n_requests, 0);
    server_expect(&s, LAST, "HTTP/1.1 200 ", 1);
    httpd_stop(s.h);
    assert_int_equal(fds_count(), n_fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
