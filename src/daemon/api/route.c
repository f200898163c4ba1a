/* SPDX-License-Identifier: Apache-2.0 */
/* The router: finds a request's row in route.def and gives every answer its request id. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/api/api_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

static const struct api_route routes[] = {
#define ROUTE(method, path, scope, handler, doc) {method, path, doc, API_##scope, handle_##handler},
#include "daemon/api/route.def"
#undef ROUTE
};

size_t api_route_count(void)
{
    return ARRAY_LEN(routes);
}

const struct api_route *api_route_at(size_t i)
{
    return &routes[i];
}

uint64_t api_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct api *api_new(const struct api_config *cfg)
{
    struct api *a = mem_alloc(sizeof(*a));
    a->cfg = *cfg;
    a->started_us = api_now_us();
    atomic_init(&a->httpd, NULL);
    atomic_init(&a->is_draining, false);
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a of the version: stable, unlike map_hash */
    for (const char *s = BERTH_VERSION; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    snprintf(a->fingerprint, sizeof(a->fingerprint), "fp_%012llx",
             (unsigned long long)(h & 0xffffffffffffu));
    return a;
}

void api_free(struct api *a)
{
    mem_free(a);
}

void api_set_httpd(struct api *a, struct httpd *h)
{
    atomic_store(&a->httpd, h);
}

void api_set_draining(struct api *a)
{
    atomic_store(&a->is_draining, true);
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

/* The path without the engine's prefix. */
static const char *route_path(const char *path)
{
    static const char *const prefixes[] = {"/engines/llama.cpp/v1", "/engines/v1"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(path, prefixes[i], n) == 0 && (path[n] == '/' || path[n] == '\0'))
            return path + n - strlen("/v1");
    }
    return path;
}

/* True when path is the row's; *rest is then what its star stands for. */
static bool path_matches(const char *pattern, const char *path, const char **rest)
{
    size_t n = strlen(pattern), len = strlen(path);
    *rest = "";
    if (n > 1 && pattern[n - 1] == '*') {
        *rest = path + n - 1;
        return strncmp(pattern, path, n - 1) == 0 && path[n - 1] != '\0';
    }
    if (len == n + 1 && n > 1 && path[len - 1] == '/')
        len--;
    return len == n && memcmp(pattern, path, n) == 0;
}

/* The row, or NULL with *allowed the methods of the path's rows ("" when there are none). */
static const struct api_route *route_find(const char *method, const char *path, const char **rest,
                                          char allowed[64])
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    allowed[0] = '\0';
    path = route_path(path);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!path_matches(routes[i].path, path, rest))
            continue;
        if (strcmp(routes[i].method, wanted) == 0)
            return &routes[i];
        snprintf(allowed, 64, "%s%s", routes[i].method,
                 strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    return NULL;
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
static struct api_call *call_open(struct api *a, struct httpd_request *r)
{
    struct api_call *c = api_call_of(r);
    if (c)
        return c;
    c = mem_alloc(sizeof(*c));
    *c = (struct api_call){.api = a, .rest = "", .code = "", .started_us = api_now_us()};
    make_request_id(c, r);
    httpd_set_ctx(r, c, call_free);
    httpd_set_header(r, "x-request-id", c->request_id);
    return c;
}

void api_on_headers(void *api, struct httpd_request *r)
{
    struct api *a = api;
    char allowed[64], text[256];
    struct api_call *c = call_open(a, r);
    c->route = route_find(httpd_method(r), httpd_path(r), &c->rest, allowed);
    if (guard_check(a, r) < 0)
        return;
    if (strcmp(httpd_method(r), "OPTIONS") == 0) {
        guard_preflight(r);
    } else if (!c->route) {
        struct err err = ERR_INIT; /* cleans what it quotes */
        err_set(&err, E_NOTFOUND,
                allowed[0] ? "%s %.100s: this route answers %s" : "there is no route %s %.100s%s",
                httpd_method(r), httpd_path(r), allowed);
        snprintf(text, sizeof(text), "%s", err.msg);
        if (allowed[0])
            httpd_set_header(r, "Allow", allowed);
        api_answer_status(r, allowed[0] ? 405 : 404, text);
    }
}

void api_on_request(void *api, struct httpd_request *r)
{
    const struct api_call *c = api_call_of(r);
    BUG_ON(!c || !c->route); /* api_on_headers has refused it */
    c->route->fn(api, r, c->rest);
}

void api_on_refusal(void *api, struct httpd_request *r, int status, const char *message)
{
    call_open(api, r);
    api_answer_status(r, status, message);
}
