/* SPDX-License-Identifier: Apache-2.0 */
/* Models of a few kilobytes with pseudo-random weights, the same bytes everywhere: one or more of
 * each architecture. What llama.cpp computes for them is in tests/data/archs. */
#ifndef TESTS_SUPPORT_TINY_MODEL_H
#define TESTS_SUPPORT_TINY_MODEL_H

#include "lib/base/buf.h"
#include "worker/model/gguf.h"

struct tiny_model {
    const char *name, *arch;
    uint32_t n_layer, n_head, n_head_kv, head_dim, n_rot; /* n_rot 0: head_dim */
    uint32_t n_expert, n_ff_shared, n_swa;
    bool qkv_bias, o_bias, fused, qk_norm_head, qk_norm_width, no_pre_norm, post_norm, tied,
        rope_freqs, longrope;
    bool softcaps, scales;
    enum dtype quant;      /* Q8_0 or Q4_0 for matrices whose rows are whole blocks; 0: F32 */
    const char *rope_type; /* rope.scaling.type, with factor 4 and an original context of 16 */
};

#define TINY_VOCAB 64u
#define TINY_EMBD  32u
#define TINY_FF    48u
#define TINY_CTX   256u

extern const struct tiny_model tiny_models[];
extern const uint32_t n_tiny_models;

/* A copy of m with such matrices: other weights, quantised from the start. */
struct tiny_model tiny_model_as(const struct tiny_model *m, enum dtype quant);
/* NULL when there is none. */
const struct tiny_model *tiny_model_find(const char *name);
/* The file's bytes; release out. */
void tiny_model_build(const struct tiny_model *m, struct buf *out);
/* Built and opened; close g. */
struct gguf *tiny_model_open(const struct tiny_model *m);

/* The n tokens that the goldens were made with. */
void tiny_tokens(int32_t *tokens, uint32_t n, uint32_t n_vocab);

#endif
