/* SPDX-License-Identifier: Apache-2.0 */
/* Products with weights in the prepared layout, with plain NEON.  Any thread; see
 * kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/b64_neon.h"

/* Four bytes to every lane. */
typedef int8x16_t act4;

INLINED act4 act4_load(const int8_t *x)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)x));
}

/* acc[l] += the products of the four bytes of lane l: as in quant_neon.c. */
INLINED int32x4_t dot4_by(int32x4_t acc, int8x16_t w, act4 x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    acc = vpadalq_s16(acc, vpaddq_s16(low, high));
    __asm__ volatile("" : "+w"(acc)); /* here, as in dot_lane_impl.h */
    return acc;
}

#include "worker/kernel/unpack.h"

#include "worker/kernel/x86/quant_common.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/prepared_impl.h"

void panels_neon_fill(struct kern *k)
{
    prepared_fill(k);
}
