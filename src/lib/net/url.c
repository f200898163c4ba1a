/* SPDX-License-Identifier: Apache-2.0 */
/* Implements url.h. */
#include "lib/net/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

static int bad(struct str text, const char *why, struct err *err)
{
    return err_set(err, E_INVALID, "'%.*s' is not an address that berth asks: %s",
                   (int)MIN_OF(text.len, 200), text.p ? text.p : "", why);
}

static bool take_scheme(struct str *rest, bool *is_https)
{
    static const struct str schemes[] = {STR_LIT("http://"), STR_LIT("https://")};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (rest->len >= schemes[i].len &&
            strncasecmp(rest->p, schemes[i].p, schemes[i].len) == 0) {
            *is_https = i == 1;
            *rest = (struct str){rest->p + schemes[i].len, rest->len - schemes[i].len};
            return true;
        }
    }
    return false;
}

/* The host without brackets, lower case. */
static bool take_host(struct str name, bool is_v6, struct url *ret)
{
    if (name.len == 0 || name.len > URL_HOST_CHARS)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.p[i];
        bool ok = is_v6 ? isxdigit(c) || c == ':' || c == '.'
                        : isalnum(c) || c == '-' || c == '.' || c == '_';
        if (!ok)
            return false;
        ret->host[i] = (char)tolower(c);
    }
    ret->host[name.len] = '\0';
    ret->is_v6 = is_v6;
    struct in6_addr v6;
    return is_v6 ? inet_pton(AF_INET6, ret->host, &v6) == 1 : isalnum((unsigned char)name.p[0]);
}

static bool take_port(struct str digits, struct url *ret)
{
    uint32_t port = 0;
    if (digits.len == 0 || digits.len > 5)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        if (!isdigit((unsigned char)digits.p[i]))
            return false;
        port = port * 10 + (uint32_t)(digits.p[i] - '0');
    }
    ret->port = (uint16_t)port;
    return port > 0 && port <= 65535;
}

static bool take_authority(struct str a, struct url *ret)
{
    const char *end = a.len && a.p[0] == '[' ? memchr(a.p, ']', a.len) : NULL;
    const char *from = end ? end : a.p;
    const char *colon = memchr(from, ':', a.len - (size_t)(from - a.p));
    struct str host = {a.p, colon ? (size_t)(colon - a.p) : a.len};
    ret->port = ret->is_https ? 443 : 80;
    if (colon && !take_port((struct str){colon + 1, a.len - host.len - 1}, ret))
        return false;
    if (!end)
        return take_host(host, false, ret);
    return host.p + host.len == end + 1 &&
           take_host((struct str){host.p + 1, host.len - 2}, true, ret);
}

int url_parse(struct str text, struct url *ret, struct err *err)
{
    struct url u = {0};
    struct str rest = text;
    if (text.len > URL_BYTES)
        return bad(text, "it is too long", err);
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] <= ' ' || text.p[i] >= 0x7f || strchr("\\\"<>^`{|}", text.p[i]))
            return bad(text, "it holds characters that no address has", err);
    }
    if (!take_scheme(&rest, &u.is_https))
        return bad(text, "only http and https are spoken", err);
    size_t n = 0;
    while (n < rest.len && !strchr("/?#", rest.p[n]))
        n++;
    if (!take_authority((struct str){rest.p, n}, &u))
        return bad(text, "its host cannot be", err);
    u.target = (struct str){rest.p + n, rest.len - n};
    const char *hash = memchr(u.target.p, '#', u.target.len);
    if (hash)
        u.target.len = (size_t)(hash - u.target.p);
    *ret = u;
    return 0;
}

bool url_same_origin(const struct url *a, const struct url *b)
{
    return a->is_https == b->is_https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

void url_put_origin(const struct url *u, struct buf *out)
{
    buf_printf(out, u->is_v6 ? "%s://[%s]" : "%s://%s", u->is_https ? "https" : "http", u->host);
    if (u->port != (u->is_https ? 443 : 80))
        buf_printf(out, ":%u", u->port);
}

/* A path's "." and ".." parts would be taken away by who carries the request out. */
static bool has_dots(struct str target)
{
    for (size_t i = 0; i < target.len && target.p[i] != '?'; i++) {
        struct str rest = {target.p + i, target.len - i};
        bool begins = i == 0 || target.p[i - 1] == '/';
        if (!begins)
            continue;
        size_t n = 0;
        while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?')
            n++;
        if ((n == 1 && rest.p[0] == '.') || (n == 2 && rest.p[0] == '.' && rest.p[1] == '.'))
            return true;
    }
    return false;
}

int url_resolve(const struct url *base, struct str ref, struct buf *out, struct err *err)
{
    struct url u;
    struct str rest = ref;
    bool is_https;
    size_t from = out->len;
    if (ref.len == 0)
        return bad(ref, "it is empty", err);
    if (take_scheme(&rest, &is_https)) {
        buf_append(out, ref.p, ref.len);
    } else if (ref.len > 1 && ref.p[0] == '/' && ref.p[1] == '/') {
        buf_printf(out, "%s:%.*s", base->is_https ? "https" : "http", STR_ARG(ref));
    } else {
        url_put_origin(base, out);
        size_t dir = 0; /* how much of base's path stays */
        for (size_t i = 0; i < base->target.len && base->target.p[i] != '?'; i++)
            dir = base->target.p[i] == '/' || ref.p[0] == '?' ? i + 1 : dir;
        if (ref.p[0] != '/' && dir)
            buf_append(out, base->target.p, dir);
        else if (ref.p[0] != '/')
            buf_append_char(out, '/');
        buf_append(out, ref.p, ref.len);
    }
    int rc = buf_status(out, "an address", err);
    if (rc == 0)
        rc = url_parse((struct str){out->data + from, out->len - from}, &u, err);
    if (rc == 0 && has_dots(u.target))
        rc = bad(ref, "its path has dot parts", err);
    return rc;
}

void url_put_escaped(struct str s, const char *keep, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (isalnum(c) || (c && strchr("-._~", c)) || (c && strchr(keep, c)))
            buf_append_char(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}
