/* SPDX-License-Identifier: Apache-2.0 */
/* Hyper-parameters: what a model's metadata says about its shape, format-neutral and checked.
 *
 * Filled from GGUF here; from config.json by the safetensors track later.  Every count is at least
 * 1 where the engine divides by it and at most its limit (limits.h).  0 in a file means "unset" for
 * every optional key. */
#ifndef WORKER_MODEL_HPARAMS_H
#define WORKER_MODEL_HPARAMS_H

#include "lib/base/limits.h"
#include "worker/model/gguf.h"

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LONGROPE
};

struct hparams_layer {
    uint32_t n_head, n_head_kv; /* n_head is a multiple of n_head_kv */
    uint32_t n_ff;
    bool is_sliding; /* from attention.sliding_window_pattern when the file has one */
};

#define HPARAMS_ARCH_BYTES 64

struct hparams {
    char arch[HPARAMS_ARCH_BYTES]; /* general.architecture */
    uint32_t n_layer, n_embd, n_vocab, n_ctx_train;
    uint32_t k_dim, v_dim;        /* per head */
    uint32_t n_rot;               /* rope.dimension_count: even, <= k_dim */
    struct hparams_layer *layers; /* [n_layer], owned */

    float rms_eps, norm_eps;        /* 0 when absent; one of the two is there */
    float rope_base, rope_base_swa; /* _swa 0 when absent */
    uint32_t n_rot_swa;             /* rope.dimension_count_swa or n_rot */
    enum rope_scaling rope_scaling; /* NONE also for a linear factor of 1 */
    float rope_factor;              /* 1 when absent; positions are divided by it */
    float rope_attn_factor;         /* 1 when absent */
    float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast,
        yarn_beta_slow;        /* defaults -1, 1, 32, 1 */
    float yarn_log_multiplier; /* 0: none */
    uint32_t n_ctx_orig;       /* rope.scaling.original_context_length or n_ctx_train */
    bool rope_finetuned; /* rope.scaling.finetuned; has_rope_finetuned tells whether it was there */
    bool has_rope_finetuned;

    uint32_t n_swa;       /* attention.sliding_window, 0: none */
    bool has_swa_pattern; /* layers[].is_sliding are from the file */
    uint32_t swa_period;  /* attention.sliding_window_pattern as a number, 0: absent */

    float attn_scale;                                   /* attention.scale, 0: 1/sqrt(k_dim) */
    float attn_softcap, final_softcap;                  /* 0: none */
    float embedding_scale, residual_scale, logit_scale; /* 0: unset */
    float clamp_kqv;                                    /* 0: none */
    uint32_t attn_temp_length;                          /* attention.temperature_length, 0: none */
    float attn_temp_scale;                              /* attention.temperature_scale, 0: none */
    bool is_causal;                                     /* true when absent */

    uint32_t n_expert, n_expert_used; /* 0: dense; else 1 <= n_expert_used <= n_expert */
    uint32_t n_ff_expert;             /* expert_feed_forward_length, 0: layers[].n_ff */
    uint32_t n_ff_shared;             /* expert_shared_feed_forward_length, 0: absent */
    uint32_t n_expert_shared;         /* expert_shared_count */
    uint32_t n_layer_dense;           /* leading_dense_block_count */
    uint32_t
        expert_gating; /* expert_gating_func: 1 softmax, 2 sigmoid, 3 over the selected; 0: unset */
    float expert_weights_scale; /* 0: unset */
    bool expert_weights_norm, has_expert_weights_norm;
};

/* general.architecture alone, so that one that is not supported can be refused as that before its
 * other keys are found to be strange.  E_FORMAT when it is missing or no name; E_UNSUPPORTED for
 * adapters and projectors. */
int hparams_arch(const struct gguf *g, char ret[HPARAMS_ARCH_BYTES], struct err *err) MUST_USE;

/* E_FORMAT naming the key; E_LIMIT.  On success release with hparams_release. */
int hparams_from_gguf(const struct gguf *g, struct hparams *ret, struct err *err) MUST_USE;
void hparams_release(struct hparams *h);

#endif
