/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of one loaded model: weights, paged KV cache, continuous-batching scheduler, sampler.
 *
 * Owns the cache, scratch memory and compute threads; borrows the open model file (which outlives
 * it).  All calls from one thread, the scheduler thread.  Token ids in, token ids out: text is
 * worker/serve's concern, with worker/text.  Promise 1 of DESIGN: a sequence's tokens follow from
 * the weights, its own prompt and parameters and the kernel level alone. */
#ifndef WORKER_ENGINE_ENGINE_H
#define WORKER_ENGINE_ENGINE_H

#include "lib/base/buf.h"
#include "lib/ipc/frame.h"
#include "worker/kernel/kern.h"
#include "worker/model/hparams.h"

struct engine;

/* Declared limits; 0 takes the stated constant below, never a function of free memory. */
struct engine_config {
    uint32_t n_threads;              /* 0: 1 */
    uint32_t n_ctx;                  /* 0: min(the model's training context, ENGINE_DEFAULT_CTX) */
    uint32_t max_num_seqs;           /* 0: ENGINE_DEFAULT_SEQS */
    uint32_t max_num_batched_tokens; /* per step; 0: ENGINE_DEFAULT_BATCH */
    uint32_t block_size;             /* cache positions per block; 0: ENGINE_DEFAULT_BLOCK */
    enum kv_type kv_type;
    uint64_t kv_cache_bytes;     /* 0: blocks for n_ctx x max_num_seqs */
    uint64_t memory_limit_bytes; /* plan beyond it is refused with the sum; 0: what the machine has
                                    in all */
    const char *cpu_level;       /* NULL: the machine's best */
    uint64_t pace_ns;            /* beside answers; 0: ENGINE_DEFAULT_PACE */
    bool no_prefix_cache;        /* compute every prompt whole; answers are the same */
    uint32_t n_speculate;        /* tokens guessed ahead, at most ENGINE_MAX_DRAFT; 0: none, or
                                    with a draft model ENGINE_DEFAULT_DRAFT */
    float min_acceptance; /* a choice of whose guesses fewer came true gets no more; 0: goes on */
    const struct gguf *draft; /* a second model that guesses them (draft.h); NULL: the text itself
                                 does (speculate.h).  Borrowed, outlives the engine; that its
                                 vocabulary is the model's is the caller's to see */
    bool draft_always; /* it guesses even where steps without were measured to be faster: for tests,
                          whose steps do not depend on time then */
};
#define ENGINE_DEFAULT_CTX   4096u
#define ENGINE_DEFAULT_SEQS  8u
#define ENGINE_DEFAULT_BATCH 512u
#define ENGINE_DEFAULT_BLOCK 16u
#define ENGINE_MAX_DRAFT     16u
#define ENGINE_DEFAULT_DRAFT 4u
/* Tokens of prompts that a step takes beside answers, which come a token a step meanwhile: at most,
 * and of longer prompts no more than lets it end in this time. */
#define ENGINE_PROMPT_BESIDE 128u
#define ENGINE_DEFAULT_PACE  100000000u /* ns */

/* What a load takes, line by line. */
struct engine_plan {
    struct engine_config config; /* with every 0 replaced */
    uint64_t weight_bytes;       /* mapped, shared; the draft model's among them */
    uint64_t n_params;           /* the model's alone */
    uint32_t n_blocks;
    uint64_t block_bytes, kv_bytes; /* a block of the model's cache and one of the draft's */
    uint64_t scratch_bytes;         /* activations, logits, tables: private */
    uint64_t total_bytes;
    uint64_t draft_weight_bytes, draft_block_bytes; /* of the above; 0: there is no draft model */
};

/* Computes the plan without allocating.  E_NOMEM with the sum when it does not fit. */
int engine_plan(const struct gguf *g, const struct engine_config *cfg, struct engine_plan *ret,
                struct err *err) MUST_USE;
/* The plan as text, one line per item. */
void engine_plan_print(const struct engine_plan *p, struct buf *out);

/* E_UNSUPPORTED naming architecture and the supported ones; E_FORMAT naming a missing or misshapen
 * tensor. */
int engine_new(const struct gguf *g, const struct engine_config *cfg, struct engine **ret_engine,
               struct err *err) MUST_USE;
void engine_free(struct engine *e); /* NULL is fine */

/* The file of weights in the kernels' own layout (prepared.h), of the model or of its draft model:
 * its bytes, 0 when there is nothing that they want so. */
uint64_t engine_prepared_bytes(const struct engine *e, enum weights_of of);
bool engine_is_prepared(const struct engine *e, enum weights_of of);
/* Computes from fd, such a file, from the next step on; borrowed, not needed after return.  Results
 * are the same bit for bit, so that requests under way go on.  E_FORMAT when it is not this
 * engine's, E_INVALID when it has one already or no draft model, E_IO; then nothing has changed. */
int engine_attach_prepared(struct engine *e, enum weights_of of, int fd, struct err *err) MUST_USE;
/* Writes that file without an engine: of g, a model or a draft model, for the kernels that
 * cpu_level allows (engine_config). fd: an empty file, or -1 to be told of its length only.
 * *ret_bytes: that; 0: there is nothing to prepare, nothing was written.  fn may be NULL. */
int engine_prepare(const struct gguf *g, const char *cpu_level, int fd,
                   void (*fn)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                   uint64_t *ret_bytes, struct err *err) MUST_USE;

const struct engine_plan *engine_get_plan(const struct engine *e);
const struct hparams *engine_hparams(const struct engine *e);

/* One request: a prompt and n independent choices that share the prompt's cache blocks. */
struct engine_request {
    uint64_t id;           /* unique among live requests */
    const int32_t *prompt; /* borrowed during the call; at least 1 token, each < n_vocab */
    uint32_t n_prompt;
    struct gen_params params; /* params.has_seed is true */
    const int32_t *eog;       /* end-of-generation tokens, borrowed until the request ends */
    uint32_t n_eog;
    const int32_t *stop_tokens; /* copied */
    uint32_t n_stop_tokens;
    const struct gen_logit_bias *logit_bias; /* copied */
    uint32_t n_logit_bias;
    uint64_t cache_salt; /* prompts of other salts are never looked at; 63 bits */
};

/* Queues a request.  E_CONTEXT with both counts when the prompt does not fit; E_BUSY when the queue
 * is full; E_LIMIT when its blocks could never be had. */
int engine_submit(struct engine *e, const struct engine_request *r, struct err *err) MUST_USE;
/* Ends a request, or one choice of it (a stop string matched), within one step.  Unknown ids are
 * ignored.  No further event comes for it. */
void engine_cancel(struct engine *e, uint64_t request_id);
void engine_finish_choice(struct engine *e, uint64_t request_id, uint32_t choice);

enum engine_event_type { ENGINE_STARTED, ENGINE_TOKEN, ENGINE_CHOICE_DONE };

struct engine_top {
    int32_t token;
    float logprob;
};
struct engine_event {
    enum engine_event_type type;
    uint64_t request_id;
    uint32_t choice;
    uint32_t n_cached;            /* STARTED: prompt tokens whose cache was reused */
    int32_t token;                /* TOKEN */
    float logprob;                /* TOKEN: before temperature and penalties */
    const struct engine_top *top; /* TOKEN: best first; borrowed during the call */
    uint32_t n_top;
    enum gen_finish finish; /* CHOICE_DONE: an end-of-generation token is not delivered as TOKEN */
    int code;               /* CHOICE_DONE for GEN_FINISH_ERROR: as sampler_run says it */
};
/* May call engine_cancel, engine_finish_choice and engine_submit. */
typedef void (*engine_event_fn)(void *ctx, const struct engine_event *ev);

/* Runs one step: admits, builds one batch (decodes first, then chunks of prompts), computes,
 * samples, delivers. Returns whether there is more to do. */
bool engine_step(struct engine *e, engine_event_fn fn, void *ctx);
bool engine_is_idle(const struct engine *e);

struct engine_stats {
    uint32_t n_running, n_waiting, n_blocks_used, n_blocks;
    uint64_t n_steps, n_prompt_tokens, n_generated_tokens, n_preemptions;
    uint64_t n_drafted, n_accepted; /* tokens guessed, and of them those that came true */
};
void engine_stats(const struct engine *e, struct engine_stats *ret);
/* NULL, or which invariant of the cache is broken.  For tests; slow. */
const char *engine_validate(const struct engine *e);

/* Next-token logits at every position of tokens: out[n][n_vocab], the caller's.  For `berth debug
 * logits`; the engine must be idle. */
int engine_logits(struct engine *e, const int32_t *tokens, uint32_t n, float *out,
                  struct err *err) MUST_USE;

#endif
