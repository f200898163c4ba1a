/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's life, on its thread: requests in, one after the other, answers out, deadlines,
 * the end.
 *
 * Everything that happens sets a flag and calls conn_run, which takes steps until none can be
 * taken. A client that closes its sending half counts as gone, as in most servers of this kind: it
 * is how a closed browser tab looks.  What can be answered at once is still answered. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

/* Steps before others get their turn. */
#define STEPS_MAX 32

/* --- beginning and end --- */

void conn_uncount(struct http_thread *t, int fd)
{
    close(fd);
    atomic_fetch_sub(&t->n_conns, 1);
    atomic_fetch_sub(&t->h->n_connections, 1);
    httpd_touch(t->h);
}

struct conn *conn_open(struct http_thread *t, int fd, const struct httpd_peer *peer, bool tls)
{
    struct err err = ERR_INIT;
    struct conn *c = mem_try_alloc(1, sizeof(*c), &err);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (c) {
        *c = (struct conn){.source.kind = SOURCE_CONN,
                           .t = t,
                           .fd = fd,
                           .first = true,
                           .keep_alive = true,
                           .handshaking = tls,
                           .peer = *peer,
                           .since_ms = t->now_ms,
                           .moved_ms = t->now_ms};
        c->timer.owner = c;
        buf_init(&c->left, HTTPD_SCRATCH);
        buf_init(&c->out.head, 1u << 20);
        buf_init(&c->out.block, SIZE_MAX / 4);
    }
    if (!c || timers_reserve(&t->timers, atomic_load(&t->n_conns), &err) < 0 ||
        (tls && !tls_open(c)) || epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        if (c)
            tls_close(c, false);
        mem_free(c);
        conn_uncount(t, fd);
        return NULL;
    }
    c->next = t->conns;
    if (c->next)
        c->next->prev = c;
    t->conns = c;
    return c;
}

static void conn_unlist(struct conn *c)
{
    struct http_thread *t = c->t;
    if (c->prev)
        c->prev->next = c->next;
    else
        t->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    for (struct conn **at = &t->ready; c->in_ready && *at; at = &(*at)->ready_next) {
        if (*at == c) {
            *at = c->ready_next;
            break;
        }
    }
    timer_set(&t->timers, &c->timer, TIMER_NEVER);
}

void conn_close(struct conn *c, bool reset)
{
    struct http_thread *t = c->t;
    struct httpd_request *r = c->r;
    c->r = NULL;
    conn_unlist(c);
    if (r)
        request_end(r, false);
    tls_close(c, !reset && !c->broken);
    if (reset) {
        struct linger now = {.l_onoff = 1};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    /* Closing alone would not do while a child that is being started still holds a copy. */
    epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    out_release(&c->out);
    buf_release(&c->left);
    conn_uncount(t, c->fd);
    mem_free(c);
}

bool conn_is_idle(const struct conn *c)
{
    return !c->r && c->left.len == 0 && !c->lingers;
}

/* No more is sent; what the client still sends is read and dropped for a while, because closing now
 * would reset the connection and take the answer from it. */
static int linger_begin(struct conn *c)
{
    tls_close(c, true);
    shutdown(c->fd, SHUT_WR);
    c->lingers = true;
    c->since_ms = c->t->now_ms;
    c->dropped_bytes = c->left.len;
    buf_release(&c->left);
    return 1;
}

static int linger_step(struct conn *c)
{
    if (!c->readable)
        return 0;
    ssize_t n = recv(c->fd, c->t->scratch, sizeof(c->t->scratch), MSG_DONTWAIT);
    if (n <= 0) {
        c->readable = false;
        return n == 0 || !(errno == EAGAIN || errno == EINTR) ? -1 : 0;
    }
    c->dropped_bytes += (uint64_t)n;
    return c->dropped_bytes > HTTPD_DISCARD_MAX ? -1 : 1;
}

/* --- requests in --- */

static bool is_answered(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool ret = r->answered || r->aborted;
    pthread_mutex_unlock(&r->lock);
    return ret;
}

static void refuse(struct conn *c, int status, const char *message)
{
    struct httpd_request *r = c->r;
    struct httpd_config *cfg = &c->t->h->cfg;
    c->keep_alive = false;
    r->discards = true;
    r->told = true;
    atomic_fetch_add(&c->t->h->n_refused, 1);
    httpd_close_after(r);
    if (http_head_has_method(&r->head))
        r->method = http_head_method(&r->head);
    r->is_head = strcmp(r->method, "HEAD") == 0;
    c->t->running = r;
    if (cfg->on_refusal)
        cfg->on_refusal(cfg->ctx, r, status, message);
    else
        httpd_answer(r, status, "text/plain; charset=utf-8", str_from(message));
    c->t->running = NULL;
}

static void refuse_large(struct conn *c)
{
    char text[160];
    snprintf(
        text, sizeof(text),
        "the request's body is larger than the %zu bytes that this server accepts (--max-body)",
        c->t->h->cfg.max_body_bytes);
    refuse(c, 413, text);
}

void conn_refuse(struct conn *c, int status, const char *message)
{
    c->r = request_new(c);
    if (c->r)
        refuse(c, status, message);
    else
        c->broken = true;
}

static void dispatch(struct conn *c)
{
    struct httpd_request *r = c->r;
    struct http_thread *t = c->t;
    r->received = true;
    r->dispatched = true;
    t->running = r;
    t->h->cfg.on_request(t->h->cfg.ctx, r);
    t->running = NULL;
}

/* Answered before its body: a short body is dropped and the connection kept, a long one is not
 * waited for, nor is one that comes only when it is asked for. */
static void discard_body(struct conn *c)
{
    struct httpd_request *r = c->r;
    r->discards = true;
    if (r->head.wants_continue || r->head.length > HTTPD_DRAIN_MAX)
        c->keep_alive = false;
}

/* False: the request was refused. */
static bool split_target(struct conn *c)
{
    struct err err = ERR_INIT;
    struct httpd_request *r = c->r;
    char *path = arena_try_alloc(&r->arena, strlen(http_head_target(&r->head)) + 2, &err);
    if (!path) {
        refuse(c, 503, "no memory for the request's path");
    } else if (!http_head_path(&r->head, path, &r->query)) {
        refuse(c, 400, "the request's target is not a path of this host, or is badly escaped");
    } else {
        r->path = path;
        return true;
    }
    return false;
}

static void head_complete(struct conn *c)
{
    struct httpd_request *r = c->r;
    struct httpd *h = c->t->h;
    const struct http_head *head = &r->head;
    r->head_done = r->headers_ok = true;
    atomic_fetch_add(&h->n_requests, 1);
    atomic_fetch_add(&h->n_requests_ever, 1);
    httpd_touch(h);
    r->method = http_head_method(head);
    r->is_head = strcmp(r->method, "HEAD") == 0;
    r->body_left = head->length;
    r->body_ms = c->t->now_ms;
    c->keep_alive = !head->wants_close && (!head->is_1_0 || head->wants_keep_alive);
    if (!split_target(c))
        return;
    bool has_body = head->is_chunked || head->length > 0;
    r->told = true;
    c->t->running = r;
    if (h->cfg.on_headers)
        h->cfg.on_headers(h->cfg.ctx, r);
    c->t->running = NULL;
    if (is_answered(r)) {
        r->received = !has_body;
        if (has_body)
            discard_body(c);
    } else if (r->body_streams && head->length > r->body_max) {
        refuse(c, 413, "the request's body is larger than this server accepts");
    } else if (!r->body_streams && head->length > h->cfg.max_body_bytes) {
        refuse_large(c);
    } else if (!has_body) {
        if (r->body_streams)
            request_body_end(r, E_OK, NULL);
        dispatch(c);
    } else {
        http_chunked_init(&r->chunks);
        if (head->wants_continue)
            buf_append_str(&c->out.head, "HTTP/1.1 100 Continue\r\n\r\n");
        if (r->body_streams) {
            dispatch(c);
            r->received = false;
        }
    }
}

/* A streamed body will not be whole: who takes it is told, and answers. */
static void body_fail(struct conn *c, enum err_code rc, const char *why)
{
    c->r->discards = true;
    c->keep_alive = false;
    request_body_end(c->r, rc, why);
}

/* Keeps n bytes of the body, which are counted first.  False: the request was refused. */
static bool body_count(struct conn *c, size_t n)
{
    struct httpd_request *r = c->r;
    struct httpd *h = c->t->h;
    r->received_bytes += n;
    if (r->discards)
        return true;
    if (r->body_streams) {
        r->body_ms = c->t->now_ms;
        if (r->received_bytes > r->body_max)
            body_fail(c, E_LIMIT, "the request's body is larger than this server accepts");
        return !r->discards;
    }
    if (atomic_fetch_add(&h->body_bytes, n) + n > LIMIT_HTTP_BODIES_BYTES) {
        atomic_fetch_sub(&h->body_bytes, n);
        refuse(c, 503, "too many large requests at once; try again later");
        return false;
    }
    pthread_mutex_lock(&r->lock);
    r->body_counted += n;
    pthread_mutex_unlock(&r->lock);
    return true;
}

static void body_keep(struct conn *c, struct str data)
{
    struct httpd_request *r = c->r;
    if (data.len == 0 || !body_count(c, data.len) || r->discards)
        return;
    int rc = buf_append(&r->body, data.p, data.len);
    if (rc == 0 && r->body_streams)
        request_body_add(r, &r->body);
    else if (rc < 0 && r->body_streams)
        body_fail(c, E_NOMEM, "no memory for the request's body");
    else if (rc == -E_LIMIT)
        refuse_large(c);
    else if (rc < 0)
        refuse(c, 503, "no memory for the request's body");
}

static void body_complete(struct conn *c)
{
    if (c->r->body_streams)
        request_body_end(c->r, E_OK, NULL);
    if (c->r->discards || c->r->body_streams)
        c->r->received = true;
    else
        dispatch(c);
}

/* A refusal of httpd's own: nothing more of the request is looked at. */
static bool is_refused(const struct conn *c)
{
    return c->r->discards && !c->keep_alive;
}

static size_t feed_chunks(struct conn *c, const char *p, size_t n)
{
    struct httpd_request *r = c->r;
    size_t at = 0, used;
    int rc = HTTP_MORE;
    while (at < n && rc == HTTP_MORE && !is_refused(c)) {
        struct str data;
        rc = http_chunked_feed(&r->chunks, p + at, n - at, &used, &data);
        at += used;
        body_keep(c, data);
        if (!r->discards && !r->body_streams && r->chunks.in_data &&
            r->chunks.left > c->t->h->cfg.max_body_bytes - r->body.len)
            refuse_large(c);
        if (r->discards && r->received_bytes > HTTPD_DRAIN_MAX)
            c->keep_alive = false;
    }
    if (rc == HTTP_DONE)
        body_complete(c);
    else if (rc != HTTP_MORE && r->discards)
        c->keep_alive = false;
    else if (rc != HTTP_MORE && r->body_streams)
        body_fail(c, E_FORMAT, r->chunks.why);
    else if (rc != HTTP_MORE)
        refuse(c, rc, r->chunks.why);
    return at;
}

static size_t feed_length(struct conn *c, const char *p, size_t n)
{
    struct httpd_request *r = c->r;
    size_t used = r->body_left < n ? (size_t)r->body_left : n;
    r->body_left -= used;
    body_keep(c, (struct str){p, used});
    if (r->body_left == 0 && !is_refused(c))
        body_complete(c);
    return used;
}

/* Uses up to n bytes; fewer when the request is whole or refused. */
static size_t feed(struct conn *c, const char *p, size_t n)
{
    struct httpd_request *r = c->r;
    size_t used = 0;
    if (!r) {
        r = c->r = request_new(c);
        if (!r) {
            c->broken = true;
            return n;
        }
        c->first = false;
    }
    if (!r->head_done) {
        int rc = http_head_feed(&r->head, p, n, &used);
        if (rc == HTTP_DONE)
            head_complete(c);
        else if (rc != HTTP_MORE)
            refuse(c, rc, r->head.why);
    }
    if (used < n && !r->received && r->head_done && !is_refused(c))
        used += r->head.is_chunked ? feed_chunks(c, p + used, n - used)
                                   : feed_length(c, p + used, n - used);
    return used;
}

/* A long body goes where it stays, without a stop in the scratch buffer. */
static int receive_body(struct conn *c)
{
    struct httpd_request *r = c->r;
    size_t most = r->body_streams ? HTTPD_STREAM_PIECE : 65536;
    size_t n = r->body_left < most ? (size_t)r->body_left : most;
    if (buf_reserve(&r->body, n) < 0) {
        if (r->body_streams)
            body_fail(c, E_NOMEM, "no memory for the request's body");
        else
            refuse(c, 503, "no memory for the request's body");
        return 1;
    }
    ssize_t got = conn_read(c, r->body.data + r->body.len, n);
    if (got <= 0)
        return got == -1 ? 0 : -1;
    r->body_left -= (uint64_t)got;
    if (body_count(c, (size_t)got)) {
        r->body.len += (size_t)got;
        r->body.data[r->body.len] = '\0';
        if (r->body_streams)
            request_body_add(r, &r->body);
        if (r->body_left == 0)
            body_complete(c);
    }
    return 1;
}

static int receive(struct conn *c)
{
    struct httpd_request *r = c->r;
    if (r && r->body_streams && !r->discards && !request_body_has_room(r))
        return 0; /* who takes it will have us look again */
    if (c->left.len > 0) {
        size_t used = feed(c, c->left.data, c->left.len);
        buf_consume(&c->left, used);
        if (c->left.len == 0)
            buf_release(&c->left);
        return used > 0;
    }
    if (!c->readable)
        return 0;
    if (r && r->head_done && r->head.has_length && !r->discards)
        return receive_body(c);
    ssize_t n = conn_read(c, c->t->scratch, sizeof(c->t->scratch));
    if (n <= 0)
        return n == -1 ? 0 : -1;
    size_t used = feed(c, c->t->scratch, (size_t)n);
    if (used < (size_t)n && buf_append(&c->left, c->t->scratch + used, (size_t)n - used) < 0)
        return -1;
    return 1;
}

/* --- answers out --- */

/* The body of the answer, as far as it is there, into out.  Under lock. */
static void take_body_locked(struct conn *c, struct httpd_request *r)
{
    struct out *o = &c->out;
    bool is_last = !r->streaming || r->ended;
    if (r->is_head || r->status == 204 || r->status == 304)
        buf_clear(&r->pending);
    if (r->pending.len > 0) {
        struct buf empty = o->block;
        o->block = r->pending;
        r->pending = empty;
        r->in_flight = r->streaming ? o->block.len : 0;
        r->sent_bytes += o->block.len;
        if (r->chunked_out)
            buf_printf(&o->head, "%zx\r\n", o->block.len);
    }
    if (r->chunked_out && !r->is_head)
        o->tail = o->block.len > 0 ? is_last ? STR_LIT("\r\n0\r\n\r\n") : STR_LIT("\r\n")
                  : is_last ? STR_LIT("0\r\n\r\n")
                                   : STR_LIT("");
    r->last_taken = is_last;
}

/* Fills out with what there is to say.  1: something, or the end; 0: nothing now; -1: to be cut. */
static int compose(struct conn *c, struct httpd_request *r)
{
    void (*later)(void *) = NULL;
    void *ctx = NULL;
    int ret = 0;
    pthread_mutex_lock(&r->lock);
    r->in_flight = 0;
    if (r->is_write_awaited)
        pthread_cond_broadcast(&r->moved);
    if (r->later_fn) {
        later = r->later_fn;
        ctx = r->later_ctx;
        r->later_fn = NULL;
    } else if (r->answered && !r->last_taken) {
        if (!r->head_sent) {
            c->keep_alive &= !r->close_after && !atomic_load(&c->t->h->quiescing);
            r->chunked_out = r->streaming && !r->head.is_1_0;
            if (r->streaming && r->head.is_1_0)
                c->keep_alive = false; /* the end of the stream is its only end */
            ret = answer_head(c, r, &c->out.head, r->pending.len) ? 1 : -1;
            r->head_sent = true;
            c->moved_ms = c->t->now_ms;
        }
        bool waits = c->pace_ms > c->t->now_ms && r->pending.len < HTTPD_PACE_BYTES && !r->ended;
        if (ret >= 0 && !waits && (r->pending.len > 0 || !r->streaming || r->ended)) {
            take_body_locked(c, r);
            c->moved_ms = c->t->now_ms;
            ret = c->out.head.failed ? -1 : 1; /* no memory for a chunk's size */
            r->paced = r->streaming && !r->last_taken;
            c->pace_ms = r->paced ? c->t->now_ms + HTTPD_PACE_MS : 0;
        }
    }
    pthread_mutex_unlock(&r->lock);
    if (later) {
        later(ctx);
        ret = 1;
    }
    return ret;
}

/* The answer is out: the connection closes, lingers, or takes the next request. */
static int finish(struct conn *c)
{
    struct httpd_request *r = c->r;
    bool received = r->received;
    c->keep_alive &= received || !r->body_streams; /* answered before it was whole */
    if (!received && c->keep_alive)
        return 0; /* the rest of a refused body is still to be dropped */
    c->r = NULL;
    c->pace_ms = 0;
    c->since_ms = c->t->now_ms;
    request_end(r, true);
    out_release(&c->out);
    if (c->keep_alive && !(atomic_load(&c->t->h->quiescing) && c->left.len == 0))
        return 1;
    if (received && c->left.len == 0 && !c->readable)
        return -1;
    return linger_begin(c);
}

/* 1: something was done; 0: nothing can be; -1: to be closed; -2: to be reset. */
static int answer_step(struct conn *c)
{
    struct httpd_request *r = c->r;
    if (atomic_load(&r->aborted))
        return -2;
    if (out_is_empty(&c->out) && !r->answer_sent) {
        if (r->last_taken) {
            r->answer_sent = true;
            return 1;
        }
        int rc = compose(c, r);
        if (rc <= 0)
            return rc < 0 ? -2 : 0;
    }
    int rc = out_send(c);
    if (rc < 0)
        return -1;
    if (out_is_empty(&c->out) && r->last_taken)
        r->answer_sent = true;
    return r->answer_sent ? finish(c) : rc;
}

static int step(struct conn *c)
{
    if (c->broken)
        return -1;
    if (c->handshaking) {
        int rc = tls_handshake(c);
        if (rc < 0)
            return rc == -1 ? 0 : -1;
        c->handshaking = false;
        if (rc == 0) {
            tls_close(c, false); /* what follows goes out as it is */
            conn_refuse(c, 400,
                        "this port speaks HTTPS: ask again with https:// instead of http://");
        }
        return 1;
    }
    if (c->lingers)
        return linger_step(c);
    struct httpd_request *r = c->r;
    if (r) {
        int rc = answer_step(c);
        if (rc != 0 || c->r != r)
            return rc;
        if (r->received || is_refused(c)) {
            pthread_mutex_lock(&r->lock);
            bool matters = request_unfinished_locked(r);
            pthread_mutex_unlock(&r->lock);
            return c->hung_up && matters ? -1 : 0;
        }
    }
    return receive(c);
}

/* --- deadlines --- */

/* When the request's body will be too late unless more of it comes. */
static uint64_t body_deadline(const struct conn *c)
{
    struct httpd_request *r = c->r;
    if (r->body_streams) /* a pause that we make is not the client's */
        return request_body_has_room(r) ? r->body_ms + c->t->h->cfg.write_timeout_ms : TIMER_NEVER;
    return r->body_ms + c->t->h->cfg.head_timeout_ms +
           r->received_bytes * 1000 / LIMIT_HTTP_BODY_RATE + 1;
}

/* The deadline of what the client has to do now; TIMER_NEVER when it is our turn. */
static uint64_t client_deadline(const struct conn *c)
{
    const struct httpd_config *cfg = &c->t->h->cfg;
    const struct httpd_request *r = c->r;
    if (c->lingers)
        return c->since_ms + HTTPD_LINGER_MS;
    if (!r)
        return c->since_ms + (c->first ? cfg->head_timeout_ms : cfg->idle_timeout_ms);
    if (c->blocked && !out_is_empty(&c->out))
        return c->moved_ms + cfg->write_timeout_ms;
    if (r->received || is_refused(c))
        return TIMER_NEVER;
    return r->head_done ? body_deadline(c) : r->first_ms + cfg->head_timeout_ms;
}

static uint64_t quiet_deadline(struct httpd_request *r)
{
    uint64_t due = TIMER_NEVER;
    pthread_mutex_lock(&r->lock);
    if (r->quiet_fn && r->dispatched && request_unfinished_locked(r) && !r->aborted)
        due = r->wrote_ms + r->quiet_ms;
    pthread_mutex_unlock(&r->lock);
    return due;
}

/* Sets the timer unless it is early enough: most deadlines move away long before they come, and one
 * that fires early is set again. */
static void arm(struct conn *c)
{
    uint64_t due = client_deadline(c);
    if (c->r) {
        uint64_t quiet = quiet_deadline(c->r);
        due = MIN_OF(due, quiet);
        if (c->pace_ms && !c->blocked)
            due = MIN_OF(due, c->pace_ms);
    }
    if (due != TIMER_NEVER && (!c->timer.place || c->timer.due_ms > due))
        timer_set(&c->t->timers, &c->timer, due);
}

void conn_run(struct conn *c)
{
    int rc = 1;
    for (int i = 0; i < STEPS_MAX && rc > 0; i++)
        rc = step(c);
    if (rc < 0) {
        conn_close(c, rc == -2);
        return;
    }
    if (rc > 0)
        thread_ready(c);
    arm(c);
}

void conn_event(struct conn *c, uint32_t events)
{
    if (events & (EPOLLRDHUP | EPOLLHUP))
        c->hung_up = true;
    if (events & EPOLLERR)
        c->broken = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
        c->readable = true;
    if (events & EPOLLOUT)
        c->blocked = false;
    conn_run(c);
}

/* The client was too slow with something. */
static void deadline_passed(struct conn *c)
{
    struct httpd_request *r = c->r;
    struct httpd *h = c->t->h;
    if (!r || c->lingers) {
        conn_close(c, false);
        return;
    }
    atomic_fetch_add(&h->n_timed_out, 1);
    if (r->body_streams && r->dispatched && !r->discards && out_is_empty(&c->out)) {
        body_fail(c, E_TIMEOUT, "the request's body came too slowly");
        conn_run(c);
        return;
    }
    if (!out_is_empty(&c->out) || r->discards || c->handshaking) {
        conn_close(c, true);
        return;
    }
    refuse(c, 408,
           r->head_done ? "the request's body came too slowly"
                        : "the request's head did not come in time");
    conn_run(c);
}

/* Calls the owner's quiet_fn when nothing was said for its interval. */
static void tell_quiet(struct httpd_request *r, uint64_t now)
{
    void (*fn)(void *) = NULL;
    void *ctx = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->quiet_fn && request_unfinished_locked(r) && !r->aborted &&
        now >= r->wrote_ms + r->quiet_ms) {
        r->wrote_ms = now;
        fn = r->quiet_fn;
        ctx = r->quiet_ctx;
    }
    pthread_mutex_unlock(&r->lock);
    if (fn)
        fn(ctx);
}

void conn_timeout(struct conn *c)
{
    uint64_t now = c->t->now_ms;
    struct httpd_request *r = c->r;
    if (now >= client_deadline(c)) {
        deadline_passed(c);
        return;
    }
    if (r && r->dispatched)
        tell_quiet(r, now);
    if (r && c->pace_ms && now >= c->pace_ms && !c->blocked) {
        pthread_mutex_lock(&r->lock);
        r->paced = r->pending.len > 0; /* then it is sent now, and the next waits again */
        pthread_mutex_unlock(&r->lock);
        c->pace_ms = 0;
    }
    conn_run(c);
}
