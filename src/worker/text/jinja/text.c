/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of a rendering: building them with their input marks, characters, letter case, search. */
#include <utf8proc.h>

#include "lib/base/mem.h"
#include "worker/text/jinja/runtime.h"

/* White space of Python's str.isspace (Unicode: bidirectional type WS, B or S, or category Zs). */
bool is_py_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

uint32_t char_next(const char *p, size_t len, size_t *pos)
{
    const unsigned char *s = (const unsigned char *)p + *pos;
    size_t left = len - *pos;
    if (left == 0)
        return 0;
    if (s[0] < 0x80) {
        *pos += 1;
        return s[0];
    }
    unsigned n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc0 || n > left) { /* never in valid text */
        *pos += 1;
        return 0xfffd;
    }
    uint32_t c = s[0] & (0xffu >> (n + 1));
    for (unsigned i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3f);
    *pos += n;
    return c;
}

unsigned char_put(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    unsigned n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> n) | c);
    return n;
}

bool text_is_utf8(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = (unsigned char)s.p[i] < 0x80
                                 ? 1
                                 : utf8proc_iterate((const utf8proc_uint8_t *)s.p + i,
                                                    (utf8proc_ssize_t)(s.len - i), &c);
        if (n <= 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

size_t char_count(const char *p, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)p[i] & 0xc0) != 0x80;
    return n;
}

void sb_init(struct sb *b, struct rt *rt)
{
    *b = (struct sb){.rt = rt};
}

static bool sb_room(struct sb *b, size_t n)
{
    if (b->failed)
        return false;
    if (n <= b->cap - b->len)
        return true;
    size_t cap = b->cap ? b->cap * 2 : 64;
    while (cap - b->len < n)
        cap *= 2; /* n is far below SIZE_MAX / 4: the arena refuses first */
    char *p =
        n > LIMIT_TEMPLATE_MEMORY_BYTES ? NULL : arena_try_alloc(&b->rt->arena, cap, b->rt->err);
    if (!p) {
        if (n > LIMIT_TEMPLATE_MEMORY_BYTES)
            rt_fail(b->rt, E_LIMIT, "a string needs more than %u bytes of memory",
                    LIMIT_TEMPLATE_MEMORY_BYTES);
        b->failed = -b->rt->err->code;
        return false;
    }
    if (b->len)
        memcpy(p, b->p, b->len);
    b->p = p;
    b->cap = cap;
    return true;
}

static bool sb_mark(struct sb *b, size_t end, bool is_input)
{
    if (b->n_marks && b->marks[b->n_marks - 1].is_input == is_input) {
        b->marks[b->n_marks - 1].end = end;
        return true;
    }
    if (b->n_marks == b->cap_marks) {
        uint32_t cap = b->cap_marks ? b->cap_marks * 2 : 4;
        struct mark *v = rt_alloc(b->rt, cap, sizeof(*v));
        if (!v) {
            b->failed = -b->rt->err->code;
            return false;
        }
        if (b->n_marks)
            memcpy(v, b->marks, b->n_marks * sizeof(*v));
        b->marks = v;
        b->cap_marks = cap;
    }
    b->marks[b->n_marks++] = (struct mark){end, is_input};
    return true;
}

void sb_put(struct sb *b, const char *p, size_t n, bool is_input)
{
    if (n == 0 || !sb_room(b, n) || !sb_mark(b, b->len + n, is_input))
        return;
    memcpy(b->p + b->len, p, n);
    b->len += n;
}

void sb_lit(struct sb *b, const char *s)
{
    sb_put(b, s, strlen(s), false);
}

void sb_char(struct sb *b, uint32_t c, bool is_input)
{
    char tmp[4];
    sb_put(b, tmp, char_put(c, tmp), is_input);
}

/* Index of the mark that covers pos. */
static uint32_t mark_at(const struct jstr *s, size_t pos)
{
    uint32_t lo = 0, hi = s->n_marks;
    while (lo + 1 < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->marks[mid - 1].end <= pos)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

bool jstr_input_at(const struct jstr *s, size_t pos)
{
    return s->n_marks ? s->marks[mark_at(s, pos)].is_input : s->all_input;
}

bool jstr_has_input(const struct jstr *s)
{
    return s->n_marks ? true : s->all_input && s->len > 0;
}

void sb_sub(struct sb *b, const struct jstr *s, size_t from, size_t to)
{
    if (!s->n_marks) {
        sb_put(b, s->p + from, to - from, s->all_input);
        return;
    }
    for (uint32_t k = mark_at(s, from); from < to && k < s->n_marks; k++) {
        size_t end = MIN_OF(to, s->marks[k].end);
        sb_put(b, s->p + from, end - from, s->marks[k].is_input);
        from = end;
    }
}

void sb_str(struct sb *b, const struct jstr *s)
{
    sb_sub(b, s, 0, s->len);
}

void sb_fill(struct sb *b, const char *p, size_t n, size_t times, bool is_input)
{
    uint64_t total;
    if (!size_mul(n, times, &total) || total > LIMIT_TEMPLATE_MEMORY_BYTES) {
        if (!b->failed)
            b->failed = rt_fail(b->rt, E_LIMIT, "a string needs more than %u bytes of memory",
                                LIMIT_TEMPLATE_MEMORY_BYTES);
        return;
    }
    if (!total || !sb_room(b, total) || !sb_mark(b, b->len + total, is_input))
        return;
    for (size_t i = 0; i < times; i++, b->len += n)
        memcpy(b->p + b->len, p, n);
}

void sb_mark_all(struct sb *b)
{
    for (uint32_t i = 0; i < b->n_marks; i++)
        if (b->marks[i].is_input) {
            b->marks[0] = (struct mark){b->len, true};
            b->n_marks = 1;
            return;
        }
}

int sb_finish(struct sb *b, struct value *out)
{
    if (b->failed)
        return b->failed;
    TRY(rt_charge(b->rt, b->len));
    struct jstr *s = rt_alloc(b->rt, 1, sizeof(*s));
    if (!s)
        return -b->rt->err->code;
    *s = (struct jstr){.p = b->p ? b->p : "", .len = b->len, .n_chars = SIZE_MAX};
    if (b->n_marks == 1) {
        s->all_input = b->marks[0].is_input;
    } else if (b->n_marks) {
        s->marks = b->marks;
        s->n_marks = b->n_marks;
    }
    *out = value_str(s);
    return 0;
}

size_t jstr_chars(struct jstr *s)
{
    if (s->n_chars == SIZE_MAX)
        s->n_chars = char_count(s->p, s->len);
    return s->n_chars;
}

size_t jstr_byte_of(struct jstr *s, size_t n_chars)
{
    if (n_chars >= jstr_chars(s))
        return s->len;
    if (s->n_chars == s->len)
        return n_chars;
    size_t pos = 0;
    while (n_chars--)
        char_next(s->p, s->len, &pos);
    return pos;
}

int str_sub(struct rt *rt, const struct jstr *s, size_t from, size_t to, struct value *out)
{
    struct jstr *r = rt_alloc(rt, 1, sizeof(*r));
    if (!r)
        return -rt->err->code;
    *r = (struct jstr){.p = s->p + from,
                       .len = to - from,
                       .n_chars = SIZE_MAX,
                       .all_input = s->all_input,
                       .is_markup = s->is_markup};
    if (s->n_marks && to > from) {
        uint32_t a = mark_at(s, from), z = mark_at(s, to - 1);
        struct mark *m = rt_alloc(rt, z - a + 1, sizeof(*m));
        if (!m)
            return -rt->err->code;
        for (uint32_t i = a; i <= z; i++)
            m[i - a] = (struct mark){MIN_OF(s->marks[i].end, to) - from, s->marks[i].is_input};
        if (a == z) {
            r->all_input = m[0].is_input;
        } else {
            r->marks = m;
            r->n_marks = z - a + 1;
        }
    }
    *out = value_str(r);
    return rt_step(rt, 1);
}

int str_new(struct rt *rt, const char *p, size_t n, struct value *out)
{
    struct sb b;
    sb_init(&b, rt);
    sb_put(&b, p, n, false);
    return sb_finish(&b, out);
}

int str_lit(struct rt *rt, const char *s, struct value *out)
{
    return str_new(rt, s, strlen(s), out);
}

bool jstr_is(const struct jstr *s, const char *lit)
{
    return str_is(jstr_str(s), lit);
}

size_t str_find(struct str hay, struct str needle, size_t from)
{
    if (from > hay.len)
        return SIZE_MAX;
    if (needle.len == 0)
        return from;
    const char *at = memmem(hay.p + from, hay.len - from, needle.p, needle.len);
    return at ? (size_t)(at - hay.p) : SIZE_MAX;
}

int str_rfind(struct rt *rt, struct str hay, struct str needle, size_t end, size_t *ret)
{
    *ret = SIZE_MAX;
    if (needle.len > end)
        return 0;
    TRY(rt_charge(rt, end));
    for (size_t at = end - needle.len + 1; at-- > 0;) {
        if (needle.len && hay.p[at] != needle.p[0])
            continue;
        if (needle.len > 1)
            TRY(rt_charge(rt, needle.len)); /* what "aaaa…" in "aaaa…" costs */
        if (memcmp(hay.p + at, needle.p, needle.len) == 0) {
            *ret = at;
            return 0;
        }
    }
    return 0;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

bool char_is_alpha(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
bool char_is_decimal(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ND;
}
bool char_is_digit(uint32_t c)
{
    return char_is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468);
}
bool char_is_numeric(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
bool char_is_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= 0x20;
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CN && (k < UTF8PROC_CATEGORY_ZS || k > UTF8PROC_CATEGORY_CO);
}
bool char_is_lower(uint32_t c)
{
    return c < 0x80 ? c >= 'a' && c <= 'z' : utf8proc_islower((utf8proc_int32_t)c) != 0;
}
bool char_is_upper(uint32_t c)
{
    return c < 0x80 ? c >= 'A' && c <= 'Z' : utf8proc_isupper((utf8proc_int32_t)c) != 0;
}
bool char_is_cased(uint32_t c)
{
    return char_is_lower(c) || char_is_upper(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

/* Letters whose capital is several letters (Unicode SpecialCasing.txt); title: only the first is a
 * capital. */
static const char *special_upper(uint32_t c, bool title)
{
    switch (c) {
    case 0xdf: return title ? "Ss" : "SS";
    case 0x149: return "\xca\xbcN";
    case 0x1f0: return "J\xcc\x8c";
    case 0x587: return title ? "\xd4\xb5\xd6\x82" : "\xd4\xb5\xd5\x92";
    case 0xfb00: return title ? "Ff" : "FF";
    case 0xfb01: return title ? "Fi" : "FI";
    case 0xfb02: return title ? "Fl" : "FL";
    case 0xfb03: return title ? "Ffi" : "FFI";
    case 0xfb04: return title ? "Ffl" : "FFL";
    case 0xfb05:
    case 0xfb06: return title ? "St" : "ST";
    default: return NULL;
    }
}

/* A sigma at the end of a word is written differently (SpecialCasing.txt, Final_Sigma). */
static bool is_final_sigma(const struct jstr *s, size_t at, size_t after)
{
    size_t p = at;
    while (p > 0) {
        do
            p--;
        while (p > 0 && ((unsigned char)s->p[p] & 0xc0) == 0x80);
        size_t q = p;
        uint32_t c = char_next(s->p, s->len, &q);
        if (char_is_cased(c))
            break;
        if (c != '\'' && c != 0xad && category(c) != UTF8PROC_CATEGORY_MN)
            return false;
        if (p == 0)
            return false;
    }
    if (at == 0)
        return false;
    size_t q = after;
    uint32_t c = q < s->len ? char_next(s->p, s->len, &q) : 0;
    return !char_is_cased(c);
}

void sb_case(struct sb *b, const struct jstr *s, size_t from, size_t to, enum case_op op)
{
    for (size_t i = from; i < to && !b->failed;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        bool in = jstr_input_at(s, at);
        const char *many =
            op == CASE_UPPER || op == CASE_TITLE ? special_upper(c, op == CASE_TITLE) : NULL;
        if (many)
            sb_put(b, many, strlen(many), in);
        else if (op == CASE_UPPER)
            sb_char(b, (uint32_t)utf8proc_toupper((utf8proc_int32_t)c), in);
        else if (op == CASE_TITLE)
            sb_char(b, (uint32_t)utf8proc_totitle((utf8proc_int32_t)c), in);
        else if (op == CASE_LOWER && c == 0x130)
            sb_put(b, "i\xcc\x87", 3, in);
        else if (op == CASE_LOWER && c == 0x3a3)
            sb_char(b, is_final_sigma(s, at, i) ? 0x3c2 : 0x3c3, in);
        else if (op == CASE_FOLD && c >= 0x80) {
            utf8proc_int32_t d[8];
            int last = 0;
            utf8proc_ssize_t n =
                utf8proc_decompose_char((utf8proc_int32_t)c, d, 8, UTF8PROC_CASEFOLD, &last);
            for (utf8proc_ssize_t k = 0; k < n && k < 8; k++)
                sb_char(b, (uint32_t)d[k], in);
        } else
            sb_char(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c), in);
    }
}
