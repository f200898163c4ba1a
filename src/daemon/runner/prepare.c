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
    struct prepare_job *job; /* NULL: none runs */
    char failed[FAILED_MAX][DIGEST_BYTES];
    uint32_t n_failed;
};

struct preparer *preparer_new(void)
{
    return mem_alloc(sizeof(struct preparer));
}

void preparer_free(struct preparer *p)
{
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

/* As declared of its model, else of all; a draft model can be declared to have none for anybody. */
bool prepare_is_on(const struct worker *w, enum weights_of of)
{
    const struct runner_config *cfg = &w->runner->cfg;
    const struct model_settings *s = &w->model->settings;
    if (of == WEIGHTS_OF_DRAFT && (!w->draft.name || w->draft.no_prepare))
        return false;
    return cfg->store && !(s->has_no_prepare ? s->no_prepare : cfg->no_prepare);
}

/* Under which they lie; "": it is not known, or there is no draft model. */
static const char *digest_of(const struct worker *w, enum weights_of of)
{
    if (of == WEIGHTS_OF_MODEL)
        return w->digest;
    return w->draft.digest[0] ? w->draft.digest : w->draft.file_digest;
}

static const char *name_of(const struct worker *w, enum weights_of of)
{
    return of == WEIGHTS_OF_MODEL ? w->model->file.name : w->draft.name;
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
        .is_called_off = &j->r->preparing.is_called_off,
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

/* Nobody who is loaded waits for them any more. */
static void mark_failed(struct runner *r, const char *digest)
{
    for (struct worker *w = r->workers; w; w = w->next)
        for (int of = 0; of < WEIGHTS_N; of++)
            if (strcmp(digest_of(w, (enum weights_of)of), digest) == 0)
                w->prepared.of[of].has_failed = true;
}

static void job_done(void *ctx)
{
    struct prepare_job *j = ctx;
    struct runner *r = j->r;
    const double s = (double)(loop_now_ms() - j->begun_ms) / 1000.0;
    r->preparer->job = NULL;
    if (!r->is_stopping) /* what is called off then stays so */
        atomic_store(&r->preparing.is_called_off, false);
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
    if (j->rc < 0 && j->rc != -E_CANCELED)
        mark_failed(r, j->digest);
    job_free(j);
    prepare_next(r);
}

static void job_run(void *ctx)
{
    struct prepare_job *j = ctx;
    j->rc = job_make(j, &j->err);
    loop_post(j->r->loop, &j->done);
}

static bool is_stored(const struct worker *w, enum weights_of of)
{
    return of == WEIGHTS_OF_MODEL ? w->model->file.digest[0] : w->draft.digest[0];
}

/* The files that w has, open: of a stored model its blobs, else those of its path, if they are
 * still the ones that were hashed. */
static int files_open(struct worker *w, enum weights_of of, struct model_files *ret,
                      struct err *err)
{
    const bool is_draft = of == WEIGHTS_OF_DRAFT;
    const char *path = is_draft ? w->draft.path : w->model->file.path;
    char digest[DIGEST_BYTES];
    if (is_stored(w, of))
        return model_files_copy(is_draft ? &w->draft.opened.files : &w->opened.files, ret, err);
    int rc = model_files_open(path, ret, err);
    if (rc == 0 && (!digests_known(w->runner->digests, ret, digest) ||
                    strcmp(digest, digest_of(w, of)) != 0)) {
        model_files_close(ret);
        rc = err_set(err, E_NOTFOUND, "%s is not the file any more that was loaded", path);
    }
    return rc;
}

static int job_start(struct worker *w, enum weights_of of, struct err *err)
{
    struct runner *r = w->runner;
    struct prepare_job *j = mem_alloc(sizeof(*j));
    *j = (struct prepare_job){.r = r,
                              .name = mem_dup(name_of(w, of), strlen(name_of(w, of))),
                              .is_stored = is_stored(w, of),
                              .n_bytes = w->prepared.of[of].n_bytes,
                              .begun_ms = loop_now_ms(),
                              .err = ERR_INIT};
    snprintf(j->digest, sizeof(j->digest), "%s", digest_of(w, of));
    j->done = (struct loop_task){.fn = job_done, .ctx = j};
    int rc = files_open(w, of, &j->files, err);
    if (rc == 0)
        rc = pool_run(r->preparing.pool, job_run, j, err);
    if (rc < 0)
        job_free(j);
    else
        r->preparer->job = j;
    return rc;
}

/* ---- handing one over ---- */

static void attach(struct worker *w, enum weights_of of, int fd)
{
    struct err err = ERR_INIT;
    const uint8_t whose = (uint8_t)of;
    if (w->files.n || worker_put(w, MSG_ATTACH, &whose, sizeof(whose), &err) < 0) {
        close(fd);
        return;
    }
    model_files_add(&w->files, fd);
    w->prepared.is_asked = true;
    w->prepared.asked = of;
    worker_flush(w);
}

/* It has them, is asked to take them, or will never have them; else what it waits for was begun. */
static bool try_weights(struct worker *w, enum weights_of of)
{
    struct runner *r = w->runner;
    struct prepared_state *s = &w->prepared.of[of];
    const char *digest = digest_of(w, of);
    struct err err = ERR_INIT;
    int fd;
    if (!prepare_is_on(w, of) || s->n_bytes == 0 || s->is_attached || s->has_failed || !digest[0])
        return true;
    if (store_prepared_open(r->cfg.store, digest, &fd, &err) == 0) {
        attach(w, of, fd);
        return true;
    }
    if (has_failed(r->preparer, digest)) {
        s->has_failed = true;
        return true;
    }
    if (job_start(w, of, &err) == 0)
        return false;
    log_warn("model %s: its weights were not prepared, it runs from its file: %s", name_of(w, of),
             err.msg);
    s->has_failed = true;
    return true;
}

/* One file is handed over at a time: what comes after it is tried when it is taken. */
static bool try_worker(struct worker *w)
{
    bool ret = true;
    for (int of = 0; ret && of < WEIGHTS_N; of++)
        if (w->state == WORKER_READY && !w->prepared.is_asked)
            ret = try_weights(w, (enum weights_of)of);
    return ret;
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
        for (int of = 0; w->state != WORKER_ENDING && of < WEIGHTS_N; of++)
            if (prepare_is_on(w, (enum weights_of)of) &&
                strcmp(digest_of(w, (enum weights_of)of), digest) == 0)
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

/* What is being made under this digest. */
static void call_off(struct runner *r, const char *digest)
{
    struct prepare_job *j = r->preparer->job;
    if (!j || strcmp(j->digest, digest) != 0)
        return;
    j->is_unwanted = true;
    background_call_off(&r->preparing);
}

void prepare_declared(struct model *m)
{
    char digest[DIGEST_BYTES];
    if (!m->settings.no_prepare || !m->runner->cfg.store)
        return;
    digest_find(m, digest);
    if (digest[0] && !is_wanted(m->runner, digest)) {
        store_prepared_remove(m->runner->cfg.store, digest);
        call_off(m->runner, digest);
    }
    for (const struct worker *w = m->runner->workers; w; w = w->next)
        if (w->model == m && !is_wanted(m->runner, digest_of(w, WEIGHTS_OF_DRAFT)))
            call_off(m->runner, digest_of(w, WEIGHTS_OF_DRAFT));
}

void prepare_open(struct worker *w, int ret_fds[WEIGHTS_N])
{
    uint32_t n_fds = w->files.n + w->draft.files.n;
    for (int i = 0; i < WEIGHTS_N; i++) {
        const enum weights_of of = (enum weights_of)i;
        struct err err = ERR_INIT;
        ret_fds[of] = -1;
        if (prepare_is_on(w, of) && digest_of(w, of)[0] && n_fds < LIMIT_MSG_FDS &&
            store_prepared_open(w->runner->cfg.store, digest_of(w, of), &ret_fds[of], &err) < 0)
            ret_fds[of] = -1;
        w->prepared.of[of].is_given = ret_fds[of] >= 0;
        n_fds += w->prepared.of[of].is_given;
    }
}

/* The file is none, or of a berth with other kernels: away with it. */
static void refused(struct worker *w, enum weights_of of)
{
    store_prepared_remove(w->runner->cfg.store, digest_of(w, of));
    log_warn("model %s: the prepared weights in the store are not its own and were deleted",
             name_of(w, of));
}

void prepare_loaded(struct worker *w, const struct msg_prepared prepared[WEIGHTS_N])
{
    for (int i = 0; i < WEIGHTS_N; i++) {
        const enum weights_of of = (enum weights_of)i;
        struct prepared_state *s = &w->prepared.of[of];
        if (of == WEIGHTS_OF_DRAFT && !w->draft.name) /* there is none, or it was left away */
            continue;
        s->n_bytes = prepared[of].n_bytes;
        s->is_attached = prepared[of].is_used;
        if (s->is_given && !s->is_attached)
            refused(w, of);
    }
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
    const enum weights_of of = w->prepared.asked;
    w->prepared.is_asked = false;
    w->prepared.of[of].is_attached = m.code == 0;
    w->prepared.of[of].has_failed = m.code != 0;
    if (m.code == 0)
        log_info("worker %d (%s): %s from prepared weights", (int)w->child.pid, w->model->file.name,
                 of == WEIGHTS_OF_MODEL ? "computes" : "guesses");
    else
        log_warn("worker %d (%s): %.*s", (int)w->child.pid, w->model->file.name, STR_ARG(m.why));
    if (m.code == E_FORMAT)
        refused(w, of);
    prepare_next(w->runner);
    return 0;
}

void prepare_describe(const struct worker *w, enum weights_of of, char ret[PREPARED_TEXT_BYTES])
{
    const struct prepare_job *j = w->runner->preparer->job;
    const struct prepared_state *s = &w->prepared.of[of];
    const char *digest = digest_of(w, of), *text = s->n_bytes == 0        ? "none"
                                                   : s->is_attached       ? "yes"
                                                   : prepare_is_on(w, of) ? "no"
                                                                          : "off";
    snprintf(ret, PREPARED_TEXT_BYTES, "%s", text);
    if (w->prepared.is_asked && w->prepared.asked == of) /* it is there, about to be taken up */
        snprintf(ret, PREPARED_TEXT_BYTES, "100 %%");
    if (j && !s->is_attached && digest[0] && strcmp(j->digest, digest) == 0)
        snprintf(ret, PREPARED_TEXT_BYTES, "%u %%", MIN_OF(atomic_load(&j->percent), 100u));
}
