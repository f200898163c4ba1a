/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of a worker: their life, their queues, the table by id, and how they end.  See serve.h.
 */

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "worker/serve/serve.h"

double serve_now_ms(void)
{
    return (double)clock_ns() / 1e6;
}

struct job *job_new(uint64_t id, enum job_kind kind)
{
    struct job *r = mem_alloc(sizeof(*r));
    r->id = id;
    r->kind = kind;
    r->arrived_ms = serve_now_ms();
    gen_request_init(&r->gen);
    arena_init(&r->arena, LIMIT_MSG_BYTES);
    token_vec_init(&r->prompt, LIMIT_MODEL_CONTEXT);
    return r;
}

void job_free(struct job *r)
{
    for (uint32_t i = 0; i < r->n_answers; i++)
        answer_release(&r->answers[i]);
    mem_free(r->answers);
    stop_set_release(&r->stops);
    token_vec_release(&r->prompt);
    gen_request_release(&r->gen);
    arena_release(&r->arena);
    mem_free(r);
}

void job_queue_init(struct job_queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

void job_queue_push(struct job_queue *q, struct job *r)
{
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}

struct job *job_queue_pop(struct job_queue *q)
{
    struct job *r = q->first;
    if (r) {
        q->first = r->next;
        if (!q->first)
            q->last = &q->first;
    }
    return r;
}

struct job *jobs_find(const struct serve *s, uint64_t id)
{
    struct job *r = s->buckets[id % SERVE_BUCKETS];
    while (r && r->id != id)
        r = r->next_in_bucket;
    return r;
}

void jobs_add(struct serve *s, struct job *r)
{
    struct job **bucket = &s->buckets[r->id % SERVE_BUCKETS];
    r->next_in_bucket = *bucket;
    *bucket = r;
    s->n_requests++;
    s->queued_bytes += r->n_bytes;
}

void jobs_remove(struct serve *s, struct job *r)
{
    struct job **at = &s->buckets[r->id % SERVE_BUCKETS];
    while (*at && *at != r)
        at = &(*at)->next_in_bucket;
    BUG_ON(!*at);
    *at = r->next_in_bucket;
    s->n_requests--;
    s->queued_bytes -= r->n_bytes;
}

static void job_remove(struct serve *s, struct job *r)
{
    pthread_mutex_lock(&s->lock);
    jobs_remove(s, r);
    pthread_mutex_unlock(&s->lock);
    job_free(r);
}

int job_fail(struct serve *s, struct job *r, const struct err *why, struct err *err)
{
    struct gen_event e = {.type = GEN_EVENT_FAILED,
                          .request_id = r->id,
                          .code = why->code,
                          .message = str_from(why->msg)};
    int rc = outbox_put_event(&s->out, &e, true, err);
    job_remove(s, r); /* after: the message may be r's own */
    return rc;
}

int job_done(struct serve *s, struct job *r, enum gen_finish finish, struct err *err)
{
    double now = serve_now_ms();
    double started = r->started_ms ? r->started_ms : now;
    double first = r->first_token_ms ? r->first_token_ms : now;
    struct gen_event e = {
        .type = GEN_EVENT_DONE,
        .request_id = r->id,
        .finish = finish,
        .n_prompt = r->n_prompt,
        .n_cached = r->n_cached,
        .n_generated = r->n_generated,
        .queue_ms = MAX_OF(started - r->arrived_ms, 0.0),
        .prefill_ms = MAX_OF(first - started, 0.0),
        .decode_ms = MAX_OF(now - first, 0.0),
    };
    int rc = outbox_put_event(&s->out, &e, true, err);
    job_remove(s, r); /* after: the message may be r's own */
    return rc;
}
