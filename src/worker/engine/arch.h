/* SPDX-License-Identifier: Apache-2.0 */
/* Architectures as data: one row says how a decoder layer of a family is wired; forward.c reads the
 * row.
 *
 * Owns the table.  What a file's tensors already say (a fused or split projection, a bias, an
 * untied output matrix, experts or not) is not repeated here: weights.c finds it.  Read-only: any
 * thread. */
#ifndef WORKER_ENGINE_ARCH_H
#define WORKER_ENGINE_ARCH_H

#include "lib/base/err.h"

enum arch_rope { ARCH_ROPE_NORM, ARCH_ROPE_NEOX };
enum arch_qk_norm {
    ARCH_QK_NORM_NONE,
    ARCH_QK_NORM_HEAD /* each head */,
    ARCH_QK_NORM_WIDTH /* whole rows */
};
enum arch_ffn { ARCH_FFN_SILU, ARCH_FFN_GELU };
enum arch_attn_scale {
    ARCH_ATTN_SCALE_HEAD,   /* 1 / sqrt(k_dim), whatever the file says */
    ARCH_ATTN_SCALE_KEY,    /* attention.scale, when set */
    ARCH_ATTN_SCALE_GEMMA2, /* 1 / sqrt(k_dim), but of n_embd / n_head in the 27B (46 layers) */
    ARCH_ATTN_SCALE_GEMMA3  /* the same, 62 layers */
};

/* Per-tensor factors (`NAME.scale`) that multiply a projection's output; llama.cpp heeds them
 * unevenly. */
enum {
    ARCH_SCALE_QKV = 1, /* before the bias */
    ARCH_SCALE_O = 2,   /* before the bias */
    ARCH_SCALE_FFN = 4, /* after the bias */
    ARCH_SCALE_EXPERTS = 8,
    ARCH_SCALE_SHARED = 16
};

struct arch {
    const char *name; /* general.architecture */
    enum arch_rope rope;
    enum arch_qk_norm qk_norm;
    enum arch_ffn ffn;
    enum arch_attn_scale attn_scale;
    unsigned tensor_scales;   /* ARCH_SCALE_* */
    bool pre_norm, post_norm; /* norms before and after attention and feed-forward */
    bool has_experts;         /* may have experts in place of the dense feed-forward */

    uint32_t rope_skip_period; /* every n-th layer is not rotated; 0: all are */
    bool rope_switch;          /* rope.scaling.finetuned = false turns rotation off */
    bool rope_factors; /* tensors rope_freqs, rope_factors_long and _short divide the frequencies */

    /* Sliding windows: layer il slides unless (il + 1) % period == 0. */
    uint32_t swa_period; /* when the file gives no number; 0: the family has no windows */
    uint32_t swa_window; /* when the file gives none; 0: none */
    float swa_rope_base; /* of sliding layers when the file gives none; 0: the model's */
    bool swa_rope_plain; /* sliding layers rotate without the file's scaling */

    bool attn_softcap, final_softcap;                  /* the file's values are heeded */
    bool embed_sqrt;                                   /* embeddings times sqrt(n_embd) */
    bool embedding_scale, residual_scale, logit_scale; /* the file's values are heeded */
};

/* E_UNSUPPORTED naming the architecture and the supported ones. */
int arch_find(const char *name, const struct arch **ret, struct err *err) MUST_USE;

#endif
