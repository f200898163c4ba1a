/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's models as commands read them, and what a MODEL on the command line means to it.
 * Main thread. */
#ifndef CLI_MODELS_H
#define CLI_MODELS_H

#include "cli/client.h"

/* A field of an answer: "" or 0 where it is absent or of another type. */
const char *answer_text(const json_t *o, const char *key);
uint64_t answer_number(const json_t *o, const char *key);

/* Every model the daemon knows, an array (new reference). */
int models_fetch(const struct client *c, json_t **ret, struct err *err) MUST_USE;
/* The model of that name, or in that file where model is a path (borrowed); NULL: none. */
const json_t *models_pick(const json_t *models, const char *model);

/* Whether it has a worker: loading or ready. */
bool model_is_loaded(const json_t *m);
/* What its worker planned, in bytes. */
uint64_t model_memory(const json_t *m);

/* Appends the name by which the daemon knows MODEL.  A path that it does not know is made known to
 * it first. */
int model_name(const struct client *c, const char *model, struct buf *out,
               struct err *err) MUST_USE;

#endif
