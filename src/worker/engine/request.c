/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: checked and copied in, ended, freed.  Part of sched.h; one thread. */
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/engine/sched_impl.h"

/* ---- checks ---- */

static int check_tokens(const struct sched *s, const int32_t *tokens, uint32_t n, const char *what,
                        struct err *err)
{
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= s->n_vocab)
            return err_set(err, E_INVALID, "%s %u is %d; the model's tokens go from 0 to %u", what,
                           i, tokens[i], s->n_vocab - 1);
    return 0;
}

static const struct request *find(const struct sched *s, uint64_t id)
{
    for (const struct request *r = s->requests; r; r = r->next)
        if (r->id == id && r->n_live)
            return r;
    return NULL;
}

/* How long the answer of one choice may become. */
static uint32_t answer_limit(const struct sched *s, const struct engine_request *r)
{
    return r->params.max_tokens ? r->params.max_tokens : s->n_ctx - r->n_prompt;
}

static int check_request(const struct sched *s, const struct engine_request *r, struct err *err)
{
    const struct gen_params *p = &r->params;
    if (r->n_prompt == 0)
        return err_set(err, E_INVALID, "the prompt has no tokens; at least 1 is needed");
    if (r->n_prompt >= s->n_ctx)
        return err_set(
            err, E_CONTEXT,
            "the prompt has %u tokens and the context %u; with room for at least one "
            "token of the answer a prompt can have %u: shorten it or the conversation, or "
            "declare a larger one: `berth configure MODEL --context-size N`",
            r->n_prompt, s->n_ctx, s->n_ctx - 1);
    if (p->max_tokens > s->n_ctx - r->n_prompt)
        return err_set(err, E_CONTEXT,
                       "the prompt has %u tokens and max_tokens is %u, %llu together; the context "
                       "has %u: lower max_tokens, leave it away for an answer up to the context's "
                       "end, or declare a larger one: `berth configure MODEL --context-size N`",
                       r->n_prompt, p->max_tokens, (unsigned long long)r->n_prompt + p->max_tokens,
                       s->n_ctx);
    if (p->n < 1 || p->n > LIMIT_REQUEST_CHOICES)
        return err_set(err, E_INVALID, "n is %u; 1 to %u choices are possible", p->n,
                       LIMIT_REQUEST_CHOICES);
    if (p->top_logprobs > LIMIT_REQUEST_TOP_LOGPROBS)
        return err_set(err, E_INVALID, "top_logprobs is %u; at most %u are given", p->top_logprobs,
                       LIMIT_REQUEST_TOP_LOGPROBS);
    if (!(p->temperature >= 0) || !(p->top_p > 0) || !(p->repetition_penalty > 0))
        return err_set(
            err, E_INVALID,
            "temperature must be at least 0, top_p and repetition_penalty must be above 0");
    if (r->n_logit_bias > LIMIT_REQUEST_LOGIT_BIAS)
        return err_set(err, E_INVALID, "logit_bias has %u entries; at most %u are possible",
                       r->n_logit_bias, LIMIT_REQUEST_LOGIT_BIAS);
    for (uint32_t i = 0; i < r->n_logit_bias; i++) {
        int rc = check_tokens(s, &r->logit_bias[i].token, 1, "logit_bias token", err);
        if (rc)
            return rc;
    }
    const uint32_t want = kv_blocks_for(s->kv, r->n_prompt + answer_limit(s, r));
    if (want > s->kv->n_blocks)
        return err_set(err, E_LIMIT,
                       "the request needs %u cache blocks of %u tokens and there are %u in all; "
                       "shorten it, lower "
                       "max_tokens or load the model with a larger kv-cache",
                       want, s->kv->block_len, s->kv->n_blocks);
    if (find(s, r->id))
        return err_set(err, E_EXISTS, "a request with id %llu is running",
                       (unsigned long long)r->id);
    if (s->n_requests_waiting >= LIMIT_REQUESTS_QUEUED)
        return err_set(err, E_BUSY, "%u requests are waiting already; try again later",
                       s->n_requests_waiting);
    return check_tokens(s, r->prompt, r->n_prompt, "prompt token", err);
}

/* ---- life ---- */

static void *copy_array(const void *src, size_t n, size_t item_bytes, struct err *err)
{
    void *p = mem_try_alloc(n, item_bytes, err);
    if (p && n)
        memcpy(p, src, n * item_bytes);
    return p;
}

static int init_seqs(struct request *r, uint32_t cap_answer, struct err *err)
{
    r->seqs = mem_try_alloc(r->params.n, sizeof *r->seqs, err);
    for (uint32_t i = 0; r->seqs && i < r->params.n; i++) {
        struct seq *q = &r->seqs[i];
        q->req = r;
        q->choice = i;
        q->cap_answer = cap_answer;
        q->answer = mem_try_alloc(cap_answer, sizeof *q->answer, err);
        if (!q->answer)
            return -err->code;
    }
    return r->seqs ? 0 : -err->code;
}

void request_free(struct request *r)
{
    for (uint32_t i = 0; r->seqs && i < r->params.n; i++)
        mem_free(r->seqs[i].answer);
    mem_free(r->seqs);
    mem_free(r->prompt);
    mem_free(r->stop_tokens);
    mem_free(r->bias);
    mem_free(r);
}

int sched_submit(struct sched *s, const struct engine_request *in, struct err *err)
{
    int rc = check_request(s, in, err);
    if (rc)
        return rc;
    struct request *r = mem_try_alloc(1, sizeof *r, err);
    if (!r)
        return -err->code;
    *r = (struct request){.id = in->id,
                          .params = in->params,
                          .n_prompt = in->n_prompt,
                          .eog = in->eog,
                          .n_eog = in->n_eog,
                          .n_stop_tokens = in->n_stop_tokens,
                          .n_bias = in->n_logit_bias,
                          .cache_salt = in->cache_salt,
                          .n_live = in->params.n};
    r->prompt = copy_array(in->prompt, in->n_prompt, sizeof *in->prompt, err);
    r->stop_tokens =
        r->prompt ? copy_array(in->stop_tokens, in->n_stop_tokens, sizeof *in->stop_tokens, err)
                  : NULL;
    r->bias = r->stop_tokens
                  ? copy_array(in->logit_bias, in->n_logit_bias, sizeof *in->logit_bias, err)
                  : NULL;
    rc = r->bias ? init_seqs(r, answer_limit(s, in), err) : -err->code;
    if (rc) {
        request_free(r);
        return rc;
    }
    r->arrival = s->n_arrivals++;
    r->next = s->requests;
    if (s->requests)
        s->requests->prev = r;
    s->requests = r;
    s->n_requests++;
    s->n_requests_waiting++;
    for (uint32_t i = 0; i < r->params.n; i++)
        seq_list_insert(&s->waiting, &r->seqs[i]);
    return 0;
}

void sched_end_seq(struct sched *s, struct seq *q)
{
    if (q->state == SEQ_DONE)
        return;
    if (q->state == SEQ_RUNNING)
        seq_stop_running(s, q);
    else
        seq_list_remove(&s->waiting, q);
    q->state = SEQ_DONE;
    struct request *r = q->req;
    if (--r->n_live == 0 && !r->started)
        s->n_requests_waiting--;
}

void sched_end_request(struct sched *s, uint64_t id)
{
    const struct request *r = find(s, id);
    for (uint32_t i = 0; r && i < r->params.n; i++)
        sched_end_seq(s, &r->seqs[i]);
}

void sched_end_choice(struct sched *s, uint64_t id, uint32_t choice)
{
    const struct request *r = find(s, id);
    if (r && choice < r->params.n)
        sched_end_seq(s, &r->seqs[choice]);
}

void sched_reap(struct sched *s)
{
    for (struct request *r = s->requests, *next; r; r = next) {
        next = r->next;
        if (r->n_live)
            continue;
        *(r->prev ? &r->prev->next : &s->requests) = r->next;
        if (r->next)
            r->next->prev = r->prev;
        s->n_requests--;
        request_free(r);
    }
}
