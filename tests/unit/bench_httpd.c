/* SPDX-License-Identifier: Apache-2.0 */
/* What lib/net/httpd.h costs: processor time for a short keep-alive request and for a stream's
 * piece, memory for an idle connection.  The clients are threads of this program, whose own time is
 * not counted. */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/httpd.h"
#include "tests/support/http_client.h"

static _Atomic(struct httpd_request *) kept;

static void on_request(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    if (strcmp(httpd_path(r), "/stream") == 0) {
        httpd_stream_begin(r, 200, "text/event-stream");
        atomic_store(&kept, httpd_request_ref(r));
        return;
    }
    httpd_answer(r, 200, "application/json", STR_LIT("{\"status\":\"ok\"}"));
}

static double now_s(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Resident, in KiB, less what is shared with files. */
static long rss_kib(void)
{
    long kib = -1;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtol(line + 8, NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

static struct httpd *server(uint32_t n_threads)
{
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct httpd_config cfg = {
        .listen = &tcp, .n_listen = 1, .n_threads = n_threads, .on_request = on_request};
    struct httpd *h = NULL;
    struct err err = ERR_INIT;
    if (httpd_start(&cfg, &h, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    BUG_ON(!h);
    return h;
}

struct client {
    pthread_t thread;
    uint16_t port;
    unsigned n;
    double cpu_s;
};

static void *ask(void *arg)
{
    struct client *c = arg;
    char in[4096];
    int fd = client_dial(c->port);
    for (unsigned i = 0; i < c->n; i++) {
        client_send(fd, "GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\n"
                        "Accept: */*\r\nAuthorization: Bearer x\r\n\r\n");
        BUG_ON(recv(fd, in, sizeof(in), 0) <= 0);
    }
    close(fd);
    c->cpu_s = now_s(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void bench_requests(unsigned n_clients)
{
    struct client clients[16];
    struct httpd *h = server(2);
    double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < n_clients; i++) {
        clients[i] = (struct client){.port = httpd_port(h), .n = 40000 / n_clients};
        pthread_create(&clients[i].thread, NULL, ask, &clients[i]);
    }
    double theirs = 0;
    for (unsigned i = 0; i < n_clients; i++) {
        pthread_join(clients[i].thread, NULL);
        theirs += clients[i].cpu_s;
    }
    wall = now_s(CLOCK_MONOTONIC) - wall;
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu - theirs;
    printf("%2u keep-alive clients: %.0f requests/s, %.1f us of the server each\n", n_clients,
           40000 / wall, cpu / 40000 * 1e6);
    httpd_stop(h);
}

static void *drain(void *arg)
{
    struct client *c = arg;
    char in[65536];
    int fd = client_dial(c->port);
    client_send(fd, "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while (recv(fd, in, sizeof(in), 0) > 0)
        c->n++;
    close(fd);
    c->cpu_s = now_s(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

static void bench_stream(unsigned pieces_s)
{
    static const char piece[] =
        "data: {\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion.chunk\","
        "\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
        "\" word\"},\"finish_reason\":null}]}\n\n";
    struct httpd *h = server(2);
    struct client c = {.port = httpd_port(h)};
    struct httpd_request *r;
    pthread_create(&c.thread, NULL, drain, &c);
    while (!(r = atomic_exchange(&kept, NULL)))
        client_wait_ms(1);
    double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID),
           sleeping = now_s(CLOCK_THREAD_CPUTIME_ID), writing = 0;
    unsigned n = 0;
    for (; n < 3 * pieces_s; n++) {
        struct timespec ts = {.tv_nsec = 1000};
        while (now_s(CLOCK_MONOTONIC) - wall < (double)n / pieces_s)
            nanosleep(&ts, NULL);
        double begin = now_s(CLOCK_THREAD_CPUTIME_ID);
        httpd_stream_write(r, (struct str){piece, sizeof(piece) - 1});
        writing += now_s(CLOCK_THREAD_CPUTIME_ID) - begin;
    }
    wall = now_s(CLOCK_MONOTONIC) - wall;
    sleeping = now_s(CLOCK_THREAD_CPUTIME_ID) - sleeping - writing;
    httpd_stream_end(r);
    httpd_request_unref(r);
    pthread_join(c.thread, NULL);
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu - sleeping - c.cpu_s;
    printf("stream of %5u pieces/s: %.2f %% of a processor, %.1f us a piece, %u reads/s\n",
           pieces_s, cpu / wall * 100, cpu / n * 1e6, (unsigned)(c.n / wall));
    httpd_stop(h);
}

/* What an engine does: one piece for each of many streams, then nothing for a while. */
static void bench_streams(unsigned n_streams, unsigned pieces_s)
{
    enum { MAX = 64 };
    struct client c[MAX];
    struct httpd_request *r[MAX];
    struct httpd *h = server(2);
    for (unsigned i = 0; i < n_streams; i++) {
        c[i] = (struct client){.port = httpd_port(h)};
        pthread_create(&c[i].thread, NULL, drain, &c[i]);
        while (!(r[i] = atomic_exchange(&kept, NULL)))
            client_wait_ms(1);
    }
    double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned n = 0; n < 2 * pieces_s; n++) {
        struct timespec ts = {.tv_nsec = (long)(1e9 / pieces_s)};
        for (unsigned i = 0; i < n_streams; i++)
            httpd_stream_write(r[i], STR_LIT("data: {\"choices\":[{\"delta\":\"word\"}]}\n\n"));
        nanosleep(&ts, NULL);
    }
    wall = now_s(CLOCK_MONOTONIC) - wall;
    double theirs = 0;
    for (unsigned i = 0; i < n_streams; i++) {
        httpd_stream_end(r[i]);
        httpd_request_unref(r[i]);
        pthread_join(c[i].thread, NULL);
        theirs += c[i].cpu_s;
    }
    cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu - theirs;
    printf("%u streams of %u pieces/s: %.2f %% of a processor, %.1f us a piece\n", n_streams,
           pieces_s, cpu / wall * 100, cpu / (2.0 * pieces_s * n_streams) * 1e6);
    httpd_stop(h);
}

static void bench_idle(unsigned n)
{
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_cur < 2 * n + 512)
        n = (unsigned)(lim.rlim_cur - 512) / 2;
    struct httpd *h = server(2);
    struct httpd_stats now;
    int *fds = mem_alloc(n * sizeof(*fds));
    char in[4096];
    long before = rss_kib();
    for (unsigned i = 0; i < n; i++) {
        fds[i] = client_dial(httpd_port(h));
        client_send(fds[i], "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        BUG_ON(recv(fds[i], in, sizeof(in), 0) <= 0);
    }
    httpd_stats(h, &now);
    printf("%u idle connections: %.0f bytes each\n", now.n_connections,
           (double)(rss_kib() - before) * 1024 / n);
    double cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
    client_wait_ms(1000);
    printf("a second of idleness: %.0f us of processor time\n",
           (now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e6);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    mem_free(fds);
    httpd_stop(h);
}

int main(void)
{
    bench_idle(10000);
    bench_requests(1);
    bench_requests(16);
    bench_stream(100);
    bench_stream(10000);
    bench_streams(64, 30);
    return 0;
}
