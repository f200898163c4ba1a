/* SPDX-License-Identifier: Apache-2.0 */
/* Implements httpc.h over libcurl.so.4, found at the first call: its constants are its ABI and come
 * from its header, its functions from dlsym.  Environment proxies are left to libcurl, and never
 * used for a loopback address. */
#include <curl/curl.h>
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/net/httpc.h"

#undef curl_easy_setopt
#undef curl_easy_getinfo

#define TICK_MS 100

struct curl_api {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *h, CURLoption o, ...);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_add_handle)(CURLM *m, CURL *h);
    CURLMcode (*multi_remove_handle)(CURLM *m, CURL *h);
    CURLMcode (*multi_perform)(CURLM *m, int *n_running);
    CURLMcode (*multi_poll)(CURLM *m, struct curl_waitfd *extra, unsigned n_extra, int timeout_ms,
                            int *n_ready);
    CURLMsg *(*multi_info_read)(CURLM *m, int *n_left);
    CURLMcode (*multi_cleanup)(CURLM *m);
    CURLcode (*easy_getinfo)(CURL *h, CURLINFO i, ...);
    void (*easy_cleanup)(CURL *h);
    const char *(*easy_strerror)(CURLcode c);
    struct curl_slist *(*slist_append)(struct curl_slist *l, const char *s);
    void (*slist_free_all)(struct curl_slist *l);
};

static struct curl_api curl;
static char load_error[256]; /* "" when curl is usable */
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static void load_curl(void)
{
    static const struct {
        const char *name;
        void **to;
    } wanted[] = {
        {"curl_global_init", (void **)&curl.global_init},
        {"curl_easy_init", (void **)&curl.easy_init},
        {"curl_easy_setopt", (void **)&curl.easy_setopt},
        {"curl_multi_init", (void **)&curl.multi_init},
        {"curl_multi_add_handle", (void **)&curl.multi_add_handle},
        {"curl_multi_remove_handle", (void **)&curl.multi_remove_handle},
        {"curl_multi_perform", (void **)&curl.multi_perform},
        {"curl_multi_poll", (void **)&curl.multi_poll},
        {"curl_multi_info_read", (void **)&curl.multi_info_read},
        {"curl_multi_cleanup", (void **)&curl.multi_cleanup},
        {"curl_easy_getinfo", (void **)&curl.easy_getinfo},
        {"curl_easy_cleanup", (void **)&curl.easy_cleanup},
        {"curl_easy_strerror", (void **)&curl.easy_strerror},
        {"curl_slist_append", (void **)&curl.slist_append},
        {"curl_slist_free_all", (void **)&curl.slist_free_all},
    };
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        lib = dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        const char *why = dlerror();
        snprintf(load_error, sizeof(load_error),
                 "libcurl.so.4 cannot be loaded (%s): install libcurl4", why ? why : "not found");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        *wanted[i].to = dlsym(lib, wanted[i].name);
        if (!*wanted[i].to) {
            snprintf(load_error, sizeof(load_error), "libcurl has no %s: it is too old",
                     wanted[i].name);
            return;
        }
    }
    if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        snprintf(load_error, sizeof(load_error), "libcurl does not start");
}

struct transfer {
    const struct httpc_request *rq;
    CURL *h;
    bool stopped;
};

static size_t on_write(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    long status = 0;
    curl.easy_getinfo(t->h, CURLINFO_RESPONSE_CODE, &status);
    if (t->rq->on_data && !t->rq->on_data(t->rq->ctx, (int)status, p, size * n)) {
        t->stopped = true;
        return 0;
    }
    return size * n;
}

static bool is_loopback(const char *url)
{
    static const char *const hosts[] = {"127.", "localhost", "[::1]"};
    const char *host = strstr(url, "://");
    if (!host)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        size_t n = strlen(hosts[i]);
        if (strncasecmp(host + 3, hosts[i], n) == 0 && (i == 0 || strchr(":/", host[3 + n])))
            return true;
    }
    return false;
}

static void set_method(struct transfer *t)
{
    const struct httpc_request *rq = t->rq;
    if (rq->body) {
        curl.easy_setopt(t->h, CURLOPT_POST, 1L);
        curl.easy_setopt(t->h, CURLOPT_POSTFIELDS, rq->body);
        curl.easy_setopt(t->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
    } else if (strcmp(rq->method, "POST") == 0) {
        curl.easy_setopt(t->h, CURLOPT_POST, 1L);
        curl.easy_setopt(t->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
        curl.easy_setopt(t->h, CURLOPT_POSTFIELDS, "");
    }
    if (strcmp(rq->method, "GET") != 0)
        curl.easy_setopt(t->h, CURLOPT_CUSTOMREQUEST, rq->method);
}

static struct curl_slist *set_headers(struct transfer *t)
{
    struct curl_slist *list = NULL;
    if (t->rq->body)
        list = curl.slist_append(list, "Content-Type: application/json");
    list = curl.slist_append(list, "Expect:"); /* no second round trip for larger bodies */
    for (size_t i = 0; t->rq->headers && t->rq->headers[i]; i++)
        list = curl.slist_append(list, t->rq->headers[i]);
    curl.easy_setopt(t->h, CURLOPT_HTTPHEADER, list);
    return list;
}

static int transfer_error(const struct transfer *t, CURLcode rc, const char *detail,
                          struct err *err)
{
    const char *why = detail[0] ? detail : curl.easy_strerror(rc);
    if (t->stopped)
        return err_set(err, E_CANCELED, "the answer of %s was not wanted any more", t->rq->url);
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, E_TIMEOUT, "%s did not answer in time: %s", t->rq->url, why);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, E_INVALID, "'%s' is not an http address: %s", t->rq->url, why);
    case CURLE_OUT_OF_MEMORY: return err_set(err, E_NOMEM, "no memory to speak to %s", t->rq->url);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(err, E_AUTH, "%s does not prove who it is: %s", t->rq->url, why);
    default: return err_set(err, E_NET, "%s: %s", t->rq->url, why);
    }
}

static bool is_canceled(const struct httpc_request *rq)
{
    struct pollfd p = {.fd = rq->cancel_fd, .events = POLLIN};
    return rq->has_cancel_fd && poll(&p, 1, 0) > 0;
}

/* Carries the transfer out to its end, its cancellation or its failure. */
static CURLcode perform(struct transfer *t, CURLM *m)
{
    const struct httpc_request *rq = t->rq;
    struct curl_waitfd cancel = {.fd = rq->cancel_fd, .events = CURL_WAIT_POLLIN};
    unsigned n_extra = rq->has_cancel_fd ? 1 : 0;
    int timeout_ms = rq->on_tick ? TICK_MS : 60000, n_running = 1, n_left;
    while (n_running) {
        if (curl.multi_perform(m, &n_running) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
        if (!n_running)
            break;
        /* Asked anew each time: poll may report the socket alone. */
        if (is_canceled(rq)) {
            t->stopped = true;
            return CURLE_ABORTED_BY_CALLBACK;
        }
        if (rq->on_tick)
            rq->on_tick(rq->tick_ctx);
        if (curl.multi_poll(m, n_extra ? &cancel : NULL, n_extra, timeout_ms, NULL) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
    }
    const CURLMsg *msg = curl.multi_info_read(m, &n_left);
    return msg ? msg->data.result : CURLE_GOT_NOTHING;
}

int httpc_do(const struct httpc_request *rq, int *ret_status, struct err *err)
{
    pthread_once(&load_once, load_curl);
    if (load_error[0])
        return err_set(err, E_UNSUPPORTED, "%s", load_error);
    struct transfer t = {.rq = rq, .h = curl.easy_init()};
    CURLM *multi = t.h ? curl.multi_init() : NULL;
    if (!multi) {
        if (t.h)
            curl.easy_cleanup(t.h);
        return err_set(err, E_NOMEM, "no memory to speak to %s", rq->url);
    }
    char detail[CURL_ERROR_SIZE] = "";
    curl.easy_setopt(t.h, CURLOPT_ERRORBUFFER, detail);
    curl.easy_setopt(t.h, CURLOPT_URL, rq->url);
    curl.easy_setopt(t.h, CURLOPT_PROTOCOLS_STR,
                     "http,https"); /* since 7.85; refused by older ones */
    curl.easy_setopt(t.h, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(t.h, CURLOPT_TCP_NODELAY, 1L);
    curl.easy_setopt(t.h, CURLOPT_WRITEFUNCTION, on_write);
    curl.easy_setopt(t.h, CURLOPT_WRITEDATA, &t);
    if (rq->unix_path)
        curl.easy_setopt(t.h, CURLOPT_UNIX_SOCKET_PATH, rq->unix_path);
    if (rq->ca_file)
        curl.easy_setopt(t.h, CURLOPT_CAINFO, rq->ca_file);
    if (rq->unix_path || is_loopback(rq->url))
        curl.easy_setopt(t.h, CURLOPT_NOPROXY, "*");
    if (rq->connect_timeout_ms)
        curl.easy_setopt(t.h, CURLOPT_CONNECTTIMEOUT_MS, (long)rq->connect_timeout_ms);
    if (rq->total_timeout_ms)
        curl.easy_setopt(t.h, CURLOPT_TIMEOUT_MS, (long)rq->total_timeout_ms);
    set_method(&t);
    struct curl_slist *headers = set_headers(&t);
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    if (curl.multi_add_handle(multi, t.h) == CURLM_OK) {
        rc = perform(&t, multi);
        curl.multi_remove_handle(multi, t.h);
    }
    long status = 0;
    curl.easy_getinfo(t.h, CURLINFO_RESPONSE_CODE, &status);
    int ret = rc == CURLE_OK ? 0 : transfer_error(&t, rc, detail, err);
    if (ret == 0)
        *ret_status = (int)status;
    curl.easy_cleanup(t.h);
    curl.multi_cleanup(multi);
    curl.slist_free_all(headers);
    return ret;
}

struct collect {
    struct buf *out;
};

static bool collect_data(void *ctx, int status, const char *p, size_t n)
{
    (void)status;
    struct collect *c = ctx;
    return buf_append(c->out, p, n) == 0;
}

int httpc_fetch(const struct httpc_request *r, int *ret_status, struct buf *out, struct err *err)
{
    struct collect c = {out};
    struct httpc_request all = *r;
    all.on_data = collect_data;
    all.ctx = &c;
    int ret = httpc_do(&all, ret_status, err);
    if (ret == -E_CANCELED)
        return buf_status(out, "the answer", err) ? -err->code : ret;
    return ret;
}
