/* SPDX-License-Identifier: Apache-2.0 */
/* Implements pre.h: runs a family's steps over class bytes. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/text/tok/pre.h"

#include <pcre2.h>

#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "worker/text/tok/family.h"
#include "worker/text/tok/rules.h"

#define PATTERN_MAX_BYTES 16384u

static void *pcre_alloc(size_t n, void *ctx)
{
    (void)ctx;
    struct err err = ERR_INIT;
    return mem_try_alloc(n, 1, &err);
}

static void pcre_free(void *p, void *ctx)
{
    (void)ctx;
    mem_free(p);
}

/* Class bytes of one category: of every set (set < 0), of those with a bit, or of one. */
static void put_category(struct buf *b, unsigned cat, int set, bool by_bit)
{
    for (int s = 0; s < 8; s++)
        if (set < 0 || (by_bit ? s >> set & 1 : s == set))
            (void)buf_printf(b, "\\x%02x", 0x80u | (unsigned)s << 4 | cat);
}

static void put_categories(struct buf *b, unsigned lo, unsigned hi, int set, bool by_bit)
{
    for (unsigned c = lo; c <= hi; c++)
        put_category(b, c, set, by_bit);
}

/* The names between braces. */
static const struct class_name {
    const char *name, *ascii;
    unsigned lo, hi;
} class_names[] = {
    {"L", "A-Za-z", CAT_LU, CAT_LO},  {"l", "", CAT_LU, CAT_LO},
    {"Lu", "A-Z", CAT_LU, CAT_LU},    {"Ll", "a-z", CAT_LL, CAT_LL},
    {"Lt", "", CAT_LT, CAT_LT},       {"Lm", "", CAT_LM, CAT_LM},
    {"Lo", "", CAT_LO, CAT_LO},       {"M", "", CAT_M, CAT_M},
    {"N", "0-9", CAT_N, CAT_N},       {"P", "!-#%-*,\\-./:;?@\\[\\\\\\]_{}", CAT_P, CAT_P},
    {"S", "$+<=>^`|~", CAT_S, CAT_S}, {"s", "\\t-\\r ", CAT_SPACE, CAT_SPACE},
};

static bool put_class(struct buf *b, struct str name)
{
    if (name.len == 2 && name.p[0] == 'b')
        return put_categories(b, 0, CAT_COUNT - 1, name.p[1] - '0', true), true;
    if (name.len == 2 && name.p[0] == '=')
        return put_categories(b, 0, CAT_COUNT - 1, name.p[1] - '0', false), true;
    /* {Lu=0}: beyond ASCII, of one set */
    const char *eq = memchr(name.p, '=', name.len);
    const struct str head = {name.p, eq ? (size_t)(eq - name.p) : name.len};
    for (size_t i = 0; i < ARRAY_LEN(class_names); i++) {
        const struct class_name *c = &class_names[i];
        if (!str_is(head, c->name))
            continue;
        if (!eq)
            (void)buf_append_str(b, c->ascii);
        put_categories(b, c->lo, c->hi, eq ? eq[1] - '0' : -1, false);
        return true;
    }
    return false;
}

/* Replaces {..} by class bytes; braces that name no class ({1,3}, a plain brace) stay. */
static void expand(struct buf *b, const char *pattern)
{
    for (const char *p = pattern; *p; p++) {
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        if (end && end - p <= 5 && put_class(b, (struct str){p + 1, (size_t)(end - p - 1)}))
            p = end;
        else
            (void)buf_append_char(b, *p);
    }
}

static int compile(const char *pattern, pcre2_general_context *gc, void **ret, struct err *err)
{
    struct buf b;
    buf_init(&b, PATTERN_MAX_BYTES);
    expand(&b, pattern);
    int rc = buf_status(&b, "a pre-tokenizer pattern", err), code = 0;
    size_t at = 0;
    if (rc == 0) {
        pcre2_compile_context *cc = pcre2_compile_context_create(gc);
        *ret = cc ? pcre2_compile((PCRE2_SPTR)b.data, b.len, PCRE2_NO_AUTO_CAPTURE, &code, &at, cc)
                  : NULL;
        pcre2_compile_context_free(cc);
        if (!*ret)
            rc = err_set(
                err, !cc || code == PCRE2_ERROR_HEAP_FAILED || code == 121 ? E_NOMEM : E_INTERNAL,
                "a pre-tokenizer pattern did not compile (code %d at %zu)", code, at);
    }
    buf_release(&b);
    return rc;
}

static bool has_name(const struct tok_family *f, struct str name)
{
    for (const char *p = f->names; *p;) {
        const size_t n = strcspn(p, " ");
        if (str_eq(name, (struct str){p, n}))
            return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

static int unknown_family(struct str name, struct err *err)
{
    struct buf b;
    buf_init(&b, 4096);
    for (size_t i = 0; i < tok_n_families; i++)
        (void)buf_printf(&b, "%s%.*s", i ? " " : "", (int)strcspn(tok_families[i].names, " "),
                         tok_families[i].names);
    int rc = err_set(
        err, E_UNSUPPORTED,
        "the vocabulary's pre-tokenizer '%.*s' (tokenizer.ggml.pre) is unknown; known families: %s",
        (int)MIN_OF(name.len, 64u), name.p ? name.p : "", buf_str(&b));
    buf_release(&b);
    return rc;
}

int tok_pre_init(struct tok_pre *p, struct str name, struct err *err)
{
    memset(p, 0, sizeof(*p));
    for (size_t i = 0; i < tok_n_families && !p->family; i++)
        if (has_name(&tok_families[i], name))
            p->family = &tok_families[i];
    if (!p->family)
        return unknown_family(name, err);
    pcre2_general_context *gc = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!gc)
        return err_set(err, E_NOMEM, "out of memory for the pre-tokenizer");
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < TOK_PRE_STEPS; i++)
        if (p->family->steps[i].kind == STEP_PATTERN)
            rc = compile(p->family->steps[i].pattern, gc, &p->code[i], err);
    pcre2_general_context_free(gc);
    if (rc < 0)
        tok_pre_release(p);
    return rc;
}

void tok_pre_release(struct tok_pre *p)
{
    for (unsigned i = 0; i < TOK_PRE_STEPS; i++)
        pcre2_code_free(p->code[i]);
    memset(p, 0, sizeof(*p));
}

unsigned tok_pre_flags(const struct tok_pre *p)
{
    return p->family ? p->family->flags : 0;
}

void tok_split_init(struct tok_split *s)
{
    memset(s, 0, sizeof(*s));
}

void tok_split_release(struct tok_split *s)
{
    mem_free(s->cls);
    mem_free(s->ends);
    mem_free(s->next);
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    memset(s, 0, sizeof(*s));
}

int tok_split_grow(struct tok_split *s, struct err *err)
{
    const uint32_t cap = s->cap_next ? s->cap_next + s->cap_next / 2 : 256;
    void *p = mem_try_resize(s->next, cap, sizeof(*s->next), err);
    if (!p)
        return -E_NOMEM;
    s->next = p;
    s->cap_next = cap;
    return 0;
}

/* Matching needs memory of its own; its limits only guard against a pattern of ours that goes
 * wrong. */
static int prepare_match(struct tok_split *s, size_t n, struct err *err)
{
    if (!s->match) {
        pcre2_general_context *gc = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
        s->match = gc ? pcre2_match_data_create(1, gc) : NULL;
        s->context = gc ? pcre2_match_context_create(gc) : NULL;
        pcre2_general_context_free(gc);
    }
    if (!s->match || !s->context)
        return err_set(err, E_NOMEM, "out of memory for the pre-tokenizer");
    pcre2_set_heap_limit(s->context, 64u << 10); /* KiB */
    pcre2_set_match_limit(s->context, (uint32_t)MIN_OF(1000000u + 8 * n, UINT32_MAX));
    pcre2_set_depth_limit(s->context, 100000);
    return 0;
}

/* One step by pattern over the piece [from, to). */
static int run_pattern(const pcre2_code *code, struct tok_split *s, uint32_t from, uint32_t to,
                       struct err *err)
{
    const unsigned char *subject = s->cls + from;
    const size_t len = to - from;
    size_t at = 0, last = 0;
    int rc = 0;
    while (rc == 0 && at < len) {
        const int m = pcre2_match(code, subject, len, at, 0, s->match, s->context);
        if (m == PCRE2_ERROR_NOMATCH)
            break;
        if (m < 0)
            return err_set(
                err, m == PCRE2_ERROR_NOMEMORY || m == PCRE2_ERROR_HEAPLIMIT ? E_NOMEM : E_LIMIT,
                "the pre-tokenizer gave up on this text (code %d)", m);
        const size_t *v = pcre2_get_ovector_pointer(s->match);
        if (v[1] == v[0]) { /* nothing matched: no cut */
            at = v[1] + 1;
            continue;
        }
        if (v[0] > last)
            rc = tok_split_cut(s, from + (uint32_t)v[0], err);
        if (rc == 0)
            rc = tok_split_cut(s, from + (uint32_t)v[1], err);
        at = last = v[1];
    }
    if (rc == 0 && last < len)
        rc = tok_split_cut(s, to, err);
    return rc;
}

static int run_step(const struct tok_pre *p, unsigned i, struct tok_split *s, struct err *err)
{
    const struct tok_step *step = &p->family->steps[i];
    uint32_t from = 0;
    int rc = 0;
    s->n_next = 0;
    for (uint32_t k = 0; rc == 0 && k < s->n; k++) {
        const uint32_t to = s->ends[k];
        switch (step->kind) {
        case STEP_GPT2: rc = tok_rule_gpt2(s, from, to, err); break;
        case STEP_WORDS: rc = tok_rule_words(s, from, to, step->arg, err); break;
        case STEP_DIGITS: rc = tok_rule_digits(s, from, to, step->arg, err); break;
        case STEP_PATTERN: rc = run_pattern(p->code[i], s, from, to, err); break;
        case STEP_END: break;
        }
        from = to;
    }
    uint32_t *swap = s->ends;
    s->ends = s->next;
    s->next = swap;
    const uint32_t cap = s->cap_ends;
    s->cap_ends = s->cap_next;
    s->cap_next = cap;
    s->n = s->n_next;
    return rc;
}

/* Writes the class of every character; returns how many there are. */
static uint32_t classify(const struct tok_family *f, struct str text, unsigned char *cls)
{
    uint32_t n = 0, cp;
    for (size_t i = 0; i < text.len;) {
        if ((unsigned char)text.p[i] < 0x80) {
            cls[n++] = (unsigned char)text.p[i++];
            continue;
        }
        size_t len;
        if (utf8_next(text.p + i, text.len - i, &cp, &len) != UTF8_OK)
            len = 1; /* each byte that is no character counts as U+FFFD */
        cls[n++] = tok_class(cp, f->ranges, f->n_ranges);
        i += len;
    }
    return n;
}

/* Piece ends in characters to lengths in bytes. */
static void ends_to_bytes(struct tok_split *s, struct str text)
{
    uint32_t at = 0;
    size_t byte = 0;
    for (uint32_t k = 0; k < s->n; k++) {
        const size_t start = byte;
        for (; at < s->ends[k]; at++) {
            uint32_t cp;
            size_t len = 1;
            if ((unsigned char)text.p[byte] >= 0x80 &&
                utf8_next(text.p + byte, text.len - byte, &cp, &len) != UTF8_OK)
                len = 1;
            byte += len;
        }
        s->ends[k] = (uint32_t)(byte - start);
    }
    s->bytes = s->ends;
}

int tok_pre_split(const struct tok_pre *p, struct str text, struct tok_split *s, struct err *err)
{
    s->n = 0;
    if (text.len == 0)
        return 0;
    if (text.len > LIMIT_TEXT_BYTES)
        return err_set(err, E_LIMIT, "the text has %zu bytes; the limit is %u", text.len,
                       LIMIT_TEXT_BYTES);
    if (text.len > s->cap_cls) {
        void *q = mem_try_resize(s->cls, text.len, 1, err);
        if (!q)
            return -E_NOMEM;
        s->cls = q;
        s->cap_cls = (uint32_t)text.len;
    }
    const uint32_t n = classify(p->family, text, s->cls);
    s->n_next = 0;
    int rc = prepare_match(s, n, err);
    if (rc == 0)
        rc = tok_split_cut(s, n, err); /* one piece, which the steps cut */
    if (rc == 0) {
        uint32_t *swap = s->ends;
        const uint32_t cap = s->cap_ends;
        s->ends = s->next;
        s->next = swap;
        s->cap_ends = s->cap_next;
        s->cap_next = cap;
        s->n = 1;
    }
    for (unsigned i = 0; rc == 0 && i < TOK_PRE_STEPS && p->family->steps[i].kind != STEP_END; i++)
        rc = run_step(p, i, s, err);
    if (rc == 0)
        ends_to_bytes(s, text);
    else
        s->n = 0;
    return rc;
}
