/* SPDX-License-Identifier: Apache-2.0 */
/* Implements git_blob.h, with the older interface of OpenSSL for the reason that sha256.c gives. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "lib/oci/git_blob.h"

#include <stdio.h>

void git_blob_init(struct git_blob *g, uint64_t size)
{
    char head[32];
    int n = snprintf(head, sizeof(head), "blob %llu", (unsigned long long)size);
    SHA1_Init(&g->ctx);
    SHA1_Update(&g->ctx, head, (size_t)n + 1);
}

void git_blob_add(struct git_blob *g, const void *p, size_t n)
{
    SHA1_Update(&g->ctx, p, n);
}

void git_blob_end(struct git_blob *g, char ret[GIT_BLOB_ID_CHARS + 1])
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1_Final(digest, &g->ctx);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}
