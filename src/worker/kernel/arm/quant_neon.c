/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with plain NEON.  Any thread; see kern.h. */
#include <arm_neon.h>

#include "lib/base/compiler.h"

/* acc[l] += the products of the four bytes of lane l.  Two of them stay within 16 bits: -128 comes
 * from weights alone, and 2 * 128 * 127 < 2^15. */
static inline int32x4_t dot4(int32x4_t acc, int8x16_t w, int8x16_t x)
{
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
}

#include "worker/kernel/arm/quant_impl.h"

void quant_neon_fill(struct kern *k)
{
    quant_fill(k);
}
