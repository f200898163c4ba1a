/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the rules of guard.h: names of hosts, origins of pages, tries at keys. */
#include <arpa/inet.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "daemon/api/guard_impl.h"
#include "lib/base/limits.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"

/* Tries at keys: a bucket for each address (IPv6: each /64, which is what one customer has), in a
 * table of fixed size; a full set forgets the one that has been quiet longest. */
#define TRIES_BURST    20u
#define TRIES_EVERY_MS 100u /* a further try is forgiven so often */

static void to_lower(char *s)
{
    for (; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

/* --- hosts --- */

/* The one way to write an address; other names stay as they are, in small letters. */
static void host_normalize(char host[HOST_BYTES])
{
    unsigned char bytes[16];
    to_lower(host);
    if (inet_pton(AF_INET6, host, bytes) == 1)
        inet_ntop(AF_INET6, bytes, host, HOST_BYTES);
}

/* Splits "host", "host:port" or "[v6]:port"; false when it is none of them.  out has the host
 * without brackets, normalized. */
static bool split_host(const char *s, size_t len, char out[HOST_BYTES])
{
    const char *end = s + len, *host = s;
    size_t n;
    bool brackets = len && *s == '[';
    if (brackets) {
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
    if (n == 0 || n >= HOST_BYTES || (s < end && *s != ':'))
        return false;
    for (s += s < end; s < end; s++) {
        if (*s < '0' || *s > '9')
            return false;
    }
    memcpy(out, host, n);
    out[n] = '\0';
    unsigned char bytes[16];
    if (brackets && inet_pton(AF_INET6, out, bytes) != 1)
        return false;
    host_normalize(out);
    return true;
}

static bool is_local_name(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 ||
           strcmp(host, "::1") == 0;
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

bool guard_host_is_ours(const struct guard *g, const char *header)
{
    char host[HOST_BYTES];
    if (!split_host(header, strlen(header), host))
        return false;
    bool ours = g->any_host || is_local_name(host) || (g->any_address && is_address(host));
    for (size_t i = 0; !ours && i < g->n_hosts; i++)
        ours = strcmp(host, g->hosts[i]) == 0;
    return ours;
}

/* One name or address of a list, with or without brackets and port. */
static int host_add(struct guard *g, const char *entry, struct err *err)
{
    char host[HOST_BYTES];
    unsigned char bytes[16];
    if (strcmp(entry, "*") == 0) {
        g->any_host = true;
        return 0;
    }
    if (inet_pton(AF_INET6, entry, bytes) == 1) {
        snprintf(host, sizeof(host), "%s", entry);
        host_normalize(host);
    } else if (!split_host(entry, strlen(entry), host) || strpbrk(host, "*/@ ")) {
        return err_set(err, E_INVALID,
                       "allowed-hosts: '%.100s' is not the name or address of a host, such as "
                       "models.example.org, or * for any",
                       entry);
    }
    if (g->n_hosts == LIMIT_ORIGINS)
        return err_set(err, E_LIMIT, "allowed-hosts: more than %u names", LIMIT_ORIGINS);
    g->hosts[g->n_hosts++] = mem_dup(host, strlen(host));
    return 0;
}

/* --- origins --- */

/* The length of "scheme://", 0 when s does not begin with one (RFC 3986 section 3.1). */
static size_t scheme_len(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || (n && s[n] && strchr("+-.", s[n])))
        n++;
    return n && isalpha((unsigned char)s[0]) && strncmp(s + n, "://", 3) == 0 ? n + 3 : 0;
}

/* "https://a:443" and "http://a:80" are written without the port by browsers. */
static void drop_default_port(char *origin)
{
    size_t n = strlen(origin);
    if (n > 4 && strncmp(origin, "https://", 8) == 0 && strcmp(origin + n - 4, ":443") == 0)
        origin[n - 4] = '\0';
    else if (n > 3 && strncmp(origin, "http://", 7) == 0 && strcmp(origin + n - 3, ":80") == 0)
        origin[n - 3] = '\0';
}

static bool origin_parse(const char *entry, struct origin_rule *ret)
{
    char text[ORIGIN_BYTES], host[HOST_BYTES];
    size_t n = strlen(entry), scheme = scheme_len(entry);
    *ret = (struct origin_rule){0};
    if (n == 0 || n >= sizeof(text))
        return false;
    snprintf(text, sizeof(text), "%s", entry);
    to_lower(text);
    if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0) {
        ret->any = text[0] == '*';
    } else if (scheme == 0 || strpbrk(text + scheme, "/@?#\\ \"'")) {
        return false;
    } else if (strcmp(text + scheme, "*") == 0) {
        /* Hosts of such schemes are what a program calls its windows; on the web they are anyone.
         */
        if (strncmp(text, "http", 4) == 0)
            return false;
        ret->any_rest = true;
        text[scheme] = '\0';
    } else {
        if (n > 2 && strcmp(text + n - 2, ":*") == 0) {
            ret->any_rest = true; /* digits alone, after the colon */
            text[n - 1] = '\0';
        }
        if (!split_host(text + scheme, strlen(text + scheme), host) || strchr(host, '*'))
            return false;
        if (!ret->any_rest)
            drop_default_port(text);
    }
    ret->text = mem_dup(text, strlen(text));
    return true;
}

static bool rule_matches(const struct origin_rule *rule, const char *origin)
{
    size_t n = strlen(rule->text);
    if (!rule->any_rest)
        return strcmp(rule->text, origin) == 0;
    if (rule->text[n - 1] == '/') { /* scheme://anything */
        return strncmp(rule->text, origin, n) == 0 && origin[n] && !strpbrk(origin + n, "/@?#\\ ");
    }
    /* host:digits, or the host with its scheme's own port */
    if (strncmp(rule->text, origin, n - 1) != 0)
        return false;
    const char *rest = origin + n - 1;
    return *rest == '\0' ||
           (*rest == ':' && rest[1] && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

static int origin_add(struct guard *g, const char *entry, struct err *err)
{
    struct origin_rule rule;
    if (!origin_parse(entry, &rule))
        return err_set(
            err, E_INVALID,
            "allowed-origins: '%.100s' is not an origin: scheme://host, with :port where "
            "it is not the scheme's own or :* for any, or null, or * for all",
            entry);
    if (g->n_origins == LIMIT_ORIGINS) {
        mem_free(rule.text);
        return err_set(err, E_LIMIT, "allowed-origins: more than %u", LIMIT_ORIGINS);
    }
    g->origins[g->n_origins++] = rule;
    return 0;
}

/* A page that was fetched from this very host and port. */
static bool is_same(const char *origin, size_t scheme, const char *host)
{
    return host && strncmp(origin, "http", 4) == 0 && strcasecmp(origin + scheme, host) == 0;
}

enum guard_origin guard_origin(const struct guard *g, const char *header, const char *host)
{
    char origin[ORIGIN_BYTES], name[HOST_BYTES];
    enum guard_origin ret = GUARD_ORIGIN_FOREIGN;
    size_t n = strlen(header), scheme = scheme_len(header);
    if (n >= sizeof(origin))
        return ret;
    memcpy(origin, header, n + 1);
    to_lower(origin);
    bool web = strncmp(origin, "http://", 7) == 0 || strncmp(origin, "https://", 8) == 0;
    bool whole = web && split_host(origin + scheme, n - scheme, name);
    if (whole && (is_local_name(name) || is_same(origin, scheme, host)))
        ret = GUARD_ORIGIN_LOCAL;
    if (web && !whole)
        return GUARD_ORIGIN_FOREIGN;
    for (size_t i = 0; i < g->n_origins; i++) {
        if (!g->origins[i].any && rule_matches(&g->origins[i], origin))
            return GUARD_ORIGIN_LISTED;
        if (g->origins[i].any && ret == GUARD_ORIGIN_FOREIGN)
            ret = GUARD_ORIGIN_ANY;
    }
    return ret;
}

/* RFC 9110 section 5.6.2. */
static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

void guard_header_names(const char *asked, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    while (*asked) {
        asked += strspn(asked, ", \t");
        size_t n = strcspn(asked, ","), len = n, good = 0;
        while (len && (asked[len - 1] == ' ' || asked[len - 1] == '\t'))
            len--;
        while (good < len && is_token_char(asked[good]))
            good++;
        if (len && good == len && used + len + 2 < size)
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? "," : "", (int)len,
                                     asked);
        asked += n;
    }
}

/* --- keys --- */

bool guard_presented(const char *authorization, const char *x_api_key, const char *api_key,
                     struct str *ret)
{
    const char *value = authorization ? authorization : x_api_key ? x_api_key : api_key;
    if (!value)
        return false;
    if (authorization) {
        if (strncasecmp(value, "bearer", 6) != 0 || (value[6] != ' ' && value[6] != '\t'))
            return false;
        value += 6;
    }
    value += strspn(value, " \t");
    size_t n = strlen(value);
    while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    *ret = (struct str){value, n};
    return n > 0;
}

/* What tells one who tries from another, hashed so that nobody can aim at a bucket. */
static uint64_t who(const char *address)
{
    unsigned char v6[16];
    if (inet_pton(AF_INET6, address, v6) == 1)
        return map_hash(v6, 8);
    return map_hash(address, strlen(address));
}

bool guard_too_many(struct guard *g, const char *address, uint64_t now_ms)
{
    uint64_t id = who(address);
    pthread_mutex_lock(&g->tries_lock);
    struct tries *set = g->tries[id % TRIES_SETS], *t = NULL;
    for (size_t i = 0; i < TRIES_WAYS && !t; i++)
        t = set[i].id == id ? &set[i] : NULL;
    if (!t) {
        t = &set[0];
        for (size_t i = 1; i < TRIES_WAYS; i++)
            t = set[i].last_ms < t->last_ms ? &set[i] : t;
        *t = (struct tries){.id = id, .last_ms = now_ms};
    }
    uint64_t forgiven = now_ms > t->last_ms ? (now_ms - t->last_ms) / TRIES_EVERY_MS : 0;
    if (forgiven) {
        t->n -= (uint32_t)MIN_OF(forgiven, t->n);
        t->last_ms = now_ms;
    }
    bool too_many = t->n >= TRIES_BURST;
    t->n += !too_many;
    pthread_mutex_unlock(&g->tries_lock);
    return too_many;
}

/* --- the object --- */

/* Calls add for each entry of a comma-separated list. */
static int list_read(struct guard *g, const char *list,
                     int (*add)(struct guard *, const char *, struct err *), struct err *err)
{
    int rc = 0;
    for (const char *s = list ? list : ""; *s && rc == 0;) {
        s += strspn(s, ", \t");
        size_t n = strcspn(s, ","), len = n;
        while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
            len--;
        if (len) {
            char *entry = mem_dup(s, len);
            rc = add(g, entry, err);
            mem_free(entry);
        }
        s += n;
    }
    return rc;
}

int guard_new(const struct guard_config *cfg, struct guard **ret, struct err *err)
{
    struct guard *g = mem_alloc(sizeof(*g));
    pthread_mutex_init(&g->tries_lock, NULL);
    g->keys = cfg->keys;
    g->watch = cfg->watch;
    g->any_address = cfg->any_address;
    int rc = list_read(g, cfg->bound, host_add, err);
    if (rc == 0)
        rc = list_read(g, cfg->allowed_hosts, host_add, err);
    if (rc == 0)
        rc = list_read(g, cfg->allowed_origins, origin_add, err);
    if (rc < 0)
        guard_free(g);
    else
        *ret = g;
    return rc;
}

void guard_free(struct guard *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_hosts; i++)
        mem_free(g->hosts[i]);
    for (size_t i = 0; i < g->n_origins; i++)
        mem_free(g->origins[i].text);
    pthread_mutex_destroy(&g->tries_lock);
    mem_free(g);
}

struct keys *guard_keys(const struct guard *g)
{
    return g ? g->keys : NULL;
}
