/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) piece by piece, by OpenSSL's code, with a state that can be put away and
 * taken up again: a pull that is resumed need not read what it has once more.  No I/O; any thread.
 */
#ifndef LIB_OCI_SHA256_H
#define LIB_OCI_SHA256_H

#include <openssl/sha.h>

#include "lib/base/err.h"

#define SHA256_STATE_BYTES  116u
#define SHA256_STRING_CHARS 71u /* "sha256:" and 64 digits */

struct sha256 {
    SHA256_CTX ctx;
    uint64_t n_bytes;
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
/* "sha256:" and the digest in lower-case hexadecimal; s may only be initialised anew. */
void sha256_end(struct sha256 *s, char ret[SHA256_STRING_CHARS + 1]);

/* The state as bytes, the same on every machine; with a checksum of itself. */
void sha256_save(const struct sha256 *s, unsigned char ret[SHA256_STATE_BYTES]);
/* False, and s is as after sha256_init, when the bytes are no state. */
bool sha256_load(struct sha256 *s, const unsigned char *bytes, size_t n);

#endif
