/* SPDX-License-Identifier: Apache-2.0 */
/* Products with F32, F16 and BF16 weights, with AVX2.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx2.h"

enum { FLOAT_ROWS = 2, FLOAT_TOKENS = 2 };

#include "worker/kernel/x86/float_impl.h"

void float_avx2_fill(struct kern *k)
{
    float_fill(k);
}
