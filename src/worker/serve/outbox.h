/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on their way to the daemon: a bounded buffer that several threads fill and the socket
 * drains.
 *
 * A daemon that does not read makes writers wait, and with them the token loop: nothing is dropped
 * and nothing grows. */
#ifndef WORKER_SERVE_OUTBOX_H
#define WORKER_SERVE_OUTBOX_H

#include <pthread.h>

#include "lib/ipc/frame.h"

struct outbox {
    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct buf pending, event; /* event: scratch for one, kept */
    size_t sent;               /* bytes of pending already gone */
    int fd, wake_fd;           /* socket; eventfd that makes the reading thread poll for room */
    bool is_closed;
};

int outbox_init(struct outbox *o, int fd, struct err *err) MUST_USE;
void outbox_release(struct outbox *o);

/* Queues a frame; waits while too much is pending, unless may_wait is false (the thread that
 * drains).  Does not send. E_GONE when the outbox was closed meanwhile. */
int outbox_put(struct outbox *o, enum msg_type type, const struct buf *payload, bool may_wait,
               struct err *err) MUST_USE;
int outbox_put_event(struct outbox *o, const struct gen_event *e, bool may_wait,
                     struct err *err) MUST_USE;
/* Sends what the socket takes now; any thread.  When some is left, the reading thread is told to
 * poll for room. */
void outbox_flush(struct outbox *o);
/* Makes the reading thread look again. */
void outbox_wake(struct outbox *o);
/* Whether something is left to send, and whether it is so much that the reader should take no more
 * requests. */
bool outbox_is_pending(struct outbox *o, bool *ret_is_full);
/* Lets every waiting writer go; later writes fail. */
void outbox_close(struct outbox *o);

#endif
