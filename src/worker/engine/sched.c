/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sched.h: admission, batches, preemption.  Requests' lives are in request.c. */
#include "worker/engine/sched.h"

#include "lib/base/mem.h"
#include "worker/engine/sched_impl.h"
#include "worker/engine/speculate.h"

/* Guesses of one choice before it is judged by them. */
#define TRIAL_DRAFTS 32u
/* Of what a step takes of long prompts beside answers: products of fewer rows waste too much. */
#define MIN_SLICE  32u
#define SLICE_STEP 16u

/* ---- lists ordered by priority, then arrival ---- */

static bool is_before(const struct seq *a, const struct seq *b)
{
    const struct request *r = a->req, *o = b->req;
    if (r->params.priority != o->params.priority)
        return r->params.priority < o->params.priority;
    return r->arrival != o->arrival ? r->arrival < o->arrival : a->choice < b->choice;
}

void seq_list_insert(struct seq_list *l, struct seq *q)
{
    struct seq *after = l->last; /* new ones go to the end: usually no step */
    while (after && is_before(q, after))
        after = after->prev;
    q->prev = after;
    q->next = after ? after->next : l->first;
    *(q->next ? &q->next->prev : &l->last) = q;
    *(after ? &after->next : &l->first) = q;
    l->n++;
}

void seq_list_remove(struct seq_list *l, struct seq *q)
{
    *(q->prev ? &q->prev->next : &l->first) = q->next;
    *(q->next ? &q->next->prev : &l->last) = q->prev;
    q->next = q->prev = NULL;
    l->n--;
}

/* ---- running and waiting ---- */

static uint32_t slot_take(struct sched *s)
{
    for (uint32_t i = 0; i < s->max_seqs; i++)
        if (!s->slot_used[i]) {
            s->slot_used[i] = true;
            return i;
        }
    BUG_ON(true);
}

void seq_stop_running(struct sched *s, struct seq *q)
{
    kv_clear(s->kv, q->slot);
    if (s->draft_kv)
        kv_clear(s->draft_kv, q->slot);
    s->slot_used[q->slot] = false;
    seq_list_remove(&s->running, q);
    q->n_cached = q->n_batch = q->n_draft = 0;
    q->n_guess = q->n_mirrored = q->n_fed = 0;
}

static void preempt(struct sched *s, struct seq *q)
{
    s->batch.n_tok -= q->n_batch;
    seq_stop_running(s, q);
    q->state = SEQ_WAITING;
    seq_list_insert(&s->waiting, q);
    s->n_preemptions++;
}

/* Blocks for q's next n_batch positions; younger sequences make room.  What q writes is its own
 * since admission. */
static bool make_room(struct sched *s, struct seq *q, uint32_t n_batch)
{
    BUG_ON(kv_own_cost(s->kv, q->slot, q->n_cached, q->n_cached + n_batch) != 0);
    while (!kv_try_grow(s->kv, q->slot, q->n_cached + n_batch)) {
        struct seq *victim = s->running.last;
        if (victim == q)
            return false;
        preempt(s, victim);
    }
    return true;
}

/* A sibling that runs and has the prompt up to its last token in the cache; *ret_soon: one that is
 * on its way. */
static const struct seq *find_prompt_holder(const struct seq *q, bool *ret_soon)
{
    const struct request *r = q->req;
    *ret_soon = false;
    for (uint32_t i = 0; i < r->params.n; i++) {
        const struct seq *o = &r->seqs[i];
        if (o == q || o->state != SEQ_RUNNING)
            continue;
        if (o->n_cached + 1 >= r->n_prompt)
            return o;
        *ret_soon = true;
    }
    return NULL;
}

/* Gives q's slot what the cache has of q: a sibling's prompt, or what an earlier text began with.
 * Returns for how many positions; never all, since the last one is computed for its logits. */
static uint32_t share(struct sched *s, struct seq *q, const struct seq *holder)
{
    if (holder) {
        kv_share(s->kv, holder->slot, q->slot, q->req->n_prompt - 1);
        return q->req->n_prompt - 1;
    }
    const struct kv_tokens t = seq_tokens(q);
    return s->kv->block_len * kv_attach(s->kv, q->slot, q->req->cache_salt, &t,
                                        (seq_n_tokens(q) - 1) / s->kv->block_len);
}

enum admission { ADMITTED, ADMIT_LATER, ADMIT_BLOCKED };

static enum admission give_back(struct sched *s, const struct seq *q, enum admission why)
{
    kv_clear(s->kv, q->slot);
    s->slot_used[q->slot] = false;
    return why;
}

/* Takes a slot and blocks for all that q has so far.  One block more is left for the others' next
 * steps. */
static enum admission try_admit(struct sched *s, struct seq *q)
{
    bool soon;
    const struct seq *holder = find_prompt_holder(q, &soon);
    if (!holder && soon)
        return ADMIT_LATER;
    q->slot = slot_take(s);
    const uint32_t shared = share(s, q, holder);
    q->is_long = seq_n_tokens(q) - shared > ENGINE_PROMPT_BESIDE;
    if (s->n_left[q->is_long] == 0)
        return give_back(s, q, ADMIT_LATER);
    const uint32_t want = kv_blocks_for(s->kv, seq_n_tokens(q)),
                   have = kv_blocks_for(s->kv, shared);
    const uint32_t copied =
        shared % s->kv->block_len != 0; /* the block that the last position writes into */
    if (want - have + copied + (s->running.n != 0) > kv_n_free(s->kv))
        return give_back(s, q, ADMIT_BLOCKED);
    seq_list_remove(&s->waiting, q);
    q->state = SEQ_RUNNING;
    seq_list_insert(&s->running, q);
    q->n_cached = shared;
    if (!q->req->started && !holder)
        q->req->n_reused = shared;
    bool ok = kv_try_own(s->kv, q->slot, shared, have * s->kv->block_len) &&
              kv_try_grow(s->kv, q->slot, seq_n_tokens(q));
    BUG_ON(!ok);
    return ADMITTED;
}

/* Of a prompt, how many tokens the batch may still take. */
static uint32_t n_to_take(const struct sched *s, const struct seq *q)
{
    return MIN_OF(MIN_OF(seq_n_tokens(q) - q->n_cached, s->max_tok - s->batch.n_tok),
                  s->n_left[q->is_long]);
}

static void take(struct sched *s, struct seq *q, uint32_t n)
{
    q->n_batch = n;
    s->batch.n_tok += n;
    s->n_left[q->is_long] -= n;
}

static void admit(struct sched *s)
{
    struct seq *next;
    for (struct seq *q = s->waiting.first;
         q && s->batch.n_tok < s->max_tok && s->running.n < s->max_seqs; q = next) {
        if (s->n_left[false] + s->n_left[true] == 0)
            return;
        next = q->next;
        switch (try_admit(s, q)) {
        case ADMIT_BLOCKED: return;
        case ADMIT_LATER: continue;
        case ADMITTED: take(s, q, n_to_take(s, q));
        }
    }
}

/* ---- the batch ---- */

static int32_t token_at(const struct seq *q, uint32_t pos)
{
    return pos < seq_n_tokens(q) ? seq_token_at(q, pos) : q->draft[pos - seq_n_tokens(q)];
}

static void lay_out(struct sched *s)
{
    struct batch *b = &s->batch;
    uint32_t n = 0;
    b->n_out = s->n_out_seqs = 0;
    for (struct seq *q = s->running.first; q; q = q->next) {
        q->out_row = UINT32_MAX;
        for (uint32_t i = 0; i < q->n_batch; i++, n++) {
            const uint32_t pos = q->n_cached + i;
            s->tokens[n] = token_at(q, pos);
            s->pos[n] = pos;
            s->slots[n] = q->slot;
        }
        if (q->n_batch && q->n_cached + q->n_batch - q->n_draft == seq_n_tokens(q)) {
            s->out_seqs[s->n_out_seqs++] = q;
            q->out_row = b->n_out;
            for (uint32_t i = 0; i <= q->n_draft; i++)
                s->out[b->n_out++] = n - 1 - q->n_draft + i;
        }
    }
    BUG_ON(n != b->n_tok);
}

bool sched_gave_up_guessing(const struct sched *s, const struct seq *q)
{
    return q->n_drafted >= TRIAL_DRAFTS &&
           (float)q->n_accepted < s->min_acceptance * (float)q->n_drafted;
}

uint32_t sched_guesses_wanted(const struct sched *s, const struct seq *q, uint32_t n)
{
    if (seq_n_tokens(q) - q->n_cached != 1 || sched_gave_up_guessing(s, q))
        return 0;
    n = MIN_OF(MIN_OF(n, s->n_speculate), q->cap_answer - q->n_answer - 1);
    /* They take no block that another may need in the next step. */
    const uint32_t want = kv_blocks_for(s->kv, seq_n_tokens(q) + n),
                   have = s->kv->seqs[q->slot].n_blocks;
    return want > have && kv_n_free(s->kv) < s->running.n + want - have ? 0 : n;
}

/* Guesses for the decodes of the batch, the oldest first. */
static void add_drafts(struct sched *s)
{
    struct batch *b = &s->batch;
    uint32_t rows = s->max_draft_rows;
    for (struct seq *q = s->running.first; q && s->n_speculate; q = q->next) {
        const struct kv_tokens t = seq_tokens(q);
        if (q->n_batch != 1)
            continue;
        uint32_t n = sched_guesses_wanted(s, q, MIN_OF(rows, s->max_tok - b->n_tok));
        if (s->draft_kv)
            n = MIN_OF(n, q->n_guess);
        else if (n)
            n = speculate(&t, q->n_answer, n, q->draft);
        if (n == 0 || !kv_try_grow(s->kv, q->slot, q->n_cached + 1 + n))
            continue;
        q->n_draft = n;
        q->n_batch += n;
        b->n_tok += n;
        rows -= n;
    }
}

static void take_answers(struct sched *s)
{
    s->n_answering = 0;
    for (struct seq *q = s->running.first; q && s->batch.n_tok < s->max_tok; q = q->next) {
        if (seq_n_tokens(q) - q->n_cached != 1)
            continue;
        if (!make_room(s, q, 1)) /* older ones hold the blocks: they go on, and give them back */
            continue;
        q->n_batch = 1;
        s->batch.n_tok++;
        s->n_answering++;
    }
}

static void take_prompts(struct sched *s)
{
    for (struct seq *q = s->running.first; q && s->batch.n_tok < s->max_tok; q = q->next) {
        const uint32_t n = seq_n_tokens(q) - q->n_cached > 1 ? n_to_take(s, q) : 0;
        if (n && make_room(s, q, n))
            take(s, q, n);
    }
}

/* What the batch may take of prompts.  Beside answers as much of long ones as their pace allows,
 * for each prompt that waits: one does not slow answers down, of many the last should not wait
 * long. */
static void share_out(struct sched *s)
{
    const uint32_t n_prompts = s->running.n + s->waiting.n - s->n_answering;
    if (s->n_answering) {
        s->n_left[false] = ENGINE_PROMPT_BESIDE;
        s->n_left[true] = MIN_OF(s->slice * MAX_OF(n_prompts, 1u), ENGINE_PROMPT_BESIDE);
        return;
    }
    s->n_left[false] = s->n_left[true] = s->max_tok;
    if (n_prompts > 1) /* the others may be short */
        s->n_left[true] -= MIN_OF(ENGINE_PROMPT_BESIDE, s->max_tok / 2);
}

void sched_build(struct sched *s)
{
    struct batch *b = &s->batch;
    b->n_tok = 0;
    for (struct seq *q = s->running.first; q; q = q->next)
        q->n_batch = q->n_draft = q->n_taken = 0;
    take_answers(s);
    share_out(s);
    add_drafts(s);
    const uint32_t n_answers = b->n_tok;
    take_prompts(s);
    admit(s);
    s->n_of_prompts = b->n_tok - MIN_OF(b->n_tok, n_answers);
    lay_out(s);
}

void sched_took(struct sched *s, uint64_t ns)
{
    if (s->n_of_prompts < s->slice)
        return;
    const uint64_t n = s->n_of_prompts * s->pace_ns / MAX_OF(ns, 1u);
    s->slice = (uint32_t)MIN_OF(MAX_OF(n / SLICE_STEP * SLICE_STEP, MIN_SLICE),
                                (uint64_t)ENGINE_PROMPT_BESIDE);
}

void sched_commit(struct sched *s)
{
    for (struct seq *q = s->running.first; q; q = q->next) {
        const struct kv_tokens t = seq_tokens(q);
        q->n_cached += q->n_batch - q->n_draft + q->n_taken;
        q->n_drafted += q->n_draft;
        q->n_accepted += q->n_taken;
        s->n_drafted += q->n_draft;
        s->n_accepted += q->n_taken;
        kv_publish(s->kv, q->slot, &t, q->n_cached);
    }
}

struct sampler_input sched_sampler_input(const struct seq *q, const float *logits,
                                         uint32_t n_answer)
{
    const struct request *r = q->req;
    return (struct sampler_input){.logits = logits,
                                  .params = &r->params,
                                  .choice = q->choice,
                                  .prompt = r->prompt,
                                  .n_prompt = r->n_prompt,
                                  .answer = q->answer,
                                  .n_answer = n_answer,
                                  .eog = r->eog,
                                  .n_eog = r->n_eog,
                                  .stop_tokens = r->stop_tokens,
                                  .n_stop_tokens = r->n_stop_tokens,
                                  .bias = r->bias,
                                  .n_bias = r->n_bias};
}

/* ---- memory ---- */

uint64_t sched_bytes(uint32_t max_seqs, uint32_t max_tok)
{
    return (uint64_t)max_seqs * (sizeof(bool) + sizeof(struct seq *)) +
           (uint64_t)max_tok * 4 * sizeof(uint32_t);
}

int sched_init(struct sched *s, struct kv *kv, uint32_t n_ctx, uint32_t n_vocab, uint32_t max_seqs,
               uint32_t max_tok, struct err *err)
{
    *s = (struct sched){.kv = kv,
                        .n_ctx = n_ctx,
                        .n_vocab = n_vocab,
                        .max_seqs = max_seqs,
                        .max_tok = max_tok,
                        .slice = ENGINE_PROMPT_BESIDE};
    s->slot_used = mem_try_alloc(max_seqs, sizeof *s->slot_used, err);
    s->out_seqs = s->slot_used ? mem_try_alloc(max_seqs, sizeof *s->out_seqs, err) : NULL;
    s->tokens = s->out_seqs ? mem_try_alloc(max_tok, sizeof *s->tokens, err) : NULL;
    s->pos = s->tokens ? mem_try_alloc(max_tok, sizeof *s->pos, err) : NULL;
    s->slots = s->pos ? mem_try_alloc(max_tok, sizeof *s->slots, err) : NULL;
    s->out = s->slots ? mem_try_alloc(max_tok, sizeof *s->out, err) : NULL;
    if (!s->out) {
        sched_release(s);
        return -err->code;
    }
    s->batch = (struct batch){.tokens = s->tokens, .pos = s->pos, .slots = s->slots, .out = s->out};
    return 0;
}

void sched_release(struct sched *s)
{
    for (struct request *r = s->requests, *next; r; r = next) {
        next = r->next;
        request_free(r);
    }
    mem_free(s->slot_used);
    mem_free(s->out_seqs);
    mem_free(s->tokens);
    mem_free(s->pos);
    mem_free(s->slots);
    mem_free(s->out);
    *s = (struct sched){0};
}
