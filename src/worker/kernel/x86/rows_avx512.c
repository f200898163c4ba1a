/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that work on one row, with AVX-512.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

#include "worker/kernel/x86/rows_impl.h"

void rows_avx512_fill(struct kern *k)
{
    rows_fill(k);
}
