/* SPDX-License-Identifier: Apache-2.0 */
/* The AMX kernels on tiles in plain C (tile.h), so that machines without AMX test all but the
 * instructions themselves.  Needs AVX-512 with VNNI. */
#define TILES_EMULATED

#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/file_impl.h"

#include "worker/kernel/x86/amx/tile.h"

#include "worker/kernel/x86/amx/many_impl.h"

#include "worker/kernel/x86/amx/float_impl.h"

#include "worker/kernel/x86/amx/quant_impl.h"

#include "worker/kernel/x86/amx/rows_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/strip_unpack_impl.h"

#include "worker/kernel/x86/amx/strips_impl.h"

#include "tests/support/amx_emulated.h"

void amx_emulated_fill(struct kern *k)
{
    amx_fill(k);
    amx_strips_fill(k);
    k->level = "amx-emulated";
}
