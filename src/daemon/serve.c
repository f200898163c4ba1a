/* SPDX-License-Identifier: Apache-2.0 */
/* Implements serve.h.  The main thread waits in poll for signals (signalfd), for POST
 * /berth/v1/shutdown (eventfd), for idleness and for the service manager's watchdog; everything
 * else happens on the runner's and the server's threads.
 *
 * Start order: log, guard, store, runner, api, server.  Stop order: say that we are not ready, stop
 * accepting, let running requests end, end the rest with an error, the server, the workers. */
#include "daemon/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/api/api.h"
#include "daemon/api/guard.h"
#include "daemon/listen.h"
#include "daemon/registry/registry.h"
#include "daemon/store/store.h"
#include "lib/base/clock.h"
#include "lib/net/httpd.h"
#include "lib/sys/file.h"

#define FDS_WANTED     65536u
#define IDLE_TICK_MS   250u
#define DRAIN_TICK_MS  20u
#define LAST_WORDS_MS  2000u /* for the errors that requests end with to reach their clients */
#define STOP_MARGIN_MS 10000u

enum stop_cause { STOP_NOT, STOP_SIGTERM, STOP_SIGINT, STOP_HANGUP, STOP_CLIENT, STOP_IDLE };

struct daemon {
    const struct daemon_config *cfg;
    struct sd sd; /* empty without a service manager */
    struct listening listening;
    bool has_tls, dies_of_hangup;
    int signal_fd, shutdown_fd;
    uint64_t watched_ms; /* when the service manager was last told that we live */
    struct watch *watch;
    struct keys *keys;
    struct guard *guard;
    struct store *store;
    struct err no_store; /* why there is none */
    struct registry *registry;
    struct runner *runner;
    struct api *api;
    struct httpd *httpd;
};

void daemon_config_init(struct daemon_config *cfg)
{
    *cfg = (struct daemon_config){.host = "127.0.0.1",
                                  .port = 0,
                                  .log_level = LOG_LEVEL_INFO,
                                  .drain_timeout_s = 30,
                                  .ready_fd = -1};
}

static uint64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

static bool is_given(const char *s)
{
    return s && s[0];
}

/* --- start --- */

/* One line to whoever started us, then end of file.  They may have left. */
static void say_ready(const struct daemon_config *cfg, const char *line)
{
    if (cfg->ready_fd < 0)
        return;
    ssize_t done = write(cfg->ready_fd, line, strlen(line));
    (void)done;
    close(cfg->ready_fd);
}

/* Connections are descriptors: take as many as the system lets us.  Memory holds prompts and keys:
 * no image of it on any disk, and no file of ours for others to read. */
static void limits_set(const struct daemon_config *cfg)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max > FDS_WANTED ? MAX_OF(lim.rlim_cur, FDS_WANTED) : lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    lim = (struct rlimit){0, 0};
    setrlimit(RLIMIT_CORE, &lim);
    if (is_given(cfg->api_keys) || is_given(cfg->tls_key))
        prctl(PR_SET_DUMPABLE, 0);
    umask(077);
}

static bool has_terminal(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Blocks the signals we wait for, before any thread is made; workers are spawned with an empty
 * mask. */
static int signals_open(struct daemon *d, struct err *err)
{
    struct sigaction hup;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may not grow is a write that fails */
    bool nohup = sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler == SIG_IGN;
    d->dies_of_hangup = has_terminal() && !nohup;
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
    if (is_given(cfg->tls_cert) != is_given(cfg->tls_key))
        return err_set(err, E_INVALID,
                       "TLS needs a certificate and its key: %s is given without %s",
                       is_given(cfg->tls_cert) ? "--tls-cert" : "--tls-key",
                       is_given(cfg->tls_cert) ? "--tls-key" : "--tls-cert");
    d->has_tls = is_given(cfg->tls_cert);
    if (is_given(cfg->api_keys) && keys_open(cfg->api_keys, &d->keys, err) < 0)
        return -err->code;
    const struct guard_config gc = {.bound = buf_str(&d->listening.hosts),
                                    .allowed_hosts = cfg->allowed_hosts,
                                    .any_address = d->listening.any_address,
                                    .allowed_origins = cfg->allowed_origins,
                                    .keys = d->keys,
                                    .watch = d->watch};
    return guard_new(&gc, &d->guard, err);
}

static int server_start(struct daemon *d, struct err *err)
{
    const struct daemon_config *cfg = d->cfg;
    d->api = api_new(&(struct api_config){.runner = d->runner,
                                          .guard = d->guard,
                                          .watch = d->watch,
                                          .store = d->store,
                                          .no_store = d->no_store.msg,
                                          .store_path = cfg->store_dir,
                                          .registry = d->registry,
                                          .models_dirs = cfg->runner.models_dirs,
                                          .host = cfg->host ? cfg->host : "127.0.0.1",
                                          .keep_alive_ms = cfg->keep_alive_ms,
                                          .request_timeout_ms = cfg->request_timeout_ms,
                                          .shutdown = on_shutdown,
                                          .ctx = d});
    const struct httpd_config hc = {.listen = d->listening.items,
                                    .n_listen = d->listening.n,
                                    .tls_cert = d->has_tls ? cfg->tls_cert : NULL,
                                    .tls_key = d->has_tls ? cfg->tls_key : NULL,
                                    .n_threads = cfg->n_http_threads,
                                    .max_body_bytes = cfg->max_body_bytes,
                                    .max_connections = cfg->max_connections,
                                    .on_headers = api_on_headers,
                                    .on_request = api_on_request,
                                    .on_refusal = api_on_refusal,
                                    .on_done = api_on_done,
                                    .ctx = d->api};
    int rc = httpd_start(&hc, &d->httpd, err);
    if (rc == 0)
        api_set_httpd(d->api, d->httpd);
    return rc;
}

/* One that nobody named and that cannot be had, since another daemon has it or there is no home, is
 * done without. */
static int store_start(struct daemon *d, struct err *err)
{
    const struct daemon_config *cfg = d->cfg;
    struct err why = ERR_INIT;
    d->no_store = why;
    if (!is_given(cfg->store_dir) || !cfg->config)
        return 0;
    int rc = file_make_dirs(cfg->store_dir, &why);
    if (rc == 0)
        rc = store_open(cfg->store_dir, &d->store, &why);
    if (rc == 0)
        rc = registry_new_configured(cfg->config, d->store, &d->registry, err);
    else if (cfg->store_is_named)
        *err = why;
    if (why.code && !cfg->store_is_named) {
        log_warn("there is no store of models: %s", why.msg);
        d->no_store = why;
        rc = 0;
    }
    return rc;
}

static int runner_start(struct daemon *d, struct err *err)
{
    struct runner_config rc = d->cfg->runner;
    rc.store = d->store;
    rc.default_registry = d->registry ? registry_default(d->registry) : NULL;
    return runner_new(&rc, &d->runner, err);
}

static int start(struct daemon *d, struct err *err)
{
    const struct daemon_config *cfg = d->cfg;
    limits_set(cfg);
    int rc = signals_open(d, err);
    if (rc == 0)
        rc = watch_new(&cfg->watch, &d->watch, err);
    if (rc == 0)
        rc = guard_make(d, err);
    if (rc == 0)
        rc = store_start(d, err);
    if (rc == 0)
        rc = runner_start(d, err);
    return rc < 0 ? rc : server_start(d, err);
}

/* Says where we listen, to everybody who waits for it. */
static void announce(struct daemon *d)
{
    const struct daemon_config *cfg = d->cfg;
    uint16_t port = httpd_port(d->httpd);
    char line[64];
    struct buf where;
    buf_init(&where, 8192);
    listening_print(&d->listening, d->has_tls, port, &where);
    dprintf(STDOUT_FILENO, "berth %s listens on %s\n", BERTH_VERSION, buf_str(&where));
    log_info("version %s listens on %s, %s", BERTH_VERSION, buf_str(&where),
             d->keys ? "asks for keys" : "asks for no key");
    if (d->listening.is_exposed && !d->keys)
        log_warn("--insecure: everybody who reaches this address may use and manage this daemon");
    else if (d->listening.is_exposed && !d->has_tls)
        log_warn("keys and prompts cross the network as they are: --tls-cert and --tls-key, or a "
                 "proxy in front, protect them");
    snprintf(line, sizeof(line), "port=%u pid=%d\n", port, (int)getpid());
    say_ready(cfg, line);
    sd_notify(&d->sd, "READY=1\nSTATUS=Listening on %.300s", buf_str(&where));
    buf_release(&where);
}

/* --- life --- */

/* SIGHUP: what fails is said and stays as it was. */
static void reload(struct daemon *d)
{
    struct err err = ERR_INIT;
    sd_notify(&d->sd, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)now_ms() * 1000);
    if (watch_reopen(d->watch, &err) < 0)
        log_error("the log files stay as they were: %s", err.msg);
    if (d->keys && keys_reload(d->keys, &err) < 0)
        log_error("the keys stay as they were: %s", err.msg);
    else if (d->keys)
        log_info("read the keys again: %zu", keys_n(d->keys));
    if (d->has_tls && httpd_tls_reload(d->httpd, &err) < 0)
        log_error("the certificate stays as it was: %s", err.msg);
    else if (d->has_tls)
        log_info("read the certificate again");
    log_info("reloaded, told by SIGHUP");
    sd_notify(&d->sd, "READY=1");
}

static bool is_idle(struct daemon *d)
{
    struct httpd_stats st;
    httpd_stats(d->httpd, &st);
    return d->cfg->exit_idle_s && !st.n_connections && !st.n_requests &&
           st.quiet_ms >= (uint64_t)d->cfg->exit_idle_s * 1000;
}

/* The service manager restarts us when it does not hear this; so only while the loop answers. */
static void pet_watchdog(struct daemon *d)
{
    uint32_t every_ms = d->sd.watchdog_ms / 3;
    if (!d->sd.watchdog_ms || now_ms() - d->watched_ms < every_ms)
        return;
    if (runner_is_alive(d->runner, every_ms)) {
        sd_notify(&d->sd, "WATCHDOG=1");
        d->watched_ms = now_ms();
    } else {
        log_error("the runner does not answer; the service manager is left to see to it");
    }
}

/* What the next signal or shutdown request means; STOP_NOT when there was none to stop for. */
static enum stop_cause read_cause(struct daemon *d)
{
    struct signalfd_siginfo info;
    uint64_t n;
    while (read(d->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM)
            return STOP_SIGTERM;
        if (info.ssi_signo == SIGINT)
            return STOP_SIGINT;
        if (d->dies_of_hangup && !has_terminal())
            return STOP_HANGUP;
        if (!d->api || !d->httpd)
            continue;
        reload(d);
    }
    return read(d->shutdown_fd, &n, sizeof(n)) == (ssize_t)sizeof(n) ? STOP_CLIENT : STOP_NOT;
}

/* Waits for a cause to stop, at most limit_ms; keeps the watchdog quiet meanwhile. */
static enum stop_cause wait_cause(struct daemon *d, uint64_t limit_ms)
{
    struct pollfd fds[2] = {{.fd = d->signal_fd, .events = POLLIN},
                            {.fd = d->shutdown_fd, .events = POLLIN}};
    uint64_t wait_ms = limit_ms;
    if (d->sd.watchdog_ms)
        wait_ms = MIN_OF(wait_ms, MAX_OF(d->sd.watchdog_ms / 4, 1));
    pet_watchdog(d);
    if (poll(fds, 2, wait_ms > 1u << 30 ? -1 : (int)wait_ms) <= 0)
        return STOP_NOT;
    return read_cause(d);
}

static enum stop_cause run(struct daemon *d)
{
    static const char *const names[] = {[STOP_SIGTERM] = "SIGTERM",
                                        [STOP_SIGINT] = "SIGINT",
                                        [STOP_HANGUP] = "its terminal's end",
                                        [STOP_CLIENT] = "a client",
                                        [STOP_IDLE] = "idleness"};
    enum stop_cause cause = STOP_NOT;
    while (cause == STOP_NOT) {
        cause = wait_cause(d, d->cfg->exit_idle_s ? IDLE_TICK_MS : UINT64_MAX);
        if (cause == STOP_NOT && is_idle(d))
            cause = STOP_IDLE;
    }
    log_info("stopping, told by %s", names[cause]);
    return cause;
}

/* --- end --- */

/* Waits for limit_ms, or until no request is open when until_quiet; true when a further SIGTERM or
 * SIGINT asks for haste. */
static bool wait_quiet(struct daemon *d, uint64_t limit_ms, bool until_quiet)
{
    uint64_t begin = now_ms();
    for (;;) {
        struct httpd_stats st;
        httpd_stats(d->httpd, &st);
        uint64_t gone = now_ms() - begin;
        if (gone >= limit_ms || (until_quiet && st.n_requests == 0))
            return false;
        enum stop_cause cause = wait_cause(d, MIN_OF(limit_ms - gone, DRAIN_TICK_MS));
        if (cause == STOP_SIGTERM || cause == STOP_SIGINT) {
            log_warn("stopping at once, told again");
            return true;
        }
    }
}

/* Only a signal is followed by the time that a balancer needs to look elsewhere. */
static void drain(struct daemon *d, enum stop_cause cause)
{
    const struct daemon_config *cfg = d->cfg;
    uint64_t delay_ms = cause == STOP_SIGTERM ? cfg->drain_delay_s * 1000 : 0;
    uint64_t timeout_ms = cfg->drain_timeout_s > 86400 ? 86400000 : cfg->drain_timeout_s * 1000;
    sd_notify(&d->sd, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=Finishing running requests",
              (unsigned long long)(delay_ms + timeout_ms + STOP_MARGIN_MS) * 1000);
    api_set_draining(d->api);
    bool haste = delay_ms && wait_quiet(d, delay_ms, false);
    httpd_quiesce(d->httpd);
    if (!haste)
        haste = wait_quiet(d, timeout_ms, true);
    api_stop_jobs(d->api);
    runner_stop(d->runner);
    wait_quiet(d, LAST_WORDS_MS, true);
    if (haste) { /* the next one ends us by itself */
        sigset_t set;
        sigfillset(&set);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
}

static void stop(struct daemon *d, enum stop_cause cause)
{
    if (d->httpd) {
        drain(d, cause);
        api_set_httpd(d->api, NULL);
        httpd_stop(d->httpd);
    }
    if (d->api)
        api_free(d->api); /* its jobs ask the runner, and have the store */
    if (d->runner)
        runner_free(d->runner);
    registry_free(d->registry);
    store_close(d->store);
    guard_free(d->guard);
    keys_free(d->keys);
    if (cause != STOP_NOT)
        log_info("stopped");
    watch_free(d->watch);
    listening_release(&d->listening);
    if (d->signal_fd >= 0)
        close(d->signal_fd);
    if (d->shutdown_fd >= 0)
        close(d->shutdown_fd);
}

int daemon_main(const struct daemon_config *cfg)
{
    struct daemon d = {.cfg = cfg, .signal_fd = -1, .shutdown_fd = -1};
    struct err err = ERR_INIT;
    char line[ERR_MSG_MAX + 16];
    enum stop_cause cause = STOP_NOT;
    log_init(cfg->log_level, cfg->log_json, "serve");
    if (cfg->sd)
        d.sd = *cfg->sd;
    int rc = listening_init(&d.listening, cfg, &err);
    if (rc == 0)
        rc = start(&d, &err);
    if (rc < 0) {
        fprintf(stderr, "berth: %s\n", err.msg);
        snprintf(line, sizeof(line), "error=%s\n", err.msg);
        say_ready(cfg, line);
        sd_notify(&d.sd, "STATUS=Not started: %.300s", err.msg);
    } else {
        announce(&d);
        cause = run(&d);
    }
    stop(&d, cause);
    return rc < 0;
}
