/* SPDX-License-Identifier: Apache-2.0 */
/* Who may speak to a daemon without keys: programs of this machine, not web pages.
 *
 * A page of another site can make a browser send requests here.  So the Host must be one that only
 * this machine's users write (against names that resolve to 127.0.0.1), an Origin must be of this
 * machine, and a body must be declared as JSON, which browsers do not send across sites without
 * asking first. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_impl.h"

/* Splits "host", "host:port" or "[v6]:port"; false when it is none of them.  out has the host
 * without brackets. */
static bool split_host(const char *s, size_t len, char out[256])
{
    const char *end = s + len, *host = s;
    size_t n;
    if (len && *s == '[') {
        const char *close = memchr(s, ']', len);
        if (!close)
            return false;
        host = s + 1;
        n = (size_t)(close - host);
        s = close + 1;
    } else {
        const char *colon = memchr(s, ':', len);
        n = colon ? (size_t)(colon - s) : len;
        s += n;
    }
    if (n == 0 || n > 255 || (s < end && *s != ':'))
        return false;
    for (s += s < end; s < end; s++) {
        if (*s < '0' || *s > '9')
            return false;
    }
    memcpy(out, host, n);
    out[n] = '\0';
    return true;
}

static bool is_local_name(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 ||
           strcmp(host, "::1") == 0;
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* Listening on every address, no name is ours to know, but numbers cannot be rebound by a name
 * server. */
static bool host_is_ours(const struct api *a, const char *host)
{
    const char *bound = a->cfg.host ? a->cfg.host : "127.0.0.1";
    bool any = strcmp(bound, "0.0.0.0") == 0 || strcmp(bound, "::") == 0;
    return is_local_name(host) || strcasecmp(host, bound) == 0 || (any && is_address(host));
}

static bool origin_is_ours(const struct api *a, const char *origin)
{
    char host[256];
    size_t n = strncmp(origin, "http://", 7) == 0 ? 7 : strncmp(origin, "https://", 8) == 0 ? 8 : 0;
    const char *rest = origin + n;
    return n > 0 && split_host(rest, strlen(rest), host) && host_is_ours(a, host);
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
    static const char form[] = "application/x-www-form-urlencoded";
    return n == strlen(form) && strncasecmp(type, form, n) == 0 && !httpd_header(r, "Origin") &&
           !httpd_header(r, "Sec-Fetch-Site");
}

int guard_check(const struct api *a, struct httpd_request *r)
{
    char host[256];
    const char *value = httpd_header(r, "Host");
    if (value && !(split_host(value, strlen(value), host) && host_is_ours(a, host))) {
        api_answer_status(r, 403,
                          "the Host header does not name this server: use localhost or 127.0.0.1");
        return -E_DENIED;
    }
    const char *origin = httpd_header(r, "Origin");
    if (origin && !origin_is_ours(a, origin)) {
        api_answer_status(r, 403, "requests from pages of this Origin are not allowed");
        return -E_DENIED;
    }
    if (origin) {
        httpd_set_header(r, "Access-Control-Allow-Origin", origin);
        httpd_set_header(r, "Vary", "Origin");
    }
    if (strcmp(httpd_method(r), "POST") == 0 && !type_is_json(r)) {
        api_answer_status(r, 415, "the body must be JSON: send Content-Type: application/json");
        return -E_INVALID;
    }
    return 0;
}
