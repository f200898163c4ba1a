/* SPDX-License-Identifier: Apache-2.0 */
/* Implements relpath.h. */
#include "lib/codec/relpath.h"

#include "lib/codec/utf8.h"

static bool looks_like_dots(uint32_t c)
{
    return c == '.' || c == 0x2024 || c == 0x2025 || c == 0x2026 || c == 0xFE52 || c == 0xFF0E;
}

/* One part: *at moves to the slash or the end. */
static bool part_is_plain(struct str path, size_t *at, bool is_first)
{
    const size_t from = *at;
    bool is_dots = true;
    while (*at < path.len && path.p[*at] != '/') {
        uint32_t c;
        size_t n;
        if (utf8_next(path.p + *at, path.len - *at, &c, &n) != UTF8_OK)
            return false;
        if (c < ' ' || (c >= 0x7F && c < 0xA0) || c == '\\' || (is_first && c == ':'))
            return false;
        is_dots = is_dots && looks_like_dots(c);
        *at += n;
    }
    return *at > from && !is_dots;
}

bool relpath_is_inside(struct str path, size_t max_bytes)
{
    size_t at = 0;
    if (path.len == 0 || path.len > max_bytes || !part_is_plain(path, &at, true))
        return false;
    while (at < path.len) {
        at++;
        if (!part_is_plain(path, &at, false))
            return false;
    }
    return true;
}
