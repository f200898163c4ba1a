/* SPDX-License-Identifier: Apache-2.0 */
/* The store as the runner's catalog sees it: which of its models there are, and which one a name
 * means.  Remembers what manifests and configs say, so that each is read once.  Any thread. */
#ifndef DAEMON_RUNNER_SHELF_H
#define DAEMON_RUNNER_SHELF_H

#include "daemon/runner/models.h"

struct store;
struct shelf;

/* s is borrowed; NULL: a shelf on which there is nothing.  default_registry as oci_reference_parse
 * has it, copied. */
struct shelf *shelf_new(struct store *s, const char *default_registry) MUST_USE;
void shelf_free(struct shelf *f);

/* Adds every model of the store to ret: one for each name, an untagged one under its digest.  When
 * the store cannot be read, ret->keeps_stored. */
void shelf_scan(struct shelf *f, struct model_files_found *ret);

/* The model that name means in the store: by its name, completed as Docker Model Runner does it, or
 * by a digest or id, which then means the first of the names that point to it.  ret_name is as the
 * catalog calls the model.  partial: failing that, the one whose name ends so.  E_NOTFOUND;
 * E_INVALID for what no reference can be; E_EXISTS when several are meant. */
int shelf_find(struct shelf *f, const char *name, bool partial,
               char ret_name[LIMIT_MODEL_NAME_BYTES + 1], char ret_digest[OCI_DIGEST_CHARS + 1],
               struct err *err) MUST_USE;

#endif
