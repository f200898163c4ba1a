/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a model, found by name, checked for shape and type, and bound to the places
 * forward.c uses.
 *
 * Matrices stay where the file is mapped.  Norms, biases and factors (1-D, small) are copied as
 * float32 into one block that struct weights owns.  Fused projections are bound as views of their
 * rows, so that the forward pass knows no fused form.  Filled once, then read-only: any thread. */
#ifndef WORKER_ENGINE_WEIGHTS_WEIGHTS_H
#define WORKER_ENGINE_WEIGHTS_WEIGHTS_H

#include "worker/engine/arch.h"
#include "worker/kernel/kern.h"
#include "worker/model/hparams.h"

/* y = (mat x) * scale + bias */
struct linear {
    struct kern_mat mat; /* data NULL: absent */
    const float *bias;   /* [n_rows] or NULL */
    float scale;
};

/* n_expert matrices of one shape, one after another. */
struct experts {
    struct kern_mat mat;        /* the first */
    size_t stride_bytes;        /* from one expert to the next */
    uint32_t n;                 /* experts */
    size_t panels_stride_bytes; /* from one to the next in mat.panels */
    const float *scales;        /* [n] or NULL */
};

struct layer_weights {
    const float *attn_norm, *attn_post_norm, *ffn_norm,
        *ffn_post_norm; /* NULL where the family has none */
    const float *q_norm, *k_norm;
    struct linear q, k, v, o;
    struct linear gate, up,
        down;             /* dense; or, beside experts, the shared expert; data NULL: none */
    struct linear router; /* data NULL: dense */
    struct experts gate_exps, up_exps, down_exps;
};

struct weights {
    const struct arch *arch;
    struct layer_weights *layers; /* [n_layer], owned */
    uint32_t n_layer;
    struct kern_mat embed;
    struct linear output;
    const float *output_norm;
    const float *rope_freqs, *rope_long, *rope_short; /* [n_rot / 2] or NULL */
    float *small;                                     /* owned: the copies */
    size_t n_small, cap_small;
};

/* What the plan needs to know before anything is bound: sums and widths over the file's tensors. */
struct weights_sizes {
    uint64_t n_bytes, n_params;
    uint64_t small_bytes; /* of the copies */
    uint32_t n_ff_max;    /* the widest feed-forward, shared experts included */
};
int weights_measure(const struct gguf *g, const struct hparams *hp, struct weights_sizes *ret,
                    struct err *err) MUST_USE;

/* E_FORMAT naming a missing or misshapen tensor, what was expected and what was found;
 * E_UNSUPPORTED for a type that is no weight's; E_NOMEM.  On failure nothing is held. */
int weights_bind(const struct gguf *g, const struct hparams *hp, const struct arch *arch,
                 const struct kern *k, struct weights *ret, struct err *err) MUST_USE;
void weights_release(struct weights *w);

/* Every matrix that a product is taken with, in one order that follows from the model alone: mat is
 * the first of n of them, stride_bytes apart in the file, and *panels_stride_bytes in mat->panels
 * (NULL where n is 1). */
typedef void (*weights_mat_fn)(void *ctx, struct kern_mat *mat, uint32_t n, size_t stride_bytes,
                               size_t *panels_stride_bytes);
void weights_each(struct weights *w, weights_mat_fn fn, void *ctx);

#endif
