/* SPDX-License-Identifier: Apache-2.0 */
/* The watcher: one thread that notices what libmicrohttpd cannot while a connection is suspended:
 * that its client has hung up, or that nothing was said for too long.
 *
 * A client that closes its sending half counts as gone, as in most servers: it is how a closed
 * browser tab looks. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

#define TICK_MS 250
#define BATCH   64

static int request_fd(struct httpd_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* Room for fd in h->slots; false without memory (then a hang-up is noticed at the next write
 * instead). */
static bool slots_grow_locked(struct httpd *h, uint32_t fd)
{
    if (fd < h->n_slots)
        return true;
    uint32_t n = h->n_slots ? h->n_slots : 64;
    while (n <= fd)
        n *= 2;
    struct err err = ERR_INIT;
    struct watch_slot *slots = mem_try_resize(h->slots, n, sizeof(*slots), &err);
    if (!slots)
        return false;
    for (uint32_t i = h->n_slots; i < n; i++)
        slots[i] = (struct watch_slot){NULL, 0};
    h->slots = slots;
    h->n_slots = n;
    return true;
}

void watch_add(struct httpd *h, struct httpd_request *r)
{
    int fd = request_fd(r);
    if (fd < 0)
        return;
    pthread_mutex_lock(&h->lock);
    if (slots_grow_locked(h, (uint32_t)fd)) {
        struct watch_slot *s = &h->slots[fd];
        s->r = r;
        s->generation = ++h->generation;
        struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT,
                                 .data.u64 = (uint64_t)s->generation << 32 | (uint32_t)fd};
        if (epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 && errno == EEXIST)
            epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, fd, &ev);
    }
    pthread_mutex_unlock(&h->lock);
}

void watch_remove(struct httpd *h, struct httpd_request *r)
{
    int fd = r->conn ? request_fd(r) : -1;
    pthread_mutex_lock(&h->lock);
    if (fd >= 0 && (uint32_t)fd < h->n_slots && h->slots[fd].r == r) {
        h->slots[fd].r = NULL;
        epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    }
    pthread_mutex_unlock(&h->lock);
}

static void hung_up(struct httpd *h, uint64_t data)
{
    uint32_t fd = (uint32_t)data, generation = (uint32_t)(data >> 32);
    struct httpd_request *r = NULL;
    pthread_mutex_lock(&h->lock);
    if (fd < h->n_slots && h->slots[fd].r && h->slots[fd].generation == generation)
        r = httpd_request_ref(h->slots[fd].r);
    pthread_mutex_unlock(&h->lock);
    if (r) {
        request_abort(r, false);
        httpd_request_unref(r);
    }
}

/* Fills due with requests whose quiet time is over, at most BATCH; starts their next interval. */
static size_t collect_quiet(struct httpd *h, struct httpd_request **due)
{
    size_t n = 0;
    uint64_t now = httpd_now_ms();
    pthread_mutex_lock(&h->lock);
    for (struct httpd_request *r = h->requests; r && n < BATCH; r = r->next) {
        pthread_mutex_lock(&r->lock);
        if (r->quiet_fn && !r->aborted && request_unfinished_locked(r) &&
            now - r->wrote_ms >= r->quiet_ms) {
            r->wrote_ms = now;
            due[n++] = httpd_request_ref(r);
        }
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return n;
}

static void tell_quiet(struct httpd *h)
{
    struct httpd_request *due[BATCH];
    size_t n;
    do {
        n = collect_quiet(h, due);
        for (size_t i = 0; i < n; i++) {
            due[i]->quiet_fn(due[i]->quiet_ctx);
            httpd_request_unref(due[i]);
        }
    } while (n == BATCH);
}

static void *watch_run(void *arg)
{
    struct httpd *h = arg;
    struct epoll_event ev[BATCH];
    uint64_t next_ms = httpd_now_ms() + TICK_MS;
    for (;;) {
        uint64_t now = httpd_now_ms();
        int n = epoll_wait(h->epoll_fd, ev, BATCH, next_ms > now ? (int)(next_ms - now) : 0);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u64 == UINT64_MAX)
                return NULL;
            hung_up(h, ev[i].data.u64);
        }
        if (httpd_now_ms() >= next_ms) {
            tell_quiet(h);
            next_ms = httpd_now_ms() + TICK_MS;
        }
    }
}

int watch_start(struct httpd *h, struct err *err)
{
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    if (h->epoll_fd < 0 || h->wake_fd < 0 ||
        epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->wake_fd, &ev) < 0)
        return err_set_sys(err, E_IO, "the HTTP server cannot watch its connections");
    int rc = pthread_create(&h->watcher, NULL, watch_run, h);
    if (rc) {
        errno = rc;
        return err_set_sys(err, E_NOMEM, "the HTTP server cannot start a thread");
    }
    return 0;
}

void watch_stop(struct httpd *h)
{
    uint64_t one = 1;
    ssize_t done = write(h->wake_fd, &one, sizeof(one));
    (void)done; /* a fresh eventfd takes one */
    pthread_join(h->watcher, NULL);
}
