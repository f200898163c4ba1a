/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of registries, as Docker keeps them: config.json with "credHelpers", "credsStore" and
 * "auths".  Looked up anew for each pull, so that a `docker login` counts at once.  Any thread. */
#ifndef DAEMON_REGISTRY_CREDENTIALS_H
#define DAEMON_REGISTRY_CREDENTIALS_H

#include "lib/base/err.h"
#include "lib/base/str.h"

struct credentials { /* all owned; NULL: none */
    char *username, *secret;
    char *identity_token; /* to be exchanged for one at the realm */
    char *registry_token; /* presented as it is */
};

/* What config.json says of a registry ("docker.io", "host:port"): a helper to ask, whose name goes
 * to helper (without "docker-credential-", "" none), or credentials.  Pure.  E_FORMAT. */
#define CREDENTIALS_HELPER_BYTES 64u
int credentials_parse(struct str text, const char *registry, char helper[CREDENTIALS_HELPER_BYTES],
                      struct credentials *ret, struct err *err) MUST_USE;
/* What a helper printed.  Pure.  E_FORMAT. */
int credentials_parse_helper(struct str text, struct credentials *ret, struct err *err) MUST_USE;

/* dir: config.json's folder, NULL or "": none.  No credentials are no error; a file that cannot be
 * read and a helper that fails are. */
int credentials_find(const char *dir, const char *registry, struct credentials *ret,
                     struct err *err) MUST_USE;
void credentials_release(struct credentials *c);

#endif
