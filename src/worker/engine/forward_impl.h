/* SPDX-License-Identifier: Apache-2.0 */
/* Between forward.c, attention.c, matmul.c and moe.c: the parts of a pass.  For those files only. */
#ifndef WORKER_ENGINE_FORWARD_IMPL_H
#define WORKER_ENGINE_FORWARD_IMPL_H

#include "worker/engine/forward.h"

/* out[i][row * ld[i] + r] = in[i] applied to the prepared rows x, for i < n (<= 3) products over
 * n_rows rows, all in one call of the team. */
void matmul_run(struct forward *f, uint32_t n, const struct linear *const *in,
                const struct act_rows *x, uint32_t n_rows, float *const *out, const size_t *ld);

/* out[row][n_vocab]: logits, with the model's scale and soft cap. */
void matmul_run_output(struct forward *f, const struct act_rows *x, uint32_t n_rows, float *out);

/* matmul_run for products of each expert with its run of rows (expert_first): x and out are ordered
 * by expert. */
void matmul_run_experts(struct forward *f, uint32_t n, const struct experts *const *in,
                        const struct act_rows *x, float *const *out);

/* The mixture of experts: f->t = combination of the chosen experts' outputs (plus the shared
 * expert's), from the rows prepared in f->in. */
void moe_run(struct forward *f, const struct layer_weights *lw, uint32_t n_rows);

struct attention_sizes attention_measure(const struct hparams *hp, uint32_t n_threads,
                                         uint32_t n_ctx);
/* f->att = attention of layer il over the whole batch, from f->q and the cache. */
void attention_run(struct forward *f, const struct batch *b, uint32_t il);

#endif
