/* SPDX-License-Identifier: Apache-2.0 */
/* Implements tokenizer.h's life cycle, questions and encoding; the work is in the files beside it,
 * decoding in detok.c. */
#include "worker/text/tokenizer.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/text/tok/tok.h"

static int load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    int rc = tok_load_vocab(t, g, err);
    if (rc == 0)
        rc = tok_special_load(t, g, err);
    if (rc < 0 || t->kind == TOK_NONE)
        return rc;
    tok_load_bytes(t);
    switch (t->kind) {
    case TOK_SPM: return tok_spm_load(t, err);
    case TOK_BPE: return tok_bpe_load(t, g, err);
    case TOK_WPM: return tok_wpm_load(t, err);
    case TOK_UGM: return tok_ugm_load(t, g, err);
    case TOK_NONE: break;
    }
    return 0;
}

int tokenizer_from_gguf(const struct gguf *g, struct tokenizer **ret_tok, struct err *err)
{
    struct tokenizer *t = mem_try_alloc(1, sizeof(*t), err);
    if (!t)
        return -E_NOMEM;
    map_init(&t->ids);
    int rc = load(t, g, err);
    if (rc < 0) {
        tokenizer_free(t);
        return rc;
    }
    *ret_tok = t;
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    map_release(&t->ids);
    tok_pre_release(&t->pre);
    tok_trie_release(&t->special);
    tok_trie_release(&t->words);
    tok_trie_release(&t->defined);
    mem_free(t->text);
    mem_free(t->offset);
    mem_free(t->attr);
    mem_free(t->flags);
    mem_free(t->score);
    mem_free(t->prio);
    mem_free(t->pairs);
    mem_free(t->pair_table.slot);
    mem_free(t->bigrams);
    tok_charsmap_release(&t->charsmap);
    mem_free(t);
}

void token_vec_init(struct token_vec *v, size_t max)
{
    *v = (struct token_vec){.max = max};
}

void token_vec_release(struct token_vec *v)
{
    mem_free(v->ids);
    *v = (struct token_vec){.max = v->max};
}

static int token_vec_grow(struct token_vec *v, struct err *err)
{
    if (v->len >= v->max)
        return err_set(err, E_LIMIT, "the text has more than %zu tokens", v->max);
    const size_t cap = MIN_OF(v->max, v->cap ? v->cap + v->cap / 2 + 1 : 64);
    void *p = mem_try_resize(v->ids, cap, sizeof(*v->ids), err);
    if (!p)
        return -E_NOMEM;
    v->ids = p;
    v->cap = cap;
    return 0;
}

int token_vec_push(struct token_vec *v, int32_t id, struct err *err)
{
    if (UNLIKELY(v->len >= v->cap)) {
        int rc = token_vec_grow(v, err);
        if (rc < 0)
            return rc;
    }
    v->ids[v->len++] = id;
    return 0;
}

int tokenizer_encode_runs(const struct tokenizer *t, const struct text_run *runs, size_t n_runs,
                          unsigned flags, struct token_vec *out, struct err *err)
{
    if (!tokenizer_has_text(t))
        return err_set(err, E_UNSUPPORTED, "the model has no text vocabulary; give it token ids");
    struct tok_run r = {.t = t, .out = out, .err = err};
    buf_init(&r.text, (size_t)LIMIT_TEXT_BYTES * 18 +
                          64); /* UGM: the longest replacements; others: 3 per byte */
    tok_merge_init(&r.merge);
    tok_split_init(&r.split);
    const size_t len = out->len;
    int rc = tok_encode_runs(&r, runs, n_runs, flags);
    if (rc < 0)
        out->len = len;
    buf_release(&r.text);
    tok_merge_release(&r.merge);
    tok_split_release(&r.split);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, struct str text, unsigned flags,
                     struct token_vec *out, struct err *err)
{
    const struct text_run run = {text, (flags & TOK_PARSE_SPECIAL) != 0};
    return tokenizer_encode_runs(t, &run, 1, flags, out, err);
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->n_vocab;
}

bool tokenizer_has_text(const struct tokenizer *t)
{
    return t->kind != TOK_NONE;
}

const char *tokenizer_kind(const struct tokenizer *t)
{
    static const char *const names[] = {"none", "spm", "bpe", "wpm", "ugm"};
    return names[t->kind];
}

const char *tokenizer_pre(const struct tokenizer *t)
{
    return t->pre_name;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->add_bos && t->bos != TOKEN_NONE;
}

static bool is_text_id(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab && t->text;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return is_text_id(t, id) && (t->flags[id] & TF_EOG);
}

enum token_attr tokenizer_attr(const struct tokenizer *t, int32_t id)
{
    return is_text_id(t, id) ? (enum token_attr)t->attr[id] : TOKEN_NORMAL;
}

struct str tokenizer_piece(const struct tokenizer *t, int32_t id)
{
    return is_text_id(t, id) ? tok_text(t, id) : (struct str){NULL, 0};
}

int32_t tokenizer_find(const struct tokenizer *t, struct str piece)
{
    const uint32_t id = piece.len ? map_get(&t->ids, piece) : MAP_NONE;
    return id == MAP_NONE ? TOKEN_NONE : (int32_t)id;
}
