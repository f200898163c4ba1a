/* SPDX-License-Identifier: Apache-2.0 */
/* Implements outbox.h. */
#include "worker/serve/outbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"

/* Writers wait above the first; the second leaves room for one largest frame of each that was let
 * in below it. */
#define PENDING_HIGH_BYTES (4u << 20)
#define PENDING_MAX_BYTES  (PENDING_HIGH_BYTES + LIMIT_MSG_BYTES + (8u << 20))

int outbox_init(struct outbox *o, int fd, struct err *err)
{
    *o = (struct outbox){.fd = fd};
    o->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (o->wake_fd < 0)
        return err_set_sys(err, E_IO, "eventfd");
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->drained, NULL);
    buf_init(&o->pending, PENDING_MAX_BYTES);
    buf_init(&o->event, LIMIT_MSG_SMALL_BYTES);
    return 0;
}

void outbox_release(struct outbox *o)
{
    close(o->wake_fd);
    buf_release(&o->pending);
    buf_release(&o->event);
    pthread_cond_destroy(&o->drained);
    pthread_mutex_destroy(&o->lock);
}

static size_t left(const struct outbox *o)
{
    return o->pending.len - o->sent;
}

/* Under the lock. */
static void send_some(struct outbox *o)
{
    while (left(o) > 0 && !o->is_closed) {
        ssize_t n = send(o->fd, o->pending.data + o->sent, left(o), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* no room now, or the daemon is gone: then the reader learns it too */
        o->sent += (size_t)n;
    }
    if (left(o) == 0)
        buf_clear(&o->pending);
    else if (o->sent > PENDING_HIGH_BYTES / 4)
        buf_consume(&o->pending, o->sent);
    else
        return;
    o->sent = 0;
    if (o->pending.len == 0 && o->pending.cap > PENDING_HIGH_BYTES)
        buf_release(&o->pending);
    pthread_cond_broadcast(&o->drained);
}

void outbox_wake(struct outbox *o)
{
    uint64_t one = 1;
    ssize_t done = write(o->wake_fd, &one, sizeof(one));
    (void)done; /* EAGAIN: it is awake */
}

/* Under the lock: waits until there is room for one more, if the caller may.  E_GONE. */
static int room_await(struct outbox *o, bool may_wait, struct err *err)
{
    while (may_wait && !o->is_closed && left(o) > PENDING_HIGH_BYTES) {
        send_some(o);
        if (left(o) <= PENDING_HIGH_BYTES)
            break;
        outbox_wake(o);
        pthread_cond_wait(&o->drained, &o->lock);
    }
    return o->is_closed ? err_set(err, E_GONE, "the daemon is gone") : 0;
}

int outbox_put(struct outbox *o, enum msg_type type, const struct buf *payload, bool may_wait,
               struct err *err)
{
    pthread_mutex_lock(&o->lock);
    int rc = room_await(o, may_wait, err);
    if (rc == 0)
        rc = frame_write(&o->pending, type, payload->data, payload->len, err);
    pthread_mutex_unlock(&o->lock);
    return rc;
}

int outbox_put_event(struct outbox *o, const struct gen_event *e, bool may_wait, struct err *err)
{
    pthread_mutex_lock(&o->lock);
    int rc = room_await(o, may_wait, err);
    buf_clear(&o->event);
    if (rc == 0)
        rc = msg_event_encode(&o->event, e, err);
    if (rc == 0)
        rc = frame_write(&o->pending, MSG_EVENT, o->event.data, o->event.len, err);
    pthread_mutex_unlock(&o->lock);
    return rc;
}

void outbox_flush(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    send_some(o);
    bool is_left = left(o) > 0;
    pthread_mutex_unlock(&o->lock);
    if (is_left)
        outbox_wake(o);
}

bool outbox_is_pending(struct outbox *o, bool *ret_is_full)
{
    pthread_mutex_lock(&o->lock);
    size_t n = left(o);
    pthread_mutex_unlock(&o->lock);
    *ret_is_full = n > PENDING_HIGH_BYTES;
    return n > 0;
}

void outbox_close(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->is_closed = true;
    pthread_cond_broadcast(&o->drained);
    pthread_mutex_unlock(&o->lock);
}
