/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the other half of httpd_parse.h: bodies in chunks (RFC 9112, 7.1).  Extensions and
 * trailers are checked, counted and dropped. */
#include <string.h>

#include "lib/base/limits.h"
#include "lib/net/httpd_parse.h"

enum {
    K_SIZE,      /* the first digit */
    K_SIZE_MORE, /* others, or what follows */
    K_EXT_NAME,
    K_EXT_NAME_MORE,
    K_EXT_VALUE,
    K_EXT_VALUE_MORE,
    K_EXT_QUOTED,
    K_EXT_ESCAPED,
    K_EXT_END, /* after a closing quote */
    K_SIZE_LF,
    K_DATA,
    K_DATA_CR,
    K_DATA_LF,
    K_TRAILER, /* a line's first byte */
    K_TRAILER_NAME,
    K_TRAILER_VALUE,
    K_TRAILER_LF,
    K_END_LF
};

void http_chunked_init(struct http_chunked *c)
{
    *c = (struct http_chunked){.state = K_SIZE};
}

static int fail(struct http_chunked *c, const char *why)
{
    c->why = why;
    return 400;
}

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 127);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The size's line and what comes after its digits; c is the byte. */
static int size_byte(struct http_chunked *k, char c)
{
    int digit = k->state <= K_SIZE_MORE ? hex_digit(c) : -1;
    if (digit >= 0) {
        if (k->left >> 60)
            return fail(k, "a chunk of the body has a size beyond 64 bits");
        k->left = k->left << 4 | (uint64_t)digit;
        k->state = K_SIZE_MORE;
        return HTTP_MORE;
    }
    bool may_end = k->state == K_SIZE_MORE || k->state == K_EXT_NAME_MORE ||
                   k->state == K_EXT_VALUE_MORE || k->state == K_EXT_END;
    if (may_end && c == '\r') {
        k->state = K_SIZE_LF;
    } else if (may_end && c == ';') {
        k->state = K_EXT_NAME;
    } else if (k->state == K_EXT_NAME_MORE && c == '=') {
        k->state = K_EXT_VALUE;
    } else if (k->state == K_EXT_VALUE && c == '"') {
        k->state = K_EXT_QUOTED;
    } else if (k->state == K_EXT_QUOTED && c == '"') {
        k->state = K_EXT_END;
    } else if (k->state == K_EXT_QUOTED && c == '\\') {
        k->state = K_EXT_ESCAPED;
    } else if ((k->state == K_EXT_QUOTED || k->state == K_EXT_ESCAPED) && is_text(c)) {
        k->state = K_EXT_QUOTED;
    } else if (k->state >= K_EXT_NAME && k->state <= K_EXT_VALUE_MORE && is_token(c)) {
        k->state = k->state <= K_EXT_NAME_MORE ? K_EXT_NAME_MORE : K_EXT_VALUE_MORE;
    } else {
        return fail(k, "a chunk of the body has a malformed size line");
    }
    return HTTP_MORE;
}

static int trailer_byte(struct http_chunked *k, char c)
{
    switch (k->state) {
    case K_TRAILER:
        if (c == '\r') {
            k->state = K_END_LF;
            return HTTP_MORE;
        }
        if (!is_token(c) || ++k->n_trailers > LIMIT_HTTP_HEADERS)
            return fail(k, "the body's trailer is malformed or has more than 128 lines");
        k->state = K_TRAILER_NAME;
        return HTTP_MORE;
    case K_TRAILER_NAME:
        if (c != ':' && !is_token(c))
            return fail(k, "the body's trailer is malformed");
        k->state = c == ':' ? K_TRAILER_VALUE : K_TRAILER_NAME;
        return HTTP_MORE;
    case K_TRAILER_VALUE:
        if (c != '\r' && !is_text(c))
            return fail(k, "the body's trailer is malformed");
        k->state = c == '\r' ? K_TRAILER_LF : K_TRAILER_VALUE;
        return HTTP_MORE;
    default: /* K_TRAILER_LF */
        if (c != '\n')
            return fail(k, "the body's trailer is malformed");
        k->state = K_TRAILER;
        return HTTP_MORE;
    }
}

static int one_byte(struct http_chunked *k, char c)
{
    bool is_size = k->state <= K_SIZE_LF, is_extra = k->state > K_DATA_LF;
    if (is_size && ++k->line_bytes > LIMIT_HTTP_CHUNK_LINE_BYTES)
        return fail(k, "a chunk of the body has a size line longer than 256 bytes");
    if ((k->state >= K_EXT_NAME && k->state <= K_EXT_END) || is_extra)
        k->extra_bytes++;
    if (k->extra_bytes > LIMIT_HTTP_CHUNK_EXTRA_BYTES)
        return fail(k, "the body's chunk extensions and trailers are larger than 8 KiB");
    switch (k->state) {
    case K_SIZE_LF:
        if (c != '\n')
            return fail(k, "a chunk of the body has a malformed size line");
        k->line_bytes = 0;
        k->state = k->left ? K_DATA : K_TRAILER;
        return HTTP_MORE;
    case K_DATA_CR:
    case K_DATA_LF:
        if (c != (k->state == K_DATA_CR ? '\r' : '\n'))
            return fail(k, "a chunk of the body is longer than its size says");
        k->state = k->state == K_DATA_CR ? K_DATA_LF : K_SIZE;
        return HTTP_MORE;
    case K_END_LF: return c == '\n' ? HTTP_DONE : fail(k, "the body's trailer is malformed");
    default: return is_size ? size_byte(k, c) : trailer_byte(k, c);
    }
}

int http_chunked_feed(struct http_chunked *c, const char *p, size_t n, size_t *ret_used,
                      struct str *ret_data)
{
    size_t i = 0;
    int rc = HTTP_MORE;
    *ret_data = (struct str){NULL, 0};
    while (i < n && rc == HTTP_MORE) {
        if (c->state == K_DATA) {
            size_t run = c->left < n - i ? (size_t)c->left : n - i;
            *ret_data = (struct str){p + i, run};
            c->left -= run;
            c->in_data = c->left > 0;
            if (c->left == 0)
                c->state = K_DATA_CR;
            i += run;
            break;
        }
        rc = one_byte(c, p[i++]);
        if (c->state == K_DATA) {
            c->in_data = true;
            break;
        }
    }
    *ret_used = i;
    return rc;
}
