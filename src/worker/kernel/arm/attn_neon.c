/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with NEON: 16 of 32 registers hold sums.  Any thread; see kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/v16_neon.h"

#define TILE_ROWS 2
#define TILE_VECS 2
#include "worker/kernel/x86/attn_impl.h"

void attn_neon_fill(struct kern *k)
{
    attn_fill(k);
}
