/* SPDX-License-Identifier: Apache-2.0 */
/* Implements asked.h. */
#include "worker/serve/asked.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/ipc/fds.h"

void asked_init(struct asked *q)
{
    *q = (struct asked){0};
    arena_init(&q->arena, LIMIT_MSG_SMALL_BYTES);
    frame_reader_init(&q->in, MSG_TO_WORKER);
}

void asked_release(struct asked *q)
{
    frame_reader_release(&q->in);
    arena_release(&q->arena);
}

int asked_read(struct asked *q, int fd, struct err *err)
{
    char bytes[16384];
    for (;;) {
        int rc = frame_reader_next(&q->in, &q->frame, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        ssize_t n = fds_recv(fd, bytes, sizeof(bytes), 0, q->fds, &q->n_fds, err);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPROTO)
            return -err->code;
        if (n <= 0)
            return err_set(err, E_GONE, "nobody asks");
        rc = frame_reader_feed(&q->in, bytes, (size_t)n, err);
        if (rc < 0)
            return rc;
    }
}

int asked_files(struct asked *q, struct cursor *c, uint32_t n_more, struct err *err)
{
    const char *what = msg_name(q->frame.type);
    uint32_t n = 0;
    if (!get_u32(c, &n) || n > q->n_fds || n + n_more != q->n_fds)
        return err_set(err, E_FORMAT, "message %s, %u names and %u files", what, n, q->n_fds);
    for (uint32_t i = 0; i < n; i++) {
        struct str name;
        if (!get_str(c, LIMIT_OCI_PATH_BYTES, &name))
            return err_set(err, E_FORMAT, "message %s is malformed", what);
        q->files[i].fd = q->fds[i];
        q->files[i].name = arena_try_dup(&q->arena, name.p, name.len, err);
        if (!q->files[i].name)
            return -err->code;
    }
    q->n_files = n;
    return 0;
}

int answer_send(int fd, enum msg_type type, const struct buf *payload, struct err *err)
{
    struct buf out;
    buf_init(&out, payload->len + 64);
    int rc = frame_write(&out, type, buf_str(payload), payload->len, err);
    for (size_t at = 0; rc == 0 && at < out.len;) {
        ssize_t n = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            rc = err_set_sys(err, E_GONE, "answering");
        at += n > 0 ? (size_t)n : 0;
    }
    buf_release(&out);
    return rc;
}

int answer_refuse(int fd, const struct err *why, struct err *err)
{
    struct buf b;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    put_u32(&b, (uint32_t)why->code);
    put_str(&b, str_from(why->msg));
    int rc = answer_send(fd, MSG_LOAD_FAILED, &b, err);
    buf_release(&b);
    return rc;
}
