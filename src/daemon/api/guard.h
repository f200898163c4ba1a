/* SPDX-License-Identifier: Apache-2.0 */
/* Who may speak to the daemon: by which name it may be called, from which pages, with which key.
 *
 * guard.c applies it to requests; the rules below it (guard_rules.c) know no HTTP.  The guard is
 * made at the start and never changes; keys change inside struct keys.  Any thread. */
#ifndef DAEMON_API_GUARD_H
#define DAEMON_API_GUARD_H

#include "daemon/api/keys.h"

struct watch;

struct guard_config {
    /* Comma-separated names and addresses that the Host header may hold besides localhost and
     * loopback: what is listened on, and --allowed-hosts; "*": any.  NULL: none. */
    const char *bound, *allowed_hosts;
    /* Listening on every address: any number may stand in Host, since no name server can make a
     * browser write one that is not its page's own. */
    bool any_address;
    const char *allowed_origins; /* comma-separated; NULL or "": none but this machine's own */
    struct keys *keys;           /* borrowed; NULL: nobody is asked for a key */
    struct watch *watch;         /* borrowed, told of refusals; may be NULL */
};

struct guard;

/* E_INVALID names the entry of allowed_hosts or allowed_origins that is none. */
int guard_new(const struct guard_config *cfg, struct guard **ret, struct err *err) MUST_USE;
void guard_free(struct guard *g);

struct keys *guard_keys(const struct guard *g); /* NULL: no keys; g may be NULL */

/* Whether a Host header names this daemon. */
bool guard_host_is_ours(const struct guard *g, const char *host);

enum guard_origin {
    GUARD_ORIGIN_FOREIGN,
    GUARD_ORIGIN_LOCAL,  /* a page of this machine, or of this very address */
    GUARD_ORIGIN_LISTED, /* by name or pattern: may also send credentials */
    GUARD_ORIGIN_ANY     /* the list has "*" */
};
/* host: the Host header, already found to be ours; may be NULL. */
enum guard_origin guard_origin(const struct guard *g, const char *origin, const char *host);

/* Copies the header names of an Access-Control-Request-Headers into out, those that are tokens
 * (RFC 9110 section 5.6.2), as many as fit. */
void guard_header_names(const char *asked, char *out, size_t size);

/* What a client presents as its key: "Bearer K" of Authorization, else the value of X-Api-Key or
 * api-key; any may be NULL.  False when there is none, or one of another scheme. */
bool guard_presented(const char *authorization, const char *x_api_key, const char *api_key,
                     struct str *ret);

/* A request without a good key came from address; true when there have been too many of late, so
 * that it is told to wait.  now_ms: monotonic. */
bool guard_too_many(struct guard *g, const char *address, uint64_t now_ms);

#endif
