/* SPDX-License-Identifier: Apache-2.0 */
/* Models of the store with archives that nobody has unpacked yet: imported ones, those that another
 * tool put there, those that could not be unpacked before.
 *
 * Unpacking writes as many bytes as the model has, so it is done on a thread of its own; the
 * model's requests wait for it as they do for a load, and other models answer meanwhile.  What it
 * brings about belongs to the layer, so that it goes on when those who asked have left.
 *
 * Loop thread, but for job_run, which is on the one thread of a pool. */
#include <string.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define TRIES_MAX 2u /* before a start: the model, and its draft model */

struct unpack_job {
    struct unpack_job *next;
    struct runner *r;
    char digest[OCI_DIGEST_CHARS + 1];
    int rc;
    struct err err;
    struct loop_task done;
};

static void failed(const struct unpack_job *j, struct model *m)
{
    struct err err = j->err;
    m->n_unpacked = 0;
    err_wrap(&err, "model %s", m->file.name);
    if (m->first)
        model_cannot_start(j->r, m, &err);
}

static void job_done(void *ctx)
{
    struct unpack_job *j = ctx;
    struct runner *r = j->r;
    struct unpack_job **at = &r->unpack_jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    for (struct model *m = r->models.first; m; m = m->next) {
        if (strcmp(m->unpacking, j->digest) != 0)
            continue;
        m->unpacking[0] = '\0';
        if (j->rc == 0)
            model_serve(r, m);
        else
            failed(j, m);
    }
    mem_free(j);
}

/* The pool's thread.  Opened and closed again: as long as it is open, nothing of it is collected.
 */
static void job_run(void *ctx)
{
    struct unpack_job *j = ctx;
    struct store *s = j->r->cfg.store;
    struct store_model m;
    struct store_opened o;
    j->rc = store_model_read(s, j->digest, &m, &j->err);
    m.is_called_off = &j->r->unpacking.is_called_off;
    if (j->rc == 0)
        j->rc = store_model_open(s, &m, &o, &j->err);
    if (j->rc == 0)
        store_model_close(s, &o);
    store_model_release(&m);
    loop_post(j->r->loop, &j->done);
}

static int job_start(struct runner *r, const char *digest, struct err *err)
{
    struct unpack_job *j = mem_alloc(sizeof(*j));
    *j = (struct unpack_job){.next = r->unpack_jobs, .r = r, .err = ERR_INIT};
    memcpy(j->digest, digest, sizeof(j->digest));
    j->done = (struct loop_task){.fn = job_done, .ctx = j};
    int rc = pool_run(r->unpacking.pool, job_run, j, err);
    if (rc < 0)
        mem_free(j);
    else
        r->unpack_jobs = j;
    return rc;
}

static bool is_under_way(const struct runner *r, const char *digest)
{
    const struct unpack_job *j = r->unpack_jobs;
    while (j && strcmp(j->digest, digest) != 0)
        j = j->next;
    return j != NULL;
}

/* What cannot be told here is told when the model is opened. */
static bool is_packed(struct store *s, const char *digest)
{
    struct store_model m;
    struct err ignored = ERR_INIT;
    bool ret = store_model_read(s, digest, &m, &ignored) == 0 && store_model_is_packed(s, &m);
    store_model_release(&m);
    return ret;
}

/* The model of the store that is unpacked before m can be opened; NULL: none.  draft: room for its
 * digest. */
static const char *find_packed(const struct runner *r, const struct model *m,
                               char draft[OCI_DIGEST_CHARS + 1])
{
    struct store *s = r->cfg.store;
    if (s && m->file.digest[0] && is_packed(s, m->file.digest))
        return m->file.digest;
    return s && draft_digest(m, draft) && is_packed(s, draft) ? draft : NULL;
}

int unpack_first(struct runner *r, struct model *m, struct err *err)
{
    char draft[OCI_DIGEST_CHARS + 1];
    if (m->unpacking[0])
        return 1;
    const char *digest = m->n_unpacked < TRIES_MAX ? find_packed(r, m, draft) : NULL;
    int rc = digest && !is_under_way(r, digest) ? job_start(r, digest, err) : 0;
    m->n_unpacked = digest && rc == 0 ? m->n_unpacked + 1 : 0;
    if (!digest || rc < 0)
        return rc < 0 ? err_wrap(err, "model %s", m->file.name) : 0;
    memcpy(m->unpacking, digest, sizeof(m->unpacking));
    log_info("model %s: its archives are unpacked first", m->file.name);
    return 1;
}
