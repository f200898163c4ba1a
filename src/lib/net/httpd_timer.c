/* SPDX-License-Identifier: Apache-2.0 */
/* Implements httpd_timer.h: a binary heap that knows where each of its items is. */
#include "lib/net/httpd_timer.h"

#include "lib/base/mem.h"

int timers_reserve(struct timers *t, uint32_t n, struct err *err)
{
    if (n <= t->cap)
        return 0;
    uint32_t cap = t->cap ? t->cap : 16;
    while (cap < n)
        cap *= 2;
    struct timer **heap = mem_try_resize(t->heap, cap, sizeof(struct timer *), err);
    if (!heap)
        return -err->code;
    t->heap = heap;
    t->cap = cap;
    return 0;
}

void timers_release(struct timers *t)
{
    mem_free(t->heap);
    *t = (struct timers){0};
}

static void put(struct timers *t, uint32_t i, struct timer *x)
{
    t->heap[i] = x;
    x->place = i + 1;
}

static void sift_up(struct timers *t, uint32_t i)
{
    struct timer *x = t->heap[i];
    while (i > 0 && t->heap[(i - 1) / 2]->due_ms > x->due_ms) {
        put(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(t, i, x);
}

static void sift_down(struct timers *t, uint32_t i)
{
    struct timer *x = t->heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= t->n)
            break;
        if (child + 1 < t->n && t->heap[child + 1]->due_ms < t->heap[child]->due_ms)
            child++;
        if (t->heap[child]->due_ms >= x->due_ms)
            break;
        put(t, i, t->heap[child]);
        i = child;
    }
    put(t, i, x);
}

static void take_away(struct timers *t, struct timer *x)
{
    uint32_t i = x->place - 1;
    struct timer *last = t->heap[--t->n];
    x->place = 0;
    if (last == x)
        return;
    put(t, i, last);
    sift_up(t, i);
    sift_down(t, last->place - 1);
}

void timer_set(struct timers *t, struct timer *x, uint64_t due_ms)
{
    if (due_ms == TIMER_NEVER) {
        if (x->place)
            take_away(t, x);
        return;
    }
    x->due_ms = due_ms;
    if (!x->place) {
        BUG_ON(t->n == t->cap);
        put(t, t->n++, x);
    }
    sift_up(t, x->place - 1);
    sift_down(t, x->place - 1);
}

struct timer *timers_first(const struct timers *t)
{
    return t->n ? t->heap[0] : NULL;
}
