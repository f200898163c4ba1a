/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: long work with progress, watched by those who asked for it.
 *
 * A job runs on a thread of a pool and tells how far it is; each watcher hears that, and in the end
 * how it came out.  Asking for what is being done already joins the one that does it.  A job whose
 * last watcher has left is told to stop.  Any thread may call; watchers are called on the job's
 * thread, and with a lock held that keeps them from being freed meanwhile. */
#ifndef DAEMON_JOBS_JOB_H
#define DAEMON_JOBS_JOB_H

#include "daemon/jobs/pool.h"
#include "lib/base/str.h"

struct jobs;
struct job;

enum job_event_type { JOB_PROGRESS, JOB_WARNING, JOB_SUCCESS, JOB_ERROR };
/* All borrowed for the time of the call. */
struct job_event {
    enum job_event_type type;
    const char *message;
    uint64_t done_bytes, total_bytes; /* of the whole; total 0: unknown */
    const char *layer;                /* NULL or "": none */
    uint64_t layer_done, layer_bytes;
    bool is_push;
    const char *id, *name; /* SUCCESS: what came of it, or NULL */
    const char *extra;     /* further JSON members, ",\"a\":1", or NULL */
    const struct err *why; /* ERROR */
};
typedef void (*job_watch_fn)(void *ctx, const struct job_event *e);

/* What a job does; called even if it was stopped before.  Returns 0 and has told SUCCESS, or fails
 * with err, which is told for it. */
typedef int (*job_fn)(struct job *j, void *ctx, struct err *err);

/* max_running at once, max_waiting more; further ones are E_BUSY. */
struct jobs *jobs_new(uint32_t max_running, uint32_t max_waiting) MUST_USE;
/* Tells all to stop; none is taken any more (E_STOPPING). */
void jobs_stop(struct jobs *js);
void jobs_free(struct jobs *js); /* waits for them; NULL is fine */
void jobs_count(struct jobs *js, uint32_t *ret_running, uint32_t *ret_waiting);

struct job_start {
    const char *key; /* those with the same are one; NULL: always one of its own */
    job_fn fn;
    void *ctx;
    void (*ctx_free)(void *ctx); /* may be NULL */
    job_watch_fn watch;
    void *watcher; /* also names the watcher */
};
/* Starts or joins; takes s->ctx in any case.  On failure watch is never called.  *ret lives until
 * job_unwatch. */
int jobs_start(struct jobs *js, const struct job_start *s, struct job **ret,
               struct err *err) MUST_USE;
/* The watcher is not called any more, from the return on; the job stops if it was the last.  Not
 * from inside watch.  Once for each watcher that jobs_start has taken. */
void job_unwatch(struct job *j, void *watcher);

/* For the job itself.  False: it is to stop. */
bool job_tell(struct job *j, const struct job_event *e);
bool job_is_stopped(struct job *j);

#endif
