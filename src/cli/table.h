/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned columns for people, and sizes and times as people read them, on standard output.  Main
 * thread. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <jansson.h>

#include "lib/base/buf.h"

#define TABLE_MAX_COLUMNS 10u

struct table {
    unsigned n_columns, n_cells;
    const char *const *titles; /* borrowed, [n_columns] */
    bool is_docker;            /* set after table_init: the last column is padded too, never bold */
    struct buf cells;          /* owned: NUL-ended texts, row by row */
};

void table_init(struct table *t, const char *const *titles, unsigned n_columns);
void table_add(struct table *t, const char *cell);
void table_add_number(struct table *t, uint64_t n);
void table_add_bytes(struct table *t, uint64_t n);    /* as text_bytes */
void table_add_ago(struct table *t, uint64_t unix_s); /* as text_ago */
void table_print(const struct table *t);              /* to standard output */
void table_release(struct table *t);

/* "1.2 MB": powers of 1000, three digits. */
void text_bytes(uint64_t n, char ret[16]);
/* "91.73MB": as docker prints a size, powers of 1000 and four digits. */
void text_docker_bytes(uint64_t n, char ret[24]);
/* "260K", "7.24B": a count of parameters. */
void text_count(uint64_t n, char ret[16]);
/* "3 minutes ago"; "" for 0. */
void text_ago(int64_t unix_s, char ret[32]);

/* "4 minutes from now", of seconds to come; ret. */
const char *text_until(uint64_t seconds, char ret[48]);
/* "4 minutes", "1 second": the largest unit alone; ret. */
const char *text_span(uint64_t seconds, char ret[32]);

/* "name   value" for pages of facts, the name 14 columns wide.  In both, here and in tables, a
 * byte that a terminal would obey is printed as '?': names and metadata come from models. */
void fact_print(const char *name, const char *format, ...) PRINTF_LIKE(2, 3);
/* An empty line and a heading, bold on a terminal that wants it. */
void heading_print(const char *text);

/* Indented JSON and a newline to standard output. */
void cli_print_json(const json_t *j);

#endif
