/* SPDX-License-Identifier: Apache-2.0 */
/* Implements fetch.h: one multi handle and one easy handle per client, driven by the calling
 * thread; the multi handle keeps the connections. */
#include "lib/net/fetch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/curl_api.h"

#define TICK_MS       100
#define BUFFER_BYTES  (512L << 10)
#define UPLOAD_BYTES  (512L << 10)
#define CONNECT_MS    20000u
#define DEFAULT_STALL 30000u

struct fetch {
    char *ca_file, *user_agent; /* owned */
    uint32_t connect_timeout_ms, stall_ms;
    bool (*on_tick)(void *tick_ctx);
    void *tick_ctx;
    CURLM *multi;
    CURL *easy;
};

struct transfer {
    struct fetch *f;
    const struct fetch_request *rq;
    struct fetch_response *resp;
    uint64_t n_sent;
    uint64_t n_moved; /* bytes either way in this window */
    uint64_t window_ms;
    bool has_answer, stopped, stalled, head_too_long;
    bool has_no_authorities; /* the system's file of them is not there */
    int read_errno;
};

static uint64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

/* ---- headers ---- */

void fetch_response_init(struct fetch_response *r)
{
    *r = (struct fetch_response){0};
    buf_init(&r->head, FETCH_HEAD_BYTES);
}

void fetch_response_release(struct fetch_response *r)
{
    buf_release(&r->head);
}

bool fetch_header(const struct fetch_response *r, const char *name, size_t nth, struct str *ret)
{
    const char *p = r->head.data, *end = p ? p + r->head.len : p;
    const size_t n_name = strlen(name);
    while (p < end) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *next = eol ? eol + 1 : end;
        size_t n = (size_t)((eol ? eol : end) - p);
        if (n > n_name && p[n_name] == ':' && strncasecmp(p, name, n_name) == 0 && nth-- == 0) {
            struct str v = {p + n_name + 1, n - n_name - 1};
            while (v.len && strchr(" \t\r", v.p[v.len - 1]))
                v.len--;
            while (v.len && strchr(" \t", v.p[0]))
                v = (struct str){v.p + 1, v.len - 1};
            *ret = v;
            return true;
        }
        p = next;
    }
    return false;
}

uint64_t fetch_content_length(const struct fetch_response *r)
{
    struct str v;
    uint64_t n = 0;
    if (!fetch_header(r, "Content-Length", 0, &v) || v.len == 0 || v.len > 18)
        return UINT64_MAX;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return UINT64_MAX;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    return n;
}

/* ---- callbacks of curl ---- */

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    n *= size;
    t->n_moved += n;
    t->has_answer = true;
    if (n >= 5 && memcmp(p, "HTTP/", 5) == 0)
        buf_clear(&t->resp->head); /* a new answer: after 100, or a proxy's */
    else
        buf_append(&t->resp->head, p, n);
    t->head_too_long = t->resp->head.failed != 0;
    return t->head_too_long ? 0 : n;
}

static size_t on_write(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    long status = 0;
    n *= size;
    t->n_moved += n;
    curl.easy_getinfo(t->f->easy, CURLINFO_RESPONSE_CODE, &status);
    t->resp->status = (int)status;
    if (t->rq->on_data && !t->rq->on_data(t->rq->ctx, t->resp, p, n)) {
        t->stopped = true;
        return 0;
    }
    return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    n = MIN_OF(size * n, t->rq->file_bytes - t->n_sent);
    ssize_t got;
    do {
        got = pread(t->rq->file_fd, p, n, (off_t)(t->rq->file_offset + t->n_sent));
    } while (got < 0 && errno == EINTR);
    if (got < 0 || (got == 0 && n > 0)) {
        t->read_errno = got < 0 ? errno : EIO;
        return CURL_READFUNC_ABORT;
    }
    t->n_sent += (uint64_t)got;
    t->n_moved += (uint64_t)got;
    if (t->rq->on_sent)
        t->rq->on_sent(t->rq->ctx, t->n_sent);
    return (size_t)got;
}

/* A kept connection had died, and the body goes up again on a new one. */
static int on_seek(void *ctx, curl_off_t offset, int origin)
{
    struct transfer *t = ctx;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->rq->file_bytes)
        return CURL_SEEKFUNC_FAIL;
    t->n_sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- one request ---- */

static void set_method(struct transfer *t, CURL *h)
{
    const struct fetch_request *rq = t->rq;
    if (rq->has_file) {
        curl.easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl.easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->file_bytes);
        curl.easy_setopt(h, CURLOPT_READFUNCTION, on_read);
        curl.easy_setopt(h, CURLOPT_READDATA, t);
        curl.easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
        curl.easy_setopt(h, CURLOPT_SEEKDATA, t);
        curl.easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BYTES);
    } else if (rq->body || strcmp(rq->method, "GET") != 0) {
        curl.easy_setopt(h, CURLOPT_POST, 1L);
        curl.easy_setopt(h, CURLOPT_POSTFIELDS, rq->body ? rq->body : "");
        curl.easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
    }
    if (strcmp(rq->method, "HEAD") == 0)
        curl.easy_setopt(h, CURLOPT_NOBODY, 1L);
    else if (strcmp(rq->method, "GET") != 0)
        curl.easy_setopt(h, CURLOPT_CUSTOMREQUEST, rq->method);
}

static struct curl_slist *set_headers(const struct transfer *t, CURL *h)
{
    /* No second round trip, no form's type that curl would add. */
    struct curl_slist *list = curl.slist_append(NULL, "Expect:");
    if (!t->rq->body && !t->rq->has_file)
        list = curl.slist_append(list, "Content-Type:");
    for (size_t i = 0; t->rq->headers && t->rq->headers[i]; i++)
        list = curl.slist_append(list, t->rq->headers[i]);
    curl.easy_setopt(h, CURLOPT_HTTPHEADER, list);
    return list;
}

/* libcurl gives up before the first byte where the system's file of authorities is missing.  Without
 * it, nobody proves who he is, which is told, and a registry that speaks plain HTTP is still found
 * to. */
static void set_authorities(struct transfer *t)
{
    const struct fetch *f = t->f;
    const char *usual = NULL;
    if (f->ca_file) {
        curl.easy_setopt(f->easy, CURLOPT_CAINFO, f->ca_file); /* CAPATH stays the system's */
        return;
    }
    t->has_no_authorities = curl.easy_getinfo(f->easy, CURLINFO_CAINFO, &usual) == CURLE_OK &&
                            usual && access(usual, F_OK) < 0;
    if (t->has_no_authorities)
        curl.easy_setopt(f->easy, CURLOPT_CAINFO, NULL);
}

static void set_options(struct transfer *t, char *detail)
{
    const struct fetch *f = t->f;
    CURL *h = f->easy;
    curl.easy_reset(h);
    curl.easy_setopt(h, CURLOPT_ERRORBUFFER, detail);
    curl.easy_setopt(h, CURLOPT_URL, t->rq->url);
    curl.easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl.easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(h, CURLOPT_TCP_NODELAY, 1L);
    curl.easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    curl.easy_setopt(h, CURLOPT_USERAGENT, f->user_agent);
    curl.easy_setopt(h, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl.easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl.easy_setopt(h, CURLOPT_HEADERDATA, t);
    curl.easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
    curl.easy_setopt(h, CURLOPT_WRITEDATA, t);
    curl.easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)f->connect_timeout_ms);
    set_authorities(t);
    curl_choose_proxy(h, t->rq->url);
    set_method(t, h);
}

/* Too little has moved for too long. */
static bool is_stalled(struct transfer *t)
{
    uint64_t now = now_ms(), limit = t->f->stall_ms;
    bool is_sent = !t->rq->has_file || t->n_sent == t->rq->file_bytes;
    if (t->rq->wait_ms && is_sent && !t->has_answer)
        limit = t->rq->wait_ms;
    if (t->n_moved >= FETCH_STALL_BYTES) {
        t->n_moved = 0;
        t->window_ms = now;
    }
    return now - t->window_ms >= limit;
}

static CURLcode perform(struct transfer *t)
{
    struct fetch *f = t->f;
    int n_running = 1, n_left;
    t->window_ms = now_ms();
    for (;;) {
        if (curl.multi_perform(f->multi, &n_running) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
        if (!n_running)
            break;
        t->stopped |= f->on_tick && !f->on_tick(f->tick_ctx);
        t->stalled = !t->stopped && is_stalled(t);
        if (t->stopped || t->stalled)
            return CURLE_ABORTED_BY_CALLBACK;
        if (curl.multi_poll(f->multi, NULL, 0, TICK_MS, NULL) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
    }
    const CURLMsg *msg = curl.multi_info_read(f->multi, &n_left);
    return msg ? msg->data.result : CURLE_GOT_NOTHING;
}

static int transfer_error(struct transfer *t, CURLcode rc, const char *detail, struct err *err)
{
    const char *url = t->rq->url, *why = detail[0] ? detail : curl.easy_strerror(rc);
    size_t n = strcspn(url, "?"); /* a query may be a signature */
    struct str at = {url, MIN_OF(n, 256)};
    if (t->stopped)
        return err_set(err, E_CANCELED, "the transfer with %.*s was stopped", STR_ARG(at));
    if (t->read_errno) {
        errno = t->read_errno;
        return err_set_sys(err, E_IO, "reading what goes to %.*s", STR_ARG(at));
    }
    if (t->stalled)
        return err_set(err, E_TIMEOUT, "%.*s: nothing moved for %u seconds", STR_ARG(at),
                       MAX_OF(t->f->stall_ms / 1000, 1));
    if (t->head_too_long)
        return err_set(err, E_LIMIT, "%.*s: the answer's head has more than %u bytes", STR_ARG(at),
                       FETCH_HEAD_BYTES);
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, E_TIMEOUT, "%.*s cannot be reached in time: %s", STR_ARG(at), why);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, E_INVALID, "'%.*s' is not an http address: %s", STR_ARG(at), why);
    case CURLE_OUT_OF_MEMORY:
        return err_set(err, E_NOMEM, "no memory to speak to %.*s", STR_ARG(at));
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(err, E_IO, "the file of authorities %s cannot be used: %s",
                       t->f->ca_file ? t->f->ca_file : "of the system", why);
    case CURLE_PEER_FAILED_VERIFICATION:
        return err_set(err, E_AUTH, "%.*s does not prove who it is: %s%s", STR_ARG(at), why,
                       t->has_no_authorities
                           ? "; this machine has no list of authorities: install ca-certificates, "
                             "or name one with registry-ca"
                       : strstr(why, "expired") || strstr(why, "not yet valid")
                           ? " (is this machine's clock right?)"
                           : "; an authority of your own is named with registry-ca");
    default: return err_set(err, E_NET, "%.*s: %s", STR_ARG(at), why);
    }
}

int fetch_do(struct fetch *f, const struct fetch_request *rq, struct fetch_response *ret,
             struct err *err)
{
    struct transfer t = {.f = f, .rq = rq, .resp = ret};
    char detail[CURL_ERROR_SIZE] = "";
    ret->status = 0;
    ret->no_tls = ret->no_name = false;
    buf_clear(&ret->head);
    set_options(&t, detail);
    struct curl_slist *headers = set_headers(&t, f->easy);
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    if (curl.multi_add_handle(f->multi, f->easy) == CURLM_OK) {
        rc = perform(&t);
        curl.multi_remove_handle(f->multi, f->easy);
    }
    long status = 0;
    curl.easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    ret->status = (int)status;
    ret->no_tls = rc == CURLE_SSL_CONNECT_ERROR;
    ret->no_name = rc == CURLE_COULDNT_RESOLVE_HOST;
    curl.easy_setopt(f->easy, CURLOPT_HTTPHEADER, NULL);
    curl.easy_setopt(f->easy, CURLOPT_ERRORBUFFER, NULL);
    curl.slist_free_all(headers);
    return rc == CURLE_OK ? 0 : transfer_error(&t, rc, detail, err);
}

int fetch_new(const struct fetch_config *cfg, struct fetch **ret, struct err *err)
{
    int rc = curl_api_load(err);
    if (rc < 0)
        return rc;
    struct fetch *f = mem_alloc(sizeof(*f));
    const char *agent = cfg->user_agent ? cfg->user_agent : "berth/" BERTH_VERSION;
    *f = (struct fetch){
        .ca_file =
            cfg->ca_file && cfg->ca_file[0] ? mem_dup(cfg->ca_file, strlen(cfg->ca_file)) : NULL,
        .user_agent = mem_dup(agent, strlen(agent)),
        .connect_timeout_ms = cfg->connect_timeout_ms ? cfg->connect_timeout_ms : CONNECT_MS,
        .stall_ms = cfg->stall_ms ? cfg->stall_ms : DEFAULT_STALL,
        .on_tick = cfg->on_tick,
        .tick_ctx = cfg->tick_ctx,
        .multi = curl.multi_init(),
        .easy = curl.easy_init(),
    };
    if (!f->multi || !f->easy) {
        fetch_free(f);
        return err_set(err, E_NOMEM, "no memory for an HTTP client");
    }
    *ret = f;
    return 0;
}

void fetch_free(struct fetch *f)
{
    if (!f)
        return;
    if (f->easy)
        curl.easy_cleanup(f->easy);
    if (f->multi)
        curl.multi_cleanup(f->multi);
    mem_free(f->ca_file);
    mem_free(f->user_agent);
    mem_free(f);
}
