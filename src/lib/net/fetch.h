/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client for registries and hubs: connections are kept from request to request, the answer's
 * headers can be read, redirects are the caller's to follow, bodies go up from a file, and an
 * answer that has stopped moving ends.  Through libcurl; the environment's proxies hold
 * (http_proxy, https_proxy, no_proxy, in either case), but never for a loopback address.
 *
 * A struct fetch is one thread's at a time; make one per thread. */
#ifndef LIB_NET_FETCH_H
#define LIB_NET_FETCH_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

struct fetch;

struct fetch_config {
    const char *ca_file;    /* PEM, trusted besides the system's; NULL or "": none */
    const char *user_agent; /* NULL: berth's */
    uint32_t connect_timeout_ms;
    uint32_t stall_ms; /* less than FETCH_STALL_BYTES in so long: E_TIMEOUT */
    /* Every 100 ms or more often; false: stop (E_CANCELED).  NULL: none. */
    bool (*on_tick)(void *tick_ctx);
    void *tick_ctx;
};

#define FETCH_STALL_BYTES 1024u
#define FETCH_HEAD_BYTES  (64u << 10) /* the longest head of an answer */

/* What is in cfg is copied, but for on_tick's ctx. */
int fetch_new(const struct fetch_config *cfg, struct fetch **ret, struct err *err) MUST_USE;
void fetch_free(struct fetch *f); /* NULL is fine */

struct fetch_response {
    int status;      /* 100-599; 0: none came */
    struct buf head; /* the last answer's header lines; fetch_header reads them */
    bool no_tls;     /* of a failure: whoever listens there does not speak TLS */
    bool no_name;    /* of a failure: nobody asked here knows the host's name */
};
void fetch_response_init(struct fetch_response *r);
void fetch_response_release(struct fetch_response *r);
/* The nth (0 first) value of a header; false when there is none.  Borrowed from r. */
bool fetch_header(const struct fetch_response *r, const char *name, size_t nth, struct str *ret);
/* The Content-Length, or UINT64_MAX when it is not told. */
uint64_t fetch_content_length(const struct fetch_response *r);

/* A piece of the answer's body; r's status and head are whole.  False: stop (E_CANCELED). */
typedef bool (*fetch_data_fn)(void *ctx, const struct fetch_response *r, const char *p, size_t n);

struct fetch_request {
    const char *method; /* "GET", "HEAD", "POST", "PUT", "PATCH" */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const void *body;           /* of body_len bytes, or NULL */
    size_t body_len;
    bool has_file;        /* the body is file_bytes of file_fd from file_offset on */
    int file_fd;          /* read with pread */
    uint64_t file_offset; /* */
    uint64_t file_bytes;
    void (*on_sent)(void *ctx, uint64_t n_sent); /* of the body so far; may be NULL */
    fetch_data_fn on_data;                       /* NULL: the body is dropped */
    void *ctx;
    uint32_t wait_ms; /* how long the other side may think before it answers; 0: stall_ms */
};

/* 0 once the answer has ended, whatever its status; ret is initialised by the caller and
 * overwritten. E_NET, E_TIMEOUT, E_CANCELED (on_data, on_tick), E_AUTH (no valid certificate),
 * E_INVALID. */
int fetch_do(struct fetch *f, const struct fetch_request *rq, struct fetch_response *ret,
             struct err *err) MUST_USE;

#endif
