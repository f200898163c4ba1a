/* SPDX-License-Identifier: Apache-2.0 */
/* Implements loop.h. */
#include "lib/sys/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

#define EVENTS_AT_ONCE 64

struct loop_fd {
    struct loop *loop;
    int fd;
    uint32_t events;
    loop_fd_fn fn;
    void *ctx;
    bool is_dead; /* deleted in this round; freed at its end, for later events of the round may name
                     it */
    struct loop_fd *next_dead;
};

struct loop {
    int epoll_fd, timer_fd, wake_fd, signal_fd;
    atomic_bool is_stopping;
    struct loop_fd *timer, *wake, *signal;
    struct loop_fd *dead;
    struct loop_timer *timers; /* soonest first */
    loop_signal_fn signal_fn;
    void *signal_ctx;
    pthread_mutex_t lock; /* tasks */
    struct loop_task *tasks, **last_task;
};

uint64_t loop_now_ms(void)
{
    return clock_ns() / 1000000;
}

/* Reads one counter away; what it held does not matter. */
static void drain_counter(int fd)
{
    uint64_t n;
    ssize_t got = read(fd, &n, sizeof(n));
    (void)got; /* EAGAIN: another round had it */
}

static void run_tasks(void *ctx, uint32_t events)
{
    struct loop *l = ctx;
    (void)events;
    drain_counter(l->wake_fd);
    pthread_mutex_lock(&l->lock);
    struct loop_task *t = l->tasks;
    l->tasks = NULL;
    l->last_task = &l->tasks;
    pthread_mutex_unlock(&l->lock);
    while (t) {
        struct loop_task *next = t->next; /* t may be gone once it has run */
        t->fn(t->ctx);
        t = next;
    }
}

void loop_post(struct loop *l, struct loop_task *t)
{
    t->next = NULL;
    pthread_mutex_lock(&l->lock);
    bool is_first = !l->tasks; /* else whoever put the first wakes, or has woken, the loop */
    *l->last_task = t;
    l->last_task = &t->next;
    pthread_mutex_unlock(&l->lock);
    if (!is_first)
        return;
    uint64_t one = 1;
    ssize_t done = write(l->wake_fd, &one, sizeof(one));
    (void)done; /* EAGAIN: the counter is full and the loop awake */
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->is_stopping, true);
    uint64_t one = 1;
    ssize_t done = write(l->wake_fd, &one, sizeof(one));
    (void)done;
}

/* Points the timerfd at the soonest timer, or disarms it. */
static void timers_arm(struct loop *l)
{
    struct itimerspec spec = {0};
    if (l->timers) {
        uint64_t due = l->timers->due_ms ? l->timers->due_ms : 1;
        spec.it_value.tv_sec = (time_t)(due / 1000);
        spec.it_value.tv_nsec = (long)(due % 1000) * 1000000;
    }
    int rc = timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    BUG_ON(rc < 0);
}

static void run_timers(void *ctx, uint32_t events)
{
    struct loop *l = ctx;
    (void)events;
    drain_counter(l->timer_fd);
    uint64_t now = loop_now_ms();
    while (l->timers && l->timers->due_ms <= now) {
        struct loop_timer *t = l->timers;
        l->timers = t->next;
        t->loop = NULL;
        t->fn(t->ctx);
    }
    timers_arm(l);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t in_ms)
{
    loop_timer_cancel(t);
    t->loop = l;
    t->due_ms = loop_now_ms() + in_ms;
    struct loop_timer **at = &l->timers;
    while (*at && (*at)->due_ms <= t->due_ms)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
    if (l->timers == t)
        timers_arm(l);
}

void loop_timer_cancel(struct loop_timer *t)
{
    if (!t->loop)
        return;
    for (struct loop_timer **at = &t->loop->timers; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->loop = NULL;
}

static void read_signals(void *ctx, uint32_t events)
{
    struct loop *l = ctx;
    (void)events;
    struct signalfd_siginfo si;
    while (read(l->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        l->signal_fn(l->signal_ctx, (int)si.ssi_signo);
}

int loop_add_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *ctx,
                     struct err *err)
{
    BUG_ON(l->signal_fd >= 0);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    l->signal_fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (l->signal_fd < 0)
        return err_set_sys(err, E_IO, "signalfd");
    l->signal_fn = fn;
    l->signal_ctx = ctx;
    return loop_add_fd(l, l->signal_fd, EPOLLIN, read_signals, l, &l->signal, err);
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *ctx,
                struct loop_fd **ret_fd, struct err *err)
{
    struct loop_fd *f = mem_alloc(sizeof(*f));
    *f = (struct loop_fd){.loop = l, .fd = fd, .events = events, .fn = fn, .ctx = ctx};
    struct epoll_event ev = {.events = events, .data.ptr = f};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        mem_free(f);
        return err_set_sys(err, E_IO, "epoll does not take descriptor %d", fd);
    }
    *ret_fd = f;
    return 0;
}

void loop_change_fd(struct loop_fd *f, uint32_t events)
{
    if (f->events == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = f};
    int rc = epoll_ctl(f->loop->epoll_fd, EPOLL_CTL_MOD, f->fd, &ev);
    BUG_ON(rc < 0);
    f->events = events;
}

void loop_del_fd(struct loop_fd *f)
{
    if (!f)
        return;
    BUG_ON(f->is_dead);
    epoll_ctl(f->loop->epoll_fd, EPOLL_CTL_DEL, f->fd, NULL);
    f->is_dead = true;
    f->next_dead = f->loop->dead;
    f->loop->dead = f;
}

static void free_dead(struct loop *l)
{
    while (l->dead) {
        struct loop_fd *f = l->dead;
        l->dead = f->next_dead;
        mem_free(f);
    }
}

static int open_fds(struct loop *l, struct err *err)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->epoll_fd < 0 || l->timer_fd < 0 || l->wake_fd < 0)
        return err_set_sys(err, E_IO, "event loop: epoll, timerfd or eventfd");
    int rc = loop_add_fd(l, l->timer_fd, EPOLLIN, run_timers, l, &l->timer, err);
    return rc < 0 ? rc : loop_add_fd(l, l->wake_fd, EPOLLIN, run_tasks, l, &l->wake, err);
}

int loop_new(struct loop **ret_loop, struct err *err)
{
    struct loop *l = mem_alloc(sizeof(*l));
    l->epoll_fd = l->timer_fd = l->wake_fd = l->signal_fd = -1;
    l->last_task = &l->tasks;
    pthread_mutex_init(&l->lock, NULL);
    int rc = open_fds(l, err);
    if (rc < 0)
        loop_free(l);
    else
        *ret_loop = l;
    return rc;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    loop_del_fd(l->timer);
    loop_del_fd(l->wake);
    loop_del_fd(l->signal);
    free_dead(l);
    const int fds[] = {l->signal_fd, l->timer_fd, l->wake_fd, l->epoll_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

int loop_run(struct loop *l, struct err *err)
{
    struct epoll_event ready[EVENTS_AT_ONCE];
    while (!atomic_load(&l->is_stopping)) {
        int n = epoll_wait(l->epoll_fd, ready, EVENTS_AT_ONCE, -1);
        if (n < 0 && errno != EINTR)
            return err_set_sys(err, E_INTERNAL, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct loop_fd *f = ready[i].data.ptr;
            if (!f->is_dead)
                f->fn(f->ctx, ready[i].events);
        }
        free_dead(l);
    }
    return 0;
}
