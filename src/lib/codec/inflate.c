/* SPDX-License-Identifier: Apache-2.0 */
/* Implements inflate.h. */
#include "lib/codec/inflate.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "lib/base/mem.h"

#define OUT_BYTES  (128u << 10)
#define FREE_BYTES (1u << 20) /* may come out before the ratio counts */

struct inflate {
    enum inflate_kind kind;
    inflate_fn fn;
    void *ctx;
    uint64_t n_in, n_out;
    bool is_between; /* members, or at the very start */
    z_stream gzip;
    ZSTD_DCtx *zstd; /* owned */
    char out[OUT_BYTES];
};

static const char *name_of(const struct inflate *z)
{
    return z->kind == INFLATE_GZIP ? "gzip" : "zstd";
}

int inflate_new(enum inflate_kind kind, inflate_fn fn, void *ctx, struct inflate **ret,
                struct err *err)
{
    struct inflate *z = mem_alloc(sizeof(*z));
    z->kind = kind;
    z->fn = fn;
    z->ctx = ctx;
    z->is_between = true;
    bool ok = true;
    if (kind == INFLATE_GZIP) {
        ok = inflateInit2(&z->gzip, 16 + MAX_WBITS) == Z_OK;
    } else if (kind == INFLATE_ZSTD) {
        z->zstd = ZSTD_createDCtx();
        ok = z->zstd &&
             !ZSTD_isError(ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, INFLATE_ZSTD_WLOG));
    }
    if (!ok) {
        inflate_free(z);
        return err_set(err, E_NOMEM, "no memory to unpack a stream");
    }
    *ret = z;
    return 0;
}

void inflate_free(struct inflate *z)
{
    if (!z)
        return;
    if (z->kind == INFLATE_GZIP)
        inflateEnd(&z->gzip);
    ZSTD_freeDCtx(z->zstd);
    mem_free(z);
}

static int give(struct inflate *z, size_t n, struct err *err)
{
    z->n_out += n;
    if (z->n_out > FREE_BYTES && z->n_out / INFLATE_RATIO > z->n_in)
        return err_set(err, E_LIMIT,
                       "the %s stream unpacks to more than %u times its size, which no model does",
                       name_of(z), INFLATE_RATIO);
    return n ? z->fn(z->ctx, z->out, n, err) : 0;
}

static int gzip_feed(struct inflate *z, const void *p, size_t n, struct err *err)
{
    int rc = 0;
    z->gzip.next_in = (unsigned char *)(uintptr_t)p; /* zlib does not write to it */
    z->gzip.avail_in = (unsigned)n;
    do {
        if (z->is_between && z->n_out && z->gzip.avail_in && inflateReset(&z->gzip) != Z_OK)
            return err_set(err, E_INTERNAL, "zlib refuses to begin anew");
        z->is_between = z->is_between && !z->gzip.avail_in;
        z->gzip.next_out = (unsigned char *)z->out;
        z->gzip.avail_out = sizeof(z->out);
        int code = inflate(&z->gzip, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return err_set(err, code == Z_MEM_ERROR ? E_NOMEM : E_FORMAT,
                           "the gzip stream is damaged: %s",
                           z->gzip.msg ? z->gzip.msg : "no further word");
        rc = give(z, sizeof(z->out) - z->gzip.avail_out, err);
        if (code == Z_STREAM_END)
            z->is_between = true;
    } while (rc == 0 && (z->gzip.avail_in || z->gzip.avail_out == 0));
    return rc;
}

static int zstd_feed(struct inflate *z, const void *p, size_t n, struct err *err)
{
    ZSTD_inBuffer in = {p, n, 0};
    ZSTD_outBuffer out;
    int rc = 0;
    do {
        out = (ZSTD_outBuffer){z->out, sizeof(z->out), 0};
        size_t code = ZSTD_decompressStream(z->zstd, &out, &in);
        if (ZSTD_isError(code)) {
            bool is_window = strstr(ZSTD_getErrorName(code), "memory") != NULL;
            return err_set(err, is_window ? E_LIMIT : E_FORMAT, "the zstd stream %s: %s",
                           is_window ? "wants a larger window than 32 MiB" : "is damaged",
                           ZSTD_getErrorName(code));
        }
        z->is_between = code == 0;
        rc = give(z, out.pos, err);
    } while (rc == 0 && (in.pos < in.size || out.pos == out.size));
    return rc;
}

int inflate_feed(struct inflate *z, const void *p, size_t n, struct err *err)
{
    const char *at = p;
    int rc = 0;
    while (rc == 0 && n) {
        size_t take = MIN_OF(n, (size_t)1 << 20);
        z->n_in += take;
        switch (z->kind) {
        case INFLATE_NONE: rc = z->fn(z->ctx, at, take, err); break;
        case INFLATE_GZIP: rc = gzip_feed(z, at, take, err); break;
        case INFLATE_ZSTD: rc = zstd_feed(z, at, take, err); break;
        }
        at += take;
        n -= take;
    }
    return rc;
}

int inflate_finish(struct inflate *z, struct err *err)
{
    if (z->kind == INFLATE_NONE || (z->is_between && z->n_in))
        return 0;
    return err_set(err, E_FORMAT, "the %s stream is cut short", name_of(z));
}
