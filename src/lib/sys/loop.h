/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop: descriptors (epoll), timers (timerfd), signals (signalfd) and tasks from other
 * threads (eventfd).
 *
 * One thread runs it and gets every callback; that thread alone may call anything here but
 * loop_post and loop_stop, which any thread may.  Callbacks must not block; they may add, change
 * and delete descriptors and timers, their own included. */
#ifndef LIB_SYS_LOOP_H
#define LIB_SYS_LOOP_H

#include <signal.h>

#include "lib/base/err.h"

struct loop;
struct loop_fd;

int loop_new(struct loop **ret_loop, struct err *err) MUST_USE;
/* Closes what the loop opened, not what was added to it.  Tasks still queued are not run.  NULL is
 * fine. */
void loop_free(struct loop *l);

/* Runs until loop_stop; first failure of epoll itself ends it too. */
int loop_run(struct loop *l, struct err *err) MUST_USE;
void loop_stop(struct loop *l);

/* events: EPOLLIN, EPOLLOUT; errors and hang-ups are always reported.  The descriptor stays the
 * caller's, who deletes it here before closing it. */
typedef void (*loop_fd_fn)(void *ctx, uint32_t events);
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn, void *ctx,
                struct loop_fd **ret_fd, struct err *err) MUST_USE;
void loop_change_fd(struct loop_fd *f, uint32_t events);
void loop_del_fd(struct loop_fd *f); /* NULL is fine */

/* A timer is a member of its user's structure: zero it, fill fn and ctx, set it.  It fires once. */
struct loop_timer {
    void (*fn)(void *ctx);
    void *ctx;
    struct loop *loop; /* while set */
    struct loop_timer *next;
    uint64_t due_ms; /* on loop_now_ms's clock */
};
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t in_ms); /* again: moves it */
void loop_timer_cancel(struct loop_timer *t); /* one that is not set: nothing */

/* CLOCK_MONOTONIC. */
uint64_t loop_now_ms(void);

/* Blocks the signals of set in the calling thread and hands them to fn from now on.  Once per loop.
 * Block them before starting other threads, which inherit the mask. */
typedef void (*loop_signal_fn)(void *ctx, int signo);
int loop_add_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *ctx,
                     struct err *err) MUST_USE;

/* Queues fn(ctx) for the loop's thread, in order.  The caller owns the task, which must live until
 * it has run. */
struct loop_task {
    void (*fn)(void *ctx);
    void *ctx;
    struct loop_task *next;
};
void loop_post(struct loop *l, struct loop_task *t);

#endif
