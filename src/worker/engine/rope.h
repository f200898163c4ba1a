/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding: the {cos, sin} table of one position.
 *
 * Sources: Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN), the per-frequency divisors of llama3 and
 * phi3.  Angles are computed in float by the same operations in the same order as ggml's, which
 * models in GGUF are judged by: a tiny divisor makes angles of thousands of radians, whose rounding
 * would otherwise show in the logits. Owns nothing; read-only: any thread. */
#ifndef WORKER_ENGINE_ROPE_H
#define WORKER_ENGINE_ROPE_H

#include "lib/base/compiler.h"

struct rope {
    uint32_t n_rot; /* even */
    float base;
    float factor;          /* positions are stretched by it; 1: not */
    const float *divisors; /* [n_rot / 2], borrowed, or NULL */
    float magnitude;       /* of cos and sin, before YaRN's own */
    bool yarn;             /* blend stretched and unstretched by frequency */
    float ext_factor;      /* YaRN: share of the blend, 1 */
    float beta_fast, beta_slow;
    float n_ctx_orig;
};

/* cos_sin[n_rot] = {cos, sin} pairs of position pos, times the magnitude. */
void rope_table(const struct rope *r, uint32_t pos, float *cos_sin);

#endif
