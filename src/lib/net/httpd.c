/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the server half of httpd.h: the socket, libmicrohttpd's callbacks, bodies, framing,
 * stop. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

/* A refused body is read and dropped up to here, so that its sender gets to see the refusal. */
#define DISCARD_MAX_BYTES (64u << 20)

static void refuse(struct httpd_request *r, int status, const char *message)
{
    httpd_close_after(r);
    if (r->h->cfg.on_refusal)
        r->h->cfg.on_refusal(r->h->cfg.ctx, r, status, message);
    else
        httpd_answer(r, status, "text/plain; charset=utf-8", str_from(message));
}

static bool is_answered(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    bool ret = r->answered;
    pthread_mutex_unlock(&r->lock);
    return ret;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes url into the request's arena, "//" as "/".  NULL for a bad escape, a NUL or no
 * memory. */
static char *path_decode(struct httpd_request *r, const char *url)
{
    struct err err = ERR_INIT;
    char *path = arena_try_alloc(&r->arena, strlen(url) + 1, &err);
    size_t len = 0;
    for (const char *s = url; path && *s; s++) {
        char c = *s;
        if (c == '%') {
            int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);
            if (lo < 0 || (hi | lo) == 0)
                return NULL;
            c = (char)(hi << 4 | lo);
            s += 2;
        }
        if (c == '/' && len > 0 && path[len - 1] == '/')
            continue;
        path[len++] = c;
    }
    return path;
}

struct framing { /* what the headers say of the message's form */
    unsigned n_host, n_length, n_encoding;
    bool bad_length, bad_encoding, bad_name;
    uint64_t length;
};

static enum MHD_Result framing_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    (void)kind;
    struct framing *f = cls;
    value = value ? value : "";
    if (strcasecmp(name, "host") == 0) {
        f->n_host++;
    } else if (strcasecmp(name, "content-length") == 0) {
        f->n_length++;
        f->length = 0;
        f->bad_length |=
            *value == '\0' || strlen(value) > 18 || strspn(value, "0123456789") != strlen(value);
        for (const char *s = value; *s && !f->bad_length; s++)
            f->length = f->length * 10 + (uint64_t)(*s - '0');
    } else if (strcasecmp(name, "transfer-encoding") == 0) {
        f->n_encoding++;
        f->bad_encoding |= strcasecmp(value, "chunked") != 0;
    }
    f->bad_name |= *name == '\0' || strpbrk(name, " \t") != NULL;
    return MHD_YES;
}

/* What could be read in two ways by a proxy and by us is refused (RFC 9112, 3.2, 6.1 and 11.2).
 * libmicrohttpd is left at its tolerant level, because its own refusals are not in the owner's
 * style.  Known deviations: a bare LF ends a line, and a header's value ends at a NUL. */
static void check_framing(struct httpd_request *r, const char *version, struct framing *f)
{
    MHD_get_connection_values(r->conn, MHD_HEADER_KIND, framing_header, f);
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        refuse(r, 505, "this server speaks HTTP/1.1");
    else if (f->n_host > 1 || (f->n_host == 0 && strcmp(version, "HTTP/1.1") == 0))
        refuse(r, 400, "the request must have exactly one Host header");
    else if (f->n_length > 1 || f->bad_length)
        refuse(r, 400, "the request must have one Content-Length header with a plain number");
    else if (f->n_encoding && f->n_length)
        refuse(r, 400, "the request has both Content-Length and Transfer-Encoding");
    else if (f->n_encoding > 1 || f->bad_encoding)
        refuse(r, 501, "the only Transfer-Encoding understood is chunked");
    else if (f->bad_name)
        refuse(r, 400, "the request has a malformed header line");
    else if (f->length > r->h->cfg.max_body_bytes)
        refuse(r, 413, "the request's body is larger than this server accepts");
}

/* False when the server stops. */
static bool list_add(struct httpd *h, struct httpd_request *r)
{
    pthread_mutex_lock(&h->lock);
    bool ok = !atomic_load(&h->stopping);
    if (ok) {
        r->next = h->requests;
        if (r->next)
            r->next->prev = r;
        h->requests = r;
    }
    pthread_mutex_unlock(&h->lock);
    return ok;
}

static void list_remove(struct httpd *h, struct httpd_request *r)
{
    pthread_mutex_lock(&h->lock);
    if (r->prev)
        r->prev->next = r->next;
    else
        h->requests = r->next;
    if (r->next)
        r->next->prev = r->prev;
    pthread_mutex_unlock(&h->lock);
}

static void touch(struct httpd *h)
{
    atomic_store(&h->changed_ms, httpd_now_ms());
}

/* Calls what was left to an HTTP thread, if anything. */
static void run_later(struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    void (*fn)(void *) = r->aborted ? NULL : r->later_fn;
    void *ctx = r->later_ctx;
    r->later_fn = NULL;
    pthread_mutex_unlock(&r->lock);
    if (fn)
        fn(ctx);
}

/* Queues the answer when there is one, cuts when there will be none, else waits for either. */
static enum MHD_Result queue_or_suspend(struct httpd_request *r)
{
    struct MHD_Response *resp = NULL;
    enum MHD_Result ret = MHD_YES;
    pthread_mutex_lock(&r->lock);
    while (r->later_fn && !r->aborted) {
        pthread_mutex_unlock(&r->lock);
        run_later(r);
        pthread_mutex_lock(&r->lock);
    }
    if (r->aborted) {
        ret = MHD_NO;
    } else if (r->response) {
        resp = r->response;
        r->response = NULL;
    } else if (!r->suspended) {
        r->suspended = true;
        MHD_suspend_connection(r->conn);
    }
    int status = r->status;
    pthread_mutex_unlock(&r->lock);
    if (resp) {
        ret = MHD_queue_response(r->conn, (unsigned)status, resp);
        MHD_destroy_response(resp);
    }
    return ret;
}

static enum MHD_Result request_begin(struct httpd *h, struct MHD_Connection *conn, const char *url,
                                     const char *method, const char *version, void **con_cls)
{
    struct httpd_request *r = request_new(h, conn);
    struct err err = ERR_INIT;
    r->method = arena_try_dup(&r->arena, method, strlen(method), &err);
    if (!r->method || !list_add(h, r)) {
        httpd_request_unref(r);
        return MHD_NO;
    }
    *con_cls = r;
    atomic_fetch_add(&h->n_requests, 1);
    touch(h);
    struct framing f = {0};
    r->path = path_decode(r, url);
    if (!r->path) {
        r->path = r->method; /* anything that is a string: the request is refused */
        refuse(r, 400, "the request's path has a bad percent escape");
    } else {
        check_framing(r, version, &f);
    }
    if (!is_answered(r) && h->cfg.on_headers)
        h->cfg.on_headers(h->cfg.ctx, r);
    const char *expect = httpd_header(r, "Expect");
    bool body_waits = expect && strcasecmp(expect, "100-continue") == 0;
    if (is_answered(r) &&
        (body_waits || f.length > DISCARD_MAX_BYTES || f.bad_length || f.n_encoding))
        return queue_or_suspend(r);
    return MHD_YES;
}

static enum MHD_Result request_receive(struct httpd *h, struct httpd_request *r, const char *p,
                                       size_t n)
{
    if (is_answered(r)) {
        r->discarded_bytes += n;
        return r->discarded_bytes > DISCARD_MAX_BYTES ? MHD_NO : MHD_YES;
    }
    if (atomic_fetch_add(&h->body_bytes, n) + n > LIMIT_HTTP_BODIES_BYTES) {
        atomic_fetch_sub(&h->body_bytes, n);
        refuse(r, 503, "too many large requests at once; try again later");
        return MHD_YES;
    }
    r->body_counted += n;
    int rc = buf_append(&r->body, p, n);
    if (rc == -E_LIMIT)
        refuse(r, 413, "the request's body is larger than this server accepts");
    else if (rc < 0)
        refuse(r, 503, "no memory for the request's body");
    return MHD_YES;
}

static void request_dispatch(struct httpd *h, struct httpd_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->dispatched = true;
    bool wanted = !r->aborted && !r->answered;
    pthread_mutex_unlock(&r->lock);
    if (!wanted)
        return;
    h->cfg.on_request(h->cfg.ctx, r);
    pthread_mutex_lock(&r->lock);
    bool waits = request_unfinished_locked(r) && !r->aborted;
    pthread_mutex_unlock(&r->lock);
    if (waits)
        watch_add(h, r);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_bytes, void **con_cls)
{
    struct httpd *h = cls;
    struct httpd_request *r = *con_cls;
    if (!r)
        return request_begin(h, conn, url, method, version, con_cls);
    if (*upload_bytes > 0) {
        enum MHD_Result ret = request_receive(h, r, upload, *upload_bytes);
        *upload_bytes = 0;
        return ret;
    }
    if (!r->dispatched)
        request_dispatch(h, r);
    return queue_or_suspend(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    (void)conn;
    (void)why;
    struct httpd *h = cls;
    struct httpd_request *r = *con_cls;
    *con_cls = NULL;
    if (!r)
        return;
    watch_remove(h, r);
    list_remove(h, r);
    pthread_mutex_lock(&r->lock);
    r->conn = NULL;
    r->suspended = false;
    pthread_mutex_unlock(&r->lock);
    request_abort(r, false);
    atomic_fetch_sub(&h->body_bytes, r->body_counted);
    atomic_fetch_sub(&h->n_requests, 1);
    touch(h);
    httpd_request_unref(r);
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    (void)conn;
    (void)ctx;
    struct httpd *h = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        atomic_fetch_add(&h->n_connections, 1);
    else
        atomic_fetch_sub(&h->n_connections, 1);
    touch(h);
}

/* Paths stay as they came; path_decode is stricter. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
    (void)cls;
    (void)conn;
    return strlen(s);
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char line[512];
    vsnprintf(line, sizeof(line), fmt, ap);
    size_t n = strlen(line);
    if (n && line[n - 1] == '\n')
        line[n - 1] = '\0';
    log_debug("http: %s", line);
}

static int listen_on(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port,
                     struct err *err)
{
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *ai = NULL;
    hints.ai_family = strcmp(host, "localhost") == 0 ? AF_INET : AF_UNSPEC;
    if (hints.ai_family == AF_UNSPEC)
        hints.ai_flags |= AI_NUMERICHOST;
    int rc = getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, service, &hints, &ai);
    if (rc)
        return err_set(err, E_INVALID,
                       "host '%s' is not an address to listen on: give a number such as 127.0.0.1 "
                       "or ::1, or localhost",
                       host);
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int ret = 0;
    if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        ret = errno == EADDRINUSE
                  ? err_set(err, E_EXISTS,
                            "port %u on %s is in use: choose another with --port; a berth that "
                            "listens there already is ended by `berth stop --daemon`",
                            port, host)
                  : err_set_sys(err, E_NET, "cannot listen on %s port %u", host, port);
        if (fd >= 0)
            close(fd);
    } else {
        *ret_fd = fd;
        *ret_port =
            ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&addr)->sin6_port
                                             : ((struct sockaddr_in *)(void *)&addr)->sin_port);
    }
    freeaddrinfo(ai);
    return ret;
}

/* No more connections than descriptors allow, with some kept for models and logs. */
static unsigned connection_limit(uint32_t n_threads)
{
    struct rlimit lim;
    rlim_t n = LIMIT_HTTP_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY &&
        lim.rlim_cur < n + 256)
        n = lim.rlim_cur > 512 ? lim.rlim_cur - 256 : lim.rlim_cur / 2;
    return n < n_threads ? n_threads : (unsigned)n;
}

static struct MHD_Daemon *mhd_start(struct httpd *h, uint32_t n_threads)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        h->listen_fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)n_threads, MHD_OPTION_CONNECTION_LIMIT,
        connection_limit(n_threads), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)LIMIT_HTTP_MEMORY_PER_CONN, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)LIMIT_HTTP_IDLE_S, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
}

static void httpd_release(struct httpd *h)
{
    if (h->epoll_fd >= 0)
        close(h->epoll_fd);
    if (h->wake_fd >= 0)
        close(h->wake_fd);
    pthread_mutex_destroy(&h->lock);
    mem_free(h->slots);
    mem_free(h);
}

int httpd_start(const struct httpd_config *cfg, struct httpd **ret, struct err *err)
{
    struct httpd *h = mem_alloc(sizeof(*h));
    h->cfg = *cfg;
    h->epoll_fd = h->wake_fd = h->listen_fd = -1;
    if (!h->cfg.max_body_bytes)
        h->cfg.max_body_bytes = LIMIT_HTTP_BODY_BYTES;
    pthread_mutex_init(&h->lock, NULL);
    touch(h);
    long n_cpu = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n_threads = cfg->n_threads ? cfg->n_threads
                         : n_cpu < 2    ? 2
                         : n_cpu > 4    ? 4
                                        : (uint32_t)n_cpu;
    int rc =
        listen_on(cfg->host ? cfg->host : "127.0.0.1", cfg->port, &h->listen_fd, &h->port, err);
    if (rc == 0)
        rc = watch_start(h, err);
    if (rc < 0) {
        if (h->listen_fd >= 0)
            close(h->listen_fd);
        httpd_release(h);
        return rc;
    }
    h->mhd = mhd_start(h, n_threads);
    if (!h->mhd) {
        rc = err_set(err, E_INTERNAL, "the HTTP server did not start");
        close(h->listen_fd);
        watch_stop(h);
        httpd_release(h);
        return rc;
    }
    *ret = h;
    return 0;
}

uint16_t httpd_port(const struct httpd *h)
{
    return h->port;
}

void httpd_activity(struct httpd *h, uint32_t *ret_connections, uint32_t *ret_requests,
                    uint64_t *ret_quiet_ms)
{
    *ret_connections = atomic_load(&h->n_connections);
    *ret_requests = atomic_load(&h->n_requests);
    *ret_quiet_ms = httpd_now_ms() - atomic_load(&h->changed_ms);
}

void httpd_quiesce(struct httpd *h)
{
    if (h->listen_fd < 0)
        return;
    int fd = MHD_quiesce_daemon(h->mhd);
    if (fd >= 0) {
        close(fd);
        h->listen_fd = -1;
    }
}

/* The next request that stop has not cut yet, with a reference; NULL when there is none. */
static struct httpd_request *next_to_stop(struct httpd *h)
{
    pthread_mutex_lock(&h->lock);
    struct httpd_request *r = h->requests;
    while (r && r->stop_seen)
        r = r->next;
    if (r) {
        r->stop_seen = true;
        httpd_request_ref(r);
    }
    pthread_mutex_unlock(&h->lock);
    return r;
}

void httpd_stop(struct httpd *h)
{
    httpd_quiesce(h);
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->stopping, true); /* from here the list only shrinks */
    pthread_mutex_unlock(&h->lock);
    struct httpd_request *r;
    while ((r = next_to_stop(h))) {
        request_abort(r, true);
        httpd_request_unref(r);
    }
    MHD_stop_daemon(h->mhd);
    watch_stop(h);
    httpd_release(h);
}
