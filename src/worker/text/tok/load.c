/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a vocabulary from GGUF keys: kind, spellings, types, scores.  Nothing in it is trusted:
 * what other parts rely on (ids in range, arrays of one length, bounded spellings) is checked here,
 * once. */
#include "worker/text/tok/tok.h"

#include <stdio.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

static const struct kind_name {
    const char *model;
    enum tok_kind kind;
    bool is_char_bpe;
} kind_names[] = {
    {"llama", TOK_SPM, false},     {"gpt2", TOK_BPE, false},  {"bert", TOK_WPM, false},
    {"t5", TOK_UGM, false},        {"gemma4", TOK_BPE, true}, {"none", TOK_NONE, false},
    {"no_vocab", TOK_NONE, false}, {"test", TOK_NONE, false},
};

static int load_kind(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    struct str model;
    int rc = gguf_get_str(g, "tokenizer.ggml.model", STR_LIT("none"), &model, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_LEN(kind_names); i++)
        if (str_is(model, kind_names[i].model)) {
            t->kind = kind_names[i].kind;
            t->is_char_bpe = kind_names[i].is_char_bpe;
            return 0;
        }
    return err_set(
        err, E_UNSUPPORTED,
        "the tokenizer '%.*s' (tokenizer.ggml.model) is not supported; known: llama gpt2 "
        "bert t5 gemma4 none no_vocab test",
        (int)MIN_OF(model.len, 64u), model.p ? model.p : "");
}

/* An array of the vocabulary with an item per token; *ret is NULL when the key is absent. */
static int find_array(const struct tokenizer *t, const struct gguf *g, const char *key,
                      bool is_float, const struct gguf_value **ret, struct err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    *ret = v;
    if (!v)
        return 0;
    const bool has_float = v->item_type == GGUF_F32 || v->item_type == GGUF_F64;
    if (v->type != GGUF_ARRAY || v->item_type == GGUF_STRING || (!is_float && has_float))
        return err_set(err, E_FORMAT, "%s is not an array of %s", key,
                       is_float ? "numbers" : "integers");
    if (v->n_items != t->n_vocab)
        return err_set(err, E_FORMAT, "%s has %llu items for %u tokens", key,
                       (unsigned long long)v->n_items, t->n_vocab);
    return 0;
}

/* Sums and bounds the spellings before memory is asked for. */
static int measure(struct tokenizer *t, const struct gguf_value *v, size_t *ret_bytes,
                   struct err *err)
{
    /* Text is matched against spellings byte by byte in these kinds; in BPE it never is. */
    const size_t max = t->kind == TOK_BPE ? LIMIT_TOKEN_BYTES : LIMIT_TOKEN_MATCH_BYTES;
    size_t cursor = 0, sum = 0;
    struct str s;
    for (uint32_t i = 0; gguf_next_str(v, &cursor, &s); i++) {
        if (s.len > max)
            return err_set(err, E_LIMIT,
                           "tokenizer.ggml.tokens[%u] has %zu bytes; the limit is %zu", i, s.len,
                           max);
        t->max_bytes = MAX_OF(t->max_bytes, (uint32_t)s.len);
        sum += s.len;
        if (sum > LIMIT_VOCAB_TEXT_BYTES)
            return err_set(err, E_LIMIT, "the vocabulary's tokens have more than %u bytes in all",
                           LIMIT_VOCAB_TEXT_BYTES);
    }
    *ret_bytes = sum;
    return 0;
}

static int load_texts(struct tokenizer *t, const struct gguf_value *v, struct err *err)
{
    size_t bytes = 0, cursor = 0;
    int rc = measure(t, v, &bytes, err);
    if (rc < 0)
        return rc;
    t->text = mem_try_alloc(bytes + 1, 1, err);
    t->offset = mem_try_alloc((size_t)t->n_vocab + 1, sizeof(*t->offset), err);
    t->attr = mem_try_alloc(t->n_vocab, 1, err);
    t->flags = mem_try_alloc(t->n_vocab, 1, err);
    if (!t->text || !t->offset || !t->attr || !t->flags)
        return -E_NOMEM;
    struct str s;
    for (uint32_t i = 0; gguf_next_str(v, &cursor, &s); i++) {
        if (s.len)
            memcpy(t->text + t->offset[i], s.p, s.len);
        t->offset[i + 1] = t->offset[i] + (uint32_t)s.len;
    }
    return 0;
}

/* Of equal spellings the last is found, as llama.cpp does it; empty ones never are. */
static int load_map(struct tokenizer *t, struct err *err)
{
    int rc = map_try_reserve(&t->ids, t->n_vocab, err);
    for (uint32_t i = t->n_vocab; rc == 0 && i-- > 0;) {
        uint32_t old;
        if (t->offset[i + 1] > t->offset[i])
            rc = map_try_put(&t->ids, tok_text(t, (int32_t)i), i, &old, err);
    }
    return rc;
}

static int load_attrs(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct gguf_value *v;
    int rc = find_array(t, g, "tokenizer.ggml.token_type", false, &v, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        const int64_t type = v ? gguf_item_i64(v, i) : TOKEN_NORMAL;
        if (type < 0 || type > TOKEN_BYTE)
            return err_set(err, E_FORMAT,
                           "tokenizer.ggml.token_type[%u] is %lld; known types are 1 to 6", i,
                           (long long)type);
        t->attr[i] = (uint8_t)(type ? type : TOKEN_NORMAL);
    }
    return 0;
}

static int load_scores(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    if (t->kind != TOK_SPM && t->kind != TOK_UGM)
        return 0;
    const struct gguf_value *v;
    int rc = find_array(t, g, "tokenizer.ggml.scores", true, &v, err);
    if (rc < 0)
        return rc;
    t->score = mem_try_alloc(t->n_vocab, sizeof(*t->score), err);
    if (!t->score)
        return -E_NOMEM;
    for (uint32_t i = 0; v && i < t->n_vocab; i++)
        t->score[i] = (float)gguf_item_f64(v, i);
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Byte tokens are spelled <0x00> to <0xFF>, and typed so (or as plain tokens by careless
 * converters). */
void tok_load_bytes(struct tokenizer *t)
{
    for (unsigned b = 0; b < 256; b++)
        t->byte_id[b] = TOKEN_NONE;
    if (t->kind != TOK_SPM && t->kind != TOK_UGM && !t->is_char_bpe)
        return;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        const struct str s = tok_text(t, (int32_t)i);
        if (s.len != 6 || memcmp(s.p, "<0x", 3) || s.p[5] != '>')
            continue;
        const int hi = hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
        if (hi >= 0 && lo >= 0 && t->attr[i] != TOKEN_CONTROL && t->attr[i] != TOKEN_UNKNOWN)
            t->byte_id[hi * 16 + lo] = (int32_t)i;
    }
}

/* How many ids a model without text has: the tokens' number, {arch}.vocab_size, or the embedding's
 * rows. */
static int count_ids(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct gguf_tensor *embd = gguf_find_tensor(g, "token_embd.weight");
    struct str arch;
    uint64_t n = 0;
    int rc = gguf_get_str(g, "general.architecture", STR_LIT(""), &arch, err);
    if (rc < 0)
        return rc;
    char key[128];
    (void)snprintf(key, sizeof(key), "%.*s.vocab_size", (int)MIN_OF(arch.len, 100u),
                   arch.p ? arch.p : "");
    rc = gguf_get_u64(g, key, 0, LIMIT_MODEL_VOCAB, 0, &n, err);
    if (rc < 0)
        return rc;
    if (n == 0 && embd && embd->n_dims == 2)
        n = embd->dims[1];
    if (n > LIMIT_MODEL_VOCAB)
        return err_set(err, E_LIMIT, "the vocabulary has %llu tokens; the limit is %u",
                       (unsigned long long)n, LIMIT_MODEL_VOCAB);
    t->n_vocab = (uint32_t)n;
    return 0;
}

int tok_load_vocab(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    int rc = load_kind(t, g, err);
    if (rc < 0)
        return rc;
    const struct gguf_value *v = gguf_find(g, "tokenizer.ggml.tokens");
    if (v && (v->type != GGUF_ARRAY || v->item_type != GGUF_STRING))
        return err_set(err, E_FORMAT, "tokenizer.ggml.tokens is not an array of strings");
    if (v && v->n_items > LIMIT_MODEL_VOCAB)
        return err_set(err, E_LIMIT, "the vocabulary has %llu tokens; the limit is %u",
                       (unsigned long long)v->n_items, LIMIT_MODEL_VOCAB);
    if (v && v->n_items)
        t->n_vocab = (uint32_t)v->n_items;
    else if (t->kind != TOK_NONE)
        return err_set(err, E_FORMAT, "tokenizer.ggml.tokens is missing or empty");
    else
        return count_ids(t, g, err);
    rc = load_texts(t, v, err);
    if (rc == 0)
        rc = load_map(t, err);
    if (rc == 0)
        rc = load_attrs(t, g, err);
    if (rc == 0)
        rc = load_scores(t, g, err);
    return rc;
}
