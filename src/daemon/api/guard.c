/* SPDX-License-Identifier: Apache-2.0 */
/* Applies guard.h to a request, before its body is read.
 *
 * Without keys: programs of this machine, not web pages.  A page of another site can make a browser
 * send requests here.  So the Host must be one that only this machine's users write (against names
 * that resolve to 127.0.0.1), an Origin must be of this machine or listed, and a body must be
 * declared as JSON, which browsers do not send across sites without asking first.
 *
 * With keys: the same, and each route that is not public wants a key with its scope.  Who comes by
 * the Unix socket as the daemon's own user or root could read its memory and needs none. */
#include "daemon/api/guard.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/api/api_impl.h"
#include "daemon/api/guard_impl.h"
#include "daemon/watch/watch.h"
#include "lib/base/log.h"

#define TELL_EVERY_MS 10000u
#define NAMES_BYTES   1024u

/* Nothing listed, no keys: what holds where nobody made a guard. */
static struct guard guard_of_nobody;

static struct guard *guard_of(const struct api *a)
{
    return a->cfg.guard ? a->cfg.guard : &guard_of_nobody;
}

static int refuse(struct guard *g, struct httpd_request *r, const char *rule, struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    if (g->watch)
        watch_denied(g->watch, rule);
    log_debug("request %s refused by the rule %s", api_call_of(r)->request_id, rule);
    api_error_answer(r, &e);
    return -err->code;
}

/* --- pages --- */

static int check_host(struct guard *g, struct httpd_request *r)
{
    struct err err = ERR_INIT;
    const char *host = httpd_header(r, "Host");
    if (!host || httpd_peer(r)->is_unix || guard_host_is_ours(g, host))
        return 0;
    err_set(&err, E_DENIED,
            "the Host header does not name this server: use localhost or 127.0.0.1, or start the "
            "daemon with --allowed-hosts and the name");
    return refuse(g, r, "host", &err);
}

/* An Origin that may come gets the headers by which its browser lets it read the answer. */
static void set_cors(struct httpd_request *r, const char *origin, enum guard_origin kind)
{
    bool any = kind == GUARD_ORIGIN_ANY;
    httpd_set_header(r, "Access-Control-Allow-Origin", any ? "*" : origin);
    if (!any)
        httpd_set_header(r, "Vary", "Origin");
    if (kind == GUARD_ORIGIN_LISTED)
        httpd_set_header(r, "Access-Control-Allow-Credentials", "true");
    httpd_set_header(r, "Access-Control-Expose-Headers",
                     "x-request-id, retry-after, x-should-retry, openai-processing-ms");
}

static int check_origin(struct guard *g, struct httpd_request *r)
{
    struct err err = ERR_INIT;
    const char *origin = httpd_header(r, "Origin"), *site = httpd_header(r, "Sec-Fetch-Site");
    if (origin) {
        enum guard_origin kind = guard_origin(g, origin, httpd_header(r, "Host"));
        if (kind != GUARD_ORIGIN_FOREIGN) {
            set_cors(r, origin, kind);
            return 0;
        }
        err_set(&err, E_DENIED,
                "requests from pages of this Origin are not allowed: start the daemon with "
                "--allowed-origins and the origin");
    } else if (site && strcasecmp(site, "cross-site") == 0) {
        err_set(&err, E_DENIED, "requests that pages of other sites cause are not allowed");
    } else {
        return 0;
    }
    return refuse(g, r, "origin", &err);
}

/* No type that a page may send across sites without asking first. */
static bool type_is_tar(struct str type)
{
    static const char *const types[] = {"application/x-tar", "application/tar",
                                        "application/octet-stream"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (type.len == strlen(types[i]) && strncasecmp(type.p, types[i], type.len) == 0)
            return true;
    }
    return false;
}

/* Whether the body's declared type will do.  Tools such as curl -d say it is a form unless told
 * otherwise; pages say so too, but a browser's request has an Origin or a Sec-Fetch-Site header. */
static bool type_is_json(struct httpd_request *r)
{
    const char *type = httpd_header(r, "Content-Type");
    if (!type)
        return true;
    size_t n = strcspn(type, "; \t");
    if (n == strlen(API_JSON) && strncasecmp(type, API_JSON, n) == 0)
        return true;
    const struct api_route *route = api_call_of(r)->route;
    if (route && route->scope == API_MANAGE_TAR && type_is_tar((struct str){type, n}))
        return true;
    static const char form[] = "application/x-www-form-urlencoded";
    return n == strlen(form) && strncasecmp(type, form, n) == 0 && !httpd_header(r, "Origin") &&
           !httpd_header(r, "Sec-Fetch-Site");
}

void guard_preflight(struct httpd_request *r)
{
    char names[NAMES_BYTES] = "";
    const char *asked = httpd_header(r, "Access-Control-Request-Headers");
    if (asked)
        guard_header_names(asked, names, sizeof(names));
    httpd_set_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    httpd_set_header(r, "Access-Control-Allow-Headers",
                     names[0] ? names : "Content-Type, Authorization, x-api-key, api-key");
    httpd_set_header(r, "Access-Control-Max-Age", "600");
    /* A page on the web that asks for a server of this machine or its network:
     * https://wicg.github.io/private-network-access/ */
    if (httpd_header(r, "Access-Control-Request-Private-Network"))
        httpd_set_header(r, "Access-Control-Allow-Private-Network", "true");
    httpd_answer(r, 204, NULL, STR_LIT(""));
}

/* --- keys --- */

/* Tells the log of wrong keys, now and then: a line each would be another way to fill a disk. */
static void tell_wrong_key(struct guard *g, const char *address)
{
    uint64_t now_ms = api_now_us() / 1000;
    uint32_t n = 0;
    pthread_mutex_lock(&g->tries_lock);
    g->n_untold++;
    if (g->told_ms == 0 || now_ms - g->told_ms >= TELL_EVERY_MS) {
        n = g->n_untold;
        g->n_untold = 0;
        g->told_ms = now_ms;
    }
    pthread_mutex_unlock(&g->tries_lock);
    if (n)
        log_warn("%u request%s without a key that is known, the last from %s", n, n == 1 ? "" : "s",
                 address);
}

static int refuse_key(struct guard *g, struct httpd_request *r)
{
    struct err err = ERR_INIT;
    struct api_error e;
    const char *address = httpd_peer(r)->address;
    tell_wrong_key(g, address);
    if (guard_too_many(g, address, api_now_us() / 1000)) {
        err_set(&err, E_BUSY, "too many requests without a key that is known; wait a second");
        api_error_from(&e, &err);
        e.code = "too_many_wrong_keys";
        if (g->watch)
            watch_denied(g->watch, "key");
        httpd_close_after(r);
        api_error_answer(r, &e);
        return -E_BUSY;
    }
    /* The same whether there was none or a wrong one. */
    err_set(&err, E_AUTH,
            "this daemon asks for a key: send the header Authorization: Bearer KEY "
            "with one that it knows");
    httpd_set_header(r, "WWW-Authenticate", "Bearer realm=\"berth\"");
    return refuse(g, r, "key", &err);
}

/* Who it is, into the call. */
static int identify(struct guard *g, struct httpd_request *r, struct api_call *c)
{
    const struct httpd_peer *peer = httpd_peer(r);
    struct str presented;
    struct key_match m;
    bool is_own = !peer->is_unix || peer->uid == geteuid() || peer->uid == 0;
    if ((peer->is_unix && is_own) || (!g->keys && is_own)) {
        c->scopes = KEY_INFER | KEY_MANAGE;
        return 0;
    }
    if (!g->keys) {
        struct err err = ERR_INIT;
        err_set(&err, E_DENIED,
                "this socket is for the daemon's own user; others need a daemon with --api-keys");
        return refuse(g, r, "key", &err);
    }
    bool several = httpd_header_count(r, "Authorization") > 1;
    if (several ||
        !guard_presented(httpd_header(r, "Authorization"), httpd_header(r, "X-Api-Key"),
                         httpd_header(r, "api-key"), &presented) ||
        !keys_match(g->keys, presented, &m))
        return refuse_key(g, r);
    c->scopes = m.scopes;
    memcpy(c->key, m.name, sizeof(c->key));
    return 0;
}

static int check_scope(struct guard *g, struct httpd_request *r, const struct api_call *c)
{
    struct err err = ERR_INIT;
    bool manage = c->route->scope >= API_MANAGE;
    if (c->scopes & (manage ? KEY_MANAGE : KEY_INFER))
        return 0;
    err_set(&err, E_DENIED, "the key named %s may not do this: it lacks the scope %s", c->key,
            manage ? "manage" : "infer");
    return refuse(g, r, "scope", &err);
}

int guard_check(const struct api *a, struct httpd_request *r)
{
    struct guard *g = guard_of(a);
    struct api_call *c = api_call_of(r);
    int rc = check_host(g, r);
    if (rc == 0)
        rc = check_origin(g, r);
    if (rc == 0 && c->route && c->route->scope != API_PUBLIC) {
        rc = identify(g, r, c);
        if (rc == 0)
            rc = check_scope(g, r, c);
    }
    if (rc == 0 && strcmp(httpd_method(r), "POST") == 0 && !type_is_json(r)) {
        api_answer_status(r, 415,
                          c->route && c->route->scope == API_MANAGE_TAR
                              ? "the body must be a tar: send Content-Type: application/x-tar"
                              : "the body must be JSON: send Content-Type: application/json");
        rc = -E_INVALID;
    }
    return rc;
}
