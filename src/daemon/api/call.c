/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of one request, from its headers to what is told of it at its end. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/api/api_impl.h"
#include "daemon/api/guard.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"

uint64_t api_now_us(void)
{
    return clock_ns() / 1000;
}

/* The client's x-request-id when it is harmless, else one of ours. */
static void make_request_id(struct api_call *c, const struct httpd_request *r)
{
    const char *given = httpd_header(r, "x-request-id");
    size_t n = given ? strlen(given) : 0;
    for (size_t i = 0; i < n && n < sizeof(c->request_id); i++) {
        if (given[i] <= ' ' || given[i] > '~')
            n = 0;
    }
    if (n > 0 && n < sizeof(c->request_id)) {
        memcpy(c->request_id, given, n + 1);
        return;
    }
    unsigned char bytes[12] = {0};
    ssize_t got = getrandom(bytes, sizeof(bytes), GRND_NONBLOCK);
    (void)got; /* an id for logs: zeros are only ugly */
    memcpy(c->request_id, "req_", 4);
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(c->request_id + 4 + 2 * i, 3, "%02x", bytes[i]);
}

/* A header for those who come when headers are gone; cut, or none when it is too long. */
static void keep(const char *value, bool cut, char *out, size_t size)
{
    if (value && (cut || strlen(value) < size))
        snprintf(out, size, "%s", value);
}

static void call_free(void *ctx)
{
    struct api_call *c = ctx;
    if (c->job_free)
        c->job_free(c->job);
    mem_free(c);
}

struct api_call *api_call_of(const struct httpd_request *r)
{
    return httpd_ctx(r);
}

/* A request that httpd refuses may have no headers yet, or have been seen already. */
struct api_call *api_call_open(struct api *a, struct httpd_request *r)
{
    struct api_call *c = api_call_of(r);
    if (c)
        return c;
    c = mem_alloc(sizeof(*c));
    *c = (struct api_call){.api = a, .rest = "", .code = "", .started_us = api_now_us()};
    make_request_id(c, r);
    keep(httpd_header(r, "User-Agent"), true, c->agent, sizeof(c->agent));
    keep(httpd_header(r, "X-Registry-Token"), false, c->registry_token, sizeof(c->registry_token));
    httpd_set_ctx(r, c, call_free);
    httpd_set_header(r, "x-request-id", c->request_id);
    return c;
}

void api_answer_json(struct httpd_request *r, int status, struct buf *out)
{
    struct err err = ERR_INIT;
    if (buf_status(out, "the answer", &err) < 0) {
        struct api_error e;
        api_error_from(&e, &err);
        api_error_answer(r, &e);
    } else {
        httpd_answer_buf(r, status, API_JSON, out);
    }
    buf_release(out);
}

void api_answer_err(struct httpd_request *r, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    api_error_answer(r, &e);
}

void api_watch_begin(struct api_call *c, const char *name)
{
    c->is_watched = true;
    c->name = name;
    if (c->api->cfg.watch)
        watch_begin(c->api->cfg.watch, name);
}

void api_watch_end(struct api_call *c, struct watch_record *rec)
{
    rec->request_id = c->request_id;
    rec->api = c->name;
    rec->key = c->key;
    rec->code = c->code;
    rec->total_ms = (double)(api_now_us() - c->started_us) / 1000;
    struct keys *keys = guard_keys(c->api->cfg.guard);
    if (keys && c->key[0])
        keys_count(keys, c->key, rec->n_prompt, rec->n_generated);
    if (c->api->cfg.watch)
        watch_request(c->api->cfg.watch, rec);
}

void api_refuse_watched(struct httpd_request *r, const char *model, const struct api_error *e)
{
    struct api_call *c = api_call_of(r);
    struct watch_record rec = {.model = model, .status = e->status};
    api_error_answer(r, e);
    api_watch_end(c, &rec);
}
