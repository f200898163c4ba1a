/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile and broken vocabularies: refused with a sentence, or harmless. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "tests/support/vocab.h"

static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a", "b", "ab", " "};
#define N_TOKENS ((uint32_t)ARRAY_LEN(tokens))

static struct gguf_build start(const char *model)
{
    struct gguf_build b;
    build_init(&b);
    build_kv_str(&b, "general.architecture", "llama");
    build_kv_str(&b, "tokenizer.ggml.model", model);
    return b;
}

/* Loads what was built; the error's code, 0 for none; the message must hold `says`. */
static void expect(struct gguf_build *b, enum err_code code, const char *says)
{
    struct err err = ERR_INIT;
    const int rc = vocab_try(b, &err);
    if (rc != (int)code || !strstr(err.msg, says))
        fail_msg("wanted '%s' with '%s', got '%s': %s", err_code_name((int)code), says,
                 err_code_name(rc), err.msg);
    build_release(b);
}

static void put_floats(struct gguf_build *b, const char *key, uint32_t n, float v)
{
    build_kv_array(b, key, GGUF_F32, n);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(buf_append(&b->values, &v, sizeof(v)), 0);
}

static void put_types(struct gguf_build *b, uint32_t n, int32_t v)
{
    build_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        build_u32(&b->values, (uint32_t)v);
}

static void unknown_kinds_and_families_name_the_known(void **state)
{
    (void)state;
    struct gguf_build b = start("rwkv");
    expect(&b, E_UNSUPPORTED, "known: llama gpt2 bert t5");
    b = start("gpt2");
    build_kv_str(&b, "tokenizer.ggml.pre", "nobody-knows");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    expect(&b, E_UNSUPPORTED, "llama3");
}

static void tokens_missing_or_of_another_type(void **state)
{
    (void)state;
    struct gguf_build b = start("llama");
    expect(&b, E_FORMAT, "tokenizer.ggml.tokens is missing");
    b = start("llama");
    put_floats(&b, "tokenizer.ggml.tokens", 4, 1);
    expect(&b, E_FORMAT, "tokenizer.ggml.tokens is not an array of strings");
    b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", 0, tokens);
    expect(&b, E_FORMAT, "missing or empty");
}

static void arrays_of_another_length(void **state)
{
    (void)state;
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    put_floats(&b, "tokenizer.ggml.scores", N_TOKENS - 1, 0);
    expect(&b, E_FORMAT, "tokenizer.ggml.scores has 6 items for 7 tokens");
    b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    put_types(&b, N_TOKENS + 1, 1);
    expect(&b, E_FORMAT, "tokenizer.ggml.token_type has 8 items");
    b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    put_types(&b, N_TOKENS, 99);
    expect(&b, E_FORMAT, "token_type[0] is 99");
    b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    build_kv_strs(&b, "tokenizer.ggml.scores", N_TOKENS, tokens);
    expect(&b, E_FORMAT, "tokenizer.ggml.scores is not an array of numbers");
}

static void merges_of_tokens_that_are_not_there(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"a c", "needs the token 'c'"},  {"c a", "needs the token 'c'"},
        {"b a", "needs the token 'ba'"}, {"ab", "is not two tokens"},
        {"", "is not two tokens"},       {" ", "is not two tokens"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct gguf_build b = start("gpt2");
        build_kv_str(&b, "tokenizer.ggml.pre", "gpt-2");
        build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
        build_kv_strs(&b, "tokenizer.ggml.merges", 1, &bad[i][0]);
        expect(&b, E_FORMAT, bad[i][1]);
    }
    struct gguf_build b = start("gpt2");
    build_kv_str(&b, "tokenizer.ggml.pre", "gpt-2");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    expect(&b, E_FORMAT, "merges is missing");
}

static void tokens_too_long(void **state)
{
    (void)state;
    char *big = mem_alloc((16u << 20) + 1);
    memset(big, 'x', 16u << 20);
    const char *list[] = {"<unk>", "<s>", "</s>", big};
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", 4, list);
    expect(&b, E_LIMIT, "tokenizer.ggml.tokens[3] has 16777216 bytes; the limit is 1024");
    b = start("gpt2");
    build_kv_str(&b, "tokenizer.ggml.pre", "gpt-2");
    build_kv_strs(&b, "tokenizer.ggml.tokens", 4, list);
    expect(&b, E_LIMIT, "the limit is 65536");
    big[LIMIT_TOKEN_SPECIAL_BYTES + 1] = '\0';
    b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", 4, list);
    put_types(&b, 4, TOKEN_CONTROL);
    expect(&b, E_LIMIT, "special token 3 has 257 bytes");
    mem_free(big);
}

static void special_ids_outside_the_vocabulary_are_none(void **state)
{
    (void)state;
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    build_kv_u32(&b, "tokenizer.ggml.bos_token_id", UINT32_MAX);
    build_kv_int(&b, "tokenizer.ggml.eos_token_id", GGUF_I32, -1);
    build_kv_u32(&b, "tokenizer.ggml.unknown_token_id", N_TOKENS);
    struct tokenizer *t = vocab_from(&b);
    struct err err = ERR_INIT;
    struct token_vec v;
    token_vec_init(&v, 10);
    assert_int_equal(tokenizer_bos(t), TOKEN_NONE);
    assert_int_equal(tokenizer_eos(t), TOKEN_NONE);
    assert_false(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_encode(t, STR_LIT("zab"), TOK_ADD_SPECIAL, &v, &err), 0);
    assert_int_equal(v.len,
                     1); /* neither the space nor z has a token, and there is no unknown one */
    assert_int_equal(v.ids[0], 5);
    token_vec_release(&v);
    tokenizer_free(t);
    build_release(&b);
}

static void empty_and_double_tokens_are_harmless(void **state)
{
    (void)state;
    static const char *const list[] = {"<unk>", "<s>", "</s>", "", "a", "", "a", "\xe2\x96\x81"};
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", ARRAY_LEN(list), list);
    struct tokenizer *t = vocab_from(&b);
    struct err err = ERR_INIT;
    struct token_vec v;
    token_vec_init(&v, 10);
    assert_int_equal(tokenizer_encode(t, STR_LIT("aa"), 0, &v, &err), 0);
    assert_int_equal(v.len, 3);
    assert_int_equal(v.ids[1], 6); /* of two the last, as llama.cpp has it */
    assert_int_equal(tokenizer_find(t, STR_LIT("")), TOKEN_NONE);
    token_vec_release(&v);
    tokenizer_free(t);
    build_release(&b);
}

static void scores_that_are_no_numbers(void **state)
{
    (void)state;
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    put_floats(&b, "tokenizer.ggml.scores", N_TOKENS, __builtin_nanf(""));
    expect(&b, E_OK, "");
    b = start("t5");
    build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
    put_floats(&b, "tokenizer.ggml.scores", N_TOKENS, __builtin_inff());
    expect(&b, E_FORMAT, "is not a finite number");
}

/* A double array in which every unit claims to be what was asked for. */
static void charsmaps_that_lie(void **state)
{
    (void)state;
    static const struct {
        uint32_t units_bytes;
        const char *says;
    } bad[] = {
        {0, "cannot hold"}, {3, "cannot hold"}, {1u << 31, "cannot hold"}, {64, "cannot hold"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct gguf_build b = start("t5");
        build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
        build_kv_array(&b, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, 68);
        build_u32(&b.values, bad[i].units_bytes);
        for (int k = 0; k < 16; k++)
            build_u32(&b.values, 0);
        expect(&b, E_FORMAT, bad[i].says);
    }
    static const uint32_t lies[] = {0xFFFFFFFFu, 0x00000161u, 0x7FFFFD61u, 0x00000761u};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct gguf_build b = start("t5");
        build_kv_strs(&b, "tokenizer.ggml.tokens", N_TOKENS, tokens);
        build_kv_array(&b, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, 4 + 1024 + 4);
        build_u32(&b.values, 1024);
        for (int k = 0; k < 257; k++)
            build_u32(&b.values, k < 256 ? lies[i] : 0);
        struct tokenizer *t = vocab_from(&b);
        struct err err = ERR_INIT;
        struct token_vec v;
        token_vec_init(&v, 100);
        assert_int_equal(tokenizer_encode(t,
                                          STR_LIT("aaaa\xff"
                                                  "b\x01"),
                                          0, &v, &err),
                         0);
        token_vec_release(&v);
        tokenizer_free(t);
        build_release(&b);
    }
}

static void models_without_text_have_ids(void **state)
{
    (void)state;
    static const char *const models[] = {"test", "none", "no_vocab"};
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct gguf_build b = start(models[i]);
        build_kv_u32(&b, "llama.vocab_size", 77);
        struct tokenizer *t = vocab_from(&b);
        struct err err = ERR_INIT;
        struct token_vec v;
        token_vec_init(&v, 10);
        assert_false(tokenizer_has_text(t));
        assert_int_equal(tokenizer_n_vocab(t), 77);
        assert_int_equal(tokenizer_encode(t, STR_LIT("a"), 0, &v, &err), -E_UNSUPPORTED);
        assert_false(tokenizer_is_eog(t, 0));
        assert_int_equal(tokenizer_piece(t, 0).len, 0);
        tokenizer_free(t);
        build_release(&b);
    }
    struct gguf_build b = start("none");
    build_tensor(&b, "token_embd.weight", 0, 2, (const uint64_t[]){8, 33});
    struct tokenizer *t = vocab_from(&b);
    assert_int_equal(tokenizer_n_vocab(t), 33);
    tokenizer_free(t);
    build_release(&b);
}

/* A vocabulary whose merges spell a control token gives it to nobody's text. */
static void merges_never_lead_to_control_tokens(void **state)
{
    (void)state;
    static const char *const list[] = {"<", "/", "s", ">", "</", "s>", "</s>"};
    static const char *const merges[] = {"< /", "s >", "</ s>"};
    for (int k = 0; k < 2; k++) {
        struct gguf_build b = start(k ? "llama" : "gpt2");
        if (!k)
            build_kv_str(&b, "tokenizer.ggml.pre", "llama3");
        build_kv_strs(&b, "tokenizer.ggml.tokens", ARRAY_LEN(list), list);
        build_kv_array(&b, "tokenizer.ggml.token_type", GGUF_I32, ARRAY_LEN(list));
        for (uint32_t i = 0; i < ARRAY_LEN(list); i++)
            build_u32(&b.values, i == 6 ? TOKEN_CONTROL : TOKEN_NORMAL);
        build_kv_strs(&b, "tokenizer.ggml.merges", ARRAY_LEN(merges), merges);
        build_kv_bool(&b, "tokenizer.ggml.add_space_prefix", false);
        struct tokenizer *t = vocab_from(&b);
        struct err err = ERR_INIT;
        struct token_vec v;
        token_vec_init(&v, 10);
        assert_int_equal(tokenizer_encode(t, STR_LIT("</s>"), 0, &v, &err), 0);
        assert_true(v.len > 1);
        for (size_t i = 0; i < v.len; i++)
            assert_int_not_equal(v.ids[i], 6);
        token_vec_release(&v);
        tokenizer_free(t);
        build_release(&b);
    }
}

/* Whatever converters typed it, a token that ends answers is not for users to spell. */
static void end_tokens_typed_as_text_become_control(void **state)
{
    (void)state;
    static const char *const list[] = {"<unk>", "<s>", "</s>", "<|im_end|>", "<", "|"};
    struct gguf_build b = start("llama");
    build_kv_strs(&b, "tokenizer.ggml.tokens", ARRAY_LEN(list), list);
    put_types(&b, ARRAY_LEN(list), TOKEN_USER_DEFINED);
    struct tokenizer *t = vocab_from(&b);
    assert_int_equal(tokenizer_attr(t, 3), TOKEN_CONTROL);
    assert_true(tokenizer_is_eog(t, 3));
    assert_true(tokenizer_is_eog(t, 2));
    assert_int_equal(tokenizer_attr(t, 4), TOKEN_USER_DEFINED);
    tokenizer_free(t);
    build_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_kinds_and_families_name_the_known),
        cmocka_unit_test(tokens_missing_or_of_another_type),
        cmocka_unit_test(arrays_of_another_length),
        cmocka_unit_test(merges_of_tokens_that_are_not_there),
        cmocka_unit_test(tokens_too_long),
        cmocka_unit_test(special_ids_outside_the_vocabulary_are_none),
        cmocka_unit_test(empty_and_double_tokens_are_harmless),
        cmocka_unit_test(scores_that_are_no_numbers),
        cmocka_unit_test(charsmaps_that_lie),
        cmocka_unit_test(models_without_text_have_ids),
        cmocka_unit_test(merges_never_lead_to_control_tokens),
        cmocka_unit_test(end_tokens_typed_as_text_become_control),
    };
    return cmocka_run_group_tests_name("tokenizer, bad vocabularies", tests, NULL, NULL);
}
