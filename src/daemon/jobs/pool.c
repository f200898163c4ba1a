/* SPDX-License-Identifier: Apache-2.0 */
/* Implements pool.h. */
#include "daemon/jobs/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "lib/base/mem.h"

struct task {
    struct task *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct pool {
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t for_work;
    pthread_t *threads; /* owned, [max_threads] */
    uint32_t n_threads, max_threads, n_running, n_waiting, max_waiting;
    struct task *first, **last;
    bool is_closing;
};

struct pool *pool_new(uint32_t max_threads, uint32_t max_waiting)
{
    struct pool *p = mem_alloc(sizeof(*p));
    *p = (struct pool){.max_threads = max_threads, .max_waiting = max_waiting};
    p->last = &p->first;
    p->threads = mem_alloc(max_threads * sizeof(*p->threads));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->for_work, NULL);
    return p;
}

static void *pool_main(void *ctx)
{
    struct pool *p = ctx;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct task *t = p->first;
        if (!t && p->is_closing)
            break;
        if (!t) {
            pthread_cond_wait(&p->for_work, &p->lock);
            continue;
        }
        p->first = t->next;
        if (!p->first)
            p->last = &p->first;
        p->n_waiting--;
        p->n_running++;
        pthread_mutex_unlock(&p->lock);
        t->fn(t->ctx);
        mem_free(t);
        pthread_mutex_lock(&p->lock);
        p->n_running--;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* One more, unless there are enough; signals are the main thread's.  Under lock. */
static int thread_add(struct pool *p, struct err *err)
{
    sigset_t all, old;
    if (p->n_threads == p->max_threads || p->n_running + p->n_waiting < p->n_threads)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&p->threads[p->n_threads], NULL, pool_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = rc;
    if (rc == 0)
        p->n_threads++;
    else if (p->n_threads == 0)
        return err_set_sys(err, E_NOMEM, "no thread could be made for work that blocks");
    return 0;
}

int pool_run(struct pool *p, void (*fn)(void *ctx), void *ctx, struct err *err)
{
    struct task *t = mem_alloc(sizeof(*t));
    *t = (struct task){.fn = fn, .ctx = ctx};
    pthread_mutex_lock(&p->lock);
    BUG_ON(p->is_closing);
    int rc = thread_add(p, err);
    if (rc == 0 && p->n_running + p->n_waiting >= p->max_threads + p->max_waiting)
        rc = err_set(err, E_BUSY,
                     "%u transfers and checks of models run and %u wait, as many as may; try again "
                     "later",
                     p->n_running, p->n_waiting);
    if (rc == 0) {
        *p->last = t;
        p->last = &t->next;
        p->n_waiting++;
        pthread_cond_signal(&p->for_work);
    }
    pthread_mutex_unlock(&p->lock);
    if (rc < 0)
        mem_free(t);
    return rc;
}

void pool_count(struct pool *p, uint32_t *ret_running, uint32_t *ret_waiting)
{
    pthread_mutex_lock(&p->lock);
    *ret_running = p->n_running;
    *ret_waiting = p->n_waiting;
    pthread_mutex_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->is_closing = true;
    pthread_cond_broadcast(&p->for_work);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->for_work);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->threads);
    mem_free(p);
}
