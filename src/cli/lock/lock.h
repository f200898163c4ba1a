/* SPDX-License-Identifier: Apache-2.0 */
/* berth.lock: for each model a project names, the digest of its bytes, the parameters that are
 * declared of it, and the engine's version, so that the same answers come again elsewhere and
 * later.
 *
 * The file is JSON with sorted keys, made for version control:
 *   {"engine": "berth 0.1.0", "models": {NAME: {"digest", "parameters": {...}, "source"?}},
 *    "version": 1}
 * NAME is as stores keep it (docker.io/ai/smollm2:latest); "source": "file" is a model of a folder,
 * whose digest is its file's.  Main thread. */
#ifndef CLI_LOCK_LOCK_H
#define CLI_LOCK_LOCK_H

#include "cli/client.h"

#define LOCK_FILE "berth.lock"

/* The file (new reference).  E_NOTFOUND with how to make one, E_FORMAT naming the field. */
int lock_read(const char *path, json_t **ret, struct err *err) MUST_USE;
/* Replaces the file in one step. */
int lock_write(const char *path, const json_t *lock, struct err *err) MUST_USE;
/* The name under which a lock keeps a model; the word itself where it names a file. */
int lock_name(const struct client *c, const char *model, struct buf *out, struct err *err) MUST_USE;
/* The entry of a model, whichever form its name has, or NULL. */
const json_t *lock_find(const struct client *c, const json_t *lock, const char *model);

/* What a model is now: {"digest", "parameters", "source"?} (new reference).  E_NOTFOUND when the
 * daemon has none of that name; with is_remote its registry is asked. */
int lock_state(const struct client *c, const char *model, bool is_remote, json_t **ret,
               struct err *err) MUST_USE;
/* Tells fn of everything in which the model's state is not what its entry says, and returns how
 * many such things there are. */
typedef void (*lock_note_fn)(void *ctx, const char *sentence);
unsigned lock_compare(const char *model, const json_t *entry, const json_t *state, lock_note_fn fn,
                      void *ctx);
/* "berth 0.1.0" of the daemon. */
int lock_engine(const struct client *c, struct buf *out, struct err *err) MUST_USE;

/* For --locked: appends the reference by which the lock's bytes are had (NAME@sha256:...), or fails
 * with all that differs.  must_match: engine and parameters, too. */
int lock_demand(const struct client *c, const char *path, const char *model, bool must_match,
                struct buf *out, struct err *err) MUST_USE;

#endif
