/* SPDX-License-Identifier: Apache-2.0 */
/* Products with weights in the prepared layout, with NEON's dot product (SDOT).  Any thread; see
 * kern.h. */
#include "worker/kernel/arm/arm.h"
#include "worker/kernel/arm/b64_neon.h"

#include "worker/kernel/arm/dot_lane_impl.h"

#include "worker/kernel/unpack.h"

#include "worker/kernel/x86/quant_common.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/prepared_impl.h"

kern_matmul_fn panels_dotprod(enum dtype type)
{
    switch (type) {
#define X(TYPE, ...)                                                                               \
    case DTYPE_##TYPE: return prepared_##TYPE;
        STRIP_TYPES(X)
#undef X
    default: return NULL;
    }
}

void panels_dotprod_fill(struct kern *k)
{
    prepared_fill(k);
}
