/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised, BF16 and F16 weights on AMX.  Any thread: tiles are configured and
 * released within each call; see kern.h. */
#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/file_impl.h"

#include "worker/kernel/x86/amx/tile.h"

#include "worker/kernel/x86/amx/many_impl.h"

#include "worker/kernel/x86/amx/float_impl.h"

#include "worker/kernel/x86/amx/quant_impl.h"

#include "worker/kernel/x86/amx/rows_impl.h"

void quant_amx_fill(struct kern *k)
{
    amx_fill(k);
}
