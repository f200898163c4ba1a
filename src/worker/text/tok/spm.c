/* SPDX-License-Identifier: Apache-2.0 */
/* SPM: characters merged by the score of the token that results (SentencePiece's BPE, Kudo and
 * Richardson 2018).
 *
 * A text is one word to SPM.  It is cut all the same wherever no token spans two neighbouring
 * characters, which changes no result, since no merge can cross such a place, and keeps the merging
 * local. */
#include "worker/text/tok/tok.h"

#include <math.h>
#include <stdlib.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"

/* The set of neighbouring characters inside tokens, as a bitmap by hash: false positives only join
 * chunks. */
#define BIGRAM_BITS 21u

static uint32_t bigram_bit(uint32_t a, uint32_t b)
{
    const uint64_t h = ((uint64_t)a << 21 ^ b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> (64 - BIGRAM_BITS));
}

/* Characters by their lead byte alone, as the merging sees them: a broken one is its first byte. */
static size_t char_at(const char *p, size_t n, uint32_t *ret_cp)
{
    size_t len;
    if (utf8_next(p, n, ret_cp, &len) != UTF8_OK) {
        *ret_cp = 0x110000u + (unsigned char)*p;
        return 1;
    }
    return len;
}

static void add_bigrams(struct tokenizer *t, struct str s)
{
    uint32_t last = 0, cp;
    for (size_t i = 0; i < s.len;) {
        const size_t n = char_at(s.p + i, s.len - i, &cp);
        if (i > 0) {
            const uint32_t bit = bigram_bit(last, cp);
            t->bigrams[bit / 8] |= (uint8_t)(1u << bit % 8);
        }
        last = cp;
        i += n;
    }
}

struct scored {
    float score;
    int32_t id;
};

static int compare_scores(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Scores to ranks, so that merging compares numbers only; a score that is no number is the worst.
 */
static int rank_scores(struct tokenizer *t, struct err *err)
{
    struct scored *s = mem_try_alloc(t->n_vocab, sizeof(*s), err);
    t->prio = mem_try_alloc(t->n_vocab, sizeof(*t->prio), err);
    if (!s || !t->prio) {
        mem_free(s);
        return -E_NOMEM;
    }
    for (uint32_t i = 0; i < t->n_vocab; i++)
        s[i] = (struct scored){isnan(t->score[i]) ? -INFINITY : t->score[i], (int32_t)i};
    qsort(s, t->n_vocab, sizeof(*s), compare_scores);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (i > 0 && s[i].score < s[i - 1].score)
            rank = i;
        t->prio[s[i].id] = rank;
    }
    mem_free(s);
    return 0;
}

int tok_spm_load(struct tokenizer *t, struct err *err)
{
    t->bigrams = mem_try_alloc((1u << BIGRAM_BITS) / 8, 1, err);
    if (!t->bigrams)
        return -E_NOMEM;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        const struct str s = tok_text(t, (int32_t)i);
        if (tok_is_plain(t, (int32_t)i))
            add_bigrams(t, s);
    }
    return rank_scores(t, err);
}

static uint32_t spm_find(const struct tok_merge *m, const struct tok_sym *a,
                         const struct tok_sym *b)
{
    /* TOKEN_NONE is SYM_END */
    return (uint32_t)tok_find_plain(m->t, m->chunk + a->start, tok_sym_end(m, b) - a->start);
}

static uint32_t spm_prio(const struct tok_merge *m, uint32_t pair)
{
    return m->t->prio[pair];
}

static int32_t spm_result(const struct tok_merge *m, uint32_t pair)
{
    (void)m;
    return (int32_t)pair;
}

static int emit_chunk(struct tok_run *r)
{
    struct tok_merge *m = &r->merge;
    if (m->n == 0)
        return 0;
    int rc = tok_merge_run(m, r->err);
    for (uint32_t i = 0; rc == 0 && i != SYM_END; i = m->syms[i].next) {
        const struct tok_sym *s = &m->syms[i];
        rc = s->id != TOKEN_NONE
                 ? token_vec_push(r->out, s->id, r->err)
                 : tok_push_bytes(r, m->chunk + s->start, tok_sym_end(m, s) - s->start);
    }
    m->n = 0;
    return rc;
}

/* text -> r->text with U+2581 for spaces. */
static int escape(struct tok_run *r, struct str text, bool with_prefix)
{
    buf_clear(&r->text);
    if (with_prefix)
        (void)buf_append(&r->text, TOK_SPACE, TOK_SPACE_LEN);
    for (size_t i = 0; i < text.len;) {
        const char *space = memchr(text.p + i, ' ', text.len - i);
        const size_t n = space ? (size_t)(space - text.p) - i : text.len - i;
        (void)buf_append(&r->text, text.p + i, n);
        if (space)
            (void)buf_append(&r->text, TOK_SPACE, TOK_SPACE_LEN);
        i += n + (space != NULL);
    }
    return buf_status(&r->text, "text to tokenize", r->err);
}

int tok_spm_encode(struct tok_run *r, struct str text, bool at_start)
{
    int rc = escape(r, text, r->t->add_space_prefix && at_start);
    if (rc < 0)
        return rc;
    struct tok_merge *m = &r->merge;
    m->t = r->t;
    m->chunk = r->text.data;
    m->pair_find = spm_find;
    m->pair_prio = spm_prio;
    m->pair_result = spm_result;
    m->n_prio = r->t->n_vocab;
    m->is_costly = true;
    m->n = 0;
    tok_merge_expect(m, text.len);
    uint32_t last = 0, cp;
    for (size_t i = 0; i < r->text.len;) {
        const size_t n = char_at(r->text.data + i, r->text.len - i, &cp);
        const uint32_t bit = bigram_bit(last, cp);
        if (m->n > 0 && !(r->t->bigrams[bit / 8] >> bit % 8 & 1) && (rc = emit_chunk(r)) < 0)
            return rc;
        const int32_t id = tok_find_plain(r->t, r->text.data + i, n);
        rc = tok_merge_add(m, (uint32_t)i, (uint32_t)(i + n), id, r->err);
        if (rc < 0)
            return rc;
        last = cp;
        i += n;
    }
    return emit_chunk(r);
}
