/* SPDX-License-Identifier: Apache-2.0 */
/* Products with F32, F16 and BF16 weights, with AVX-512.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

#define FLOAT_SUMS 24
enum { ONE_ROWS = 1, FEW_ROWS = 4, FEW_TOKENS = 4, MANY_FROM = 32 };

#include "worker/kernel/x86/float_impl.h"

void float_avx512_fill(struct kern *k)
{
    float_fill(k);
}
