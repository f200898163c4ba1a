/* SPDX-License-Identifier: Apache-2.0 */
/* What the Arm levels add to the table; each function fills only the slots that its file has.  To
 * be called only where the machine has the instruction set.  Private to worker/kernel. */
#ifndef WORKER_KERNEL_ARM_ARM_H
#define WORKER_KERNEL_ARM_ARM_H

#include "worker/kernel/kern.h"

/* Every aarch64 processor. */
void rows_neon_fill(struct kern *k);
void attn_neon_fill(struct kern *k);
void float_neon_fill(struct kern *k);
void quant_neon_fill(struct kern *k);
void panels_neon_fill(struct kern *k);

/* Armv8.2 with the dot product (SDOT). */
void quant_dotprod_fill(struct kern *k);
void panels_dotprod_fill(struct kern *k);
kern_matmul_fn panels_dotprod(enum dtype type); /* what it fills in */

/* And with the 8-bit matrix product (SMMLA). */
void quant_i8mm_fill(struct kern *k);
void panels_i8mm_fill(struct kern *k);

#endif
