/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding: the frequencies of a model and the {cos, sin} table of one position.
 *
 * Sources: Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN), llama3's and phi3's per-frequency divisors as ggml applies
 * them.  Angles are computed in double, so that a long context loses nothing; the kernels rotate in float.
 * Owns nothing: the caller gives room for the frequencies.  Filled once, then read-only: any thread. */
#ifndef WORKER_ENGINE_ROPE_H
#define WORKER_ENGINE_ROPE_H

#include "lib/base/compiler.h"

struct rope_params {
    uint32_t n_rot;          /* even */
    double base;
    double factor;           /* positions are stretched by it; 1: not */
    const float *divisors;   /* [n_rot / 2] or NULL */
    float attn_factor;       /* magnitude of cos and sin before YaRN's own */
    bool yarn;               /* blend stretched and unstretched by frequency */
    double ext_factor;       /* YaRN: share of the blend, 1 */
    double beta_fast, beta_slow;
    double n_ctx_orig;
};

struct rope {
    double *freq;   /* [n_rot / 2]: radians per position; the caller's */
    uint32_t n_rot;
    float magnitude;
};

/* Fills r->freq (set by the caller, room for n_rot / 2) from p. */
void rope_init(struct rope *r, const struct rope_params *p);

/* cos_sin[n_rot] = {cos, sin} pairs of position pos, times the magnitude. */
void rope_table(const struct rope *r, uint32_t pos, float *cos_sin);

#endif
