/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned columns for people, and sizes and times as people read them.  Main thread. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <jansson.h>

#include "lib/base/buf.h"

#define TABLE_MAX_COLUMNS 10u

struct table {
    unsigned n_columns, n_cells;
    const char *const *titles; /* borrowed, [n_columns] */
    struct buf cells;          /* owned: NUL-ended texts, row by row */
};

void table_init(struct table *t, const char *const *titles, unsigned n_columns);
void table_add(struct table *t, const char *cell);
void table_print(const struct table *t); /* to standard output */
void table_release(struct table *t);

/* "1.2 MB": powers of 1000, three digits. */
void text_bytes(uint64_t n, char ret[16]);
/* "260K", "7.24B": a count of parameters. */
void text_count(uint64_t n, char ret[16]);
/* "3 minutes ago"; "" for 0. */
void text_ago(int64_t unix_s, char ret[32]);

/* Indented JSON and a newline to standard output. */
void cli_print_json(const json_t *j);

#endif
