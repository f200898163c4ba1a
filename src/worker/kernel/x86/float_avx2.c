/* SPDX-License-Identifier: Apache-2.0 */
/* Products with F32, F16 and BF16 weights, with AVX2.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx2.h"

#define FLOAT_SUMS 12
enum { ONE_ROWS = 4, FEW_ROWS = 2, FEW_TOKENS = 3, MANY_FROM = 9 };

#include "worker/kernel/x86/float_impl.h"

void float_avx2_fill(struct kern *k)
{
    float_fill(k);
}
