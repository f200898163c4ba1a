/* SPDX-License-Identifier: Apache-2.0 */
/* One pass of a batch of tokens through the layers, as the architecture's row says.
 *
 * A batch may mix positions of any sequences; every token's row is computed as it would be alone,
 * so the answer does not depend on its company.  Borrows model, weights, kernels, team and cache;
 * owns its scratch memory, all of it allocated in forward_init.  Called from the scheduler thread;
 * runs on the team's threads. */
#ifndef WORKER_ENGINE_FORWARD_H
#define WORKER_ENGINE_FORWARD_H

#include "worker/engine/kv.h"
#include "worker/engine/rope.h"
#include "worker/engine/weights/weights.h"
#include "worker/kernel/team.h"

struct batch {
    uint32_t n_tok;        /* <= max_tok */
    const int32_t *tokens; /* [n_tok], each < n_vocab */
    const uint32_t *pos;   /* [n_tok] */
    const uint32_t *slots; /* [n_tok]: cache slots, whose tables cover pos and own its block */
    uint32_t n_out;        /* rows whose next-token logits are wanted */
    const uint32_t *out;   /* [n_out] ascending row numbers */
};

struct forward_dims {
    const struct hparams *hp;
    uint32_t max_tok, n_ff_max, n_threads, n_ctx;
};

struct act_rows {
    char *rows[ACT_N]; /* 64-byte aligned */
};

/* What attention takes beside the cache. */
struct attention_sizes {
    uint64_t scratch_floats;       /* of one thread */
    uint64_t n_parts, part_floats; /* results of ranges that were computed apart */
    uint64_t n_rows;               /* (position, key/value head) pairs that may be computed so */
};

struct forward {
    const struct hparams *hp;
    const struct weights *w;
    const struct kern *kern;
    struct team *team;
    struct kv *kv;
    uint32_t max_tok;
    uint32_t nq, nk, nv, na; /* row widths of the buffers below: the widest layer's */
    float embed_scale, residual_scale, logit_scale, attn_scale, attn_softcap, final_softcap;
    struct rope rope[2]; /* full-attention layers, sliding layers */
    bool rope_on;

    void *scratch; /* owned; everything below lies in it */
    float *x, *t, *q, *k, *v, *att, *gate, *up, *cos_sin[2];
    float *mid_row; /* [n_threads][n_ff_max] */
    struct act_rows in, mid, gathered;
    float *probs, *expert_out, *choice_weight;
    uint32_t *choice_expert, *choice_row, *expert_first, *expert_fill;
    struct attention_sizes attn_sizes;
    float *attn_scratch, *attn_parts;
    uint32_t *attn_first; /* [max_tok + 1] */
    _Atomic uint32_t *attn_done;
    uint32_t n_out; /* rows of `in` that hold normed final states */
};

/* Bytes of forward_init's scratch; 0 on overflow. */
uint64_t forward_scratch_bytes(const struct forward_dims *d);

/* E_NOMEM.  n_ctx decides between phi3's long and short frequency factors. */
int forward_init(struct forward *f, const struct forward_dims *d, const struct weights *w,
                 const struct kern *kern, struct team *team, struct kv *kv, uint32_t n_ctx,
                 struct err *err) MUST_USE;
void forward_release(struct forward *f);

/* Stores keys and values of every token and leaves the final states of the n_out rows for
 * forward_logits. */
void forward_run(struct forward *f, const struct batch *b);

/* out[n][n_vocab] = next-token logits of output rows first .. first + n - 1 of the last
 * forward_run. */
void forward_logits(struct forward *f, uint32_t first, uint32_t n, float *out);

/* Whether layer il attends through the model's sliding window. */
bool forward_is_sliding(const struct arch *a, const struct hparams *hp, uint32_t il);

#endif
