/* SPDX-License-Identifier: Apache-2.0 */
/* Products with F32, F16 and BF16 weights, with NEON.  Any thread; see kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/v16_neon.h"

#define FLOAT_SUMS 24
enum { ONE_ROWS = 1, FEW_ROWS = 2, FEW_TOKENS = 2, MANY_FROM = 16 };

#include "worker/kernel/x86/float_impl.h"

void float_neon_fill(struct kern *k)
{
    float_fill(k);
}
