/* SPDX-License-Identifier: Apache-2.0 */
/* Special tokens: which ids begin, end and part texts, by key and by spelling, and the trie that
 * finds them in text. */
#include "worker/text/tok/tok.h"

#include <stddef.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

static const struct special_key {
    const char *key;
    size_t field; /* of struct tokenizer */
} special_keys[] = {
    {"tokenizer.ggml.bos_token_id", offsetof(struct tokenizer, bos)},
    {"tokenizer.ggml.eos_token_id", offsetof(struct tokenizer, eos)},
    {"tokenizer.ggml.unknown_token_id", offsetof(struct tokenizer, unk)},
    {"tokenizer.ggml.seperator_token_id", offsetof(struct tokenizer, sep)},
    {"tokenizer.ggml.padding_token_id", offsetof(struct tokenizer, pad)},
    {"tokenizer.ggml.cls_token_id", offsetof(struct tokenizer, cls)},
    {"tokenizer.ggml.mask_token_id", offsetof(struct tokenizer, mask)},
    {"tokenizer.ggml.eot_token_id", offsetof(struct tokenizer, eot)},
    {"tokenizer.ggml.eom_token_id", offsetof(struct tokenizer, eom)},
};

/* What a kind's files mean where they say nothing. */
static void set_defaults(struct tokenizer *t)
{
    t->bos = t->eos = t->unk = t->sep = t->pad = t->cls = t->mask = t->eot = t->eom = TOKEN_NONE;
    switch (t->kind) {
    case TOK_SPM:
        t->bos = 1;
        t->eos = 2;
        t->unk = 0;
        t->add_bos = t->add_space_prefix = true;
        break;
    case TOK_BPE:
        if (t->is_char_bpe)
            t->add_bos = true;
        break;
    case TOK_WPM:
        t->bos = t->cls = 101;
        t->unk = 100;
        t->sep = 102;
        t->pad = 0;
        t->mask = 103;
        t->add_bos = t->add_sep = t->lowercase = t->strip_accents = true;
        break;
    case TOK_UGM:
        t->eos = 1;
        t->unk = 2;
        t->pad = 0;
        t->add_eos = t->add_space_prefix = true;
        break;
    case TOK_NONE: break;
    }
}

static int load_ids(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(special_keys); i++) {
        int32_t *field = (int32_t *)((char *)t + special_keys[i].field);
        int64_t id;
        int rc = gguf_get_i64(g, special_keys[i].key, *field, &id, err);
        if (rc < 0)
            return rc;
        if (id >= 0 && id < (int64_t)t->n_vocab) {
            *field = (int32_t)id;
            continue;
        }
        /* Some converters write -1 (as 2^32 - 1) for "none"; others only repeat what the kind
         * assumes. */
        if (gguf_find(g, special_keys[i].key) && id != -1 && id != (int64_t)UINT32_MAX)
            log_warn("%s is %lld, outside the vocabulary of %u tokens: ignored",
                     special_keys[i].key, (long long)id, t->n_vocab);
        *field = TOKEN_NONE;
    }
    if (t->kind == TOK_WPM && gguf_find(g, "tokenizer.ggml.cls_token_id") &&
        !gguf_find(g, "tokenizer.ggml.bos_token_id"))
        t->bos = t->cls;
    return 0;
}

static int load_switches(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct {
        const char *key;
        bool *field;
    } keys[] = {
        {"tokenizer.ggml.add_bos_token", &t->add_bos},
        {"tokenizer.ggml.add_eos_token", &t->add_eos},
        {"tokenizer.ggml.add_sep_token", &t->add_sep},
        {"tokenizer.ggml.add_space_prefix", &t->add_space_prefix},
        {"tokenizer.ggml.remove_extra_whitespaces", &t->squeeze_spaces},
        {"tokenizer.ggml.normalizer.lowercase", &t->lowercase},
        {"tokenizer.ggml.normalizer.strip_accents", &t->strip_accents},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(keys); i++)
        rc = gguf_get_bool(g, keys[i].key, *keys[i].field, keys[i].field, err);
    return rc;
}

static int load_pre(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    struct str pre;
    int rc = gguf_get_str(g, "tokenizer.ggml.pre", (struct str){NULL, 0}, &pre, err);
    if (rc < 0)
        return rc;
    if (t->is_char_bpe)
        pre = STR_LIT("gemma4");
    if (pre.len == 0) {
        log_warn("the vocabulary names no pre-tokenizer (tokenizer.ggml.pre): 'default' is "
                 "assumed, and answers may be "
                 "poor; convert the model again");
        pre = STR_LIT("default");
    }
    rc = tok_pre_init(&t->pre, pre, err);
    if (rc < 0)
        return rc;
    memcpy(t->pre_name, pre.p, MIN_OF(pre.len, sizeof(t->pre_name) - 1)); /* a known name: short */
    const unsigned flags = tok_pre_flags(&t->pre);
    t->ignore_merges = flags & PRE_IGNORE_MERGES;
    t->add_bos = t->add_bos || (flags & PRE_ADD_BOS);
    t->is_char_bpe = t->is_char_bpe || (flags & PRE_CHARS);
    return 0;
}

/* Spellings that end an answer, whatever the file's keys say. */
static const char *const eog_names[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|ifm|im_end|>",
    "<|plamo:eos|>",
};
/* Spellings of fill-in-the-middle tokens: control tokens, and of these the last ones end an answer
 * too. */
static const char *const fim_names[] = {
    "<|fim_prefix|>", "<fim-prefix>",    "<fim_prefix>",    "<｜fim▁begin｜>", "<PRE>",
    "▁<PRE>",         "<|code_prefix|>", "<|prefix|>",      "<|fim_suffix|>",  "<fim-suffix>",
    "<fim_suffix>",   "<｜fim▁hole｜>",  "<SUF>",           "▁<SUF>",          "<|code_suffix|>",
    "<|suffix|>",     "<|fim_middle|>",  "<fim-middle>",    "<fim_middle>",    "<｜fim▁end｜>",
    "<MID>",          "▁<MID>",          "<|code_middle|>", "<|middle|>",
};
static const char *const fim_eog_names[] = {
    "<|fim_pad|>",   "<fim-pad>",  "<fim_pad>", "<PAD>",      "[PAD]",        "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>", "<REPO>",    "<reponame>", "<|file_sep|>",
};

static int32_t find(const struct tokenizer *t, const char *name)
{
    const uint32_t id = map_get(&t->ids, str_from(name));
    return id == MAP_NONE ? TOKEN_NONE : (int32_t)id;
}

/* A token that parts or ends answers is a control token even where its converter took it for text:
 * otherwise a user's text could spell it. */
static void mark(struct tokenizer *t, const char *const *names, size_t n, unsigned flags)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t id = find(t, names[i]);
        if (id == TOKEN_NONE)
            continue;
        t->attr[id] = TOKEN_CONTROL;
        t->flags[id] |= (uint8_t)flags;
    }
}

static void mark_eog(struct tokenizer *t)
{
    mark(t, fim_names, ARRAY_LEN(fim_names), 0);
    mark(t, fim_eog_names, ARRAY_LEN(fim_eog_names), TF_EOG);
    mark(t, eog_names, ARRAY_LEN(eog_names), TF_EOG);
    const int32_t ids[] = {t->eos, t->eot, t->eom};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        if (ids[i] != TOKEN_NONE)
            t->flags[ids[i]] |= TF_EOG;
    /* In gpt-oss <|end|> parts the channels of one answer. */
    const int32_t end = find(t, "<|end|>");
    const bool has_channels =
        (find(t, "<|return|>") != TOKEN_NONE && find(t, "<|call|>") != TOKEN_NONE) ||
        (find(t, "<|calls|>") != TOKEN_NONE && find(t, "<|flush|>") != TOKEN_NONE);
    if (has_channels && end != TOKEN_NONE)
        t->flags[end] &= (uint8_t)~TF_EOG;
    if (t->eot == TOKEN_NONE)
        t->eot = find(t, "<|eot_id|>");
    if (t->eot == TOKEN_NONE)
        t->eot = find(t, "<|im_end|>");
}

static bool contains_ignoring_case(struct str s, const char *word)
{
    const size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.len; i++)
        if (strncasecmp(s.p + i, word, n) == 0)
            return true;
    return false;
}

/* Special tokens that eat the white space beside them; GGUF has no key for it, so by the model's
 * name. */
static int mark_strips(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    struct str name;
    int rc = gguf_get_str(g, "general.name", STR_LIT(""), &name, err);
    if (rc < 0)
        return rc;
    const char *pre = t->pre_name;
    if (strncmp(pre, "jina-v2-", 8) == 0 && find(t, "<mask>") != TOKEN_NONE)
        t->flags[find(t, "<mask>")] |= TF_LSTRIP;
    if (strcmp(pre, "modern-bert") == 0 && find(t, "[MASK]") != TOKEN_NONE)
        t->flags[find(t, "[MASK]")] |= TF_LSTRIP;
    if (t->kind != TOK_SPM ||
        !(contains_ignoring_case(name, "phi-3") || contains_ignoring_case(name, "phi3")))
        return 0;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (t->attr[i] == TOKEN_CONTROL || t->attr[i] == TOKEN_USER_DEFINED ||
            t->attr[i] == TOKEN_UNKNOWN)
            t->flags[i] |= TF_RSTRIP;
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (find(t, plain[i]) != TOKEN_NONE)
            t->flags[find(t, plain[i])] &= (uint8_t)~TF_RSTRIP;
    return 0;
}

static bool is_special(const struct tokenizer *t, uint32_t i)
{
    const uint8_t a = t->attr[i];
    return (a == TOKEN_CONTROL || a == TOKEN_USER_DEFINED || a == TOKEN_UNKNOWN) &&
           t->offset[i + 1] > t->offset[i];
}

/* Searching costs as many steps at each place of a text as the longest special token has bytes, at
 * worst. */
static int build_trie(struct tokenizer *t, struct err *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        n += is_special(t, i);
    struct tok_trie_item *items = mem_try_alloc(n, sizeof(*items), err);
    if (!items)
        return -E_NOMEM;
    int rc = 0;
    n = 0;
    for (uint32_t i = 0; rc == 0 && i < t->n_vocab; i++) {
        if (!is_special(t, i))
            continue;
        items[n++] = (struct tok_trie_item){tok_text(t, (int32_t)i), (int32_t)i};
        if (items[n - 1].text.len > LIMIT_TOKEN_SPECIAL_BYTES)
            rc = err_set(err, E_LIMIT, "the special token %u has %zu bytes; the limit is %u", i,
                         items[n - 1].text.len, LIMIT_TOKEN_SPECIAL_BYTES);
    }
    if (rc == 0)
        rc = tok_trie_build(&t->special, items, n, err);
    mem_free(items);
    return rc;
}

int tok_special_load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    set_defaults(t);
    int rc = load_ids(t, g, err);
    if (rc == 0 && t->kind == TOK_BPE)
        rc = load_pre(t, g, err);
    if (rc == 0)
        rc = load_switches(t, g, err);
    if (rc < 0 || t->kind == TOK_NONE)
        return rc;
    mark_eog(t);
    rc = mark_strips(t, g, err);
    return rc < 0 ? rc : build_trie(t, err);
}
