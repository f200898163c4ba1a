/* SPDX-License-Identifier: Apache-2.0 */
/* Implements dtype.h: one row per type that berth reads.  Sizes: ggml's block layouts
 * (ggml-common.h). */
#include "worker/kernel/dtype.h"

static const struct dtype_info table[DTYPE_N] = {
    [DTYPE_F32] = {"F32", 1, 4, true},         [DTYPE_F16] = {"F16", 1, 2, true},
    [DTYPE_Q4_0] = {"Q4_0", 32, 18, true},     [DTYPE_Q4_1] = {"Q4_1", 32, 20, true},
    [DTYPE_Q5_0] = {"Q5_0", 32, 22, true},     [DTYPE_Q5_1] = {"Q5_1", 32, 24, true},
    [DTYPE_Q8_0] = {"Q8_0", 32, 34, true},     [DTYPE_Q2_K] = {"Q2_K", 256, 84, true},
    [DTYPE_Q3_K] = {"Q3_K", 256, 110, true},   [DTYPE_Q4_K] = {"Q4_K", 256, 144, true},
    [DTYPE_Q5_K] = {"Q5_K", 256, 176, true},   [DTYPE_Q6_K] = {"Q6_K", 256, 210, true},
    [DTYPE_IQ4_NL] = {"IQ4_NL", 32, 18, true}, [DTYPE_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [DTYPE_I8] = {"I8", 1, 1, false},          [DTYPE_I16] = {"I16", 1, 2, false},
    [DTYPE_I32] = {"I32", 1, 4, false},        [DTYPE_I64] = {"I64", 1, 8, false},
    [DTYPE_F64] = {"F64", 1, 8, false},        [DTYPE_BF16] = {"BF16", 1, 2, true},
    [DTYPE_MXFP4] = {"MXFP4", 32, 17, true},
};

/* What unknown ids get: sizes of 1, so that nobody divides by zero before looking at the name. */
static const struct dtype_info unknown = {.name = NULL, .block_elements = 1, .block_bytes = 1};

const struct dtype_info *dtype_info(uint32_t id)
{
    return id < DTYPE_N && table[id].name ? &table[id] : &unknown;
}
