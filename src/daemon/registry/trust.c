/* SPDX-License-Identifier: Apache-2.0 */
/* Implements trust.h. */
#include "daemon/registry/trust.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "lib/oci/reference.h"

/* Whether a comma-separated list has the name. */
static bool list_has(const char *list, struct str name)
{
    for (const char *p = list; p && *p;) {
        p += strspn(p, ", \t");
        size_t n = strcspn(p, ", \t");
        if (n == name.len && n && strncasecmp(p, name.p, n) == 0)
            return true;
        p += n;
    }
    return false;
}

bool trust_allows_http(const char *list, const char *registry)
{
    struct str host = str_from(registry);
    const char *colon = strrchr(registry, ':');
    if (oci_registry_is_local(registry) || list_has(list, host))
        return true;
    if (colon && !strchr(colon, ']'))
        host.len = (size_t)(colon - registry);
    return list_has(list, host);
}

/* What an address literal, in any of the spellings that the resolver takes, leads to. */
enum place { ELSEWHERE, THIS_MACHINE, THIS_LINK };

static enum place place_of_v4(uint32_t a)
{
    if (a >> 24 == 127 || a >> 24 == 0)
        return THIS_MACHINE;
    return a >> 16 == 0xa9fe ? THIS_LINK : ELSEWHERE;
}

static enum place place_of(const struct url *u)
{
    struct in_addr v4;
    struct in6_addr v6;
    char name[OCI_REPOSITORY_CHARS + 1];
    size_t n = strlen(u->host);
    if (u->is_v6 && inet_pton(AF_INET6, u->host, &v6) == 1) {
        if (IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6))
            return THIS_MACHINE;
        if (IN6_IS_ADDR_V4MAPPED(&v6) || IN6_IS_ADDR_V4COMPAT(&v6)) {
            memcpy(&v4, &v6.s6_addr[12], 4);
            return place_of_v4(ntohl(v4.s_addr));
        }
        return IN6_IS_ADDR_LINKLOCAL(&v6) ? THIS_LINK : ELSEWHERE;
    }
    if (inet_aton(u->host, &v4))
        return place_of_v4(ntohl(v4.s_addr));
    while (n && u->host[n - 1] == '.') /* "localhost." is localhost */
        n--;
    memcpy(name, u->host, n);
    name[n] = '\0';
    return strcmp(name, "localhost") == 0 || str_has_suffix(str_from(name), STR_LIT(".localhost"))
               ? THIS_MACHINE
               : ELSEWHERE;
}

/* Who leads there may do so: it stands there itself. */
static bool may_lead(const struct url *from, const struct url *to)
{
    enum place p = place_of(to);
    return p == ELSEWHERE || place_of(from) == THIS_MACHINE || strcmp(from->host, to->host) == 0;
}

int trust_redirect(const struct url *from, const struct url *to, struct err *err)
{
    if (from->is_https && !to->is_https)
        return err_set(err, E_DENIED,
                       "%s leads on to http://%s: from https to plain HTTP berth does not follow",
                       from->host, to->host);
    if (!may_lead(from, to))
        return err_set(err, E_DENIED,
                       "%s leads on to %s, which is this machine or its own link: berth does not "
                       "follow",
                       from->host, to->host);
    return 0;
}

/* The end of a host that one owner has: its last two labels, or three where the last two are such
 * as "co.uk".  Empty for an address. */
static struct str site_of(const struct url *u)
{
    struct in_addr v4;
    struct str host = str_from(u->host);
    size_t dots[3] = {0}, n_dots = 0;
    if (u->is_v6 || inet_aton(u->host, &v4))
        return (struct str){0};
    for (size_t i = host.len; i-- > 0 && n_dots < 3;) {
        if (host.p[i] == '.')
            dots[n_dots++] = i;
    }
    if (n_dots == 0)
        return (struct str){0};
    bool is_wide =
        host.len - dots[0] - 1 == 2 && /* a country's: is it sold below .co, .com, .ac? */
        (n_dots == 1 ? dots[0] : dots[0] - dots[1] - 1) <= 3;
    size_t need = is_wide ? 2 : 1; /* dots inside the site */
    if (n_dots < need)
        return (struct str){0};
    size_t from = n_dots > need ? dots[need] + 1 : 0;
    return (struct str){host.p + from, host.len - from};
}

int trust_realm(const char *list, const struct url *registry, const struct url *realm,
                struct err *err)
{
    struct str site = site_of(registry);
    bool is_same_host = strcmp(registry->host, realm->host) == 0;
    bool is_same_machine = place_of(registry) == THIS_MACHINE && place_of(realm) == THIS_MACHINE;
    bool is_listed = list_has(list, str_from(realm->host));
    if (!is_same_host && !is_same_machine && !is_listed &&
        !(site.len && str_eq(site, site_of(realm))))
        return err_set(err, E_DENIED,
                       "the registry %s sends berth to %s for a token, which is not of its site: "
                       "if that is right, name %s in registry-auth-hosts",
                       registry->host, realm->host, realm->host);
    if (!may_lead(registry, realm))
        return err_set(err, E_DENIED, "the registry %s sends berth to %s for a token: refused",
                       registry->host, realm->host);
    if (!realm->is_https && (registry->is_https || !(is_same_host || is_same_machine)))
        return err_set(err, E_DENIED,
                       "the registry %s sends berth to http://%s for a token: credentials do not "
                       "go over plain HTTP",
                       registry->host, realm->host);
    return 0;
}
