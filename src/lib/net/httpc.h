/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client: one request, its answer streamed to a callback.  Through libcurl, which is loaded
 * (dlopen) at the first call, so that commands that never speak HTTP start at once.  Any thread;
 * each call is independent and blocking. */
#ifndef LIB_NET_HTTPC_H
#define LIB_NET_HTTPC_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* A piece of the answer's body as it arrives; status is the final one.  Return false to end the
 * transfer (E_CANCELED). */
typedef bool (*httpc_data_fn)(void *ctx, int status, const char *p, size_t n);

struct httpc_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *url;    /* http://host:port/path */
    const char *body;   /* JSON, or NULL */
    size_t body_len;
    const char *const *headers;                    /* "Name: value", NULL-terminated, or NULL */
    uint32_t connect_timeout_ms, total_timeout_ms; /* 0: none */
    httpc_data_fn on_data;
    void *ctx;
};

/* 0 and *ret_status (100-599) once the answer has ended; E_NET with what could not be reached and
 * why; E_TIMEOUT; E_CANCELED. */
int httpc_do(const struct httpc_request *r, int *ret_status, struct err *err) MUST_USE;

/* Collects a whole answer of at most out->max bytes. */
int httpc_fetch(const struct httpc_request *r, int *ret_status, struct buf *out,
                struct err *err) MUST_USE;

#endif
