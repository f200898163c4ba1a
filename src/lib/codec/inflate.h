/* SPDX-License-Identifier: Apache-2.0 */
/* gzip (RFC 1952) and zstd (RFC 8878) streams, unpacked as they come by zlib and libzstd, within
 * bounds: what comes out may be at most INFLATE_RATIO times what went in, and a zstd window at most
 * 32 MiB.  Several members or frames after each other are one stream.  One thread at a time. */
#ifndef LIB_CODEC_INFLATE_H
#define LIB_CODEC_INFLATE_H

#include "lib/base/err.h"

enum inflate_kind { INFLATE_NONE /* passes bytes through */, INFLATE_GZIP, INFLATE_ZSTD };

#define INFLATE_RATIO     1024u
#define INFLATE_ZSTD_WLOG 25

/* Takes what was unpacked; any failure is passed on. */
typedef int (*inflate_fn)(void *ctx, const void *p, size_t n, struct err *err);

struct inflate;

int inflate_new(enum inflate_kind kind, inflate_fn fn, void *ctx, struct inflate **ret,
                struct err *err) MUST_USE;
void inflate_free(struct inflate *z); /* NULL is fine */
/* E_FORMAT for what is no such stream, E_LIMIT past the bounds.  Once it has failed it may only be
 * freed. */
int inflate_feed(struct inflate *z, const void *p, size_t n, struct err *err) MUST_USE;
/* No more bytes: E_FORMAT when the stream is cut short. */
int inflate_finish(struct inflate *z, struct err *err) MUST_USE;

#endif
