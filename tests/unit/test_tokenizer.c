/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: trust of runs, special tokens, round trips, streaming, limits, time. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "tests/support/vocab.h"

#define N_SMALL 5

/* One small vocabulary of each kind. */
static struct tokenizer *small(int which)
{
    struct gguf_build b;
    build_init(&b);
    switch (which) {
    case 0: vocab_build_spm(&b); break;
    case 1: vocab_build_bpe(&b, "gpt-2"); break;
    case 2: vocab_build_bpe(&b, "llama3"); break;
    case 3: vocab_build_wpm(&b); break;
    default: vocab_build_ugm(&b); break;
    }
    struct tokenizer *t = vocab_from(&b);
    build_release(&b);
    return t;
}

static void encode(const struct tokenizer *t, struct str text, unsigned flags, struct token_vec *v)
{
    struct err err = ERR_INIT;
    v->len = 0;
    int rc = tokenizer_encode(t, text, flags, v, &err);
    assert_string_equal(err.msg, "");
    assert_int_equal(rc, 0);
}

static unsigned count_attr(const struct tokenizer *t, const struct token_vec *v,
                           enum token_attr attr)
{
    unsigned n = 0;
    for (size_t i = 0; i < v->len; i++)
        n += tokenizer_attr(t, v->ids[i]) == attr;
    return n;
}

static void control_tokens_come_only_from_trust(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        struct token_vec v;
        token_vec_init(&v, 10000);
        for (uint32_t id = 0; id < tokenizer_n_vocab(t); id++) {
            if (tokenizer_attr(t, (int32_t)id) != TOKEN_CONTROL)
                continue;
            const struct str s = tokenizer_piece(t, (int32_t)id);
            encode(t, s, 0, &v);
            assert_int_equal(count_attr(t, &v, TOKEN_CONTROL), 0);
            encode(t, s, TOK_PARSE_SPECIAL, &v);
            assert_int_equal(v.len, 1);
            assert_int_equal(v.ids[0], id);
        }
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

static void no_border_of_runs_makes_a_control_token(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        const int32_t end = tokenizer_find(t, STR_LIT("<|end|>"));
        struct err err = ERR_INIT;
        struct token_vec v;
        token_vec_init(&v, 10000);
        for (size_t cut = 0; cut <= 7; cut++) {
            const char *p = "<|end|>";
            const struct text_run runs[] = {
                {STR_LIT("hello "), true}, {{p, cut}, true}, {{p + cut, 7 - cut}, false}};
            v.len = 0;
            assert_int_equal(tokenizer_encode_runs(t, runs, 3, 0, &v, &err), 0);
            assert_int_equal(count_attr(t, &v, TOKEN_CONTROL), cut == 7);
            const struct text_run swapped[] = {{{p, cut}, false}, {{p + cut, 7 - cut}, true}};
            v.len = 0;
            assert_int_equal(tokenizer_encode_runs(t, swapped, 2, 0, &v, &err), 0);
            assert_int_equal(count_attr(t, &v, TOKEN_CONTROL), cut == 0);
            const struct text_run both[] = {{{p, cut}, true}, {{p + cut, 7 - cut}, true}};
            v.len = 0;
            assert_int_equal(tokenizer_encode_runs(t, both, 2, 0, &v, &err), 0);
            assert_int_equal(v.len, 1); /* neighbours of one trust are one run */
            assert_int_equal(v.ids[0], end);
        }
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

static void runs_are_one_text_but_for_trust(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        struct err err = ERR_INIT;
        struct token_vec one, two;
        token_vec_init(&one, 10000);
        token_vec_init(&two, 10000);
        static const char text[] = "hello the <tool>abab<|end|> hello, \xc3\xa9h";
        const size_t n = sizeof(text) - 1, special = 20; /* where <|end|> begins */
        encode(t, (struct str){text, n}, TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL, &one);
        for (size_t cut = 0; cut <= n; cut++) {
            const bool before = cut <= special; /* trust holds where the control token is */
            const struct text_run runs[] = {{{text, cut}, !before},
                                            {{text + cut, n - cut}, before}};
            two.len = 0;
            if (cut > special && cut < special + 7)
                continue;
            assert_int_equal(tokenizer_encode_runs(t, runs, 2, TOK_ADD_SPECIAL, &two, &err), 0);
            assert_int_equal(one.len, two.len);
            assert_memory_equal(one.ids, two.ids, one.len * sizeof(int32_t));
        }
        token_vec_release(&one);
        token_vec_release(&two);
        tokenizer_free(t);
    }
}

static void user_defined_tokens_are_found_anywhere(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        struct token_vec v;
        token_vec_init(&v, 100);
        encode(t, STR_LIT("<tool><tool>"), 0, &v);
        assert_int_equal(v.len, 2);
        assert_int_equal(count_attr(t, &v, TOKEN_USER_DEFINED), 2);
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

/* Texts that show every kind of trouble. */
static const struct str troubles[] = {
    {"", 0},
    {" ", 1},
    {"  hello  ", 9},
    {"hello\n\n  the", 12},
    {"\xff\xfe\x80", 3},
    {"\xe2\x96", 2},
    {"a\xf0\x9f\xa6", 4},
    {"\xf0\x9f\xa6\x99 ab", 7},
    {"\0a\0", 3},
    {"\xe2\x96\x81the", 6},
    {"<0x41>", 6},
    {"</s><s><|end", 12},
    {"\xc3\xa9\xc3\xa9 \xcc\x81", 7},
    {"it's I'LL 12345", 15},
    {"\xed\xa0\x80\xc0\xaf", 5},
};

static void byte_level_and_spm_round_trip(void **state)
{
    (void)state;
    const char *const names[] = {"stories", "llama-spm", "gpt-2", "qwen2", NULL, NULL, NULL};
    for (int k = 0; k < 7; k++) {
        struct tokenizer *t = names[k] ? vocab_load(vocab_path(names[k])) : small(k - 4);
        struct token_vec v;
        struct buf out;
        struct err err = ERR_INIT;
        token_vec_init(&v, 10000);
        buf_init(&out, 100000);
        for (size_t i = 0; i < ARRAY_LEN(troubles); i++) {
            if (!strcmp(tokenizer_kind(t), "spm") && i == 9)
                continue; /* SPM cannot tell U+2581 from a space */
            encode(t, troubles[i], 0, &v);
            buf_clear(&out);
            assert_int_equal(tokenizer_decode(t, v.ids, v.len, false, &out, &err), 0);
            assert_int_equal(out.len, troubles[i].len);
            if (out.len)
                assert_memory_equal(out.data, troubles[i].p, out.len);
        }
        buf_release(&out);
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

/* The whole decoding with every maximal broken subpart replaced, as streaming writes it. */
static void mend(const struct buf *raw, struct buf *out)
{
    for (size_t i = 0; i < raw->len;) {
        uint32_t cp;
        size_t len;
        char c[UTF8_MAX_BYTES];
        (void)utf8_next(raw->data + i, raw->len - i, &cp, &len);
        assert_int_equal(buf_append(out, c, utf8_put(cp, c)), 0);
        i += len;
    }
}

static void streaming_is_whole_decoding_in_whole_characters(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        struct err err = ERR_INIT;
        struct buf raw, whole, out;
        buf_init(&raw, 100000);
        buf_init(&whole, 100000);
        buf_init(&out, 100000);
        srandom(7);
        for (int round = 0; round < 400; round++) {
            int32_t ids[12];
            const size_t n = (size_t)random() % 12;
            for (size_t i = 0; i < n; i++)
                ids[i] = (int32_t)(random() % tokenizer_n_vocab(t));
            buf_clear(&raw);
            buf_clear(&whole);
            buf_clear(&out);
            assert_int_equal(tokenizer_decode(t, ids, n, round % 2, &raw, &err), 0);
            mend(&raw, &whole);
            struct detok d;
            detok_init(&d, t, round % 2, true);
            for (size_t i = 0; i < n; i++) {
                const size_t before = out.len;
                assert_int_equal(detok_feed(&d, ids[i], &out, &err), 0);
                assert_true(utf8_is_valid((struct str){out.data + before, out.len - before}));
            }
            assert_int_equal(detok_finish(&d, &out, &err), 0);
            assert_int_equal(out.len, whole.len);
            if (out.len)
                assert_memory_equal(out.data, whole.data, out.len);
        }
        buf_release(&raw);
        buf_release(&whole);
        buf_release(&out);
        tokenizer_free(t);
    }
}

static void ids_outside_are_refused(void **state)
{
    (void)state;
    struct tokenizer *t = small(0);
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, 100);
    const int32_t ids[] = {-1, INT32_MAX, (int32_t)tokenizer_n_vocab(t)};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct detok d;
        detok_init(&d, t, true, true);
        assert_int_equal(tokenizer_decode(t, &ids[i], 1, true, &out, &err), -E_INVALID);
        assert_int_equal(detok_feed(&d, ids[i], &out, &err), -E_INVALID);
        assert_false(tokenizer_is_eog(t, ids[i]));
        assert_int_equal(tokenizer_piece(t, ids[i]).len, 0);
    }
    tokenizer_free(t);
}

static void special_tokens_of_stories(void **state)
{
    (void)state;
    struct tokenizer *t = vocab_load(vocab_path("stories"));
    struct token_vec v;
    token_vec_init(&v, 100);
    assert_string_equal(tokenizer_kind(t), "spm");
    assert_int_equal(tokenizer_n_vocab(t), 512);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_eog(t, 2));
    assert_false(tokenizer_is_eog(t, 1));
    encode(t, STR_LIT(""), TOK_ADD_SPECIAL, &v);
    assert_int_equal(v.len, 1);
    assert_int_equal(v.ids[0], 1);
    encode(t, STR_LIT("</s>"), TOK_PARSE_SPECIAL, &v);
    assert_int_equal(v.len, 1);
    assert_int_equal(v.ids[0], 2);
    token_vec_release(&v);
    tokenizer_free(t);
}

static void phi3_specials_take_the_space_after_them(void **state)
{
    (void)state;
    struct tokenizer *t = vocab_load(vocab_path("phi-3"));
    struct token_vec a, b;
    token_vec_init(&a, 100);
    token_vec_init(&b, 100);
    encode(t, STR_LIT("<|user|> \n hello<|end|>\n"), TOK_PARSE_SPECIAL, &a);
    encode(t, STR_LIT("<|user|>hello<|end|>"), TOK_PARSE_SPECIAL, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.ids, b.ids, a.len * sizeof(int32_t));
    token_vec_release(&a);
    token_vec_release(&b);
    tokenizer_free(t);
}

static void too_many_tokens_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct tokenizer *t = small(k);
        struct err err = ERR_INIT;
        struct token_vec v;
        token_vec_init(&v, 5);
        assert_int_equal(tokenizer_encode(t, STR_LIT("a hello the <tool> a hello a"), 0, &v, &err),
                         -E_LIMIT);
        assert_int_equal(v.len, 0);
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

static double cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double time_of(const struct tokenizer *t, const char *unit, size_t n)
{
    struct token_vec v;
    token_vec_init(&v, 1u << 26);
    const size_t len = strlen(unit);
    char *text = mem_alloc(n + len);
    for (size_t i = 0; i < n; i += len)
        memcpy(text + i, unit, len);
    const double start = cpu_seconds();
    encode(t, (struct str){text, n}, 0, &v);
    const double took = cpu_seconds() - start;
    mem_free(text);
    token_vec_release(&v);
    return took;
}

/* Linear work doubles, quadratic work takes four times as long; below 50 ms noise rules. */
static void hostile_texts_take_linear_time(void **state)
{
    (void)state;
    static const char *const units[] = {"a",        " ",
                                        "\n",       "7",
                                        "\xcc\x81", "\xf0\x9f\x91\xa9\xe2\x80\x8d",
                                        "\xff",     "a ",
                                        " \n",      "'",
                                        "<|end|>",  "<",
                                        "!",        "\xe4\xb8\xad",
                                        "aA",       "_",
                                        "\x01"};
    const char *const families[] = {"gpt-2",      "llama3",   "deepseek-llm", "deepseek-v3",
                                    "gpt-4o",     "tiny_aya", "superbpe",     "jais-2",
                                    "exaone-moe", "chameleon"};
    for (size_t k = 0; k < 3 + ARRAY_LEN(families); k++) {
        struct gguf_build b;
        build_init(&b);
        if (k < 3)
            (k == 0 ? vocab_build_spm : k == 1 ? vocab_build_wpm : vocab_build_ugm)(&b);
        else
            vocab_build_bpe(&b, families[k - 3]);
        struct tokenizer *t = vocab_from(&b);
        build_release(&b);
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            const double once = time_of(t, units[i], 40000), twice = time_of(t, units[i], 80000);
            if (twice >= 3 * once + 0.05)
                fail_msg("vocabulary %zu, unit %zu: %.3f s for 40 kB, %.3f s for 80 kB", k, i, once,
                         twice);
        }
        tokenizer_free(t);
    }
}

static void ten_megabytes_of_one_letter(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct tokenizer *t = small(k);
        const double took = time_of(t, "a", 10000000);
        assert_true(took <
                    20); /* below 1 s on an idle machine; sanitizers and neighbours need room */
        struct token_vec v;
        struct err err = ERR_INIT;
        static char text[10000000];
        memset(text, 'a', sizeof(text));
        token_vec_init(&v, 4096);
        const double start = cpu_seconds();
        assert_int_equal(tokenizer_encode(t, (struct str){text, sizeof(text)}, 0, &v, &err),
                         -E_LIMIT);
        v.max = sizeof(text) + 2;
        v.hopeless = 4096;
        assert_int_equal(tokenizer_encode(t, (struct str){text, sizeof(text)}, 0, &v, &err),
                         -E_CONTEXT);
        assert_true(cpu_seconds() - start < 0.1); /* refused by its length alone */
        assert_non_null(strstr(err.msg, "at least"));
        token_vec_release(&v);
        tokenizer_free(t);
    }
}

static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    for (int k = 0; k < N_SMALL; k++) {
        struct gguf_build b;
        struct gguf *g;
        struct err err = ERR_INIT;
        build_init(&b);
        switch (k) {
        case 0: vocab_build_spm(&b); break;
        case 3: vocab_build_wpm(&b); break;
        case 4: vocab_build_ugm(&b); break;
        default: vocab_build_bpe(&b, k == 1 ? "default" : "deepseek-v3"); break;
        }
        assert_int_equal(build_open(&b, GGUF_HEADER_ONLY, &g, &err), 0);
        build_release(&b);
        char text[9000];
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = i < 4000 ? 'a' : "hello the <|end|> 12.\n"[i % 22];
        int rc = -E_NOMEM;
        long n = 0;
        for (; rc == -E_NOMEM; n++) {
            struct tokenizer *t = NULL;
            struct token_vec v;
            token_vec_init(&v, 100000);
            const struct text_run runs[] = {{{text, 4500}, true}, {{text + 4500, 4500}, false}};
            err.msg[0] = '\0';
            mem_fault_after(n);
            rc = tokenizer_from_gguf(g, &t, &err);
            if (rc == 0)
                rc = tokenizer_encode_runs(t, runs, 2, TOK_ADD_SPECIAL, &v, &err);
            mem_fault_after(-1);
            assert_true(rc == 0 || (rc == -E_NOMEM && err.msg[0]));
            token_vec_release(&v);
            tokenizer_free(t);
        }
        assert_int_equal(rc, 0);
        assert_true(n > 10);
        gguf_close(g);
    }
}

/* Who may guess for whom. */
static void a_draft_speaks_of_the_same_tokens(void **state)
{
    static const struct {
        const char *model, *draft, *says; /* NULL: it may */
    } pairs[] = {
        {"llama-spm", "llama-spm", NULL},
        {"llama-spm", "phi-3", NULL}, /* 64 more at the end, and control tokens in words' places */
        {"phi-3", "llama-spm", NULL},
        {"llama-spm", "qwen2", "151669 tokens and the model 32000"},
        {"starcoder", "refact", "another text"},
        {"llama-spm", "baichuan", "tokens and the model"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct tokenizer *t = vocab_load(vocab_path(pairs[i].model)),
                         *draft = vocab_load(vocab_path(pairs[i].draft));
        struct err err = ERR_INIT;
        const int rc = tokenizer_check_draft(t, draft, &err);
        assert_int_equal(rc, pairs[i].says ? -E_INVALID : 0);
        if (pairs[i].says && (!strstr(err.msg, pairs[i].says) || !strstr(err.msg, "choose")))
            fail_msg("%s for %s: %s", pairs[i].draft, pairs[i].model, err.msg);
        tokenizer_free(t);
        tokenizer_free(draft);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_tokens_come_only_from_trust),
        cmocka_unit_test(no_border_of_runs_makes_a_control_token),
        cmocka_unit_test(runs_are_one_text_but_for_trust),
        cmocka_unit_test(user_defined_tokens_are_found_anywhere),
        cmocka_unit_test(byte_level_and_spm_round_trip),
        cmocka_unit_test(streaming_is_whole_decoding_in_whole_characters),
        cmocka_unit_test(ids_outside_are_refused),
        cmocka_unit_test(special_tokens_of_stories),
        cmocka_unit_test(phi3_specials_take_the_space_after_them),
        cmocka_unit_test(too_many_tokens_are_refused_and_leave_nothing),
        cmocka_unit_test(hostile_texts_take_linear_time),
        cmocka_unit_test(ten_megabytes_of_one_letter),
        cmocka_unit_test(every_failed_allocation_is_an_error),
        cmocka_unit_test(a_draft_speaks_of_the_same_tokens),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
