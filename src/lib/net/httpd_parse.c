/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the head's half of httpd_parse.h: request line, fields, framing, target. */
#include "lib/net/httpd_parse.h"

#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

enum { T = 1, U = 2, V = 4 };

/* What a byte may be part of: T, a token (RFC 9110, 5.6.2); U, a target (visible ASCII but "#": a
 * little more than RFC 3986 has, because clients send it); V, a field's value (RFC 9110, 5.5). */
static const uint8_t class_of[256] = {
    ['\t'] = V,
    [' '] = V,
    ['!'] = T | U | V,
    ['"'] = U | V,
    ['#'] = T | V,
    ['$' ... '\''] = T | U | V,
    ['('] = U | V,
    [')'] = U | V,
    ['*'] = T | U | V,
    ['+'] = T | U | V,
    [','] = U | V,
    ['-'] = T | U | V,
    ['.'] = T | U | V,
    ['/'] = U | V,
    ['0' ... '9'] = T | U | V,
    [':' ... '@'] = U | V,
    ['A' ... 'Z'] = T | U | V,
    ['[' ... ']'] = U | V,
    ['^' ... 'z'] = T | U | V,
    ['{'] = U | V,
    ['|'] = T | U | V,
    ['}'] = U | V,
    ['~'] = T | U | V,
    [128 ... 255] = V,
};

static bool is_class(char c, unsigned wanted)
{
    return (class_of[(unsigned char)c] & wanted) != 0;
}

enum {
    H_START,
    H_START_LF,
    H_METHOD,
    H_TARGET,
    H_VERSION,
    H_LINE_LF,
    H_NAME_START,
    H_NAME,
    H_VALUE_START,
    H_VALUE,
    H_VALUE_LF,
    H_END_LF
};

void http_head_init(struct http_head *h)
{
    *h = (struct http_head){.state = H_START};
    /* Every byte kept came in; a NUL ends each piece, of which there are two for each line. */
    buf_init(&h->text, LIMIT_HTTP_MEMORY_PER_CONN + 2 * LIMIT_HTTP_HEADERS + 16);
}

void http_head_release(struct http_head *h)
{
    buf_release(&h->text);
    mem_free(h->fields);
    h->fields = NULL;
    h->n_fields = h->cap_fields = 0;
}

bool http_head_has_method(const struct http_head *h)
{
    return h->state > H_METHOD;
}

bool http_head_is_empty(const struct http_head *h)
{
    return h->state <= H_START_LF;
}

const char *http_head_method(const struct http_head *h)
{
    return buf_str(&h->text);
}

const char *http_head_target(const struct http_head *h)
{
    return buf_str(&h->text) + h->target;
}

const char *http_head_get(const struct http_head *h, const char *name)
{
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (strcasecmp(h->text.data + h->fields[i].name, name) == 0)
            return h->text.data + h->fields[i].value;
    }
    return NULL;
}

static int fail(struct http_head *h, int status, const char *why)
{
    h->why = why;
    return status;
}

static int fail_byte(struct http_head *h, char c, const char *why)
{
    if (c == '\n')
        return fail(h, 400, "a line of the request's head ends in a bare LF instead of CR LF");
    if (c == '\r')
        return fail(h, 400, "the request's head has a CR that does not end a line");
    if (c == '\0')
        return fail(h, 400, "the request's head has a NUL byte");
    return fail(h, 400, why);
}

static int fail_size(struct http_head *h)
{
    switch (h->state) {
    case H_METHOD: return fail(h, 400, "the request's method is longer than any that exists");
    case H_TARGET: return fail(h, 414, "the request's target is longer than 8192 bytes");
    default: return fail(h, 431, "the request's head is larger than 32 KiB");
    }
}

static int fail_memory(struct http_head *h)
{
    return fail(h, 503, "no memory for the request's head");
}

/* Bytes that may still come in this state before something is too long. */
static size_t room(const struct http_head *h)
{
    size_t n = LIMIT_HTTP_MEMORY_PER_CONN - h->n_bytes;
    if (h->state == H_METHOD)
        n = MIN_OF(n, LIMIT_HTTP_METHOD_BYTES - (h->text.len - h->mark));
    else if (h->state == H_TARGET)
        n = MIN_OF(n, LIMIT_HTTP_TARGET_BYTES - (h->text.len - h->mark));
    return n;
}

/* How many of n bytes this state simply keeps. */
static size_t run_length(const struct http_head *h, const char *p, size_t n)
{
    unsigned wanted = h->state == H_METHOD || h->state == H_NAME ? T
                      : h->state == H_TARGET                     ? U
                      : h->state == H_VALUE                      ? V
                                                                 : 0;
    size_t i = 0;
    while (wanted && i < n && is_class(p[i], wanted))
        i++;
    return i;
}

/* Ends the piece that began at mark; the next begins where it ended. */
static int end_piece(struct http_head *h)
{
    if (buf_append_char(&h->text, '\0') < 0)
        return fail_memory(h);
    h->mark = (uint32_t)h->text.len;
    return HTTP_MORE;
}

static int field_begin(struct http_head *h, char c)
{
    if (h->n_fields == LIMIT_HTTP_HEADERS)
        return fail(h, 431, "the request has more than 128 header lines");
    if (h->n_fields == h->cap_fields) {
        struct err err = ERR_INIT;
        uint32_t cap = h->cap_fields ? 2 * h->cap_fields : 16;
        struct http_field *more = mem_try_resize(h->fields, cap, sizeof(*more), &err);
        if (!more)
            return fail_memory(h);
        h->fields = more;
        h->cap_fields = cap;
    }
    h->fields[h->n_fields].name = h->mark;
    h->state = H_NAME;
    return buf_append_char(&h->text, c) < 0 ? fail_memory(h) : HTTP_MORE;
}

static int field_end(struct http_head *h)
{
    struct buf *t = &h->text;
    while (t->len > h->mark && (t->data[t->len - 1] == ' ' || t->data[t->len - 1] == '\t'))
        t->data[--t->len] = '\0';
    h->fields[h->n_fields++].value = h->mark;
    h->state = H_VALUE_LF;
    return end_piece(h);
}

static bool has_item(const char *list, const char *item)
{
    size_t n = strlen(item);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, " \t,");
        if (len == n && strncasecmp(list, item, n) == 0)
            return true;
        list += len;
    }
    return false;
}

static bool read_length(const char *s, uint64_t *ret)
{
    *ret = 0;
    if (!*s || strlen(s) > 18)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        *ret = *ret * 10 + (uint64_t)(*s - '0');
    }
    return true;
}

/* RFC 9112, 3.2 (Host), 6.1 to 6.3 (lengths), 9.3 (persistence); RFC 9110, 10.1.1 (Expect). */
static int head_end(struct http_head *h)
{
    unsigned n_host = 0, n_length = 0, n_encoding = 0;
    bool bad_length = false, bad_encoding = false, bad_expect = false;
    for (uint32_t i = 0; i < h->n_fields; i++) {
        const char *name = h->text.data + h->fields[i].name,
                   *value = h->text.data + h->fields[i].value;
        if (strcasecmp(name, "host") == 0) {
            n_host++;
        } else if (strcasecmp(name, "content-length") == 0) {
            n_length++;
            bad_length |= !read_length(value, &h->length);
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            n_encoding++;
            bad_encoding |= strcasecmp(value, "chunked") != 0;
        } else if (strcasecmp(name, "connection") == 0) {
            h->wants_close |= has_item(value, "close");
            h->wants_keep_alive |= has_item(value, "keep-alive");
        } else if (strcasecmp(name, "expect") == 0) {
            h->wants_continue = true;
            bad_expect |= strcasecmp(value, "100-continue") != 0;
        }
    }
    h->has_length = n_length > 0;
    h->is_chunked = n_encoding > 0;
    if (n_host > 1 || (n_host == 0 && !h->is_1_0))
        return fail(h, 400, "the request must have exactly one Host header");
    if (n_length > 1 || bad_length)
        return fail(h, 400,
                    "the request must have at most one Content-Length, and it a plain number");
    if (n_encoding && n_length)
        return fail(h, 400, "the request has both Content-Length and Transfer-Encoding");
    if (n_encoding > 1 || bad_encoding)
        return fail(h, 501, "the only Transfer-Encoding understood is chunked");
    if (n_encoding && h->is_1_0)
        return fail(h, 400, "an HTTP/1.0 request cannot have a Transfer-Encoding");
    if (bad_expect)
        return fail(h, 417, "the only expectation understood is 100-continue");
    h->wants_continue &= !h->is_1_0;
    return HTTP_DONE;
}

static int line_end(struct http_head *h)
{
    const char *v = h->version;
    if (strcmp(v, "HTTP/1.1") == 0 || strcmp(v, "HTTP/1.0") == 0) {
        h->is_1_0 = v[7] == '0';
        h->state = H_LINE_LF;
        return HTTP_MORE;
    }
    if (strlen(v) == 8 && strncmp(v, "HTTP/", 5) == 0 && v[5] >= '0' && v[5] <= '9' &&
        v[6] == '.' && v[7] >= '0' && v[7] <= '9')
        return fail(h, 505, "this server speaks HTTP/1.1");
    return fail(h, 400, "the request line must end in HTTP/1.1");
}

static int start_byte(struct http_head *h, char c)
{
    if (h->state == H_START_LF) {
        h->state = H_START;
        return c == '\n' ? HTTP_MORE : fail_byte(h, '\r', "");
    }
    if (c == '\r' && !h->skipped_line) { /* one empty line before it: RFC 9112, 2.2 */
        h->skipped_line = true;
        h->state = H_START_LF;
        return HTTP_MORE;
    }
    if (c == 0x16)
        return fail(h, 400, "this is TLS, and this port speaks plain HTTP: use http:// instead");
    if (!is_class(c, T))
        return fail_byte(h, c, "the request does not begin with a method");
    h->state = H_METHOD;
    return buf_append_char(&h->text, c) < 0 ? fail_memory(h) : HTTP_MORE;
}

static int line_byte(struct http_head *h, char c)
{
    if (h->state == H_METHOD) {
        if (c != ' ')
            return fail_byte(h, c, "the request's method is not a word");
        h->state = H_TARGET;
        int rc = end_piece(h);
        h->target = h->mark;
        return rc;
    }
    if (h->state == H_TARGET) {
        if (c != ' ' || h->text.len == h->mark)
            return fail_byte(h, c,
                             (unsigned char)c >= 128
                                 ? "the request's target must be ASCII: percent-encode the rest"
                                 : "the request's target is malformed");
        h->state = H_VERSION;
        return end_piece(h);
    }
    size_t n = strlen(h->version);
    if (c == '\r')
        return line_end(h);
    if (c <= ' ' || c == 127 || n + 1 == sizeof(h->version))
        return fail_byte(h, c, "the request line must end in HTTP/1.1");
    h->version[n] = c;
    return HTTP_MORE;
}

static int field_byte(struct http_head *h, char c)
{
    switch (h->state) {
    case H_NAME_START:
        if (c == '\r') {
            h->state = H_END_LF;
            return HTTP_MORE;
        }
        if (c == ' ' || c == '\t')
            return fail(h, 400, "the request has a header line that begins with white space");
        if (!is_class(c, T))
            return fail_byte(h, c, "the request has a malformed header name");
        return field_begin(h, c);
    case H_NAME:
        if (c != ':')
            return fail_byte(h, c, "the request has a malformed header name");
        h->state = H_VALUE_START;
        return end_piece(h);
    case H_VALUE_START:
        if (c == ' ' || c == '\t')
            return HTTP_MORE;
        if (c == '\r')
            return field_end(h);
        if (!is_class(c, V))
            return fail_byte(h, c, "the request has a control byte in a header");
        h->state = H_VALUE;
        return buf_append_char(&h->text, c) < 0 ? fail_memory(h) : HTTP_MORE;
    default: /* H_VALUE */
        if (c == '\r')
            return field_end(h);
        return fail_byte(h, c, "the request has a control byte in a header");
    }
}

static int one_byte(struct http_head *h, char c)
{
    switch (h->state) {
    case H_START:
    case H_START_LF: return start_byte(h, c);
    case H_METHOD:
    case H_TARGET:
    case H_VERSION: return line_byte(h, c);
    case H_LINE_LF:
    case H_VALUE_LF:
        if (c != '\n')
            return fail_byte(h, '\r', "");
        h->state = H_NAME_START;
        return HTTP_MORE;
    case H_END_LF: return c == '\n' ? head_end(h) : fail_byte(h, '\r', "");
    default: return field_byte(h, c);
    }
}

int http_head_feed(struct http_head *h, const char *p, size_t n, size_t *ret_used)
{
    size_t i = 0;
    int rc = HTTP_MORE;
    while (i < n && rc == HTTP_MORE) {
        size_t max = MIN_OF(room(h), n - i), run = run_length(h, p + i, max);
        if (run > 0) {
            if (buf_append(&h->text, p + i, run) < 0)
                rc = fail_memory(h);
            i += run;
            h->n_bytes += (uint32_t)run;
        } else if (h->n_bytes == LIMIT_HTTP_MEMORY_PER_CONN ||
                   (max == 0 && run_length(h, p + i, 1))) {
            rc = fail_size(h);
        } else {
            h->n_bytes++;
            rc = one_byte(h, p[i++]);
        }
    }
    *ret_used = i;
    return rc;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a percent-encoded text at *s, which moves on; -1 for a bad escape or NUL. */
static int decode_byte(const char **s, const char *end)
{
    const char *p = *s;
    if (*p != '%') {
        *s = p + 1;
        return (unsigned char)*p;
    }
    int hi = end - p > 2 ? hex_digit(p[1]) : -1, lo = hi < 0 ? -1 : hex_digit(p[2]);
    *s = p + 3;
    return lo < 0 || (hi | lo) == 0 ? -1 : hi << 4 | lo;
}

bool http_decode_value(const char *s, size_t n, char *out)
{
    for (const char *end = s + n; s < end;) {
        bool plus = *s == '+';
        int c = decode_byte(&s, end);
        if (c < 0)
            return false;
        *out++ = plus ? ' ' : (char)c;
    }
    *out = '\0';
    return true;
}

/* The origin-form of a target.  An absolute one must name the Host that is asked; NULL for one that
 * does not, and for forms that are for proxies. */
static const char *origin_form(const struct http_head *h)
{
    const char *t = http_head_target(h), *host = http_head_get(h, "host");
    if (*t == '/')
        return t;
    size_t skip = strncasecmp(t, "http://", 7) == 0    ? 7
                  : strncasecmp(t, "https://", 8) == 0 ? 8
                                                       : 0;
    size_t n = strcspn(t + skip, "/?");
    if (skip == 0 || n == 0 || !host || strlen(host) != n || strncasecmp(t + skip, host, n) != 0)
        return NULL;
    t += skip + n;
    return *t ? t : "/";
}

bool http_head_path(const struct http_head *h, char *out, const char **ret_query)
{
    const char *t = origin_form(h), *query;
    size_t len = 0;
    *ret_query = "";
    if (!t && strcmp(http_head_target(h), "*") == 0 && strcmp(http_head_method(h), "OPTIONS") == 0)
        t = "*";
    if (!t)
        return false;
    query = t + strcspn(t, "?");
    if (*query)
        *ret_query = query + 1;
    if (query == t)
        out[len++] = '/';
    while (t < query) {
        int c = decode_byte(&t, query);
        if (c < 0)
            return false;
        if (c != '/' || len == 0 || out[len - 1] != '/')
            out[len++] = (char)c;
    }
    out[len] = '\0';
    return true;
}
