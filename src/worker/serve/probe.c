/* SPDX-License-Identifier: Apache-2.0 */
/* `berth worker --probe`: reads one PROBE and the files' descriptors, answers with FACTS or
 * LOAD_FAILED, and ends.  No threads, no engine. */
#include "worker/serve/probe.h"

#include "lib/base/mem.h"
#include "worker/serve/asked.h"

static int request_decode(struct asked *q, struct err *err)
{
    struct cursor c = {.p = q->frame.payload.p, .left = q->frame.payload.len};
    if (q->frame.type != MSG_PROBE)
        return err_set(err, E_FORMAT, "message %s is no PROBE", msg_name(q->frame.type));
    int rc = asked_files(q, &c, 0, err);
    return rc == 0 && c.left ? err_set(err, E_FORMAT, "message PROBE is malformed") : rc;
}

int worker_probe(int fd, struct err *err)
{
    struct asked *q = mem_alloc(sizeof(*q));
    struct buf answer;
    struct err why = ERR_INIT;
    asked_init(q);
    buf_init(&answer, LIMIT_FACTS_BYTES);
    int rc = asked_read(q, fd, err);
    if (rc == 0)
        rc = request_decode(q, err);
    if (rc == 0 && facts_read(q->files, q->n_files, &answer, &why) == 0)
        rc = answer_send(fd, MSG_FACTS, &answer, err);
    else if (rc == 0)
        rc = answer_refuse(fd, &why, err);
    buf_release(&answer);
    asked_release(q);
    mem_free(q);
    return rc;
}
