/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with NEON's dot product (SDOT).  Any thread; see kern.h. */
#include <arm_neon.h>

#include "lib/base/compiler.h"

/* acc[l] += the products of the four bytes of lane l. */
static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x)
{
    return vdotq_s32(acc, w, x);
}

#include "worker/kernel/arm/quant_impl.h"

void quant_dotprod_fill(struct kern *k)
{
    quant_fill(k);
}
