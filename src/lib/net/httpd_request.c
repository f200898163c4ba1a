/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the request half of httpd.h: lifetime, answers, streams.
 *
 * An answer is prepared by whoever gives it and queued by the HTTP thread, which a resume wakes.  A
 * stream is a bounded buffer that HTTP threads drain and that suspends the connection when empty.
 */
#include <string.h>
#include <time.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

#define STREAM_BLOCK_BYTES 8192
#define ARENA_BYTES        (64u << 20)

uint64_t httpd_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct httpd_request *request_new(struct httpd *h, struct MHD_Connection *conn)
{
    struct httpd_request *r = mem_alloc(sizeof(*r));
    atomic_init(&r->refs, 1);
    r->h = h;
    r->conn = conn;
    r->wrote_ms = httpd_now_ms();
    arena_init(&r->arena, ARENA_BYTES);
    buf_init(&r->body, h->cfg.max_body_bytes);
    buf_init(&r->pending, LIMIT_STREAM_PENDING_BYTES);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

struct httpd_request *httpd_request_ref(struct httpd_request *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

void httpd_request_unref(struct httpd_request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    if (r->free_fn)
        r->free_fn(r->ctx);
    if (r->response)
        MHD_destroy_response(r->response);
    buf_release(&r->body);
    buf_release(&r->pending);
    arena_release(&r->arena);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

const char *httpd_method(const struct httpd_request *r)
{
    return r->method;
}

const char *httpd_path(const struct httpd_request *r)
{
    return r->path;
}

struct str httpd_body(const struct httpd_request *r)
{
    return (struct str){buf_str(&r->body), r->body.len};
}

const char *httpd_header(const struct httpd_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

void httpd_body_release(struct httpd_request *r)
{
    buf_release(&r->body);
}

struct arena *httpd_arena(struct httpd_request *r)
{
    return &r->arena;
}

void httpd_set_ctx(struct httpd_request *r, void *ctx, void (*free_fn)(void *ctx))
{
    r->ctx = ctx;
    r->free_fn = free_fn;
}

void *httpd_ctx(const struct httpd_request *r)
{
    return r->ctx;
}

void httpd_close_after(struct httpd_request *r)
{
    r->close_after = true;
}

void httpd_set_header(struct httpd_request *r, const char *name, const char *value)
{
    struct err err = ERR_INIT;
    if (strpbrk(value, "\r\n"))
        return;
    struct httpd_header_pair *p = arena_try_alloc(&r->arena, sizeof(*p), &err);
    char *n = arena_try_dup(&r->arena, name, strlen(name), &err);
    char *v = arena_try_dup(&r->arena, value, strlen(value), &err);
    if (!p || !n || !v)
        return; /* an answer without an extra header is still an answer */
    *p = (struct httpd_header_pair){r->headers, n, v};
    r->headers = p;
}

bool request_unfinished_locked(const struct httpd_request *r)
{
    return !r->answered || (r->streaming && !r->ended);
}

static void resume_locked(struct httpd_request *r)
{
    if (r->suspended) {
        r->suspended = false;
        MHD_resume_connection(r->conn);
    }
}

void request_abort(struct httpd_request *r, bool force)
{
    void (*fn)(void *) = NULL;
    void *ctx = NULL;
    pthread_mutex_lock(&r->lock);
    if (request_unfinished_locked(r) && !r->gone_told && r->dispatched) {
        r->gone_told = true;
        fn = r->gone_fn;
        ctx = r->gone_ctx;
    }
    if (force || request_unfinished_locked(r))
        r->aborted = true;
    resume_locked(r);
    pthread_mutex_unlock(&r->lock);
    if (fn)
        fn(ctx);
}

void httpd_run_later(struct httpd_request *r, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->later_fn = fn;
    r->later_ctx = ctx;
    resume_locked(r);
    pthread_mutex_unlock(&r->lock);
}

void httpd_on_gone(struct httpd_request *r, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->gone_fn = fn;
    r->gone_ctx = ctx;
    bool already = r->aborted || r->gone_told;
    r->gone_told |= already;
    pthread_mutex_unlock(&r->lock);
    if (already)
        fn(ctx);
}

void httpd_on_quiet(struct httpd_request *r, uint32_t interval_ms, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->quiet_ms = interval_ms;
    r->quiet_fn = fn;
    r->quiet_ctx = ctx;
    pthread_mutex_unlock(&r->lock);
}

/* Headers, then hands the response to the HTTP thread, or drops it when nobody waits any more.
 * Takes resp. */
static void answer_with(struct httpd_request *r, int status, const char *content_type,
                        struct MHD_Response *resp, bool streaming)
{
    if (!resp) { /* no memory for a few hundred bytes: cut the connection */
        log_error("http: no memory for an answer");
        request_abort(r, true);
        return;
    }
    if (content_type)
        MHD_add_response_header(resp, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (const struct httpd_header_pair *p = r->headers; p; p = p->next)
        MHD_add_response_header(resp, p->name, p->value);
    if (r->close_after)
        MHD_add_response_header(resp, MHD_HTTP_HEADER_CONNECTION, "close");
    pthread_mutex_lock(&r->lock);
    BUG_ON(r->answered);
    r->answered = true;
    r->streaming = streaming;
    r->wrote_ms = httpd_now_ms();
    if (r->conn && !r->aborted) {
        r->response = resp;
        r->status = status;
        resp = NULL;
        resume_locked(r);
    }
    pthread_mutex_unlock(&r->lock);
    if (resp)
        MHD_destroy_response(resp);
}

void httpd_answer_buf(struct httpd_request *r, int status, const char *content_type,
                      struct buf *out)
{
    size_t len = out->len;
    char *data = buf_take(out);
    struct MHD_Response *resp =
        MHD_create_response_from_buffer_with_free_callback(len, data, mem_free);
    if (!resp)
        mem_free(data);
    answer_with(r, status, content_type, resp, false);
}

void httpd_answer(struct httpd_request *r, int status, const char *content_type, struct str body)
{
    struct buf out;
    buf_init(&out, body.len);
    buf_append(&out, body.p, body.len);
    httpd_answer_buf(r, status, content_type, &out);
    buf_release(&out);
}

/* Whole events where one fits, so that a reader that looks at each network read sees no half ones.
 */
static size_t whole_events(const char *p, size_t len, size_t max)
{
    if (len <= max)
        return len;
    for (size_t n = max; n >= 2; n--) {
        if (p[n - 1] == '\n' && p[n - 2] == '\n')
            return n;
    }
    return max;
}

/* MHD's content reader, on its thread: some bytes, or the end, or suspends until there is one of
 * them. */
static ssize_t stream_read(void *cls, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct httpd_request *r = cls;
    ssize_t ret;
    pthread_mutex_lock(&r->lock);
    if (r->aborted) {
        ret = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (r->pending.len > r->taken) {
        size_t n = whole_events(r->pending.data + r->taken, r->pending.len - r->taken, max);
        memcpy(out, r->pending.data + r->taken, n);
        r->taken += n;
        if (r->taken == r->pending.len) {
            buf_clear(&r->pending);
            r->taken = 0;
        }
        ret = (ssize_t)n;
    } else if (r->ended) {
        ret = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->conn);
        ret = 0;
    }
    pthread_mutex_unlock(&r->lock);
    return ret;
}

void httpd_stream_begin(struct httpd_request *r, int status, const char *content_type)
{
    answer_with(r, status, content_type,
                MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, stream_read,
                                                  r, NULL),
                true);
}

int httpd_stream_write(struct httpd_request *r, struct str piece)
{
    int ret = 0;
    pthread_mutex_lock(&r->lock);
    BUG_ON(!r->streaming && !r->aborted && r->conn);
    if (r->aborted || !r->conn) {
        ret = -E_CANCELED;
    } else {
        r->wrote_ms = httpd_now_ms();
        /* Taken bytes go when they are the larger half (each byte moves once at most) or in the
         * way. */
        if (r->taken > r->pending.len / 2 || piece.len > r->pending.max - r->pending.len) {
            buf_consume(&r->pending, r->taken);
            r->taken = 0;
        }
        ret = buf_append(&r->pending, piece.p, piece.len);
        if (ret < 0) {
            r->aborted = true; /* a client that reads too slowly, or no memory left for it */
            buf_release(&r->pending);
        }
        resume_locked(r);
    }
    pthread_mutex_unlock(&r->lock);
    return ret;
}

void httpd_stream_end(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    if (r->conn)
        resume_locked(r);
    pthread_mutex_unlock(&r->lock);
}
