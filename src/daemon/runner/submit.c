/* SPDX-License-Identifier: Apache-2.0 */
/* The part of runner.h that takes requests: checked and encoded on the caller's thread, put into
 * the model's queue on the loop thread. */
#include <sys/random.h>

#include "daemon/runner/internal.h"
#include "lib/base/mem.h"

static int do_enqueue(struct runner *r, struct model *m, void *args, struct err *err)
{
    struct run_request *q = args;
    /* Those that run at once do not wait, though they may not have begun yet. */
    uint64_t max = (uint64_t)r->cfg.max_waiting + model_max_seqs(m);
    if (m->n_requests >= max || q->payload.len > LIMIT_REQUESTS_QUEUED_BYTES - m->queued_bytes)
        return err_set(err, E_BUSY,
                       "model %s has %u requests running and %u waiting, as many as may "
                       "(max-waiting %u); try again later",
                       m->file.name, m->n_started, m->n_requests - m->n_started,
                       r->cfg.max_waiting);
    int rc = model_can_load(m, err);
    if (rc == 0)
        rc = supervise_admit(m, q, err);
    if (rc < 0)
        return rc;
    run_request_add(r, m, q);
    run_request_set_deadline(r, q);
    model_serve(r, m);
    return 0;
}

static int enqueue(struct runner *r, const char *model, struct run_request *q, struct err *err)
{
    int rc = runner_call_with_model(r, model, do_enqueue, q, err);
    if (rc < 0)
        run_request_free(q);
    return rc;
}

static struct run_request *run_request_new(struct runner *r, enum run_kind kind, void *ctx,
                                           const struct run_options *opt)
{
    struct run_request *q = mem_alloc(sizeof(*q));
    q->id = atomic_fetch_add(&r->next_id, 1);
    q->kind = kind;
    q->ctx = ctx;
    if (opt) {
        q->has_keep_alive = opt->has_keep_alive;
        q->keep_alive_s = opt->keep_alive_s;
        q->deadline_ms = opt->deadline_ms;
    }
    buf_init(&q->payload, LIMIT_MSG_BYTES);
    return q;
}

/* A seed that clients can be shown: JSON numbers are exact up to 2^53. */
static int seed_draw(uint64_t *ret, struct err *err)
{
    if (getrandom(ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
        return err_set_sys(err, E_IO, "no random seed could be drawn");
    *ret &= (1ull << 53) - 1;
    return 0;
}

static int generate_prepare(struct gen_request *req, struct run_request *q, struct err *err)
{
    int rc = gen_request_check(req, err);
    if (rc == 0 && !req->params.has_seed) {
        rc = seed_draw(&req->params.seed, err);
        req->params.has_seed = rc == 0;
    }
    if (rc == 0)
        rc = msg_generate_encode(&q->payload, q->id, req, err);
    q->n_choices = q->n_open = req->params.n;
    q->n_stops = req->n_stops;
    return rc;
}

int runner_generate(struct runner *r, const char *model, struct gen_request *req,
                    const struct run_options *opt, runner_event_fn fn, void *ctx, uint64_t *ret_id,
                    struct err *err)
{
    struct run_request *q = run_request_new(r, RUN_GENERATE, ctx, opt);
    q->fn = fn;
    int rc = generate_prepare(req, q, err);
    gen_request_release(req);
    if (rc < 0) {
        run_request_free(q);
        return rc;
    }
    *ret_id = q->id; /* before: events may come before enqueue returns */
    return enqueue(r, model, q, err);
}

int runner_load(struct runner *r, const char *model, const struct run_options *opt,
                runner_event_fn fn, void *ctx, struct err *err)
{
    struct run_request *q = run_request_new(r, RUN_LOAD, ctx, opt);
    q->fn = fn;
    return enqueue(r, model, q, err);
}

int runner_tokenize(struct runner *r, const char *model, struct str text, bool special,
                    bool parse_special, runner_tokens_fn fn, void *ctx, struct err *err)
{
    if (text.len > LIMIT_TEXT_BYTES)
        return err_set(err, E_LIMIT, "the text has %zu bytes, more than %u", text.len,
                       LIMIT_TEXT_BYTES);
    struct run_request *q = run_request_new(r, RUN_TOKENIZE, ctx, NULL);
    q->tokens_fn = fn;
    put_u64(&q->payload, q->id);
    put_u32(&q->payload, (special ? MSG_TOKENIZE_ADD_SPECIAL : 0u) |
                             (parse_special ? MSG_TOKENIZE_PARSE_SPECIAL : 0u));
    put_str(&q->payload, text);
    int rc = buf_status(&q->payload, "message TOKENIZE", err);
    if (rc < 0) {
        run_request_free(q);
        return rc;
    }
    return enqueue(r, model, q, err);
}

int runner_detokenize(struct runner *r, const char *model, const int32_t *tokens, uint32_t n_tokens,
                      runner_tokens_fn fn, void *ctx, struct err *err)
{
    if (n_tokens > LIMIT_MODEL_CONTEXT)
        return err_set(err, E_LIMIT, "%u tokens are more than %u", n_tokens, LIMIT_MODEL_CONTEXT);
    struct run_request *q = run_request_new(r, RUN_DETOKENIZE, ctx, NULL);
    q->tokens_fn = fn;
    put_u64(&q->payload, q->id);
    put_u32(&q->payload, n_tokens);
    buf_append(&q->payload, tokens, (size_t)n_tokens * sizeof(*tokens));
    int rc = buf_status(&q->payload, "message DETOKENIZE", err);
    if (rc < 0) {
        run_request_free(q);
        return rc;
    }
    return enqueue(r, model, q, err);
}

struct cancel {
    struct loop_task task;
    struct runner *r;
    uint64_t id;
};

static void do_cancel(void *ctx)
{
    struct cancel *c = ctx;
    struct run_request *q = run_request_find(c->r, c->id);
    if (q && !q->is_canceled) {
        q->is_canceled = true;
        if (!q->is_sent)
            run_request_end_canceled(c->r, q);
        else if (q->model->worker)
            worker_cancel(q->model->worker, q->id);
    }
    mem_free(c);
}

/* Never waits: a callback may be waiting for a lock that the caller holds. */
void runner_cancel(struct runner *r, uint64_t id)
{
    struct cancel *c = mem_alloc(sizeof(*c));
    *c = (struct cancel){.task = {.fn = do_cancel, .ctx = c}, .r = r, .id = id};
    loop_post(r->loop, &c->task);
}
