/* SPDX-License-Identifier: Apache-2.0 */
/* The strict reader of HTTP/1.1 requests (RFC 9112): heads and chunked bodies, fed in any pieces.
 *
 * Pure: no input or output, no clock, no lock; one thread at a time for each object.  What could be
 * read in two ways is refused with the status that says so, because a proxy in front of us might
 * have read it the other way.  Whatever the cuts, the same bytes give the same result. */
#ifndef LIB_NET_HTTPD_PARSE_H
#define LIB_NET_HTTPD_PARSE_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define HTTP_MORE 0 /* well so far */
#define HTTP_DONE 1 /* complete; anything larger is the status of a refusal */

struct http_field {
    uint32_t name, value; /* where they stand in text */
};

struct http_head {
    struct buf text;           /* owned: method, target and fields, each ended by a NUL */
    struct http_field *fields; /* owned */
    uint32_t n_fields, cap_fields;
    uint32_t target; /* where it stands in text; the method is at 0 */
    uint32_t n_bytes, mark;
    uint8_t state;
    char version[9];
    bool skipped_line;
    const char *why; /* the sentence of a refusal; static */
    /* Once complete: */
    bool is_1_0, is_chunked, has_length, wants_continue, wants_close, wants_keep_alive;
    uint64_t length; /* has_length */
};

void http_head_init(struct http_head *h);
void http_head_release(struct http_head *h);
/* HTTP_MORE with every byte used, HTTP_DONE with *ret_used up to the empty line's end, or the
 * status of a refusal with h->why; nothing may be fed after that. */
int http_head_feed(struct http_head *h, const char *p, size_t n, size_t *ret_used) MUST_USE;
/* Whether the method is there, which it is before the whole head is. */
bool http_head_has_method(const struct http_head *h);
bool http_head_is_empty(const struct http_head *h); /* no byte came, or an empty line only */
const char *http_head_method(const struct http_head *h);
const char *http_head_target(const struct http_head *h);
/* The first field of that name, in any case of letters; NULL when absent. */
const char *http_head_get(const struct http_head *h, const char *name);

/* The path of a complete head's target percent-decoded into out (as large as the target), "//" as
 * "/"; *ret_query: the rest after "?", raw.  False for a target that names none: a bad escape, a
 * NUL, another host's URL.  RFC 9112, 3.2. */
bool http_head_path(const struct http_head *h, char *out, const char **ret_query);
/* Percent-decodes n bytes into out (n + 1 bytes), "+" as a space; false for a bad escape or NUL. */
bool http_decode_value(const char *s, size_t n, char *out);

struct http_chunked {
    uint64_t left; /* data bytes of this chunk to come */
    uint32_t line_bytes, extra_bytes, n_trailers;
    uint8_t state;
    bool in_data; /* left is the whole of what is left, not the digits so far */
    const char *why;
};

void http_chunked_init(struct http_chunked *c);
/* As http_head_feed; returns after each size line and each run of data, which *ret_data borrows
 * from p (empty: none). HTTP_MORE may leave bytes unused: feed them next. */
int http_chunked_feed(struct http_chunked *c, const char *p, size_t n, size_t *ret_used,
                      struct str *ret_data) MUST_USE;

#endif
