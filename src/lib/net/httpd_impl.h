/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by httpd*.c only: the structs, who owns them, and who guards what.
 *
 * A connection belongs to one thread of httpd, which alone touches it; so does the half of a
 * request that reads.  What others say about a request (its answer, stream pieces, work for later)
 * stands in its guarded half; they put it on its thread's list of news and wake that thread unless
 * it is awake already.
 *
 * Lock order: httpd_request.lock, then http_thread.lock.  Callbacks of the owner are called with no
 * lock held. */
#ifndef LIB_NET_HTTPD_IMPL_H
#define LIB_NET_HTTPD_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "lib/net/httpd.h"
#include "lib/net/httpd_parse.h"
#include "lib/net/httpd_timer.h"

#define HTTPD_LISTEN_MAX   16
#define HTTPD_THREADS_MAX  64
#define HTTPD_SCRATCH      16384 /* bytes read at once, and left over from one request to the next */
#define HTTPD_STREAM_PIECE (256u << 10) /* read at once of a body that is handed over in pieces */
#define HTTPD_PACE_MS      2            /* between two sends of one stream */
#define HTTPD_PACE_BYTES   16384        /* unless so much waits */
#define HTTPD_LINGER_MS    5000         /* how long a refused client may go on sending */
#define HTTPD_DISCARD_MAX  (64u << 20)  /* and how much */
#define HTTPD_DRAIN_MAX    (1u << 20)   /* of a refused body, to keep the connection */
#define HTTPD_SPARE_CONNS  64           /* beyond the maximum, to be told so */
#define HTTPD_ACCEPT_PAUSE 100          /* milliseconds, when descriptors are out */

struct ssl_st;
struct ssl_ctx_st;

enum source_kind { SOURCE_WAKE, SOURCE_LISTENER, SOURCE_CONN };

/* What an epoll event points to: the first member of its struct. */
struct source {
    enum source_kind kind;
};

struct listener {
    struct source source;
    int fd;
    bool is_unix, is_inherited;
    uint16_t port;
    char *path; /* owned; is_unix and made here */
    uint64_t dev, ino;
};

struct http_thread {
    struct source wake; /* first: SOURCE_WAKE */
    struct httpd *h;
    pthread_t id;
    bool started;
    int epoll_fd, wake_fd;
    struct conn *conns;  /* its own */
    atomic_uint n_conns; /* and those given to it; others compare */
    struct conn *ready;  /* with work left from their last turn */
    struct timers timers;
    uint64_t now_ms;          /* when this round began */
    uint64_t accept_again_ms; /* 0: listening */
    bool listens;
    bool quiesced;
    struct httpd_request *running; /* whose owner is being called */
    int64_t date_s;
    char date[40];
    char scratch[HTTPD_SCRATCH];
    pthread_mutex_t lock; /* guards what follows */
    struct httpd_request *news, **news_end;
    struct newcomer *newcomers; /* accepted by another thread */
    bool awake;
};

struct newcomer {
    struct newcomer *next;
    int fd;
    bool tls;
    struct httpd_peer peer;
};

struct httpd {
    struct httpd_config cfg; /* its numbers filled in; pointers to strings are not kept */
    struct listener listeners[HTTPD_LISTEN_MAX];
    uint32_t n_listeners, n_threads;
    struct http_thread *threads; /* owned; [n_threads] */
    atomic_bool stopping, quiesce_begun, quiescing;
    atomic_uint n_listening; /* threads that still have the listeners */
    atomic_int reserve_fd;   /* given up for a moment when descriptors are out; -1: it is */
    atomic_uint n_connections, n_requests;
    atomic_ullong changed_ms; /* monotonic */
    atomic_ullong body_bytes; /* held by all requests */
    atomic_ullong n_accepted, n_requests_ever, n_refused, n_timed_out, n_dropped_slow,
        n_accept_failed, sent_bytes, received_bytes;
    bool has_tls;
    pthread_mutex_t tls_lock; /* guards tls */
    struct ssl_ctx_st *tls;   /* owned; NULL: none */
    char *tls_cert, *tls_key; /* owned */
};

/* What is being sent: head, block and tail one after the other. */
struct out {
    struct buf head, block;
    struct str tail; /* static text */
    size_t sent;
};

struct conn {
    struct source source; /* first: SOURCE_CONN */
    struct http_thread *t;
    struct conn *next, *prev; /* t->conns */
    struct conn *ready_next;
    int fd;
    bool in_ready;
    bool readable;   /* something may be there to be read */
    bool blocked;    /* the last write was refused for now */
    bool wants_out;  /* epoll tells when it may be tried again */
    bool hung_up;    /* the client has closed its sending half, or all of it */
    bool broken;     /* reset */
    bool keep_alive; /* after the request in progress */
    bool lingers;    /* answered and closed for sending; what comes is dropped */
    bool handshaking;
    bool first; /* nothing has come yet */
    struct timer timer;
    uint64_t since_ms; /* accepted, idle, lingering: when that began */
    uint64_t moved_ms; /* bytes were taken last, or an answer began */
    uint64_t pace_ms;  /* no stream piece is sent before; 0: at once */
    uint64_t dropped_bytes;
    struct ssl_st *tls; /* owned; NULL: none */
    struct httpd_peer peer;
    struct httpd_request *r; /* in progress, with a reference; NULL: idle */
    struct buf left;         /* read and not yet looked at */
    struct out out;
};

struct httpd_header_pair {
    struct httpd_header_pair *next;
    const char *name, *value; /* arena */
};

struct httpd_request {
    atomic_uint refs;

    /* The connection's thread only. */
    struct conn *conn; /* NULL once it has ended */
    struct http_head head;
    struct http_chunked chunks;
    uint64_t body_left; /* of a body with a length */
    uint64_t first_us, first_ms, body_ms;
    uint64_t received_bytes, sent_bytes;
    bool head_done;   /* counted as a request */
    bool headers_ok;  /* httpd_header may be asked */
    bool received;    /* whole, or nothing more of it is wanted */
    bool discards;    /* answered before its body, which is dropped */
    bool dispatched;  /* on_request was called */
    bool told;        /* on_headers or on_refusal was called: on_done is owed */
    bool head_sent;   /* the answer's head was composed */
    bool last_taken;  /* so was the end of the answer */
    bool answer_sent; /* and all of it is with the kernel */
    bool is_head;     /* HEAD: no body in the answer */
    bool chunked_out;

    /* Set before the request is shown to the owner; constant from then on. */
    const char *method, *path, *query;
    struct httpd_peer peer;

    /* The owner's, one thread at a time. */
    struct arena arena;
    struct buf body; /* complete before on_request */
    struct httpd_header_pair *headers;
    const char *content_type; /* arena */
    bool close_after;
    void *ctx;
    void (*free_fn)(void *ctx);

    /* By httpd_body_stream, in on_headers; constant from then on. */
    bool body_streams;
    uint64_t body_max;

    pthread_mutex_t lock;       /* guards everything below */
    struct http_thread *thread; /* NULL once the request has ended, or httpd has */
    size_t body_counted;        /* its share of body_bytes */
    atomic_bool aborted;        /* to be cut: too slow a reader, or no memory */
    bool left;                  /* the client, before the answer was complete */
    bool gone_told;
    bool posted; /* on the thread's list of news */
    bool paced;  /* the thread will look by itself soon */
    int status;
    bool answered, streaming, ended;
    struct buf pending; /* the whole answer's body, or stream bytes not yet taken */
    size_t in_flight;   /* taken and not yet sent */
    uint64_t wrote_ms;  /* monotonic, last time something was said */
    void (*gone_fn)(void *ctx);
    void *gone_ctx;
    void (*later_fn)(void *ctx);
    void *later_ctx;
    uint32_t quiet_ms;
    void (*quiet_fn)(void *ctx);
    void *quiet_ctx;

    pthread_cond_t moved;  /* a piece came or went, or the request has ended */
    struct buf body_ready; /* body_streams: pieces that came and were not taken */
    bool body_done;        /* no more of it comes */
    enum err_code body_rc; /* why not, when it is not whole; 0: it is */
    const char *body_why;  /* static */
    bool is_write_awaited; /* by httpd_stream_write_wait */

    struct httpd_request *news_next; /* under the thread's lock */
};

uint64_t httpd_now_ms(void);
uint64_t httpd_now_us(void);
void httpd_touch(struct httpd *h);

/* httpd.c: this thread's, NULL on others. */
struct http_thread *thread_self(void);
/* Puts r on the list of news, with a reference.  Under r->lock. */
void thread_post(struct http_thread *t, struct httpd_request *r);
/* c has work left without any event to come. */
void thread_ready(struct conn *c);

/* httpd_listen.c */
int listener_open(const struct httpd_listen *cfg, struct listener *ret, struct err *err) MUST_USE;
/* No connection is made from now on; a Unix socket's file is removed. */
void listener_quiesce(struct listener *l);
void listener_close(struct listener *l);
/* Who connected. */
void listener_peer(const struct listener *l, int fd, const struct sockaddr_storage *addr,
                   struct httpd_peer *ret);

/* httpd_conn.c; all on the connection's thread. */
/* Takes fd, which is counted already; NULL when there is no memory (it is closed and uncounted). */
struct conn *conn_open(struct http_thread *t, int fd, const struct httpd_peer *peer, bool tls);
/* Closes a descriptor that was counted as a connection of t. */
void conn_uncount(struct http_thread *t, int fd);
void conn_refuse(struct conn *c, int status, const char *message); /* and closes after it */
void conn_event(struct conn *c, uint32_t events);
void conn_run(struct conn *c);     /* does what can be done; may free c */
void conn_timeout(struct conn *c); /* its timer has fired; may free c */
bool conn_is_idle(const struct conn *c);
void conn_close(struct conn *c, bool reset);

/* httpd_io.c: bytes.  >0; 0: end of stream; -1: not now; -2: broken. */
ssize_t conn_read(struct conn *c, void *p, size_t n);
void conn_wait_out(struct conn *c);
/* 1: something moved; 0: there is nothing to send, or not now; -1: broken. */
int out_send(struct conn *c);
bool out_is_empty(const struct out *o);
void out_release(struct out *o);
/* The answer's head, appended; false without memory. */
bool answer_head(struct conn *c, struct httpd_request *r, struct buf *out, size_t body_len);

/* httpd_request.c */
struct httpd_request *request_new(struct conn *c);
/* The answer is not complete yet, so leaving now matters.  Under lock. */
bool request_unfinished_locked(const struct httpd_request *r);
/* body_streams: so much of the body has come; whether there is room for more. */
bool request_body_has_room(struct httpd_request *r);
void request_body_add(struct httpd_request *r, struct buf *piece); /* may take piece's memory */
void request_body_end(struct httpd_request *r, enum err_code rc, const char *why);
/* Cuts r from its connection for good; tells its owner that the client left, when that matters. */
void request_end(struct httpd_request *r, bool complete);

/* httpd_tls.c: the same codes as conn_read; handshake: 1 done, 0 plain
 * HTTP and nothing read of it, -1 not now, -2 broken. */
int tls_load(struct httpd *h, struct err *err) MUST_USE;
void tls_unload(struct httpd *h);
bool tls_open(struct conn *c);
void tls_close(struct conn *c, bool polite);
int tls_handshake(struct conn *c);
ssize_t tls_read(struct conn *c, void *p, size_t n);
ssize_t tls_write(struct conn *c, const struct str *pieces, size_t n_pieces);

#endif
