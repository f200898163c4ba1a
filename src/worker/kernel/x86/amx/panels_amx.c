/* SPDX-License-Identifier: Apache-2.0 */
/* Products with weights in the prepared layout, on AMX.  Any thread: tiles are configured and
 * released within each call; see kern.h. */
#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/amx/tile.h"

#include "worker/kernel/x86/amx/many_impl.h"

#include "worker/kernel/x86/amx/quant_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/strip_unpack_impl.h"

#include "worker/kernel/x86/amx/strips_impl.h"

void panels_amx_fill(struct kern *k)
{
    amx_strips_fill(k);
}
