/* SPDX-License-Identifier: Apache-2.0 */
/* The compute threads.  Owns the threads; the work and its context belong to team_run's caller.
 *
 * One atomic word holds the round's number, whether it is open, and how many helpers are inside.  A
 * helper enters an open round by adding itself; the caller closes the round when the pieces have
 * run out and waits for those inside to leave.  A helper that comes late finds the round closed and
 * is waited for by nobody. */
#include "worker/kernel/team.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/mem.h"

#define OPEN          (1ull << 31)
#define INSIDE(s)     ((uint32_t)(s)&0x7fffffffu)
#define NEXT_ROUND(s) ((((s) >> 32) + 1) << 32)

enum { TEAM_MAX = 1024, SPINS = 1000 /* some 50 us */ };

struct team {
    uint32_t n_threads, n_started;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic bool stop;
    _Atomic uint32_t sleepers;
    _Atomic bool caller_sleeps;
    /* The round: written while no helper is inside. */
    team_fn fn;
    void *ctx;
    uint32_t n_pieces;
    _Atomic uint64_t state __attribute__((aligned(64)));
    _Atomic uint32_t next_piece __attribute__((aligned(64)));
};

struct helper {
    struct team *team;
    uint32_t thread;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(struct team *t, uint32_t thread)
{
    /* The counter ends at most n_pieces + n_threads: team_run keeps that below its range. */
    for (uint32_t i;
         (i = atomic_fetch_add_explicit(&t->next_piece, 1, memory_order_relaxed)) < t->n_pieces;)
        t->fn(t->ctx, i, thread);
}

/* Enters the round if it is open and not the one already seen. */
static bool enter(struct team *t, uint64_t *seen)
{
    uint64_t s = atomic_load(&t->state);
    while ((s & OPEN) && s >> 32 != *seen) {
        if (atomic_compare_exchange_weak(&t->state, &s, s + 1)) {
            *seen = s >> 32;
            return true;
        }
    }
    return false;
}

static void leave(struct team *t)
{
    uint64_t s = atomic_fetch_sub(&t->state, 1) - 1;
    if (INSIDE(s) == 0 && !(s & OPEN) && atomic_load(&t->caller_sleeps)) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_signal(&t->done);
        pthread_mutex_unlock(&t->lock);
    }
}

static bool round_waits(struct team *t, uint64_t seen)
{
    uint64_t s = atomic_load(&t->state);
    return (s & OPEN) && s >> 32 != seen;
}

static void sleep_until_round(struct team *t, uint64_t seen)
{
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->sleepers,
                     1); /* before the last look: the caller opens first, then looks for sleepers */
    while (!round_waits(t, seen) && !atomic_load(&t->stop))
        pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *helper_main(void *arg)
{
    struct helper h = *(struct helper *)arg;
    struct team *t = h.team;
    uint64_t seen = 0;
    mem_free(arg);
    while (!atomic_load(&t->stop)) {
        bool in = false;
        for (int i = 0; i < SPINS && !(in = enter(t, &seen)) && !atomic_load(&t->stop); i++)
            relax();
        if (in) {
            work(t, h.thread);
            leave(t);
        } else {
            sleep_until_round(t, seen);
        }
    }
    return NULL;
}

static void wake_all(struct team *t)
{
    if (atomic_load(&t->sleepers) == 0)
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

static void wait_for_helpers(struct team *t)
{
    for (int i = 0; i < SPINS; i++) {
        if (INSIDE(atomic_load(&t->state)) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&t->lock);
    /* An exchange, here and in team_run, stays before the load that follows even where an emulator
     * does not order a store before it (qemu, of Arm). */
    atomic_exchange(&t->caller_sleeps, true);
    while (INSIDE(atomic_load(&t->state)) != 0)
        pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->caller_sleeps, false);
    pthread_mutex_unlock(&t->lock);
}

void team_run(struct team *t, uint32_t n_pieces, team_fn fn, void *ctx)
{
    BUG_ON(n_pieces > UINT32_MAX - TEAM_MAX);
    if (t->n_threads == 1 || n_pieces <= 1) {
        for (uint32_t i = 0; i < n_pieces; i++)
            fn(ctx, i, 0);
        return;
    }
    t->fn = fn;
    t->ctx = ctx;
    t->n_pieces = n_pieces;
    atomic_store_explicit(&t->next_piece, 0, memory_order_relaxed);
    atomic_exchange(&t->state, NEXT_ROUND(atomic_load(&t->state)) | OPEN);
    wake_all(t);
    work(t, 0);
    atomic_fetch_and(&t->state, ~OPEN);
    wait_for_helpers(t);
}

uint32_t team_size(const struct team *t)
{
    return t->n_threads;
}

static int start_helper(struct team *t, struct err *err)
{
    struct helper *h = mem_try_alloc(1, sizeof(*h), err);
    if (!h)
        return -err->code;
    h->team = t;
    h->thread = t->n_started + 1;
    int e = pthread_create(&t->threads[t->n_started], NULL, helper_main, h);
    if (e) {
        mem_free(h);
        return err_set(err, E_NOMEM, "cannot start compute thread %u of %u: %s", t->n_started + 2,
                       t->n_threads,
                       e == EAGAIN ? "the system allows no more threads" : "refused by the system");
    }
    t->n_started++;
    return 0;
}

int team_new(uint32_t n_threads, struct team **ret_team, struct err *err)
{
    if (n_threads < 1 || n_threads > TEAM_MAX)
        return err_set(err, E_INVALID, "%u compute threads: between 1 and %d are possible",
                       n_threads, TEAM_MAX);
    struct team *t = mem_try_aligned(sizeof(*t), err);
    if (!t)
        return -err->code;
    t->n_threads = n_threads;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->done, NULL);
    t->threads = mem_try_alloc(n_threads, sizeof(*t->threads), err);
    int rc = t->threads ? 0 : -err->code;
    while (!rc && t->n_started < n_threads - 1)
        rc = start_helper(t, err);
    if (rc) {
        team_free(t);
        return rc;
    }
    *ret_team = t;
    return 0;
}

void team_free(struct team *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->n_started; i++)
        pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->lock);
    mem_free(t->threads);
    mem_free(t);
}
