/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sha256.h.  The newer EVP interface hides its state, hence the older one, which OpenSSL
 * 3 keeps under the name "deprecated" with the same code behind it.
 *
 * A state: "bsha2561", n_bytes, eight words of the chaining value, the 64 bytes of the block begun
 * (zeros past what is there), all little-endian; then four bytes of SHA-256 over these. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "lib/oci/sha256.h"

#include <string.h>

#define MAGIC      "bsha2561"
#define BODY_BYTES (SHA256_STATE_BYTES - 4u)

_Static_assert(BODY_BYTES == 8 + 8 + 32 + 64, "a state's fields");

void sha256_init(struct sha256 *s)
{
    SHA256_Init(&s->ctx);
    s->n_bytes = 0;
}

void sha256_add(struct sha256 *s, const void *p, size_t n)
{
    SHA256_Update(&s->ctx, p, n);
    s->n_bytes += n;
}

void sha256_end(struct sha256 *s, char ret[SHA256_STRING_CHARS + 1])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, &s->ctx);
    memcpy(ret, "sha256:", 7);
    for (size_t i = 0; i < sizeof(digest); i++) {
        ret[7 + 2 * i] = hex[digest[i] >> 4];
        ret[8 + 2 * i] = hex[digest[i] & 15];
    }
    ret[SHA256_STRING_CHARS] = '\0';
}

static void put_le(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

void sha256_save(const struct sha256 *s, unsigned char ret[SHA256_STATE_BYTES])
{
    unsigned char check[SHA256_DIGEST_LENGTH];
    memset(ret, 0, SHA256_STATE_BYTES);
    memcpy(ret, MAGIC, 8);
    put_le(ret + 8, s->n_bytes, 8);
    for (size_t i = 0; i < 8; i++)
        put_le(ret + 16 + 4 * i, s->ctx.h[i], 4);
    memcpy(ret + 48, s->ctx.data, s->n_bytes % SHA256_CBLOCK);
    SHA256(ret, BODY_BYTES, check);
    memcpy(ret + BODY_BYTES, check, 4);
}

bool sha256_load(struct sha256 *s, const unsigned char *bytes, size_t n)
{
    unsigned char check[SHA256_DIGEST_LENGTH];
    sha256_init(s);
    if (n != SHA256_STATE_BYTES || memcmp(bytes, MAGIC, 8) != 0)
        return false;
    SHA256(bytes, BODY_BYTES, check);
    if (memcmp(bytes + BODY_BYTES, check, 4) != 0)
        return false;
    s->n_bytes = get_le(bytes + 8, 8);
    for (size_t i = 0; i < 8; i++)
        s->ctx.h[i] = (SHA_LONG)get_le(bytes + 16 + 4 * i, 4);
    s->ctx.num = (unsigned)(s->n_bytes % SHA256_CBLOCK);
    memcpy(s->ctx.data, bytes + 48, s->ctx.num);
    s->ctx.Nl = (SHA_LONG)(s->n_bytes << 3);
    s->ctx.Nh = (SHA_LONG)(s->n_bytes >> 29);
    return true;
}
