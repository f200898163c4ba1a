/* SPDX-License-Identifier: Apache-2.0 */
/* Implements client.h over lib/net/httpc.h. */
#include "cli/client.h"

#include <stdio.h>
#include <string.h>

#include "lib/net/httpc.h"
#include "lib/net/sse.h"

#define ANSWER_MAX_BYTES (64u << 20) /* one whole answer */
#define EVENT_MAX_BYTES  (4u << 20)  /* one event of a stream, or an error's body */
#define CONNECT_MS       5000u
#define PROBE_MS         5000u

int client_init(struct client *c, const struct config *cfg, struct err *err)
{
    const char *host = config_str(cfg, CONFIG_host);
    uint32_t port = config_u32(cfg, CONFIG_port);
    if (port == 0)
        return err_set(err, E_INVALID,
                       "--port 0 names no daemon: give the port that `berth serve` printed");
    const char *to = host;
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
        to = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        to = "::1";
    bool is_v6 = strchr(to, ':') != NULL;
    *c = (struct client){.port = port};
    snprintf(c->host, sizeof(c->host), "%s", host);
    snprintf(c->url, sizeof(c->url), "http://%s%s%s:%u", is_v6 ? "[" : "", to, is_v6 ? "]" : "",
             port);
    return 0;
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

/* The sentence of an error answer, in whichever dialect's shape, or the status alone. */
static int refusal(const struct client *c, const char *path, int status, const struct buf *body,
                   struct err *err)
{
    json_t *j = json_loadb(buf_str(body), body->len, 0, NULL);
    const json_t *e = json_object_get(j, "error");
    const char *message = json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
    enum err_code code = status == 404 ? E_NOTFOUND : status == 503 ? E_BUSY : E_INVALID;
    if (message)
        err_set(err, code, "%s", message);
    else
        err_set(err, code, "%s%s answered with HTTP status %d; is it a berth daemon?", c->url, path,
                status);
    json_decref(j);
    return -(int)code;
}

static void fill(struct httpc_request *r, const char *method, const char *url,
                 const struct buf *text)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    *r = (struct httpc_request){.method = method, .url = url, .connect_timeout_ms = CONNECT_MS};
    if (text->len) {
        r->body = buf_str(text);
        r->body_len = text->len;
        r->headers = headers;
    }
}

int client_json(const struct client *c, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *err)
{
    struct buf text, answer;
    buf_init(&answer, ANSWER_MAX_BYTES);
    int rc = dump(body, &text, err), status = 0;
    if (rc == 0) {
        char url[512];
        struct httpc_request r;
        snprintf(url, sizeof(url), "%s%s", c->url, path);
        fill(&r, method, url, &text);
        rc = httpc_fetch(&r, &status, &answer, err);
    }
    if (rc == 0 && (status < 200 || status > 299))
        rc = refusal(c, path, status, &answer, err);
    if (rc == 0)
        *ret = json_loadb(buf_str(&answer), answer.len, JSON_DECODE_ANY, NULL);
    buf_release(&answer);
    buf_release(&text);
    return rc;
}

struct stream {
    client_event_fn fn;
    void *ctx;
    struct sse_reader reader;
    struct buf refused; /* the body of an error answer */
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
    } else if (e) {
        const char *message =
            json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
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
    int rc = sse_reader_feed(&s->reader, p, n, stream_event, s, &err);
    if (rc < 0 && rc != -E_CANCELED)
        s->error = err;
    return rc == 0;
}

int client_stream(const struct client *c, const char *path, const json_t *body, client_event_fn fn,
                  void *ctx, struct err *err)
{
    struct stream s = {.fn = fn, .ctx = ctx, .error = ERR_INIT};
    struct buf text;
    sse_reader_init(&s.reader, EVENT_MAX_BYTES);
    buf_init(&s.refused, EVENT_MAX_BYTES);
    int rc = dump(body, &text, err), status = 0;
    if (rc == 0) {
        char url[512];
        struct httpc_request r;
        snprintf(url, sizeof(url), "%s%s", c->url, path);
        fill(&r, "POST", url, &text);
        r.on_data = stream_data;
        r.ctx = &s;
        rc = httpc_do(&r, &status, err);
    }
    if (s.error.code) {
        *err = s.error;
        rc = -s.error.code;
    } else if (rc == 0 && (status < 200 || status > 299)) {
        rc = refusal(c, path, status, &s.refused, err);
    } else if (rc == 0 && !s.is_done) {
        rc = err_set(err, E_NET, "the daemon broke the answer off; its log says why");
    }
    buf_release(&s.refused);
    sse_reader_release(&s.reader);
    buf_release(&text);
    return rc;
}

int client_probe(const struct client *c, struct err *err)
{
    char url[512];
    struct buf answer;
    struct httpc_request r;
    int status = 0;
    snprintf(url, sizeof(url), "%s/berth/v1/version", c->url);
    buf_init(&answer, EVENT_MAX_BYTES);
    r = (struct httpc_request){
        .method = "GET", .url = url, .connect_timeout_ms = PROBE_MS, .total_timeout_ms = PROBE_MS};
    struct err why = ERR_INIT;
    int rc = httpc_fetch(&r, &status, &answer, &why);
    json_t *j = rc == 0 && status == 200 ? json_loadb(buf_str(&answer), answer.len, 0, NULL) : NULL;
    if (rc == -E_NET)
        rc = 0;
    else if (rc < 0)
        rc = err_set(err, (enum err_code)why.code, "asking %s whether it is a berth daemon: %s",
                     c->url, why.msg);
    else if (!json_is_string(json_object_get(j, "version")))
        rc = err_set(err, E_NET,
                     "something other than a berth daemon listens on %s; give berth another --port",
                     c->url);
    else
        rc = 1;
    json_decref(j);
    buf_release(&answer);
    return rc;
}
