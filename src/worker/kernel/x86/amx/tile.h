/* SPDX-License-Identifier: Apache-2.0 */
/* The tile registers that the kernels here work with: AMX itself, or, where TILES_EMULATED is
 * defined, plain C that does what the manual says and stops at what the processor would refuse.
 * Where TILES_REPLACED is, whoever includes the kernels brings the macros.
 * Source: Intel 64 manual, volume 1 chapter 18, and the instructions' pages.
 *
 * Registers are named by literal digits, and belong to the thread. */
#ifndef WORKER_KERNEL_X86_AMX_TILE_H
#define WORKER_KERNEL_X86_AMX_TILE_H

#include <immintrin.h>

#include "worker/kernel/x86/x86.h"

/* Palette 1: eight registers of up to 16 rows of 64 bytes. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

INLINED void tile_shape(struct tile_config *c, int tile, uint32_t rows, uint32_t row_bytes)
{
    c->palette = 1;
    c->rows[tile] = (uint8_t)rows;
    c->row_bytes[tile] = (uint16_t)row_bytes;
}

#if !defined(TILES_EMULATED) && !defined(TILES_REPLACED)

/* Not the compiler's own: gcc 12's say neither that a load reads memory nor how much of the
 * configuration is read, so that stores before them might be moved or left out. */
#define TILES_CONFIG(c) __asm__ volatile("ldtilecfg %0" : : "m"(*(const struct tile_config *)(c)))
#define TILES_RELEASE() __asm__ volatile("tilerelease" : : : "memory")
#define TILE_ZERO(n)    __asm__ volatile("tilezero %%tmm" #n : :)
#define TILE_LOAD(n, p, stride)                                                                    \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n                                               \
                     :                                                                             \
                     : "r"((const void *)(p)), "r"((size_t)(stride))                               \
                     : "memory")
#define TILE_STORE(n, p, stride)                                                                   \
    __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)"                                           \
                     :                                                                             \
                     : "r"((void *)(p)), "r"((size_t)(stride))                                     \
                     : "memory")
#define TILE_DOT(op, acc, a, b)  __asm__ volatile(op " %%tmm" #b ", %%tmm" #a ", %%tmm" #acc : :)
#define TILE_DOT_BF16(acc, a, b) TILE_DOT("tdpbf16ps", acc, a, b)

#elif defined(TILES_EMULATED)

#include <math.h>
#include <string.h>

#include "lib/base/err.h"
#include "worker/kernel/blocks.h"

struct tiles {
    struct tile_config c;
    unsigned char data[8][16][64];
};

static _Thread_local struct tiles tiles;

#define TILES_CONFIG(c)          tiles_config(&tiles, c)
#define TILES_RELEASE()          memset(&tiles, 0xff, sizeof(tiles))
#define TILE_ZERO(n)             memset(tiles.data[n], 0, sizeof(tiles.data[n]))
#define TILE_LOAD(n, p, stride)  tiles_load(&tiles, n, p, stride)
#define TILE_STORE(n, p, stride) tiles_store(&tiles, n, p, stride)
#define TILE_DOT_BF16(acc, a, b) tiles_dot(&tiles, acc, a, b)

static void tiles_config(struct tiles *t, const struct tile_config *c)
{
    BUG_ON(c->palette != 1 || c->start_row != 0);
    for (int i = 0; i < 16; i++)
        BUG_ON(c->rows[i] > (i < 8 ? 16 : 0) || c->row_bytes[i] > (i < 8 ? 64 : 0));
    memset(t->data, 0, sizeof(t->data));
    t->c = *c;
}

static void tiles_load(struct tiles *t, int n, const void *p, size_t stride)
{
    BUG_ON(t->c.palette != 1 || t->c.rows[n] == 0 || t->c.row_bytes[n] == 0);
    memset(t->data[n], 0, sizeof(t->data[n]));
    for (int r = 0; r < t->c.rows[n]; r++)
        memcpy(t->data[n][r], (const char *)p + (size_t)r * stride, t->c.row_bytes[n]);
}

static void tiles_store(const struct tiles *t, int n, void *p, size_t stride)
{
    BUG_ON(t->c.palette != 1 || t->c.rows[n] == 0 || t->c.row_bytes[n] == 0);
    for (int r = 0; r < t->c.rows[n]; r++)
        memcpy((char *)p + (size_t)r * stride, t->data[n][r], t->c.row_bytes[n]);
}

/* Subnormals are zero for the unit, as operands and as results. */
static float dot_flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

/* One element: n dwords of a row of a, and of a column of b; acc in and out. */
static void dot_bf16(const unsigned char *a, const unsigned char *b, int n, void *acc)
{
    float sum, part[2] = {0, 0};
    memcpy(&sum, acc, sizeof(sum));
    for (int k = 0; k < n; k++)
        for (int i = 0; i < 2; i++) {
            uint16_t x, y;
            memcpy(&x, a + 4 * k + 2 * i, sizeof(x));
            memcpy(&y, b + 64 * k + 2 * i, sizeof(y));
            const float f = dot_flush(f32_from_bf16(x)), g = dot_flush(f32_from_bf16(y));
            part[i] = dot_flush(fmaf(f, g, part[i]));
        }
    sum = dot_flush(dot_flush(sum) + dot_flush(part[0] + part[1]));
    memcpy(acc, &sum, sizeof(sum));
}

static void tiles_dot(struct tiles *t, int acc, int a, int b)
{
    const struct tile_config *c = &t->c;
    BUG_ON(c->palette != 1 || acc == a || acc == b || a == b);
    BUG_ON(c->rows[acc] != c->rows[a] || c->row_bytes[acc] != c->row_bytes[b] ||
           c->row_bytes[a] != 4 * c->rows[b] || c->rows[b] == 0);
    for (int m = 0; m < c->rows[acc]; m++)
        for (int n = 0; n < c->row_bytes[acc] / 4; n++)
            dot_bf16(t->data[a][m], t->data[b][0] + 4 * n, c->rows[b], t->data[acc][m] + 4 * n);
}

#endif

#endif
