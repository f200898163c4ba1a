/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel level that only tests can choose: the AMX kernels as they are compiled, on a machine
 * without AMX.  Their tile instructions raise SIGILL there, and a handler does what they say. */
#ifndef TESTS_SUPPORT_AMX_TRAPPED_H
#define TESTS_SUPPORT_AMX_TRAPPED_H

#include "worker/kernel/kern.h"

/* On a table of level "avx512vnni" or above; only where the machine has that.  Takes SIGILL over
 * for the program; one thread. */
void amx_trapped_fill(struct kern *k);

/* The tile instructions that the handler has done. */
uint64_t amx_trapped_count(void);

#endif
