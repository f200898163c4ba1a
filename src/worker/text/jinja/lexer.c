/* SPDX-License-Identifier: Apache-2.0 */
/* Template source to tokens, with trim_blocks and lstrip_blocks on, as Jinja2's documented lexical
 * rules say.
 *
 * Owns nothing: tokens and texts go to the program's arena.  Called by jinja_compile only. */
#include <math.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "lib/base/mem.h"
#include "worker/text/jinja/ast.h"

struct lexer {
    struct jinja *j;
    struct str src; /* newlines normalised */
    size_t pos;
    uint32_t line;
    bool at_line_start; /* the last thing matched ended in a newline */
    struct token *toks;
    size_t n, cap;
    char *open; /* brackets waiting for their partners */
    size_t n_open, cap_open;
    struct err *err;
};

static bool push(struct lexer *x, struct token t)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 64;
        struct token *v = arena_try_alloc(&x->j->arena, cap * sizeof(*v), x->err);
        if (!v)
            return false;
        if (x->n)
            memcpy(v, x->toks, x->n * sizeof(*v));
        x->toks = v;
        x->cap = cap;
    }
    x->toks[x->n++] = t;
    return true;
}

static bool push_type(struct lexer *x, enum tok type)
{
    return push(x, (struct token){.type = type, .line = x->line});
}

static bool fail(struct lexer *x, const char *what)
{
    err_set(x->err, E_FORMAT, "line %u: %s", x->line, what);
    return false;
}

static void count_lines(struct lexer *x, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        x->line += x->src.p[i] == '\n';
}

static bool is_at(const struct lexer *x, size_t pos, const char *s)
{
    size_t n = strlen(s);
    return pos + n <= x->src.len && memcmp(x->src.p + pos, s, n) == 0;
}

static size_t skip_space(const struct lexer *x, size_t pos)
{
    while (pos < x->src.len) {
        size_t next = pos;
        if (!is_py_space(char_next(x->src.p, x->src.len, &next)))
            break;
        pos = next;
    }
    return pos;
}

/* Where the text from..to ends once its trailing white space is gone. */
static size_t rstrip_to(const struct lexer *x, size_t from, size_t to)
{
    while (to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)x->src.p[at] & 0xc0) == 0x80)
            at--;
        size_t next = at;
        if (!is_py_space(char_next(x->src.p, x->src.len, &next)))
            break;
        to = at;
    }
    return to;
}

/* lstrip_blocks: white space between the line's start and the tag goes. */
static size_t lstrip_to(const struct lexer *x, size_t from, size_t to)
{
    size_t line = to;
    while (line > from && x->src.p[line - 1] != '\n')
        line--;
    if ((line > from || x->at_line_start) && line < to && rstrip_to(x, line, to) == line)
        return line;
    return to;
}

/* The text before a tag whose sign is '-', '+' or 0. */
static bool push_data(struct lexer *x, size_t from, size_t to, char sign, bool is_variable)
{
    size_t end = to;
    if (sign == '-')
        end = rstrip_to(x, from, to);
    else if (sign != '+' && !is_variable)
        end = lstrip_to(x, from, to);
    if (end > from &&
        !push(x, (struct token){
                     .type = T_DATA, .line = x->line, .text = {x->src.p + from, end - from}}))
        return false;
    count_lines(x, from, to);
    return true;
}

static char sign_at(const struct lexer *x, size_t pos)
{
    return pos < x->src.len && (x->src.p[pos] == '-' || x->src.p[pos] == '+') ? x->src.p[pos] : 0;
}

static void advance(struct lexer *x, size_t to)
{
    count_lines(x, x->pos, to);
    x->at_line_start = to > x->pos ? x->src.p[to - 1] == '\n' : x->at_line_start;
    x->pos = to;
}

/* Past "+%}", "-%}" and white space, or "%}" and one newline; 0 when none stands there.  close:
 * "%}" or "#}". */
static size_t block_end(const struct lexer *x, size_t pos, const char *close)
{
    if (is_at(x, pos, close)) {
        pos += 2;
        return pos < x->src.len && x->src.p[pos] == '\n' ? pos + 1 : pos;
    }
    if (sign_at(x, pos) && is_at(x, pos + 1, close))
        return x->src.p[pos] == '-' ? skip_space(x, pos + 3) : pos + 3;
    return 0;
}

/* Length of "{%- raw -%}" at pos, or 0. */
static size_t raw_begin(const struct lexer *x, size_t pos)
{
    size_t p = pos + 2;
    p += sign_at(x, p) != 0;
    p = skip_space(x, p);
    if (!is_at(x, p, "raw"))
        return 0;
    p = skip_space(x, p + 3);
    if (is_at(x, p, "%}"))
        return p + 2 - pos;
    if (is_at(x, p, "-%}"))
        return skip_space(x, p + 3) - pos;
    return 0;
}

static bool lex_raw(struct lexer *x)
{
    for (size_t p = x->pos; p < x->src.len; p++) {
        if (!is_at(x, p, "{%"))
            continue;
        char sign = sign_at(x, p + 2);
        size_t q = skip_space(x, p + 2 + (sign != 0));
        if (!is_at(x, q, "endraw"))
            continue;
        size_t end = block_end(x, skip_space(x, q + 6), "%}");
        if (!end)
            continue;
        size_t from = x->pos;
        if (!push_data(x, from, p, sign, false))
            return false;
        x->pos = p;
        advance(x, end);
        return true;
    }
    return x->pos >= x->src.len ||
           fail(x, "missing end of raw block"); /* at the very end Jinja2 lets it pass */
}

static bool lex_comment(struct lexer *x)
{
    for (size_t p = x->pos; p < x->src.len; p++) {
        size_t end = block_end(x, p, "#}");
        if (end) {
            advance(x, end);
            return true;
        }
    }
    return x->pos >= x->src.len || fail(x, "missing end of comment tag");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* (\d+_)*\d+ from pos; returns the end or pos. */
static size_t digits(const struct lexer *x, size_t pos)
{
    size_t p = pos, end = pos;
    while (p < x->src.len &&
           (is_digit(x->src.p[p]) || (x->src.p[p] == '_' && p > pos && x->src.p[p - 1] != '_'))) {
        if (is_digit(x->src.p[p]))
            end = p + 1;
        p++;
    }
    return end;
}

static size_t float_end(const struct lexer *x, size_t pos)
{
    const char *s = x->src.p;
    size_t n = x->src.len, p = digits(x, pos), frac = 0;
    if (p == pos || (pos && s[pos - 1] == '.'))
        return pos;
    if (p + 1 < n && s[p] == '.' && is_digit(s[p + 1]))
        p = frac = digits(x, p + 1);
    if (p < n && (s[p] == 'e' || s[p] == 'E')) {
        size_t q = p + 1;
        q += q < n && (s[q] == '+' || s[q] == '-');
        size_t e = digits(x, q);
        if (e > q)
            return e;
    }
    return frac ? frac : pos;
}

static size_t copy_digits(char *out, size_t cap, const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] != '_' && k + 1 < cap)
            out[k++] = s[i];
    out[k] = 0;
    return k;
}

static bool lex_float(struct lexer *x, size_t end)
{
    char tmp[512];
    if (end - x->pos >= sizeof(tmp))
        return fail(x, "a number is longer than 511 characters");
    copy_digits(tmp, sizeof(tmp), x->src.p + x->pos, end - x->pos);
    struct token t = {.type = T_FLOAT, .line = x->line, .f = strtod(tmp, NULL)};
    advance(x, end);
    return push(x, t);
}

static size_t int_end(const struct lexer *x, size_t pos, int *base)
{
    const char *s = x->src.p;
    size_t n = x->src.len;
    *base = 10;
    if (s[pos] == '0' && pos + 1 < n) {
        char c = (char)(s[pos + 1] | 0x20);
        int b = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
        size_t p = pos + 2, end = pos;
        while (b && p < n) {
            size_t q = p + (s[p] == '_');
            char d = q < n ? (char)(s[q] | 0x20) : 0;
            int v = q < n && is_digit(s[q]) ? s[q] - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : 99;
            if (v >= b)
                break;
            end = p = q + 1;
        }
        if (end > pos) {
            *base = b;
            return end;
        }
    }
    size_t p = pos + 1;
    while (p < n) {
        size_t q = p + (s[p] == '_');
        if (q >= n || !is_digit(s[q]) || (s[pos] == '0' && s[q] != '0'))
            break;
        p = q + 1;
    }
    return p;
}

static bool lex_int(struct lexer *x)
{
    int base;
    size_t end = int_end(x, x->pos, &base), from = x->pos + (base != 10 ? 2 : 0);
    uint64_t v = 0;
    for (size_t i = from; i < end; i++) {
        char c = x->src.p[i];
        if (c == '_')
            continue;
        int d = is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
        uint64_t m;
        if (!size_mul(v, (uint64_t)base, &m) || !size_add(m, (uint64_t)d, &v) || v > INT64_MAX) {
            err_set(x->err, E_LIMIT, "line %u: an integer is larger than 64 bits", x->line);
            return false;
        }
    }
    struct token t = {.type = T_INT, .line = x->line, .i = (int64_t)v};
    advance(x, end);
    return push(x, t);
}

static bool is_word(uint32_t c, bool first)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
               (!first && c >= '0' && c <= '9');
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL: return true;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC: return !first;
    default: return false;
    }
}

static bool lex_name(struct lexer *x)
{
    size_t p = x->pos;
    while (p < x->src.len) {
        size_t next = p;
        if (!is_word(char_next(x->src.p, x->src.len, &next), p == x->pos))
            break;
        p = next;
    }
    struct token t = {.type = T_NAME, .line = x->line, .text = {x->src.p + x->pos, p - x->pos}};
    advance(x, p);
    return push(x, t);
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One escape of Python's string literals at s[*i] (just after the backslash); writes its bytes. */
static bool unescape(struct lexer *x, const char *s, size_t n, size_t *i, char *out, size_t *k)
{
    char c = s[(*i)++];
    static const char FROM[] = "abfnrtv\\'\"", TO[] = "\a\b\f\n\r\t\v\\'\"";
    const char *f = c ? strchr(FROM, c) : NULL;
    uint32_t v = 0;
    int n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c == '\n')
        return true;
    if (f) {
        out[(*k)++] = TO[f - FROM];
        return true;
    }
    if (c == 'N')
        return fail(x, "character names (\\N) are not supported in strings");
    if (c >= '0' && c <= '7') {
        v = (uint32_t)(c - '0');
        for (int d = 0; d < 2 && *i < n && s[*i] >= '0' && s[*i] <= '7'; d++)
            v = v * 8 + (uint32_t)(s[(*i)++] - '0');
    } else if (n_hex) {
        for (int d = 0; d < n_hex; d++) {
            int h = *i < n ? hex_digit(s[*i]) : -1;
            if (h < 0)
                return fail(x, "truncated escape in a string");
            v = v * 16 + (uint32_t)h;
            (*i)++;
        }
        if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
            return fail(x, "an escape in a string names no character");
    } else {
        out[(*k)++] = '\\'; /* not an escape: both characters stay */
        out[(*k)++] = c;
        return true;
    }
    *k += char_put(v, out + *k);
    return true;
}

static bool lex_string(struct lexer *x)
{
    char quote = x->src.p[x->pos];
    size_t p = x->pos + 1;
    while (p < x->src.len && x->src.p[p] != quote)
        p += x->src.p[p] == '\\' ? 2 : 1;
    if (p >= x->src.len)
        return fail(x, "a string is not closed");
    const char *s = x->src.p + x->pos + 1;
    size_t n = p - x->pos - 1, k = 0;
    char *out = arena_try_alloc(&x->j->arena, 2 * n + 1, x->err);
    if (!out)
        return false;
    for (size_t i = 0; i < n;) {
        if (s[i] != '\\') {
            out[k++] = s[i++];
        } else {
            i++;
            if (!unescape(x, s, n, &i, out, &k))
                return false;
        }
    }
    struct token t = {.type = T_STRING, .line = x->line, .text = {out, k}};
    advance(x, p + 1);
    return push(x, t);
}

static const struct {
    const char *s;
    enum tok t;
} OPERATORS[] = {
    /* longest first */
    {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
    {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
    {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
    {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
    {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
    {";", T_SEMICOLON},
};

const char *tok_name(enum tok t)
{
    static const char *const NAMES[] = {
        [T_EOF] = "end of template", [T_DATA] = "text",       [T_BLOCK_BEGIN] = "{%",
        [T_BLOCK_END] = "%}",        [T_VAR_BEGIN] = "{{",    [T_VAR_END] = "}}",
        [T_NAME] = "a name",         [T_STRING] = "a string", [T_INT] = "an integer",
        [T_FLOAT] = "a float",       [T_IN] = "in",           [T_NOTIN] = "not in"};
    for (size_t i = 0; i < ARRAY_LEN(OPERATORS); i++)
        if (OPERATORS[i].t == t)
            return OPERATORS[i].s;
    return t < ARRAY_LEN(NAMES) && NAMES[t] ? NAMES[t] : "?";
}

static bool open_bracket(struct lexer *x, char partner)
{
    if (x->n_open == x->cap_open) {
        size_t cap = x->cap_open ? x->cap_open * 2 : 64;
        char *v = arena_try_alloc(&x->j->arena, cap, x->err);
        if (!v)
            return false;
        if (x->n_open)
            memcpy(v, x->open, x->n_open);
        x->open = v;
        x->cap_open = cap;
    }
    x->open[x->n_open++] = partner;
    return true;
}

static bool lex_operator(struct lexer *x)
{
    for (size_t i = 0; i < ARRAY_LEN(OPERATORS); i++) {
        if (!is_at(x, x->pos, OPERATORS[i].s))
            continue;
        char c = OPERATORS[i].s[0];
        enum tok t = OPERATORS[i].t;
        if (t == T_LBRACE || t == T_LPAREN || t == T_LBRACKET) {
            if (!open_bracket(x, c == '{' ? '}' : c == '(' ? ')' : ']'))
                return false;
        } else if (t == T_RBRACE || t == T_RPAREN || t == T_RBRACKET) {
            if (!x->n_open || x->open[--x->n_open] != c)
                return fail(x, "a closing bracket has no partner");
        }
        if (!push_type(x, t))
            return false;
        advance(x, x->pos + strlen(OPERATORS[i].s));
        return true;
    }
    err_set(x->err, E_FORMAT, "line %u: unexpected character '%.1s'", x->line, x->src.p + x->pos);
    return false;
}

/* The inside of {{ }} or {% %}. */
static bool lex_tag(struct lexer *x, bool is_variable)
{
    x->n_open = 0;
    while (x->pos < x->src.len) {
        size_t end = 0;
        if (!x->n_open && is_variable && is_at(x, x->pos, "-}}"))
            end = skip_space(x, x->pos + 3);
        else if (!x->n_open && is_variable && is_at(x, x->pos, "}}"))
            end = x->pos + 2;
        else if (!x->n_open && !is_variable)
            end = block_end(x, x->pos, "%}");
        if (end) {
            bool ok = push_type(x, is_variable ? T_VAR_END : T_BLOCK_END);
            advance(x, end);
            return ok;
        }
        size_t next = x->pos, f;
        uint32_t c = char_next(x->src.p, x->src.len, &next);
        bool ok = true;
        if (is_py_space(c))
            advance(x, skip_space(x, x->pos));
        else if ((f = float_end(x, x->pos)) > x->pos)
            ok = lex_float(x, f);
        else if (c < 0x80 && is_digit((char)c))
            ok = lex_int(x);
        else if (is_word(c, true))
            ok = lex_name(x);
        else if (c == '\'' || c == '"')
            ok = lex_string(x);
        else
            ok = lex_operator(x);
        if (!ok)
            return false;
    }
    return true; /* the parser meets the end and says so */
}

/* Text up to the next tag, and that tag. */
static bool lex_root(struct lexer *x)
{
    size_t from = x->pos, p = from;
    while (p < x->src.len && !(is_at(x, p, "{%") || is_at(x, p, "{{") || is_at(x, p, "{#")))
        p++;
    if (p == x->src.len) {
        bool ok = push(
            x,
            (struct token){.type = T_DATA, .line = x->line, .text = {x->src.p + from, p - from}});
        advance(x, p);
        return ok;
    }
    char kind = x->src.p[p + 1], sign = sign_at(x, p + 2);
    size_t raw = kind == '%' ? raw_begin(x, p) : 0;
    if (!push_data(x, from, p, sign, kind == '{'))
        return false;
    x->pos = p;
    if (raw) {
        advance(x, p + raw);
        return lex_raw(x);
    }
    advance(x, p + 2 + (sign != 0));
    if (kind == '#')
        return lex_comment(x);
    return push_type(x, kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN) && lex_tag(x, kind == '{');
}

/* \r\n and \r become \n; one newline at the very end goes. */
static bool normalise(struct lexer *x, struct str source)
{
    char *p = arena_try_alloc(&x->j->arena, source.len + 1, x->err);
    size_t k = 0;
    if (!p)
        return false;
    for (size_t i = 0; i < source.len; i++) {
        char c = source.p[i];
        if (c == '\r') {
            c = '\n';
            i += i + 1 < source.len && source.p[i + 1] == '\n';
        }
        p[k++] = c;
    }
    if (k && p[k - 1] == '\n')
        k--;
    x->src = (struct str){p, k};
    return true;
}

int jinja_lex(struct jinja *j, struct str source, struct token **ret_toks, size_t *ret_n,
              struct err *err)
{
    struct lexer x = {.j = j, .line = 1, .at_line_start = true, .err = err};
    if (!text_is_utf8(source))
        return err_set(err, E_FORMAT, "the template is not valid UTF-8");
    if (!normalise(&x, source))
        return -err->code;
    while (x.pos < x.src.len)
        if (!lex_root(&x))
            return -err->code;
    if (!push_type(&x, T_EOF))
        return -err->code;
    *ret_toks = x.toks;
    *ret_n = x.n;
    return 0;
}
