/* SPDX-License-Identifier: Apache-2.0 */
/* Implements reference.h.  Grammar: distribution-spec, "Pulling manifests" (repository and tag),
 * and the reference grammar of the distribution project for the registry part. */
#include "lib/oci/reference.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"

#define DEFAULT_REGISTRY "docker.io"
#define DEFAULT_ORG      "ai/"
#define DEFAULT_TAG      "latest"
#define HUB              "huggingface.co"

static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!isdigit((unsigned char)s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'f'))
            return false;
    }
    return true;
}

static struct str skip(struct str s, size_t n)
{
    return (struct str){s.p + n, s.len - n};
}

int oci_digest_check(struct str s, struct err *err)
{
    static const struct str prefix = {"sha256:", 7};
    if (str_has_prefix(s, STR_LIT("sha512:")))
        return err_set(err, E_UNSUPPORTED,
                       "digest '%.*s': sha512 is not supported here, only sha256",
                       (int)MIN_OF(s.len, 160), s.p);
    if (!str_has_prefix(s, prefix) || s.len != OCI_DIGEST_CHARS || !is_hex(skip(s, prefix.len)))
        return err_set(err, E_INVALID,
                       "'%.*s' is not a digest: sha256: and 64 hexadecimal digits in lower case",
                       (int)MIN_OF(s.len, 160), s.p ? s.p : "");
    return 0;
}

bool oci_may_be_id(struct str text)
{
    struct err err = ERR_INIT;
    if (text.len == OCI_DIGEST_CHARS)
        return oci_digest_check(text, &err) == 0;
    return (text.len == 12 || text.len == 64) && is_hex(text);
}

/* One part of a repository's path: [a-z0-9]+ with single ".", "_", "__" or any number of "-"
 * between.
 */
static bool is_component(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        size_t from = i;
        while (i < s.len && (islower((unsigned char)s.p[i]) || isdigit((unsigned char)s.p[i])))
            i++;
        if (i == from)
            return false;
        if (i == s.len)
            return true;
        from = i;
        while (i < s.len && s.p[i] == s.p[from] && strchr("._-", s.p[i]))
            i++;
        size_t n = i - from, most = s.p[from] == '.' ? 1 : s.p[from] == '_' ? 2 : s.len;
        if (n == 0 || n > most)
            return false;
    }
    return false;
}

static int check_repository(const char *repository, struct err *err)
{
    struct str rest = str_from(repository);
    for (;;) {
        const char *slash = memchr(rest.p, '/', rest.len);
        struct str part = {rest.p, slash ? (size_t)(slash - rest.p) : rest.len};
        if (!is_component(part))
            return err_set(
                err, E_INVALID,
                "model name '%s': '%.*s' may hold letters and digits, with one '.', one or "
                "two '_' or any '-' between them",
                repository, STR_ARG(part));
        if (!slash)
            return 0;
        rest = skip(rest, part.len + 1);
    }
}

static int check_tag(struct str tag, struct err *err)
{
    bool ok = tag.len > 0 && tag.len <= OCI_TAG_CHARS && tag.p[0] != '.' && tag.p[0] != '-';
    for (size_t i = 0; ok && i < tag.len; i++)
        ok = isalnum((unsigned char)tag.p[i]) || (tag.p[i] && strchr("_.-", tag.p[i]));
    return ok ? 0
              : err_set(
                    err, E_INVALID,
                    "tag '%.*s' must be 1 to %u letters, digits, '_', '.' or '-', and not begin "
                    "with '.' or '-'",
                    (int)MIN_OF(tag.len, 160), tag.p, OCI_TAG_CHARS);
}

/* host, host:port, [v6]:port; what a URL can hold in that place and nothing that could leave it. */
static int check_registry(const char *registry, struct err *err)
{
    const char *s = registry;
    bool ok;
    if (*s == '[') {
        size_t n = strspn(s + 1, "0123456789abcdefABCDEF:.");
        ok = n > 1 && s[n + 1] == ']';
        s += ok ? n + 2 : 0;
    } else {
        size_t n = 0;
        while (isalnum((unsigned char)s[n]) || s[n] == '.' || s[n] == '-')
            n++;
        ok = n > 0 && isalnum((unsigned char)s[0]) && isalnum((unsigned char)s[n - 1]) &&
             !strstr(registry, "..");
        s += n;
    }
    if (ok && *s == ':') {
        size_t n = strspn(s + 1, "0123456789");
        ok = n > 0 && n <= 5 && s[n + 1] == '\0';
    } else {
        ok = ok && *s == '\0';
    }
    return ok ? 0
              : err_set(err, E_INVALID, "registry '%s' is not a host name with or without a port",
                        registry);
}

static struct str trim(struct str s)
{
    while (s.len && isspace((unsigned char)s.p[0]))
        s = skip(s, 1);
    while (s.len && isspace((unsigned char)s.p[s.len - 1]))
        s.len--;
    return s;
}

static bool is_of_hub(struct str name)
{
    static const struct str hubs[] = {STR_LIT("hf.co/"), STR_LIT(HUB "/")};
    for (size_t i = 0; i < ARRAY_LEN(hubs); i++) {
        if (name.len > hubs[i].len && strncasecmp(name.p, hubs[i].p, hubs[i].len) == 0)
            return true;
    }
    return false;
}

/* A branch, tag or commit, as git has them, and nothing that an address could take for more. */
static int take_revision(struct str s, struct oci_reference *ret, struct err *err)
{
    bool ok = s.len > 0 && s.len <= OCI_TAG_CHARS && !memmem(s.p, s.len, "..", 2) &&
              !memmem(s.p, s.len, "//", 2);
    for (size_t i = 0; ok && i < s.len; i++) {
        bool is_edge = i == 0 || i + 1 == s.len;
        ok = isalnum((unsigned char)s.p[i]) || (s.p[i] && strchr("_.-/", s.p[i]) && !is_edge);
    }
    if (!ok)
        return err_set(err, E_INVALID, "'%.*s' cannot be the revision of a hub's model",
                       (int)MIN_OF(s.len, 160), s.p);
    snprintf(ret->revision, sizeof(ret->revision), "%.*s", STR_ARG(s));
    return 0;
}

/* Takes "@digest" (or a hub's "@revision") and then ":tag" off the end of *name. */
static int take_digest_and_tag(struct str *name, struct oci_reference *ret, struct err *err)
{
    const char *at = memchr(name->p, '@', name->len);
    int rc = 0;
    if (at) {
        struct str digest = skip(*name, (size_t)(at - name->p) + 1);
        bool is_revision = is_of_hub(*name) && !memchr(digest.p, ':', digest.len);
        rc = is_revision ? take_revision(digest, ret, err) : oci_digest_check(digest, err);
        if (rc < 0)
            return rc;
        if (!is_revision)
            snprintf(ret->digest, sizeof(ret->digest), "%.*s", STR_ARG(digest));
        name->len = (size_t)(at - name->p);
    }
    const char *slash = memrchr(name->p, '/', name->len);
    const char *from = slash ? slash : name->p;
    const char *colon = memchr(from, ':', name->len - (size_t)(from - name->p));
    struct str tag = STR_LIT("");
    if (colon) {
        tag = skip(*name, (size_t)(colon - name->p) + 1);
        name->len = (size_t)(colon - name->p);
    }
    if (tag.len == 0 && !ret->digest[0])
        tag = STR_LIT(DEFAULT_TAG);
    if (tag.len)
        rc = check_tag(tag, err);
    if (rc == 0)
        snprintf(ret->tag, sizeof(ret->tag), "%.*s", STR_ARG(tag));
    return rc;
}

/* Takes "registry/" off the front of *name, or puts the default there. */
static void take_registry(struct str *name, const char *default_registry, struct oci_reference *ret)
{
    const char *slash = memchr(name->p, '/', name->len);
    struct str first = {name->p, slash ? (size_t)(slash - name->p) : 0};
    bool is_host = slash && (memchr(first.p, '.', first.len) || memchr(first.p, ':', first.len) ||
                             str_is(first, "localhost"));
    if (!is_host) {
        snprintf(ret->registry, sizeof(ret->registry), "%s", default_registry);
        return;
    }
    *name = skip(*name, first.len + 1);
    for (size_t i = 0; i < first.len; i++)
        ret->registry[i] = (char)tolower((unsigned char)first.p[i]);
    /* Hosts know no case, so neither do their other names. */
    if (strcmp(ret->registry, "hf.co") == 0)
        snprintf(ret->registry, sizeof(ret->registry), "%s", HUB);
    if (strcmp(ret->registry, "index.docker.io") == 0 ||
        strcmp(ret->registry, "registry-1.docker.io") == 0)
        snprintf(ret->registry, sizeof(ret->registry), "%s", DEFAULT_REGISTRY);
}

int oci_reference_parse(struct str text, const char *default_registry, struct oci_reference *ret,
                        struct err *err)
{
    struct oci_reference r = {.registry = ""};
    struct str name = trim(text);
    if (name.len == 0)
        return err_set(err, E_INVALID, "a model's name is empty");
    if (name.len > OCI_REPOSITORY_CHARS + OCI_TAG_CHARS + OCI_DIGEST_CHARS + 2 ||
        memchr(name.p, '\0', name.len))
        return err_set(err, E_INVALID, "model name '%.60s…' is too long, or holds a NUL", name.p);
    const char *scheme = memmem(name.p, name.len, "://", 3);
    if (scheme)
        return err_set(err, E_INVALID,
                       "model name '%.*s' is an address: leave out '%.*s', as in hf.co/ORG/NAME or "
                       "ghcr.io/ORG/NAME:TAG",
                       (int)MIN_OF(name.len, 160), name.p,
                       (int)MIN_OF((size_t)(scheme - name.p) + 3, 20), name.p);
    int rc = take_digest_and_tag(&name, &r, err);
    if (rc < 0)
        return rc;
    if (name.len > OCI_REPOSITORY_CHARS)
        return err_set(err, E_INVALID, "model name '%.60s…' has %zu characters, more than %u",
                       name.p, name.len, OCI_REPOSITORY_CHARS);
    take_registry(&name, default_registry ? default_registry : DEFAULT_REGISTRY, &r);
    const char *org =
        memchr(name.p, '/', name.len) ||
                strcmp(r.registry, default_registry ? default_registry : DEFAULT_REGISTRY) != 0
            ? ""
            : DEFAULT_ORG;
    int n = snprintf(r.repository_as_given, sizeof(r.repository_as_given), "%s%.*s", org,
                     STR_ARG(name));
    /* Whole, as it is kept: what was left away counts. */
    if (n < 0 || strlen(r.registry) + 1 + (size_t)n > OCI_REPOSITORY_CHARS)
        return err_set(err, E_INVALID,
                       "model name '%.60s…' has more than %u characters with its registry", name.p,
                       OCI_REPOSITORY_CHARS);
    for (size_t i = 0; i <= (size_t)n; i++)
        r.repository[i] = (char)tolower((unsigned char)r.repository_as_given[i]);
    rc = check_registry(r.registry, err);
    if (rc == 0)
        rc = check_repository(r.repository, err);
    if (rc == 0)
        *ret = r;
    return rc;
}

static void put_end(const struct oci_reference *r, bool with_latest, struct buf *out)
{
    if (r->tag[0] && (with_latest || strcmp(r->tag, DEFAULT_TAG) != 0))
        buf_printf(out, ":%s", r->tag);
    if (r->digest[0] || r->revision[0])
        buf_printf(out, "@%s", r->digest[0] ? r->digest : r->revision);
}

void oci_reference_put(const struct oci_reference *r, struct buf *out)
{
    buf_printf(out, "%s/%s", r->registry, r->repository);
    put_end(r, true, out);
}

void oci_reference_put_short(const struct oci_reference *r, struct buf *out)
{
    const char *repository = r->repository;
    if (strcmp(r->registry, DEFAULT_REGISTRY) != 0)
        buf_printf(out, "%s/", r->registry);
    else if (strncmp(repository, DEFAULT_ORG, strlen(DEFAULT_ORG)) == 0 &&
             !strchr(repository + strlen(DEFAULT_ORG), '/'))
        repository += strlen(DEFAULT_ORG);
    buf_append_str(out, repository);
    /* With a digest a tag that is left away would read as none. */
    put_end(r, r->digest[0] != '\0', out);
}

bool oci_registry_is_local(const char *registry)
{
    char host[OCI_REPOSITORY_CHARS + 1];
    size_t n = strlen(registry);
    const char *colon = registry[0] == '[' ? strchr(registry, ']') : strchr(registry, ':');
    if (colon)
        n = (size_t)(colon - registry);
    const char *from = registry[0] == '[' ? registry + 1 : registry;
    snprintf(host, sizeof(host), "%.*s", (int)(registry + n - from), from);
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0 ||
           str_has_suffix(str_from(host), STR_LIT(".localhost")) ||
           str_has_suffix(str_from(host), STR_LIT(".local"));
}

bool oci_registry_is_hub(const char *registry)
{
    return strcmp(registry, HUB) == 0;
}
