/* SPDX-License-Identifier: Apache-2.0 */
/* Several transfers at once, in bounds: the calling thread works too, the others are short-lived.
 */
#include "daemon/registry/registry_impl.h"

struct crew {
    struct job *job;
    uint32_t n;
    transfer_fn fn;
    void *ctx;
    atomic_uint next;
    pthread_mutex_t lock; /* guards err */
    struct err err;       /* the first failure */
};

static void note_failure(struct crew *c, const struct err *err)
{
    pthread_mutex_lock(&c->lock);
    if (!c->err.code)
        c->err = *err;
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->job->is_over, true); /* the others end at their next tick */
}

static void work(struct crew *c, struct fetch *f)
{
    for (;;) {
        struct err err = ERR_INIT;
        uint32_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->n || atomic_load(&c->job->is_over))
            return;
        if (c->fn(c->ctx, i, f, &err) < 0) {
            note_failure(c, &err);
            return;
        }
    }
}

static void *work_main(void *ctx)
{
    struct crew *c = ctx;
    struct fetch *f;
    struct err err = ERR_INIT;
    if (job_fetch_new(c->job, &f, &err) < 0) {
        note_failure(c, &err);
        return NULL;
    }
    work(c, f);
    fetch_free(f);
    return NULL;
}

int transfer_all(struct job *j, struct fetch *f, uint32_t n, transfer_fn fn, void *ctx,
                 struct err *err)
{
    struct crew c = {.job = j, .n = n, .fn = fn, .ctx = ctx};
    pthread_t threads[MAX_PARALLEL];
    uint32_t n_threads = 0, wanted = MIN_OF(n, j->r->cfg.max_parallel);
    pthread_mutex_init(&c.lock, NULL);
    while (n_threads + 1 < wanted && pthread_create(&threads[n_threads], NULL, work_main, &c) == 0)
        n_threads++; /* one that cannot be had makes it slower, nothing else */
    work(&c, f);
    for (uint32_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&c.lock);
    if (atomic_load(&j->is_canceled))
        return err_set(err, E_CANCELED, "it was stopped; what is here stays for the next try");
    if (c.err.code)
        *err = c.err;
    return c.err.code ? -c.err.code : 0;
}
