/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/runner/settings: from JSON and back, refusals, what a change means. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "daemon/runner/settings.h"
#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

static int apply(struct model_settings *s, const char *text, struct err *err)
{
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    int rc = model_settings_apply(s, j, err);
    json_decref(j);
    return rc;
}

static void must_print(const struct model_settings *s, const char *wanted)
{
    struct buf b;
    json_t *j = model_settings_json(s);
    buf_init(&b, 1 << 20);
    json_put_value(&b, j);
    assert_string_equal(buf_str(&b), wanted);
    buf_release(&b);
    json_decref(j);
}

/* A change that takes a new worker, and whose answers are the same. */
static void must_reload_for(const struct model_settings *s, const char *text)
{
    struct err err = ERR_INIT;
    struct model_settings t;
    assert_int_equal(model_settings_copy(&t, s, &err), 0);
    assert_int_equal(apply(&t, text, &err), 0);
    assert_true(model_settings_reload(s, &t));
    assert_true(model_settings_hash(&t) == model_settings_hash(s));
    model_settings_release(&t);
}

static void a_switch_is_on_off_or_absent(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct model_settings s;
    model_settings_init(&s);
    assert_int_equal(apply(&s, "{\"no-prepare\":false}", &err), 0);
    assert_true(s.has_no_prepare && !s.no_prepare);
    must_print(&s, "{\"no-prepare\":false}");
    must_reload_for(&s, "{\"no-prepare\":true}");
    must_reload_for(&s, "{\"no-prepare\":null}");
    assert_int_equal(apply(&s, "{\"no-prepare\":true}", &err), 0);
    assert_int_equal(apply(&s, "{\"no-prepare\":null}", &err), 0);
    assert_false(s.has_no_prepare || s.no_prepare);
    must_print(&s, "{}");
    model_settings_release(&s);
}

static void settings_go_both_ways(void **state)
{
    (void)state;
    static const char all[] =
        "{\"chat-template\":\"{{x}}\",\"context-size\":4096,\"max-num-seqs\":4,"
        "\"max-num-batched-tokens\":64,\"kv-cache-type\":\"f16\",\"kv-cache-memory\":1048576,"
        "\"threads\":2,\"speculative-draft-model\":\"ai/small\","
        "\"no-prepare\":true,\"keep-alive\":-1,\"pinned\":true,\"temperature\":0.7,\"top-p\":0.95,"
        "\"min-p\":0.05,\"top-k\":40,\"repetition-penalty\":1.1,\"presence-penalty\":-0.5,"
        "\"frequency-penalty\":0.25,\"max-tokens\":100,\"seed\":9007199254740993}";
    struct err err = ERR_INIT;
    struct model_settings s, t;
    model_settings_init(&s);
    must_print(&s, "{}");
    assert_int_equal(apply(&s, all, &err), 0);
    must_print(&s, all);
    assert_int_equal(model_settings_copy(&t, &s, &err), 0);
    assert_true(model_settings_hash(&t) == model_settings_hash(&s));
    assert_false(model_settings_reload(&s, &t));
    assert_int_equal(apply(&t, "{\"keep-alive\":\"1h30m\",\"kv-cache-memory\":\"2G\"}", &err), 0);
    assert_true(t.keep_alive_s == 5400 && t.kv_cache_memory == 2ull << 30);
    assert_true(model_settings_reload(&s, &t));
    assert_true(model_settings_hash(&t) == model_settings_hash(&s)); /* neither shapes answers */
    assert_int_equal(apply(&t, "{\"speculative-draft-model\":\"/m/x.gguf\"}", &err), 0);
    assert_string_equal(t.speculative_draft_model, "/m/x.gguf");
    assert_true(model_settings_hash(&t) == model_settings_hash(&s)); /* nor does this */
    assert_int_equal(apply(&t, "{\"speculative-draft-model\":\"\"}", &err), 0);
    assert_null(t.speculative_draft_model);
    assert_string_equal(s.speculative_draft_model, "ai/small");
    must_reload_for(&s, "{\"no-prepare\":false}"); /* which is something else than absent */
    must_reload_for(&s, "{\"no-prepare\":null}");
    assert_int_equal(apply(&t, "{\"temperature\":null,\"chat-template\":null}", &err), 0);
    assert_false(t.has_temperature);
    assert_null(t.chat_template);
    assert_true(model_settings_hash(&t) != model_settings_hash(&s));
    model_settings_release(&s);
    model_settings_release(&t);
}

static void mistakes_are_named_and_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"{\"context-size\":1}", "'context-size' is 1, and must be from 2 to 16777216"},
        {"{\"context-size\":\"x\"}", "must be a whole number"},
        {"{\"temprature\":1}", "did you mean 'temperature'?"},
        {"{\"xyzzy\":1}", "'xyzzy' is not a setting of a model"},
        {"{\"temperature\":-1}", "'temperature' is -1, and must be at least 0 and at most 100"},
        {"{\"top-p\":0}", "must be above 0"},
        {"{\"top-p\":1e-60}", "must be above 0"}, /* 0 where it is kept, and refused from there */
        {"{\"repetition-penalty\":1e-46}", "must be above 0"},
        {"{\"kv-cache-type\":\"q4\"}", "must be \"f32\", \"f16\", \"bf16\" or \"q8_0\""},
        {"{\"keep-alive\":\"soon\"}", "'keep-alive': 'soon' is not a time"},
        {"{\"keep-alive\":-2}", "-1 for ever"},
        {"{\"pinned\":1}", "must be true or false"},
        {"{\"no-prepare\":\"yes\"}", "'no-prepare' must be true or false, not"},
        {"{\"no_prepare\":true}", "did you mean 'no-prepare'?"},
        {"{\"seed\":-1}", "must not be negative"},
        {"{\"chat-template\":7}", "must be a string"},
        {"{\"speculative-draft-model\":7}", "must be a model's name"},
        {"{\"max-num-seqs\":9,\"max-num-batched-tokens\":8}", "less than 'max-num-seqs', 9"},
        {"[1]", "must be an object"},
    };
    struct model_settings s;
    struct err err = ERR_INIT;
    model_settings_init(&s);
    assert_int_equal(apply(&s, "{\"threads\":3}", &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(apply(&s, bad[i].json, &err), -E_INVALID);
        if (!strstr(err.msg, bad[i].says))
            print_error("%s: %s\n", bad[i].json, err.msg);
        assert_non_null(strstr(err.msg, bad[i].says));
        must_print(&s, "{\"threads\":3}");
    }
    model_settings_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(settings_go_both_ways),
                                       cmocka_unit_test(a_switch_is_on_off_or_absent),
                                       cmocka_unit_test(mistakes_are_named_and_change_nothing)};
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
