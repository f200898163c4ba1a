/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events (WHATWG HTML, 9.2): writing frames and reading them back from pieces of any
 * size. No I/O; one thread at a time. */
#ifndef LIB_NET_SSE_H
#define LIB_NET_SSE_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* "data: TEXT\n\n"; text holds no line end (JSON never does).  Failures are remembered by the buf.
 */
void sse_put_data(struct buf *b, struct str text);
/* ": TEXT\n\n", which every reader skips. */
void sse_put_comment(struct buf *b, struct str text);

/* A whole event: name is "message" unless the stream names it; data's lines joined by \n.  Views
 * are valid during the call.  False ends the reading (-E_CANCELED). */
typedef bool (*sse_event_fn)(void *ctx, struct str name, struct str data);

struct sse_reader { /* owns its buffers */
    struct buf line, data, name;
    bool last_was_cr, any_data;
};
void sse_reader_init(struct sse_reader *r, size_t max_event_bytes);
void sse_reader_release(
    struct sse_reader *r); /* it may be used again, from the start of a stream */
/* 0; -E_LIMIT for an event larger than the maximum, -E_CANCELED when fn ended it. */
int sse_reader_feed(struct sse_reader *r, const char *p, size_t n, sse_event_fn fn, void *ctx,
                    struct err *err) MUST_USE;

#endif
