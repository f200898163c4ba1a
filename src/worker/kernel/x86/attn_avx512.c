/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with AVX-512.  Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

#include "worker/kernel/x86/attn_impl.h"

void attn_avx512_fill(struct kern *k)
{
    attn_fill(k);
}
