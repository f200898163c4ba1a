/* SPDX-License-Identifier: Apache-2.0 */
/* Jinja against Jinja2's own answers: real chat templates, unit cases, conversations
 * (tests/data/jinja/SOURCE.txt). */
#include "tests/support/cmocka_all.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja.h"

#define NOW 1752148800 /* 2025-07-10 12:00 UTC */

static char *read_file(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s cannot be read", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *p = test_malloc((size_t)n + 1);
    assert_int_equal(fread(p, 1, (size_t)n, f), n);
    p[n] = 0;
    fclose(f);
    *ret_n = (size_t)n;
    return p;
}

static json_t *load_json(const char *path)
{
    json_error_t e;
    json_t *v = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!v)
        fail_msg("%s:%d: %s", path, e.line, e.text);
    return v;
}

/* Whether rendering gives expected, or fails when expected is NULL. */
static bool agrees(const char *name, struct str source, const json_t *context,
                   const json_t *expected)
{
    struct err err = ERR_INIT;
    struct jinja *j = NULL;
    struct jinja_output out;
    struct jinja_options opt = {
        .context = context, .input_keys = "messages,tools,documents", .now_unix = NOW};
    jinja_output_init(&out);
    bool ok = jinja_compile(source, &j, &err) == 0 && jinja_render(j, &opt, &out, &err) == 0;
    bool good = expected
                    ? ok && out.text.len == json_string_length(expected) &&
                          memcmp(buf_str(&out.text), json_string_value(expected), out.text.len) == 0
                    : !ok && err.msg[0] && err.code != E_INTERNAL;
    if (!good)
        print_error("%s: expected %s, got %s\n", name,
                    expected ? json_string_value(expected) : "an error",
                    ok ? buf_str(&out.text) : err.msg);
    jinja_output_release(&out);
    jinja_free(j);
    return good;
}

static void check_cases(const char *path, size_t at_least)
{
    json_t *all = load_json(path), *c;
    size_t i, bad = 0;
    assert_true(json_array_size(all) >= at_least);
    json_array_foreach(all, i, c)
    {
        const json_t *t = json_object_get(c, "template");
        bad += !agrees(json_string_value(json_object_get(c, "name")),
                       (struct str){json_string_value(t), json_string_length(t)},
                       json_object_get(c, "context"), json_object_get(c, "output"));
    }
    json_decref(all);
    assert_int_equal(bad, 0);
}

static void models_of_the_hub(void **state)
{
    (void)state;
    check_cases("tests/data/jinja/models.json", 53);
}

static void unit_cases(void **state)
{
    (void)state;
    check_cases("tests/data/jinja/units.json", 150);
}

static void snippets_of_the_language(void **state)
{
    (void)state;
    size_t n, bad = 0, n_cases = 0;
    char *text = read_file("tests/data/jinja/snippets.jsonl", &n), *line = text, *end;
    json_t *context = NULL;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        json_t *c = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(c);
        if (!context) {
            context = c;
            continue;
        }
        const json_t *t = json_object_get(c, "template");
        bad +=
            !agrees(json_string_value(t), (struct str){json_string_value(t), json_string_length(t)},
                    context, json_object_get(c, "output"));
        n_cases++;
        json_decref(c);
    }
    json_decref(context);
    test_free(text);
    assert_true(n_cases > 1000);
    assert_int_equal(bad, 0);
}

static void templates_under_their_contexts(void **state)
{
    (void)state;
    json_t *contexts = load_json("tests/data/templates/contexts.json");
    size_t n, bad = 0, n_cases = 0;
    char *text = read_file("tests/data/templates/goldens.jsonl", &n), *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        char path[512];
        json_t *c = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(c);
        snprintf(path, sizeof(path), "tests/data/templates/%s",
                 json_string_value(json_object_get(c, "template")));
        size_t len;
        char *source = read_file(path, &len);
        json_t *context =
            json_copy(json_object_get(contexts, json_string_value(json_object_get(c, "context"))));
        json_object_set(context, "add_generation_prompt",
                        json_object_get(c, "add_generation_prompt"));
        bad += !agrees(path, (struct str){source, len}, context, json_object_get(c, "output"));
        n_cases++;
        json_decref(context);
        json_decref(c);
        test_free(source);
    }
    json_decref(contexts);
    test_free(text);
    assert_int_equal(n_cases, 378);
    assert_int_equal(bad, 0);
}

static uint64_t fnv1a(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3;
    return h;
}

/* One line of conversations.txt: how many of its renderings differ. */
static size_t check_template(char *line, const json_t *contexts, size_t *n_cases)
{
    char path[512], *save = NULL, *name = strtok_r(line, " ", &save), got[24];
    struct err err = ERR_INIT;
    struct jinja *j = NULL;
    struct jinja_output out;
    size_t len, bad = 0, i;
    json_t *context;
    snprintf(path, sizeof(path), "tests/data/templates/%s", name);
    char *source = read_file(path, &len);
    jinja_output_init(&out);
    assert_int_equal(jinja_compile((struct str){source, len}, &j, &err), 0);
    json_array_foreach((json_t *)contexts, i, context)
    {
        const char *want = strtok_r(NULL, " ", &save);
        struct jinja_options opt = {
            .context = context, .input_keys = "messages,tools", .now_unix = NOW};
        assert_non_null(want);
        snprintf(got, sizeof(got), "E");
        if (jinja_render(j, &opt, &out, &err) == 0)
            snprintf(got, sizeof(got), "%016" PRIx64, fnv1a(buf_str(&out.text), out.text.len));
        if (strcmp(want, got) != 0) {
            print_error("%s, conversation %zu: expected %s, got %s (%s)\n", name, i, want, got,
                        err.msg);
            bad++;
        }
        (*n_cases)++;
    }
    jinja_output_release(&out);
    jinja_free(j);
    test_free(source);
    return bad;
}

static void templates_under_many_conversations(void **state)
{
    (void)state;
    json_t *contexts = load_json("tests/data/jinja/conversations.json");
    size_t n, bad = 0, n_cases = 0;
    char *text = read_file("tests/data/jinja/conversations.txt", &n), *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        bad += check_template(line, contexts, &n_cases);
    }
    json_decref(contexts);
    test_free(text);
    assert_true(n_cases > 9000);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_of_the_hub),
        cmocka_unit_test(unit_cases),
        cmocka_unit_test(snippets_of_the_language),
        cmocka_unit_test(templates_under_their_contexts),
        cmocka_unit_test(templates_under_many_conversations),
    };
    return cmocka_run_group_tests_name("jinja_golden", tests, NULL, NULL);
}
