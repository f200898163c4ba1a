/* SPDX-License-Identifier: Apache-2.0 */
/* Products with F32, F16 and BF16 weights, with AVX-512.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

enum { FLOAT_ROWS = 4, FLOAT_TOKENS = 4 };

#include "worker/kernel/x86/float_impl.h"

void float_avx512_fill(struct kern *k)
{
    float_fill(k);
}
