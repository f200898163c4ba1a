/* SPDX-License-Identifier: Apache-2.0 */
/* What the x86 levels add to the table; each function fills only the slots that its file has.  To
 * be called only where the machine has the instruction set.  Private to worker/kernel. */
#ifndef WORKER_KERNEL_X86_X86_H
#define WORKER_KERNEL_X86_X86_H

#include "worker/kernel/kern.h"

/* The loop after it has a small constant count: keep its arrays in registers.  (Under a sanitizer
 * it only costs the compiler minutes.) */
#if defined(BERTH_SAN)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINED static inline __attribute__((always_inline))

/* A line into the first-level cache, or the second. Addresses that are none do nothing. */
#define FETCH_NEAR(p) __builtin_prefetch(p, 0, 3)
#define FETCH_FAR(p)  __builtin_prefetch(p, 0, 2)

void rows_avx2_fill(struct kern *k);
void attn_avx2_fill(struct kern *k);
void float_avx2_fill(struct kern *k);
void quant_avx2_fill(struct kern *k);
void panels_avx2_fill(struct kern *k);

void quant_avxvnni_fill(struct kern *k);
void panels_avxvnni_fill(struct kern *k);

void rows_avx512_fill(struct kern *k);
void attn_avx512_fill(struct kern *k);
void float_avx512_fill(struct kern *k);
void quant_avx512_fill(struct kern *k);
void panels_avx512_fill(struct kern *k);

void quant_avx512vnni_fill(struct kern *k);
void panels_avx512vnni_fill(struct kern *k);
void float_avx512bf16_fill(struct kern *k);

void quant_amx_fill(struct kern *k);
void panels_amx_fill(struct kern *k);

#endif
