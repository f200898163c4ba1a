/* SPDX-License-Identifier: Apache-2.0 */
/* The id that git gives a file's contents: SHA-1 over "blob SIZE", a NUL, and the bytes (git's
 * gitformat-pack and hash-object).  Hubs name their small files so; it guards against mishaps, not
 * against an attacker.  No I/O; any thread. */
#ifndef LIB_OCI_GIT_BLOB_H
#define LIB_OCI_GIT_BLOB_H

#include <openssl/sha.h>

#include "lib/base/compiler.h"

#define GIT_BLOB_ID_CHARS 40u

struct git_blob {
    SHA_CTX ctx;
};

void git_blob_init(struct git_blob *g, uint64_t size);
void git_blob_add(struct git_blob *g, const void *p, size_t n);
void git_blob_end(struct git_blob *g, char ret[GIT_BLOB_ID_CHARS + 1]);

#endif
