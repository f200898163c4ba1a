/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of POST /v1/completions and /v1/chat/completions: bytes to a neutral gen_request.
 *
 * One row of param.def per parameter; whatever is in no row is refused by name, so that a misspelt
 * parameter never passes unnoticed.  Knows no runner.  Any thread. */
#ifndef DAEMON_API_BODY_H
#define DAEMON_API_BODY_H

#include <jansson.h>

#include "daemon/api/error.h"
#include "lib/ipc/gen.h"

enum api_dialect { API_COMPLETION = 1, API_CHAT = 2 }; /* bits: param.def's rows name both with | */

struct api_body {
    enum api_dialect dialect;
    char *model; /* in req.arena */
    bool stream, include_usage;
    struct gen_request
        req; /* has a seed; released by api_body_release, or taken (then re-initialised) */
};

/* 0, or a negative code with e filled; on failure nothing is held. */
int api_body_parse(struct api_body *b, enum api_dialect dialect, struct str text,
                   struct api_error *e) MUST_USE;
void api_body_release(struct api_body *b);

/* A JSON object from a body, or e (400 with the offset).  An empty body is an empty object when
 * may_be_empty. */
int api_json_parse(struct str text, bool may_be_empty, json_t **ret, struct api_error *e) MUST_USE;

/* Rows of param.def, for documentation and tests. */
struct api_param {
    const char *name, *kind, *doc;
    unsigned dialects;
    double min, max; /* of numbers */
};
size_t api_param_count(void);
struct api_param api_param_at(size_t i);

#endif
