/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP API over a runner that plays known models (tests/support/played): its answers, failures
 * and races, from many threads at once (run it under TSan).
 *
 * `test_api_http --serve --port N --ready-fd N` serves the same until SIGTERM, for
 * tests/scenario/test_api.py. */
#include "tests/support/cmocka_all.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/api/api.h"
#include "daemon/serve.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "tests/support/http_client.h"
#include "tests/support/played/runner.h"

struct server {
    struct runner *runner;
    struct api *api;
    struct httpd *httpd;
    atomic_uint n_shutdowns;
};

static void count_shutdown(void *ctx)
{
    struct server *s = ctx;
    atomic_fetch_add(&s->n_shutdowns, 1);
}

static void server_start(struct server *s)
{
    struct err err = ERR_INIT;
    *s = (struct server){0};
    assert_int_equal(runner_new(NULL, &s->runner, &err), 0);
    s->api = api_new(&(struct api_config){
        .runner = s->runner, .keep_alive_ms = 300, .shutdown = count_shutdown, .ctx = s});
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct httpd_config hc = {.listen = &tcp,
                              .n_listen = 1,
                              .n_threads = 3,
                              .on_headers = api_on_headers,
                              .on_request = api_on_request,
                              .on_refusal = api_on_refusal,
                              .ctx = s->api};
    assert_int_equal(httpd_start(&hc, &s->httpd, &err), 0);
    api_set_httpd(s->api, s->httpd);
}

static void server_stop(struct server *s)
{
    httpd_stop(s->httpd);
    api_set_httpd(s->api, NULL);
    runner_free(s->runner);
    api_free(s->api);
}

static int post(const struct server *s, const char *path, const char *body)
{
    char head[512];
    int fd = client_dial(httpd_port(s->httpd));
    int n = snprintf(head, sizeof(head),
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     path, strlen(body));
    client_send_bytes(fd, head, (size_t)n);
    client_send(fd, body);
    return fd;
}

static unsigned canceled(struct server *s)
{
    pthread_mutex_lock(&s->runner->lock);
    unsigned n = s->runner->n_canceled;
    pthread_mutex_unlock(&s->runner->lock);
    return n;
}

static unsigned running(struct server *s)
{
    pthread_mutex_lock(&s->runner->lock);
    unsigned n = s->runner->n_running;
    pthread_mutex_unlock(&s->runner->lock);
    return n;
}

#define BODY(model, rest) "{\"model\":\"" model "\",\"prompt\":\"x\"" rest "}"

#define SEVERAL(model, rest)                                                                       \
    "{\"model\":\"" model "\",\"prompt\":[\"short\",\"long\",\"short\"]" rest "}"

static void expect(struct server *s, const char *body, const char *wanted)
{
    char *answer = client_read_all(post(s, "/v1/completions", body));
    if (!strstr(answer, wanted))
        fail_msg("%s: answer without %s: %s", body, wanted, answer);
    mem_free(answer);
}

static void answers_come_whole_and_streamed(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    expect(&s, BODY("words", ""), "\"text\":\"w0 w1 w2 w3 w4 \"");
    expect(&s, BODY("words", ",\"stream\":true"), "data: [DONE]\n\n");
    expect(&s, BODY("late", ""), "\"text\":\"w0 w1 w2 w3 w4 \"");
    expect(&s, BODY("late", ",\"stream\":true"), "data: [DONE]\n\n");
    expect(&s, BODY("thinking", ",\"stream\":true"), ": keep-alive\n\n");
    expect(&s, BODY("crash", ",\"stream\":true"),
           "data: {\"error\":{\"message\":\"the worker died\"");
    expect(&s, BODY("crash", ""), "HTTP/1.1 500 ");
    expect(&s, BODY("crash", ",\"stream\":false"), "\"code\":\"worker_crashed\"");
    expect(&s, BODY("fail-17", ",\"stream\":true"),
           "HTTP/1.1 400 "); /* E_CONTEXT, before anything streamed */
    expect(&s, BODY("refuse-11", ""), "HTTP/1.1 429 ");
    server_stop(&s);
}

static void a_client_that_leaves_cancels(void **state)
{
    (void)state;
    static const char *const bodies[] = {BODY("silent", ""), BODY("silent", ",\"stream\":true"),
                                         BODY("slow", ""), BODY("slow", ",\"stream\":true")};
    struct server s;
    server_start(&s);
    for (unsigned i = 0; i < ARRAY_LEN(bodies); i++) {
        int fd = post(&s, "/v1/completions", bodies[i]);
        UNTIL(running(&s) == 1);
        if (i & 1)
            shutdown(fd, SHUT_WR); /* half-closed counts as gone */
        else
            close(fd);
        UNTIL(running(&s) == 0);
        assert_int_equal(canceled(&s), i + 1);
        if (i & 1)
            close(fd);
    }
    server_stop(&s);
}

static void a_reader_that_never_reads_is_dropped(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    int fd = post(&s, "/v1/completions", BODY("flood", ",\"stream\":true"));
    UNTIL(canceled(&s) == 1);
    char *got = client_read_all(fd);
    assert_null(strstr(got, "[DONE]"));
    mem_free(got);
    expect(&s, BODY("words", ""), "w4 ");
    server_stop(&s);
}

static void *one_client(void *arg)
{
    struct server *s = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < 12; i++) {
        switch (rand_r(&seed) % 9) {
        case 0: expect(s, BODY("words", ",\"n\":3,\"logprobs\":2"), "w4 "); break;
        case 1: expect(s, BODY("words", ",\"stream\":true,\"n\":2"), "[DONE]"); break;
        case 2: expect(s, BODY("slow", ",\"stream\":true,\"max_tokens\":4"), "[DONE]"); break;
        case 3: close(post(s, "/v1/completions", BODY("slow", ",\"stream\":true"))); break;
        case 4: close(post(s, "/v1/completions", BODY("late", ""))); break;
        case 5: expect(s, SEVERAL("words", ",\"n\":2,\"stream\":true"), "[DONE]"); break;
        case 6: expect(s, SEVERAL("picky", ""), "context_length_exceeded"); break;
        case 7: close(post(s, "/v1/completions", SEVERAL("slow", ",\"stream\":true"))); break;
        default: expect(s, BODY("fail-16", ",\"stream\":true"), "worker_crashed"); break;
        }
    }
    return NULL;
}

static void many_clients_at_once(void **state)
{
    (void)state;
    enum { N = 16 };
    struct server s;
    pthread_t t[N];
    server_start(&s);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&t[i], NULL, one_client, &s), 0);
    for (int i = 0; i < N; i++)
        pthread_join(t[i], NULL);
    UNTIL(running(&s) == 0);
    server_stop(&s);
}

static void stopping_ends_what_runs(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct server s;
        int fds[8];
        server_start(&s);
        for (int i = 0; i < 8; i++)
            fds[i] = post(&s, "/v1/completions",
                          i & 1   ? BODY("slow", ",\"stream\":true")
                          : i & 2 ? BODY("silent", "")
                                  : BODY("slow", ""));
        client_wait_ms((unsigned)round * 10);
        server_stop(&s);
        for (int i = 0; i < 8; i++)
            close(fds[i]);
    }
}

static void load_answers_from_another_thread(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    char *answer = client_read_all(
        post(&s, "/berth/v1/load", "{\"model\":\"slow\",\"chat_template\":\"some\"}"));
    assert_non_null(strstr(answer, "\"state\":\"ready\""));
    mem_free(answer);
    answer = client_read_all(post(&s, "/berth/v1/load", "{\"model\":\"fail-4\"}"));
    assert_non_null(strstr(answer, "insufficient_memory"));
    assert_non_null(strstr(answer, "x-should-retry: false"));
    mem_free(answer);
    close(post(&s, "/berth/v1/load", "{\"model\":\"thinking\"}"));
    server_stop(&s);
}

static void shutdown_route_tells_its_owner(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    mem_free(client_read_all(post(&s, "/berth/v1/shutdown", "{}")));
    assert_int_equal(atomic_load(&s.n_shutdowns), 1);
    server_stop(&s);
}

static int serve(int argc, char **argv)
{
    struct daemon_config cfg;
    daemon_config_init(&cfg);
    cfg.keep_alive_ms = 300;
    cfg.drain_timeout_s = 1;
    cfg.log_level = LOG_LEVEL_DEBUG;
    for (int i = 2; i + 1 < argc; i += 2) {
        int n = (int)strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--port") == 0)
            cfg.port = (uint16_t)n;
        else if (strcmp(argv[i], "--ready-fd") == 0)
            cfg.ready_fd = n;
        else if (strcmp(argv[i], "--exit-idle") == 0)
            cfg.exit_idle_s = (uint32_t)n;
        else if (strcmp(argv[i], "--drain-timeout") == 0)
            cfg.drain_timeout_s = (uint32_t)n;
        else if (strcmp(argv[i], "--host") == 0)
            cfg.host = argv[i + 1];
        else if (strcmp(argv[i], "--models") == 0)
            cfg.runner.models_dirs = argv[i + 1];
    }
    return daemon_main(&cfg);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--serve") == 0)
        return serve(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_whole_and_streamed),
        cmocka_unit_test(a_client_that_leaves_cancels),
        cmocka_unit_test(a_reader_that_never_reads_is_dropped),
        cmocka_unit_test(load_answers_from_another_thread),
        cmocka_unit_test(shutdown_route_tells_its_owner),
        cmocka_unit_test(stopping_ends_what_runs),
        cmocka_unit_test(many_clients_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
