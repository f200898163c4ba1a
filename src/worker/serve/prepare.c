/* SPDX-License-Identifier: Apache-2.0 */
/* `berth worker --prepare`: reads one PREPARE, writes the file, tells how far it is, answers with
 * PREPARED or LOAD_FAILED, and ends.  One thread. */
#include "worker/serve/prepare.h"

#include <string.h>

#include "lib/base/mem.h"
#include "worker/engine/engine.h"
#include "worker/serve/asked.h"

#define PROGRESS_PARTS 100u
#define LEVEL_BYTES    64u

struct preparing {
    int fd;
    uint64_t part; /* the last that was told */
    int rc;        /* of telling */
    struct err *err;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct preparing *p = ctx;
    const uint64_t part = done / MAX_OF(total / PROGRESS_PARTS, 1u);
    const struct msg_progress m = {.what = STR_LIT("preparing"), .done = done, .total = total};
    struct buf b;
    if (part == p->part || p->rc < 0)
        return;
    p->part = part;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    p->rc = msg_progress_encode(&b, &m, p->err);
    if (p->rc == 0)
        p->rc = answer_send(p->fd, MSG_PROGRESS, &b, p->err);
    buf_release(&b);
}

static int request_decode(struct asked *q, char level[LEVEL_BYTES], struct err *err)
{
    struct cursor c = {.p = q->frame.payload.p, .left = q->frame.payload.len};
    struct str s = STR_LIT("");
    if (q->frame.type != MSG_PREPARE)
        return err_set(err, E_FORMAT, "message %s is no PREPARE", msg_name(q->frame.type));
    int rc = asked_files(q, &c, 1, err);
    if (rc == 0 && (!get_str(&c, LEVEL_BYTES - 1, &s) || c.left || q->n_files == 0))
        rc = err_set(err, E_FORMAT, "message PREPARE is malformed");
    memcpy(level, s.p, s.len);
    level[s.len] = '\0';
    return rc;
}

/* why: of the model or the disk. */
static int run(const struct asked *q, const char *level, struct preparing *p, uint64_t *ret_bytes,
               struct err *why)
{
    const char *names[LIMIT_MSG_FDS];
    struct gguf *g = NULL;
    for (uint32_t i = 0; i < q->n_files; i++)
        names[i] = q->files[i].name;
    int rc = gguf_open(q->fds, names, q->n_files, 0, &g, why);
    if (rc == 0)
        rc = engine_prepare(g, level[0] ? level : NULL, q->fds[q->n_files], on_progress, p,
                            ret_bytes, why);
    gguf_close(g);
    return rc;
}

int worker_prepare(int fd, struct err *err)
{
    struct asked *q = mem_alloc(sizeof(*q));
    struct preparing p = {.fd = fd, .err = err};
    struct err why = ERR_INIT;
    char level[LEVEL_BYTES] = "";
    uint64_t n_bytes = 0;
    asked_init(q);
    int rc = asked_read(q, fd, err);
    if (rc == 0)
        rc = request_decode(q, level, err);
    if (rc == 0 && run(q, level, &p, &n_bytes, &why) == 0) {
        struct buf b;
        buf_init(&b, LIMIT_MSG_SMALL_BYTES);
        put_u64(&b, n_bytes);
        rc = p.rc < 0 ? p.rc : answer_send(fd, MSG_PREPARED, &b, err);
        buf_release(&b);
    } else if (rc == 0) {
        rc = answer_refuse(fd, &why, err);
    }
    asked_release(q);
    mem_free(q);
    return rc;
}
