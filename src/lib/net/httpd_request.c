/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the request half of httpd.h: lifetime, what came in, answers, streams.
 *
 * Whoever answers only writes down what is to be said; the connection's thread composes and sends
 * it. */
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

#define ARENA_BYTES (64u << 20)

uint64_t httpd_now_ms(void)
{
    return clock_ns() / 1000000;
}

uint64_t httpd_now_us(void)
{
    return clock_ns() / 1000;
}

/* --- lifetime --- */

struct httpd_request *request_new(struct conn *c)
{
    struct err err = ERR_INIT;
    struct httpd_request *r = mem_try_alloc(1, sizeof(*r), &err);
    if (!r)
        return NULL;
    struct http_thread *t = c->t;
    atomic_init(&r->refs, 1);
    r->conn = c;
    r->thread = t;
    r->first_us = httpd_now_us();
    r->first_ms = r->wrote_ms = t->now_ms;
    r->method = r->path = "-";
    r->query = "";
    r->peer = c->peer;
    http_head_init(&r->head);
    arena_init(&r->arena, ARENA_BYTES);
    buf_init(&r->body, t->h->cfg.max_body_bytes);
    buf_init(&r->pending, SIZE_MAX / 4);
    buf_init(&r->body_ready, SIZE_MAX / 4);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
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
    http_head_release(&r->head);
    buf_release(&r->body);
    buf_release(&r->pending);
    buf_release(&r->body_ready);
    arena_release(&r->arena);
    pthread_cond_destroy(&r->moved);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

bool request_unfinished_locked(const struct httpd_request *r)
{
    return !r->answered || (r->streaming && !r->ended);
}

void request_end(struct httpd_request *r, bool complete)
{
    struct httpd *h = r->conn->t->h;
    void (*fn)(void *) = NULL;
    void *ctx = NULL;
    pthread_mutex_lock(&r->lock);
    if (request_unfinished_locked(r) && r->dispatched) {
        r->left = true;
        r->gone_told = r->gone_fn != NULL;
        fn = r->gone_fn;
        ctx = r->gone_ctx;
    }
    r->thread = NULL;
    if (!complete)
        atomic_store(&r->aborted, true);
    size_t counted = r->body_counted;
    r->body_counted = 0;
    struct httpd_result result = {.status = r->answered ? r->status : 0,
                                  .sent_bytes = r->sent_bytes,
                                  .received_bytes = r->received_bytes,
                                  .total_ms = (double)(httpd_now_us() - r->first_us) / 1000,
                                  .complete = complete};
    buf_release(&r->pending);
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    r->conn = NULL;
    atomic_fetch_sub(&h->body_bytes, counted);
    if (fn)
        fn(ctx);
    if (r->told && h->cfg.on_done)
        h->cfg.on_done(h->cfg.ctx, r, &result);
    atomic_fetch_add(&h->sent_bytes, result.sent_bytes);
    atomic_fetch_add(&h->received_bytes, result.received_bytes);
    if (r->head_done) {
        atomic_fetch_sub(&h->n_requests, 1);
        httpd_touch(h);
    }
    httpd_request_unref(r);
}

/* --- what came in --- */

const char *httpd_method(const struct httpd_request *r)
{
    return r->method;
}

const char *httpd_path(const struct httpd_request *r)
{
    return r->path;
}

const char *httpd_query(const struct httpd_request *r)
{
    return r->query;
}

const struct httpd_peer *httpd_peer(const struct httpd_request *r)
{
    return &r->peer;
}

struct str httpd_body(const struct httpd_request *r)
{
    return (struct str){buf_str(&r->body), r->body.len};
}

void httpd_body_release(struct httpd_request *r)
{
    buf_release(&r->body);
    pthread_mutex_lock(&r->lock);
    if (r->thread)
        atomic_fetch_sub(&r->thread->h->body_bytes, r->body_counted);
    r->body_counted = 0;
    pthread_mutex_unlock(&r->lock);
}

const char *httpd_header(const struct httpd_request *r, const char *name)
{
    return r->headers_ok ? http_head_get(&r->head, name) : NULL;
}

uint32_t httpd_header_count(const struct httpd_request *r, const char *name)
{
    uint32_t n = 0;
    for (uint32_t i = 0; r->headers_ok && i < r->head.n_fields; i++)
        n += strcasecmp(r->head.text.data + r->head.fields[i].name, name) == 0;
    return n;
}

const char *httpd_query_value(struct httpd_request *r, const char *name)
{
    struct err err = ERR_INIT;
    size_t n_name = strlen(name);
    for (const char *s = r->query; *s;) {
        size_t n = strcspn(s, "&");
        const char *eq = memchr(s, '=', n);
        size_t n_key = eq ? (size_t)(eq - s) : n;
        char *text = arena_try_alloc(&r->arena, n + 1, &err);
        if (!text)
            return NULL;
        if (http_decode_value(s, n_key, text) && strlen(text) == n_name && !strcmp(text, name))
            return http_decode_value(s + n_key + (eq != NULL), n - n_key - (eq != NULL), text)
                       ? text
                       : NULL;
        s += n + (s[n] == '&');
    }
    return NULL;
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

/* --- answers --- */

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

/* Has the connection's thread look at r.  Nothing to do on that thread itself while it calls
 * the owner: it looks afterwards. */
static void notify_locked(struct httpd_request *r)
{
    struct http_thread *t = r->thread;
    if (t && !r->posted && !(t == thread_self() && t->running == r)) {
        r->posted = true;
        thread_post(t, r);
    }
}

/* Writes the answer down; takes out's memory when it is a whole one. */
static void answer_with(struct httpd_request *r, int status, const char *content_type,
                        struct buf *out)
{
    struct err err = ERR_INIT;
    if (content_type)
        r->content_type = arena_try_dup(&r->arena, content_type, strlen(content_type), &err);
    pthread_mutex_lock(&r->lock);
    BUG_ON(r->answered);
    r->answered = true;
    r->streaming = out == NULL;
    r->status = status;
    r->wrote_ms = httpd_now_ms();
    if (r->thread && out) {
        buf_release(&r->pending);
        r->pending = *out;
        r->pending.max = SIZE_MAX / 4;
        buf_init(out, out->max);
        if (r->pending.failed)
            atomic_store(&r->aborted, true); /* no memory for a few bytes */
    }
    notify_locked(r);
    pthread_mutex_unlock(&r->lock);
    if (out)
        buf_release(out);
}

void httpd_answer_buf(struct httpd_request *r, int status, const char *content_type,
                      struct buf *out)
{
    answer_with(r, status, content_type, out);
}

void httpd_answer(struct httpd_request *r, int status, const char *content_type, struct str body)
{
    struct buf out;
    buf_init(&out, body.len);
    buf_append(&out, body.p, body.len);
    answer_with(r, status, content_type, &out);
}

void httpd_stream_begin(struct httpd_request *r, int status, const char *content_type)
{
    answer_with(r, status, content_type, NULL);
}

int httpd_stream_write(struct httpd_request *r, struct str piece)
{
    int ret = 0;
    pthread_mutex_lock(&r->lock);
    BUG_ON(!r->streaming && !r->aborted && r->thread);
    if (r->aborted || !r->thread) {
        ret = -E_CANCELED;
    } else if (r->is_head) {
        r->wrote_ms = httpd_now_ms();
    } else {
        size_t unsent = r->pending.len + r->in_flight;
        r->wrote_ms = httpd_now_ms();
        if (unsent > LIMIT_STREAM_PENDING_BYTES ||
            piece.len > LIMIT_STREAM_PENDING_BYTES - unsent) {
            ret = -E_LIMIT; /* a client that reads too slowly */
            atomic_fetch_add(&r->thread->h->n_dropped_slow, 1);
        } else {
            ret = buf_append(&r->pending, piece.p, piece.len);
        }
        if (ret < 0) {
            r->aborted = true;
            buf_release(&r->pending);
        }
        if (ret < 0 || !r->paced || r->pending.len >= HTTPD_PACE_BYTES)
            notify_locked(r);
    }
    pthread_mutex_unlock(&r->lock);
    return ret;
}

int httpd_stream_write_wait(struct httpd_request *r, struct str piece)
{
    pthread_mutex_lock(&r->lock);
    r->is_write_awaited = true;
    while (r->thread && !r->aborted &&
           r->pending.len + r->in_flight + piece.len > LIMIT_HTTP_WINDOW_BYTES &&
           r->pending.len + r->in_flight > 0)
        pthread_cond_wait(&r->moved, &r->lock);
    r->is_write_awaited = false;
    pthread_mutex_unlock(&r->lock);
    return httpd_stream_write(r, piece);
}

size_t httpd_stream_unsent(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    size_t n = r->pending.len + r->in_flight;
    pthread_mutex_unlock(&r->lock);
    return n;
}

void httpd_stream_end(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    notify_locked(r);
    pthread_mutex_unlock(&r->lock);
}

void httpd_abort(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->aborted = true;
    notify_locked(r);
    pthread_mutex_unlock(&r->lock);
}

/* --- bodies in pieces --- */

void httpd_body_stream(struct httpd_request *r, uint64_t max_bytes)
{
    r->body_streams = true;
    r->body_max = max_bytes;
    r->body.max = SIZE_MAX / 4;
}

bool request_body_has_room(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool has_room = r->body_ready.len < LIMIT_HTTP_WINDOW_BYTES;
    pthread_mutex_unlock(&r->lock);
    return has_room;
}

/* Nobody waiting for an earlier piece, the memory itself changes hands. */
void request_body_add(struct httpd_request *r, struct buf *piece)
{
    pthread_mutex_lock(&r->lock);
    if (r->body_ready.len == 0) {
        struct buf empty = r->body_ready;
        r->body_ready = *piece;
        *piece = empty;
    } else if (buf_append(&r->body_ready, piece->data, piece->len) < 0) {
        r->body_done = true;
        r->body_rc = E_NOMEM;
        r->body_why = "no memory for the request's body";
    }
    buf_clear(piece);
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

void request_body_end(struct httpd_request *r, enum err_code rc, const char *why)
{
    pthread_mutex_lock(&r->lock);
    if (!r->body_done) {
        r->body_done = true;
        r->body_rc = rc;
        r->body_why = why;
    }
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

int httpd_body_take(struct httpd_request *r, struct buf *out, struct err *err)
{
    int rc = 1;
    buf_clear(out);
    pthread_mutex_lock(&r->lock);
    while (r->body_ready.len == 0 && !r->body_done && r->thread && !r->aborted)
        pthread_cond_wait(&r->moved, &r->lock);
    if (!r->thread || r->aborted) {
        rc = err_set(err, E_CANCELED, "the client has left before its request was whole");
    } else if (r->body_ready.len > 0) {
        struct buf piece = r->body_ready;
        r->body_ready = *out;
        r->body_ready.max = SIZE_MAX / 4;
        *out = piece;
        notify_locked(r); /* there is room again */
    } else {
        rc = r->body_rc ? err_set(err, r->body_rc, "%s", r->body_why) : 0;
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

/* --- calls back --- */

void httpd_run_later(struct httpd_request *r, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->later_fn = fn;
    r->later_ctx = ctx;
    notify_locked(r);
    pthread_mutex_unlock(&r->lock);
}

void httpd_on_gone(struct httpd_request *r, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->gone_fn = fn;
    r->gone_ctx = ctx;
    bool already = r->left && !r->gone_told;
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
    notify_locked(r);
    pthread_mutex_unlock(&r->lock);
}
