/* SPDX-License-Identifier: Apache-2.0 */
/* Gains an authorization from a 401: Basic, or a token from the realm that a Bearer challenge names
 * (the protocol of distribution's token.md and oauth.md). */
#include <string.h>

#include "daemon/registry/challenge.h"
#include "daemon/registry/registry_impl.h"
#include "daemon/registry/trust.h"
#include "lib/base/log.h"
#include "lib/codec/base64.h"
#include "lib/codec/json.h"

#define TOKEN_BYTES (256u << 10)

static bool collect(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    (void)r;
    return buf_append(ctx, p, n) == 0;
}

static void wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->len);
    buf_release(b);
}

/* Credentials that cannot be had do not stop what needs none. */
static void credentials_load(struct session *s)
{
    struct err err = ERR_INIT;
    if (s->has_credentials)
        return;
    s->has_credentials = true;
    if (!s->is_hub && credentials_find(s->job->r->cfg.docker_config_dir, s->registry,
                                       &s->credentials, &err) < 0) {
        log_warn("%s", err.msg);
        job_note(s->job, true, "%s; going on without", err.msg);
    }
}

static void put_basic(const struct credentials *c, struct buf *out)
{
    struct buf pair;
    buf_init(&pair, 192u << 10);
    buf_printf(&pair, "%s:%s", c->username ? c->username : "", c->secret ? c->secret : "");
    buf_append_str(out, "Authorization: Basic ");
    base64_encode((struct str){pair.data, pair.len}, out);
    wipe(&pair);
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f)
            return false;
    }
    return s.len > 0;
}

static int token_take(struct session *s, struct str text, struct err *err)
{
    json_t *root = NULL;
    struct str token = STR_LIT("");
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is not an object");
    if (rc == 0)
        rc = json_field_str(root, "token", &token, err);
    if (rc >= 0 && token.len == 0)
        rc = json_field_str(root, "access_token", &token, err);
    if (rc >= 0 && !is_token(token))
        rc = err_set(err, E_FORMAT, "it holds no token");
    if (rc >= 0) {
        buf_clear(&s->authorization);
        buf_printf(&s->authorization, "Authorization: Bearer %.*s", (int)token.len, token.p);
        rc = buf_status(&s->authorization, "a token", err);
    }
    json_decref(root);
    return rc < 0 ? err_wrap(err, "the token's answer") : 0;
}

/* What is asked for: what the challenge says, but never less than this job needs. */
static void put_scopes(const struct session *s, const struct challenge *c, const char *before,
                       struct buf *out)
{
    struct buf scope;
    bool is_plain = strncmp(c->scope, "repository:", 11) == 0 || !c->scope[0];
    buf_init(&scope, 8192);
    if (s->job->is_push && is_plain)
        buf_printf(&scope, "repository:%s:pull,push", s->repository);
    else if (c->scope[0])
        buf_append_str(&scope, c->scope);
    else
        buf_printf(&scope, "repository:%s:pull", s->repository);
    buf_printf(out, "%sscope=", before);
    url_put_escaped(str_from(buf_str(&scope)), "", out);
    if (s->mount_from[0]) {
        buf_clear(&scope);
        buf_printf(&scope, "repository:%s:pull", s->mount_from);
        buf_append_str(out, "&scope=");
        url_put_escaped(str_from(buf_str(&scope)), "", out);
    }
    buf_release(&scope);
}

/* Refresh tokens go by POST, everything else by GET with Basic or without anything. */
static int token_ask(struct session *s, struct fetch *f, const struct challenge *c,
                     struct fetch_response *resp, struct buf *answer, struct err *err)
{
    struct buf url, body, basic;
    const struct credentials *k = &s->credentials;
    const char *headers[3] = {NULL};
    buf_init(&url, URL_BYTES);
    buf_init(&body, TOKEN_BYTES);
    buf_init(&basic, TOKEN_BYTES);
    buf_append_str(&url, c->realm);
    struct fetch_request rq = {.method = "GET", .on_data = collect, .ctx = answer};
    if (k->identity_token) {
        rq.method = "POST";
        headers[0] = "Content-Type: application/x-www-form-urlencoded";
        buf_append_str(&body, "grant_type=refresh_token&client_id=berth&service=");
        url_put_escaped(str_from(c->service), "", &body);
        put_scopes(s, c, "&", &body);
        buf_append_str(&body, "&refresh_token=");
        url_put_escaped(str_from(k->identity_token), "", &body);
        rq.body = buf_str(&body);
        rq.body_len = body.len;
    } else {
        buf_printf(&url, "%sservice=", strchr(c->realm, '?') ? "&" : "?");
        url_put_escaped(str_from(c->service), "", &url);
        put_scopes(s, c, "&", &url);
        if (k->username) {
            put_basic(k, &basic);
            headers[0] = buf_str(&basic);
        }
    }
    rq.url = buf_str(&url);
    rq.headers = headers;
    int rc = buf_status(&url, "the token's address", err);
    if (rc == 0)
        rc = buf_status(&body, "the token's request", err);
    if (rc == 0)
        rc = fetch_do(f, &rq, resp, err);
    if (rc == -E_CANCELED && answer->failed)
        rc = err_set(err, E_LIMIT, "the token's answer has more than %u bytes", TOKEN_BYTES);
    wipe(&body);
    wipe(&basic);
    buf_release(&url);
    return rc;
}

static int token_get(struct session *s, struct fetch *f, const struct challenge *c, struct err *err)
{
    struct fetch_response resp;
    struct patience patience = {0};
    struct url realm;
    struct buf answer;
    int rc = url_parse(str_from(c->realm), &realm, err);
    if (rc < 0)
        return err_wrap(err, "the token's realm");
    rc = trust_realm(s->job->r->cfg.auth_hosts, &s->url, &realm, err);
    if (rc < 0)
        return rc;
    fetch_response_init(&resp);
    buf_init(&answer, TOKEN_BYTES);
    do {
        buf_clear(&answer);
        rc = token_ask(s, f, c, &resp, &answer, err);
        if (rc == 0 && (resp.status == 401 || resp.status == 403 || resp.status == 400))
            rc = err_set(err, E_AUTH,
                         s->credentials.username || s->credentials.identity_token
                             ? "%s does not take the credentials for %s (status %d): log in again "
                               "with `docker login %s`"
                             : "%s gives no token to strangers for %s (status %d): log in with "
                               "`docker login %s`",
                         realm.host, s->registry, resp.status, s->registry);
        else if (rc == 0 && resp.status != 200)
            rc = err_set(err, E_NET, "%s answered the request for a token with status %d",
                         realm.host, resp.status);
    } while (rc < 0 && patience_wait(s->job, &patience, &resp, err));
    if (rc == 0)
        rc = token_take(s, (struct str){answer.data, answer.len}, err);
    wipe(&answer);
    fetch_response_release(&resp);
    return rc;
}

/* The one that is told is not asked for a token. */
static bool use_given(struct session *s)
{
    const char *given = s->job->o && s->job->o->bearer_token ? s->job->o->bearer_token : "";
    if (s->is_hub && !given[0])
        given = s->job->r->cfg.hub_token ? s->job->r->cfg.hub_token : "";
    if (!given[0] && s->credentials.registry_token)
        given = s->credentials.registry_token;
    if (!given[0] || !is_token(str_from(given)) || s->generation > 0)
        return false;
    buf_printf(&s->authorization, "Authorization: Bearer %s", given);
    return true;
}

static int refused(const struct session *s, struct err *err)
{
    if (s->is_hub)
        return err_set(err, E_AUTH,
                       "%s wants to know who asks: set hf-token (BERTH_HF_TOKEN) to a token that "
                       "may read this model",
                       s->url.host);
    return err_set(err, E_AUTH,
                   s->authorization.len
                       ? "%s does not take the credentials for %s: log in again with `docker login "
                         "%s`"
                       : "%s wants credentials for %s: log in with `docker login %s`",
                   s->url.host, s->repository, s->registry);
}

static int authorize_locked(struct session *s, struct fetch *f, const struct fetch_response *resp,
                            struct err *err)
{
    struct challenge c = {0};
    struct str v;
    for (size_t i = 0; i < 8 && fetch_header(resp, "WWW-Authenticate", i, &v); i++)
        challenge_add(&c, v);
    credentials_load(s);
    if (use_given(s))
        return 0;
    if (!s->is_hub && c.has_bearer && c.realm[0])
        return token_get(s, f, &c, err);
    if (!s->is_hub && c.has_basic && s->credentials.username &&
        strncmp(buf_str(&s->authorization), "Authorization: Basic ", 21) != 0) {
        buf_clear(&s->authorization);
        put_basic(&s->credentials, &s->authorization);
        return buf_status(&s->authorization, "credentials", err);
    }
    return refused(s, err);
}

int session_authorize(struct session *s, struct fetch *f, const struct fetch_response *resp,
                      uint32_t seen, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    if (s->generation == seen) { /* else another thread has just been there */
        rc = authorize_locked(s, f, resp, err);
        s->generation++;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}
