/* SPDX-License-Identifier: Apache-2.0 */
/* WPM (WordPiece of BERT, Devlin et al. 2018): words of the normalised text, each cut greedily into
 * the longest spellings; a word that cannot be cut so is the unknown token.
 *
 * Spellings carry U+2581 where a word begins and nothing where it goes on (the file format's way
 * round). */
#include "worker/text/tok/tok.h"

#include <utf8proc.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "worker/text/tok/class.h"

int tok_wpm_load(struct tokenizer *t, struct err *err)
{
    struct tok_trie_item *items = mem_try_alloc(t->n_vocab, sizeof(*items), err);
    if (!items)
        return -E_NOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (tok_is_plain(t, (int32_t)i) && t->offset[i + 1] > t->offset[i])
            items[n++] = (struct tok_trie_item){tok_text(t, (int32_t)i), (int32_t)i};
    int rc = tok_trie_build(&t->words, items, n, err);
    mem_free(items);
    return rc;
}

static int encode_word(struct tok_run *r, const char *p, size_t n)
{
    const struct tok_trie *w = &r->t->words;
    const size_t len = r->out->len;
    for (size_t i = 0; i < n;) {
        int32_t found = TOKEN_NONE;
        size_t end = i;
        uint32_t node = 0;
        for (size_t k = i; k < n; k++) {
            node = tok_trie_step(w, node, (unsigned char)p[k]);
            if (node == TRIE_DEAD)
                break;
            if (w->nodes[node].id >= 0) {
                found = w->nodes[node].id;
                end = k + 1;
            }
        }
        if (found == TOKEN_NONE) {
            r->out->len = len;
            return r->t->unk == TOKEN_NONE ? 0 : token_vec_push(r->out, r->t->unk, r->err);
        }
        int rc = token_vec_push(r->out, found, r->err);
        if (rc < 0)
            return rc;
        i = end;
    }
    return 0;
}

/* The blocks that BERT's tokenizer takes for Chinese characters: each is a word. */
static bool is_han(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static int end_word(struct tok_run *r)
{
    int rc = 0;
    if (r->text.len > TOK_SPACE_LEN) {
        rc = buf_status(&r->text, "a word to tokenize", r->err);
        if (rc == 0)
            rc = encode_word(r, r->text.data, r->text.len);
    }
    buf_clear(&r->text);
    (void)buf_append(&r->text, TOK_SPACE, TOK_SPACE_LEN);
    return rc;
}

/* One character of the decomposed text. */
static int put_char(struct tok_run *r, uint32_t cp)
{
    const enum tok_cat cat = tok_category(cp);
    if (cat == CAT_SPACE)
        return end_word(r);
    const utf8proc_category_t gc = utf8proc_category((utf8proc_int32_t)cp);
    if (cp == 0 || cp == UTF8_REPLACEMENT || gc == UTF8PROC_CATEGORY_CC ||
        gc == UTF8PROC_CATEGORY_CF || gc == UTF8PROC_CATEGORY_CO)
        return 0;
    if (cat == CAT_M && r->t->strip_accents)
        return 0;
    const bool is_word = cat == CAT_P || (cp < 0x7F && cat == CAT_S) || is_han(cp);
    int rc = is_word ? end_word(r) : 0;
    char c[UTF8_MAX_BYTES];
    const uint32_t low = r->t->lowercase ? (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp) : cp;
    (void)buf_append(&r->text, c, utf8_put(low, c));
    return rc == 0 && is_word ? end_word(r) : rc;
}

int tok_wpm_encode(struct tok_run *r, struct str text)
{
    int rc = 0;
    buf_clear(&r->text);
    (void)buf_append(&r->text, TOK_SPACE, TOK_SPACE_LEN);
    for (size_t i = 0; rc == 0 && i < text.len;) {
        uint32_t cp;
        size_t len;
        if (utf8_next(text.p + i, text.len - i, &cp, &len) != UTF8_OK)
            len = 1;
        i += len;
        utf8proc_int32_t parts[8];
        utf8proc_ssize_t n = 1;
        parts[0] = (utf8proc_int32_t)cp;
        if (cp >= 0x80) {
            int last = 0;
            n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 8, UTF8PROC_DECOMPOSE, &last);
        }
        /* Of a Hangul syllable only the first letter counts: so the ids of files of this format
         * have always been. */
        if (cp >= 0xAC00 && cp <= 0xD7A3)
            n = MIN_OF(n, 1);
        for (utf8proc_ssize_t k = 0; rc == 0 && k < n && k < 8; k++)
            rc = put_char(r, (uint32_t)parts[k]);
    }
    return rc < 0 ? rc : end_word(r);
}
