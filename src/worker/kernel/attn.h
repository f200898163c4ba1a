/* SPDX-License-Identifier: Apache-2.0 */
/* How attention cuts a sequence's cache into chunks: shared by all levels, so that none depends on
 * anything but positions.  Private to worker/kernel. */
#ifndef WORKER_KERNEL_ATTN_H
#define WORKER_KERNEL_ATTN_H

#include "worker/kernel/kern.h"

enum { ATTN_CHUNK = 64 };

/* Below every finite score, yet finite: exp(ATTN_MIN - score) is 0 and no infinity is subtracted
 * from itself. */
#define ATTN_MIN (-3.0e38f)

/* n rows that lie in one block. */
struct attn_chunk {
    const char *k, *v;
    uint32_t n;
};

/* The chunk that begins at position p: up to the next multiple of ATTN_CHUNK in p's block, the
 * block's end or a->last. */
static inline struct attn_chunk attn_chunk(const struct kern_attn *a, uint32_t p)
{
    uint32_t row = p % a->block_len, block = a->block_table[p / a->block_len];
    uint32_t n = ATTN_CHUNK - row % ATTN_CHUNK;
    n = MIN_OF(n, a->block_len - row);
    n = MIN_OF(n, a->last - p + 1);
    return (struct attn_chunk){
        a->k + block * a->k_block_stride_bytes + row * a->k_row_stride_bytes,
        a->v + block * a->v_block_stride_bytes + row * a->v_row_stride_bytes,
        n,
    };
}

#endif
