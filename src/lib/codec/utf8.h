/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as the Unicode Standard defines it (no overlong forms, no surrogates, nothing past
 * U+10FFFF).
 *
 * Pure functions on borrowed bytes: any thread. */
#ifndef LIB_CODEC_UTF8_H
#define LIB_CODEC_UTF8_H

#include "lib/base/str.h"

#define UTF8_REPLACEMENT 0xFFFDu
#define UTF8_MAX_BYTES   4

enum utf8_state {
    UTF8_OK,   /* a whole character */
    UTF8_BAD,  /* bytes that no continuation can mend */
    UTF8_SHORT /* the input ends inside what may become a character */
};

/* Reads the character at p[0, n), n > 0.  *ret_len: the bytes it takes; for BAD and SHORT those of
 * the longest run that could have begun a character, at least 1 (the "maximal subpart" of the
 * Unicode Standard, 3.9), which are to be replaced by one U+FFFD.  *ret_cp is U+FFFD then. */
enum utf8_state utf8_next(const char *p, size_t n, uint32_t *ret_cp, size_t *ret_len);

/* Writes cp (<= 0x10FFFF) to out and returns its length, 1 to 4. */
size_t utf8_put(uint32_t cp, char out[UTF8_MAX_BYTES]);

/* Length of the longest valid beginning of s; s.len when all of it is valid. */
size_t utf8_valid_len(struct str s);
static inline bool utf8_is_valid(struct str s)
{
    return utf8_valid_len(s) == s.len;
}

#endif
