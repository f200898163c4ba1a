/* SPDX-License-Identifier: Apache-2.0 */
/* A model's answer on its way to a terminal: nothing but berth's own styles may be obeyed there,
 * and what is shown must not depend on the pieces it came in.  The first byte seeds the pieces. */
#include <string.h>

#include "cli/chat/markdown.h"
#include "lib/codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that a terminal obeys is a newline, a tab, or a style that begins with \033[0. */
static void check_harmless(const struct buf *out)
{
    const char *p = buf_str(out);
    size_t len;
    uint32_t cp;
    for (size_t i = 0; i < out->len; i += len) {
        BUG_ON(utf8_next(p + i, out->len - i, &cp, &len) != UTF8_OK);
        if (cp == 0x1B) {
            size_t n = strspn(p + i + 1, "[0123456789;");
            BUG_ON(strncmp(p + i, "\033[0", 3) != 0 || p[i + 1 + n] != 'm');
            len = n + 2;
            continue;
        }
        BUG_ON((cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7F && cp < 0xA0));
        BUG_ON((cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069));
    }
}

static void show(const uint8_t *p, size_t n, uint32_t seed, struct buf *out)
{
    struct markdown m;
    markdown_init(&m);
    while (n) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = seed >> 24 ? MIN_OF(n, (size_t)(seed >> 27) + 1) : n;
        markdown_feed(&m, (const char *)p, k, out);
        p += k;
        n -= k;
    }
    markdown_end(&m, out);
    markdown_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf a, b;
    if (size == 0)
        return 0;
    buf_init(&a, 64u << 20);
    buf_init(&b, 64u << 20);
    show(data + 1, size - 1, data[0], &a);
    show(data + 1, size - 1, data[0] * 31u + 7u, &b);
    check_harmless(&a);
    /* Only a line too long to be held back may be decided by its pieces. */
    bool has_long = false;
    for (size_t i = 1, from = 1; i < size; i++) {
        from = data[i] == '\n' ? i + 1 : from;
        has_long |= i - from > 1000;
    }
    BUG_ON(!has_long && (a.len != b.len || memcmp(buf_str(&a), buf_str(&b), a.len) != 0));
    buf_release(&a);
    buf_release(&b);
    return 0;
}
