/* SPDX-License-Identifier: Apache-2.0 */
/* Implements client.h over lib/net/httpc.h, and the one question that every command begins with
 * (client_version) over a plain socket: loading an HTTP library takes longer than its answer. */
#include "cli/client/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/sse.h"

#define ANSWER_MAX_BYTES  (64u << 20) /* one whole answer */
#define VERSION_MAX_BYTES 65536u      /* the answer to the first question, with its head */
#define KEY_MAX_BYTES     8192u       /* the header that presents the key */
#define CONNECT_MS        5000u
#define PROBE_MS          5000u
#define VERSION_PATH      "/berth/v1/version"

static const char *or_null(const char *s)
{
    return s && *s ? s : NULL;
}

/* "http://HOST[:PORT]", "https://HOST[:PORT]", "HOST:PORT" or "unix:///PATH". */
static int take_url(struct client *c, const char *url, struct err *err)
{
    const char *rest = strstr(url, "://");
    size_t n_scheme = rest ? (size_t)(rest - url) : 0;
    rest = rest ? rest + 3 : url;
    c->socket = NULL;
    c->is_tls = n_scheme == 5 && strncasecmp(url, "https", 5) == 0;
    if (n_scheme == 4 && strncasecmp(url, "unix", 4) == 0 && *rest == '/') {
        c->socket = rest;
        return 0;
    }
    bool is_http =
        n_scheme == 0 || c->is_tls || (n_scheme == 4 && strncasecmp(url, "http", 4) == 0);
    bool is_v6 = *rest == '[';
    size_t n_host = strcspn(rest + is_v6, is_v6 ? "]" : ":/");
    const char *after = rest + is_v6 + n_host + (is_v6 && rest[1 + n_host] == ']');
    uint64_t port = c->is_tls ? 443 : 80;
    size_t n_port = *after == ':' ? strspn(after + 1, "0123456789") : 0;
    char text[8];
    snprintf(text, sizeof(text), "%.*s", (int)n_port, after + 1);
    bool ok =
        is_http && n_host > 0 && n_host < sizeof(c->host) &&
        (*after != ':' || (n_port < 6 && config_parse_number(text, 1, 65535, &port, err) == 0));
    after += *after == ':' ? 1 + n_port : 0;
    if (!ok || (*after && strcmp(after, "/") != 0))
        return err_set(
            err, E_INVALID,
            "the daemon's url '%.128s' is none of http://HOST:PORT, https://HOST:PORT and "
            "unix:///PATH",
            url);
    snprintf(c->host, sizeof(c->host), "%.*s", (int)n_host, rest + is_v6);
    c->port = c->config_port = (uint32_t)port;
    return 0;
}

/* Whether the url counts: host, port or socket may come from nearer, as a flag before the
 * environment, or as berth's own variable before another program's. */
static bool url_counts(const struct config *cfg)
{
    static const enum config_id others[] = {CONFIG_host, CONFIG_port, CONFIG_socket};
    const struct config_value *url = &cfg->values[CONFIG_url];
    bool counts = *url->text != '\0';
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        enum config_source from = cfg->values[others[i]].source;
        counts &= from < url->source || (from == url->source && !url->variable);
    }
    return counts;
}

/* Where to connect to, and its URL, from host and port. */
static void set_place(struct client *c)
{
    const char *to = c->host;
    if (strcmp(to, "0.0.0.0") == 0 || strcmp(to, "*") == 0)
        to = "127.0.0.1";
    else if (strcmp(to, "::") == 0)
        to = "::1";
    bool is_v6 = strchr(to, ':') != NULL;
    snprintf(c->to, sizeof(c->to), "%s", to);
    snprintf(c->url, sizeof(c->url), "%s://%s%s%s:%u", c->is_tls ? "https" : "http",
             is_v6 ? "[" : "", c->to, is_v6 ? "]" : "", c->port);
}

int client_init(struct client *c, const struct config *cfg, struct err *err)
{
    *c = (struct client){.port = config_u32(cfg, CONFIG_port),
                         .config_port = config_u32(cfg, CONFIG_port),
                         .socket = or_null(config_str(cfg, CONFIG_socket)),
                         .api_key = or_null(config_str(cfg, CONFIG_api_key)),
                         .ca_file = or_null(config_str(cfg, CONFIG_tls_cert)),
                         .default_registry = or_null(config_str(cfg, CONFIG_default_registry)),
                         .hf_token = or_null(config_str(cfg, CONFIG_hf_token)),
                         .may_start = config_u32(cfg, CONFIG_autostart) != 0,
                         .config_file = cfg->file};
    if (cfg->values[CONFIG_models_dir].source == CONFIG_FROM_FLAG)
        c->models_dir = config_str(cfg, CONFIG_models_dir);
    snprintf(c->host, sizeof(c->host), "%s", config_str(cfg, CONFIG_host));
    if (url_counts(cfg) && take_url(c, config_str(cfg, CONFIG_url), err) < 0)
        return -err->code;
    if (!url_counts(cfg))
        c->is_tls = c->ca_file != NULL;
    if (c->socket) {
        c->port = 0;
        c->is_tls = false; /* TLS is the TCP port's */
        snprintf(c->url, sizeof(c->url), "http://localhost");
        return 0;
    }
    if (c->port == 0)
        return err_set(err, E_INVALID,
                       "--port 0 names no daemon: give the port that `berth serve` printed");
    set_place(c);
    return 0;
}

const char *client_place(const struct client *c)
{
    return c->socket ? c->socket : c->url;
}

static int to_buf(const char *p, size_t n, void *ctx)
{
    return buf_append(ctx, p, n) < 0 ? -1 : 0;
}

static int dump(const json_t *body, struct buf *out, struct err *err)
{
    buf_init(out, ANSWER_MAX_BYTES);
    if (body && json_dump_callback(body, to_buf, out, JSON_COMPACT) < 0 && !out->failed)
        return err_set(err, E_INVALID, "the prompt is not valid UTF-8");
    return buf_status(out, "the request", err);
}

/* The sentence of an error object, in whichever dialect's shape, or NULL. */
static const char *sentence_of(const json_t *e)
{
    return json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
}

/* The sentence of an error answer, or the status alone. */
int client_refusal(const struct client *c, const char *path, int status, const struct buf *body,
                   struct err *err)
{
    json_t *j = json_loadb(buf_str(body), body->len, 0, NULL);
    const char *message = sentence_of(json_object_get(j, "error"));
    enum err_code code = E_INVALID;
    switch (status) {
    case 401: code = E_AUTH; break;
    case 403: code = E_DENIED; break;
    case 404: code = E_NOTFOUND; break;
    case 409: code = E_EXISTS; break;
    case 429:
    case 503: code = E_BUSY; break;
    case 500:
    case 502: code = E_GONE; break;
    }
    const char *kind = json_string_value(json_object_get(json_object_get(j, "error"), "code"));
    bool is_ours = kind && strcmp(kind, "invalid_api_key") == 0;
    if (message && code == E_AUTH && is_ours) /* a registry's refusal has another */
        err_set(err, code,
                "%s (the command line takes its key from BERTH_API_KEY, or api-key in "
                "the config file)",
                message);
    else if (message)
        err_set(err, code, "%s", message);
    else
        err_set(err, code, "%s%s answered with HTTP status %d; is it a berth daemon?",
                client_place(c), path, status);
    json_decref(j);
    return -(int)code;
}

int client_call_init(struct call *k, const struct client *c, const char *method, const char *path,
                     const json_t *body, struct err *err)
{
    *k = (struct call){0};
    buf_init(&k->key, KEY_MAX_BYTES);
    if (dump(body, &k->text, err) < 0)
        return -err->code;
    snprintf(k->url, sizeof(k->url), "%s%s", c->url, path);
    if (c->api_key && buf_printf(&k->key, "Authorization: Bearer %s", c->api_key) == 0)
        k->headers[0] = buf_str(&k->key);
    k->rq = (struct httpc_request){.method = method,
                                   .url = k->url,
                                   .headers = k->headers,
                                   .unix_path = c->socket,
                                   .ca_file = c->is_tls ? c->ca_file : NULL,
                                   .connect_timeout_ms = CONNECT_MS,
                                   .has_cancel_fd = c->has_cancel_fd,
                                   .cancel_fd = c->cancel_fd,
                                   .on_tick = c->on_tick,
                                   .tick_ctx = c->tick_ctx};
    if (k->text.len) {
        k->rq.body = buf_str(&k->text);
        k->rq.body_len = k->text.len;
    }
    return buf_status(&k->key, "the api-key", err);
}

void client_call_release(struct call *k)
{
    buf_release(&k->text);
    buf_release(&k->key);
}

int client_bytes(const struct client *c, const char *method, const char *path, const json_t *body,
                 struct buf *out, struct err *err)
{
    struct call k;
    struct buf answer;
    int status = 0;
    buf_init(&answer, ANSWER_MAX_BYTES);
    int rc = client_call_init(&k, c, method, path, body, err);
    if (rc == 0)
        rc = httpc_fetch(&k.rq, &status, &answer, err);
    if (rc == 0 && (status < 200 || status > 299))
        rc = client_refusal(c, path, status, &answer, err);
    if (rc == 0) {
        buf_append(out, buf_str(&answer), answer.len);
        rc = buf_status(out, "the answer", err);
    }
    buf_release(&answer);
    client_call_release(&k);
    return rc;
}

int client_json(const struct client *c, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *err)
{
    struct buf answer;
    buf_init(&answer, ANSWER_MAX_BYTES);
    int rc = client_bytes(c, method, path, body, &answer, err);
    if (rc == 0)
        *ret = json_loadb(buf_str(&answer), answer.len, JSON_DECODE_ANY, NULL);
    buf_release(&answer);
    return rc;
}

struct text {
    client_text_fn fn;
    void *ctx;
    struct buf refused; /* the body of an error answer */
};

static bool text_data(void *ctx, int status, const char *p, size_t n)
{
    struct text *t = ctx;
    if (status < 200 || status > 299)
        return buf_append(&t->refused, p, n) == 0;
    return t->fn(t->ctx, p, n);
}

int client_text(const struct client *c, const char *path, client_text_fn fn, void *ctx,
                struct err *err)
{
    struct text t = {.fn = fn, .ctx = ctx};
    struct call k;
    int status = 0;
    buf_init(&t.refused, CLIENT_EVENT_MAX_BYTES);
    int rc = client_call_init(&k, c, "GET", path, NULL, err);
    if (rc == 0) {
        k.rq.on_data = text_data;
        k.rq.ctx = &t;
        rc = httpc_do(&k.rq, &status, err);
    }
    if (rc == 0 && (status < 200 || status > 299))
        rc = client_refusal(c, path, status, &t.refused, err);
    buf_release(&t.refused);
    client_call_release(&k);
    return rc;
}

struct stream {
    client_event_fn fn;
    void *ctx;
    struct sse_reader reader;
    struct buf refused; /* the body of an error answer */
    bool has_begun;     /* some of the answer is there */
    bool is_done;       /* saw [DONE] */
    struct err error;   /* code set: an error event, or one that is too long */
};

static bool stream_event(void *ctx, struct str name, struct str data)
{
    (void)name;
    struct stream *s = ctx;
    if (str_is(data, "[DONE]")) {
        s->is_done = true;
        return true;
    }
    json_t *event = json_loadb(data.p, data.len, 0, NULL);
    const json_t *e = json_object_get(event, "error");
    bool go_on = false;
    if (!event) {
        err_set(&s->error, E_FORMAT, "the daemon sent an event that is not JSON");
    } else if (e && !json_is_null(e)) {
        const char *message = sentence_of(e);
        err_set(&s->error, E_GONE, "%s", message ? message : "the answer ended with an error");
    } else {
        go_on = s->fn(s->ctx, event);
    }
    json_decref(event);
    return go_on;
}

static bool stream_data(void *ctx, int status, const char *p, size_t n)
{
    struct stream *s = ctx;
    if (status < 200 || status > 299)
        return buf_append(&s->refused, p, n) == 0;
    struct err err = ERR_INIT;
    s->has_begun = true;
    int rc = sse_reader_feed(&s->reader, p, n, stream_event, s, &err);
    if (rc < 0 && rc != -E_CANCELED)
        s->error = err;
    return rc == 0;
}

static int stream(const struct client *c, const char *path, const json_t *body, bool has_mark,
                  client_event_fn fn, void *ctx, struct err *err)
{
    struct stream s = {.fn = fn, .ctx = ctx, .is_done = !has_mark, .error = ERR_INIT};
    struct call k;
    struct err why = ERR_INIT;
    int status = 0;
    sse_reader_init(&s.reader, CLIENT_EVENT_MAX_BYTES);
    buf_init(&s.refused, CLIENT_EVENT_MAX_BYTES);
    int rc = client_call_init(&k, c, "POST", path, body, &why);
    if (rc == 0) {
        k.rq.on_data = stream_data;
        k.rq.ctx = &s;
        rc = httpc_do(&k.rq, &status, &why);
    }
    if (s.error.code) {
        *err = s.error;
        rc = -s.error.code;
    } else if (rc == 0 && (status < 200 || status > 299)) {
        rc = client_refusal(c, path, status, &s.refused, err);
    } else if (!s.is_done && s.has_begun && (rc == 0 || rc == -E_NET)) {
        rc = err_set(err, E_NET, "the daemon broke the answer off; its log says why");
    } else if (rc < 0) {
        *err = why;
    }
    buf_release(&s.refused);
    sse_reader_release(&s.reader);
    client_call_release(&k);
    return rc;
}

static uint32_t probe_ms(const struct client *c)
{
    return c->probe_ms ? c->probe_ms : PROBE_MS;
}

int client_stream(const struct client *c, const char *path, const json_t *body, client_event_fn fn,
                  void *ctx, struct err *err)
{
    return stream(c, path, body, true, fn, ctx, err);
}

int client_events(const struct client *c, const char *path, const json_t *body, client_event_fn fn,
                  void *ctx, struct err *err)
{
    return stream(c, path, body, false, fn, ctx, err);
}

/* Connects in time.  The descriptor, or -1 with errno. */
static int dial_one(const struct client *c, const struct sockaddr *a, socklen_t len)
{
    int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, a, len) == 0)
        return fd;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int e = errno;
    socklen_t size = sizeof(e);
    if (e == EINPROGRESS) {
        if (poll(&p, 1, (int)probe_ms(c)) <= 0)
            e = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size);
    }
    if (e == 0)
        return fd;
    close(fd);
    errno = e;
    return -1;
}

static int dial(const struct client *c)
{
    if (c->socket) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        if (strlen(c->socket) >= sizeof(un.sun_path)) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(un.sun_path, c->socket, strlen(c->socket) + 1);
        return dial_one(c, (struct sockaddr *)&un, sizeof(un));
    }
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list, *a;
    snprintf(port, sizeof(port), "%u", c->port);
    if (getaddrinfo(c->to, port, &hints, &list) != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    int fd = -1;
    for (a = list; a && fd < 0; a = a->ai_next)
        fd = dial_one(c, a->ai_addr, a->ai_addrlen);
    int e = errno;
    freeaddrinfo(list);
    errno = e;
    return fd;
}

static int64_t now_ms(void)
{
    return (int64_t)(clock_ns() / 1000000);
}

/* Whether the bytes are a whole answer; its body's place then. */
static bool is_whole(const struct buf *b, size_t *ret_body)
{
    const char *end = strstr(buf_str(b), "\r\n\r\n");
    const char *field = strcasestr(buf_str(b), "\r\ncontent-length:");
    if (!end || !field || field > end)
        return false;
    *ret_body = (size_t)(end + 4 - buf_str(b));
    return b->len - *ret_body >= strtoull(field + strlen("\r\ncontent-length:"), NULL, 10);
}

/* Asks for the version over a socket of its own.  0 and the answer's JSON in *ret (NULL when it is
 * none), 1 when no one listens, else E_NET. */
static int ask_plain(const struct client *c, json_t **ret, struct err *err)
{
    int fd = dial(c);
    if (fd < 0)
        return 1;
    static const char *const form = "GET " VERSION_PATH " HTTP/1.1\r\nHost: %s\r\nConnection: close"
                                    "\r\n\r\n";
    char head[512], piece[4096];
    const char *host = strstr(c->url, "://");
    int n = snprintf(head, sizeof(head), form, host ? host + 3 : "localhost");
    struct buf in;
    size_t body = 0;
    buf_init(&in, VERSION_MAX_BYTES);
    int64_t end = now_ms() + probe_ms(c);
    bool is_sent = send(fd, head, (size_t)n, MSG_NOSIGNAL) == n, timed_out = false;
    while (is_sent && !is_whole(&in, &body)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = end - now_ms();
        if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
            timed_out = true;
            break;
        }
        ssize_t got = recv(fd, piece, sizeof(piece), 0);
        if (got <= 0 || buf_append(&in, piece, (size_t)got) < 0)
            break;
    }
    close(fd);
    int rc = 0;
    if (is_whole(&in, &body) && strncmp(buf_str(&in), "HTTP/1.1 200", 12) == 0)
        *ret = json_loadb(buf_str(&in) + body, in.len - body, JSON_DISABLE_EOF_CHECK, NULL);
    else if (timed_out)
        rc = err_set(err, E_TIMEOUT,
                     "%s takes connections but did not say within %g seconds "
                     "whether it is a berth daemon",
                     client_place(c), probe_ms(c) / 1000.0);
    buf_release(&in);
    return rc;
}

/* The same through httpc, for TLS. */
static int ask_tls(const struct client *c, json_t **ret, struct err *err)
{
    struct call k;
    struct buf answer;
    struct err why = ERR_INIT;
    int status = 0;
    buf_init(&answer, VERSION_MAX_BYTES);
    int rc = client_call_init(&k, c, "GET", VERSION_PATH, NULL, err);
    if (rc == 0) {
        k.rq.total_timeout_ms = probe_ms(c);
        rc = httpc_fetch(&k.rq, &status, &answer, &why);
        if (rc == -E_NET)
            rc = 1;
        else if (rc < 0)
            rc = err_set(err, (enum err_code)why.code, "asking %s whether it is a berth daemon: %s",
                         c->url, why.msg);
    }
    if (rc == 0 && status == 200)
        *ret = json_loadb(buf_str(&answer), answer.len, 0, NULL);
    buf_release(&answer);
    client_call_release(&k);
    return rc;
}

int client_version(const struct client *c, char ret[CLIENT_VERSION_MAX], struct err *err)
{
    json_t *j = NULL;
    int rc = c->is_tls ? ask_tls(c, &j, err) : ask_plain(c, &j, err);
    if (rc != 0)
        return rc > 0 ? 0 : rc;
    const char *version = json_string_value(json_object_get(j, "version"));
    if (version) {
        snprintf(ret, CLIENT_VERSION_MAX, "%s", version);
        rc = 1;
    } else {
        rc = err_set(
            err, E_NET, "something other than a berth daemon listens on %s; give berth another %s",
            client_place(c), c->socket ? "--socket" : "--port, or --tls-cert if it speaks TLS");
    }
    json_decref(j);
    return rc;
}

int client_probe(const struct client *c, struct err *err)
{
    char version[CLIENT_VERSION_MAX];
    return client_version(c, version, err);
}
