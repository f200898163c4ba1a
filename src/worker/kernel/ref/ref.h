/* SPDX-License-Identifier: Apache-2.0 */
/* The plain C kernels: complete, the yardstick of all others, and all there is on a machine without
 * SIMD. Private to worker/kernel. */
#ifndef WORKER_KERNEL_REF_REF_H
#define WORKER_KERNEL_REF_REF_H

#include "worker/kernel/kern.h"

/* Each fills its own slots; together they fill all. */
void ref_matmul_fill(struct kern *k);
void ref_dequant_fill(struct kern *k);
void ref_rows_fill(struct kern *k);
void ref_attn_fill(struct kern *k);

#endif
