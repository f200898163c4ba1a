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

/* Rows of logits of one step: one for each sequence, and what guesses may take together. */
uint32_t plan_out_rows(const struct engine_config *c);

#endif
