/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID and XGETBV (Intel 64 manual, volume 1 chapter 13 and 14.3; volume 2, CPUID); on Arm the
 * kernel's auxiliary vector.  Holds no state. */
#include "lib/sys/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    XCR0_AVX = 0x6,     /* XMM and YMM */
    XCR0_AVX512 = 0xe6, /* and opmask, ZMM */
    XCR0_AMX = 0x60000, /* tile configuration and data */
    ARCH_REQ_XCOMP_PERM = 0x1023,
    XFEATURE_XTILEDATA = 18,
    AMX_BITS = 1 << 24 | 1 << 25 | 1 << 22 /* TILE, INT8, BF16, in EDX of leaf 7 */
};

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

struct leaves {
    uint32_t c1, b7, c7, d7, a7_1;
    uint64_t xcr0;
};

static struct leaves leaves_read(void)
{
    struct leaves l = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &l.c1, &d))
        return l;
    if (l.c1 & bit_OSXSAVE)
        l.xcr0 = xcr0();
    uint32_t n_sub = 0;
    if (__get_cpuid_count(7, 0, &n_sub, &l.b7, &l.c7, &l.d7) && n_sub >= 1)
        __get_cpuid_count(7, 1, &l.a7_1, &b, &c, &d);
    return l;
}

static bool all(uint64_t have, uint64_t want)
{
    return (have & want) == want;
}

/* Linux hands out the tile registers on request only; for the whole process. */
static bool amx_permitted(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

int cpu_amx_refused(void)
{
    const struct leaves l = leaves_read();
    if (!all(l.d7, AMX_BITS))
        return 0;
    if (!all(l.xcr0, XCR0_AMX))
        return EOPNOTSUPP;
    return amx_permitted() ? 0 : errno;
}

bool cpu_has(enum cpu_feature f)
{
    struct leaves l = leaves_read();
    bool avx2 =
        all(l.xcr0, XCR0_AVX) && all(l.c1, bit_AVX | bit_FMA | bit_F16C) && all(l.b7, bit_AVX2);
    bool avx512 = avx2 && all(l.xcr0, XCR0_AVX512) &&
                  all(l.b7, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ);
    bool amx = avx512 && all(l.xcr0, XCR0_AMX) && all(l.d7, 1u << 24 /* AMX-TILE */);
    switch (f) {
    case CPU_AVX2: return avx2;
    case CPU_AVX512: return avx512;
    case CPU_AVX512VNNI: return avx512 && all(l.c7, bit_AVX512VNNI);
    case CPU_AVX512BF16: return avx512 && all(l.a7_1, 1u << 5);
    case CPU_AVXVNNI: return avx2 && all(l.a7_1, 1u << 4);
    case CPU_AMX_INT8: return amx && all(l.d7, 1u << 25) && amx_permitted();
    case CPU_AMX_BF16: return amx && all(l.d7, 1u << 22) && amx_permitted();
    default: break;
    }
    return false;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

/* Linux, arch/arm64/include/uapi/asm/hwcap.h; older headers lack some names. */
enum { HWCAP_BIT_ASIMD = 1, HWCAP_BIT_ASIMDDP = 20, HWCAP2_BIT_I8MM = 13, HWCAP2_BIT_BF16 = 14 };

int cpu_amx_refused(void)
{
    return 0;
}

bool cpu_has(enum cpu_feature f)
{
    switch (f) {
    case CPU_NEON: return getauxval(AT_HWCAP) >> HWCAP_BIT_ASIMD & 1;
    case CPU_DOTPROD: return getauxval(AT_HWCAP) >> HWCAP_BIT_ASIMDDP & 1;
    case CPU_I8MM: return cpu_has(CPU_DOTPROD) && getauxval(AT_HWCAP2) >> HWCAP2_BIT_I8MM & 1;
    case CPU_ARM_BF16: return getauxval(AT_HWCAP2) >> HWCAP2_BIT_BF16 & 1;
    default: return false;
    }
}

#else

int cpu_amx_refused(void)
{
    return 0;
}

bool cpu_has(enum cpu_feature f UNUSED)
{
    return false;
}

#endif
