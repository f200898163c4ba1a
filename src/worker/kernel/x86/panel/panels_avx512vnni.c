/* SPDX-License-Identifier: Apache-2.0 */
/* Products with weights in the prepared layout, with AVX-512 and VNNI.  Any thread; see kern.h. */
#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/prepared_impl.h"

void panels_avx512vnni_fill(struct kern *k)
{
    prepared_fill(k);
}
