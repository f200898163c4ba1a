/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by daemon/api only: the api object and the handlers that route.def names. */
#ifndef DAEMON_API_API_IMPL_H
#define DAEMON_API_API_IMPL_H

#include <stdatomic.h>

#include "daemon/api/api.h"
#include "daemon/api/error.h"

#define API_JSON "application/json"

/* What a route asks of who calls it. */
enum api_scope { API_PUBLIC, API_INFER, API_MANAGE };

struct api {
    struct api_config cfg;
    _Atomic(struct httpd *) httpd;
    uint64_t started_ms;  /* monotonic */
    char fingerprint[20]; /* "fp_" and 12 digits: changes with what could change answers */
};

/* Answers r, now or later.  rest: what the route's "*" matched, else "". */
#define ROUTE(method, path, scope, handler, doc)                                                   \
    void handle_##handler(struct api *a, struct httpd_request *r, const char *rest);
#include "daemon/api/route.def"
#undef ROUTE

/* guard.c: 0, or the request was refused: foreign Host or Origin, a body that is not JSON. */
int guard_check(const struct api *a, struct httpd_request *r);

/* Sends out as JSON with status, or the error that it became too large. */
void api_answer_json(struct httpd_request *r, int status, struct buf *out);

#endif
