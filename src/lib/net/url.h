/* SPDX-License-Identifier: Apache-2.0 */
/* http and https addresses, taken apart and put together (RFC 3986), more strictly than a browser:
 * no user names, no backslashes, nothing but printable ASCII.  So nobody else who reads the same
 * text can see another host in it.  Plain values; any thread. */
#ifndef LIB_NET_URL_H
#define LIB_NET_URL_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define URL_HOST_CHARS 255u
#define URL_BYTES      8192u /* the longest that is taken */

struct url {
    bool is_https;
    char host[URL_HOST_CHARS + 1]; /* lower case; a v6 address without its brackets */
    bool is_v6;
    uint16_t port;
    struct str target; /* borrowed: path and query, "" or begins with '/' or '?'; no fragment */
};

/* E_INVALID names what is wrong with it. */
int url_parse(struct str text, struct url *ret, struct err *err) MUST_USE;
/* Same scheme, host and port. */
bool url_same_origin(const struct url *a, const struct url *b);
/* Appends "https://host:port", the port left away where it is the scheme's own. */
void url_put_origin(const struct url *u, struct buf *out);
/* Appends what ref means where base was asked for (RFC 3986, 5.2, without dot segments, which are
 * refused).  E_INVALID. */
int url_resolve(const struct url *base, struct str ref, struct buf *out, struct err *err) MUST_USE;
/* Appends s with all but letters, digits, "-._~" and what keep has as %XX. */
void url_put_escaped(struct str s, const char *keep, struct buf *out);

#endif
