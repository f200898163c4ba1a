/* SPDX-License-Identifier: Apache-2.0 */
/* Ids back to text, whole and streaming.  The two give the same text, but that streaming never lets
 * go of half a character. */
#include "lib/base/limits.h"
#include "lib/codec/utf8.h"
#include "worker/text/tok/tok.h"

/* Where bytes go: straight out, or through d's holding of unfinished characters. */
struct sink {
    struct buf *out;
    struct detok *d; /* NULL: straight out */
};

static void put_held(struct sink *k)
{
    struct detok *d = k->d;
    while (d->n_held) {
        uint32_t cp;
        size_t len;
        const enum utf8_state st = utf8_next((const char *)d->held, d->n_held, &cp, &len);
        if (st == UTF8_SHORT)
            return;
        char c[UTF8_MAX_BYTES];
        (void)buf_append(k->out, c, utf8_put(cp, c)); /* U+FFFD for what is no character */
        d->n_held -= (unsigned)len;
        memmove(d->held, d->held + len, d->n_held);
    }
}

static void put_bytes(struct sink *k, const char *p, size_t n)
{
    if (!k->d) {
        (void)buf_append(k->out, p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (k->d->n_held == 0 && (unsigned char)p[i] < 0x80) {
            (void)buf_append_char(k->out, p[i]);
            continue;
        }
        k->d->held[k->d->n_held++] = (unsigned char)p[i];
        put_held(k);
    }
}

/* A spelling with U+2581 for spaces. */
static void put_spaced(struct sink *k, struct str s)
{
    for (size_t i = 0; i < s.len;) {
        if (s.len - i >= TOK_SPACE_LEN && memcmp(s.p + i, TOK_SPACE, TOK_SPACE_LEN) == 0) {
            put_bytes(k, " ", 1);
            i += TOK_SPACE_LEN;
        } else {
            put_bytes(k, s.p + i++, 1);
        }
    }
}

/* A spelling in the byte alphabet; what is not of it stands for itself. */
static void put_alphabet(struct sink *k, struct str s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t len;
        const enum utf8_state st = utf8_next(s.p + i, s.len - i, &cp, &len);
        const int byte = st == UTF8_OK ? tok_byte_of_char(cp) : -1;
        if (byte >= 0) {
            const char c = (char)byte;
            put_bytes(k, &c, 1);
        } else {
            put_bytes(k, s.p + i, len);
        }
        i += len;
    }
}

static bool starts_with_space(struct str s)
{
    return s.len >= TOK_SPACE_LEN && memcmp(s.p, TOK_SPACE, TOK_SPACE_LEN) == 0;
}

/* The space that encoding put before a text is taken off again; in WPM also the one before . , ! ?
 */
static struct str without_added_space(const struct tokenizer *t, struct str s, bool at_start)
{
    const bool is_closing =
        t->kind == TOK_WPM && s.len == TOK_SPACE_LEN + 1 && memchr(".,!?", s.p[TOK_SPACE_LEN], 4);
    if (starts_with_space(s) &&
        (is_closing || (at_start && (t->kind == TOK_WPM || t->add_space_prefix)))) {
        s.p += TOK_SPACE_LEN;
        s.len -= TOK_SPACE_LEN;
    }
    return s;
}

static void put_normal(struct sink *k, const struct tokenizer *t, struct str s, bool at_start)
{
    if (t->kind == TOK_BPE && !t->is_char_bpe)
        put_alphabet(k, s);
    else
        put_spaced(k, without_added_space(t, s, at_start));
}

static int byte_of(struct str s)
{
    int v = 0;
    if (s.len != 6 || memcmp(s.p, "<0x", 3) != 0)
        return -1;
    for (unsigned i = 3; i < 5; i++) {
        const char c = s.p[i];
        v = v * 16 + (c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return v & 0xFF;
}

/* One token; *at_start becomes false once anything was written. */
static void put_token(struct sink *k, const struct tokenizer *t, int32_t id, bool with_special,
                      bool *at_start)
{
    const struct str s = tok_text(t, id);
    const uint8_t attr = t->attr[id];
    if ((attr == TOKEN_CONTROL || attr == TOKEN_UNKNOWN) && !with_special)
        return;
    const int byte = attr == TOKEN_BYTE ? byte_of(s) : -1;
    if (byte >= 0) {
        const char c = (char)byte;
        put_bytes(k, &c, 1);
    } else if (attr == TOKEN_NORMAL || attr == TOKEN_UNUSED) {
        put_normal(k, t, s, *at_start);
    } else {
        put_bytes(k, s.p, s.len);
    }
    *at_start = false;
}

static int check_id(const struct tokenizer *t, int32_t id, struct err *err)
{
    if (!t->text || !tokenizer_has_text(t))
        return err_set(err, E_UNSUPPORTED,
                       "the model has no text vocabulary; only token ids can be given");
    if (id < 0 || (uint32_t)id >= t->n_vocab)
        return err_set(err, E_INVALID, "token id %d is outside the vocabulary of %u tokens",
                       (int)id, t->n_vocab);
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool with_special,
                     struct buf *out, struct err *err)
{
    struct sink k = {.out = out};
    bool at_start = true;
    for (size_t i = 0; i < n; i++) {
        int rc = check_id(t, ids[i], err);
        if (rc < 0)
            return rc;
        put_token(&k, t, ids[i], with_special, &at_start);
    }
    return buf_status(out, "text of tokens", err);
}

int tokenizer_token_bytes(const struct tokenizer *t, int32_t id, struct buf *out, struct err *err)
{
    struct sink k = {.out = out};
    bool at_start = false;
    int rc = check_id(t, id, err);
    if (rc < 0)
        return rc;
    put_token(&k, t, id, true, &at_start);
    return buf_status(out, "text of a token", err);
}

void detok_init(struct detok *d, const struct tokenizer *t, bool with_special, bool at_start)
{
    *d = (struct detok){.tok = t, .with_special = with_special, .at_start = at_start};
}

int detok_feed(struct detok *d, int32_t id, struct buf *out, struct err *err)
{
    int rc = check_id(d->tok, id, err);
    if (rc < 0)
        return rc;
    struct sink k = {.out = out, .d = d};
    put_token(&k, d->tok, id, d->with_special, &d->at_start);
    return buf_status(out, "text of tokens", err);
}

int detok_finish(struct detok *d, struct buf *out, struct err *err)
{
    if (d->n_held) /* always one beginning of a character: put_held has taken everything before it
                    */
        (void)buf_append_str(out, "\xef\xbf\xbd");
    d->n_held = 0;
    return buf_status(out, "text of tokens", err);
}
