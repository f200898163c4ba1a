/* SPDX-License-Identifier: Apache-2.0 */
/* What a load takes, from metadata and configuration alone; the engine allocates what the plan
 * says.  Part of engine.h (engine_plan); any thread. */
#ifndef WORKER_ENGINE_PLAN_H
#define WORKER_ENGINE_PLAN_H

#include "worker/engine/engine.h"
#include "worker/engine/forward.h"

/* engine_plan for hyper-parameters already read; also gives what forward_init needs to know.
 * ret_dims->hp borrows hp. */
int plan_make(const struct gguf *g, const struct hparams *hp, const struct engine_config *cfg,
              struct engine_plan *ret, struct forward_dims *ret_dims, struct err *err) MUST_USE;

/* Tokens of a text that the draft has not read when all guesses came true: the last of them, which
 * it only made, and the one that followed. */
#define PLAN_DRAFT_STEP 2u

/* What the draft model takes beside the model of n_vocab tokens with the filled configuration c. */
struct plan_draft {
    struct forward_dims dims; /* borrows hp */
    uint64_t weight_bytes, block_bytes;
    uint64_t scratch_bytes; /* without what grows with the cache's blocks */
};
int plan_draft(const struct gguf *g, const struct hparams *hp, uint32_t n_vocab,
               const struct engine_config *c, struct plan_draft *ret, struct err *err) MUST_USE;

/* Rows of logits of one step: one for each sequence, and what guesses may take together. */
uint32_t plan_out_rows(const struct engine_config *c);

#endif
