/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the multiplying units of Arm processors are when nothing else holds them up: for
 * limits.h.  Each function is compiled for its own instruction set and runs only where the machine
 * has it.  Any thread. */
#include <arm_neon.h>

#include "lib/sys/cpu.h"
#include "worker/kernel/limits.h"

/* Chains that do not wait for each other: more than latency times units of any processor. */
#define CHAINS 16

/* The instruction on every one of 16 accumulators; 30 and 31 are its factors. */
#define STEP(OP)                                                                                   \
    OP(0)                                                                                          \
    OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11) OP(12) OP(13) OP(14) OP(15)
#define CLOBBER                                                                                    \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", \
        "v15", "v30", "v31"
#define PEAK(NAME, EXTENSION, OP, OPS)                                                             \
    static double NAME(uint32_t rounds)                                                            \
    {                                                                                              \
        for (uint32_t r = 0; r < rounds; r++)                                                      \
            __asm__ volatile(EXTENSION STEP(OP)::: CLOBBER);                                       \
        return (double)rounds * CHAINS * (OPS);                                                    \
    }
/* For the assembler alone: the compiler still emits nothing newer. */
#define NEWER     ".arch armv8.2-a+dotprod+i8mm+bf16\n"
#define FMLA(n)   "fmla v" #n ".4s, v30.4s, v31.4s\n"
#define SDOT(n)   "sdot v" #n ".4s, v30.16b, v31.16b\n"
#define SMMLA(n)  "smmla v" #n ".4s, v30.16b, v31.16b\n"
#define BFMMLA(n) "bfmmla v" #n ".4s, v30.8h, v31.8h\n"

PEAK(fma_neon, "", FMLA, 8)
PEAK(dot_neon, NEWER, SDOT, 32)
PEAK(mmla_neon, NEWER, SMMLA, 64)
PEAK(bf16_neon, NEWER, BFMMLA, 32)

unsigned limits_peaks(struct limits_peak *ret)
{
    static const struct {
        enum cpu_feature needs;
        struct limits_peak peak;
    } rows[] = {{CPU_NEON, {"NEON FMA", "f32", fma_neon, 0}},
                {CPU_ARM_BF16, {"NEON BFMMLA", "bf16", bf16_neon, 0}},
                {CPU_DOTPROD, {"NEON SDOT", "int8", dot_neon, 0}},
                {CPU_I8MM, {"NEON SMMLA", "int8", mmla_neon, 0}}};
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (cpu_has(rows[i].needs))
            ret[n++] = rows[i].peak;
    }
    return n;
}
