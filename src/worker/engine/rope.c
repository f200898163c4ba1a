/* SPDX-License-Identifier: Apache-2.0 */
/* Implements rope.h. */
#include "worker/engine/rope.h"

#include <math.h>

/* The dimension whose frequency turns `turns` times within the original context (YaRN, section 3.2). */
static double yarn_dim(const struct rope_params *p, double turns)
{
    return p->n_rot * log(p->n_ctx_orig / (turns * 2.0 * M_PI)) / (2.0 * log(p->base));
}

/* Share of the unstretched frequency for pair i: 1 for fast ones, 0 for slow ones. */
static double yarn_share(const struct rope_params *p, uint32_t i)
{
    double lo = floor(yarn_dim(p, p->beta_fast)), hi = ceil(yarn_dim(p, p->beta_slow));
    lo = fmax(0.0, lo);
    hi = fmin(p->n_rot - 1.0, hi);
    double y = ((double)i - lo) / fmax(0.001, hi - lo);
    return (1.0 - fmin(1.0, fmax(0.0, y))) * p->ext_factor;
}

void rope_init(struct rope *r, const struct rope_params *p)
{
    r->n_rot = p->n_rot;
    r->magnitude = p->attn_factor;
    if (p->yarn && p->factor > 1.0)
        r->magnitude *= (float)(1.0 + 0.1 * log(p->factor));
    for (uint32_t i = 0; i < p->n_rot / 2; i++) {
        double f = pow(p->base, -2.0 * i / p->n_rot);
        if (p->divisors)
            f /= (double)p->divisors[i];
        double share = p->yarn ? yarn_share(p, i) : 0.0;
        r->freq[i] = f / p->factor * (1.0 - share) + f * share;
    }
}

void rope_table(const struct rope *r, uint32_t pos, float *cos_sin)
{
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double s, c;
        sincos((double)pos * r->freq[i], &s, &c);
        cos_sin[2 * i] = (float)c * r->magnitude;
        cos_sin[2 * i + 1] = (float)s * r->magnitude;
    }
}
