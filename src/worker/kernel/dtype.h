/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor element types: ggml's numbering, block sizes and names.  Block layouts are in blocks.h.
 * Any thread. */
#ifndef WORKER_KERNEL_DTYPE_H
#define WORKER_KERNEL_DTYPE_H

#include "lib/base/compiler.h"

/* Values are the ids stored in GGUF files. */
enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q2_K = 10,
    DTYPE_Q3_K = 11,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_IQ4_NL = 20,
    DTYPE_IQ4_XS = 23,
    DTYPE_I8 = 24,
    DTYPE_I16 = 25,
    DTYPE_I32 = 26,
    DTYPE_I64 = 27,
    DTYPE_F64 = 28,
    DTYPE_BF16 = 30,
    DTYPE_MXFP4 = 39,
    DTYPE_N = 40
};

struct dtype_info {
    const char *name;        /* "Q4_K"; NULL: not a type berth reads */
    uint32_t block_elements; /* elements per block, 1 for plain types */
    uint32_t block_bytes;
    bool is_weight; /* a matrix product and a row lookup exist for it */
};

/* Never NULL; for an unknown id an entry whose name is NULL. */
const struct dtype_info *dtype_info(uint32_t id);

/* Bytes of a row of n elements; n must be a multiple of block_elements. */
static inline uint64_t dtype_row_bytes(const struct dtype_info *t, uint64_t n)
{
    return n / t->block_elements * t->block_bytes;
}

#endif
