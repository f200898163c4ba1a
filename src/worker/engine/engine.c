/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: puts model, cache, scheduler and sampler together; see engine.h.  Scheduler thread
 * only. */
#include "worker/engine/engine.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/cpu.h"
#include "worker/engine/draft.h"
#include "worker/engine/forward.h"
#include "worker/engine/plan.h"
#include "worker/engine/weights/prepared.h"
#include "worker/engine/sampler.h"
#include "worker/engine/sched.h"

struct engine {
    struct engine_plan plan;
    struct hparams hp;
    struct kern kern;
    struct weights weights;
    struct prepared prepared;
    struct kv kv;
    struct forward forward;
    struct sched sched;
    struct draft *draft; /* owned; NULL: none */
    struct team *team;
    struct sampler *samplers;       /* [n_threads] */
    float *logits;                  /* [plan_out_rows][n_vocab], in logits_mem */
    void *logits_mem;               /* owned */
    struct sampler_result *results; /* [plan_out_rows] */
    int *sample_codes;              /* [plan_out_rows] */
    uint64_t n_steps, n_prompt_tokens, n_generated_tokens;
    bool in_step; /* callbacks run: sequences that ended are still looked at */
};

/* ---- load ---- */

static int init_samplers(struct engine *e, struct err *err)
{
    const struct engine_config *c = &e->plan.config;
    const uint32_t n_rows = plan_out_rows(c);
    e->logits = mem_try_lazy((size_t)n_rows * e->hp.n_vocab * sizeof(float), &e->logits_mem, err);
    e->results = e->logits ? mem_try_alloc(n_rows, sizeof *e->results, err) : NULL;
    e->sample_codes = e->results ? mem_try_alloc(n_rows, sizeof *e->sample_codes, err) : NULL;
    e->samplers = e->sample_codes ? mem_try_alloc(c->n_threads, sizeof *e->samplers, err) : NULL;
    if (!e->samplers)
        return -err->code;
    for (uint32_t i = 0; i < c->n_threads; i++) {
        int r = sampler_init(&e->samplers[i], &e->kern, e->hp.n_vocab, err);
        if (r)
            return r;
    }
    return 0;
}

/* The plain kernels, which have slots for tests and for comparing, gain nothing by it: only where
 * a level was asked for. */
static bool wants_prepared(const struct kern *k, const char *cpu_level)
{
    return cpu_level || strcmp(k->level, "ref") != 0;
}

static int load(struct engine *e, const struct gguf *g, const struct engine_config *cfg,
                struct err *err)
{
    struct forward_dims dims;
    const struct arch *arch;
    int r = hparams_from_gguf(g, &e->hp, err);
    if (r == 0)
        r = plan_make(g, &e->hp, cfg, &e->plan, &dims, err);
    if (r == 0)
        r = arch_find(e->hp.arch, &arch, err);
    if (r == 0)
        r = kern_init(&e->kern, cfg->cpu_level, err);
    if (r == 0 && !cfg->cpu_level && cpu_amx_refused() != 0)
        log_warn("this processor has AMX, but the system does not give out its tile registers "
                 "(arch_prctl: %s): computing with %s",
                 strerror(cpu_amx_refused()), e->kern.level);
    if (r == 0)
        r = weights_bind(g, &e->hp, arch, &e->kern, &e->weights, err);
    if (r == 0 && wants_prepared(&e->kern, cfg->cpu_level))
        r = prepared_plan_make(&e->weights, &e->kern, &e->prepared.plan, err);
    if (r)
        return r;
    e->plan.config.cpu_level = e->kern.level; /* the caller's string need not last */
    const struct engine_config *c = &e->plan.config;
    r = kv_init(&e->kv, &e->hp, c->kv_type, c->block_size, e->plan.n_blocks, c->max_num_seqs,
                c->n_ctx, err);
    if (r == 0 && !c->no_prefix_cache)
        r = kv_enable_prefixes(&e->kv, err);
    if (r == 0)
        r = team_new(c->n_threads, &e->team, err);
    if (r == 0)
        r = forward_init(&e->forward, &dims, &e->weights, &e->kern, e->team, &e->kv, c->n_ctx, err);
    if (r == 0)
        r = sched_init(&e->sched, &e->kv, c->n_ctx, e->hp.n_vocab, c->max_num_seqs,
                       c->max_num_batched_tokens, err);
    if (r == 0)
        r = init_samplers(e, err);
    if (r == 0 && c->draft)
        r = draft_new(&e->plan, e->hp.n_vocab, &e->kern, e->team, e->samplers, &e->draft, err);
    if (r == 0 && e->draft && wants_prepared(&e->kern, cfg->cpu_level))
        r = draft_plan_prepared(e->draft, &e->kern, err);
    if (r)
        return r;
    e->sched.draft_kv = e->draft ? draft_kv(e->draft) : NULL;
    e->sched.pace_ns = c->pace_ns;
    e->sched.n_speculate = c->n_speculate;
    e->sched.max_draft_rows = plan_out_rows(c) - c->max_num_seqs;
    e->sched.min_acceptance = c->min_acceptance;
    return 0;
}

int engine_new(const struct gguf *g, const struct engine_config *cfg, struct engine **ret_engine,
               struct err *err)
{
    struct engine *e = mem_try_alloc(1, sizeof *e, err);
    if (!e)
        return -err->code;
    int r = load(e, g, cfg, err);
    if (r) {
        engine_free(e);
        return r;
    }
    *ret_engine = e;
    return 0;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    team_free(e->team);
    sched_release(&e->sched);
    draft_free(e->draft);
    forward_release(&e->forward);
    kv_release(&e->kv);
    prepared_detach(&e->prepared, &e->weights);
    weights_release(&e->weights);
    hparams_release(&e->hp);
    for (uint32_t i = 0; e->samplers && i < e->plan.config.n_threads; i++)
        sampler_release(&e->samplers[i]);
    mem_free(e->samplers);
    mem_free(e->logits_mem);
    mem_free(e->results);
    mem_free(e->sample_codes);
    mem_free(e);
}

/* NULL: there is no draft model. */
static const struct prepared *prepared_of(const struct engine *e, enum weights_of of)
{
    if (of == WEIGHTS_OF_MODEL)
        return &e->prepared;
    return e->draft ? draft_prepared(e->draft) : NULL;
}

uint64_t engine_prepared_bytes(const struct engine *e, enum weights_of of)
{
    const struct prepared *p = prepared_of(e, of);
    return p ? p->plan.n_bytes : 0;
}

bool engine_is_prepared(const struct engine *e, enum weights_of of)
{
    const struct prepared *p = prepared_of(e, of);
    return p && p->map;
}

int engine_attach_prepared(struct engine *e, enum weights_of of, int fd, struct err *err)
{
    if (of == WEIGHTS_OF_MODEL)
        return prepared_attach(&e->prepared, &e->weights, &e->kern, fd, err);
    if (!e->draft)
        return err_set(err, E_INVALID, "prepared weights of a draft model, and there is none");
    return draft_attach_prepared(e->draft, &e->kern, fd, err);
}

int engine_prepare(const struct gguf *g, const char *cpu_level, int fd,
                   void (*fn)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                   uint64_t *ret_bytes, struct err *err)
{
    struct hparams hp;
    struct kern kern;
    struct weights w;
    struct prepared_plan plan = {0};
    const struct arch *arch;
    int r = hparams_from_gguf(g, &hp, err);
    if (r)
        return r;
    r = arch_find(hp.arch, &arch, err);
    if (r == 0)
        r = kern_init(&kern, cpu_level, err);
    if (r == 0)
        r = weights_bind(g, &hp, arch, &kern, &w, err);
    if (r == 0) {
        if (wants_prepared(&kern, cpu_level))
            r = prepared_plan_make(&w, &kern, &plan, err);
        if (r == 0 && plan.n_bytes && fd >= 0)
            r = prepared_write(&w, &kern, &plan, fd, fn, ctx, err);
        weights_release(&w);
    }
    hparams_release(&hp);
    *ret_bytes = plan.n_bytes;
    return r;
}

const struct engine_plan *engine_get_plan(const struct engine *e)
{
    return &e->plan;
}

const struct hparams *engine_hparams(const struct engine *e)
{
    return &e->hp;
}

/* ---- requests ---- */

int engine_submit(struct engine *e, const struct engine_request *r, struct err *err)
{
    return sched_submit(&e->sched, r, err);
}

void engine_cancel(struct engine *e, uint64_t request_id)
{
    sched_end_request(&e->sched, request_id);
    if (!e->in_step)
        sched_reap(&e->sched);
}

void engine_finish_choice(struct engine *e, uint64_t request_id, uint32_t choice)
{
    sched_end_choice(&e->sched, request_id, choice);
    if (!e->in_step)
        sched_reap(&e->sched);
}

/* ---- one step ---- */

static bool is_among(int32_t token, const int32_t *list, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == token)
            return true;
    return false;
}

/* One row of q, of whose answer n_answer tokens are known. */
static int sample_row(struct engine *e, const struct seq *q, uint32_t row, uint32_t n_answer,
                      uint32_t thread)
{
    const struct sampler_input in =
        sched_sampler_input(q, e->logits + (size_t)row * e->hp.n_vocab, n_answer);
    return sampler_run(&e->samplers[thread], &in, &e->results[row]);
}

static bool is_end(const struct request *r, int32_t token)
{
    return (!r->params.ignore_eos && is_among(token, r->eog, r->n_eog)) ||
           is_among(token, r->stop_tokens, r->n_stop_tokens);
}

/* The rows of one sequence in order, each with the tokens before it, as long as the guesses were
 * those tokens: what comes out is what would have come one by one. */
static void run_sample(void *ctx, uint32_t piece, uint32_t thread)
{
    struct engine *e = ctx;
    struct seq *q = e->sched.out_seqs[piece];
    for (uint32_t i = 0;; i++) {
        const uint32_t row = q->out_row + i;
        const int32_t *token = &e->results[row].token;
        e->sample_codes[row] = sample_row(e, q, row, q->n_answer + i, thread);
        q->n_sampled = i + 1;
        if (e->sample_codes[row] || i == q->n_draft || *token != q->draft[i] ||
            is_end(q->req, *token))
            return;
        q->answer[q->n_answer + i] = *token;
        q->n_taken++;
    }
}

static void deliver_done(struct engine *e, struct seq *q, enum gen_finish finish, int code,
                         engine_event_fn fn, void *ctx)
{
    const struct engine_event ev = {.type = ENGINE_CHOICE_DONE,
                                    .request_id = q->req->id,
                                    .choice = q->choice,
                                    .finish = finish,
                                    .code = code};
    sched_end_seq(&e->sched, q);
    fn(ctx, &ev);
}

/* The token of output row `row` joins its answer, and is told. */
static void deliver_token(struct engine *e, struct seq *q, uint32_t row, engine_event_fn fn,
                          void *ctx)
{
    const struct request *r = q->req;
    const struct sampler_result *s = &e->results[row];
    if (q->state != SEQ_RUNNING) /* ended by an earlier event of this step */
        return;
    if (e->sample_codes[row]) {
        deliver_done(e, q, GEN_FINISH_ERROR, e->sample_codes[row], fn, ctx);
        return;
    }
    if (is_end(r, s->token)) {
        deliver_done(e, q, GEN_FINISH_STOP, 0, fn, ctx);
        return;
    }
    BUG_ON(q->n_answer >= q->cap_answer);
    q->answer[q->n_answer++] = s->token;
    e->n_generated_tokens++;
    const struct engine_event ev = {.type = ENGINE_TOKEN,
                                    .request_id = r->id,
                                    .choice = q->choice,
                                    .token = s->token,
                                    .logprob = s->logprob,
                                    .top = s->top,
                                    .n_top = s->n_top};
    fn(ctx, &ev);
    if (q->state == SEQ_RUNNING && q->n_answer == q->cap_answer)
        deliver_done(e, q, GEN_FINISH_LENGTH, 0, fn, ctx);
}

/* Requests whose first choice was admitted in this step.  The callback may change the list: start
 * over each time. */
static void deliver_started(struct engine *e, engine_event_fn fn, void *ctx)
{
    for (struct seq *q = e->sched.running.first; q;) {
        if (q->req->started) {
            q = q->next;
            continue;
        }
        q->req->started = true;
        e->sched.n_requests_waiting--;
        e->n_prompt_tokens += q->req->n_prompt;
        const struct engine_event ev = {
            .type = ENGINE_STARTED, .request_id = q->req->id, .n_cached = q->req->n_reused};
        fn(ctx, &ev);
        q = e->sched.running.first;
    }
}

bool engine_step(struct engine *e, engine_event_fn fn, void *ctx)
{
    struct sched *s = &e->sched;
    const uint64_t begun = clock_ns();
    e->in_step = true;
    if (e->draft)
        draft_guess(e->draft, s);
    sched_build(s);
    if (s->batch.n_tok) {
        mem_guard_arm(true);
        forward_run(&e->forward, &s->batch);
        if (s->batch.n_out) {
            forward_logits(&e->forward, 0, s->batch.n_out, e->logits);
            team_run(e->team, s->n_out_seqs, run_sample, e);
        }
        mem_guard_arm(false);
        const uint64_t took = clock_ns() - begun;
        sched_took(s, took);
        if (e->draft)
            draft_note(e->draft, s, took);
        sched_commit(s);
        e->n_steps++;
        deliver_started(e, fn, ctx);
        for (uint32_t i = 0; i < s->n_out_seqs; i++) {
            struct seq *q = s->out_seqs[i];
            for (uint32_t j = 0; j < q->n_sampled; j++)
                deliver_token(e, q, q->out_row + j, fn, ctx);
        }
    }
    e->in_step = false;
    sched_reap(s);
    return !engine_is_idle(e);
}

bool engine_is_idle(const struct engine *e)
{
    return e->sched.running.n == 0 && e->sched.waiting.n == 0;
}

void engine_stats(const struct engine *e, struct engine_stats *ret)
{
    *ret = (struct engine_stats){.n_running = e->sched.running.n,
                                 .n_waiting = e->sched.waiting.n,
                                 .n_blocks_used = e->kv.n_blocks - kv_n_free(&e->kv),
                                 .n_blocks = e->kv.n_blocks,
                                 .n_steps = e->n_steps,
                                 .n_prompt_tokens = e->n_prompt_tokens,
                                 .n_generated_tokens = e->n_generated_tokens,
                                 .n_preemptions = e->sched.n_preemptions,
                                 .n_drafted = e->sched.n_drafted,
                                 .n_accepted = e->sched.n_accepted};
}

/* ---- looking inside ---- */

const char *engine_validate(const struct engine *e)
{
    const char *broken = e->draft ? draft_validate(e->draft, &e->sched) : NULL;
    return broken ? broken : kv_validate(&e->kv);
}

int engine_logits(struct engine *e, const int32_t *tokens, uint32_t n, float *out, struct err *err)
{
    struct sched *s = &e->sched;
    if (!engine_is_idle(e))
        return err_set(err, E_BUSY, "logits can only be read while no request is running");
    if (n == 0 || n > s->n_ctx)
        return err_set(err, E_CONTEXT, "%u tokens were given; 1 to the context's %u are possible",
                       n, s->n_ctx);
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= e->hp.n_vocab)
            return err_set(err, E_INVALID, "token %u is %d; the model's tokens go from 0 to %u", i,
                           tokens[i], e->hp.n_vocab - 1);
    bool ok = kv_try_grow(&e->kv, 0, n);
    BUG_ON(!ok);
    for (uint32_t first = 0; first < n; first += s->max_tok) {
        struct batch *b = &s->batch;
        b->n_tok = b->n_out = MIN_OF(s->max_tok, n - first);
        for (uint32_t i = 0; i < b->n_tok; i++) {
            s->tokens[i] = tokens[first + i];
            s->pos[i] = first + i;
            s->slots[i] = 0;
            s->out[i] = i;
        }
        forward_run(&e->forward, b);
        forward_logits(&e->forward, 0, b->n_out, out + (size_t)first * e->hp.n_vocab);
    }
    kv_clear(&e->kv, 0);
    return 0;
}
