/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over the store of Docker Model Runner: layout.json, models.json, blobs/, manifests/.
 *
 * It is only read.  Each blob is verified and then linked, so that both stores share its bytes, or
 * copied where that cannot be (another file system, links forbidden).  Models keep their ids and
 * names; a name that means another model here already stays with that one.  A model that is not
 * whole is passed over with a note.  Whenever it ends, a second import goes on. */
#ifndef DAEMON_STORE_IMPORT_H
#define DAEMON_STORE_IMPORT_H

#include "daemon/store/store.h"

struct store_import_report {
    uint32_t n_models, n_names, n_skipped; /* models: here now; skipped: models and names */
    uint64_t linked_bytes, copied_bytes;   /* that were not here before */
};

/* note: a sentence about what was passed over, or NULL: only progress.  total_bytes grows no more
 * after the first call.  false: stop (E_CANCELED). */
typedef bool (*store_import_fn)(void *ctx, uint64_t done_bytes, uint64_t total_bytes,
                                const char *note);

/* path: the folder that holds layout.json.  E_NOTFOUND, E_UNSUPPORTED for what is no such store or
 * a newer one, E_FORMAT, E_IO, also when there is no room.  ret is filled in any case. */
int store_import(struct store *s, const char *path, store_import_fn fn, void *ctx,
                 struct store_import_report *ret, struct err *err) MUST_USE;

#endif
