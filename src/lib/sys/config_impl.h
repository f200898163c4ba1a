/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that implement config.h, and nobody else. */
#ifndef LIB_SYS_CONFIG_IMPL_H
#define LIB_SYS_CONFIG_IMPL_H

#include "lib/sys/config.h"

int config_parse_choice(const char *text, const char *choices, uint64_t *ret,
                        struct err *err) MUST_USE;
int config_parse_switch(const char *text, uint64_t *ret, struct err *err) MUST_USE;

/* Checks text against the option's row and stores it. */
int config_value_set(struct config *c, enum config_id id, const char *text,
                     enum config_source source, struct err *err) MUST_USE;

/* Reads the file at path into the options of want.  Every mistake goes to fn, as a whole sentence
 * with its place; reading goes on after those of a line.  Negative: the file cannot be read. */
int config_file_read(struct config *c, uint64_t want, const char *path, config_note_fn fn,
                     void *ctx, struct err *err) MUST_USE;

/* The option nearest to a name that is none, or NULL. */
const char *config_near(const char *key);

#endif
