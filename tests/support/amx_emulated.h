/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel level that only tests can choose: what "amx" adds, on emulated tiles. */
#ifndef TESTS_SUPPORT_AMX_EMULATED_H
#define TESTS_SUPPORT_AMX_EMULATED_H

#include "worker/kernel/kern.h"

/* On a table of level "avx512vnni" or above; only where the machine has that. */
void amx_emulated_fill(struct kern *k);

#endif
