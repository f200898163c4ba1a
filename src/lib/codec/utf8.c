/* SPDX-License-Identifier: Apache-2.0 */
/* Implements utf8.h after table 3-7 of the Unicode Standard ("Well-Formed UTF-8 Byte Sequences").
 */
#include "lib/codec/utf8.h"

/* How many bytes a lead byte announces, and which second bytes may follow it; 0 for what is no lead
 * byte. */
static unsigned lead_length(unsigned char c, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xBF;
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    if (c < 0xE0)
        return 2;
    if (c < 0xF0) {
        if (c == 0xE0)
            *lo = 0xA0; /* shorter forms exist below */
        if (c == 0xED)
            *hi = 0x9F; /* surrogates above */
        return 3;
    }
    if (c == 0xF0)
        *lo = 0x90;
    if (c == 0xF4)
        *hi = 0x8F;
    return 4;
}

enum utf8_state utf8_next(const char *p, size_t n, uint32_t *ret_cp, size_t *ret_len)
{
    const unsigned char *s = (const unsigned char *)p;
    if (s[0] < 0x80) {
        *ret_cp = s[0];
        *ret_len = 1;
        return UTF8_OK;
    }
    unsigned char lo, hi;
    const unsigned len = lead_length(s[0], &lo, &hi);
    *ret_cp = UTF8_REPLACEMENT;
    *ret_len = 1;
    if (len == 0)
        return UTF8_BAD;
    uint32_t cp = s[0] & (0x7Fu >> len);
    for (unsigned i = 1; i < len; i++) {
        if (i >= n)
            return UTF8_SHORT;
        if (s[i] < lo || s[i] > hi)
            return UTF8_BAD;
        cp = cp << 6 | (s[i] & 0x3Fu);
        lo = 0x80;
        hi = 0xBF;
        *ret_len = i + 1;
    }
    *ret_cp = cp;
    return UTF8_OK;
}

size_t utf8_put(uint32_t cp, char out[UTF8_MAX_BYTES])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t utf8_valid_len(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        uint32_t cp;
        size_t len;
        if (utf8_next(s.p + i, s.len - i, &cp, &len) != UTF8_OK)
            return i;
        i += len;
    }
    return s.len;
}
