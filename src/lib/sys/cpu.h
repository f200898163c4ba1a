/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor can do and the system lets it do.  Any thread. */
#ifndef LIB_SYS_CPU_H
#define LIB_SYS_CPU_H

#include "lib/base/compiler.h"

/* A feature counts only where the system also saves its registers (XCR0; for AMX, Linux's
 * permission too).  On Arm what Linux says counts. */
enum cpu_feature {
    CPU_AVX2,   /* with FMA and F16C */
    CPU_AVX512, /* F, BW, VL, DQ */
    CPU_AVX512VNNI,
    CPU_AVX512BF16,
    CPU_AVXVNNI,
    CPU_AMX_INT8,
    CPU_AMX_BF16,
    CPU_NEON, /* every aarch64 processor */
    CPU_DOTPROD,
    CPU_I8MM,
    CPU_ARM_BF16,
    CPU_N_FEATURES
};

bool cpu_has(enum cpu_feature f);

/* Why AMX, which the processor has, cannot be used: an errno, of Linux when it was asked for the
 * tile registers, or EOPNOTSUPP where it does not save them.  0: it can, or there is none. */
int cpu_amx_refused(void);

#endif
