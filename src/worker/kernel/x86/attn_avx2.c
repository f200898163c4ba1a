/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with AVX2: 8 of 16 registers hold sums.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx2.h"

#define TILE_ROWS 2
#define TILE_VECS 2
#include "worker/kernel/x86/attn_impl.h"

void attn_avx2_fill(struct kern *k)
{
    attn_fill(k);
}
