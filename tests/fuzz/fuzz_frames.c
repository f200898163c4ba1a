/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and every payload decoder, in both directions.  The first byte picks the direction and how
 * the rest is cut into feeds; what decodes must encode to the same bytes again. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/limits.h"
#include "lib/ipc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_equal(const struct buf *again, struct str payload)
{
    if (again->failed || again->len != payload.len ||
        memcmp(again->data, payload.p, payload.len) != 0)
        abort();
}

static void try_generate(struct str payload, struct buf *again)
{
    struct gen_request r;
    struct err err = ERR_INIT;
    uint64_t id;
    if (msg_generate_decode(payload, &id, &r, &err) < 0)
        return;
    struct err why = ERR_INIT;
    int rc = gen_request_check(&r, &why);
    if (rc < 0 && why.msg[0] == '\0')
        abort();
    if (msg_generate_encode(again, id, &r, &err) < 0)
        abort();
    must_equal(again, payload);
    gen_request_release(&r);
}

static void try_event(struct str payload, struct arena *a, struct buf *again)
{
    struct gen_event e;
    struct err err = ERR_INIT;
    if (msg_event_decode(payload, a, &e, &err) < 0)
        return;
    if (msg_event_encode(again, &e, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_load(struct str payload, struct arena *a, struct buf *again)
{
    struct msg_load m;
    struct err err = ERR_INIT;
    if (msg_load_decode(payload, a, &m, &err) < 0)
        return;
    if (msg_load_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_loaded(struct str payload, struct arena *a, struct buf *again)
{
    struct msg_loaded m;
    struct err err = ERR_INIT;
    if (msg_loaded_decode(payload, a, &m, &err) < 0)
        return;
    if (msg_loaded_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_plan(struct str payload, struct buf *again)
{
    struct msg_plan m;
    struct err err = ERR_INIT;
    if (msg_plan_decode(payload, &m, &err) < 0)
        return;
    if (msg_plan_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_pong(struct str payload, struct buf *again)
{
    struct msg_pong m;
    struct err err = ERR_INIT;
    if (msg_pong_decode(payload, &m, &err) < 0)
        return;
    if (msg_pong_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_progress(struct str payload, struct buf *again)
{
    struct msg_progress m;
    struct err err = ERR_INIT;
    if (msg_progress_decode(payload, &m, &err) < 0)
        return;
    if (msg_progress_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_attached(struct str payload, struct buf *again)
{
    struct msg_attached m;
    struct err err = ERR_INIT;
    if (msg_attached_decode(payload, &m, &err) < 0)
        return;
    if (msg_attached_encode(again, &m, &err) < 0)
        abort();
    must_equal(again, payload);
}

static void try_frame(const struct frame *f)
{
    struct arena a;
    struct buf again;
    arena_init(&a, 8u << 20);
    buf_init(&again, LIMIT_MSG_BYTES);
    switch ((int)f->type) {
    case MSG_GENERATE: try_generate(f->payload, &again); break;
    case MSG_EVENT: try_event(f->payload, &a, &again); break;
    case MSG_LOAD: try_load(f->payload, &a, &again); break;
    case MSG_LOADED: try_loaded(f->payload, &a, &again); break;
    case MSG_PLAN: try_plan(f->payload, &again); break;
    case MSG_PONG: try_pong(f->payload, &again); break;
    case MSG_ATTACHED: try_attached(f->payload, &again); break;
    case MSG_PROGRESS: try_progress(f->payload, &again); break;
    default: break;
    }
    buf_release(&again);
    arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame_reader r;
    struct frame f;
    struct err err = ERR_INIT;
    uint8_t how = size ? data[0] : 0;
    size_t step = how >> 1 ? (size_t)(how >> 1) * 7 : SIZE_MAX;
    frame_reader_init(&r, how & 1 ? MSG_TO_WORKER : MSG_TO_DAEMON);
    int rc = 0;
    for (size_t at = 1; at < size && rc >= 0; at += MIN_OF(step, size - at)) {
        rc = frame_reader_feed(&r, data + at, MIN_OF(step, size - at), &err);
        while (rc >= 0 && (rc = frame_reader_next(&r, &f, &err)) == 1)
            try_frame(&f);
    }
    if (rc < 0 && err.msg[0] == '\0')
        abort();
    frame_reader_release(&r);
    return 0;
}
