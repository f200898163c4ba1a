/* SPDX-License-Identifier: Apache-2.0 */
/* Implements frame.h's payloads about a worker's state: PLAN, PROGRESS, PONG, ATTACHED.  As in
 * msg.c, a decoder takes nothing for granted. */
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"

#define PROGRESS_TEXT_BYTES 256u

static int end(const struct cursor *c, const char *what, struct err *err)
{
    if (c->bad || c->left)
        return err_set(err, E_FORMAT, "message %s has the wrong length", what);
    return 0;
}

int msg_plan_encode(struct buf *out, const struct msg_plan *m, struct err *err)
{
    put_u64(out, m->weight_bytes);
    put_u64(out, m->kv_bytes);
    put_u64(out, m->scratch_bytes);
    put_u64(out, m->other_bytes);
    put_u64(out, m->block_bytes);
    put_u32(out, m->n_blocks);
    put_u32(out, m->block_size);
    put_u32(out, m->n_ctx);
    put_u32(out, m->max_num_seqs);
    put_u32(out, m->kv_type);
    return buf_status(out, "message PLAN", err);
}

int msg_plan_decode(struct str payload, struct msg_plan *ret, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint64_t sum;
    *ret = (struct msg_plan){0};
    get_u64(&c, &ret->weight_bytes);
    get_u64(&c, &ret->kv_bytes);
    get_u64(&c, &ret->scratch_bytes);
    get_u64(&c, &ret->other_bytes);
    get_u64(&c, &ret->block_bytes);
    get_u32(&c, &ret->n_blocks);
    get_u32(&c, &ret->block_size);
    get_u32(&c, &ret->n_ctx);
    get_u32(&c, &ret->max_num_seqs);
    get_u32(&c, &ret->kv_type);
    int rc = end(&c, "PLAN", err);
    if (rc == 0 && (!size_add(ret->weight_bytes, ret->kv_bytes, &sum) ||
                    !size_add(sum, ret->scratch_bytes, &sum) ||
                    !size_add(sum, ret->other_bytes, &sum) || sum > UINT64_MAX / 4096))
        rc = err_set(err, E_FORMAT, "message PLAN wants more memory than there are addresses");
    return rc;
}

int msg_pong_encode(struct buf *out, const struct msg_pong *m, struct err *err)
{
    put_u64(out, m->cookie);
    put_u32(out, m->n_running);
    put_u32(out, m->n_waiting);
    put_u32(out, m->n_blocks_used);
    put_u32(out, m->n_blocks);
    put_u64(out, m->n_preemptions);
    put_u64(out, m->n_drafted);
    put_u64(out, m->n_accepted);
    return buf_status(out, "message PONG", err);
}

int msg_pong_decode(struct str payload, struct msg_pong *ret, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    *ret = (struct msg_pong){0};
    get_u64(&c, &ret->cookie);
    get_u32(&c, &ret->n_running);
    get_u32(&c, &ret->n_waiting);
    get_u32(&c, &ret->n_blocks_used);
    get_u32(&c, &ret->n_blocks);
    get_u64(&c, &ret->n_preemptions);
    get_u64(&c, &ret->n_drafted);
    get_u64(&c, &ret->n_accepted);
    return end(&c, "PONG", err);
}

int msg_progress_encode(struct buf *out, const struct msg_progress *m, struct err *err)
{
    put_str(out, m->what);
    put_u64(out, m->done);
    put_u64(out, m->total);
    return buf_status(out, "message PROGRESS", err);
}

int msg_progress_decode(struct str payload, struct msg_progress *ret, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    *ret = (struct msg_progress){0};
    get_str(&c, PROGRESS_TEXT_BYTES, &ret->what);
    get_u64(&c, &ret->done);
    get_u64(&c, &ret->total);
    int rc = end(&c, "PROGRESS", err);
    if (rc == 0 && !gen_text_is_utf8(ret->what))
        rc = err_set(err, E_FORMAT, "message PROGRESS has a text that is not valid UTF-8");
    return rc;
}

int msg_attached_encode(struct buf *out, const struct msg_attached *m, struct err *err)
{
    put_u32(out, m->code);
    put_str(out, m->why);
    return buf_status(out, "message ATTACHED", err);
}

int msg_attached_decode(struct str payload, struct msg_attached *ret, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    *ret = (struct msg_attached){0};
    get_u32(&c, &ret->code);
    get_str(&c, ERR_MSG_MAX, &ret->why);
    int rc = end(&c, "ATTACHED", err);
    if (rc == 0 && (ret->code >= E_N_CODES || !gen_text_is_utf8(ret->why)))
        rc = err_set(err, E_FORMAT, "message ATTACHED is malformed");
    return rc;
}
