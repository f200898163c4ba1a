/* SPDX-License-Identifier: Apache-2.0 */
/* The router: finds a request's row in route.def and gives every answer its request id. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define SHORT_THREADS 4u
#define SHORT_WAITING 1024u

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

struct api *api_new(const struct api_config *cfg)
{
    struct api *a = mem_alloc(sizeof(*a));
    a->cfg = *cfg;
    a->started_us = api_now_us();
    atomic_init(&a->httpd, NULL);
    atomic_init(&a->is_draining, false);
    a->jobs = jobs_new(LIMIT_JOBS_RUNNING, LIMIT_JOBS_WAITING);
    a->short_pool = pool_new(SHORT_THREADS, SHORT_WAITING);
    return a;
}

void api_free(struct api *a)
{
    jobs_free(a->jobs);
    pool_free(a->short_pool);
    mem_free(a);
}

void api_stop_jobs(struct api *a)
{
    jobs_stop(a->jobs);
}

void api_set_httpd(struct api *a, struct httpd *h)
{
    atomic_store(&a->httpd, h);
}

void api_set_draining(struct api *a)
{
    atomic_store(&a->is_draining, true);
}

/* Cuts prefix off path where whole segments are left; NULL: it does not begin so. */
static const char *path_cut(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 && (path[n] == '/' || path[n] == '\0') ? path + n : NULL;
}

/* The path as route.def has it, without what an engine puts before it.  buf holds it where a part
 * in the middle goes; no row with a star begins so. */
static const char *route_path(const char *path, char buf[128])
{
    const char *rest = path_cut(path, "/engines");
    const char *own = rest ? path_cut(rest, "/llama.cpp") : NULL;
    if (own)
        rest = own;
    if (!rest)
        rest = path;
    const char *tokens = path_cut(rest, "/v1");
    if (!tokens)
        tokens = rest;
    if (path_cut(tokens, "/tokenize") || path_cut(tokens, "/detokenize"))
        return tokens;
    if (rest == path || path_cut(rest, "/v1"))
        return rest;
    snprintf(buf, 128, "/engines%.100s", rest);
    return buf;
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
    char cut[128];
    allowed[0] = '\0';
    path = route_path(path, cut);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!path_matches(routes[i].path, path, rest))
            continue;
        if (strcmp(routes[i].method, wanted) == 0)
            return &routes[i];
        size_t n = strlen(allowed);
        snprintf(allowed + n, 64 - n, "%s%s%s", n ? ", " : "", routes[i].method,
                 strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    return NULL;
}

/* What to do instead of a route that only other servers have, or NULL. */
static const char *elsewhere_of(const char *path)
{
    static const struct {
        const char *path, *instead;
    } rows[] = {
#define ELSEWHERE(path, instead) {path, instead},
#include "daemon/api/elsewhere.def"
    };
    const char *rest = path_cut(path, "/v1");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (path_cut(rest ? rest : path, rows[i].path))
            return rows[i].instead;
    }
    return NULL;
}

/* The same behind /engines and the name of one. */
static const char *elsewhere_find(const char *path)
{
    const char *rest = path_cut(path, "/engines");
    if (!rest || !rest[0])
        return rest ? NULL : elsewhere_of(path);
    const char *found = elsewhere_of(rest);
    rest = strchr(rest + 1, '/');
    return found || !rest ? found : elsewhere_of(rest);
}

/* The sentence about a path that is none, and how to mend what clients most often get wrong. */
static void put_no_route(const char *method, const char *path, struct err *err)
{
    char longer[160], allowed[64];
    const char *rest, *wrong = path_cut(path, "/v1/v1"), *instead = elsewhere_find(path);
    snprintf(longer, sizeof(longer), "/v1%.120s", path);
    if (wrong && route_find(method, path + 3, &rest, allowed))
        err_set(err, E_NOTFOUND, "there is no route %s %.100s: it has /v1 twice", method, path);
    else if (instead)
        err_set(err, E_NOTFOUND, "there is no route %s %.100s: %s", method, path, instead);
    else if (path_cut(path, "/api"))
        err_set(err, E_NOTFOUND,
                "there is no route %s %.100s: berth speaks OpenAI's API, as POST "
                "/v1/chat/completions",
                method, path);
    else if (path_cut(path, "/engines"))
        err_set(err, E_NOTFOUND,
                "there is no route %s %.100s: the one engine here is llama.cpp's, as POST "
                "/engines/llama.cpp/v1/chat/completions, or /engines/v1/chat/completions",
                method, path);
    else if (strncmp(path, "/v1", 3) != 0 && route_find(method, longer, &rest, allowed))
        err_set(err, E_NOTFOUND,
                "there is no route %s %.100s; did you mean %.100s? A client's base URL ends in /v1",
                method, path, longer);
    else
        err_set(err, E_NOTFOUND, "there is no route %s %.100s", method, path);
}

void api_on_headers(void *api, struct httpd_request *r)
{
    struct api *a = api;
    char allowed[64], text[320];
    struct api_call *c = api_call_open(a, r);
    c->route = route_find(httpd_method(r), httpd_path(r), &c->rest, allowed);
    if (guard_check(a, r) < 0)
        return;
    if (strcmp(httpd_method(r), "OPTIONS") == 0) {
        guard_preflight(r);
    } else if (!c->route) {
        struct err err = ERR_INIT; /* cleans what it quotes */
        if (allowed[0])
            err_set(&err, E_NOTFOUND, "%s %.100s: this route answers %s", httpd_method(r),
                    httpd_path(r), allowed);
        else
            put_no_route(httpd_method(r), httpd_path(r), &err);
        snprintf(text, sizeof(text), "%s", err.msg);
        if (allowed[0])
            httpd_set_header(r, "Allow", allowed);
        api_answer_status(r, allowed[0] ? 405 : 404, text);
    } else if (c->route->scope == API_MANAGE_TAR) {
        httpd_body_stream(r, LIMIT_TAR_BYTES);
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
    api_call_open(api, r);
    api_answer_status(r, status, message);
}

void api_on_done(void *api, struct httpd_request *r, const struct httpd_result *result)
{
    struct api *a = api;
    const struct api_call *c = api_call_of(r);
    if (c && !c->is_watched && a->cfg.watch)
        watch_answer(a->cfg.watch, c->request_id, c->route ? c->route->path : "", result->status,
                     result->total_ms);
}
