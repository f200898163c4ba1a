/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as HTTP clients see them: one table from err codes to statuses, and OpenAI's shape
 * {"error":{"message","type","param","code"}}.  Any thread. */
#ifndef DAEMON_API_ERROR_H
#define DAEMON_API_ERROR_H

#include "lib/net/httpd.h"

struct api_error {
    int status;
    const char *type, *code; /* static strings */
    char param[64];          /* the request's field, or "" */
    char msg[ERR_MSG_MAX];
    uint32_t retry_after_s; /* 0: no such header */
    bool no_retry;          /* x-should-retry: false: asking again changes nothing */
};

/* Fills e with the status for err's code. */
void api_error_from(struct api_error *e, const struct err *err);
/* The request is wrong in its field param (NULL: as a whole): 400.  Returns -E_INVALID. */
int api_refuse(struct api_error *e, const char *param, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* As api_refuse, with the sentence of err. */
int api_refuse_err(struct api_error *e, const char *param, const struct err *err);

/* Appends {"error":{...}}. */
void api_error_put(struct buf *out, const struct api_error *e);
/* Answers the request with it. */
void api_error_answer(struct httpd_request *r, const struct api_error *e);
/* The same for a status that has no err: 403, 404, 405, 413, 415, 431. */
void api_answer_status(struct httpd_request *r, int status, const char *message);

#endif
