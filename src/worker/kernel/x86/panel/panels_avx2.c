/* SPDX-License-Identifier: Apache-2.0 */
/* Products with weights in the prepared layout, with AVX2.  Any thread; see kern.h. */
#include "worker/kernel/x86/b64_avx2.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/prepared_impl.h"

void panels_avx2_fill(struct kern *k)
{
    prepared_fill(k);
}
