/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 server: epoll threads, whole bodies in, answers at once or later, streams with
 * back-pressure.
 *
 * Owns the listening sockets, its threads and every request object.  A handler gets a request on an
 * HTTP thread and answers it there or, having kept it (httpd_request_ref), later from any one
 * thread.  While nobody has anything to say the connection costs no thread.  A client that leaves
 * is noticed at once, also then: the request's gone callback is called, on whichever thread saw it.
 *
 * A client that closes its sending half counts as one that leaves, as in most servers of this kind:
 * a closed browser tab looks no different.  What is answered at once is still answered; a refusal
 * is waited for with the connection half open, so that its reader sees it.
 *
 * Knows no route and no dialect; refuses only what is not HTTP (framing, sizes). */
#ifndef LIB_NET_HTTPD_H
#define LIB_NET_HTTPD_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/str.h"

struct httpd;
struct httpd_request;

enum httpd_listen_kind {
    HTTPD_TCP,      /* host, port */
    HTTPD_UNIX,     /* path: made with mode 0600, an abandoned one replaced, removed
                       at the end */
    HTTPD_INHERITED /* fd: listening already (socket activation); of either family
                     */
};
struct httpd_listen {
    enum httpd_listen_kind kind;
    const char *host; /* numeric address or "localhost"; NULL: "127.0.0.1" */
    uint16_t port;    /* 0: any */
    const char *path;
    int fd; /* taken */
};

/* How a request ended, for logs and counts.  Valid during the call. */
struct httpd_result {
    int status;                          /* 0: the client left before there was one */
    uint64_t sent_bytes, received_bytes; /* bodies */
    double total_ms;                     /* from the request's first byte */
    bool complete;                       /* the whole answer was handed to the kernel */
};

/* What is counted since the start, and what is now. */
struct httpd_stats {
    uint32_t n_connections, n_requests; /* now */
    uint64_t quiet_ms;                  /* since either last changed */
    uint64_t n_accepted, n_requests_ever, n_refused, n_timed_out, n_dropped_slow, n_accept_failed;
    uint64_t sent_bytes, received_bytes;
};

/* Who is at the other end. */
struct httpd_peer {
    char address[64]; /* "127.0.0.1", "::1", "unix" */
    bool is_unix, is_tls, is_loopback;
    uint32_t uid, pid; /* is_unix */
};

struct httpd_config {
    const struct httpd_listen *listen; /* borrowed during httpd_start; at least one, at most 16 */
    uint32_t n_listen;
    const char *tls_cert, *tls_key; /* PEM files, NULL: none; for every TCP listener */
    uint32_t n_threads;             /* 0: two to four, by the processors there are */
    size_t max_body_bytes;          /* 0: LIMIT_HTTP_BODY_BYTES */
    uint32_t max_connections;       /* 0: LIMIT_HTTP_CONNECTIONS, or what descriptors
                                       allow */
    /* Deadlines, in milliseconds; 0: the one in limits.h.  A request's head must
     * be there so long after its first byte (and after the connection, for the
     * first); its body must bring at least LIMIT_HTTP_BODY_RATE bytes a second
     * after a grace; an idle connection is closed; so is one whose client takes
     * nothing of its answer. */
    uint32_t head_timeout_ms, idle_timeout_ms, write_timeout_ms;
    /* Headers are there, the body is not; may answer, which refuses the request
     * unread.  May be NULL. */
    void (*on_headers)(void *ctx, struct httpd_request *r);
    /* The whole request is there.  Answers, or keeps the request and answers
     * later. */
    void (*on_request)(void *ctx, struct httpd_request *r);
    /* A refusal of httpd's own, to be answered in the owner's style; status and
     * sentence are given. May be NULL. */
    void (*on_refusal)(void *ctx, struct httpd_request *r, int status, const char *message);
    /* The request has ended, one way or the other; once for every request that
     * on_headers or on_refusal saw.  May be NULL. */
    void (*on_done)(void *ctx, struct httpd_request *r, const struct httpd_result *result);
    void *ctx;
};

int httpd_start(const struct httpd_config *cfg, struct httpd **ret, struct err *err) MUST_USE;
uint16_t httpd_port(const struct httpd *h); /* of the first TCP listener; 0: there is none */
void httpd_stats(struct httpd *h, struct httpd_stats *ret);
/* Reads certificate and key again for connections to come; the old ones stay on
 * failure. */
int httpd_tls_reload(struct httpd *h, struct err *err) MUST_USE;
/* Closes the listening sockets and idle connections; open requests go on, and
 * their connections close after them. */
void httpd_quiesce(struct httpd *h);
/* Ends every request (their gone callbacks are called), joins the threads,
 * frees.  Kept requests stay valid until their last unref, and answering them
 * does nothing. */
void httpd_stop(struct httpd *h);

/* What came in.  Valid as long as the request; header only inside on_headers
 * and on_request. */
const char *httpd_method(const struct httpd_request *r);
const char *
httpd_path(const struct httpd_request *r); /* percent-decoded, no NUL, "//" made "/", no query */
const char *httpd_query(const struct httpd_request *r); /* raw, without "?"; "" when absent */
const struct httpd_peer *httpd_peer(const struct httpd_request *r);
struct str httpd_body(const struct httpd_request *r);
void httpd_body_release(struct httpd_request *r); /* once it is parsed: an answer may take long */
const char *httpd_header(const struct httpd_request *r, const char *name); /* NULL when absent */
/* How many there are of that name: of those that should stand once, two mean trouble. */
uint32_t httpd_header_count(const struct httpd_request *r, const char *name);

/* ---- bodies too large to be kept ---- */

/* In on_headers, instead of an answer: the body is handed over in pieces by httpd_body_take and
 * on_request is called at once, with the body still to come; max_body_bytes does not count for it.
 * At most LIMIT_HTTP_WINDOW_BYTES of it wait here: the client is not read from meanwhile. */
void httpd_body_stream(struct httpd_request *r, uint64_t max_bytes);
/* Waits for the next piece, which replaces what out holds: 1, or 0 at the body's end.  -E_CANCELED:
 * the client has left; -E_FORMAT, -E_LIMIT, -E_TIMEOUT: it sent no such body, and wants an answer.
 * One thread, which is none of httpd's. */
int httpd_body_take(struct httpd_request *r, struct buf *out, struct err *err) MUST_USE;

/* A decoded value of the query, NULL when absent or malformed; lives as long as
 * the request. */
const char *httpd_query_value(struct httpd_request *r, const char *name);

/* For the one who answers: memory that lives as long as the request.  One
 * thread at a time. */
struct arena *httpd_arena(struct httpd_request *r);
/* Hangs ctx on the request; free_fn (may be NULL) gets it when the request is
 * freed. */
void httpd_set_ctx(struct httpd_request *r, void *ctx, void (*free_fn)(void *ctx));
void *httpd_ctx(const struct httpd_request *r);

struct httpd_request *httpd_request_ref(struct httpd_request *r);
void httpd_request_unref(struct httpd_request *r);

/* Adds a header to the answer, before it is given.  Values with line ends are
 * dropped. */
void httpd_set_header(struct httpd_request *r, const char *name, const char *value);

/* The whole answer.  Copies body.  Once per request. */
void httpd_answer(struct httpd_request *r, int status, const char *content_type, struct str body);
/* As httpd_answer; takes out's memory and leaves it empty. */
void httpd_answer_buf(struct httpd_request *r, int status, const char *content_type,
                      struct buf *out);
/* Also closes the connection after the answer. */
void httpd_close_after(struct httpd_request *r);

/* A streamed answer: begin once, write pieces, end.  A piece is sent at once unless one was sent
 * less than two milliseconds ago: then it waits for that moment, with those that come meanwhile.  A
 * write that would leave more than LIMIT_STREAM_PENDING_BYTES unsent drops the client: -E_LIMIT,
 * and -E_CANCELED from then on or when the client has left. */
void httpd_stream_begin(struct httpd_request *r, int status, const char *content_type);
int httpd_stream_write(struct httpd_request *r, struct str piece);
/* As httpd_stream_write, for streams of any size: waits while LIMIT_HTTP_WINDOW_BYTES are unsent.
 * Not on a thread of httpd. */
int httpd_stream_write_wait(struct httpd_request *r, struct str piece);
/* Bytes that the client has not taken yet: a teller of progress leaves something out then. */
size_t httpd_stream_unsent(struct httpd_request *r);
void httpd_stream_end(struct httpd_request *r);
/* Cuts the connection: what was streamed is not whole, and its reader must not think so. */
void httpd_abort(struct httpd_request *r);

/* Calls fn on an HTTP thread soon, for work that the thread which has news must
 * not do; never when the client has left meanwhile.  Any thread; one at a time;
 * before the request is answered. */
void httpd_run_later(struct httpd_request *r, void (*fn)(void *ctx), void *ctx);

/* fn is called once when the client has left before the answer was complete, at
 * once when it already has; on any thread, never with a lock held.  Set before
 * the request is kept by another thread. */
void httpd_on_gone(struct httpd_request *r, void (*fn)(void *ctx), void *ctx);
/* fn is called each time nothing was sent for interval_ms while the answer is
 * unfinished; on a thread of httpd. */
void httpd_on_quiet(struct httpd_request *r, uint32_t interval_ms, void (*fn)(void *ctx),
                    void *ctx);

#endif
