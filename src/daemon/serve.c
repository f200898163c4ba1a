/* SPDX-License-Identifier: Apache-2.0 */
/* Implements serve.h.  The main thread waits in poll for signals (signalfd), for POST
 * /berth/v1/shutdown (eventfd) and for idleness; everything else happens on the runner's and the
 * server's threads.
 *
 * Stop order: stop accepting, let running requests end within the grace, end the rest, then the
 * workers. */
#include "daemon/serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/api/api.h"
#include "daemon/api/guard.h"
#include "lib/net/httpd.h"

#define DEFAULT_GRACE_S 10u
#define FDS_WANTED      65536u

struct daemon {
    const struct daemon_config *cfg;
    const char *host;
    int signal_fd, shutdown_fd;
    struct watch *watch;
    struct runner *runner;
    struct keys *keys;
    struct guard *guard;
    struct api *api;
    struct httpd *httpd;
};

void daemon_config_init(struct daemon_config *cfg)
{
    *cfg = (struct daemon_config){
        .host = "127.0.0.1", .port = 0, .log_level = LOG_LEVEL_INFO, .ready_fd = -1};
}

/* One line to whoever started us, then end of file.  They may have left. */
static void say_ready(const struct daemon_config *cfg, const char *line)
{
    if (cfg->ready_fd < 0)
        return;
    ssize_t done = write(cfg->ready_fd, line, strlen(line));
    (void)done;
    close(cfg->ready_fd);
}

static bool host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Connections are descriptors: take as many as the system lets us. */
static void raise_fd_limit(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max > FDS_WANTED ? MAX_OF(lim.rlim_cur, FDS_WANTED) : lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

/* Blocks the signals we wait for, before any thread is made; workers are spawned with an empty
 * mask. */
static int signals_open(struct daemon *d, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may not grow is a write that fails */
    d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    d->shutdown_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->signal_fd < 0 || d->shutdown_fd < 0)
        return err_set_sys(err, E_IO, "the daemon cannot wait for signals");
    return 0;
}

static void on_shutdown(void *ctx)
{
    struct daemon *d = ctx;
    uint64_t one = 1;
    ssize_t done = write(d->shutdown_fd, &one, sizeof(one));
    (void)done; /* a full counter is as good */
}

/* Who may come: keys, names, pages. */
static int guard_make(struct daemon *d, struct err *err)
{
    const struct daemon_config *cfg = d->cfg;
    if (!host_is_loopback(d->host) && !cfg->allow_remote && !cfg->api_keys)
        return err_set(err, E_DENIED,
                       "refusing to listen on %s: anyone who reaches it could use this daemon, "
                       "which asks for no key; give it a file of keys with --api-keys, or say "
                       "--insecure if everybody on that network may use it",
                       d->host);
    if (cfg->api_keys && keys_open(cfg->api_keys, &d->keys, err) < 0)
        return -err->code;
    const struct guard_config gc = {.bound = d->host,
                                    .allowed_hosts = cfg->allowed_hosts,
                                    .any_address = strcmp(d->host, "0.0.0.0") == 0 ||
                                                   strcmp(d->host, "::") == 0,
                                    .allowed_origins = cfg->allowed_origins,
                                    .keys = d->keys,
                                    .watch = d->watch};
    return guard_new(&gc, &d->guard, err);
}

static int start(struct daemon *d, struct err *err)
{
    const struct daemon_config *cfg = d->cfg;
    int rc = watch_new(&cfg->watch, &d->watch, err);
    if (rc == 0)
        rc = guard_make(d, err);
    if (rc < 0)
        return rc;
    raise_fd_limit();
    rc = signals_open(d, err);
    if (rc == 0)
        rc = runner_new(&cfg->runner, &d->runner, err);
    if (rc < 0)
        return rc;
    d->api = api_new(&(struct api_config){.runner = d->runner,
                                          .guard = d->guard,
                                          .watch = d->watch,
                                          .models_dirs = cfg->runner.models_dirs,
                                          .host = d->host,
                                          .keep_alive_ms = cfg->keep_alive_ms,
                                          .shutdown = on_shutdown,
                                          .ctx = d});
    struct httpd_listen tcp = {.kind = HTTPD_TCP, .host = d->host, .port = cfg->port};
    struct httpd_config hc = {.listen = &tcp,
                              .n_listen = 1,
                              .n_threads = cfg->n_http_threads,
                              .on_headers = api_on_headers,
                              .on_request = api_on_request,
                              .on_refusal = api_on_refusal,
                              .on_done = api_on_done,
                              .ctx = d->api};
    rc = httpd_start(&hc, &d->httpd, err);
    if (rc == 0)
        api_set_httpd(d->api, d->httpd);
    return rc;
}

static bool is_idle(struct daemon *d)
{
    struct httpd_stats s;
    httpd_stats(d->httpd, &s);
    return d->cfg->exit_idle_s && !s.n_connections && !s.n_requests &&
           s.quiet_ms >= (uint64_t)d->cfg->exit_idle_s * 1000;
}

/* True when a signal came within timeout_ms (negative: no limit); *ret_why says which. */
static bool wait_stop(struct daemon *d, int timeout_ms, const char **ret_why)
{
    struct pollfd fds[2] = {{.fd = d->signal_fd, .events = POLLIN},
                            {.fd = d->shutdown_fd, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms) <= 0)
        return false;
    struct signalfd_siginfo info;
    if (read(d->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        *ret_why = info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
        return true;
    }
    uint64_t n;
    *ret_why = "a client";
    return read(d->shutdown_fd, &n, sizeof(n)) == (ssize_t)sizeof(n);
}

static void run(struct daemon *d)
{
    const char *why = "idleness";
    while (!wait_stop(d, d->cfg->exit_idle_s ? 250 : -1, &why)) {
        if (is_idle(d))
            break;
    }
    log_info("stopping, told by %s", why);
}

/* Waits until no request runs, the grace is over, or a second signal comes. */
static void drain(struct daemon *d)
{
    struct timespec begin, now;
    uint32_t grace_s = d->cfg->grace_s ? d->cfg->grace_s : DEFAULT_GRACE_S;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    httpd_quiesce(d->httpd);
    do {
        struct httpd_stats s;
        const char *why;
        httpd_stats(d->httpd, &s);
        if (s.n_requests == 0 || wait_stop(d, 20, &why))
            break;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < (time_t)grace_s);
}

static void stop(struct daemon *d)
{
    if (d->httpd) {
        drain(d);
        httpd_stop(d->httpd);
        api_set_httpd(d->api, NULL);
    }
    if (d->runner)
        runner_free(d->runner);
    if (d->api)
        api_free(d->api);
    guard_free(d->guard);
    keys_free(d->keys);
    watch_free(d->watch); /* the last: everybody else logs */
    if (d->signal_fd >= 0)
        close(d->signal_fd);
    if (d->shutdown_fd >= 0)
        close(d->shutdown_fd);
}

int daemon_main(const struct daemon_config *cfg)
{
    struct daemon d = {.cfg = cfg,
                       .host = cfg->host ? cfg->host : "127.0.0.1",
                       .signal_fd = -1,
                       .shutdown_fd = -1};
    struct err err = ERR_INIT;
    char line[ERR_MSG_MAX + 16];
    log_init(cfg->log_level, cfg->log_json, "serve");
    int rc = start(&d, &err);
    if (rc < 0) {
        fprintf(stderr, "berth: %s\n", err.msg);
        snprintf(line, sizeof(line), "error=%s\n", err.msg);
        say_ready(cfg, line);
    } else {
        bool v6 = strchr(d.host, ':') != NULL;
        dprintf(STDOUT_FILENO, "berth %s listens on http://%s%s%s:%u\n", BERTH_VERSION,
                v6 ? "[" : "", d.host, v6 ? "]" : "", httpd_port(d.httpd));
        snprintf(line, sizeof(line), "port=%u pid=%d\n", httpd_port(d.httpd), (int)getpid());
        say_ready(cfg, line);
        run(&d);
    }
    stop(&d);
    return rc < 0;
}
