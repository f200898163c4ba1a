/* SPDX-License-Identifier: Apache-2.0 */
/* How attention cuts a sequence's cache into tiles and ranges, and what is kept of a range: shared
 * by all levels, so that none depends on anything but positions.  Private to worker/kernel.
 *
 * A record holds one query row's state over the positions seen so far: the largest score in
 * record[0], 16 partial sums of weights from record[16] on, the weighted sum of values from
 * record[32] on, v_dim of them and zeros up to a multiple of 16. */
#ifndef WORKER_KERNEL_ATTN_H
#define WORKER_KERNEL_ATTN_H

#include "worker/kernel/kern.h"

enum { ATTN_TILE = 64, ATTN_GROUPS = ATTN_TILE / KV_LANES, REC_SUM = 16, REC_OUT = 32 };

/* Below every finite score, yet finite: exp(ATTN_MIN - score) is 0 and no infinity is subtracted
 * from itself. */
#define ATTN_MIN (-3.0e38f)

static inline size_t attn_rec_floats(uint32_t v_dim)
{
    return REC_OUT + ((size_t)v_dim + 15) / 16 * 16;
}

/* A query row in scratch. */
static inline size_t attn_q_floats(uint32_t k_dim)
{
    return ((size_t)k_dim + 15) / 16 * 16;
}

/* One position's keys or values, the longer, as float32. */
static inline size_t attn_wide_floats(uint32_t k_dim, uint32_t v_dim)
{
    return ((size_t)MAX_OF(k_dim, v_dim) + 15) / 16 * 16;
}

static inline uint32_t attn_first(uint32_t pos, uint32_t window)
{
    return window && pos >= window ? pos - window + 1 : 0;
}

/* Where KV_LANES positions from p on (a multiple of KV_LANES) lie. */
static inline const char *attn_k_group(const struct kern_attn *a, uint32_t p)
{
    return a->k + a->block_table[p / a->block_len] * a->k_block_stride_bytes +
           p % a->block_len / KV_LANES * a->k_group_stride_bytes;
}

static inline const char *attn_v_group(const struct kern_attn *a, uint32_t p)
{
    return a->v + a->block_table[p / a->block_len] * a->v_block_stride_bytes +
           p % a->block_len * a->v_row_stride_bytes;
}

/* The rows of a call: row r is head g0 + r % n_g of position pos + r / n_g. */
struct attn_rows {
    uint32_t g0, n_g, n;
};

static inline uint32_t attn_row_pos(const struct kern_attn *a, const struct attn_rows *rows,
                                    uint32_t r)
{
    return a->pos + r / rows->n_g;
}

/* Rows from *ret_first to before *ret_end see something of positions p0 <= p < p1. */
static inline void attn_seeing(const struct kern_attn *a, const struct attn_rows *rows, uint32_t p0,
                               uint32_t p1, uint32_t *ret_first, uint32_t *ret_end)
{
    uint32_t first = 0, end = rows->n / rows->n_g;
    while (first < end && a->pos + first < p0)
        first++;
    while (end > first && attn_first(a->pos + end - 1, a->window) >= p1)
        end--;
    *ret_first = first * rows->n_g;
    *ret_end = end * rows->n_g;
}

#endif
