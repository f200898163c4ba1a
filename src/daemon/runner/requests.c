/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the runner: where they are kept, what order their events must have, and how they end.
 * Loop thread.
 *
 * A worker is hostile: an event that breaks the order is a violation, and nothing of it reaches a
 * client. */
#include "daemon/runner/internal.h"
#include "lib/base/mem.h"

/* All the text of one choice; real answers are bounded by the context long before. */
#define CHOICE_TEXT_BYTES ((uint64_t)LIMIT_TEXT_BYTES * 2)

struct run_request *run_request_find(const struct runner *r, uint64_t id)
{
    struct run_request *q = r->buckets[id % REQUEST_BUCKETS];
    while (q && q->id != id)
        q = q->next_in_bucket;
    return q;
}

void run_request_add(struct runner *r, struct model *m, struct run_request *q)
{
    struct run_request **bucket = &r->buckets[q->id % REQUEST_BUCKETS];
    q->next_in_bucket = *bucket;
    *bucket = q;
    q->model = m;
    q->next = NULL;
    q->prev =
        m->first
            ? (struct run_request *)(void *)((char *)m->last - offsetof(struct run_request, next))
            : NULL;
    *m->last = q;
    m->last = &q->next;
    m->n_requests++;
    m->n_taken += !q->is_load;
    m->queued_bytes += q->payload.len;
}

static void run_request_unlink(struct runner *r, struct run_request *q)
{
    struct model *m = q->model;
    struct run_request **at = &r->buckets[q->id % REQUEST_BUCKETS];
    while (*at != q)
        at = &(*at)->next_in_bucket;
    *at = q->next_in_bucket;
    if (q->prev)
        q->prev->next = q->next;
    else
        m->first = q->next;
    if (q->next)
        q->next->prev = q->prev;
    else
        m->last = q->prev ? &q->prev->next : &m->first;
    m->n_requests--;
    m->queued_bytes -= q->payload.len;
}

void run_request_free(struct run_request *q)
{
    buf_release(&q->payload);
    mem_free(q);
}

void run_request_end(struct runner *r, struct run_request *q, const struct gen_event *e)
{
    run_request_unlink(r, q);
    q->fn(q->ctx, e);
    run_request_free(q);
}

void run_request_end_failed(struct runner *r, struct run_request *q, const struct err *why)
{
    struct gen_event e = {.type = GEN_EVENT_FAILED,
                          .request_id = q->id,
                          .code = why->code,
                          .message = str_from(why->msg),
                          .stop_index = -1};
    run_request_end(r, q, &e);
}

void run_request_end_canceled(struct runner *r, struct run_request *q)
{
    struct gen_event e = {
        .type = GEN_EVENT_DONE, .request_id = q->id, .finish = GEN_FINISH_CANCEL, .stop_index = -1};
    run_request_end(r, q, &e);
}

static bool choice_is_open(const struct run_request *q, uint32_t choice)
{
    return q->is_started && choice < q->n_choices && !(q->done[choice / 64] >> (choice % 64) & 1);
}

/* Whether e may come now; marks what it changes. */
static bool event_fits(struct run_request *q, const struct gen_event *e)
{
    switch (e->type) {
    case GEN_EVENT_STARTED:
        if (q->is_started)
            return false;
        q->is_started = true;
        return true;
    case GEN_EVENT_DELTA:
        q->n_text_bytes += e->text.len;
        return choice_is_open(q, e->choice) && q->n_text_bytes <= q->n_choices * CHOICE_TEXT_BYTES;
    case GEN_EVENT_CHOICE_DONE:
        if (!choice_is_open(q, e->choice) || e->finish == GEN_FINISH_NONE ||
            (e->stop_index != -1 && (e->stop_index < 0 || (uint32_t)e->stop_index >= q->n_stops)))
            return false;
        q->done[e->choice / 64] |= 1ull << (e->choice % 64);
        q->n_open--;
        return true;
    case GEN_EVENT_DONE:
        return e->finish == GEN_FINISH_CANCEL ? q->is_canceled : q->is_started && q->n_open == 0;
    case GEN_EVENT_FAILED: return true;
    }
    return false;
}

int run_request_take_event(struct runner *r, const struct gen_event *e, struct err *err)
{
    struct run_request *q = run_request_find(r, e->request_id);
    if (!q || !q->is_sent)
        return err_set(err, E_FORMAT, "event for request %llu, which it does not have",
                       (unsigned long long)e->request_id);
    if (!event_fits(q, e))
        return err_set(err, E_FORMAT, "event %d of request %llu breaks the order of events",
                       (int)e->type, (unsigned long long)e->request_id);
    if (e->type == GEN_EVENT_DONE || e->type == GEN_EVENT_FAILED)
        run_request_end(r, q, e);
    else
        q->fn(q->ctx, e);
    return 0;
}
