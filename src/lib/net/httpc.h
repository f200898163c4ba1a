/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client: one request, its answer streamed to a callback.  Through libcurl, which is loaded
 * (dlopen) at the first call, so that commands that never speak HTTP start at once.  Any thread;
 * each call is independent and blocking. */
#ifndef LIB_NET_HTTPC_H
#define LIB_NET_HTTPC_H

#include <sys/types.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* A piece of the answer's body as it arrives; status is the final one.  Return false to end the
 * transfer (E_CANCELED). */
typedef bool (*httpc_data_fn)(void *ctx, int status, const char *p, size_t n);

/* The next piece of a body that is made while it is sent: at most n bytes into p.  0: it has ended;
 * negative: it cannot be made, *err says why. */
typedef ssize_t (*httpc_read_fn)(void *read_ctx, char *p, size_t n, struct err *err);

#define HTTPC_UNKNOWN_BYTES UINT64_MAX

struct httpc_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *url;    /* http://host:port/path */
    const char *body;   /* JSON, or NULL */
    size_t body_len;
    httpc_read_fn on_read; /* the body instead, of read_bytes bytes; NULL: none */
    void *read_ctx;
    uint64_t read_bytes;        /* HTTPC_UNKNOWN_BYTES: nobody knows yet; sent in chunks */
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const char *unix_path;      /* connect to this socket; NULL: to url's host */
    const char *ca_file;        /* PEM; NULL: the system's authorities */
    uint32_t connect_timeout_ms, total_timeout_ms; /* 0: none */
    httpc_data_fn on_data;
    void *ctx;
    /* With has_cancel_fd, the transfer ends with E_CANCELED once cancel_fd is readable; nothing is
     * read from it. */
    bool has_cancel_fd;
    int cancel_fd;
    void (*on_tick)(void *tick_ctx); /* called every 100 ms or more often; NULL: none */
    void *tick_ctx;
};

/* 0 and *ret_status (100-599) once the answer has ended; E_NET with what could not be reached and
 * why; E_TIMEOUT; E_CANCELED. */
int httpc_do(const struct httpc_request *r, int *ret_status, struct err *err) MUST_USE;

/* Collects a whole answer of at most out->max bytes. */
int httpc_fetch(const struct httpc_request *r, int *ret_status, struct buf *out,
                struct err *err) MUST_USE;

#endif
