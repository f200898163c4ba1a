/* SPDX-License-Identifier: Apache-2.0 */
/* `berth worker --probe`: reads one PROBE and the files' descriptors, answers with FACTS or
 * LOAD_FAILED, and ends.  No threads, no engine. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"
#include "worker/model/facts.h"
#include "worker/serve/probe.h"

struct asked {
    int fds[LIMIT_MSG_FDS];
    uint32_t n_fds;
    struct facts_file files[LIMIT_MSG_FDS];
    struct arena arena;
};

static int take_fds(struct asked *q, struct msghdr *m, struct err *err)
{
    if (m->msg_flags & MSG_CTRUNC)
        return err_set(err, E_LIMIT, "more descriptors than %u at once", LIMIT_MSG_FDS);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            return err_set(err, E_FORMAT, "ancillary data of unknown kind %d", c->cmsg_type);
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (n > LIMIT_MSG_FDS - q->n_fds)
            return err_set(err, E_FORMAT, "descriptors that nothing asked for");
        memcpy(q->fds + q->n_fds, CMSG_DATA(c), n * sizeof(int));
        q->n_fds += (uint32_t)n;
    }
    return 0;
}

static int request_read(int fd, struct frame_reader *in, struct asked *q, struct frame *ret,
                        struct err *err)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(LIMIT_MSG_FDS * sizeof(int))];
    } control;
    char bytes[16384];
    for (;;) {
        int rc = frame_reader_next(in, ret, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        struct iovec iov = {bytes, sizeof(bytes)};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, E_GONE, "nobody asks");
        rc = take_fds(q, &m, err);
        if (rc == 0)
            rc = frame_reader_feed(in, bytes, (size_t)n, err);
        if (rc < 0)
            return rc;
    }
}

static int request_decode(const struct frame *f, struct asked *q, struct err *err)
{
    struct cursor c = {.p = f->payload.p, .left = f->payload.len};
    uint32_t n = 0;
    if (f->type != MSG_PROBE || !get_u32(&c, &n) || n != q->n_fds)
        return err_set(err, E_FORMAT, "message %s, %u names and %u files", msg_name(f->type), n,
                       q->n_fds);
    for (uint32_t i = 0; i < n; i++) {
        struct str name;
        if (!get_str(&c, LIMIT_OCI_PATH_BYTES, &name))
            return err_set(err, E_FORMAT, "message PROBE is malformed");
        q->files[i].fd = q->fds[i];
        q->files[i].name = arena_try_dup(&q->arena, name.p, name.len, err);
        if (!q->files[i].name)
            return -err->code;
    }
    return c.left ? err_set(err, E_FORMAT, "message PROBE is malformed") : 0;
}

static int answer_send(int fd, enum msg_type type, const struct buf *payload, struct err *err)
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

int worker_probe(int fd, struct err *err)
{
    struct asked *q = mem_alloc(sizeof(*q));
    struct frame_reader in;
    struct frame f;
    struct buf answer;
    struct err why = ERR_INIT;
    arena_init(&q->arena, LIMIT_MSG_SMALL_BYTES);
    frame_reader_init(&in, MSG_TO_WORKER);
    buf_init(&answer, LIMIT_FACTS_BYTES);
    int rc = request_read(fd, &in, q, &f, err);
    if (rc == 0)
        rc = request_decode(&f, q, err);
    if (rc == 0 && facts_read(q->files, q->n_fds, &answer, &why) == 0) {
        rc = answer_send(fd, MSG_FACTS, &answer, err);
    } else if (rc == 0) {
        buf_clear(&answer);
        put_u32(&answer, (uint32_t)why.code);
        put_str(&answer, str_from(why.msg));
        rc = answer_send(fd, MSG_LOAD_FAILED, &answer, err);
    }
    buf_release(&answer);
    frame_reader_release(&in);
    arena_release(&q->arena);
    mem_free(q);
    return rc;
}
