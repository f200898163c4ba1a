/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens with weights in the prepared layout, with NEON's 8-bit matrix product
 * (SMMLA): half the instructions of SDOT.  Few tokens go as on the level below.  Any thread; see
 * kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/b64_neon.h"

#include "worker/kernel/unpack.h"

#include "worker/kernel/x86/quant_common.h"

#define SUMS_BY_MMLA
#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/strip_unpack_impl.h"

#include "worker/kernel/arm/mmla_many_impl.h"

void panels_i8mm_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul_panels[DTYPE_##TYPE] = mmla_##TYPE;
    STRIP_TYPES(X)
#undef X
}
