/* SPDX-License-Identifier: Apache-2.0 */
/* Implements panels.h: one row per type, and what walks over it.  Any thread. */
#include "worker/kernel/panels.h"

#include <string.h>

#include "lib/base/err.h"
#include "worker/kernel/blocks.h"

/* n items of `bytes` bytes from byte `at` of a block on; n 0: no more fields. */
struct field {
    uint8_t n, bytes, at;
};

enum { N_FIELDS = 4 };
static const struct field fields[DTYPE_N][N_FIELDS] = {
    [DTYPE_Q4_0] = {{1, 2, 0}, {4, 4, 2}},
    [DTYPE_IQ4_NL] = {{1, 2, 0}, {4, 4, 2}},
    [DTYPE_Q4_1] = {{2, 2, 0}, {4, 4, 4}},
    [DTYPE_Q5_0] = {{1, 2, 0}, {1, 4, 2}, {4, 4, 6}},
    [DTYPE_Q5_1] = {{2, 2, 0}, {1, 4, 4}, {4, 4, 8}},
    [DTYPE_Q8_0] = {{1, 2, 0}, {8, 4, 2}},
    [DTYPE_MXFP4] = {{1, 1, 0}, {4, 4, 1}},
    [DTYPE_IQ4_XS] = {{2, 2, 0}, {1, 4, 4}, {32, 4, 8}},
    [DTYPE_Q4_K] = {{2, 2, 0}, {3, 4, 4}, {32, 4, 16}},
    [DTYPE_Q5_K] = {{2, 2, 0}, {3, 4, 4}, {8, 4, 16}, {32, 4, 48}},
    [DTYPE_Q6_K] = {{1, 2, 208}, {4, 4, 192}, {16, 4, 128}, {32, 4, 0}},
    [DTYPE_Q2_K] = {{2, 2, 80}, {4, 4, 0}, {16, 4, 16}},
    [DTYPE_Q3_K] = {{1, 2, 108}, {3, 4, 96}, {8, 4, 0}, {16, 4, 32}},
};

static size_t field_bytes(const struct field *f, uint32_t n_blocks)
{
    return ((size_t)n_blocks * f->n * f->bytes * PANELS_ROWS + 63) / 64 * 64;
}

static size_t group_bytes(enum dtype type, uint32_t n_blocks)
{
    size_t n = 0;
    for (int i = 0; i < N_FIELDS; i++)
        n += field_bytes(&fields[type][i], n_blocks);
    return n;
}

/* How many blocks of the type group `group` of a row has. */
static uint32_t group_blocks(enum dtype type, uint32_t n_cols, uint32_t group)
{
    return MIN_OF(n_cols - 256 * group, 256u) / dtype_info(type)->block_elements;
}

size_t panels_strip_bytes(enum dtype type, uint32_t n_cols)
{
    if (type >= DTYPE_N || fields[type][0].n == 0 || n_cols % dtype_info(type)->block_elements)
        return 0;
    const uint32_t whole = n_cols / 256;
    const uint32_t rest = n_cols % 256 ? group_blocks(type, n_cols, whole) : 0;
    return whole * group_bytes(type, 256 / dtype_info(type)->block_elements) +
           group_bytes(type, rest);
}

/* n items of `bytes` bytes (1, 2 or 4), from one distance to another. */
static void items_move(char *to, size_t to_step, const char *from, size_t from_step, uint32_t n,
                       uint32_t bytes)
{
    for (uint32_t i = 0; i < n; i++, to += to_step, from += from_step)
        switch (bytes) {
        case 4: memcpy(to, from, 4); break;
        case 2: memcpy(to, from, 2); break;
        default: *to = *from; break;
        }
}

/* n_blocks blocks of one row to their places in a group of a strip. */
static void group_put(enum dtype type, const char *blocks, uint32_t n_blocks, uint32_t row,
                      char *group)
{
    const size_t block = dtype_info(type)->block_bytes;
    for (const struct field *f = fields[type]; f < fields[type] + N_FIELDS && f->n; f++) {
        const size_t step = (size_t)PANELS_ROWS * f->bytes;
        for (uint32_t b = 0; b < n_blocks; b++)
            items_move(group + b * f->n * step + row * f->bytes, step, blocks + b * block + f->at,
                       f->bytes, f->n, f->bytes);
        group += field_bytes(f, n_blocks);
    }
}

/* And back. */
static void group_get(enum dtype type, const char *group, uint32_t n_blocks, uint32_t row,
                      char *blocks)
{
    const size_t block = dtype_info(type)->block_bytes;
    for (const struct field *f = fields[type]; f < fields[type] + N_FIELDS && f->n; f++) {
        const size_t step = (size_t)PANELS_ROWS * f->bytes;
        for (uint32_t b = 0; b < n_blocks; b++)
            items_move(blocks + b * block + f->at, f->bytes,
                       group + b * f->n * step + row * f->bytes, step, f->n, f->bytes);
        group += field_bytes(f, n_blocks);
    }
}

void panels_write(enum dtype type, const void *rows, size_t row_bytes, uint32_t n_rows,
                  uint32_t n_cols, void *strip)
{
    const size_t block = dtype_info(type)->block_bytes;
    char *to = strip;
    BUG_ON(n_rows < 1 || n_rows > PANELS_ROWS || !panels_strip_bytes(type, n_cols));
    for (uint32_t c = 0; c < n_cols; c += 256) {
        const uint32_t n = group_blocks(type, n_cols, c / 256);
        const size_t done = c / dtype_info(type)->block_elements * block;
        memset(to, 0, group_bytes(type, n));
        for (uint32_t r = 0; r < n_rows; r++)
            group_put(type, (const char *)rows + r * row_bytes + done, n, r, to);
        to += group_bytes(type, n);
    }
}

void panels_row_group(enum dtype type, const void *strip, uint32_t row, uint32_t n_cols,
                      uint32_t group, void *dst)
{
    const size_t at = group * group_bytes(type, 256 / dtype_info(type)->block_elements);
    group_get(type, (const char *)strip + at, group_blocks(type, n_cols, group), row, dst);
}

void panels_row(enum dtype type, const void *strip, uint32_t row, uint32_t n_cols, void *dst)
{
    const size_t block = dtype_info(type)->block_bytes;
    for (uint32_t c = 0; c < n_cols; c += 256)
        panels_row_group(type, strip, row, n_cols, c / 256,
                         (char *)dst + c / dtype_info(type)->block_elements * block);
}
