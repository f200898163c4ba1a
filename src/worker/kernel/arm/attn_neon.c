/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one position, with NEON.  Any thread; see kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/v16_neon.h"

#include "worker/kernel/x86/attn_impl.h"

void attn_neon_fill(struct kern *k)
{
    attn_fill(k);
}
