/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers.  The first byte says how the rest is read: as a text for one of the small
 * vocabularies, as a vocabulary put together from pieces of it, or as a whole GGUF file.  Whatever
 * was loaded encodes, and what it encodes keeps the promises of tokenizer.h. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
/* Fuzz targets link no support files. */
#include "tests/support/gguf_build.c" /* NOLINT */
#include "tests/support/vocab.c"      /* NOLINT */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_SMALL 12

static struct tokenizer *make_small(unsigned k)
{
    static const char *const families[] = {"gpt-2",    "llama3",   "deepseek-v3", "gpt-4o",
                                           "tiny_aya", "superbpe", "exaone-moe",  "deepseek-llm"};
    if (k == 11)
        return vocab_load("models/stories.gguf");
    struct gguf_build b;
    build_init(&b);
    if (k < 8)
        vocab_build_bpe(&b, families[k]);
    else
        (k == 8 ? vocab_build_spm : k == 9 ? vocab_build_wpm : vocab_build_ugm)(&b);
    struct tokenizer *t = vocab_from(&b);
    build_release(&b);
    return t;
}

/* Made once and kept: one process, one thread. */
static const struct tokenizer *small(unsigned k)
{
    static struct tokenizer *made[N_SMALL];
    if (!made[k])
        made[k] = make_small(k);
    return made[k];
}

static void check_decoding(const struct tokenizer *t, const struct token_vec *v, bool with_special)
{
    struct err err = ERR_INIT;
    struct buf raw, out;
    buf_init(&raw, 256u << 20);
    buf_init(&out, 256u << 20);
    BUG_ON(tokenizer_decode(t, v->ids, v->len, with_special, &raw, &err) < 0);
    struct detok d;
    detok_init(&d, t, with_special, true);
    for (size_t i = 0; i < v->len; i++)
        BUG_ON(detok_feed(&d, v->ids[i], &out, &err) < 0);
    BUG_ON(detok_finish(&d, &out, &err) < 0);
    BUG_ON(!utf8_is_valid((struct str){out.data, out.len}));
    BUG_ON(utf8_is_valid((struct str){raw.data, raw.len}) &&
           !str_eq((struct str){raw.data, raw.len}, (struct str){out.data, out.len}));
    buf_release(&raw);
    buf_release(&out);
}

static void check_text(const struct tokenizer *t, struct str text, uint8_t how)
{
    struct err err = ERR_INIT;
    struct token_vec v;
    const unsigned flags = how & 3;
    token_vec_init(&v, 1u << 24);
    if (tokenizer_encode(t, text, flags, &v, &err) == 0) {
        for (size_t i = 0; i < v.len; i++) {
            BUG_ON(v.ids[i] < 0 || (uint32_t)v.ids[i] >= tokenizer_n_vocab(t));
            BUG_ON(flags == 0 && tokenizer_attr(t, v.ids[i]) == TOKEN_CONTROL &&
                   v.ids[i] != tokenizer_find(t, STR_LIT("[UNK]")));
        }
        check_decoding(t, &v, how & 4);
    }
    const size_t cut = text.len ? how * text.len / 256 : 0;
    const struct text_run runs[] = {
        {{text.p, cut}, false}, {{text.p + cut, text.len - cut}, how & 8}, {text, false}};
    v.len = 0;
    const int rc = tokenizer_encode_runs(t, runs, 3, flags, &v, &err);
    BUG_ON(rc < 0 && v.len != 0);
    token_vec_release(&v);
}

/* Bytes given out bit by bit. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

static uint8_t take(struct bytes *b)
{
    if (!b->n)
        return 0;
    b->n--;
    return *b->p++;
}

static void take_string(struct bytes *b, struct buf *out)
{
    const size_t wish = take(b) % 16, n = MIN_OF(wish, b->n);
    build_u64(out, n);
    BUG_ON(buf_append(out, b->p, n) < 0);
    b->p += n;
    b->n -= n;
}

static void take_strings(struct bytes *b, struct gguf_build *g, const char *key, uint8_t n)
{
    build_kv_array(g, key, GGUF_STRING, n);
    for (unsigned i = 0; i < n; i++)
        take_string(b, &g->values);
}

static void take_vocabulary(struct bytes *b, struct gguf_build *g)
{
    static const char *const models[] = {"llama", "gpt2", "bert", "t5", "gemma4", "test"};
    static const char *const families[] = {"gpt-2", "llama3", "default", "chameleon"};
    const uint8_t n = take(b);
    build_kv_str(g, "tokenizer.ggml.model", models[take(b) % ARRAY_LEN(models)]);
    build_kv_str(g, "tokenizer.ggml.pre", families[take(b) % ARRAY_LEN(families)]);
    build_kv_u32(g, "tokenizer.ggml.unknown_token_id", take(b));
    build_kv_u32(g, "tokenizer.ggml.eos_token_id", take(b));
    build_kv_bool(g, "tokenizer.ggml.remove_extra_whitespaces", take(b) & 1);
    take_strings(b, g, "tokenizer.ggml.tokens", n);
    build_kv_array(g, "tokenizer.ggml.token_type", GGUF_U8, n);
    for (unsigned i = 0; i < n; i++)
        BUG_ON(buf_append_char(&g->values, (char)(take(b) % 7)) < 0);
    build_kv_array(g, "tokenizer.ggml.scores", GGUF_I8, n);
    for (unsigned i = 0; i < n; i++)
        BUG_ON(buf_append_char(&g->values, (char)take(b)) < 0);
    take_strings(b, g, "tokenizer.ggml.merges", take(b) % 16);
    const uint8_t n_map = take(b);
    build_kv_array(g, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, n_map);
    for (unsigned i = 0; i < n_map; i++)
        BUG_ON(buf_append_char(&g->values, (char)take(b)) < 0);
}

static void try_file(struct gguf *g, struct str text, uint8_t how)
{
    struct err err = ERR_INIT;
    struct tokenizer *t = NULL;
    if (tokenizer_from_gguf(g, &t, &err) == 0 && tokenizer_has_text(t))
        check_text(t, text, how | 1); /* such a vocabulary may call anything its unknown token */
    tokenizer_free(t);
    gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes b = {data, size};
    const uint8_t mode = take(&b) % 16, how = take(&b);
    log_init(LOG_LEVEL_ERROR, false, "fuzz");
    struct err err = ERR_INIT;
    struct gguf *g;
    if (mode < N_SMALL) {
        check_text(small(mode), (struct str){(const char *)b.p, b.n}, how);
    } else if (mode < 15) {
        struct gguf_build built;
        build_init(&built);
        take_vocabulary(&b, &built);
        if (build_open(&built, GGUF_HEADER_ONLY, &g, &err) == 0)
            try_file(g, (struct str){(const char *)b.p, b.n}, how);
        build_release(&built);
    } else if (build_open_bytes(b.p, b.n, GGUF_HEADER_ONLY, &g, &err) == 0) {
        try_file(g, STR_LIT("hello <|end|> 12 \xc3\xa9\xff\n"), how);
    }
    return 0;
}
