/* SPDX-License-Identifier: Apache-2.0 */
/* Implements base64.h. */
#include "lib/codec/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str bytes, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = MIN_OF(bytes.len - i, 3);
        uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (n > 2 ? (uint32_t)p[i + 2] : 0);
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63],
                        n > 1 ? alphabet[v >> 6 & 63] : '=', n > 2 ? alphabet[v & 63] : '='};
        buf_append(out, four, 4);
    }
}

static int value_of(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

int base64_decode(struct str text, struct buf *out, struct err *err)
{
    size_t n = text.len;
    while (n && text.len - n < 2 && text.p[n - 1] == '=')
        n--;
    bool ok = text.len % 4 == 0 && n % 4 != 1;
    uint32_t v = 0;
    for (size_t i = 0; ok && i < n; i++) {
        int d = value_of(text.p[i]);
        ok = d >= 0;
        v = v << 6 | (uint32_t)(d & 63);
        size_t have = i % 4; /* after digits 1, 2 and 3 of four one more byte is whole */
        if (ok && have)
            buf_append_char(out, (char)(v >> (6 - 2 * have) & 0xff));
    }
    return ok ? buf_status(out, "base64", err) : err_set(err, E_FORMAT, "it is not base64");
}
