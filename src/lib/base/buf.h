/* SPDX-License-Identifier: Apache-2.0 */
/* A growable run of bytes, born with a maximum.  Owns its memory.
 *
 * Appends fail with E_LIMIT past the maximum and E_NOMEM when memory is out, and then leave the
 * buffer as it was but marked `failed`: a writer may append many times and ask buf_status() once at
 * the end. */
#ifndef LIB_BASE_BUF_H
#define LIB_BASE_BUF_H

#include "lib/base/err.h"

struct buf {
    char *data; /* owned; NUL-terminated after every append, NULL while nothing was appended */
    size_t len; /* bytes used */
    size_t cap; /* bytes held */
    size_t max; /* len never passes this */
    int failed; /* enum err_code of the first failed append, or 0 */
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_release(struct buf *b); /* frees; the buf may be used again, with the same maximum */
void buf_clear(struct buf *b);   /* length 0, failure forgotten, memory kept */

/* 0, or the negative code of the failure; b->failed remembers it. */
int buf_append(struct buf *b, const void *p, size_t n);
int buf_append_str(struct buf *b, const char *s);
int buf_append_char(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for n more bytes at data + len; the caller writes them and adds to len. */
int buf_reserve(struct buf *b, size_t n);
/* Removes the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);
/* The contents as a string; never NULL. */
const char *buf_str(const struct buf *b);
/* Moves the memory out: the caller owns the string (never NULL; free with mem_free); the buf is
 * empty again. */
char *buf_take(struct buf *b);

/* 0 if every append worked, else fills err ("what: larger than N bytes") and returns its code. */
int buf_status(const struct buf *b, const char *what, struct err *err) MUST_USE;

#endif
