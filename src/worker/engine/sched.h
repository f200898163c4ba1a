/* SPDX-License-Identifier: Apache-2.0 */
/* Continuous batching: which tokens of which sequences run in the next step.
 *
 * A request has n choices, each a sequence with its own answer; all share the prompt's cache blocks
 * where they can. Order is by priority, lower ones first, then by arrival.  Per step: decodes
 * first; then chunks of prompts, while max_num_batched_tokens lasts; then waiting sequences are
 * admitted, none past the first that does not fit (one that the step has no tokens left for, or a
 * choice whose sibling is still computing the shared prompt, waits aside and holds up nobody).
 *
 * Beside decodes a step takes no more than ENGINE_PROMPT_BESIDE tokens of short prompts, which are
 * no longer than that, and for each prompt that waits a slice of long ones, as many tokens as let
 * it end within the pace, as far as earlier steps tell: how much runs when depends on time there,
 * what comes out does not. Beside long prompts alone a step leaves room, too, so that no short one
 * waits until they are read.
 *
 * A sequence is admitted with all blocks for what it has so far; when a decode finds no block, the
 * youngest running sequence gives all of its blocks back and waits at its place in the order of
 * arrival, to be computed again: the oldest always advances, so nobody starves.  None of this
 * changes an answer.
 *
 * With n_speculate, a decode may be followed by guesses of its next tokens (speculate.h, or those
 * of a draft model, draft.h), as long as rows and blocks are left over; what of them came true is
 * known after sampling.
 *
 * Owns requests, sequences and batch arrays; borrows the cache.  One thread. */
#ifndef WORKER_ENGINE_SCHED_H
#define WORKER_ENGINE_SCHED_H

#include "worker/engine/engine.h"
#include "worker/engine/forward.h"
#include "worker/engine/sampler.h"

enum seq_state { SEQ_WAITING, SEQ_RUNNING, SEQ_DONE };

struct request;

struct seq {
    struct seq *next,
        *prev; /* in sched.waiting or sched.running, the first to be served first; NULL when done */
    struct request *req;
    uint32_t choice;
    enum seq_state state;
    uint32_t slot;     /* running: in the cache */
    uint32_t n_cached; /* positions whose keys and values are stored */
    int32_t *answer;   /* owned, [cap_answer] */
    uint32_t n_answer, cap_answer;
    bool is_long; /* running: a prompt of which more than ENGINE_PROMPT_BESIDE was to be computed */
    uint32_t n_batch; /* tokens of this sequence in the batch being built, guesses included */
    uint32_t out_row; /* its first row of logits in the batch; UINT32_MAX: none */
    uint32_t n_draft; /* guesses in the batch: n_draft + 1 rows of logits */
    uint32_t n_taken; /* of them those that came true; they stand in answer[n_answer ..] already */
    uint32_t n_sampled; /* rows that were sampled */
    uint32_t n_drafted, n_accepted;
    int32_t draft[ENGINE_MAX_DRAFT];
    /* With a draft model (draft.h): guesses in draft[] for the next step; positions of the text in
     * the draft's cache; guesses, from draft[0] on, behind them there. */
    uint32_t n_guess, n_mirrored, n_fed;
};

struct request {
    struct request *next, *prev;
    uint64_t id, arrival;
    struct gen_params params;
    int32_t *prompt; /* owned */
    uint32_t n_prompt;
    const int32_t *eog; /* borrowed */
    uint32_t n_eog;
    int32_t *stop_tokens; /* owned */
    uint32_t n_stop_tokens;
    struct gen_logit_bias *bias; /* owned */
    uint32_t n_bias;
    struct seq *seqs; /* owned, [params.n] */
    uint32_t n_live;  /* choices not done */
    uint64_t cache_salt;
    uint32_t n_reused; /* positions of the prompt that the prefix cache had */
    bool started;
};

struct seq_list {
    struct seq *first, *last;
    uint32_t n;
};

struct sched {
    struct kv *kv;
    struct kv *draft_kv; /* borrowed; NULL: guesses come from the text */
    uint32_t n_ctx, n_vocab, max_seqs, max_tok;
    struct request *requests; /* live ones */
    uint32_t n_requests, n_requests_waiting;
    uint64_t n_arrivals;
    struct seq_list waiting, running;
    bool *slot_used; /* owned, [max_seqs] */
    /* The batch: owned arrays, [max_tok]. */
    struct batch batch;
    int32_t *tokens;
    uint32_t *pos, *slots, *out;
    struct seq **out_seqs; /* owned, [max_seqs]: those with rows of logits, n_out_seqs of them */
    uint32_t n_out_seqs;
    uint32_t n_answering;  /* decodes in it */
    uint32_t n_of_prompts; /* tokens in it that are no decodes and no guesses */
    uint32_t n_left[2];    /* what it may still take of short and of long prompts */
    uint32_t slice;        /* tokens of long prompts beside decodes that take pace_ns */
    uint64_t pace_ns;
    uint32_t n_speculate, max_draft_rows; /* of one sequence, of one step */
    float min_acceptance;
    uint64_t n_preemptions, n_drafted, n_accepted;
};

uint64_t sched_bytes(uint32_t max_seqs, uint32_t max_tok);
int sched_init(struct sched *s, struct kv *kv, uint32_t n_ctx, uint32_t n_vocab, uint32_t max_seqs,
               uint32_t max_tok, struct err *err) MUST_USE;
void sched_release(struct sched *s);

int sched_submit(struct sched *s, const struct engine_request *r, struct err *err) MUST_USE;
/* Ends sequences: their blocks are free and they are in no list at once; memory goes with
 * sched_reap. */
void sched_end_request(struct sched *s, uint64_t id);
void sched_end_choice(struct sched *s, uint64_t id, uint32_t choice);
void sched_end_seq(struct sched *s, struct seq *q);
/* Frees requests without live choices.  Not while their sequences are still looked at. */
void sched_reap(struct sched *s);

/* Builds s->batch; 0 tokens when there is nothing to compute.  Allocates nothing. */
void sched_build(struct sched *s);
/* How long the step of that batch took. */
void sched_took(struct sched *s, uint64_t ns);
/* After the pass: what the batch held is now cached. */
void sched_commit(struct sched *s);

/* How the token that follows the first n_answer tokens of q's answer is sampled from logits. */
struct sampler_input sched_sampler_input(const struct seq *q, const float *logits,
                                         uint32_t n_answer);

/* How many guesses, at most n, the next step will take for q: 0 for one that does not decode, or
 * for which there are no blocks to spare. */
uint32_t sched_guesses_wanted(const struct sched *s, const struct seq *q, uint32_t n);
/* Too few of q's guesses came true. */
bool sched_gave_up_guessing(const struct sched *s, const struct seq *q);

static inline uint32_t seq_n_tokens(const struct seq *q)
{
    return q->req->n_prompt + q->n_answer;
}

static inline struct kv_tokens seq_tokens(const struct seq *q)
{
    return (struct kv_tokens){q->req->prompt, q->answer, q->req->n_prompt};
}

/* pos < seq_n_tokens. */
static inline int32_t seq_token_at(const struct seq *q, uint32_t pos)
{
    const uint32_t n_prompt = q->req->n_prompt;
    return pos < n_prompt ? q->req->prompt[pos] : q->answer[pos - n_prompt];
}

#endif
