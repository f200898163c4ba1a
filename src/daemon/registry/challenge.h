/* SPDX-License-Identifier: Apache-2.0 */
/* What a WWW-Authenticate header asks for (RFC 9110, 11.6.1).  Pure; any thread. */
#ifndef DAEMON_REGISTRY_CHALLENGE_H
#define DAEMON_REGISTRY_CHALLENGE_H

#include "lib/base/err.h"
#include "lib/base/str.h"

#define CHALLENGE_VALUE_BYTES 2048u

struct challenge {
    bool has_bearer, has_basic;
    char realm[CHALLENGE_VALUE_BYTES]; /* of Bearer, as all below; "" when absent */
    char service[CHALLENGE_VALUE_BYTES];
    char scope[CHALLENGE_VALUE_BYTES];
};

/* Adds what one header's value asks for: several challenges with commas between, parameters as
 * tokens or quoted strings.  What cannot be read ends the reading; a value that is too long counts
 * as absent.  c is zeroed before the first header. */
void challenge_add(struct challenge *c, struct str value);

#endif
