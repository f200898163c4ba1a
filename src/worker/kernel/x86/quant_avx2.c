/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with AVX2.  Any thread; see kern.h. */
#include "worker/kernel/x86/b64_avx2.h"

#include "worker/kernel/x86/quant_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/file_impl.h"

#include "worker/kernel/x86/panel/many_impl.h"

void quant_avx2_fill(struct kern *k)
{
    quant_panel_fill(k);
}
