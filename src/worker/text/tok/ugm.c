/* SPDX-License-Identifier: Apache-2.0 */
/* UGM (unigram language model, Kudo 2018): of all ways to cut the normalised text into vocabulary
 * pieces the one with the best sum of scores, found by Viterbi's algorithm in double precision. */
#include "worker/text/tok/tok.h"

#include <float.h>
#include <math.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "worker/text/tok/charsmap.h"

#define UNKNOWN_PENALTY 10.0 /* below the worst score of the vocabulary (SentencePiece) */

static int build_words(struct tokenizer *t, bool only_defined, struct tok_trie *ret,
                       struct err *err)
{
    struct tok_trie_item *items = mem_try_alloc(t->n_vocab, sizeof(*items), err);
    if (!items)
        return -E_NOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (tok_is_plain(t, (int32_t)i) && t->offset[i + 1] > t->offset[i] &&
            (!only_defined || t->attr[i] == TOKEN_USER_DEFINED))
            items[n++] = (struct tok_trie_item){tok_text(t, (int32_t)i), (int32_t)i};
    int rc = tok_trie_build(ret, items, n, err);
    mem_free(items);
    return rc;
}

int tok_ugm_load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    double min = DBL_MAX;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (t->attr[i] != TOKEN_NORMAL)
            continue;
        if (!isfinite(t->score[i]))
            return err_set(err, E_FORMAT, "tokenizer.ggml.scores[%u] is not a finite number", i);
        min = fmin(min, (double)t->score[i]);
    }
    t->unk_score = (min == DBL_MAX ? 0 : min) - UNKNOWN_PENALTY;
    int rc = build_words(t, false, &t->words, err);
    if (rc == 0)
        rc = build_words(t, true, &t->defined, err);
    return rc < 0 ? rc : tok_charsmap_load(&t->charsmap, g, err);
}

/* The longest user-defined token at p, or 0 bytes: normalisation leaves those alone. */
static size_t defined_at(const struct tokenizer *t, const char *p, size_t n)
{
    size_t found = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = tok_trie_step(&t->defined, node, (unsigned char)p[i]);
        if (node == TRIE_DEAD)
            break;
        if (t->defined.nodes[node].id >= 0)
            found = i + 1;
    }
    return found;
}

/* How the normalised text grows: spaces become U+2581, doubled and outer ones go if the vocabulary
 * wants it. */
struct normal {
    struct buf *out;
    bool squeeze, prefix;  /* what the vocabulary wants */
    bool in_word, has_any; /* inside a word; a space was put before the first one */
};

static void put_normal(struct normal *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == ' ') {
            s->in_word = false;
            if (!s->squeeze)
                (void)buf_append(s->out, TOK_SPACE, TOK_SPACE_LEN);
            continue;
        }
        if (!s->in_word) {
            s->in_word = true;
            if ((s->prefix && !s->has_any) || s->squeeze) {
                (void)buf_append(s->out, TOK_SPACE, TOK_SPACE_LEN);
                s->has_any = true;
            }
        }
        (void)buf_append_char(s->out, p[i]);
    }
}

static int normalise(struct tok_run *r, struct str text)
{
    const struct tokenizer *t = r->t;
    struct normal s = {
        .out = &r->text, .squeeze = t->squeeze_spaces, .prefix = t->add_space_prefix};
    buf_clear(&r->text);
    for (size_t i = 0; i < text.len && !r->text.failed;) {
        const size_t kept = defined_at(t, text.p + i, text.len - i);
        if (kept) {
            put_normal(&s, text.p + i, kept);
            i += kept;
            continue;
        }
        struct str mapped;
        size_t used = tok_charsmap_match(&t->charsmap, text.p + i, text.len - i, &mapped);
        uint32_t cp;
        if (used)
            put_normal(&s, mapped.p, mapped.len);
        else if (utf8_next(text.p + i, text.len - i, &cp, &used) == UTF8_OK)
            put_normal(&s, text.p + i, used);
        else {
            used = 1;
            put_normal(&s, "\xef\xbf\xbd", 3);
        }
        i += used;
    }
    return buf_status(&r->text, "text to tokenize", r->err);
}

/* The best way to reach a byte of the normalised text. */
struct reach {
    double score;
    uint32_t from;
    int32_t id;
};

static void offer(struct reach *to, double score, uint32_t from, int32_t id)
{
    if (score > to->score)
        *to = (struct reach){score, from, id};
}

/* All pieces that begin at byte i. */
static void extend(const struct tokenizer *t, struct reach *best, const char *p, uint32_t i,
                   uint32_t n)
{
    uint32_t cp, node = 0;
    size_t len;
    if (utf8_next(p + i, n - i, &cp, &len) != UTF8_OK)
        len = 1;
    bool has_char = false;
    for (uint32_t k = i; k < n; k++) {
        node = tok_trie_step(&t->words, node, (unsigned char)p[k]);
        if (node == TRIE_DEAD)
            break;
        const int32_t id = t->words.nodes[node].id;
        if (id < 0)
            continue;
        has_char = has_char || k + 1 - i == len;
        const double score = t->attr[id] == TOKEN_USER_DEFINED ? 0.0 : (double)t->score[id];
        offer(&best[k + 1], best[i].score + score, i, id);
    }
    if (!has_char)
        offer(&best[i + len], best[i].score + t->unk_score, i, TOKEN_NONE);
}

/* Back along the best way; neighbouring unknowns are one. */
static int emit(struct tok_run *r, const struct reach *best, uint32_t n)
{
    const size_t first = r->out->len;
    bool after_unknown = false;
    int rc = 0;
    for (uint32_t i = n; rc == 0 && i > 0; i = best[i].from) {
        const bool is_unknown = best[i].id == TOKEN_NONE;
        const int32_t id = is_unknown ? r->t->unk : best[i].id;
        if (id != TOKEN_NONE && !(is_unknown && after_unknown))
            rc = token_vec_push(r->out, id, r->err);
        after_unknown = is_unknown;
    }
    for (size_t a = first, b = r->out->len; a + 1 < b; a++) {
        const int32_t id = r->out->ids[a];
        r->out->ids[a] = r->out->ids[--b];
        r->out->ids[b] = id;
    }
    return rc;
}

int tok_ugm_encode(struct tok_run *r, struct str text)
{
    int rc = normalise(r, text);
    if (rc < 0 || r->text.len == 0)
        return rc;
    const uint32_t n = (uint32_t)r->text.len;
    struct reach *best = mem_try_alloc((size_t)n + 1, sizeof(*best), r->err);
    if (!best)
        return -E_NOMEM;
    for (uint32_t i = 1; i <= n; i++)
        best[i] = (struct reach){-DBL_MAX, 0, TOKEN_NONE};
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || best[i].score > -DBL_MAX) /* only the beginnings of characters are reached */
            extend(r->t, best, r->text.data, i, n);
    rc = emit(r, best, n);
    mem_free(best);
    return rc;
}
