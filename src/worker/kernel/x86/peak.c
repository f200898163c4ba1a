/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the multiplying units of x86 processors are when nothing else holds them up: for
 * limits.h.  Each function is compiled for its own instruction set and runs only where the machine
 * has it.  Any thread. */
#include <immintrin.h>
#include <string.h>

#include "lib/sys/cpu.h"
#include "worker/kernel/limits.h"
#include "worker/kernel/x86/x86.h"

/* Chains that do not wait for each other: more than latency times units of any processor. */
enum { CHAINS = 12 };

/* The compiler may know nothing of v, and must have it. */
#define OPAQUE(v)  __asm__ volatile("" : "+x"(v))
#define OPAQUEZ(v) __asm__ volatile("" : "+v"(v))

#define PEAK(NAME, TARGET, TYPE, ZERO, HIDE, STEP, OPS)                                            \
    __attribute__((target(TARGET))) static double NAME(uint32_t rounds)                            \
    {                                                                                              \
        TYPE acc[CHAINS], a = ZERO, b = ZERO;                                                      \
        HIDE(a);                                                                                   \
        HIDE(b);                                                                                   \
        for (int i = 0; i < CHAINS; i++)                                                           \
            acc[i] = ZERO;                                                                         \
        for (uint32_t r = 0; r < rounds; r++) {                                                    \
            UNROLL                                                                                 \
            for (int i = 0; i < CHAINS; i++)                                                       \
                acc[i] = STEP;                                                                     \
        }                                                                                          \
        for (int i = 0; i < CHAINS; i++)                                                           \
            HIDE(acc[i]);                                                                          \
        return (double)rounds * CHAINS * (OPS);                                                    \
    }

PEAK(fma_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), OPAQUE, _mm256_fmadd_ps(a, b, acc[i]), 16)
PEAK(fma_avx512, "avx512f", __m512, _mm512_setzero_ps(), OPAQUEZ, _mm512_fmadd_ps(a, b, acc[i]), 32)
PEAK(madd_avx2, "avx2", __m256i, _mm256_setzero_si256(), OPAQUE,
     _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(acc[i], b)), 64)
PEAK(vnni_avx, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), OPAQUE,
     _mm256_dpbusd_avx_epi32(acc[i], a, b), 64)
PEAK(vnni_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), OPAQUEZ,
     _mm512_dpbusd_epi32(acc[i], a, b), 128)

__attribute__((target("avx512f,avx512bf16"))) static double bf16_avx512(uint32_t rounds)
{
    __m512 acc[CHAINS];
    __m512i z = _mm512_setzero_si512();
    OPAQUEZ(z);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_setzero_ps();
    for (uint32_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)z, (__m512bh)z);
    }
    for (int i = 0; i < CHAINS; i++)
        OPAQUEZ(acc[i]);
    return (double)rounds * CHAINS * 64;
}

/* Eight tiles of 16 rows of 64 bytes (Intel 64 manual, volume 1, chapter 18). */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#define TILE_PEAK(NAME, TARGET, STEP, OPS)                                                         \
    __attribute__((target("amx-tile," TARGET))) static double NAME(uint32_t rounds)                \
    {                                                                                              \
        struct tile_config c __attribute__((aligned(64))) = {.palette = 1};                        \
        for (int i = 0; i < 8; i++) {                                                              \
            c.row_bytes[i] = 64;                                                                   \
            c.rows[i] = 16;                                                                        \
        }                                                                                          \
        _tile_loadconfig(&c);                                                                      \
        _tile_zero(0);                                                                             \
        _tile_zero(1);                                                                             \
        _tile_zero(2);                                                                             \
        _tile_zero(3);                                                                             \
        _tile_zero(4);                                                                             \
        _tile_zero(5);                                                                             \
        _tile_zero(6);                                                                             \
        _tile_zero(7);                                                                             \
        for (uint32_t r = 0; r < rounds; r++) {                                                    \
            STEP(0, 4, 6);                                                                         \
            STEP(1, 4, 7);                                                                         \
            STEP(2, 5, 6);                                                                         \
            STEP(3, 5, 7);                                                                         \
        }                                                                                          \
        _tile_release();                                                                           \
        return (double)rounds * 4 * (OPS);                                                         \
    }
TILE_PEAK(amx_int8, "amx-int8", _tile_dpbssd, 2 * 16 * 16 * 64)
TILE_PEAK(amx_bf16, "amx-bf16", _tile_dpbf16ps, 2 * 16 * 16 * 32)

unsigned limits_peaks(struct limits_peak *ret)
{
    static const struct {
        enum cpu_feature needs;
        struct limits_peak peak;
    } rows[] = {{CPU_AVX2, {"AVX2 FMA", "f32", fma_avx2, 0}},
                {CPU_AVX512, {"AVX-512 FMA", "f32", fma_avx512, 0}},
                {CPU_AVX512BF16, {"AVX-512 BF16", "bf16", bf16_avx512, 0}},
                {CPU_AMX_BF16, {"AMX BF16", "bf16", amx_bf16, 0}},
                {CPU_AVX2, {"AVX2 int8", "int8", madd_avx2, 0}},
                {CPU_AVXVNNI, {"AVX-VNNI", "int8", vnni_avx, 0}},
                {CPU_AVX512VNNI, {"AVX-512 VNNI", "int8", vnni_avx512, 0}},
                {CPU_AMX_INT8, {"AMX int8", "int8", amx_int8, 0}}};
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (cpu_has(rows[i].needs))
            ret[n++] = rows[i].peak;
    }
    return n;
}
