/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of daemon/store: what its files share. */
#ifndef DAEMON_STORE_STORE_IMPL_H
#define DAEMON_STORE_STORE_IMPL_H

#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>

#include "daemon/store/model.h"
#include "daemon/store/store.h"

#define REF_ANNOTATION  "org.opencontainers.image.ref.name"
#define BLOB_NAME_BYTES (OCI_DIGEST_CHARS + 16)

struct store_held {
    char digest[OCI_DIGEST_CHARS + 1];
    uint32_t n;      /* holders; 0: free place */
    bool is_written; /* a writer has it */
};

struct store {
    char *path; /* owned, for messages */
    int root_fd, blobs_fd, ingest_fd, unpacked_fd, prepared_fd, lock_fd;
    pthread_mutex_t unpack_lock; /* one archive is unpacked at a time; taken before lock */
    pthread_mutex_t lock;        /* guards everything below, and who may delete */
    json_t *index;               /* owned: index.json as it is on disk */
    struct stat index_stat;
    struct store_held *held; /* owned, [n_held] */
    uint32_t n_held;
    uint64_t n_anonymous; /* writers without a digest, ever */
    uint32_t n_anonymous_open;
};

/* index.c: with the lock held */
int index_load(struct store *s, struct err *err) MUST_USE;
/* Reads it again when another tool has changed it. */
int index_refresh(struct store *s, struct err *err) MUST_USE;
/* Writes next in place of the index and takes it; on failure the old one stays and next is freed.
 */
int index_replace(struct store *s, json_t *next, struct err *err) MUST_USE;
/* The i-th manifest's digest and name ("" untagged); false when it is none of ours. */
bool index_entry(const json_t *index, size_t i, char digest[OCI_DIGEST_CHARS + 1],
                 const char **name);
/* The name of the i-th if it is of this digest, borrowed; NULL otherwise. */
const char *index_name_of(const json_t *index, size_t i, const char *digest);
size_t index_len(const json_t *index);
uint64_t index_entry_bytes(const json_t *index, size_t i);

/* store.c */
/* "hex" of "sha256:hex". */
static inline const char *digest_hex(const char *digest)
{
    return digest + 7;
}
/* errno becomes a sentence; no room left says how much there is and how much was wanted. */
int store_io_error(struct store *s, uint64_t wanted_bytes, struct err *err, const char *what);
/* Writes a file of the root by temporary file, fsync, rename, fsync. */
int store_write_file(struct store *s, const char *name, const void *p, size_t n,
                     struct err *err) MUST_USE;
/* NULL: nobody holds it. */
struct store_held *store_held_find_locked(struct store *s, const char *digest);
struct store_held *store_hold_locked(struct store *s, const char *digest);
void store_unhold_locked(struct store *s, const char *digest);

/* blob.c: as store_write_commit, and the blob is held as if by store_hold. */
int store_write_commit_held(struct store_writer *w, char ret_digest[OCI_DIGEST_CHARS + 1],
                            struct err *err) MUST_USE;

/* unpack.c: the files of a layer that is an archive. */
struct unpacked {
    struct store_file *files; /* from the arena */
    uint32_t n_files;
};
/* 1 when it was unpacked before, 0 when not. */
int unpacked_read(struct store *s, const char *layer, struct arena *a, struct unpacked *ret,
                  struct err *err) MUST_USE;
/* Whether it was, and all of it is still there. */
bool unpacked_find(struct store *s, const struct oci_descriptor *d, struct arena *a,
                   struct unpacked *ret);
/* Unpacks it now if need be; is_called_off as in struct store_model. */
int unpacked_get(struct store *s, const struct oci_descriptor *d, struct arena *a,
                 const atomic_bool *is_called_off, struct unpacked *ret, struct err *err) MUST_USE;
void unpacked_forget(struct store *s, const char *layer);

/* prepared.c: away with what was not finished, and with other versions. */
void store_prepared_sweep(struct store *s);

/* collect.c: calls fn for every file of a folder of the store, "." and ".." left out; stops at its
 * first failure. */
int store_each_file(struct store *s, int dir_fd,
                    int (*fn)(struct store *s, const char *name, const struct stat *st, void *ctx,
                              struct err *err),
                    void *ctx, struct err *err) MUST_USE;

/* collect.c: what manifests need, as a sorted set of digests. */
struct digest_set {
    char (*items)[OCI_DIGEST_CHARS + 1]; /* owned */
    size_t n, cap;
    bool is_sorted;
    bool no_unpacked; /* what archives were unpacked to does not count: it can be made again */
};
void digest_set_release(struct digest_set *d);
int digest_set_add(struct digest_set *d, const char *digest, struct err *err) MUST_USE;
/* Sorts after additions, so: all additions first, then the questions. */
bool digest_set_has(struct digest_set *d, const char *digest);
/* Of what is there more than once, one stays. */
void digest_set_unite(struct digest_set *d);
/* Adds manifest and all that it names.  E_NOTFOUND, E_CORRUPT, E_FORMAT when it cannot be known. */
int digest_set_add_model(struct store *s, struct digest_set *d, const char *digest,
                         struct err *err) MUST_USE;
/* All models of index but one (NULL: none left out). */
int digest_set_add_index(struct store *s, struct digest_set *d, const json_t *index,
                         struct err *err) MUST_USE;
/* Deletes those of gone that keep has not, and that nobody holds. */
int collect_set_locked(struct store *s, const struct digest_set *gone, struct digest_set *keep,
                       struct err *err) MUST_USE;
/* Deletes those blobs that no model of the index needs and that only the caller holds, as often as
 * they are in gone: all in one call, which reads every manifest. */
void store_drop_unneeded(struct store *s, struct digest_set *gone);

#endif
