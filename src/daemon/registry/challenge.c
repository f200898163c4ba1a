/* SPDX-License-Identifier: Apache-2.0 */
/* Implements challenge.h. */
#include "daemon/registry/challenge.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_space(struct str *s)
{
    while (s->len && (s->p[0] == ' ' || s->p[0] == '\t'))
        *s = (struct str){s->p + 1, s->len - 1};
}

static struct str take_token(struct str *s)
{
    struct str t = {s->p, 0};
    while (t.len < s->len && is_token_char(s->p[t.len]))
        t.len++;
    *s = (struct str){s->p + t.len, s->len - t.len};
    return t;
}

/* A token or a quoted string into out; false when it is neither, or does not end.  Longer than out:
 * read to its end, and "". */
static bool take_value(struct str *s, char out[CHALLENGE_VALUE_BYTES])
{
    size_t n = 0, i = 1;
    bool fits = true;
    out[0] = '\0';
    if (s->len == 0 || s->p[0] != '"') {
        struct str t = take_token(s);
        fits = t.len < CHALLENGE_VALUE_BYTES;
        memcpy(out, t.p, fits ? t.len : 0);
        out[fits ? t.len : 0] = '\0';
        return t.len > 0;
    }
    for (; i < s->len && s->p[i] != '"'; i++) {
        if (s->p[i] == '\\' && i + 1 < s->len)
            i++;
        fits = fits && n + 1 < CHALLENGE_VALUE_BYTES && (unsigned char)s->p[i] >= ' ';
        if (fits)
            out[n++] = s->p[i];
    }
    if (i >= s->len)
        return false;
    out[fits ? n : 0] = '\0';
    *s = (struct str){s->p + i + 1, s->len - i - 1};
    return true;
}

static void note_param(struct challenge *c, struct str name, const char *value)
{
    static const struct {
        const char *name;
        size_t at;
    } known[] = {{"realm", offsetof(struct challenge, realm)},
                 {"service", offsetof(struct challenge, service)},
                 {"scope", offsetof(struct challenge, scope)}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (name.len == strlen(known[i].name) && strncasecmp(name.p, known[i].name, name.len) == 0)
            memcpy((char *)c + known[i].at, value, strlen(value) + 1);
    }
}

void challenge_add(struct challenge *c, struct str s)
{
    bool is_bearer = false;
    char value[CHALLENGE_VALUE_BYTES];
    for (;;) {
        while (s.len && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == ','))
            s = (struct str){s.p + 1, s.len - 1};
        struct str name = take_token(&s);
        if (name.len == 0)
            return;
        skip_space(&s);
        if (s.len && s.p[0] == '=') { /* a parameter of the challenge begun */
            s = (struct str){s.p + 1, s.len - 1};
            skip_space(&s);
            if (!take_value(&s, value))
                return;
            if (is_bearer)
                note_param(c, name, value);
            continue;
        }
        is_bearer = name.len == 6 && strncasecmp(name.p, "Bearer", 6) == 0 && !c->has_bearer;
        c->has_bearer |= is_bearer;
        c->has_basic |= name.len == 5 && strncasecmp(name.p, "Basic", 5) == 0;
    }
}
