/* SPDX-License-Identifier: Apache-2.0 */
/* Implements job.h. */
#include "daemon/jobs/job.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/base/mem.h"

struct watcher {
    struct watcher *next;
    job_watch_fn fn;
    void *ctx;
};

struct job {
    struct job *next;
    struct jobs *all;
    char *key; /* owned, may be NULL */
    job_fn fn;
    void *ctx;
    void (*ctx_free)(void *ctx);
    atomic_bool is_stopped;
    pthread_mutex_t lock; /* guards the watchers; held while they are called */
    struct watcher *watchers;
    uint32_t n_refs; /* under jobs.lock: watchers, and the thread */
    bool has_ended;  /* under jobs.lock: nobody joins any more */
};

struct jobs {
    pthread_mutex_t lock; /* before a job's lock */
    struct job *first;
    bool is_stopping;
    struct pool *pool;
};

struct jobs *jobs_new(uint32_t max_running, uint32_t max_waiting)
{
    struct jobs *js = mem_alloc(sizeof(*js));
    *js = (struct jobs){.pool = pool_new(max_running, max_waiting)};
    pthread_mutex_init(&js->lock, NULL);
    return js;
}

void jobs_count(struct jobs *js, uint32_t *ret_running, uint32_t *ret_waiting)
{
    pool_count(js->pool, ret_running, ret_waiting);
}

void jobs_stop(struct jobs *js)
{
    pthread_mutex_lock(&js->lock);
    js->is_stopping = true;
    for (struct job *j = js->first; j; j = j->next)
        atomic_store(&j->is_stopped, true);
    pthread_mutex_unlock(&js->lock);
}

void jobs_free(struct jobs *js)
{
    if (!js)
        return;
    jobs_stop(js);
    pool_free(js->pool);
    BUG_ON(js->first);
    pthread_mutex_destroy(&js->lock);
    mem_free(js);
}

/* One holder less; the last one frees. */
static void job_unref(struct job *j)
{
    struct jobs *js = j->all;
    pthread_mutex_lock(&js->lock);
    bool is_last = --j->n_refs == 0;
    for (struct job **at = &js->first; is_last && *at; at = &(*at)->next) {
        if (*at == j) {
            *at = j->next;
            break;
        }
    }
    pthread_mutex_unlock(&js->lock);
    if (!is_last)
        return;
    if (j->ctx_free)
        j->ctx_free(j->ctx);
    pthread_mutex_destroy(&j->lock);
    mem_free(j->key);
    mem_free(j);
}

static void job_run(void *ctx)
{
    struct job *j = ctx;
    struct err err = ERR_INIT;
    int rc = j->fn(j, j->ctx, &err);
    pthread_mutex_lock(&j->all->lock);
    if (rc < 0 && j->all->is_stopping)
        err_set(&err, E_STOPPING, "the daemon is stopping; ask again, and it goes on from there");
    pthread_mutex_unlock(&j->all->lock);
    if (rc < 0)
        job_tell(j, &(struct job_event){.type = JOB_ERROR, .message = err.msg, .why = &err});
    job_unref(j);
}

/* Under jobs.lock. */
static void watcher_add(struct job *j, const struct job_start *s)
{
    struct watcher *w = mem_alloc(sizeof(*w));
    *w = (struct watcher){.fn = s->watch, .ctx = s->watcher};
    pthread_mutex_lock(&j->lock);
    w->next = j->watchers;
    j->watchers = w;
    pthread_mutex_unlock(&j->lock);
    j->n_refs++;
}

static struct job *find_locked(const struct jobs *js, const char *key)
{
    for (struct job *j = js->first; key && j; j = j->next) {
        if (j->key && strcmp(j->key, key) == 0 && !j->has_ended && !atomic_load(&j->is_stopped))
            return j;
    }
    return NULL;
}

static struct job *job_new(struct jobs *js, const struct job_start *s)
{
    struct job *j = mem_alloc(sizeof(*j));
    *j = (struct job){.all = js,
                      .key = s->key ? mem_dup(s->key, strlen(s->key)) : NULL,
                      .fn = s->fn,
                      .ctx = s->ctx,
                      .ctx_free = s->ctx_free,
                      .n_refs = 1};
    atomic_init(&j->is_stopped, false);
    pthread_mutex_init(&j->lock, NULL);
    return j;
}

int jobs_start(struct jobs *js, const struct job_start *s, struct job **ret, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&js->lock);
    struct job *j = find_locked(js, s->key);
    bool is_new = !j;
    if (js->is_stopping) {
        rc = err_set(err, E_STOPPING, "the daemon is stopping");
    } else {
        if (is_new) {
            j = job_new(js, s);
            j->next = js->first;
            js->first = j;
        }
        watcher_add(j, s);
        rc = is_new ? pool_run(js->pool, job_run, j, err) : 0;
    }
    if (rc == 0)
        *ret = j;
    pthread_mutex_unlock(&js->lock);
    if (rc < 0 && j && is_new) { /* nobody runs it: the thread's hold and the watcher's fall */
        mem_free(j->watchers);
        j->watchers = NULL;
        job_unref(j);
        job_unref(j);
    } else if ((rc < 0 || !is_new) && s->ctx_free) {
        s->ctx_free(s->ctx);
    }
    return rc;
}

void job_unwatch(struct job *j, void *watcher)
{
    pthread_mutex_lock(&j->all->lock);
    pthread_mutex_lock(&j->lock);
    for (struct watcher **at = &j->watchers; *at; at = &(*at)->next) {
        struct watcher *w = *at;
        if (w->ctx == watcher) {
            *at = w->next;
            mem_free(w);
            break;
        }
    }
    if (!j->watchers)
        atomic_store(&j->is_stopped, true);
    pthread_mutex_unlock(&j->lock);
    pthread_mutex_unlock(&j->all->lock);
    job_unref(j);
}

/* Who has heard the end is all that can: nobody joins from then on. */
static void end_joining(struct job *j)
{
    pthread_mutex_lock(&j->all->lock);
    j->has_ended = true;
    pthread_mutex_unlock(&j->all->lock);
}

bool job_tell(struct job *j, const struct job_event *e)
{
    if (e->type == JOB_SUCCESS || e->type == JOB_ERROR)
        end_joining(j);
    pthread_mutex_lock(&j->lock);
    for (struct watcher *w = j->watchers; w; w = w->next)
        w->fn(w->ctx, e);
    pthread_mutex_unlock(&j->lock);
    return !atomic_load(&j->is_stopped);
}

bool job_is_stopped(struct job *j)
{
    return atomic_load(&j->is_stopped);
}
