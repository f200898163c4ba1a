/* SPDX-License-Identifier: Apache-2.0 */
/* Whom berth speaks to at a registry's word, and in which way.  The rule, for docs/SECURITY.md:
 *
 *   - Plain HTTP only with loopback addresses, localhost, *.localhost and *.local, and with those
 *     that insecure-registries names.
 *   - A redirect never leads from https to http, and from elsewhere never to this machine, nor to a
 *     link-local address.  Credentials stay with scheme, host and port that asked for them.
 *   - A token is asked for at the registry's own host, at a host of the same site (the registrable
 *     domain: registry-1.docker.io and auth.docker.io), or at one that registry-auth-hosts names;
 *     over https, or over http from the registry's own host when that itself is spoken to in HTTP.
 *
 * Pure; any thread. */
#ifndef DAEMON_REGISTRY_TRUST_H
#define DAEMON_REGISTRY_TRUST_H

#include "lib/net/url.h"

/* list: "HOST[:PORT],..." or NULL.  registry: "host[:port]". */
bool trust_allows_http(const char *list, const char *registry);
/* E_DENIED with a sentence that names both hosts. */
int trust_redirect(const struct url *from, const struct url *to, struct err *err) MUST_USE;
/* list: of registry-auth-hosts, or NULL. */
int trust_realm(const char *list, const struct url *registry, const struct url *realm,
                struct err *err) MUST_USE;

#endif
