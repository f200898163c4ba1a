/* SPDX-License-Identifier: Apache-2.0 */
/* Prepared weights: of a model, the weights in the layout that kernels like best, in a file of the
 * store's folder `prepared` (docs/STORE.md).  A cache: what is not there is made again.
 *
 * The name sha256-HEX.vN is the digest of the model (of a stored one its manifest's, of a file its
 * bytes') and the layout's version.  A file appears under its name when it is whole and on the
 * disk.  Any thread; one writer of a digest at a time. */
#ifndef DAEMON_STORE_PREPARED_H
#define DAEMON_STORE_PREPARED_H

#include "daemon/store/store.h"

/* What stays free of the disk when one is made. */
#define PREPARED_SPARE_BYTES (256ull << 20)

/* A descriptor for reading, the caller's.  E_NOTFOUND. */
int store_prepared_open(struct store *s, const char *digest, int *ret_fd, struct err *err) MUST_USE;
/* An empty file, for reading and writing, to become that one; the caller's.  E_IO with the sum and
 * err->sys ENOSPC when n_bytes and a spare do not fit. */
int store_prepared_begin(struct store *s, const char *digest, uint64_t n_bytes, int *ret_fd,
                         struct err *err) MUST_USE;
/* Syncs fd and publishes what it names; blocks as long as the disk takes.  stored: E_NOTFOUND when
 * the model has gone meanwhile.  On failure nothing stays. */
int store_prepared_commit(struct store *s, const char *digest, bool stored, int fd,
                          struct err *err) MUST_USE;
void store_prepared_abandon(struct store *s, const char *digest);
/* Whatever there is of it; who has it mapped keeps it. */
void store_prepared_remove(struct store *s, const char *digest);

/* Deletes those that keeps says no to.  *ret_bytes of them. */
typedef bool (*store_prepared_keeps_fn)(void *ctx, const char *digest);
int store_prepared_prune(struct store *s, store_prepared_keeps_fn keeps, void *ctx,
                         uint64_t *ret_bytes, struct err *err) MUST_USE;
int store_prepared_usage(struct store *s, uint32_t *ret_n, uint64_t *ret_bytes,
                         struct err *err) MUST_USE;

#endif
