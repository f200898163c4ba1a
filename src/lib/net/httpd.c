/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the server half of httpd.h: start and stop, the threads and their rounds, accepting,
 * what is counted.
 *
 * Every thread waits for its own connections and, together with the others, for the listeners: the
 * kernel wakes one of those that sleep. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

#define EVENTS_MAX 64
/* Accepted in one go: few, so that the other threads get some of a burst. */
#define ACCEPT_MAX 8
/* Of a thread.  Virtual: only what is touched costs memory.  Handlers parse JSON on it. */
#define STACK_BYTES (1u << 20)

static _Thread_local struct http_thread *self;

struct http_thread *thread_self(void)
{
    return self;
}

void httpd_touch(struct httpd *h)
{
    atomic_store(&h->changed_ms, httpd_now_ms());
}

/* --- news from other threads --- */

static void thread_wake(struct http_thread *t)
{
    uint64_t one = 1;
    ssize_t done = write(t->wake_fd, &one, sizeof(one));
    (void)done; /* a counter that is full has woken it */
}

void thread_post(struct http_thread *t, struct httpd_request *r)
{
    pthread_mutex_lock(&t->lock);
    r->news_next = NULL;
    *t->news_end = httpd_request_ref(r);
    t->news_end = &r->news_next;
    bool asleep = !t->awake;
    t->awake = true;
    pthread_mutex_unlock(&t->lock);
    if (asleep)
        thread_wake(t);
}

/* Hands a connection to a thread that has fewer. */
static void newcomer_post(struct http_thread *t, struct newcomer *n)
{
    pthread_mutex_lock(&t->lock);
    n->next = t->newcomers;
    t->newcomers = n;
    bool asleep = !t->awake;
    t->awake = true;
    pthread_mutex_unlock(&t->lock);
    if (asleep)
        thread_wake(t);
}

static void newcomers_run(struct http_thread *t, bool wanted)
{
    pthread_mutex_lock(&t->lock);
    struct newcomer *n = t->newcomers, *next;
    t->newcomers = NULL;
    pthread_mutex_unlock(&t->lock);
    for (; n; n = next) {
        next = n->next;
        struct conn *c = NULL;
        if (wanted)
            c = conn_open(t, n->fd, &n->peer, n->tls);
        else
            conn_uncount(t, n->fd);
        mem_free(n);
        if (c)
            conn_run(c);
    }
}

static struct httpd_request *news_take(struct http_thread *t)
{
    pthread_mutex_lock(&t->lock);
    struct httpd_request *r = t->news;
    t->news = NULL;
    t->news_end = &t->news;
    pthread_mutex_unlock(&t->lock);
    return r;
}

static void news_run(struct http_thread *t)
{
    struct httpd_request *next;
    for (struct httpd_request *r = news_take(t); r; r = next) {
        next = r->news_next;
        pthread_mutex_lock(&r->lock);
        r->posted = false;
        pthread_mutex_unlock(&r->lock);
        if (r->conn)
            conn_run(r->conn);
        httpd_request_unref(r);
    }
}

void thread_ready(struct conn *c)
{
    if (c->in_ready)
        return;
    c->in_ready = true;
    c->ready_next = c->t->ready;
    c->t->ready = c;
}

static void ready_run(struct http_thread *t)
{
    /* Those that become ready again meanwhile wait for the next round. */
    struct conn *turn[EVENTS_MAX];
    size_t n = 0;
    while (t->ready && n < EVENTS_MAX) {
        turn[n] = t->ready;
        t->ready = turn[n]->ready_next;
        turn[n++]->in_ready = false;
    }
    for (size_t i = 0; i < n; i++) /* each can close only itself */
        conn_run(turn[i]);
}

/* --- accepting --- */

static void listen_begin(struct http_thread *t)
{
    struct httpd *h = t->h;
    for (uint32_t i = 0; i < h->n_listeners; i++) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = &h->listeners[i]};
        if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, h->listeners[i].fd, &ev) < 0)
            log_error("http: a thread cannot accept connections (errno %d)", errno);
    }
    t->listens = true;
    t->accept_again_ms = 0;
}

static void listen_end(struct http_thread *t)
{
    struct httpd *h = t->h;
    for (uint32_t i = 0; t->listens && i < h->n_listeners; i++)
        epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, h->listeners[i].fd, NULL);
    t->listens = false;
}

/* Waiting connections would wake us again at once: look away for a moment. */
static void accept_pause(struct http_thread *t)
{
    listen_end(t);
    t->accept_again_ms = t->now_ms + HTTPD_ACCEPT_PAUSE;
}

static void reserve_open(struct httpd *h)
{
    int none = -1, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && !atomic_compare_exchange_strong(&h->reserve_fd, &none, fd))
        close(fd);
}

/* Descriptors are out.  One is kept back, with which one client at least is told (by a close) not
 * to wait. */
static void accept_shed(struct http_thread *t, struct listener *l)
{
    struct httpd *h = t->h;
    atomic_fetch_add(&h->n_accept_failed, 1);
    int reserve = atomic_exchange(&h->reserve_fd, -1);
    if (reserve >=
        0) { /* another thread may be quicker with the descriptor, and serve that client */
        close(reserve);
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            close(fd);
        reserve_open(h);
    }
    accept_pause(t);
}

/* Who shall have the next connection: t, unless another has clearly fewer.  The kernel alone would
 * give all that come one at a time to the same thread. */
static struct http_thread *thread_choose(struct http_thread *t)
{
    struct httpd *h = t->h;
    struct http_thread *best = t;
    uint32_t fewest = atomic_load(&t->n_conns);
    for (uint32_t i = 0; i < h->n_threads; i++) {
        uint32_t n = atomic_load(&h->threads[i].n_conns);
        if (n + 2 < fewest) {
            best = &h->threads[i];
            fewest = n;
        }
    }
    return best;
}

/* Opens the connection here or elsewhere. */
static bool accept_place(struct http_thread *t, int fd, const struct httpd_peer *peer, bool tls,
                         bool too_many)
{
    struct err err = ERR_INIT;
    struct http_thread *to = too_many ? t : thread_choose(t);
    struct newcomer *n = to != t ? mem_try_alloc(1, sizeof(*n), &err) : NULL;
    if (!n)
        to = t;
    atomic_fetch_add(&t->h->n_connections, 1);
    atomic_fetch_add(&to->n_conns, 1);
    httpd_touch(t->h);
    if (n) {
        *n = (struct newcomer){.fd = fd, .tls = tls, .peer = *peer};
        newcomer_post(to, n);
        return true;
    }
    struct conn *c = conn_open(t, fd, peer, tls);
    if (c && too_many) {
        atomic_fetch_add(&t->h->n_accept_failed, 1);
        conn_refuse(c, 503, "this server has as many connections as it can; try again later");
    }
    if (c)
        conn_run(c);
    return c != NULL;
}

/* False when there is nothing more to accept for now. */
static bool accept_one(struct http_thread *t, struct listener *l)
{
    struct httpd *h = t->h;
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int fd = accept4(l->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            accept_shed(t, l);
        return errno == ECONNABORTED || errno == EINTR;
    }
    atomic_fetch_add(&h->n_accepted, 1);
    uint32_t n = atomic_load(&h->n_connections);
    struct httpd_peer peer;
    listener_peer(l, fd, &addr, &peer);
    bool tls = h->has_tls && !l->is_unix;
    peer.is_tls = tls;
    if (n >= h->cfg.max_connections + HTTPD_SPARE_CONNS || (n >= h->cfg.max_connections && tls)) {
        atomic_fetch_add(&h->n_accept_failed, 1);
        close(fd);
        accept_pause(t);
        return false;
    }
    return accept_place(t, fd, &peer, tls, n >= h->cfg.max_connections);
}

/* --- rounds --- */

/* Once: gives up the listeners and idle connections.  The last thread closes the former. */
static void thread_quiesce(struct http_thread *t)
{
    struct httpd *h = t->h;
    struct conn *next;
    t->quiesced = true;
    t->accept_again_ms = 0;
    listen_end(t);
    for (struct conn *c = t->conns; c; c = next) {
        next = c->next;
        if (conn_is_idle(c))
            conn_close(c, false);
    }
    if (atomic_fetch_sub(&h->n_listening, 1) == 1) {
        for (uint32_t i = 0; i < h->n_listeners; i++)
            listener_close(&h->listeners[i]);
    }
}

static void timers_run(struct http_thread *t)
{
    struct timer *x;
    while ((x = timers_first(&t->timers)) && x->due_ms <= t->now_ms) {
        timer_set(&t->timers, x, TIMER_NEVER);
        conn_timeout(x->owner);
    }
    if (t->accept_again_ms && t->now_ms >= t->accept_again_ms) {
        if (atomic_load(&t->h->reserve_fd) < 0)
            reserve_open(t->h);
        listen_begin(t);
    }
}

/* Milliseconds that epoll may wait; -1: for ever. */
static int thread_patience(struct http_thread *t)
{
    struct timer *x = timers_first(&t->timers);
    uint64_t due = x ? x->due_ms : TIMER_NEVER, now;
    if (t->accept_again_ms)
        due = MIN_OF(due, t->accept_again_ms);
    if (due == TIMER_NEVER)
        return -1;
    now = httpd_now_ms();
    return due <= now ? 0 : (int)MIN_OF(due - now, 3600000u);
}

/* Sleeps until something happens; who posts meanwhile knows that we sleep. */
static int thread_wait(struct http_thread *t, struct epoll_event *ev)
{
    int patience = t->ready ? 0 : thread_patience(t);
    pthread_mutex_lock(&t->lock);
    if (t->news || t->newcomers)
        patience = 0;
    t->awake = patience == 0;
    pthread_mutex_unlock(&t->lock);
    int n = epoll_wait(t->epoll_fd, ev, EVENTS_MAX, patience);
    pthread_mutex_lock(&t->lock);
    t->awake = true;
    pthread_mutex_unlock(&t->lock);
    t->now_ms = httpd_now_ms();
    return n;
}

static void thread_events(struct http_thread *t, const struct epoll_event *ev, int n)
{
    for (int i = 0; i < n; i++) {
        struct source *s = ev[i].data.ptr;
        if (s->kind == SOURCE_CONN) {
            conn_event((struct conn *)(void *)s, ev[i].events);
        } else if (s->kind == SOURCE_LISTENER && t->listens) {
            for (int k = 0; k < ACCEPT_MAX && accept_one(t, (struct listener *)(void *)s); k++)
                ;
        }
    }
}

static void *thread_main(void *arg)
{
    struct http_thread *t = arg;
    struct epoll_event ev[EVENTS_MAX];
    self = t;
    t->now_ms = httpd_now_ms();
    listen_begin(t);
    while (!atomic_load(&t->h->stopping)) {
        int n = thread_wait(t, ev);
        thread_events(t, ev, n);
        newcomers_run(t, !t->quiesced);
        news_run(t);
        ready_run(t);
        timers_run(t);
        if (atomic_load(&t->h->quiescing) && !t->quiesced)
            thread_quiesce(t);
    }
    while (t->conns)
        conn_close(t->conns, false);
    if (!t->quiesced)
        thread_quiesce(t);
    newcomers_run(t, false);
    news_run(t); /* whose connections are gone: only their references */
    return NULL;
}

/* --- start and stop --- */

static int thread_open(struct httpd *h, struct http_thread *t, struct err *err)
{
    t->wake.kind = SOURCE_WAKE;
    t->h = h;
    t->awake = true;
    t->news_end = &t->news;
    t->date_s = -1;
    pthread_mutex_init(&t->lock, NULL);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* Edges, so that nobody has to read the counter. */
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = &t->wake};
    if (t->epoll_fd < 0 || t->wake_fd < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &ev) < 0)
        return err_set_sys(err, E_IO, "the HTTP server cannot wait for connections");
    return 0;
}

/* Its thread takes no signal: they are the process's. */
static int thread_start(struct http_thread *t, struct err *err)
{
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t->id, &attr, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    t->started = rc == 0;
    if (rc) {
        errno = rc;
        return err_set_sys(err, E_NOMEM, "the HTTP server cannot start a thread");
    }
    return 0;
}

static void thread_close(struct http_thread *t)
{
    timers_release(&t->timers);
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    pthread_mutex_destroy(&t->lock);
}

/* No more connections than descriptors allow, with some kept for models and logs. */
static uint32_t connection_limit(void)
{
    struct rlimit lim;
    rlim_t n = LIMIT_HTTP_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY &&
        lim.rlim_cur < n + 256)
        n = lim.rlim_cur > 512 ? lim.rlim_cur - 256 : lim.rlim_cur / 2;
    return (uint32_t)MAX_OF(n, 1);
}

static void fill_config(struct httpd *h, const struct httpd_config *cfg)
{
    long n_cpu = sysconf(_SC_NPROCESSORS_ONLN);
    h->cfg = *cfg;
    h->cfg.listen = NULL;
    h->cfg.tls_cert = h->cfg.tls_key = NULL;
    if (!h->cfg.max_body_bytes)
        h->cfg.max_body_bytes = LIMIT_HTTP_BODY_BYTES;
    if (!h->cfg.max_connections)
        h->cfg.max_connections = connection_limit();
    if (!h->cfg.head_timeout_ms)
        h->cfg.head_timeout_ms = LIMIT_HTTP_HEAD_MS;
    if (!h->cfg.idle_timeout_ms)
        h->cfg.idle_timeout_ms = LIMIT_HTTP_IDLE_S * 1000;
    if (!h->cfg.write_timeout_ms)
        h->cfg.write_timeout_ms = LIMIT_HTTP_WRITE_MS;
    h->n_threads = cfg->n_threads ? MIN_OF(cfg->n_threads, HTTPD_THREADS_MAX)
                   : n_cpu < 2    ? 2
                   : n_cpu > 4    ? 4
                                  : (uint32_t)n_cpu;
}

static int listeners_open(struct httpd *h, const struct httpd_config *cfg, struct err *err)
{
    if (cfg->n_listen == 0 || cfg->n_listen > HTTPD_LISTEN_MAX)
        return err_set(err, E_INVALID, "the server can listen on 1 to %d sockets, not on %u",
                       HTTPD_LISTEN_MAX, cfg->n_listen);
    for (uint32_t i = 0; i < cfg->n_listen; i++) {
        int rc = listener_open(&cfg->listen[i], &h->listeners[i], err);
        if (rc < 0)
            return rc;
        h->n_listeners++;
    }
    return 0;
}

int httpd_start(const struct httpd_config *cfg, struct httpd **ret, struct err *err)
{
    struct httpd *h = mem_alloc(sizeof(*h));
    fill_config(h, cfg);
    pthread_mutex_init(&h->tls_lock, NULL);
    httpd_touch(h);
    h->threads = mem_alloc(h->n_threads * sizeof(*h->threads));
    for (uint32_t i = 0; i < h->n_threads; i++)
        h->threads[i].epoll_fd = h->threads[i].wake_fd = -1;
    atomic_init(&h->n_listening, h->n_threads);
    atomic_init(&h->reserve_fd, -1);
    reserve_open(h);
    if (cfg->tls_cert)
        h->tls_cert = mem_dup(cfg->tls_cert, strlen(cfg->tls_cert));
    if (cfg->tls_key)
        h->tls_key = mem_dup(cfg->tls_key, strlen(cfg->tls_key));
    h->has_tls = h->tls_cert || h->tls_key;
    int rc = h->has_tls ? tls_load(h, err) : 0;
    if (rc == 0)
        rc = listeners_open(h, cfg, err);
    for (uint32_t i = 0; i < h->n_threads; i++) {
        struct err other = ERR_INIT;
        int opened = thread_open(h, &h->threads[i], rc < 0 ? &other : err);
        rc = rc < 0 ? rc : opened;
    }
    for (uint32_t i = 0; i < h->n_threads && rc == 0; i++)
        rc = thread_start(&h->threads[i], err);
    if (rc < 0) {
        httpd_stop(h);
        return rc;
    }
    *ret = h;
    return 0;
}

uint16_t httpd_port(const struct httpd *h)
{
    for (uint32_t i = 0; i < h->n_listeners; i++) {
        if (!h->listeners[i].is_unix)
            return h->listeners[i].port;
    }
    return 0;
}

void httpd_stats(struct httpd *h, struct httpd_stats *ret)
{
    *ret = (struct httpd_stats){.n_connections = atomic_load(&h->n_connections),
                                .n_requests = atomic_load(&h->n_requests),
                                .n_accepted = atomic_load(&h->n_accepted),
                                .n_requests_ever = atomic_load(&h->n_requests_ever),
                                .n_refused = atomic_load(&h->n_refused),
                                .n_timed_out = atomic_load(&h->n_timed_out),
                                .n_dropped_slow = atomic_load(&h->n_dropped_slow),
                                .n_accept_failed = atomic_load(&h->n_accept_failed),
                                .sent_bytes = atomic_load(&h->sent_bytes),
                                .received_bytes = atomic_load(&h->received_bytes)};
    uint64_t changed_ms = atomic_load(&h->changed_ms), now_ms = httpd_now_ms();
    ret->quiet_ms = now_ms > changed_ms ? now_ms - changed_ms : 0;
}

static void wake_all(struct httpd *h)
{
    for (uint32_t i = 0; i < h->n_threads; i++) {
        if (h->threads[i].started)
            thread_wake(&h->threads[i]);
    }
}

void httpd_quiesce(struct httpd *h)
{
    if (atomic_exchange(&h->quiesce_begun, true))
        return;
    for (uint32_t i = 0; i < h->n_listeners; i++)
        listener_quiesce(&h->listeners[i]);
    atomic_store(&h->quiescing, true); /* from here a thread may close them */
    wake_all(h);
}

void httpd_stop(struct httpd *h)
{
    httpd_quiesce(h);
    atomic_store(&h->stopping, true);
    wake_all(h);
    for (uint32_t i = 0; i < h->n_threads; i++) {
        if (h->threads[i].started)
            pthread_join(h->threads[i].id, NULL);
    }
    for (uint32_t i = 0; i < h->n_listeners; i++)
        listener_close(&h->listeners[i]);
    for (uint32_t i = 0; i < h->n_threads; i++) {
        newcomers_run(&h->threads[i], false); /* given to one that had ended already */
        thread_close(&h->threads[i]);
    }
    int reserve = atomic_load(&h->reserve_fd);
    if (reserve >= 0)
        close(reserve);
    tls_unload(h);
    pthread_mutex_destroy(&h->tls_lock);
    mem_free(h->tls_cert);
    mem_free(h->tls_key);
    mem_free(h->threads);
    mem_free(h);
}
