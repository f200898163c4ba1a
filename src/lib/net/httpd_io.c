/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a connection: reads, gathered writes, and the head of an answer (RFC 9112, 4 and 6). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "lib/net/httpd_impl.h"

/* A block's memory beyond this is given back after it was sent. */
#define BLOCK_KEEP_BYTES 65536u

ssize_t conn_read(struct conn *c, void *p, size_t n)
{
    if (c->tls)
        return tls_read(c, p, n);
    for (;;) {
        ssize_t got = recv(c->fd, p, n, 0);
        if (got >= 0) {
            /* A short read has emptied the socket; what comes later is a new event (epoll(7)).  A
             * hang-up is none: its end of stream is still to be read. */
            if ((size_t)got < n && got > 0 && !c->hung_up)
                c->readable = false;
            return got;
        }
        if (errno == EINTR)
            continue;
        c->readable = false;
        return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
    }
}

void conn_wait_out(struct conn *c)
{
    c->blocked = true;
    if (c->wants_out)
        return;
    c->wants_out = true;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(c->t->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
        c->broken = true;
}

bool out_is_empty(const struct out *o)
{
    return o->head.len + o->block.len + o->tail.len == 0;
}

void out_release(struct out *o)
{
    buf_release(&o->head);
    buf_release(&o->block);
    o->tail.len = o->sent = 0;
}

/* What is left to send, as up to three pieces. */
static size_t out_pieces(const struct out *o, struct str pieces[3])
{
    const struct str all[3] = {{o->head.data, o->head.len}, {o->block.data, o->block.len}, o->tail};
    size_t skip = o->sent, n = 0;
    for (size_t i = 0; i < 3; i++) {
        if (skip < all[i].len)
            pieces[n++] = (struct str){all[i].p + skip, all[i].len - skip};
        skip -= MIN_OF(skip, all[i].len);
    }
    return n;
}

static ssize_t write_plain(struct conn *c, const struct str *pieces, size_t n)
{
    struct iovec iov[3];
    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){(void *)(uintptr_t)pieces[i].p, pieces[i].len};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
    for (;;) {
        ssize_t sent = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -2;
    }
}

/* All of it is sent: its memory stays for the next piece unless it is much. */
static void out_reset(struct out *o)
{
    buf_clear(&o->head);
    if (o->block.cap > BLOCK_KEEP_BYTES)
        buf_release(&o->block);
    else
        buf_clear(&o->block);
    o->tail.len = o->sent = 0;
}

int out_send(struct conn *c)
{
    struct out *o = &c->out;
    struct str pieces[3];
    size_t n, len;
    if (c->blocked)
        return 0;
    while ((n = out_pieces(o, pieces)) > 0) {
        len = 0;
        for (size_t i = 0; i < n; i++)
            len += pieces[i].len;
        ssize_t sent = c->tls ? tls_write(c, pieces, n) : write_plain(c, pieces, n);
        if (sent == -2)
            return -1;
        if (sent > 0) {
            o->sent += (size_t)sent;
            c->moved_ms = c->t->now_ms;
        }
        if (sent < 0 || (!c->tls && (size_t)sent < len)) {
            conn_wait_out(c);
            return 0;
        }
    }
    bool any = o->sent > 0;
    out_reset(o);
    return any;
}

/* --- the head of an answer --- */

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    default: return "";
    }
}

/* RFC 9110, 5.6.7; made anew once a second. */
static const char *date(struct http_thread *t)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    struct tm tm;
    if (now != t->date_s && gmtime_r(&now, &tm)) {
        snprintf(t->date, sizeof(t->date), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                 days + 3 * tm.tm_wday, tm.tm_mday % 100, months + 3 * tm.tm_mon,
                 (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
        t->date_s = now;
    }
    return t->date;
}

static void put_field(struct buf *out, const char *name, const char *value)
{
    buf_append_str(out, name);
    buf_append(out, ": ", 2);
    buf_append_str(out, value);
    buf_append(out, "\r\n", 2);
}

bool answer_head(struct conn *c, struct httpd_request *r, struct buf *out, size_t body_len)
{
    char text[64];
    bool bodiless = r->status == 204 || r->status == 304;
    buf_reserve(out, 512);
    snprintf(text, sizeof(text), "HTTP/1.1 %d ", r->status);
    buf_append_str(out, text);
    buf_append_str(out, reason(r->status));
    buf_append(out, "\r\n", 2);
    put_field(out, "Date", date(c->t));
    if (r->content_type)
        put_field(out, "Content-Type", r->content_type);
    if (r->chunked_out) {
        put_field(out, "Transfer-Encoding", "chunked");
    } else if (!r->streaming && !bodiless) {
        snprintf(text, sizeof(text), "%zu", body_len);
        put_field(out, "Content-Length", text);
    }
    put_field(out, "X-Content-Type-Options", "nosniff");
    for (const struct httpd_header_pair *p = r->headers; p; p = p->next)
        put_field(out, p->name, p->value);
    if (!c->keep_alive)
        put_field(out, "Connection", "close");
    else if (r->head.is_1_0)
        put_field(out, "Connection", "keep-alive");
    buf_append(out, "\r\n", 2);
    return !out->failed;
}
