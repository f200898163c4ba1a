/* SPDX-License-Identifier: Apache-2.0 */
/* Files on their way to become an artifact: found, read by a worker, hashed once, described, and
 * streamed as the tar that stores take (POST /models/load).  Main thread. */
#ifndef CLI_ARTIFACT_PACK_H
#define CLI_ARTIFACT_PACK_H

#include "cli/args.h"
#include "cli/client.h"
#include "cli/progress.h"
#include "lib/base/arena.h"
#include "lib/oci/package.h"

#define PACK_MAX_FILES LIMIT_OCI_LAYERS

struct pack_file {
    char *path; /* owned; on this machine */
    char *name; /* owned; inside the model */
    enum oci_role role;
    int fd; /* owned */
    uint64_t size;
    char digest[OCI_DIGEST_CHARS + 1];
};

struct pack {
    struct pack_file *files; /* owned */
    unsigned n_files, n_held;
    bool is_folder; /* every file with its path */
    struct arena arena;
    struct oci_package package;
    struct buf config, manifest; /* owned */
    char config_digest[OCI_DIGEST_CHARS + 1], manifest_digest[OCI_DIGEST_CHARS + 1];
    struct progress progress;
};

void pack_init(struct pack *p);
void pack_release(struct pack *p);

/* Adds one file; role ROLE_UNKNOWN: as its name says.  E_NOTFOUND, E_IO, E_INVALID. */
int pack_add_file(struct pack *p, const char *path, const char *name, enum oci_role role,
                  struct err *err) MUST_USE;
/* Adds a GGUF file, of a split one all parts. */
int pack_add_gguf(struct pack *p, const char *path, struct err *err) MUST_USE;
/* Adds the files of a folder and those below it, in the order of their names. */
int pack_add_folder(struct pack *p, const char *path, struct err *err) MUST_USE;
/* Begins with a model of the daemon's store. */
int pack_take_model(struct pack *p, const struct client *c, const char *model,
                    struct err *err) MUST_USE;

/* What a worker reads of the weights goes into the package's config. */
int pack_probe(struct pack *p, struct err *err) MUST_USE;
/* Reads every file once, for its digest, and makes layers of them. */
int pack_hash(struct pack *p, struct err *err) MUST_USE;
/* Writes config and manifest. */
int pack_build(struct pack *p, struct err *err) MUST_USE;

/* --- as a tar --- */

struct pack_stream;
/* The stream of a pack that was built; its length in *ret_bytes.  Blobs that only a store has
 * (pack_take_model) are not in it. */
int pack_stream_new(struct pack *p, struct pack_stream **ret, uint64_t *ret_bytes,
                    struct err *err) MUST_USE;
/* At most n bytes; 0 at the end; negative.  For client_upload. */
ssize_t pack_stream_read(void *s, char *out, size_t n, struct err *err);
/* Which file is being read, and how far: for a bar. */
const struct pack_file *pack_stream_at(const struct pack_stream *s, uint64_t *ret_done);
void pack_stream_free(struct pack_stream *s);

#endif
