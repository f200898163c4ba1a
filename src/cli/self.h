/* SPDX-License-Identifier: Apache-2.0 */
/* What only another role of this program may find out: it is run as a process of its own, and its
 * JSON is read.  Main thread. */
#ifndef CLI_SELF_H
#define CLI_SELF_H

#include <jansson.h>

#include "lib/base/err.h"

/* Runs this program with argv ("berth", "debug", ...; NULL at the end), nothing on its standard
 * input, and parses what it prints (new reference).  what: for sentences, "the process that ...".
 * Its own refusal, word for word, as E_FORMAT; E_IO, E_GONE when it cannot be run. */
int self_json(const char *const *argv, const char *what, json_t **ret, struct err *err) MUST_USE;

/* What a model file says of itself, of `berth debug show`, which reads it in a worker's sandbox:
 * this process reads not a byte of it. */
int self_show_model(const char *path, json_t **ret, struct err *err) MUST_USE;

#endif
