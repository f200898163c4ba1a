/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that work on one row, with NEON.  Any thread; see kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/v16_neon.h"

#include "worker/kernel/x86/rows_impl.h"

void rows_neon_fill(struct kern *k)
{
    rows_fill(k);
}
