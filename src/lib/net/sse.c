/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sse.h.  Line ends are LF, CR LF or CR, as the standard asks; unknown fields are
 * skipped. */
#include "lib/net/sse.h"

void sse_put_data(struct buf *b, struct str text)
{
    buf_append(b, "data: ", 6);
    buf_append(b, text.p, text.len);
    buf_append(b, "\n\n", 2);
}

void sse_put_comment(struct buf *b, struct str text)
{
    buf_append(b, ": ", 2);
    buf_append(b, text.p, text.len);
    buf_append(b, "\n\n", 2);
}

void sse_reader_init(struct sse_reader *r, size_t max_event_bytes)
{
    *r = (struct sse_reader){0};
    buf_init(&r->line, max_event_bytes);
    buf_init(&r->data, max_event_bytes);
    buf_init(&r->name, max_event_bytes);
}

void sse_reader_release(struct sse_reader *r)
{
    buf_release(&r->line);
    buf_release(&r->data);
    buf_release(&r->name);
    r->last_was_cr = r->any_data = false;
}

static int dispatch(struct sse_reader *r, sse_event_fn fn, void *ctx, struct err *err)
{
    bool go_on = true;
    if (r->any_data) {
        struct str name =
            r->name.len ? (struct str){r->name.data, r->name.len} : STR_LIT("message");
        go_on = fn(ctx, name, (struct str){buf_str(&r->data), r->data.len});
    }
    buf_clear(&r->data);
    buf_clear(&r->name);
    r->any_data = false;
    return go_on ? 0 : err_set(err, E_CANCELED, "the reading of events was ended");
}

static int line_end(struct sse_reader *r, sse_event_fn fn, void *ctx, struct err *err)
{
    struct str line = {buf_str(&r->line), r->line.len};
    if (line.len == 0)
        return dispatch(r, fn, ctx, err);
    const char *colon = memchr(line.p, ':', line.len);
    struct str field = {line.p, colon ? (size_t)(colon - line.p) : line.len};
    struct str value = {line.p + line.len, 0};
    if (colon) {
        value = (struct str){colon + 1, line.len - field.len - 1};
        if (value.len && *value.p == ' ')
            value = (struct str){value.p + 1, value.len - 1};
    }
    if (str_is(field, "data")) {
        if (r->any_data)
            buf_append_char(&r->data, '\n');
        buf_append(&r->data, value.p, value.len);
        r->any_data = true;
    } else if (str_is(field, "event")) {
        buf_clear(&r->name);
        buf_append(&r->name, value.p, value.len);
    }
    buf_clear(&r->line);
    return buf_status(&r->data, "an event", err);
}

int sse_reader_feed(struct sse_reader *r, const char *p, size_t n, sse_event_fn fn, void *ctx,
                    struct err *err)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        bool after_cr = r->last_was_cr;
        r->last_was_cr = p[i] == '\r';
        if (p[i] != '\n' && p[i] != '\r')
            continue;
        if (p[i] == '\n' && after_cr) { /* second half of CR LF */
            from = i + 1;
            continue;
        }
        buf_append(&r->line, p + from, i - from);
        from = i + 1;
        int ret = buf_status(&r->line, "a line of an event", err);
        if (ret == 0)
            ret = line_end(r, fn, ctx, err);
        if (ret < 0)
            return ret;
    }
    buf_append(&r->line, p + from, n - from);
    return buf_status(&r->line, "a line of an event", err);
}
