/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by httpd*.c only: the two structs and who guards what.
 *
 * Lock order: httpd.lock, then httpd_request.lock, then libmicrohttpd's own.  Callbacks of the
 * owner are called with none of them held. */
#ifndef LIB_NET_HTTPD_IMPL_H
#define LIB_NET_HTTPD_IMPL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/net/httpd.h"

struct watch_slot {          /* what the watcher waits for on one socket */
    struct httpd_request *r; /* NULL: nothing */
    uint32_t generation;     /* tells a late event from one for the socket's next user */
};

struct httpd {
    struct httpd_config cfg;
    struct MHD_Daemon *mhd;
    uint16_t port;
    int listen_fd;
    atomic_bool stopping;
    atomic_uint n_connections, n_requests;
    atomic_ullong changed_ms;       /* monotonic */
    atomic_ullong body_bytes;       /* held by all requests */
    pthread_mutex_t lock;           /* guards requests, slots */
    struct httpd_request *requests; /* every request MHD knows */
    struct watch_slot *slots;       /* owned; [n_slots], by descriptor */
    uint32_t n_slots, generation;
    int epoll_fd, wake_fd;
    pthread_t watcher;
};

struct httpd_header_pair {
    struct httpd_header_pair *next;
    const char *name, *value; /* arena */
};

struct httpd_request {
    atomic_uint refs;
    struct httpd *h; /* valid while listed; NULL after httpd let go (under lock) */
    struct httpd_request *next, *prev; /* h->requests, under h->lock */
    struct arena arena;                /* the answerer's */
    struct buf body;                   /* owned; complete before on_request */
    size_t body_counted;               /* its share of h->body_bytes */
    char *method, *path;               /* arena */
    struct httpd_header_pair *headers; /* the answerer's, until answered */
    bool close_after;
    uint64_t discarded_bytes; /* of a refused request's body; HTTP threads only */
    bool dispatched;          /* on_request was called; written under lock */
    bool stop_seen;           /* httpd_stop has aborted it; under h->lock */
    void *ctx;
    void (*free_fn)(void *ctx);

    pthread_mutex_t lock;        /* guards everything below */
    struct MHD_Connection *conn; /* NULL once MHD has completed the request */
    bool suspended;
    bool aborted; /* to be cut: the client left, was too slow, or we stop */
    bool gone_told;
    struct MHD_Response *response; /* ready and not yet queued; owned until queued */
    int status;
    bool answered, streaming, ended;
    struct buf pending; /* stream bytes for MHD */
    size_t taken;       /* of pending, already given to MHD */
    uint64_t wrote_ms;  /* monotonic, last time something was said */
    void (*gone_fn)(void *ctx);
    void *gone_ctx;
    void (*later_fn)(void *ctx); /* to be called by an HTTP thread */
    void *later_ctx;
    uint32_t quiet_ms;
    void (*quiet_fn)(void *ctx);
    void *quiet_ctx;
};

uint64_t httpd_now_ms(void);

/* httpd_request.c */
struct httpd_request *request_new(struct httpd *h, struct MHD_Connection *conn);
/* Cuts the request off and tells its owner, once.  finished answers are left alone unless force. */
void request_abort(struct httpd_request *r, bool force);
/* The answer is not complete yet, so leaving now matters.  Under lock. */
bool request_unfinished_locked(const struct httpd_request *r);

/* httpd_watch.c */
int watch_start(struct httpd *h, struct err *err) MUST_USE;
void watch_stop(struct httpd *h);
/* Tells r when its client hangs up; call before suspending.  Under no lock. */
void watch_add(struct httpd *h, struct httpd_request *r);
void watch_remove(struct httpd *h, struct httpd_request *r);

#endif
