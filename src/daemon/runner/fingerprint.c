/* SPDX-License-Identifier: Apache-2.0 */
/* The name of what answers: "fp_", twelve digits of the model's digest ("unhashed" while that is
 * unknown), "_", and eight of a hash over everything declared that shapes an answer.  Equal
 * fingerprints, seeds and requests give equal answers.  Loop thread. */
#include <stdio.h>

#include "daemon/runner/internal.h"

/* FNV-1a. */
static uint64_t hash_more(uint64_t h, const void *p, size_t n)
{
    const unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 1099511628211ull;
    return h;
}

void fingerprint_make(struct worker *w)
{
    uint64_t h = model_settings_hash(&w->model->settings); /* the template among them */
    const char *digest =
        str_has_prefix(str_from(w->digest), STR_LIT("sha256:")) ? w->digest + 7 : "unhashed";
    h = hash_more(h, &w->plan.n_ctx, sizeof(w->plan.n_ctx));
    h = hash_more(h, &w->plan.kv_type, sizeof(w->plan.kv_type));
    h = hash_more(h, &w->plan.block_size, sizeof(w->plan.block_size));
    h = hash_more(h, w->loaded.cpu_level, strlen(w->loaded.cpu_level));
    h = hash_more(h, BERTH_VERSION, strlen(BERTH_VERSION));
    snprintf(w->loaded.fingerprint, sizeof(w->loaded.fingerprint), "fp_%.12s_%08x", digest,
             (unsigned)(h ^ h >> 32));
}
