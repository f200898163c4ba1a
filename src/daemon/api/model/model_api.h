/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by daemon/api/model only: the model manager's routes, Docker Model Runner's and our own.
 *
 * What blocks runs on threads of a pool: short things (a tag, a list) on struct api's `short_pool`,
 * transfers and whole-store work as jobs (daemon/jobs/job.h) with progress. */
#ifndef DAEMON_API_MODEL_MODEL_API_H
#define DAEMON_API_MODEL_MODEL_API_H

#include <jansson.h>

#include "daemon/api/api_impl.h"
#include "daemon/jobs/job.h"
#include "daemon/registry/registry.h"
#include "daemon/store/model.h"

/* Refuses as the client reads it best: plain text for Docker's own command line, else JSON. */
void model_fail(struct httpd_request *r, const struct err *err);
void model_fail_status(struct httpd_request *r, int status, const char *code, const char *message);
/* The status for err where a model is asked for; 404, 409, 422 differ from other routes'. */
int model_status(const struct err *err);

/* True, or r was told that there is no store. */
bool model_has_store(struct api *a, struct httpd_request *r);

/* Runs fn on the short pool, which answers r; rest is copied. */
typedef void (*model_fn)(struct api *a, struct httpd_request *r, const char *rest);
void model_blocking(struct api *a, struct httpd_request *r, const char *rest, model_fn fn);

/* The stored model that name means. */
int model_in_store(struct api *a, const char *name, bool partial, char ret[OCI_DIGEST_CHARS + 1],
                   struct buf *ret_name, struct err *err) MUST_USE;

/* How progress is written: JSON lines, the same with HTML's escapes (Docker's clients that do not
 * ask for JSON), or JSON lines with what our own command line shows besides. */
enum progress_shape { PROGRESS_JSON, PROGRESS_TEXT, PROGRESS_OWN };
enum progress_shape progress_shape_of(const struct httpd_request *r);

/* Begins a job, or joins the one with its key, and streams its progress to r.  Takes s->ctx; watch
 * and watcher are filled in here.  What fails before the first line is answered with a status. */
void progress_start(struct api *a, struct httpd_request *r, enum progress_shape shape, bool is_push,
                    struct job_start *s);

/* Parts of a route's star. */
void model_push(struct api *a, struct httpd_request *r, const char *name);
/* rest's first n bytes are the name. */
void model_export(struct api *a, struct httpd_request *r, const char *rest, size_t n);

/* What was done to the store: log, audit, metrics.  err NULL: it went well. */
void model_tell(struct api *a, const struct watch_change *c, const struct err *err);
/* Of a request; key and request id are copied from it. */
void model_tell_call(struct httpd_request *r, const char *action, const char *model,
                     const char *digest, uint64_t bytes, const struct err *err);

/* A member that is a string: 1; 0 when it is absent or empty; -1: r is answered 400. */
int model_text(struct httpd_request *r, const json_t *root, const char *name, const char **ret);
/* The body as an object: {} for an empty one when that is allowed.  NULL: r is answered. */
json_t *model_body(struct httpd_request *r, bool may_be_empty);

void put_human_mb(uint64_t n, char ret[32]); /* "91.73MB" */

#endif
