/* SPDX-License-Identifier: Apache-2.0 */
/* The prepared layout of quantised weights: the file's own bytes, in the order in which kernels
 * that give each weight row a 32-bit lane want them (x86/panel/).  Any thread; no state.
 *
 * A strip is 16 rows of a matrix, a group of 256 columns after the other, the last one shorter
 * where the columns end. A group is the type's fields one after the other, each filled up with
 * zeros to a multiple of 64 bytes.  A field is, block after block of the group, item after item,
 * the item of row 0, of row 1, ... row 15.  In a block of the file (blocks.h) a field's items lie
 * one after the other: NxS@A are N items of S bytes from byte A on.
 *
 *   type          a block's fields                        bytes of a strip's 256 columns
 *   Q4_0, IQ4_NL  d 1x2@0, qs 4x4@2                                 2304
 *   Q4_1          d m 2x2@0, qs 4x4@4                               2560
 *   Q5_0          d 1x2@0, qh 1x4@2, qs 4x4@6                       2816
 *   Q5_1          d m 2x2@0, qh 1x4@4, qs 4x4@8                     3072
 *   Q8_0          d 1x2@0, qs 8x4@2                                 4352
 *   MXFP4         e 1x1@0, qs 4x4@1                                 2176
 *   IQ4_XS        d scales_h 2x2@0, scales_l 1x4@4, qs 32x4@8       2176
 *   Q4_K          d dmin 2x2@0, scales 3x4@4, qs 32x4@16            2304
 *   Q5_K          d dmin 2x2@0, scales 3x4@4, qh 8x4@16, qs 32x4@48 2816
 *   Q6_K          d 1x2@208, scales 4x4@192, qh 16x4@128, ql 32x4@0 3392
 *   Q2_K          d dmin 2x2@80, scales 4x4@0, qs 16x4@16           1344
 *   Q3_K          d 1x2@108, scales 3x4@96, hmask 8x4@0, qs 16x4@32 1792
 *
 * So dword j of the quants of 16 rows is 64 bytes in a row, and a strip has the file's bytes and at
 * most 2 percent more (Q6_K and Q3_K 32 a group), besides what the last group and rows that the
 * last strip lacks are filled up with. */
#ifndef WORKER_KERNEL_PANELS_H
#define WORKER_KERNEL_PANELS_H

#include "worker/kernel/dtype.h"

/* Whoever keeps strips keeps the version beside them: it changes with the layout. */
enum { PANELS_VERSION = 1, PANELS_ROWS = 16 };

/* Bytes of 16 rows, a multiple of 64.  0: this type, or a row of so many columns, has no such
 * layout. */
size_t panels_strip_bytes(enum dtype type, uint32_t n_cols);

/* n_rows (1 .. 16) rows as the file has them, row_bytes apart, to a strip; rows after them are
 * zero. Every byte of the strip is written. */
void panels_write(enum dtype type, const void *rows, size_t row_bytes, uint32_t n_rows,
                  uint32_t n_cols, void *strip);

/* The file's own bytes of one of the 16 rows back to dst: dtype_row_bytes of n_cols. */
void panels_row(enum dtype type, const void *strip, uint32_t row, uint32_t n_cols, void *dst);

/* The same of its group of columns from 256 * group on: at most PANELS_GROUP_MAX bytes. */
enum { PANELS_GROUP_MAX = 8 * 34 };
void panels_row_group(enum dtype type, const void *strip, uint32_t row, uint32_t n_cols,
                      uint32_t group, void *dst);

#endif
