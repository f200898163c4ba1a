/* SPDX-License-Identifier: Apache-2.0 */
/* Implements draft.h.  A step: every sequence's texts read as far as they are known, in one batch;
 * then one batch a guess, a row for each sequence that wants one more. */
#include "worker/engine/draft.h"

#include <math.h>
#include <string.h>

#include "lib/base/mem.h"

/* What a step weighs in the figures of its way, after the first ones, which weigh the same. */
#define FADE    0.1
#define N_PACES 13u

struct draft {
    struct hparams hp;
    struct weights weights;
    struct prepared prepared;
    struct kv kv;
    struct forward forward;
    struct team *team;        /* borrowed */
    struct sampler *samplers; /* borrowed, [n_threads] */
    uint32_t n_vocab;         /* of the model it guesses for */
    float *padded; /* owned, [n_threads][n_vocab], -infinity at the ends; NULL: it has no fewer */
    uint32_t max_tok;
    uint32_t n_beside; /* tokens of texts that are far behind which this step still takes */
    /* The batch: owned arrays, [max_tok]. */
    struct batch batch;
    int32_t *tokens;
    uint32_t *pos, *slots, *out;
    /* The sequences that want a guess in this round, and how many in all: owned, [max_num_seqs]. */
    struct seq **seqs;
    uint32_t *wants;
    uint32_t n_seqs;
    /* Of this step: */
    bool always, guesses, is_typical;
    uint32_t n_decodes;
    struct pace paces[N_PACES]; /* of 1, 2, 3 and 4, 5 to 8 ... answers at once */
    float *logits;              /* [max_num_seqs][n_vocab], in logits_mem */
    void *logits_mem;           /* owned */
};

/* ---- load ---- */

static int init_arrays(struct draft *d, uint32_t max_seqs, struct err *err)
{
    const uint32_t n = d->max_tok;
    d->tokens = mem_try_alloc(n, sizeof *d->tokens, err);
    d->pos = d->tokens ? mem_try_alloc(n, sizeof *d->pos, err) : NULL;
    d->slots = d->pos ? mem_try_alloc(n, sizeof *d->slots, err) : NULL;
    d->out = d->slots ? mem_try_alloc(n, sizeof *d->out, err) : NULL;
    d->seqs = d->out ? mem_try_alloc(max_seqs, sizeof *d->seqs, err) : NULL;
    d->wants = d->seqs ? mem_try_alloc(max_seqs, sizeof *d->wants, err) : NULL;
    d->logits = d->wants ? mem_try_lazy((size_t)max_seqs * d->hp.n_vocab * sizeof(float),
                                        &d->logits_mem, err)
                         : NULL;
    d->batch = (struct batch){.tokens = d->tokens, .pos = d->pos, .slots = d->slots, .out = d->out};
    return d->logits ? 0 : -err->code;
}

static int load(struct draft *d, const struct engine_plan *p, const struct kern *kern,
                struct err *err)
{
    const struct engine_config *c = &p->config;
    const struct arch *arch;
    struct plan_draft sizes;
    int r = hparams_from_gguf(c->draft, &d->hp, err);
    if (r == 0)
        r = plan_draft(c->draft, &d->hp, d->n_vocab, c, &sizes, err);
    if (r == 0)
        r = arch_find(d->hp.arch, &arch, err);
    if (r == 0)
        r = weights_bind(c->draft, &d->hp, arch, kern, &d->weights, err);
    if (r == 0)
        r = kv_init(&d->kv, &d->hp, c->kv_type, c->block_size, p->n_blocks, c->max_num_seqs,
                    c->n_ctx, err);
    if (r == 0 && !c->no_prefix_cache)
        r = kv_enable_prefixes(&d->kv, err);
    if (r)
        return r;
    d->max_tok = sizes.dims.max_tok;
    r = forward_init(&d->forward, &sizes.dims, &d->weights, kern, d->team, &d->kv, c->n_ctx, err);
    return r ? r : init_arrays(d, c->max_num_seqs, err);
}

static int init_padding(struct draft *d, uint32_t n_threads, struct err *err)
{
    const size_t n = (size_t)n_threads * d->n_vocab;
    if (d->hp.n_vocab >= d->n_vocab)
        return 0;
    d->padded = mem_try_alloc(n, sizeof *d->padded, err);
    for (size_t i = 0; d->padded && i < n; i++)
        d->padded[i] = -INFINITY;
    return d->padded ? 0 : -err->code;
}

int draft_new(const struct engine_plan *p, uint32_t n_vocab, const struct kern *kern,
              struct team *team, struct sampler *samplers, struct draft **ret_draft,
              struct err *err)
{
    struct draft *d = mem_try_alloc(1, sizeof *d, err);
    if (!d)
        return -err->code;
    d->team = team;
    d->samplers = samplers;
    d->n_vocab = n_vocab;
    d->always = p->config.draft_always;
    int r = load(d, p, kern, err);
    if (r == 0)
        r = init_padding(d, p->config.n_threads, err);
    if (r) {
        draft_free(d);
        return err_wrap(err, "the draft model");
    }
    *ret_draft = d;
    return 0;
}

void draft_free(struct draft *d)
{
    if (!d)
        return;
    forward_release(&d->forward);
    kv_release(&d->kv);
    prepared_detach(&d->prepared, &d->weights);
    weights_release(&d->weights);
    hparams_release(&d->hp);
    mem_free(d->tokens);
    mem_free(d->pos);
    mem_free(d->slots);
    mem_free(d->out);
    mem_free(d->seqs);
    mem_free(d->wants);
    mem_free(d->padded);
    mem_free(d->logits_mem);
    mem_free(d);
}

int draft_plan_prepared(struct draft *d, const struct kern *kern, struct err *err)
{
    int r = prepared_plan_make(&d->weights, kern, &d->prepared.plan, err);
    return r ? err_wrap(err, "the draft model") : 0;
}

const struct prepared *draft_prepared(const struct draft *d)
{
    return &d->prepared;
}

int draft_attach_prepared(struct draft *d, const struct kern *kern, int fd, struct err *err)
{
    int r = prepared_attach(&d->prepared, &d->weights, kern, fd, err);
    return r ? err_wrap(err, "the draft model") : 0;
}

struct kv *draft_kv(struct draft *d)
{
    return &d->kv;
}

/* ---- one guess ---- */

static void add_row(struct draft *d, int32_t token, uint32_t pos, uint32_t slot)
{
    const uint32_t n = d->batch.n_tok++;
    d->tokens[n] = (uint32_t)token < d->hp.n_vocab ? token : 0; /* it has no such token */
    d->pos[n] = pos;
    d->slots[n] = slot;
}

/* The guess of one sequence: its answer's next token, if the draft's logits were the model's.  It
 * stands in the answer, too, where penalties look for it, until the true one comes. */
static void run_choose(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct draft *d = ctx;
    struct seq *q = d->seqs[piece];
    const float *logits = d->logits + (size_t)piece * d->hp.n_vocab;
    struct gen_params params = q->req->params;
    struct sampler_result got;
    if (d->padded) { /* tokens that it lacks are none it would say */
        float *row = d->padded + (size_t)thread * d->n_vocab;
        memcpy(row, logits, d->hp.n_vocab * sizeof *row);
        logits = row;
    }
    struct sampler_input in = sched_sampler_input(q, logits, q->n_answer + q->n_guess);
    params.want_logprobs = false;
    in.params = &params;
    if (sampler_run(&d->samplers[thread], &in, &got) != 0)
        got.token = 0;
    q->draft[q->n_guess] = q->answer[in.n_answer] = got.token;
}

/* Computes the batch; every sequence of the round has a row of logits in it and gets a guess. */
static void run_round(struct draft *d)
{
    mem_guard_arm(true);
    forward_run(&d->forward, &d->batch);
    if (d->n_seqs) {
        forward_logits(&d->forward, 0, d->n_seqs, d->logits);
        team_run(d->team, d->n_seqs, run_choose, d);
    }
    mem_guard_arm(false);
    for (uint32_t i = 0; i < d->n_seqs; i++)
        d->seqs[i]->n_guess++;
}

/* ---- whether it pays ---- */

static struct pace *pace_of(struct draft *d)
{
    uint32_t i = 0;
    while (i + 1 < N_PACES && d->n_decodes > 1u << i)
        i++;
    return &d->paces[i];
}

static bool is_tried(const struct pace *p, bool guessed)
{
    return p->n[guessed] >= PACE_TRY_STEPS;
}

/* Which way is faster, as far as is known. */
static bool guesses_pay(const struct pace *p)
{
    return p->tokens[1] * p->ns[0] > p->tokens[0] * p->ns[1];
}

bool pace_choose(const struct pace *p)
{
    if (!is_tried(p, true))
        return true;
    return is_tried(p, false) ? guesses_pay(p) : false;
}

void pace_note(struct pace *p, bool guessed, double ns, double tokens)
{
    const double weight = MAX_OF(FADE, 1.0 / (p->n[guessed] + 1.0));
    const bool is_last_try = is_tried(p, !guessed) && p->n[guessed] + 1 == PACE_TRY_STEPS;
    p->ns[guessed] += weight * (ns - p->ns[guessed]);
    p->tokens[guessed] += weight * (tokens - p->tokens[guessed]);
    p->n[guessed]++;
    if (!is_tried(p, false) || !is_tried(p, true))
        return;
    const bool best = guesses_pay(p);
    if (is_last_try) { /* it lost again, or not */
        p->n_wait = best == guessed ? PACE_WAIT_MIN
                                    : MIN_OF(MAX_OF(p->n_wait * 2, PACE_WAIT_MIN), PACE_WAIT_MAX);
        p->n_left = p->n_wait;
    } else if (p->n_left-- <= 1) {
        p->n[!best] = 0;
    }
}

void draft_note(struct draft *d, const struct sched *s, uint64_t ns)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_out_seqs; i++)
        n += s->out_seqs[i]->n_sampled;
    if (d->n_decodes && d->is_typical && s->batch.n_tok == s->batch.n_out)
        pace_note(pace_of(d), d->guesses, (double)ns, n);
}

/* ---- a step ---- */

/* Of the guesses it read, those that have become part of the text need not be read again. */
static void keep_right_guesses(struct seq *q)
{
    const uint32_t n = seq_n_tokens(q);
    for (uint32_t i = 0; i < q->n_fed && q->n_mirrored < n; i++) {
        if (q->draft[i] != seq_token_at(q, q->n_mirrored))
            break;
        q->n_mirrored++;
    }
    q->n_fed = 0;
}

static void forget(struct draft *d, struct seq *q)
{
    kv_clear(&d->kv, q->slot);
    q->n_mirrored = q->n_fed = 0;
}

/* Puts into the batch what q's text has and the draft has not read, as far as there is room; with
 * the text's last token, q is in the round and wants that many guesses. */
static void catch_up(struct draft *d, struct seq *q, uint32_t n_wanted)
{
    const struct kv_tokens t = seq_tokens(q);
    const uint32_t n_text = seq_n_tokens(q);
    if (q->n_mirrored == 0 && d->kv.seqs[q->slot].n_blocks == 0)
        q->n_mirrored = d->kv.block_len * kv_attach(&d->kv, q->slot, q->req->cache_salt, &t,
                                                    (n_text - 1) / d->kv.block_len);
    if (q->n_mirrored == n_text) /* its guesses were not used: once more, for the logits */
        q->n_mirrored--;
    const bool is_behind = n_text - q->n_mirrored > PLAN_DRAFT_STEP;
    const uint32_t n = MIN_OF(n_text - q->n_mirrored, is_behind ? d->n_beside : PLAN_DRAFT_STEP);
    const bool is_whole = q->n_mirrored + n == n_text;
    if (n == 0 || !kv_try_grow(&d->kv, q->slot, q->n_mirrored + n + (is_whole ? n_wanted - 1 : 0)))
        return;
    d->n_beside -= is_behind ? n : 0;
    for (uint32_t i = 0; i < n; i++, q->n_mirrored++)
        add_row(d, seq_token_at(q, q->n_mirrored), q->n_mirrored, q->slot);
    d->is_typical = d->is_typical && !is_behind;
    if (!is_whole)
        return;
    d->out[d->batch.n_out++] = d->batch.n_tok - 1;
    d->seqs[d->n_seqs] = q;
    d->wants[d->n_seqs++] = n_wanted;
}

/* The next round: a row of its last guess for each sequence that wants more. */
static void go_on(struct draft *d)
{
    const uint32_t n = d->n_seqs;
    d->n_seqs = d->batch.n_tok = d->batch.n_out = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct seq *q = d->seqs[i];
        if (q->n_guess >= d->wants[i])
            continue;
        add_row(d, q->draft[q->n_guess - 1], q->n_mirrored + q->n_fed++, q->slot);
        d->out[d->batch.n_out++] = d->n_seqs;
        d->wants[d->n_seqs] = d->wants[i];
        d->seqs[d->n_seqs++] = q;
    }
}

/* Equal shares of the rows that a step has for guesses, one each where there are fewer; none when
 * guesses would not pay. */
static uint32_t share_of(struct draft *d, const struct sched *s)
{
    uint32_t n = 0;
    d->n_decodes = 0;
    d->is_typical = true;
    for (const struct seq *q = s->running.first; q; q = q->next) {
        n += sched_guesses_wanted(s, q, 1) > 0;
        d->n_decodes += seq_n_tokens(q) - q->n_cached == 1;
    }
    d->guesses = d->always || (n && pace_choose(pace_of(d)));
    if (!d->guesses)
        return 0;
    return MAX_OF(MIN_OF(s->n_speculate, n ? s->max_draft_rows / n : 0), 1u);
}

void draft_guess(struct draft *d, struct sched *s)
{
    const uint32_t share = share_of(d, s);
    uint32_t rows = s->max_draft_rows;
    d->n_seqs = d->batch.n_tok = d->batch.n_out = 0;
    d->n_beside = ENGINE_PROMPT_BESIDE;
    for (struct seq *q = s->running.first; q; q = q->next) {
        const uint32_t n = sched_guesses_wanted(s, q, MIN_OF(share, rows));
        keep_right_guesses(q);
        q->n_guess = 0;
        if (sched_gave_up_guessing(s, q))
            forget(d, q);
        else if (n)
            catch_up(d, q, n);
        if (d->n_seqs && d->seqs[d->n_seqs - 1] == q)
            rows -= n;
    }
    if (d->batch.n_tok == 0)
        return;
    run_round(d);
    for (const struct seq *q = s->running.first; q; q = q->next) {
        const struct kv_tokens t = seq_tokens(q);
        kv_publish(&d->kv, q->slot, &t, q->n_mirrored);
    }
    for (go_on(d); d->n_seqs; go_on(d))
        run_round(d);
}

const char *draft_validate(const struct draft *d, const struct sched *s)
{
    for (uint32_t i = 0; i < s->max_seqs; i++)
        if (!s->slot_used[i] && d->kv.seqs[i].n_blocks)
            return "the draft's cache holds a text that is not computed any more";
    for (const struct seq *q = s->running.first; q; q = q->next)
        if (q->n_mirrored + q->n_fed > d->kv.seqs[q->slot].n_blocks * d->kv.block_len)
            return "the draft's cache has fewer positions of a text than are counted";
    return kv_validate(&d->kv);
}
