/* SPDX-License-Identifier: Apache-2.0 */
/* Prepared weights of loaded models (daemon/store/prepared.h): found and handed to workers, made in
 * the background, one model at a time, for those that have none.
 *
 * A load never waits for it.  What is made is made by a process of its own (lib/ipc/prepare.h) from
 * the same files, under the digest that they have; the worker gets it when it is whole and goes
 * over to it between two steps.  A model whose files cannot be prepared is not tried again in this
 * daemon's life; one for which there is no room is, when it is loaded again.  Unloading a model
 * does not stop its preparation: the next load has it.
 *
 * Loop thread, but for job_run, which is on the one thread of a pool. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/jobs/pool.h"
#include "daemon/runner/internal.h"
#include "daemon/store/prepared.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/ipc/prepare.h"

#define FAILED_MAX 64u /* remembered; more fall out at the front */

struct prepare_job {
    struct runner *r;
    char digest[DIGEST_BYTES];
    char *name; /* owned: of the model, for the log */
    bool is_stored;
    bool is_unwanted;         /* so declared since it began */
    struct model_files files; /* owned */
    uint64_t n_bytes, begun_ms;
    atomic_uint percent;
    int rc;
    struct err err;
    struct loop_task done;
};

struct preparer {
    struct pool *pool;
    atomic_bool is_called_off;
    struct prepare_job *job; /* NULL: none runs */
    char failed[FAILED_MAX][DIGEST_BYTES];
    uint32_t n_failed;
};

struct preparer *preparer_new(void)
{
    struct preparer *p = mem_alloc(sizeof(*p));
    p->pool = pool_new(1, 1);
    atomic_init(&p->is_called_off, false);
    return p;
}

void preparer_call_off(struct preparer *p)
{
    atomic_store(&p->is_called_off, true);
}

void preparer_end(struct preparer *p)
{
    preparer_call_off(p);
    pool_free(p->pool); /* what it did is on its way to the loop thread now */
    p->pool = NULL;
}

void preparer_free(struct preparer *p)
{
    if (p)
        pool_free(p->pool);
    mem_free(p);
}

static bool has_failed(const struct preparer *p, const char *digest)
{
    for (uint32_t i = 0; i < MIN_OF(p->n_failed, FAILED_MAX); i++)
        if (strcmp(p->failed[i], digest) == 0)
            return true;
    return false;
}

static void note_failure(struct preparer *p, const char *digest)
{
    if (!has_failed(p, digest))
        snprintf(p->failed[p->n_failed++ % FAILED_MAX], DIGEST_BYTES, "%s", digest);
}

/* Whether m's workers use prepared weights: as declared of it, else of all. */
static bool is_on(const struct model *m)
{
    const struct runner_config *cfg = &m->runner->cfg;
    const struct model_settings *s = &m->settings;
    return cfg->store && !(s->has_no_prepare ? s->no_prepare : cfg->no_prepare);
}

/* ---- making one ---- */

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct prepare_job *j = ctx;
    atomic_store(&j->percent, (unsigned)(total ? done / MAX_OF(total / 100, 1u) : 0));
}

/* The pool's thread. */
static int job_make(struct prepare_job *j, struct err *err)
{
    struct store *s = j->r->cfg.store;
    int fd;
    int rc = store_prepared_begin(s, j->digest, j->n_bytes, &fd, err);
    if (rc < 0)
        return rc;
    const struct prepare_request q = {
        .fds = j->files.fds,
        .names = (const char *const *)j->files.paths,
        .n = j->files.n,
        .out_fd = fd,
        .n_bytes = j->n_bytes,
        .cpu_level = j->r->cpu_level,
        .is_called_off = &j->r->preparer->is_called_off,
        .progress = on_progress,
        .ctx = j,
    };
    rc = prepare_run(&q, err);
    if (rc < 0)
        store_prepared_abandon(s, j->digest);
    else
        rc = store_prepared_commit(s, j->digest, j->is_stored, fd, err);
    close(fd);
    return rc;
}

static void job_free(struct prepare_job *j)
{
    model_files_close(&j->files);
    mem_free(j->name);
    mem_free(j);
}

static void job_done(void *ctx)
{
    struct prepare_job *j = ctx;
    struct runner *r = j->r;
    const double s = (double)(loop_now_ms() - j->begun_ms) / 1000.0;
    r->preparer->job = NULL;
    if (!r->is_stopping) /* what is called off then stays so */
        atomic_store(&r->preparer->is_called_off, false);
    if (j->rc == 0 && j->is_unwanted) { /* it was whole before it could be called off */
        store_prepared_remove(r->cfg.store, j->digest);
        j->rc = -E_CANCELED;
    }
    if (j->rc == 0) {
        r->stats.n_prepared++;
        log_info("model %s: prepared %.1f MiB of weights in %.1f s", j->name,
                 (double)j->n_bytes / 1048576.0, s);
    } else if (j->rc != -E_CANCELED && j->rc != -E_NOTFOUND) {
        r->stats.n_prepare_failures++;
        log_warn("model %s: its weights were not prepared, it runs from its file: %s", j->name,
                 j->err.msg);
        if (j->err.sys != ENOSPC)
            note_failure(r->preparer, j->digest);
    }
    for (struct worker *w = r->workers; w; w = w->next)
        if (j->rc < 0 && j->rc != -E_CANCELED && strcmp(w->digest, j->digest) == 0)
            w->prepared.has_failed = true;
    job_free(j);
    prepare_next(r);
}

static void job_run(void *ctx)
{
    struct prepare_job *j = ctx;
    j->rc = job_make(j, &j->err);
    loop_post(j->r->loop, &j->done);
}

/* The files that w has, open: of a stored model its blobs, else those of its path, if they are
 * still the ones that were hashed. */
static int files_open(struct worker *w, struct model_files *ret, struct err *err)
{
    char digest[DIGEST_BYTES];
    if (w->model->file.digest[0])
        return model_files_copy(&w->opened.files, ret, err);
    int rc = model_files_open(w->model->file.path, ret, err);
    if (rc == 0 &&
        (!digests_known(w->runner->digests, ret, digest) || strcmp(digest, w->digest) != 0)) {
        model_files_close(ret);
        rc = err_set(err, E_NOTFOUND, "%s is not the file any more that was loaded",
                     w->model->file.path);
    }
    return rc;
}

static int job_start(struct worker *w, struct err *err)
{
    struct runner *r = w->runner;
    struct prepare_job *j = mem_alloc(sizeof(*j));
    *j = (struct prepare_job){.r = r,
                              .name = mem_dup(w->model->file.name, strlen(w->model->file.name)),
                              .is_stored = w->model->file.digest[0] != '\0',
                              .n_bytes = w->prepared.n_bytes,
                              .begun_ms = loop_now_ms(),
                              .err = ERR_INIT};
    memcpy(j->digest, w->digest, sizeof(j->digest));
    j->done = (struct loop_task){.fn = job_done, .ctx = j};
    int rc = files_open(w, &j->files, err);
    if (rc == 0)
        rc = pool_run(r->preparer->pool, job_run, j, err);
    if (rc < 0)
        job_free(j);
    else
        r->preparer->job = j;
    return rc;
}

/* ---- handing one over ---- */

static void attach(struct worker *w, int fd)
{
    struct err err = ERR_INIT;
    if (w->files.n || worker_put(w, MSG_ATTACH, NULL, 0, &err) < 0) {
        close(fd);
        return;
    }
    model_files_add(&w->files, fd);
    w->prepared.is_asked = true;
    worker_flush(w);
}

/* It has one, or will never have one; else what it waits for was begun. */
static bool try_worker(struct worker *w)
{
    struct runner *r = w->runner;
    struct err err = ERR_INIT;
    int fd;
    if (!is_on(w->model) || w->state != WORKER_READY || w->prepared.n_bytes == 0 ||
        w->prepared.is_attached || w->prepared.is_asked || w->prepared.has_failed || !w->digest[0])
        return true;
    if (store_prepared_open(r->cfg.store, w->digest, &fd, &err) == 0) {
        attach(w, fd);
        return true;
    }
    if (has_failed(r->preparer, w->digest)) {
        w->prepared.has_failed = true;
        return true;
    }
    if (job_start(w, &err) == 0)
        return false;
    log_warn("model %s: its weights were not prepared, it runs from its file: %s",
             w->model->file.name, err.msg);
    w->prepared.has_failed = true;
    return true;
}

void prepare_next(struct runner *r)
{
    if (r->is_stopping || r->preparer->job)
        return;
    for (struct worker *w = r->workers; w; w = w->next)
        if (!try_worker(w))
            return;
}

/* Some worker computes from them, will, or would. */
static bool is_wanted(const struct runner *r, const char *digest)
{
    for (const struct worker *w = r->workers; w; w = w->next)
        if (w->state != WORKER_ENDING && is_on(w->model) && strcmp(w->digest, digest) == 0)
            return true;
    return false;
}

/* Under which its prepared weights lie, if any do: "" as long as the file was never hashed. */
static void digest_find(const struct model *m, char ret[DIGEST_BYTES])
{
    struct model_files files;
    struct err ignored = ERR_INIT;
    snprintf(ret, DIGEST_BYTES, "%s", m->file.digest[0] ? m->file.digest : m->digest);
    if (ret[0] || model_files_open(m->file.path, &files, &ignored) < 0)
        return;
    if (!digests_known(m->runner->digests, &files, ret))
        ret[0] = '\0';
    model_files_close(&files);
}

void prepare_declared(struct model *m)
{
    struct preparer *p = m->runner->preparer;
    char digest[DIGEST_BYTES];
    if (!m->settings.no_prepare || !m->runner->cfg.store)
        return;
    digest_find(m, digest);
    if (!digest[0] || is_wanted(m->runner, digest))
        return;
    store_prepared_remove(m->runner->cfg.store, digest);
    if (p->job && strcmp(p->job->digest, digest) == 0) {
        p->job->is_unwanted = true;
        atomic_store(&p->is_called_off, true);
    }
}

int prepare_open(struct worker *w)
{
    struct err err = ERR_INIT;
    int fd = -1;
    if (!is_on(w->model) || !w->digest[0] || w->files.n + w->draft.files.n + 1 > LIMIT_MSG_FDS ||
        store_prepared_open(w->runner->cfg.store, w->digest, &fd, &err) < 0)
        return -1;
    return fd;
}

/* The file is none, or of a berth with other kernels: away with it. */
static void refused(struct worker *w)
{
    store_prepared_remove(w->runner->cfg.store, w->digest);
    log_warn("model %s: the prepared weights in the store are not its own and were deleted",
             w->model->file.name);
}

void prepare_loaded(struct worker *w, uint64_t n_bytes, bool is_attached)
{
    w->prepared.n_bytes = n_bytes;
    w->prepared.is_attached = is_attached;
    if (w->prepared.is_given && !is_attached)
        refused(w);
    prepare_next(w->runner);
}

int prepare_on_attached(struct worker *w, struct str payload, struct err *err)
{
    struct msg_attached m;
    int rc = msg_attached_decode(payload, &m, err);
    if (rc == 0 && !w->prepared.is_asked)
        rc = err_set(err, E_FORMAT, "ATTACHED that answers no ATTACH");
    if (rc < 0)
        return rc;
    w->prepared.is_asked = false;
    w->prepared.is_attached = m.code == 0;
    if (m.code == 0) {
        log_info("worker %d (%s): computes from prepared weights", (int)w->child.pid,
                 w->model->file.name);
        return 0;
    }
    w->prepared.has_failed = true;
    log_warn("worker %d (%s): %.*s", (int)w->child.pid, w->model->file.name, STR_ARG(m.why));
    if (m.code == E_FORMAT)
        refused(w);
    return 0;
}

void prepare_describe(const struct worker *w, char ret[PREPARED_TEXT_BYTES])
{
    const struct prepare_job *j = w->runner->preparer->job;
    const char *text = w->prepared.n_bytes == 0  ? "none"
                       : w->prepared.is_attached ? "yes"
                       : is_on(w->model)         ? "no"
                                                 : "off";
    snprintf(ret, PREPARED_TEXT_BYTES, "%s", text);
    if (w->prepared.is_asked) /* it lies there, and is about to be taken up */
        snprintf(ret, PREPARED_TEXT_BYTES, "100 %%");
    if (j && !w->prepared.is_attached && w->digest[0] && strcmp(j->digest, w->digest) == 0)
        snprintf(ret, PREPARED_TEXT_BYTES, "%u %%", MIN_OF(atomic_load(&j->percent), 100u));
}
