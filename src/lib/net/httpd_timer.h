/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of one thread: a heap of moments, each embedded in what it belongs to.  No lock. */
#ifndef LIB_NET_HTTPD_TIMER_H
#define LIB_NET_HTTPD_TIMER_H

#include "lib/base/err.h"

#define TIMER_NEVER UINT64_MAX

struct timer {
    void *owner;
    uint64_t due_ms;
    uint32_t place; /* in the heap, plus one; 0: not set */
};

struct timers {
    struct timer **heap; /* owned */
    uint32_t n, cap;
};

/* Room for n timers, so that setting one cannot fail. */
int timers_reserve(struct timers *t, uint32_t n, struct err *err) MUST_USE;
void timers_release(struct timers *t);
/* Sets or moves; TIMER_NEVER takes it away. */
void timer_set(struct timers *t, struct timer *x, uint64_t due_ms);
/* The earliest, NULL when none is set. */
struct timer *timers_first(const struct timers *t);

#endif
