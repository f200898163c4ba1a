/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with AVX-512 and VNNI.  Any thread; see kern.h. */
#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/quant_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/file_impl.h"

#include "worker/kernel/x86/panel/many_impl.h"

void quant_avx512vnni_fill(struct kern *k)
{
    quant_panel_fill(k);
}
