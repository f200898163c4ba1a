/* SPDX-License-Identifier: Apache-2.0 */
/* Implements runner.h's life: the loop thread, how calls from other threads reach it, and how it
 * is.
 *
 * A call is prepared on the caller's thread; then a task runs on the loop thread while the caller
 * waits.  Called from the loop thread itself (inside an
 * event callback), it runs at once. */
#include "daemon/runner/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/memory.h"

#define DEFAULT_LOAD_TIMEOUT_S 600u
#define DEFAULT_HANG_TIMEOUT_S 60u

/* A function to run on the loop thread, with its answer. */
struct call {
    struct runner *r;
    int (*fn)(struct runner *r, void *args, struct err *err);
    void *args;
    struct err *err;
    int rc;
    struct loop_task task;
    pthread_mutex_t lock;
    pthread_cond_t returned;
    bool has_returned;
};

static void call_run(void *ctx)
{
    struct call *c = ctx;
    int rc = c->fn(c->r, c->args, c->err);
    pthread_mutex_lock(&c->lock);
    c->rc = rc;
    c->has_returned = true;
    pthread_cond_signal(&c->returned);
    pthread_mutex_unlock(&c->lock);
}

int runner_call(struct runner *r, int (*fn)(struct runner *, void *, struct err *), void *args,
                struct err *err)
{
    if (pthread_equal(pthread_self(), r->thread))
        return fn(r, args, err);
    struct call c = {.r = r, .fn = fn, .args = args, .err = err, .task = {.fn = call_run}};
    c.task.ctx = &c;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.returned, NULL);
    loop_post(r->loop, &c.task);
    pthread_mutex_lock(&c.lock);
    while (!c.has_returned)
        pthread_cond_wait(&c.returned, &c.lock);
    pthread_mutex_unlock(&c.lock);
    pthread_cond_destroy(&c.returned);
    pthread_mutex_destroy(&c.lock);
    return c.rc;
}

/* --- life
 * ------------------------------------------------------------------------------------------------------
 */

static void *runner_main(void *ctx)
{
    struct runner *r = ctx;
    struct err err = ERR_INIT;
    if (loop_run(r->loop, &err) < 0)
        log_error("runner: %s", err.msg);
    return NULL;
}

static void runner_release(struct runner *r)
{
    models_release(&r->models);
    shelf_free(r->shelf);
    loop_free(r->loop);
    digests_close(r->digests);
    background_end(&r->preparing);
    background_end(&r->unpacking);
    preparer_free(r->preparer);
    json_decref(r->declared);
    state_close(&r->state);
    pthread_mutex_destroy(&r->state_lock);
    pthread_cond_destroy(&r->probe.answered);
    pthread_mutex_destroy(&r->probe.lock);
    mem_free(r->models_dirs);
    mem_free(r->cpu_level);
    mem_free(r);
}

/* Signals belong to the daemon's main thread: this one, and every process it starts, begins with
 * all blocked or reset. */
static int thread_start(struct runner *r, struct err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&r->thread, NULL, runner_main, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = rc;
    return rc ? err_set_sys(err, E_NOMEM, "the runner's thread") : 0;
}

static void probe_init(struct probe *p)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->answered, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&p->lock, NULL);
}

/* What was declared of a model before it was known. */
static void take_declared(struct model *m)
{
    struct err err = ERR_INIT;
    if (state_get(m->runner->declared, m->file.name, &m->settings, &err) < 0)
        log_error("settings of model %s: %s", m->file.name, err.msg);
}

void runner_set_times(struct runner *r, const struct runner_times *t)
{
    r->times = *t;
}

int runner_new(const struct runner_config *cfg, struct runner **ret_runner, struct err *err)
{
    struct runner *r = mem_alloc(sizeof(*r));
    const char *dirs = cfg->models_dirs ? cfg->models_dirs : "",
               *level = cfg->cpu_level ? cfg->cpu_level : "";
    r->cfg = *cfg;
    r->models.runner = r;
    probe_init(&r->probe);
    r->cfg.max_waiting = cfg->max_waiting ? cfg->max_waiting : LIMIT_REQUESTS_QUEUED;
    r->models_dirs = mem_dup(dirs, strlen(dirs));
    r->cpu_level = mem_dup(level, strlen(level));
    r->cfg.models_dirs = r->models_dirs;
    r->cfg.cpu_level = r->cpu_level;
    r->cfg.load_timeout_s = cfg->load_timeout_s ? cfg->load_timeout_s : DEFAULT_LOAD_TIMEOUT_S;
    r->cfg.hang_timeout_s = cfg->hang_timeout_s ? cfg->hang_timeout_s : DEFAULT_HANG_TIMEOUT_S;
    /* What the machine has in all: a stated bound, not what happens to be free. */
    r->times = (struct runner_times)RUNNER_TIMES_DEFAULT;
    r->stats.max_memory_bytes =
        cfg->max_memory_bytes ? cfg->max_memory_bytes : memory_limit_bytes() / 10 * 9;
    r->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    atomic_init(&r->next_id, 1);
    r->models.on_new = take_declared;
    r->models.on_moved = models_moved;
    background_init(&r->preparing, 1);
    background_init(&r->unpacking, UNPACKS_MAX);
    r->preparer = preparer_new();
    r->shelf = shelf_new(cfg->store, cfg->default_registry);
    pthread_mutex_init(&r->state_lock, NULL);
    int rc = state_open(cfg->state_dir, &r->state, err);
    if (rc == 0) {
        r->declared = json_incref(r->state.models);
        r->digests = digests_open(cfg->state_dir);
    }
    if (rc == 0)
        rc = loop_new(&r->loop, err);
    if (rc == 0)
        rc = thread_start(r, err);
    if (rc < 0)
        runner_release(r);
    else
        *ret_runner = r;
    return rc;
}

static int do_stop(struct runner *r, void *args, struct err *err)
{
    struct err why = ERR_INIT;
    (void)args;
    (void)err;
    r->is_stopping = true;
    background_call_off(&r->preparing);
    background_call_off(&r->unpacking);
    err_set(&why, E_STOPPING, "the daemon is stopping");
    for (struct model *m = r->models.first; m; m = m->next)
        model_fail_all(r, m, &why);
    for (struct worker *w = r->workers; w; w = w->next)
        worker_retire(w, &why);
    return 0;
}

void runner_stop(struct runner *r)
{
    struct err err = ERR_INIT;
    int rc = runner_call(r, do_stop, NULL, &err);
    BUG_ON(rc < 0);
}

static int do_free(struct runner *r, void *args, struct err *err)
{
    (void)args;
    (void)err;
    r->is_freeing = true;
    if (!r->workers)
        loop_stop(r->loop);
    return 0;
}

void runner_free(struct runner *r)
{
    struct err err = ERR_INIT;
    if (!r)
        return;
    runner_stop(r);
    digests_close(r->digests); /* before the loop ends, which takes its last news */
    r->digests = NULL;
    background_end(&r->preparing);
    background_end(&r->unpacking);
    int rc = runner_call(r, do_free, NULL, &err);
    BUG_ON(rc < 0);
    pthread_join(r->thread, NULL);
    runner_release(r);
}

/* --- how it is
 * ------------------------------------------------------------------------------------------------------
 */

static int do_stats(struct runner *r, void *args, struct err *err)
{
    struct runner_stats *s = args;
    (void)err;
    *s = r->stats;
    s->is_stopping = r->is_stopping;
    s->planned_bytes = admission_planned_bytes(r);
    for (const struct worker *w = r->workers; w; w = w->next) {
        if (w->state != WORKER_READY)
            continue;
        s->n_loaded++;
    }
    for (const struct model *m = r->models.first; m; m = m->next) {
        for (const struct run_request *q = m->first; q; q = q->next) {
            s->n_running += q->is_started;
            s->n_waiting += !q->is_started && q->kind == RUN_GENERATE;
        }
    }
    return 0;
}

int runner_stats(struct runner *r, struct runner_stats *ret, struct err *err)
{
    return runner_call(r, do_stats, ret, err);
}

static int do_is_ready(struct runner *r, void *args, struct err *err)
{
    (void)args;
    if (r->is_stopping)
        return err_set(err, E_STOPPING, "the daemon is stopping");
    for (const struct model *m = r->models.first; m; m = m->next) {
        if (m->is_broken && m->settings.pinned)
            return err_set(err, E_BROKEN, "model %s, which is pinned, is broken: %.300s",
                           m->file.name, m->failure.msg);
    }
    return 0;
}

bool runner_is_ready(struct runner *r, char *ret_why, size_t size)
{
    struct err err = ERR_INIT;
    if (runner_call(r, do_is_ready, NULL, &err) == 0)
        return true;
    snprintf(ret_why, size, "%s", err.msg);
    return false;
}

/* A model that nobody can ask now makes the whole daemon unready: who balances between daemons
 * wants to know. */
static int do_has_room(struct runner *r, void *args, struct err *err)
{
    (void)args;
    for (const struct model *m = r->models.first; m; m = m->next) {
        if (m->n_requests >= r->cfg.max_waiting)
            return err_set(err, E_BUSY, "the queue of model %s is full: %u requests", m->file.name,
                           m->n_requests);
    }
    return 0;
}

bool runner_has_room(struct runner *r, char *ret_why, size_t size)
{
    struct err err = ERR_INIT;
    if (runner_call(r, do_has_room, NULL, &err) == 0)
        return true;
    snprintf(ret_why, size, "%s", err.msg);
    return false;
}

static void on_probe(void *ctx)
{
    struct probe *p = ctx;
    pthread_mutex_lock(&p->lock);
    p->is_posted = false;
    p->n_answers++;
    pthread_cond_broadcast(&p->answered);
    pthread_mutex_unlock(&p->lock);
}

bool runner_is_alive(struct runner *r, uint32_t limit_ms)
{
    struct probe *p = &r->probe;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_ms / 1000;
    until.tv_nsec += (long)(limit_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->lock);
    uint64_t before = p->n_answers;
    if (!p->is_posted) {
        p->is_posted = true;
        p->task = (struct loop_task){.fn = on_probe, .ctx = p};
        loop_post(r->loop, &p->task);
    }
    int rc = 0;
    while (p->n_answers == before && rc == 0)
        rc = pthread_cond_timedwait(&p->answered, &p->lock, &until);
    bool is_alive = p->n_answers != before;
    pthread_mutex_unlock(&p->lock);
    return is_alive;
}
