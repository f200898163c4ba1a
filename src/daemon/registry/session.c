/* SPDX-License-Identifier: Apache-2.0 */
/* One place where a repository is: its address, its authorization, requests to it. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "daemon/registry/registry_impl.h"
#include "daemon/registry/trust.h"
#include "lib/base/log.h"
#include "lib/codec/json.h"
#include "lib/sys/config.h"

#define HUB_OF_DOCKER "registry-1.docker.io"
#define PROBE_MS      5000u

/* ---- where ---- */

int session_init(struct session *s, struct job *j, const char *registry, const char *repository,
                 const char *prefix, struct err *err)
{
    *s = (struct session){.job = j};
    const char *host = strcmp(registry, "docker.io") == 0 ? HUB_OF_DOCKER : registry;
    pthread_mutex_init(&s->lock, NULL);
    buf_init(&s->base, URL_BYTES);
    buf_init(&s->authorization, 256u << 10);
    snprintf(s->repository, sizeof(s->repository), "%s", repository);
    snprintf(s->registry, sizeof(s->registry), "%s", registry);
    if (prefix) {
        buf_append_str(&s->base, prefix);
    } else {
        s->may_use_http = trust_allows_http(j->r->cfg.insecure, registry);
        buf_printf(&s->base, "https://%s", host);
    }
    int rc = buf_status(&s->base, "a registry's address", err);
    while (rc == 0 && s->base.len && s->base.data[s->base.len - 1] == '/')
        s->base.data[--s->base.len] = '\0';
    if (rc == 0)
        rc = url_parse(str_from(buf_str(&s->base)), &s->url, err);
    if (rc == 0 && prefix) { /* a mirror's credentials are its own */
        int n =
            snprintf(s->registry, sizeof(s->registry), s->url.is_v6 ? "[%s]" : "%s", s->url.host);
        if (s->url.port != (s->url.is_https ? 443 : 80) && n > 0 && (size_t)n < sizeof(s->registry))
            snprintf(s->registry + n, sizeof(s->registry) - (size_t)n, ":%u", s->url.port);
        if (!s->url.is_https && !trust_allows_http(j->r->cfg.insecure, s->registry))
            rc = err_set(err, E_DENIED,
                         "the mirror %s speaks plain HTTP: name it with https, or %s in "
                         "insecure-registries",
                         buf_str(&s->base), s->registry);
    }
    return rc;
}

void session_release(struct session *s)
{
    if (s->authorization.data)
        explicit_bzero(s->authorization.data, s->authorization.cap);
    buf_release(&s->authorization);
    buf_release(&s->base);
    credentials_release(&s->credentials);
    pthread_mutex_destroy(&s->lock);
}

static int probe_locked(struct session *s, struct fetch *f, struct err *err)
{
    struct fetch_response resp;
    struct err e = ERR_INIT;
    char url[URL_HOST_CHARS + 32];
    snprintf(url, sizeof(url), "https://%s/v2/", s->registry);
    const struct fetch_request rq = {.method = "HEAD", .url = url, .wait_ms = PROBE_MS};
    fetch_response_init(&resp);
    int rc = fetch_do(f, &rq, &resp, &e);
    /* A name that only the proxy for plain HTTP can know, there being none for TLS. */
    bool no_tls = resp.no_tls || (resp.no_name && config_has_http_proxy());
    fetch_response_release(&resp);
    if (rc == -E_CANCELED) {
        *err = e;
        return rc;
    }
    s->may_use_http = false;
    /* It speaks TLS, or what is wrong shows with the first request; one that only waits may be
     * waiting for the end of what it takes for a line. */
    if (rc == 0 || (!no_tls && rc != -E_TIMEOUT))
        return 0;
    buf_clear(&s->base);
    buf_printf(&s->base, "http://%s", s->registry);
    rc = buf_status(&s->base, "a registry's address", err);
    return rc < 0 ? rc : url_parse(str_from(buf_str(&s->base)), &s->url, err);
}

int session_probe(struct session *s, struct fetch *f, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    int rc = s->may_use_http ? probe_locked(s, f, err) : 0;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* A mirrors entry "HOST=URL" of this registry, or a bare URL when it is Docker's own. */
static bool mirror_of(struct str entry, const char *registry, struct str *ret)
{
    const char *eq = memchr(entry.p, '=', entry.len);
    const char *colon = memmem(entry.p, entry.len, "://", 3);
    if (eq && (!colon || eq < colon)) {
        struct str host = {entry.p, (size_t)(eq - entry.p)};
        *ret = (struct str){eq + 1, entry.len - host.len - 1};
        return str_is(host, registry);
    }
    *ret = entry;
    return strcmp(registry, "docker.io") == 0;
}

static int mirrors_init(struct sessions *l, struct job *j, const struct oci_reference *ref,
                        struct err *err)
{
    int rc = 0;
    for (const char *p = j->r->cfg.mirrors; rc == 0 && p && *p;) {
        char prefix[URL_HOST_CHARS + 512];
        struct str entry, url;
        p += strspn(p, ", \t");
        entry = (struct str){p, strcspn(p, ", \t")};
        p += entry.len;
        if (!entry.len || !mirror_of(entry, ref->registry, &url))
            continue;
        if (l->n == MAX_SESSIONS - 1 || url.len + 9 > sizeof(prefix))
            return err_set(err, E_LIMIT,
                           "registry-mirrors names more than %u mirrors of %s, or one "
                           "that is too long",
                           MAX_SESSIONS - 1, ref->registry);
        bool has_scheme = memmem(url.p, url.len, "://", 3) != NULL;
        snprintf(prefix, sizeof(prefix), "%s%.*s", has_scheme ? "" : "https://", STR_ARG(url));
        rc = session_init(&l->items[l->n++], j, ref->registry, ref->repository, prefix, err);
    }
    return rc < 0 ? err_wrap(err, "registry-mirrors") : 0;
}

int sessions_init(struct sessions *l, struct job *j, const struct oci_reference *ref,
                  struct err *err)
{
    l->n = 0;
    int rc = j->is_push ? 0 : mirrors_init(l, j, ref, err);
    return rc < 0 ? rc
                  : session_init(&l->items[l->n++], j, ref->registry, ref->repository, NULL, err);
}

void sessions_release(struct sessions *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        session_release(&l->items[i]);
    l->n = 0;
}

/* ---- requests ---- */

/* What stands between fetch and whoever asked: bodies of errors are kept apart. */
struct passage {
    const struct session_request *rq;
    struct buf *said;
    bool was_stopped; /* by who asked */
};

static bool pass(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    struct passage *g = ctx;
    if (r->status >= 300) {
        buf_append(g->said, p, MIN_OF(n, g->said->max - g->said->len));
        return true;
    }
    g->was_stopped = g->rq->on_data && !g->rq->on_data(g->rq->ctx, r, p, n);
    return !g->was_stopped;
}

static void pass_sent(void *ctx, uint64_t n_sent)
{
    const struct passage *g = ctx;
    g->rq->on_sent(g->rq->ctx, n_sent);
}

/* Once; auth: a header line, or "". */
static int exchange(struct fetch *f, const struct session_request *rq, const char *url,
                    const char *auth, struct fetch_response *resp, struct buf *said,
                    struct err *err)
{
    const char *headers[SESSION_HEADERS + 2] = {NULL};
    struct passage g = {.rq = rq, .said = said};
    size_t n = 0;
    for (size_t i = 0; i < SESSION_HEADERS && rq->headers[i]; i++)
        headers[n++] = rq->headers[i];
    if (auth[0])
        headers[n] = auth;
    const struct fetch_request fr = {
        .method = rq->method,
        .url = url,
        .headers = headers,
        .body = rq->body,
        .body_len = rq->body_len,
        .has_file = rq->has_file,
        .file_fd = rq->file_fd,
        .file_offset = rq->file_offset,
        .file_bytes = rq->file_bytes,
        .on_sent = rq->on_sent ? pass_sent : NULL,
        .on_data = pass,
        .ctx = &g,
        .wait_ms = rq->wait_ms,
    };
    buf_clear(said);
    return fetch_do(f, &fr, resp, err);
}

static bool is_redirect(const struct session_request *rq, int status)
{
    bool may = strcmp(rq->method, "GET") == 0 || strcmp(rq->method, "HEAD") == 0;
    return may &&
           (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

/* at becomes where the answer leads. */
static int follow(const struct fetch_response *resp, struct buf *at, struct err *err)
{
    struct url from, to;
    struct str location;
    struct buf next;
    int rc = url_parse(str_from(buf_str(at)), &from, err);
    if (rc < 0)
        return rc;
    if (!fetch_header(resp, "Location", 0, &location))
        return err_set(err, E_NET, "%s redirects to nowhere (status %d)", from.host, resp->status);
    buf_init(&next, URL_BYTES);
    rc = url_resolve(&from, location, &next, err);
    if (rc == 0)
        rc = url_parse(str_from(buf_str(&next)), &to, err);
    if (rc == 0)
        rc = trust_redirect(&from, &to, err);
    if (rc == 0) {
        struct buf old = *at;
        *at = next;
        next = old;
    }
    buf_release(&next);
    return rc;
}

/* Our authorization, for requests to where the session is and nobody else. */
static uint32_t authorization_for(struct session *s, const char *url, struct buf *out)
{
    struct url u;
    struct err ignored = ERR_INIT;
    buf_clear(out);
    pthread_mutex_lock(&s->lock);
    uint32_t generation = s->generation;
    if (url_parse(str_from(url), &u, &ignored) == 0 && url_same_origin(&u, &s->url))
        buf_append(out, s->authorization.data, s->authorization.len);
    pthread_mutex_unlock(&s->lock);
    return generation;
}

int session_do(struct session *s, struct fetch *f, const struct session_request *rq,
               struct fetch_response *resp, struct buf *said, struct err *err)
{
    struct buf at, auth;
    uint32_t n_redirects = 0, n_auth = 0;
    buf_init(&at, URL_BYTES);
    buf_init(&auth, 256u << 10);
    buf_append_str(&at, rq->url);
    int rc = buf_status(&at, "an address", err);
    for (bool again = rc == 0; again;) {
        uint32_t seen = authorization_for(s, buf_str(&at), &auth);
        bool is_ours = n_redirects == 0;
        again = false;
        rc = exchange(f, rq, buf_str(&at), buf_str(&auth), resp, said, err);
        if (rc == 0 && resp->status == 401 && is_ours && n_auth++ < 2) {
            rc = session_authorize(s, f, resp, seen, err);
            again = rc == 0;
        } else if (rc == 0 && is_redirect(rq, resp->status)) {
            rc = n_redirects++ < MAX_REDIRECTS
                     ? follow(resp, &at, err)
                     : err_set(err, E_NET, "%s redirects more than %u times", s->url.host,
                               MAX_REDIRECTS);
            again = rc == 0;
        }
    }
    if (auth.data)
        explicit_bzero(auth.data, auth.len);
    buf_release(&auth);
    buf_release(&at);
    return rc;
}

int session_try(struct session *s, struct fetch *f, const struct session_request *rq,
                struct fetch_response *resp, struct buf *said, struct err *err)
{
    struct patience patience = {0};
    for (;;) {
        struct err e = ERR_INIT;
        int rc = session_do(s, f, rq, resp, said, &e);
        if (rc == 0 && resp->status < 500 && resp->status != 429 && resp->status != 408)
            return 0;
        if (rc == 0)
            session_error(s, "asking", resp, said, &e);
        if (!patience_wait(s->job, &patience, resp, &e)) {
            *err = e;
            return -e.code;
        }
    }
}

/* "CODE: message" of the first error in a registry's answer, or a hub's "error". */
static void put_said(const struct buf *said, struct buf *out)
{
    struct err ignored = ERR_INIT;
    json_t *root = NULL;
    const json_t *list = NULL;
    struct str code = STR_LIT(""), text = STR_LIT("");
    if (said->len == 0 || json_parse((struct str){said->data, said->len}, &root, &ignored) < 0)
        return;
    const json_t *first = root;
    if (json_is_object(root) && json_field_arr(root, "errors", &list, &ignored) == 1)
        first = json_array_get(list, 0);
    if (json_is_object(first)) {
        const char *name = list ? "message" : "error";
        if (json_field_str(first, "code", &code, &ignored) == 1)
            buf_printf(out, "%.*s", (int)MIN_OF(code.len, 60), code.p);
        if (json_field_str(first, name, &text, &ignored) == 1)
            buf_printf(out, "%s%.*s", out->len ? ": " : "", (int)MIN_OF(text.len, 200), text.p);
    }
    json_decref(root);
}

int session_error(const struct session *s, const char *doing, const struct fetch_response *resp,
                  const struct buf *said, struct err *err)
{
    struct buf text;
    buf_init(&text, 1024);
    put_said(said, &text);
    const char *open = text.len ? " (" : "", *close = text.len ? ")" : "";
    enum err_code code = E_NET;
    const char *help = "";
    switch (resp->status) {
    case 401:
        code = E_AUTH;
        help = ": log in with `docker login`, if you may";
        break;
    case 403: code = E_DENIED; break;
    case 404: code = E_NOTFOUND; break;
    case 413: code = E_LIMIT; break;
    case 429: code = E_BUSY; break;
    case 507: code = E_IO; break;
    default: break;
    }
    err_set(err, code, "%s %s: %s answered with status %d%s%s%s%s", doing, s->repository,
            s->url.host, resp->status, open, buf_str(&text), close, help);
    buf_release(&text);
    return -(int)code;
}
