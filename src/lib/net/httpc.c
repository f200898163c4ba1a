/* SPDX-License-Identifier: Apache-2.0 */
/* Implements httpc.h over libcurl.so.4.  Environment proxies are left to libcurl, and never used
 * for a loopback address. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/net/curl_api.h"
#include "lib/net/httpc.h"

#define TICK_MS       100
#define UPLOAD_BUFFER (1l << 20)

struct transfer {
    const struct httpc_request *rq;
    CURL *h;
    bool stopped;
    struct err read_error; /* code set: why the body could not be made */
};

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    ssize_t got = t->rq->on_read(t->rq->read_ctx, p, size * n, &t->read_error);
    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

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

static void set_method(struct transfer *t)
{
    const struct httpc_request *rq = t->rq;
    if (rq->on_read) {
        curl.easy_setopt(t->h, CURLOPT_POST, 1L);
        curl.easy_setopt(t->h, CURLOPT_READFUNCTION, on_read);
        curl.easy_setopt(t->h, CURLOPT_READDATA, t);
        if (rq->read_bytes != HTTPC_UNKNOWN_BYTES)
            curl.easy_setopt(t->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->read_bytes);
        curl.easy_setopt(t->h, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
    } else if (rq->body) {
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
    if (t->rq->on_read && t->rq->read_bytes == HTTPC_UNKNOWN_BYTES)
        list = curl.slist_append(list, "Transfer-Encoding: chunked");
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
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
        return err_set(err, E_NET,
                       "%s broke off before its answer was whole (%s); its log says why, unless it "
                       "was killed",
                       t->rq->url, why);
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
    int loaded = curl_api_load(err);
    if (loaded < 0)
        return loaded;
    struct transfer t = {.rq = rq, .h = curl.easy_init(), .read_error = ERR_INIT};
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
    curl_choose_proxy(t.h, rq->url);
    if (rq->unix_path)
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
    if (t.read_error.code) {
        *err = t.read_error;
        ret = -t.read_error.code;
    }
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
