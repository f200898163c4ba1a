/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with AVX-512: 24 of 32 registers hold sums.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

#define TILE_ROWS 6
#define TILE_VECS 4
#include "worker/kernel/x86/attn_impl.h"

void attn_avx512_fill(struct kern *k)
{
    attn_fill(k);
}
