/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes with its length: not NUL-terminated, may hold any byte. */
#ifndef LIB_BASE_STR_H
#define LIB_BASE_STR_H

#include <string.h>

#include "lib/base/compiler.h"

struct str {
    const char *p; /* borrowed; may be NULL when len is 0 */
    size_t len;
};

#define STR_LIT(s) ((struct str){(s), sizeof(s) - 1})
/* For printf's "%.*s". */
#define STR_ARG(s) (int)((s).len > 4096 ? 4096 : (s).len), ((s).p ? (s).p : "")

static inline struct str str_from(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
static inline bool str_is(struct str a, const char *b)
{
    return str_eq(a, str_from(b));
}
static inline bool str_has_prefix(struct str s, struct str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}
static inline bool str_has_suffix(struct str s, struct str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.p + s.len - suffix.len, suffix.p, suffix.len) == 0);
}

#endif
