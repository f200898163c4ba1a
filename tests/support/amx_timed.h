/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel level that only benches can choose: how long the AMX kernels would take, on a machine
 * without AMX.  Products are wrong. */
#ifndef TESTS_SUPPORT_AMX_TIMED_H
#define TESTS_SUPPORT_AMX_TIMED_H

#include "worker/kernel/kern.h"

/* On a table of level "avx512vnni" or above; only where the machine has that.  NULL where the
 * build leaves it out.
 *
 * Every tile is whole, whatever its shape: rows and tokens are to be multiples of 16, or else y is
 * written past its end.  Up to 32 tokens may be any number where others follow to be read. */
void amx_timed_fill(struct kern *k) __attribute__((weak));

#endif
