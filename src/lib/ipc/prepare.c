/* SPDX-License-Identifier: Apache-2.0 */
/* Implements prepare.h: PREPARE to a worker, PROGRESS and PREPARED or LOAD_FAILED back.
 * docs/PROTOCOL-ipc.md. */
#include "lib/ipc/prepare.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "lib/base/limits.h"
#include "lib/ipc/errand.h"

#define FULL_BYTES (1u << 20) /* with less than that free, a disk is full */

static int request_make(const struct prepare_request *q, struct buf *out, struct err *err)
{
    struct buf payload;
    buf_init(&payload, LIMIT_MSG_SMALL_BYTES);
    put_u32(&payload, q->n);
    for (uint32_t i = 0; i < q->n; i++)
        put_str(&payload, str_from(q->names[i]));
    put_str(&payload, str_from(q->cpu_level));
    int rc = buf_status(&payload, "message PREPARE", err);
    if (rc == 0)
        rc = frame_write(out, MSG_PREPARE, payload.data, payload.len, err);
    buf_release(&payload);
    return rc;
}

static int on_prepared(const struct prepare_request *q, struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    struct stat st;
    uint64_t n = 0;
    if (!get_u64(&c, &n) || c.left)
        return err_set(err, E_FORMAT, "a worker's answer is malformed");
    if (fstat(q->out_fd, &st) < 0)
        return err_set_sys(err, E_IO, "the prepared weights");
    if (n != q->n_bytes || (uint64_t)st.st_size != n)
        return err_set(err, E_FORMAT, "the prepared weights have %lld bytes, and %llu were planned",
                       (long long)st.st_size, (unsigned long long)q->n_bytes);
    return 0;
}

/* 0: the answer has come; 1: there is more. */
static int frame_take(const struct prepare_request *q, const struct frame *f, struct err *err)
{
    struct msg_progress m;
    int rc;
    switch (f->type) {
    case MSG_PROGRESS:
        rc = msg_progress_decode(f->payload, &m, err);
        if (rc == 0 && q->progress)
            q->progress(q->ctx, MIN_OF(m.done, q->n_bytes), q->n_bytes);
        return rc < 0 ? rc : 1;
    case MSG_PREPARED: return on_prepared(q, f->payload, err);
    case MSG_LOAD_FAILED: return errand_refusal(f->payload, err);
    default: return err_set(err, E_FORMAT, "a worker answers with %s", msg_name(f->type));
    }
}

static int exchange(struct errand *e, const struct prepare_request *q, struct err *err)
{
    struct buf out;
    int fds[LIMIT_MSG_FDS];
    memcpy(fds, q->fds, q->n * sizeof(*fds));
    fds[q->n] = q->out_fd;
    buf_init(&out, 2 * LIMIT_MSG_SMALL_BYTES);
    int rc = request_make(q, &out, err);
    if (rc == 0)
        rc = errand_send(e, &out, fds, q->n + 1, err);
    buf_release(&out);
    for (bool more = rc == 0; more;) {
        struct frame f;
        rc = errand_read(e, &f, err);
        if (rc == 0)
            return err_set(err, E_GONE, "%s", e->what);
        if (rc == 1)
            rc = frame_take(q, &f, err);
        more = rc == 1;
    }
    return rc;
}

/* A worker's refusal has no errno; whether it is for lack of room decides if it is tried again. */
static void look_for_room(const struct prepare_request *q, struct err *err)
{
    struct statvfs v;
    if (err->code == E_IO && fstatvfs(q->out_fd, &v) == 0 && v.f_blocks &&
        (uint64_t)v.f_bavail * (uint64_t)v.f_frsize < FULL_BYTES)
        err->sys = ENOSPC;
}

int prepare_run(const struct prepare_request *q, struct err *err)
{
    struct errand e = {.what = "preparing the weights",
                       .timeout_ms = PREPARE_TIMEOUT_MS,
                       .is_called = q->is_called_off};
    char memory[24], file[24];
    if (q->n + 1 > LIMIT_MSG_FDS)
        return err_set(err, E_LIMIT, "%u files; at most %u can be opened", q->n + 1, LIMIT_MSG_FDS);
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)PREPARE_MEMORY_BYTES);
    snprintf(file, sizeof(file), "%llu", (unsigned long long)q->n_bytes);
    const char *const argv[] = {"berth", "worker", "--prepare", file, memory, NULL};
    int rc = errand_start(&e, argv, err);
    if (rc == 0)
        rc = errand_finish(&e, exchange(&e, q, err), err);
    if (rc < 0)
        look_for_room(q, err);
    return rc;
}
