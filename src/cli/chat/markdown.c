/* SPDX-License-Identifier: Apache-2.0 */
/* Implements markdown.h.
 *
 * A line is held back only as long as it is undecided: its first characters until they can no
 * longer be the mark of a block, and an opening `, * or _ until its partner came, the line ended,
 * or HOLD_MAX bytes went by, which makes it text.  What counts as emphasis follows CommonMark's
 * flanking rules (0.31, 6.2), narrowed: it stays within a line and opens no word in its middle, so
 * that 2*3*4 and snake_case_names survive. */
#include "cli/chat/markdown.h"

#include <string.h>

#include "lib/codec/utf8.h"

#define HOLD_MAX  1024u
#define DEPTH_MAX 4
#define QUOTE_BAR "\xE2\x94\x82 " /* U+2502 */
#define BULLET    "\xE2\x80\xA2"  /* U+2022 */
#define RULE      "\xE2\x94\x80"  /* U+2500 */
#define RULE_LEN  40

void text_put_style(struct buf *out, unsigned style)
{
    static const struct {
        unsigned bit;
        const char *code;
    } codes[] = {{TEXT_BOLD, ";1"},      {TEXT_DIM, ";2"},   {TEXT_ITALIC, ";3"},
                 {TEXT_UNDERLINE, ";4"}, {TEXT_CODE, ";36"}, {TEXT_GREY, ";90"}};
    buf_append_str(out, "\033[0");
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (style & codes[i].bit)
            buf_append_str(out, codes[i].code);
    }
    buf_append_char(out, 'm');
}

/* One character, or U+FFFD for what is none. */
static void put_char(struct buf *out, uint32_t cp, const char *p, size_t n)
{
    char picture[UTF8_MAX_BYTES];
    bool is_override = (cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069);
    if (cp == '\r')
        return;
    if (cp == 0x7F)
        cp = 0x2421;
    else if (cp < 0x20 && cp != '\n' && cp != '\t')
        cp += 0x2400;
    else if ((cp >= 0x80 && cp < 0xA0) || is_override || cp == UTF8_REPLACEMENT)
        cp = UTF8_REPLACEMENT;
    else {
        buf_append(out, p, n);
        return;
    }
    buf_append(out, picture, utf8_put(cp, picture));
}

void text_put_harmless(struct buf *out, const char *p, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t cp;
        utf8_next(p + i, n - i, &cp, &len);
        put_char(out, cp, p + i, len);
    }
}

void markdown_init(struct markdown *m)
{
    *m = (struct markdown){0};
    buf_init(&m->line, 2 * HOLD_MAX);
}

void markdown_release(struct markdown *m)
{
    buf_release(&m->line);
}

static void set_style(struct markdown *m, unsigned style, struct buf *out)
{
    if (m->style != style)
        text_put_style(out, style);
    m->style = style;
}

static bool is_word(uint32_t c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Characters that a backslash makes plain; before others it stands for itself, as in LaTeX. */
static bool is_escapable(char c)
{
    return c && strchr("\\`*_#~", c);
}

static size_t run_of(const char *p, size_t n, char c)
{
    size_t i = 0;
    while (i < n && p[i] == c)
        i++;
    return i;
}

/* Where the run of k marks c closes what begins at p, or n. */
static size_t find_close(const char *p, size_t n, char c, size_t k)
{
    for (size_t i = 0; i < n;) {
        if (p[i] == '\\' && c != '`') {
            i += 2;
            continue;
        }
        size_t run = run_of(p + i, n - i, c);
        bool closes = run == k && i > 0 && (c == '`' || !is_blank(p[i - 1]));
        if (closes && c == '_' && i + k < n && is_word((unsigned char)p[i + k]))
            closes = false;
        if (closes)
            return i;
        i += run ? run : 1;
    }
    return n;
}

static size_t put_inline(struct markdown *m, const char *p, size_t n, bool is_last, unsigned style,
                         int depth, struct buf *out);

/* A run of `, * or _ at p: returns the bytes dealt with, 0 when more must come first. */
static size_t put_mark(struct markdown *m, const char *p, size_t n, bool is_last, unsigned style,
                       int depth, struct buf *out)
{
    char c = p[0];
    size_t k = run_of(p, n, c);
    if (k == n && !is_last)
        return 0;
    bool opens = k < n && (c == '`' || (k <= 3 && !is_blank(p[k]) && !is_word(m->last)));
    size_t len = opens ? find_close(p + k, n - k, c, k) : n;
    /* A run at the very end may grow yet. */
    bool is_closed = opens && len < n - k && (is_last || 2 * k + len < n);
    if (opens && !is_closed && !is_last)
        return 0;
    if (!is_closed || depth == DEPTH_MAX) {
        set_style(m, style, out);
        buf_append(out, p, k);
        m->last = (unsigned char)c;
        return k;
    }
    if (c == '`') {
        set_style(m, style | TEXT_CODE, out);
        text_put_harmless(out, p + k, len);
    } else {
        unsigned more = (k & 1 ? TEXT_ITALIC : 0u) | (k & 2 ? TEXT_BOLD : 0u);
        m->last = 0;
        put_inline(m, p + k, len, true, style | more, depth + 1, out);
    }
    m->last = (unsigned char)c;
    return 2 * k + len;
}

/* Shows the beginning of p that is decided; returns its length, n when is_last. */
static size_t put_inline(struct markdown *m, const char *p, size_t n, bool is_last, unsigned style,
                         int depth, struct buf *out)
{
    size_t i = 0;
    while (i < n) {
        char c = p[i];
        size_t len;
        uint32_t cp;
        if (c == '`' || c == '*' || c == '_') {
            len = put_mark(m, p + i, n - i, is_last, style, depth, out);
            if (len == 0)
                return i;
            i += len;
            continue;
        }
        if (c == '\\' && i + 1 == n && !is_last)
            return i;
        if (c == '\\' && i + 1 < n && is_escapable(p[i + 1]))
            i++;
        if (utf8_next(p + i, n - i, &cp, &len) == UTF8_SHORT && !is_last)
            return i;
        set_style(m, style, out);
        put_char(out, cp, p + i, len);
        m->last = cp;
        i += len;
    }
    return i;
}

/* What the beginning of a line turns out to be. */
enum mark {
    MARK_UNDECIDED,
    MARK_TEXT,
    MARK_HEADING,
    MARK_BULLET,
    MARK_QUOTE,
    MARK_RULE,
    MARK_FENCE
};

/* Looks at the line's first n bytes (without its newline; is_last: it has ended).  *ret_indent is
 * the white space before the mark and *ret_len the bytes of both. */
static enum mark find_mark(const char *p, size_t n, bool is_last, size_t *ret_indent,
                           size_t *ret_len)
{
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\t'))
        i++;
    *ret_indent = *ret_len = i;
    if (i == n)
        return is_last ? MARK_TEXT : MARK_UNDECIDED;
    char c = p[i];
    if (!strchr("#-*+>`~", c) || c == '\0')
        return MARK_TEXT;
    size_t k = run_of(p + i, n - i, c), end = i + k;
    if (end == n && !is_last)
        return MARK_UNDECIDED;
    if (c == '>') {
        *ret_len = i + 1;
        return MARK_QUOTE;
    }
    bool is_spaced = end < n && (p[end] == ' ' || p[end] == '\t');
    *ret_len = end + 1;
    if (c == '#' && k <= 6 && is_spaced)
        return MARK_HEADING;
    if (strchr("-*+", c) && k == 1 && is_spaced)
        return MARK_BULLET;
    *ret_len = n;
    if (k >= 3 && (c == '`' || c == '~')) { /* with its info string, which holds no mark */
        if (memchr(p + end, c, n - end))
            return MARK_TEXT;
        return is_last ? MARK_FENCE : MARK_UNDECIDED;
    }
    if (k >= 3 && (c == '-' || c == '*') && end == n)
        return MARK_RULE;
    return MARK_TEXT;
}

/* Shows the mark that a line begins with; returns its length, and sets in_text when the rest is
 * text. */
static size_t put_mark_of_line(struct markdown *m, bool is_last, struct buf *out)
{
    const char *p = buf_str(&m->line);
    size_t n = m->line.len, indent, len;
    enum mark mark = find_mark(p, n, is_last, &indent, &len);
    if (mark == MARK_UNDECIDED)
        return 0;
    if (mark == MARK_FENCE && m->base) /* in a quote, whose lines all begin with its mark */
        mark = MARK_TEXT;
    m->in_text = mark != MARK_QUOTE;
    if (mark == MARK_TEXT)
        return 0;
    set_style(m, m->base, out);
    buf_append(out, p, indent);
    switch (mark) {
    case MARK_HEADING: m->base |= TEXT_BOLD | (len - indent == 2 ? TEXT_UNDERLINE : 0u); break;
    case MARK_BULLET: buf_append_str(out, BULLET " "); break;
    case MARK_QUOTE:
        set_style(m, m->base | TEXT_DIM, out);
        buf_append_str(out, QUOTE_BAR);
        m->base |= TEXT_ITALIC;
        if (len < n && p[len] == ' ')
            len++;
        break;
    case MARK_RULE:
        set_style(m, TEXT_DIM, out);
        for (int i = 0; i < RULE_LEN; i++)
            buf_append_str(out, RULE);
        break;
    case MARK_FENCE:
        m->fence = p[indent];
        m->fence_len = run_of(p + indent, n - indent, m->fence);
        set_style(m, TEXT_DIM, out);
        text_put_harmless(out, p + indent, n - indent);
        break;
    case MARK_TEXT:
    case MARK_UNDECIDED: break;
    }
    return len;
}

/* Inside a code block: the line is code unless it closes the block, which its beginning tells.
 * Returns the bytes shown. */
static size_t put_code(struct markdown *m, bool is_last, struct buf *out)
{
    const char *p = buf_str(&m->line);
    size_t n = m->line.len, indent = run_of(p, n, ' ');
    size_t k = run_of(p + indent, n - indent, m->fence);
    size_t end = indent + k + run_of(p + indent + k, n - indent - k, ' ');
    if (n == 0 || (!m->in_text && end == n && !is_last))
        return 0;
    if (!m->in_text && end == n && k >= m->fence_len) {
        set_style(m, TEXT_DIM, out);
        m->fence = 0;
    } else {
        set_style(m, TEXT_CODE, out);
        m->in_text = true;
        uint32_t cp;
        size_t len;
        for (size_t back = MIN_OF(n, 3u); back > 0 && !is_last; back--) {
            if (utf8_next(p + n - back, back, &cp, &len) == UTF8_SHORT && len == back) {
                n -= back; /* the rest of the character is to come */
                break;
            }
        }
    }
    text_put_harmless(out, p, n);
    return n;
}

/* Shows what can be shown of the line so far. */
static void advance(struct markdown *m, bool is_last, struct buf *out)
{
    if (m->fence) {
        buf_consume(&m->line, put_code(m, is_last, out));
        return;
    }
    while (!m->in_text && m->line.len) {
        size_t len = put_mark_of_line(m, is_last, out);
        buf_consume(&m->line, len);
        if (len == 0)
            break;
    }
    if (m->in_text && !m->fence)
        buf_consume(&m->line,
                    put_inline(m, buf_str(&m->line), m->line.len, is_last, m->base, 0, out));
}

static void end_line(struct markdown *m, struct buf *out)
{
    advance(m, true, out);
    buf_clear(&m->line);
    set_style(m, 0, out);
    m->base = 0;
    m->last = 0;
    m->in_text = false;
}

void markdown_feed(struct markdown *m, const char *p, size_t n, struct buf *out)
{
    while (n) {
        const char *nl = memchr(p, '\n', n);
        size_t len = MIN_OF(nl ? (size_t)(nl - p) : n, HOLD_MAX);
        while (len < n && len > 1 && p + len != nl && ((unsigned char)p[len] & 0xC0) == 0x80)
            len--; /* between characters */
        buf_append(&m->line, p, len);
        p += len;
        n -= len;
        if (p == nl) {
            end_line(m, out);
            buf_append_char(out, '\n');
            p++;
            n--;
            continue;
        }
        advance(m, false, out);
        if (m->line.len >= HOLD_MAX) { /* nothing is that long: it is text */
            m->in_text = true;
            advance(m, true, out);
        }
    }
}

void markdown_end(struct markdown *m, struct buf *out)
{
    end_line(m, out);
    m->fence = 0;
}
