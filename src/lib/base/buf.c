/* SPDX-License-Identifier: Apache-2.0 */
/* Implements buf.h. */
#include "lib/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes};
}

void buf_release(struct buf *b)
{
    mem_free(b->data);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = 0;
    if (b->data)
        b->data[0] = '\0';
}

static int fail(struct buf *b, enum err_code code)
{
    if (!b->failed)
        b->failed = code;
    return -(int)code;
}

int buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return -b->failed;
    if (n > b->max - b->len)
        return fail(b, E_LIMIT);
    if (b->data && n < b->cap - b->len)
        return 0;
    size_t want = b->len + n + 1;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < want)
        cap = cap > SIZE_MAX / 2 ? want : cap * 2;
    if (cap > b->max + 1 && want <= b->max + 1)
        cap = b->max + 1;
    struct err err = ERR_INIT;
    char *data = mem_try_resize(b->data, cap, 1, &err);
    if (!data)
        return fail(b, E_NOMEM);
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
    int ret = buf_reserve(b, n);
    if (ret < 0)
        return ret;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_append_char(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    int ret;
    if (n < 0) {
        ret = fail(b, E_INTERNAL);
    } else if ((size_t)n < sizeof(small)) {
        ret = buf_append(b, small, (size_t)n);
    } else {
        ret = buf_reserve(b, (size_t)n);
        if (ret == 0) {
            vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
    return ret;
}

void buf_consume(struct buf *b, size_t n)
{
    BUG_ON(n > b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_take(struct buf *b)
{
    char *s = b->data ? b->data : mem_dup("", 0);
    size_t max = b->max;
    buf_init(b, max);
    return s;
}

int buf_status(const struct buf *b, const char *what, struct err *err)
{
    if (!b->failed)
        return 0;
    if (b->failed == E_LIMIT)
        return err_set(err, E_LIMIT, "%s: larger than %zu bytes", what, b->max);
    return err_set(err, (enum err_code)b->failed, "%s: %s", what, err_code_name(b->failed));
}
