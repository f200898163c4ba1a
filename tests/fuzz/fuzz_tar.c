/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives, plain or compressed, from any bytes and in any pieces; every path that is told must
 * be one that the writer takes. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/codec/inflate.h"
#include "lib/codec/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t left;

static int on_begin(void *ctx, const struct tar_entry *e, struct err *err)
{
    struct buf out;
    (void)ctx;
    buf_init(&out, 1 << 16);
    BUG_ON(tar_put_file(&out, e->path, e->size, err) < 0 || e->size > 1 << 20);
    buf_release(&out);
    left = e->size;
    return 0;
}

static int on_data(void *ctx, const void *p, size_t n, struct err *err)
{
    (void)ctx;
    (void)p;
    (void)err;
    BUG_ON(n > left);
    left -= n;
    return 0;
}

static int on_end(void *ctx, struct err *err)
{
    (void)ctx;
    (void)err;
    BUG_ON(left);
    return 0;
}

static int to_reader(void *ctx, const void *p, size_t n, struct err *err)
{
    return tar_reader_feed(ctx, p, n, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tar_sink sink = {NULL, on_begin, on_data, on_end};
    const struct tar_limits limits = {1 << 20, 64};
    struct err err = ERR_INIT;
    struct inflate *z;
    if (size < 2)
        return 0;
    struct tar_reader *r = tar_reader_new(&sink, &limits);
    if (inflate_new((enum inflate_kind)(data[0] % 3), to_reader, r, &z, &err) == 0) {
        size_t piece = (size_t)data[1] * 8 + 1;
        int rc = 0;
        for (size_t at = 2; rc == 0 && at < size; at += piece)
            rc = inflate_feed(z, data + at, MIN_OF(piece, size - at), &err);
        if (rc == 0)
            rc = inflate_finish(z, &err);
        if (rc == 0)
            rc = tar_reader_finish(r, &err);
        BUG_ON(rc < 0 && !err.msg[0]);
        inflate_free(z);
    }
    tar_reader_free(r);
    return 0;
}
