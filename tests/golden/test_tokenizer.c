/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers against ids made by others: the models' own tokenizers (tests/data/vocab) and
 * llama.cpp (tests/data/tokenizer). */
#include "tests/support/cmocka_all.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/vocab.h"

#define MAX_TEXTS 1000

struct texts {
    struct buf bytes;
    struct str v[MAX_TEXTS];
    size_t n;
};

/* A file as a string. */
static void read_string(const char *path, struct buf *out)
{
    build_read(path, out);
    assert_int_equal(buf_append_char(out, '\0'), 0);
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* One text a line, \xx for what is not printable. */
static void texts_read(struct texts *t)
{
    struct buf file;
    build_read("tests/data/tokenizer/texts.txt", &file);
    buf_init(&t->bytes, file.len + 1);
    assert_int_equal(buf_reserve(&t->bytes, file.len + 1), 0);
    char *out = t->bytes.data, *start = out;
    t->n = 0;
    for (const char *p = file.data; p < file.data + file.len; p++) {
        if (*p == '\n') {
            assert_true(t->n < MAX_TEXTS);
            t->v[t->n++] = (struct str){start, (size_t)(out - start)};
            start = out;
        } else if (*p == '\\') {
            *out++ = (char)(hex(p[1]) * 16 + hex(p[2]));
            p += 2;
        } else {
            *out++ = *p;
        }
    }
    buf_release(&file);
}

static uint64_t fnv1a(const void *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

/* Compares the texts' ids to the lines "count hash" at *lines, which moves on. */
static unsigned compare(const struct tokenizer *t, const char *name, const struct texts *texts,
                        size_t n, const char **lines)
{
    struct token_vec v;
    struct err err = ERR_INIT;
    unsigned bad = 0;
    token_vec_init(&v, 1u << 20);
    for (size_t i = 0; i < n; i++) {
        char *end;
        const size_t count = strtoul(*lines, &end, 10);
        const uint64_t hash = strtoull(end, &end, 16);
        *lines = end + (*end == '\n');
        v.len = 0;
        assert_int_equal(tokenizer_encode(t, texts->v[i], 0, &v, &err), 0);
        if (v.len != count || fnv1a(v.ids, v.len * sizeof(*v.ids)) != hash) {
            bad++;
            print_message("%s: text %zu (line %zu of texts.txt) gives other ids\n", name, i, i + 1);
        }
    }
    token_vec_release(&v);
    return bad;
}

static void other_texts_as_llama_cpp(void **state)
{
    (void)state;
    static const char *const names[] = {
        "baichuan",    "bert-bge", "deepseek-coder", "deepseek-llm", "falcon",
        "gemma4-made", "gpt-2",    "llama-spm",      "mpt",          "phi-3",
        "qwen2",       "refact",   "starcoder",      "stories",      "t5"};
    static struct texts texts;
    unsigned bad = 0;
    texts_read(&texts);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[256];
        struct buf ids;
        (void)snprintf(path, sizeof(path), "tests/data/tokenizer/%s.ids", names[i]);
        read_string(path, &ids);
        const char *lines = buf_str(&ids);
        struct tokenizer *t = vocab_load(vocab_path(names[i]));
        bad += compare(t, names[i], &texts, texts.n, &lines);
        assert_int_equal(*lines, '\0');
        tokenizer_free(t);
        buf_release(&ids);
    }
    buf_release(&texts.bytes);
    assert_int_equal(bad, 0);
}

static void every_family_cuts_as_llama_cpp(void **state)
{
    (void)state;
    static struct texts texts;
    struct buf ids;
    unsigned bad = 0, n = 0;
    texts_read(&texts);
    read_string("tests/data/tokenizer/families.ids", &ids);
    for (const char *lines = buf_str(&ids); *lines; n++) {
        char name[64];
        const size_t len = strcspn(lines, "\n");
        assert_true(len < sizeof(name));
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, lines);
        lines += len + 1;
        struct gguf_build b;
        build_init(&b);
        vocab_build_pairs(&b, name);
        struct tokenizer *t = vocab_from(&b);
        build_release(&b);
        assert_string_equal(tokenizer_pre(t), name);
        bad += compare(t, name, &texts, 300, &lines);
        tokenizer_free(t);
    }
    buf_release(&ids);
    buf_release(&texts.bytes);
    assert_int_equal(bad, 0);
    assert_int_equal(n, 29);
}

/* The next text of an .inp file; false at the end. */
static bool next_text(const char **at, struct str *ret)
{
    static const char part[] = "\n__ggml_vocab_test__\n";
    if (!*at)
        return false;
    const char *end = strstr(*at, part);
    *ret = (struct str){*at, end ? (size_t)(end - *at) : strlen(*at)};
    *at = end ? end + sizeof(part) - 1 : NULL;
    return true;
}

static unsigned compare_pairs(const struct tokenizer *t, const char *name, const char *texts,
                              const char *ids)
{
    struct token_vec v;
    struct err err = ERR_INIT;
    struct str s;
    unsigned bad = 0, n = 0;
    token_vec_init(&v, 1u << 20);
    for (; *ids && next_text(&texts, &s); n++) {
        v.len = 0;
        assert_int_equal(tokenizer_encode(t, s, 0, &v, &err), 0);
        bool same = true;
        size_t i = 0;
        for (; *ids == ' '; i++) {
            char *end;
            const long id = strtol(ids, &end, 10);
            same = same && i < v.len && v.ids[i] == id;
            ids = end;
        }
        assert_int_equal(*ids, '\n');
        ids++;
        if (!same || i != v.len) {
            bad++;
            print_message("%s: text %u '%.*s' gives other ids\n", name, n, STR_ARG(s));
        }
    }
    token_vec_release(&v);
    assert_int_equal(n, 46);
    return bad;
}

static void the_models_own_tokenizers_ids(void **state)
{
    (void)state;
    static const char *const names[] = {"bert-bge", "deepseek-coder", "deepseek-llm", "falcon",
                                        "gpt-2",    "llama-spm",      "mpt",          "phi-3",
                                        "qwen2",    "refact",         "starcoder"};
    struct buf texts, ids;
    unsigned bad = 0;
    read_string("tests/data/vocab/texts.inp", &texts);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[256];
        (void)snprintf(path, sizeof(path), "tests/data/vocab/%s.out", names[i]);
        read_string(path, &ids);
        struct tokenizer *t = vocab_load(vocab_path(names[i]));
        bad += compare_pairs(t, names[i], texts.data, buf_str(&ids));
        tokenizer_free(t);
        buf_release(&ids);
    }
    buf_release(&texts);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_models_own_tokenizers_ids),
        cmocka_unit_test(other_texts_as_llama_cpp),
        cmocka_unit_test(every_family_cuts_as_llama_cpp),
    };
    return cmocka_run_group_tests_name("tokenizer goldens", tests, NULL, NULL);
}
