/* SPDX-License-Identifier: Apache-2.0 */
/* Implements error.h. */
#include "daemon/api/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_impl.h"
#include "lib/codec/json.h"

struct row {
    int status;
    const char *type, *code;
    uint32_t retry_after_s;
    bool no_retry;
};

/* From the generic codes of lib and runner.  Clients retry 408, 409, 429 and 5xx unless told
 * otherwise, so what will fail again says so. */
static const struct row rows[E_N_CODES] = {
    [E_INVALID] = {400, "invalid_request_error", "invalid_value", 0, false},
    [E_FORMAT] = {400, "invalid_request_error", "invalid_format", 0, false},
    [E_LIMIT] = {400, "invalid_request_error", "limit_exceeded", 0, false},
    [E_NOMEM] = {503, "server_error", "insufficient_memory", 0, true},
    [E_NOTFOUND] = {404, "invalid_request_error", "model_not_found", 0, false},
    [E_EXISTS] = {409, "invalid_request_error", "already_exists", 0, true},
    [E_UNSUPPORTED] = {400, "invalid_request_error", "unsupported", 0, false},
    [E_IO] = {500, "server_error", "io_error", 0, true},
    [E_NET] = {502, "server_error", "network_error", 0, false},
    [E_TIMEOUT] = {504, "server_error", "timeout", 0, true},
    [E_BUSY] = {429, "rate_limit_error", "queue_full", 1, false},
    [E_CANCELED] = {503, "server_error", "canceled", 0, false},
    [E_CORRUPT] = {500, "server_error", "corrupt_model", 0, true},
    [E_AUTH] = {401, "authentication_error", "invalid_api_key", 0, false},
    [E_DENIED] = {403, "permission_error", "forbidden", 0, false},
    [E_GONE] = {500, "server_error", "worker_crashed", 0, false},
    [E_CONTEXT] = {400, "invalid_request_error", "context_length_exceeded", 0, false},
    [E_INTERNAL] = {500, "server_error", "internal_error", 0, false},
    [E_BROKEN] = {503, "server_error", "model_broken", 30, false},
    [E_STOPPING] = {503, "server_error", "stopping", 5, false},
    [E_UNLOADED] = {503, "server_error", "model_unloaded", 1, false},
};

void api_error_from(struct api_error *e, const struct err *err)
{
    int code = err->code > 0 && err->code < E_N_CODES ? err->code : E_INTERNAL;
    const struct row *row = &rows[code];
    *e = (struct api_error){.status = row->status,
                            .type = row->type,
                            .code = row->code,
                            .retry_after_s = row->retry_after_s,
                            .no_retry = row->no_retry};
    snprintf(e->msg, sizeof(e->msg), "%s", err->msg[0] ? err->msg : "something went wrong here");
    if (code == E_NOTFOUND)
        snprintf(e->param, sizeof(e->param), "model");
}

static void set_param(struct api_error *e, const char *param)
{
    snprintf(e->param, sizeof(e->param), "%s", param ? param : "");
}

int api_refuse(struct api_error *e, const char *param, const char *code, const char *fmt, ...)
{
    struct err err = ERR_INIT;
    char msg[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    err_set(&err, E_INVALID, "%s", msg); /* cleans what was quoted */
    api_error_from(e, &err);
    e->code = code;
    set_param(e, param);
    return -E_INVALID;
}

int api_refuse_err(struct api_error *e, const char *param, const struct err *err)
{
    return api_refuse(e, param, err->code == E_FORMAT ? "invalid_format" : "invalid_value", "%s",
                      err->msg);
}

void api_error_put(struct buf *out, const struct api_error *e)
{
    buf_append_str(out, "{\"error\":{\"message\":");
    json_put_str(out, str_from(e->msg));
    buf_printf(out, ",\"type\":\"%s\",\"param\":", e->type);
    if (e->param[0])
        json_put_str(out, str_from(e->param));
    else
        buf_append_str(out, "null");
    buf_printf(out, ",\"code\":\"%s\"}}", e->code);
}

void api_error_answer(struct httpd_request *r, const struct api_error *e)
{
    struct buf out;
    buf_init(&out, 16 * ERR_MSG_MAX);
    api_error_put(&out, e);
    if (e->retry_after_s) {
        char seconds[16];
        snprintf(seconds, sizeof(seconds), "%u", e->retry_after_s);
        httpd_set_header(r, "Retry-After", seconds);
    }
    if (e->no_retry)
        httpd_set_header(r, "x-should-retry", "false");
    struct api_call *call = api_call_of(r);
    if (call)
        call->code = e->code;
    httpd_answer_buf(r, e->status, API_JSON, &out);
    buf_release(&out);
}

void api_answer_status(struct httpd_request *r, int status, const char *message)
{
    static const struct {
        int status;
        const char *type, *code;
    } known[] = {{403, "permission_error", "forbidden"},
                 {404, "invalid_request_error", "not_found"},
                 {405, "invalid_request_error", "method_not_allowed"},
                 {408, "invalid_request_error", "request_timeout"},
                 {413, "invalid_request_error", "request_too_large"},
                 {414, "invalid_request_error", "uri_too_long"},
                 {415, "invalid_request_error", "unsupported_media_type"},
                 {417, "invalid_request_error", "expectation_failed"},
                 {431, "invalid_request_error", "headers_too_large"},
                 {501, "server_error", "not_implemented"},
                 {503, "server_error", "unavailable"},
                 {505, "server_error", "http_version_not_supported"}};
    struct api_error e = {.status = status, .type = "invalid_request_error", .code = "bad_request"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].status == status) {
            e.type = known[i].type;
            e.code = known[i].code;
        }
    }
    if (status == 503)
        e.retry_after_s = 1;
    e.no_retry = status == 501 || status == 505; /* the same request will not do better */
    snprintf(e.msg, sizeof(e.msg), "%s", message);
    api_error_answer(r, &e);
}
