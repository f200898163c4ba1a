/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's bytes as requests, one after the other: heads, bodies, and again.  The first byte
 * says into which pieces the rest is cut; uncut, it must give the same requests. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOG_MAX_BYTES (1u << 20)

struct reading {
    struct http_head head;
    struct http_chunked chunks;
    bool has_head;
    uint64_t left;
    int status;     /* of the refusal that ended it; 0: none */
    struct buf log; /* what was understood */
};

/* What a complete head may hold at most. */
static void check_head(const struct http_head *h)
{
    if (h->n_fields > LIMIT_HTTP_HEADERS || h->n_bytes > LIMIT_HTTP_MEMORY_PER_CONN ||
        strlen(http_head_target(h)) > LIMIT_HTTP_TARGET_BYTES || (h->is_chunked && h->has_length))
        abort();
    for (uint32_t i = 0; i < h->n_fields; i++) {
        const char *name = h->text.data + h->fields[i].name,
                   *value = h->text.data + h->fields[i].value;
        size_t n = strlen(value);
        if (!*name || strpbrk(name, " \t\r\n:") || strpbrk(value, "\r\n") ||
            (n && (value[0] == ' ' || value[n - 1] == ' ')))
            abort();
    }
}

static void head_end(struct reading *r)
{
    struct http_head *h = &r->head;
    const char *query;
    check_head(h);
    buf_printf(&r->log, "[%s %s %u %d %d %llu", http_head_method(h), http_head_target(h),
               h->n_fields, h->is_1_0, h->is_chunked, (unsigned long long)h->length);
    for (uint32_t i = 0; i < h->n_fields; i++)
        buf_printf(&r->log, "|%s=%s", h->text.data + h->fields[i].name,
                   h->text.data + h->fields[i].value);
    char *path = mem_alloc(strlen(http_head_target(h)) + 2);
    if (http_head_path(h, path, &query)) {
        if (strlen(path) > strlen(http_head_target(h)) + 1 || strstr(path, "//"))
            abort();
        buf_printf(&r->log, "|%s?%s", path, query);
        if (http_decode_value(query, strlen(query), path))
            buf_append_str(&r->log, path);
    }
    mem_free(path);
    r->has_head = true;
    r->left = h->length;
    http_chunked_init(&r->chunks);
}

static void request_end(struct reading *r)
{
    buf_append_char(&r->log, ']');
    http_head_release(&r->head);
    http_head_init(&r->head);
    r->has_head = false;
}

static size_t feed_body(struct reading *r, const char *p, size_t n)
{
    size_t used;
    struct str data;
    if (!r->head.is_chunked) {
        used = r->left < n ? (size_t)r->left : n;
        r->left -= used;
        buf_append(&r->log, p, used);
        return used;
    }
    int rc = http_chunked_feed(&r->chunks, p, n, &used, &data);
    if (used > n || (rc == HTTP_MORE && used == 0) || (rc >= 400) != (r->chunks.why != NULL))
        abort();
    buf_append(&r->log, data.p, data.len);
    if (rc == HTTP_DONE)
        request_end(r);
    else if (rc >= 400)
        r->status = rc;
    return used;
}

static void feed(struct reading *r, const char *p, size_t n)
{
    size_t used;
    for (size_t at = 0; at < n && !r->status; at += used) {
        if (r->has_head) {
            used = feed_body(r, p + at, n - at);
        } else {
            int rc = http_head_feed(&r->head, p + at, n - at, &used);
            if (used > n - at || (rc == HTTP_MORE && used < n - at) ||
                (rc >= 400) != (r->head.why != NULL))
                abort();
            if (rc == HTTP_DONE)
                head_end(r);
            else if (rc >= 400)
                r->status = rc;
        }
        if (r->has_head && !r->head.is_chunked && r->left == 0)
            request_end(r);
    }
}

/* step 0: all at once.  The bytes are copied, so that reading beyond a piece is seen. */
static void read_all(struct reading *r, const uint8_t *data, size_t size, size_t step)
{
    *r = (struct reading){0};
    http_head_init(&r->head);
    buf_init(&r->log, LOG_MAX_BYTES);
    for (size_t at = 0; at < size; at += MIN_OF(step ? step : size, size - at)) {
        size_t n = MIN_OF(step ? step : size, size - at);
        char *piece = mem_alloc(n);
        memcpy(piece, data + at, n);
        feed(r, piece, n);
        mem_free(piece);
    }
}

static void reading_release(struct reading *r)
{
    http_head_release(&r->head);
    buf_release(&r->log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole, cut;
    if (size == 0)
        return 0;
    read_all(&whole, data + 1, size - 1, 0);
    read_all(&cut, data + 1, size - 1, 1 + data[0] % 64);
    if (whole.status != cut.status || whole.log.len != cut.log.len ||
        whole.log.failed != cut.log.failed ||
        (whole.log.len && memcmp(whole.log.data, cut.log.data, whole.log.len) != 0))
        abort();
    reading_release(&whole);
    reading_release(&cut);
    return 0;
}
