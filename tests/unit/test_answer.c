/* SPDX-License-Identifier: Apache-2.0 */
/* worker/serve/answer: stop strings across the borders of tokens, whatever the borders are.  The
 * detokenizer is the real one, on the model that ships. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "worker/serve/answer.h"

static struct gguf *gguf;
static struct tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    if (gguf_open_path("models/stories.gguf", GGUF_HEADER_ONLY, &gguf, &err) < 0 ||
        tokenizer_from_gguf(gguf, &tok, &err) < 0) {
        print_error("%s\n", err.msg);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_free(tok);
    gguf_close(gguf);
    return 0;
}

/* Text as byte tokens <0xNN>: a border after every byte. */
static size_t bytes_of(const char *text, int32_t *ids)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        char name[8];
        snprintf(name, sizeof(name), "<0x%02X>", (unsigned char)text[i]);
        ids[i] = tokenizer_find(tok, str_from(name));
        assert_true(ids[i] >= 0);
    }
    return n;
}

struct outcome {
    struct buf text;
    int32_t stop_index;
    size_t n_fed;
    size_t max_held;
};

static void run_params(const int32_t *ids, size_t n, const char *const *stops,
                       const struct gen_params *p, struct outcome *o)
{
    struct str strs[8];
    uint32_t n_stops = 0;
    struct stop_set set;
    struct answer a;
    struct err err = ERR_INIT;
    while (stops && stops[n_stops]) {
        strs[n_stops] = str_from(stops[n_stops]);
        n_stops++;
    }
    *o = (struct outcome){.stop_index = -1};
    buf_init(&o->text, 1 << 20);
    assert_int_equal(stop_set_init(&set, strs, n_stops, &err), 0);
    assert_int_equal(answer_init(&a, tok, &set, p, &err), 0);
    int rc = 0;
    while (rc == 0 && o->n_fed < n) {
        rc = answer_feed(&a, ids[o->n_fed++], &o->text, &err);
        o->max_held = MAX_OF(o->max_held, a.held.len);
    }
    if (rc == 0)
        rc = answer_finish(&a, &o->text, &err);
    assert_true(rc >= 0);
    assert_int_equal(rc == 1, a.stop_index >= 0);
    o->stop_index = a.stop_index;
    answer_release(&a);
    stop_set_release(&set);
}

static void run_ids(const int32_t *ids, size_t n, const char *const *stops, uint32_t min_tokens,
                    struct outcome *o)
{
    run_params(ids, n, stops, &(struct gen_params){.min_tokens = min_tokens}, o);
}

static void run_bytes(const char *text, const char *const *stops, struct outcome *o)
{
    int32_t ids[4096];
    run_ids(ids, bytes_of(text, ids), stops, 0, o);
}

static void expect(const char *text, const char *const *stops, const char *want, int32_t want_stop)
{
    struct outcome o;
    run_bytes(text, stops, &o);
    assert_string_equal(buf_str(&o.text), want);
    assert_int_equal(o.stop_index, want_stop);
    buf_release(&o.text);
}

#define STOPS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void stops_end_an_answer_before_themselves(void **state)
{
    (void)state;
    expect("hello world", NULL, "hello world", -1);
    expect("hello world", STOPS("xyz"), "hello world", -1);
    expect("hello END world", STOPS("END"), "hello ", 0);
    expect("END", STOPS("END"), "", 0);
    expect("hello EN", STOPS("END"), "hello EN", -1); /* held back, then text after all */
    expect("ENEND", STOPS("END"), "EN", 0);
    expect("aabaaab", STOPS("aaab"), "aab", 0);
    expect("ababab!", STOPS("abab!"), "ab", 0);
    expect("abcd", STOPS("zz", "bc"), "a", 1);
    expect("xabcy", STOPS("bc", "abc"), "x", 1); /* both end there: the longer */
    expect("one\n\ntwo", STOPS("\n\n"), "one", 0);
    expect("caf\xc3\xa9 noir", STOPS("\xc3\xa9 n"), "caf", 0);
}

static void a_stop_is_text_where_that_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {{"hello END world", "hello END"},
                 {"END", "END"},
                 {"hello EN", "hello EN"},
                 {"ENENDx", "ENEND"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t ids[64];
        struct outcome o;
        size_t n = bytes_of(cases[i].text, ids);
        run_params(ids, n, STOPS("END"), &(struct gen_params){.include_stop = true}, &o);
        assert_string_equal(buf_str(&o.text), cases[i].want);
        buf_release(&o.text);
    }
}

static void nothing_is_held_longer_than_it_may_be_a_stop(void **state)
{
    (void)state;
    struct outcome o;
    run_bytes("abcdefgh", STOPS("xyz"), &o);
    assert_int_equal(o.max_held, 0);
    buf_release(&o.text);
    run_bytes("abxyabxy", STOPS("xyz"), &o);
    assert_int_equal(o.max_held, 2);
    buf_release(&o.text);
}

/* Where an answer ends follows from its text, not from how tokens cut it: byte by byte and as the
 * tokenizer cuts. */
static void borders_do_not_matter(void **state)
{
    (void)state;
    static const char alphabet[] = "abE ND\n";
    uint32_t x = 12345;
    for (int round = 0; round < 400; round++) {
        char text[64];
        size_t n = 0;
        for (; n < 40; n++) {
            x = x * 1664525u + 1013904223u;
            text[n] = alphabet[(x >> 24) % (sizeof(alphabet) - 1)];
        }
        text[n] = '\0';
        const char *const stops[] = {"ND", "aba", "b E", "E\nE", NULL};
        struct outcome bytes, whole;
        struct token_vec v;
        struct err err = ERR_INIT;
        run_bytes(text, stops, &bytes);
        token_vec_init(&v, 1000);
        assert_int_equal(tokenizer_encode(tok, str_from(text), 0, &v, &err), 0);
        run_ids(v.ids, v.len, stops, 0, &whole);
        token_vec_release(&v);
        /* The tokenizer puts a space before its text. */
        const char *got = buf_str(&whole.text);
        assert_string_equal(got + (got[0] == ' '), buf_str(&bytes.text));
        assert_int_equal(whole.stop_index, bytes.stop_index);
        /* And against plain search: the earliest end wins. */
        size_t end = SIZE_MAX;
        for (size_t i = 0; stops[i]; i++) {
            const char *p = strstr(text, stops[i]);
            if (p)
                end = MIN_OF(end, (size_t)(p - text) + strlen(stops[i]));
        }
        assert_int_equal(bytes.stop_index >= 0, end != SIZE_MAX);
        if (bytes.stop_index >= 0)
            assert_int_equal(bytes.text.len + strlen(stops[bytes.stop_index]), end);
        buf_release(&bytes.text);
        buf_release(&whole.text);
    }
}

static void min_tokens_come_before_stops(void **state)
{
    (void)state;
    int32_t ids[64];
    struct outcome o;
    size_t n = bytes_of("abcabcabc", ids);
    run_ids(ids, n, STOPS("bc"), 6, &o);
    assert_string_equal(buf_str(&o.text), "abcabca"); /* bytes 5 and 6 are one, begun too early */
    buf_release(&o.text);
    run_ids(ids, n, STOPS("bc"), 100, &o);
    assert_string_equal(buf_str(&o.text), "abcabcabc");
    buf_release(&o.text);
}

static void text_leaves_in_whole_characters(void **state)
{
    (void)state;
    expect("\xf0\x9f\x98\x80!", NULL, "\xf0\x9f\x98\x80!", -1);
    expect("x\xf0\x9f\x98", NULL, "x\xef\xbf\xbd", -1); /* cut by the end */
}

static void memory_that_is_out_is_an_error(void **state)
{
    (void)state;
    const struct str strs[] = {{"END", 3}, {"STOP", 4}};
    for (long n = 0; n < 6; n++) {
        struct stop_set set;
        struct answer a = {.stop_index = -1};
        struct err err = ERR_INIT;
        mem_fault_after(n);
        int rc = stop_set_init(&set, strs, 2, &err);
        if (rc == 0)
            rc = answer_init(&a, tok, &set, &(struct gen_params){0}, &err);
        mem_fault_after(-1);
        assert_int_equal(rc, n < 4 ? -E_NOMEM : 0);
        answer_release(&a);
        stop_set_release(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_end_an_answer_before_themselves),
        cmocka_unit_test(a_stop_is_text_where_that_is_wanted),
        cmocka_unit_test(nothing_is_held_longer_than_it_may_be_a_stop),
        cmocka_unit_test(borders_do_not_matter),
        cmocka_unit_test(min_tokens_come_before_stops),
        cmocka_unit_test(text_leaves_in_whole_characters),
        cmocka_unit_test(memory_that_is_out_is_an_error),
    };
    return cmocka_run_group_tests_name("answer", tests, setup, teardown);
}
