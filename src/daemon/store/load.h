/* SPDX-License-Identifier: Apache-2.0 */
/* Models as one stream: the tar that Docker Model Runner's load and export speak.  It holds
 * blobs/sha256/HEX for each layer and the config, and manifest.json; other entries are passed over.
 *
 * Loading: push the bytes as they come.  Every blob is verified by its name; the model appears in
 * the index, untagged, once all of it is there, and what a stream that failed has brought is taken
 * away again.  Exporting: pull.  One thread at a time for each; several at once on one store. */
#ifndef DAEMON_STORE_LOAD_H
#define DAEMON_STORE_LOAD_H

#include "daemon/store/store.h"

struct store_load;

struct store_load *store_load_begin(struct store *s) MUST_USE;
/* Once it has failed it may only be abandoned.  E_FORMAT and E_LIMIT for a hostile stream,
 * E_CORRUPT for a blob that is not what its name says, E_IO, also when there is no room. */
int store_load_feed(struct store_load *l, const void *p, size_t n, struct err *err) MUST_USE;
/* The stream is over: *ret is the model's id.  Frees l in any case.  E_NOTFOUND when a blob that
 * the manifest names came neither with the stream nor was here. */
int store_load_commit(struct store_load *l, char ret[OCI_DIGEST_CHARS + 1],
                      struct err *err) MUST_USE;
void store_load_abandon(struct store_load *l); /* frees l; NULL is fine */

struct store_export;

/* Holds what it sends until it ends.  *ret_total: bytes of the whole stream. */
int store_export_begin(struct store *s, const char *digest, struct store_export **ret,
                       uint64_t *ret_total, struct err *err) MUST_USE;
/* Up to n bytes (n >= 1) into p; *ret_n is 0 at the end alone.  manifest.json comes last. */
int store_export_read(struct store_export *e, void *p, size_t n, size_t *ret_n,
                      struct err *err) MUST_USE;
void store_export_end(struct store_export *e); /* frees e; NULL is fine */

#endif
