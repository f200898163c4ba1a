/* SPDX-License-Identifier: Apache-2.0 */
/* The store: models as blobs under their digests, and names that point to them.
 *
 * On disk it is an OCI image layout (image-spec 1.1, image-layout.md), so that other tools read it:
 *   oci-layout, index.json  the index names manifests: org.opencontainers.image.ref.name holds
 *                           "docker.io/ai/x:latest", and is absent for an untagged one
 *   blobs/sha256/HEX        manifests, configs, layers: immutable, named by their SHA-256
 *   ingest/HEX.part, .state blobs on their way, and how far they are known to be good
 *   unpacked/HEX            what the archive that is the layer HEX was unpacked to: paths and blobs
 *   prepared/sha256-HEX.vN  weights in the kernels' own layout (prepared.h)
 *   berth.lock              held as long as the store is open: one process at a time
 * A blob appears under its name only when it is whole, verified and on the disk; the index changes
 * by rename.  Whatever instant the process ends at, the store opens and no name points to a blob
 * that is not there.
 *
 * Owns its folder's descriptors and lock.  Any thread; calls about names and collection exclude
 * each other, writers of different blobs do not.  Digests given to it are checked ones. */
#ifndef DAEMON_STORE_STORE_H
#define DAEMON_STORE_STORE_H

#include "lib/base/buf.h"
#include "lib/oci/manifest.h"

struct store;

/* Creates an empty store where path is missing or an empty folder.  E_BUSY names who has it open;
 * E_UNSUPPORTED for a folder that holds something else. */
int store_open(const char *path, struct store **ret, struct err *err) MUST_USE;
void store_close(struct store *s); /* NULL is fine; no writer may be open */

/* ---- blobs ---- */

/* 1 and the size when the blob is there, 0 when not. */
int store_blob_size(struct store *s, const char *digest, uint64_t *ret, struct err *err) MUST_USE;
/* A descriptor for reading, the caller's.  E_NOTFOUND. */
int store_blob_open(struct store *s, const char *digest, int *ret_fd, struct err *err) MUST_USE;
/* A small blob's bytes (manifest, config), verified by its digest; ret is initialised here and
 * released by the caller in any case.  E_CORRUPT, E_NOTFOUND, E_LIMIT past max_bytes. */
int store_blob_read(struct store *s, const char *digest, size_t max_bytes, struct buf *ret,
                    struct err *err) MUST_USE;

/* Collection leaves a held digest alone, whether it is there yet or not.  Counted. */
void store_hold(struct store *s, const char *digest);
void store_unhold(struct store *s, const char *digest);

/* One blob on its way in.  One thread at a time. */
struct store_writer;

/* digest: what it must become, or NULL when only the bytes will tell; size: UINT64_MAX when
 * unknown. *ret_offset is where to go on: what an earlier try left and is known to be good.
 * E_EXISTS when the blob is there already; E_BUSY when another writer has it; E_IO with what is
 * needed and what is free when it cannot fit. */
int store_write_begin(struct store *s, const char *digest, uint64_t size, struct store_writer **ret,
                      uint64_t *ret_offset, struct err *err) MUST_USE;
int store_write(struct store_writer *w, const void *p, size_t n, struct err *err) MUST_USE;
/* From the beginning: the other side could not go on from the offset. */
int store_write_restart(struct store_writer *w, struct err *err) MUST_USE;
/* Verifies size and digest and publishes.  Frees w in any case; on E_CORRUPT what was written is
 * gone.  ret_digest may be NULL. */
int store_write_commit(struct store_writer *w, char ret_digest[OCI_DIGEST_CHARS + 1],
                       struct err *err) MUST_USE;
/* Frees w.  keep: what is written stays for the next try (digest known). */
void store_write_abandon(struct store_writer *w, bool keep);
/* A whole small blob. */
int store_put(struct store *s, const void *p, size_t n, char ret_digest[OCI_DIGEST_CHARS + 1],
              struct err *err) MUST_USE;

/* ---- names ---- */

struct store_entry {
    char *name;                        /* owned; "" for an untagged one */
    char digest[OCI_DIGEST_CHARS + 1]; /* of the manifest */
    uint64_t manifest_bytes;
};
struct store_list {
    struct store_entry *items; /* owned */
    size_t n;
};
int store_list(struct store *s, struct store_list *ret, struct err *err) MUST_USE;
void store_list_release(struct store_list *l);
/* The manifest's digest; E_NOTFOUND. */
int store_resolve(struct store *s, const char *name, char ret[OCI_DIGEST_CHARS + 1],
                  struct err *err) MUST_USE;
/* The manifest whose digest begins with these hexadecimal digits (12 or more); E_NOTFOUND, E_EXISTS
 * when several do. */
int store_resolve_id(struct store *s, struct str hex, char ret[OCI_DIGEST_CHARS + 1],
                     struct err *err) MUST_USE;

/* name (NULL: none) points to the manifest from now on, atomically; what it pointed to before stays
 * as an untagged one.  E_NOTFOUND when the manifest or a blob of it is not there: a name never
 * points to a model that is not whole. */
int store_tag(struct store *s, const char *name, const char *digest, struct err *err) MUST_USE;
/* The name is gone; with it, when it was the manifest's last, its entry, and every blob of it that
 * nothing else needs and nobody holds.  *ret_deleted tells whether the model went. */
int store_untag(struct store *s, const char *name, bool *ret_deleted, struct err *err) MUST_USE;
/* The manifest with all its names and, as above, its blobs. */
int store_remove(struct store *s, const char *digest, struct err *err) MUST_USE;

/* ---- the whole ---- */

struct store_usage {
    uint32_t n_models, n_blobs, n_partial;
    uint64_t blob_bytes, partial_bytes, unused_bytes; /* unused: no manifest names them */
    uint32_t n_prepared;
    uint64_t prepared_bytes; /* prepared.h */
    uint64_t free_bytes;     /* of the file system */
};
int store_usage(struct store *s, struct store_usage *ret, struct err *err) MUST_USE;
/* Deletes blobs that no manifest names, partial ones among them, untouched for min_age_s; 0: of any
 * age, whatever the clock says.  Nothing when a manifest cannot be read: what it needs is not known
 * then. */
int store_collect(struct store *s, uint64_t min_age_s, uint64_t *ret_bytes,
                  struct err *err) MUST_USE;

/* One finding of store_verify, and how far it is. */
struct store_finding {
    const char *digest; /* NULL: the index itself */
    const char *name;   /* of a model that it belongs to, or "" */
    const char *what;   /* a sentence; NULL: none, only progress */
    uint64_t done_bytes, total_bytes;
};
/* false: stop (E_CANCELED). */
typedef bool (*store_finding_fn)(void *ctx, const struct store_finding *f);
/* Reads every blob again: each must have its digest, each model all its blobs with their sizes.
 * repair: a blob that is not what its name says is deleted, so that the next pull brings it back.
 * *ret_n findings. */
int store_verify(struct store *s, bool repair, store_finding_fn fn, void *ctx, uint64_t *ret_n,
                 struct err *err) MUST_USE;

#endif
