/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the runner: where they are kept, what order their events must have, and how they end.
 * Loop thread.
 *
 * A worker is hostile: an event that breaks the order is a violation, and nothing of it reaches a
 * client. */
#include <time.h>

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
    m->n_taken += q->kind == RUN_GENERATE;
    m->last_used_unix = (int64_t)time(NULL);
    m->queued_bytes += q->payload.len;
    m->idle_since_ms = loop_now_ms();
    if (q->kind != RUN_LOAD)
        m->is_only_loaded = false;
    if (q->has_keep_alive) {
        m->has_keep_alive = true;
        m->keep_alive_s = q->keep_alive_s;
    }
    idle_update(m);
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
    m->n_sent -= q->is_sent;
    m->n_started -= q->is_started;
    m->queued_bytes -= q->payload.len;
    m->idle_since_ms = loop_now_ms();
    idle_update(m);
}

void run_request_free(struct run_request *q)
{
    loop_timer_cancel(&q->deadline);
    buf_release(&q->payload);
    mem_free(q);
}

/* Passes e on; of a request that speaks of tokens only the last event means anything. */
static void run_request_tell(struct run_request *q, const struct gen_event *e)
{
    const struct worker *w = q->model->worker;
    if (q->is_muted)
        return;
    if (q->kind == RUN_GENERATE && (e->type == GEN_EVENT_STARTED || e->type == GEN_EVENT_DONE)) {
        struct gen_event named = *e;
        named.model_digest = w ? w->digest : "";
        named.fingerprint = w ? w->loaded.fingerprint : "";
        q->fn(q->ctx, &named);
    } else if (q->fn) {
        q->fn(q->ctx, e);
    } else if (e->type == GEN_EVENT_FAILED || e->type == GEN_EVENT_DONE) {
        struct run_tokens answer = {.err = ERR_INIT};
        if (e->type == GEN_EVENT_FAILED)
            err_set(&answer.err, (enum err_code)e->code, "%.*s", STR_ARG(e->message));
        else
            err_set(&answer.err, E_CANCELED, "the request was canceled");
        q->tokens_fn(q->ctx, &answer);
    }
}

static void count_done(struct run_request *q, const struct gen_event *e)
{
    struct model *m = q->model;
    if (q->kind != RUN_GENERATE || e->type != GEN_EVENT_DONE)
        return;
    m->n_prompt_tokens += e->n_prompt;
    m->n_cached_tokens += e->n_cached;
    m->n_generated_tokens += e->n_generated;
}

void run_request_end(struct runner *r, struct run_request *q, const struct gen_event *e)
{
    run_request_unlink(r, q);
    supervise_request_over(q->model, q->id);
    count_done(q, e);
    run_request_tell(q, e);
    run_request_free(q);
}

static struct gen_event failed_event(const struct run_request *q, const struct err *why)
{
    return (struct gen_event){.type = GEN_EVENT_FAILED,
                              .request_id = q->id,
                              .code = why->code,
                              .message = str_from(why->msg),
                              .stop_index = -1};
}

void run_request_end_failed(struct runner *r, struct run_request *q, const struct err *why)
{
    struct gen_event e = failed_event(q, why);
    run_request_end(r, q, &e);
}

void run_request_end_canceled(struct runner *r, struct run_request *q)
{
    struct gen_event e = {
        .type = GEN_EVENT_DONE, .request_id = q->id, .finish = GEN_FINISH_CANCEL, .stop_index = -1};
    run_request_end(r, q, &e);
}

/* The client is told at once; what the worker has of it is canceled. */
static void on_deadline(void *ctx)
{
    struct run_request *q = ctx;
    struct model *m = q->model;
    struct err why = ERR_INIT;
    err_set(&why, E_TIMEOUT, "the request was not answered within %g seconds, its time limit",
            (double)q->deadline_ms / 1000.0);
    if (!q->is_sent) {
        run_request_end_failed(m->runner, q, &why);
        return;
    }
    struct gen_event e = failed_event(q, &why);
    run_request_tell(q, &e);
    q->is_muted = true;
    if (!q->is_canceled && m->worker)
        worker_cancel(m->worker, q->id);
    q->is_canceled = true;
}

void run_request_set_deadline(struct runner *r, struct run_request *q)
{
    if (q->deadline_ms == 0)
        return;
    q->deadline = (struct loop_timer){.fn = on_deadline, .ctx = q};
    loop_timer_set(r->loop, &q->deadline, q->deadline_ms);
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
        q->model->n_started++;
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
    case GEN_EVENT_PROGRESS: return false;
    }
    return false;
}

int run_request_take_event(struct runner *r, const struct gen_event *e, struct err *err)
{
    struct run_request *q = run_request_find(r, e->request_id);
    if (!q || !q->is_sent || (q->kind != RUN_GENERATE && e->type != GEN_EVENT_FAILED))
        return err_set(err, E_FORMAT, "event for request %llu, which it does not have",
                       (unsigned long long)e->request_id);
    if (!event_fits(q, e))
        return err_set(err, E_FORMAT, "event %d of request %llu breaks the order of events",
                       (int)e->type, (unsigned long long)e->request_id);
    if (e->type != GEN_EVENT_DONE && e->type != GEN_EVENT_FAILED) {
        run_request_tell(q, e);
        return 0;
    }
    struct model *m = q->model;
    if (e->finish != GEN_FINISH_CANCEL)
        supervise_worked(m); /* an answer or a reason: it lives */
    run_request_end(r, q, e);
    if (m->worker)
        model_serve(r, m); /* there is room for another */
    return 0;
}

int run_request_take_tokens(struct runner *r, uint64_t id, enum run_kind kind,
                            struct run_tokens *answer, struct err *err)
{
    struct run_request *q = run_request_find(r, id);
    if (!q || !q->is_sent || q->kind != kind)
        return err_set(err, E_FORMAT, "answer to request %llu, which did not ask for it",
                       (unsigned long long)id);
    struct model *m = q->model;
    supervise_worked(m);
    run_request_unlink(r, q);
    if (!q->is_muted)
        q->tokens_fn(q->ctx, answer);
    run_request_free(q);
    if (m->worker)
        model_serve(r, m);
    return 0;
}
