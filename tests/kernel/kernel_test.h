/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tests share: levels, random numbers, buffers with guard bytes, random weights. */
#ifndef TESTS_KERNEL_KERNEL_TEST_H
#define TESTS_KERNEL_KERNEL_TEST_H

#include "tests/support/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/sys/cpu.h"
#include "tests/support/amx_emulated.h"
#include "tests/support/amx_trapped.h"
#include "worker/kernel/kern.h"

enum { GUARD = 64, GUARD_BYTE = 0xA5 };

static const enum dtype all_weights[] = {
    DTYPE_F32,  DTYPE_F16,    DTYPE_BF16,   DTYPE_Q4_0,  DTYPE_Q4_1, DTYPE_Q5_0,
    DTYPE_Q5_1, DTYPE_Q8_0,   DTYPE_Q2_K,   DTYPE_Q3_K,  DTYPE_Q4_K, DTYPE_Q5_K,
    DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4,
};

UNUSED static void level_init(struct kern *k, const char *level)
{
    struct err err = ERR_INIT;
    if (kern_init(k, level, &err) != 0)
        fail_msg("%s", err.msg);
}

/* Whether tile instructions are tried by a handler of their own: not where the machine has them,
 * and under a sanitizer the emulated tiles are all that it can look at. */
UNUSED static bool has_trapped(void)
{
#if defined(__x86_64__) && !defined(BERTH_SAN)
    return cpu_has(CPU_AVX512VNNI) && !(cpu_has(CPU_AMX_INT8) && cpu_has(CPU_AMX_BF16));
#else
    return false;
#endif
}

/* Whether a level multiplies in tiles: "amx" and the tests' stand-ins for it.  Quantised weights
 * are bfloat16 there, so that products are near those of other levels, not the same. */
UNUSED static bool has_tiles(const struct kern *k)
{
    return strncmp(k->level, "amx", 3) == 0;
}

/* Each instruction a signal: few shapes. */
UNUSED static bool is_trapped(const struct kern *k)
{
    return strcmp(k->level, "amx-trapped") == 0;
}

/* Calls fn for every level the machine has, with its table and the plain one. */
UNUSED static void for_levels(void (*fn)(const struct kern *k, const struct kern *ref))
{
    const char *names[16];
    struct kern k, ref;
    int n = kern_levels(names);
    level_init(&ref, "ref");
    for (int i = 0; i < n; i++) {
        level_init(&k, names[i]);
        fn(&k, &ref);
    }
#if defined(__x86_64__)
    if (!cpu_has(CPU_AVX512VNNI)) {
        print_message("no AVX-512 VNNI: the AMX kernels are not tested\n");
        return;
    }
    level_init(&k, "avx512vnni");
    amx_emulated_fill(&k);
    fn(&k, &ref);
    if (!has_trapped())
        return;
    level_init(&k, "avx512vnni");
    amx_trapped_fill(&k);
    fn(&k, &ref);
#endif
}

static uint64_t rng_state = 88172645463325252ull;
UNUSED static uint32_t rng(void) /* xorshift64* */
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return (uint32_t)(rng_state * 2685821657736338717ull >> 32);
}

UNUSED static float frand(float lo, float hi)
{
    return lo + (hi - lo) * (float)(rng() >> 8) * 0x1p-24f;
}

UNUSED static void fill_random(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * (frand(-1, 1) + frand(-1, 1) + frand(-1, 1));
}

/* n bytes, `off` past a 64-byte boundary, with GUARD bytes before and after. */
struct guarded {
    unsigned char *base;
    size_t n, off;
};

UNUSED static void *guarded_new(struct guarded *g, size_t n, size_t off)
{
    struct err err = ERR_INIT;
    g->n = n;
    g->off = off;
    g->base = mem_try_aligned(n + off + 2 * GUARD, &err);
    assert_non_null(g->base);
    memset(g->base, GUARD_BYTE, n + off + 2 * GUARD);
    return g->base + GUARD + off;
}

UNUSED static void guarded_check(const struct guarded *g)
{
    for (size_t i = 0; i < GUARD + g->off; i++)
        assert_int_equal(g->base[i], GUARD_BYTE);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(g->base[GUARD + g->off + g->n + i], GUARD_BYTE);
}

UNUSED static void guarded_free(struct guarded *g)
{
    guarded_check(g);
    mem_free(g->base);
}

/* |a - b| <= rel * |b| + abs, or both NaN, or the same infinity. */
UNUSED static bool close_to(double a, double b, double rel, double abs_tol)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b))
        return a == b;
    return fabs(a - b) <= rel * fabs(b) + abs_tol;
}

/* Fills packed rows with random bytes whose scales are moderate halves, so that sums stay finite.
 */
UNUSED static void weights_random(enum dtype type, void *data, size_t n_bytes)
{
    static const struct {
        enum dtype type;
        int at[2];
    } halves[] = {{DTYPE_Q4_0, {0, -1}},   {DTYPE_Q4_1, {0, 2}},    {DTYPE_Q5_0, {0, -1}},
                  {DTYPE_Q5_1, {0, 2}},    {DTYPE_Q8_0, {0, -1}},   {DTYPE_Q2_K, {80, 82}},
                  {DTYPE_Q3_K, {108, -1}}, {DTYPE_Q4_K, {0, 2}},    {DTYPE_Q5_K, {0, 2}},
                  {DTYPE_Q6_K, {208, -1}}, {DTYPE_IQ4_NL, {0, -1}}, {DTYPE_IQ4_XS, {0, -1}}};
    unsigned char *p = data;
    for (size_t i = 0; i < n_bytes; i++)
        p[i] = (unsigned char)rng();
    size_t block = dtype_info(type)->block_bytes;
    for (size_t b = 0; b + block <= n_bytes; b += block) {
        uint16_t h =
            (uint16_t)(0x1800 + rng() % 0x1000) | (uint16_t)(rng() & 0x8000); /* 2^-9 .. 2^-5 */
        float f = frand(-0.1f, 0.1f);
        if (type == DTYPE_F32)
            memcpy(p + b, &f, 4);
        else if (type == DTYPE_F16)
            memcpy(p + b, &h, 2);
        else if (type == DTYPE_BF16)
            memcpy(p + b, (char *)&f + 2, 2);
        else if (type == DTYPE_MXFP4)
            p[b] = (unsigned char)(115 + rng() % 8);
        for (size_t i = 0; i < ARRAY_LEN(halves); i++)
            for (int j = 0; j < 2; j++)
                if (halves[i].type == type && halves[i].at[j] >= 0)
                    memcpy(p + b + halves[i].at[j], &h, 2);
    }
}

UNUSED static bool has_min(enum dtype type)
{
    return type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q2_K || type == DTYPE_Q4_K ||
           type == DTYPE_Q5_K;
}

/* All bytes of packed rows of a quantised type the same (fill: 1 .. WEIGHTS_EXTREMES), their d and
 * m as they were. */
enum { WEIGHTS_EXTREMES = 6 };
UNUSED static void weights_extreme(enum dtype type, void *data, size_t n_bytes, int fill)
{
    const size_t block = dtype_info(type)->block_bytes;
    const size_t at = type == DTYPE_Q2_K   ? 80
                      : type == DTYPE_Q3_K ? 108
                      : type == DTYPE_Q6_K ? 208
                                           : 0,
                 n = type == DTYPE_MXFP4 ? 1
                     : has_min(type)     ? 4
                                         : 2;
    for (unsigned char *b = data; b < (unsigned char *)data + n_bytes; b += block) {
        unsigned char keep[4];
        memcpy(keep, b + at, n);
        memset(b, (int[]){0x00, 0xff, 0x80, 0x7f, 0x88, 0x08}[fill - 1], block);
        memcpy(b + at, keep, n);
    }
}

#endif
