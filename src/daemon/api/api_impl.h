/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by daemon/api only: the api object and the handlers that route.def names. */
#ifndef DAEMON_API_API_IMPL_H
#define DAEMON_API_API_IMPL_H

#include <stdatomic.h>

#include "daemon/api/api.h"
#include "daemon/api/error.h"
#include "daemon/jobs/job.h"
#include "daemon/watch/watch.h"
#include "lib/base/limits.h"

#define API_JSON "application/json"

/* What a route asks of who calls it. */
enum api_scope { API_PUBLIC, API_INFER, API_MANAGE, API_MANAGE_TAR };

struct api {
    struct api_config cfg;
    _Atomic(struct httpd *) httpd;
    atomic_bool is_draining;
    atomic_uint n_followers; /* of GET /logs */
    struct jobs *jobs;       /* transfers, and what reads the whole store */
    struct pool *short_pool; /* what waits for the disk, shortly */
    uint64_t started_us;     /* monotonic */
};

/* A row of route.def. */
typedef void (*api_handler_fn)(struct api *a, struct httpd_request *r, const char *rest);
struct api_route {
    const char *method, *path, *doc;
    enum api_scope scope;
    api_handler_fn fn;
};
size_t api_route_count(void);
const struct api_route *api_route_at(size_t i);

/* One request from its headers to its end: hangs on it as its ctx, so that whoever has the request
 * has this.  route.c makes it before anything else is asked, guard.c says whose it is. */
struct api_call {
    struct api *api;
    char request_id[LIMIT_HTTP_REQUEST_ID_BYTES + 1]; /* as x-request-id says */
    const struct api_route *route;                    /* NULL: no row has this path and method */
    const char *rest;                                 /* what the row's "*" matched, else "" */
    uint64_t started_us;                              /* monotonic; the headers were there */
    char agent[32];                                   /* the beginning of User-Agent, or "" */
    char registry_token[4097]; /* X-Registry-Token: a client's own right at a registry, or "" */
    /* by guard_check: */
    char key[64];     /* its name, "" without keys */
    uint32_t scopes;  /* KEY_ bits of it */
    const char *code; /* of the error that was answered, static; "" while none was */
    bool is_watched;  /* its end is told by watch_request, not by watch_answer */
    const char *name; /* for watch: "completions" … */
    /* by the handler, freed with the request: */
    void *job;
    void (*job_free)(void *job);
};
/* Never NULL in guard.c and in handlers. */
struct api_call *api_call_of(const struct httpd_request *r);
struct api_call *api_call_open(struct api *a, struct httpd_request *r); /* or the one there is */
uint64_t api_now_us(void);                                              /* monotonic */

/* A request to a model has come; whoever said so says how it ended, once.  Fills the record's
 * request_id, api, key, code and total_ms. */
void api_watch_begin(struct api_call *c, const char *name);
void api_watch_end(struct api_call *c, struct watch_record *rec);
/* It ends here, with this refusal. */
void api_refuse_watched(struct httpd_request *r, const char *model, const struct api_error *e);

/* Answers r, now or later.  rest: what the route's "*" matched, else "". */
#define ROUTE(method, path, scope, handler, doc)                                                   \
    void handle_##handler(struct api *a, struct httpd_request *r, const char *rest);
#include "daemon/api/route.def"
#undef ROUTE

/* guard.c: 0, or the request was refused: foreign Host or Origin, no key or one without the route's
 * scope, a body that is not JSON.  Fills the call's key and scopes. */
int guard_check(const struct api *a, struct httpd_request *r);
/* Answers OPTIONS, after guard_check. */
void guard_preflight(struct httpd_request *r);

void api_answer_err(struct httpd_request *r, const struct err *err);
/* Sends out as JSON with status, or the error that it became too large. */
void api_answer_json(struct httpd_request *r, int status, struct buf *out);

#endif
