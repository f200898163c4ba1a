/* SPDX-License-Identifier: Apache-2.0 */
/* Implements rope.h. */
#include "worker/engine/rope.h"

#include <math.h>

/* The dimension whose frequency turns `turns` times within the original context (YaRN,
 * section 3.2). */
static float yarn_dim(const struct rope *r, float turns)
{
    return (float)r->n_rot * logf(r->n_ctx_orig / (turns * 2.0f * (float)M_PI)) /
           (2.0f * logf(r->base));
}

/* Share of the unstretched angle for pair i: ext_factor for fast ones, 0 for slow ones; lo and hi:
 * the ramp's ends. */
static float yarn_share(const struct rope *r, float lo, float hi, uint32_t i)
{
    const float y = ((float)i - lo) / fmaxf(0.001f, hi - lo);
    return (1.0f - fminf(1.0f, fmaxf(0.0f, y))) * r->ext_factor;
}

void rope_table(const struct rope *r, uint32_t pos, float *cos_sin)
{
    const float step = powf(r->base, -2.0f / (float)r->n_rot), shrink = 1.0f / r->factor;
    float lo = 0, hi = 0, magnitude = r->magnitude, theta = (float)pos;
    if (r->yarn) {
        lo = fmaxf(0.0f, floorf(yarn_dim(r, r->beta_fast)));
        hi = fminf((float)r->n_rot - 1.0f, ceilf(yarn_dim(r, r->beta_slow)));
        if (r->factor > 1.0f)
            magnitude *= 1.0f + 0.1f * logf(r->factor);
    }
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        const float full = r->divisors ? theta / r->divisors[i] : theta;
        float angle = shrink * full;
        if (r->yarn) {
            const float share = yarn_share(r, lo, hi, i);
            angle = angle * (1.0f - share) + full * share;
        }
        cos_sin[2 * i] = cosf(angle) * magnitude;
        cos_sin[2 * i + 1] = sinf(angle) * magnitude;
        theta *= step;
    }
}
