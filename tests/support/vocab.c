/* SPDX-License-Identifier: Apache-2.0 */
/* Implements vocab.h. */
#include "tests/support/vocab.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/codec/utf8.h"

const char *vocab_path(const char *name)
{
    static char path[512];
    const char *build = getenv("BUILD");
    (void)snprintf(path, sizeof(path), "%s/vocab/%s.gguf", build ? build : "build", name);
    if (strncmp(name, "stories", 7) == 0)
        (void)snprintf(path, sizeof(path), "models/%s.gguf", name);
    return path;
}

struct tokenizer *vocab_load(const char *path)
{
    struct err err = ERR_INIT;
    struct gguf *g;
    struct tokenizer *t = NULL;
    if (gguf_open_path(path, GGUF_HEADER_ONLY, &g, &err) < 0 ||
        tokenizer_from_gguf(g, &t, &err) < 0)
        (void)fprintf(stderr, "%s: %s\n", path, err.msg);
    BUG_ON(!t);
    gguf_close(g);
    return t;
}

struct tokenizer *vocab_from(const struct gguf_build *b)
{
    struct err err = ERR_INIT;
    struct gguf *g;
    struct tokenizer *t = NULL;
    if (build_open(b, GGUF_HEADER_ONLY, &g, &err) < 0 || tokenizer_from_gguf(g, &t, &err) < 0)
        (void)fprintf(stderr, "%s\n", err.msg);
    BUG_ON(!t);
    gguf_close(g);
    return t;
}

int vocab_try(const struct gguf_build *b, struct err *err)
{
    struct gguf *g;
    struct tokenizer *t = NULL;
    int rc = build_open(b, GGUF_HEADER_ONLY, &g, err);
    if (rc == 0) {
        rc = tokenizer_from_gguf(g, &t, err);
        tokenizer_free(t);
        gguf_close(g);
    }
    return -rc;
}

/* The printable alphabet of byte-level BPE, counted out as its inventors did. */
static size_t alphabet(char out[256][8])
{
    uint32_t extra = 256;
    for (unsigned b = 0; b < 256; b++) {
        const bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        out[b][utf8_put(prints ? b : extra++, out[b])] = '\0';
    }
    return 256;
}

static void build_types(struct gguf_build *b, uint32_t n, const int32_t *last, uint32_t n_last)
{
    build_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        build_u32(&b->values, i + n_last < n ? TOKEN_NORMAL : (uint32_t)last[i + n_last - n]);
}

void vocab_build_pairs(struct gguf_build *b, const char *pre)
{
    static char single[256][8];
    static uint32_t order[65536];
    char two[20];
    const uint32_t n = (uint32_t)alphabet(single) + 65536 + 1;
    for (uint32_t k = 0; k < 65536; k++)
        order[(k * 40503u + 12345u) % 65536u] = k;
    build_kv_str(b, "general.architecture", "llama");
    build_kv_str(b, "tokenizer.ggml.model", "gpt2");
    build_kv_str(b, "tokenizer.ggml.pre", pre);
    build_kv_u32(b, "tokenizer.ggml.bos_token_id", n - 1);
    build_kv_u32(b, "tokenizer.ggml.eos_token_id", n - 1);
    build_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (unsigned i = 0; i < 256; i++)
        build_bytes(&b->values, single[i]);
    for (uint32_t i = 0; i < 65536; i++) {
        (void)snprintf(two, sizeof(two), "%s%s", single[order[i] / 256], single[order[i] % 256]);
        build_bytes(&b->values, two);
    }
    build_bytes(&b->values, "<s>");
    build_kv_array(b, "tokenizer.ggml.merges", GGUF_STRING, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        (void)snprintf(two, sizeof(two), "%s %s", single[order[i] / 256], single[order[i] % 256]);
        build_bytes(&b->values, two);
    }
    build_types(b, n, (const int32_t[]){TOKEN_CONTROL}, 1);
}

static const char *const words[] = {"\xe2\x96\x81",
                                    "a",
                                    "b",
                                    "e",
                                    "h",
                                    "l",
                                    "o",
                                    "t",
                                    "he",
                                    "\xe2\x96\x81t",
                                    "\xe2\x96\x81the",
                                    "th",
                                    "ab",
                                    "abab",
                                    "hello",
                                    "hel",
                                    "lo",
                                    "\xc3\xa9",
                                    "<",
                                    ">",
                                    "/",
                                    "s",
                                    "</",
                                    "s>",
                                    "|",
                                    "\n",
                                    "tool",
                                    "end",
                                    "<|",
                                    "|>",
                                    "<|end",
                                    "\xe2\x96\x81\xe2\x96\x81"};

static void build_head(struct gguf_build *b, const char *model)
{
    build_kv_str(b, "general.architecture", "llama");
    build_kv_str(b, "tokenizer.ggml.model", model);
}

void vocab_build_spm(struct gguf_build *b)
{
    const uint32_t n = 3 + 256 + ARRAY_LEN(words) + 2;
    char hex[8];
    build_head(b, "llama");
    build_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    build_bytes(&b->values, "<unk>");
    build_bytes(&b->values, "<s>");
    build_bytes(&b->values, "</s>");
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(hex, sizeof(hex), "<0x%02X>", i);
        build_bytes(&b->values, hex);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        build_bytes(&b->values, words[i]);
    build_bytes(&b->values, "<|end|>");
    build_bytes(&b->values, "<tool>");
    build_kv_array(b, "tokenizer.ggml.scores", GGUF_F32, n);
    for (uint32_t i = 0; i < n; i++) {
        const float score = i < 259 ? 0.0f : -(float)(i % 7);
        BUG_ON(buf_append(&b->values, &score, sizeof(score)) < 0);
    }
    build_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        build_u32(&b->values, i == 0                ? TOKEN_UNKNOWN
                              : i < 3 || i == n - 2 ? TOKEN_CONTROL
                              : i < 259             ? TOKEN_BYTE
                              : i == n - 1          ? TOKEN_USER_DEFINED
                                                    : TOKEN_NORMAL);
}

void vocab_build_bpe(struct gguf_build *b, const char *pre)
{
    static char single[256][8];
    static const char *const merges[] = {
        "h e",   "l l", "he ll", "hell o", "\xc4\xa0 t",        "\xc4\xa0t he",      "a b",
        "ab ab", "< |", "<| e",  "| >",    "\xc4\x8a \xc4\x8a", "\xc3\x83 \xc2\xa9", "a a",
        "aa aa"};
    const uint32_t n = (uint32_t)alphabet(single) + ARRAY_LEN(merges) + 4;
    build_head(b, "gpt2");
    build_kv_str(b, "tokenizer.ggml.pre", pre);
    build_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (unsigned i = 0; i < 256; i++)
        build_bytes(&b->values, single[i]);
    for (size_t i = 0; i < ARRAY_LEN(merges); i++) {
        char joined[32];
        const char *space = strchr(merges[i], ' ');
        (void)snprintf(joined, sizeof(joined), "%.*s%s", (int)(space - merges[i]), merges[i],
                       space + 1);
        build_bytes(&b->values, joined);
    }
    build_bytes(&b->values, "<s>");
    build_bytes(&b->values, "</s>");
    build_bytes(&b->values, "<|end|>");
    build_bytes(&b->values, "<tool>");
    build_kv_strs(b, "tokenizer.ggml.merges", ARRAY_LEN(merges), merges);
    build_types(b, n,
                (const int32_t[]){TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_USER_DEFINED},
                4);
}

void vocab_build_wpm(struct gguf_build *b)
{
    static const char *const tokens[] = {"[UNK]",
                                         "[CLS]",
                                         "[SEP]",
                                         "\xe2\x96\x81hello",
                                         "\xe2\x96\x81the",
                                         "re",
                                         "s",
                                         "\xe2\x96\x81,",
                                         "\xe2\x96\x81.",
                                         "\xe2\x96\x81"
                                         "a",
                                         "\xe2\x96\x81\xe4\xb8\xad",
                                         "<|end|>",
                                         "<tool>"};
    build_head(b, "bert");
    build_kv_u32(b, "tokenizer.ggml.unknown_token_id", 0);
    build_kv_u32(b, "tokenizer.ggml.cls_token_id", 1);
    build_kv_u32(b, "tokenizer.ggml.seperator_token_id", 2);
    build_kv_strs(b, "tokenizer.ggml.tokens", ARRAY_LEN(tokens), tokens);
    build_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, ARRAY_LEN(tokens));
    for (uint32_t i = 0; i < ARRAY_LEN(tokens); i++)
        build_u32(&b->values, i == 0             ? TOKEN_UNKNOWN
                              : i < 3 || i == 11 ? TOKEN_CONTROL
                              : i == 12          ? TOKEN_USER_DEFINED
                                                 : TOKEN_NORMAL);
}

void vocab_build_ugm(struct gguf_build *b)
{
    const uint32_t n = 3 + ARRAY_LEN(words) + 2;
    build_head(b, "t5");
    build_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    build_bytes(&b->values, "<pad>");
    build_bytes(&b->values, "</s>");
    build_bytes(&b->values, "<unk>");
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        build_bytes(&b->values, words[i]);
    build_bytes(&b->values, "<|end|>");
    build_bytes(&b->values, "<tool>");
    build_kv_array(b, "tokenizer.ggml.scores", GGUF_F32, n);
    for (uint32_t i = 0; i < n; i++) {
        const float score = -(float)(i % 11) - 1.0f;
        BUG_ON(buf_append(&b->values, &score, sizeof(score)) < 0);
    }
    build_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        build_u32(&b->values, i == 2                ? TOKEN_UNKNOWN
                              : i < 2 || i == n - 2 ? TOKEN_CONTROL
                              : i == n - 1          ? TOKEN_USER_DEFINED
                                                    : TOKEN_NORMAL);
}
