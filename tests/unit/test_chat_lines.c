/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of a conversation, its parameters, and where its answers go. */
#include <unistd.h>

#include "cli/chat/command.h"
#include "cli/chat/output.h"
#include "cli/chat/params.h"
#include "tests/support/cmocka_all.h"

static void parses(const char *line, enum command_id id, const char *rest)
{
    struct command c;
    struct err err = ERR_INIT;
    assert_int_equal(command_parse(str_from(line), &c, &err), 0);
    assert_int_equal(c.id, id);
    assert_true(str_is(c.rest, rest));
}

static void refuses(const char *line, const char *part)
{
    struct command c;
    struct err err = ERR_INIT;
    assert_int_equal(command_parse(str_from(line), &c, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, part));
}

static void test_commands(void **state)
{
    (void)state;
    parses("hello /bye", COMMAND_MESSAGE, "hello /bye");
    parses(" /bye", COMMAND_MESSAGE, " /bye");
    parses("/bye", COMMAND_BYE, "");
    parses("/exit  ", COMMAND_BYE, "");
    parses("/?", COMMAND_HELP, "");
    parses("/help set", COMMAND_HELP, "set");
    parses("/set system  Be brief. ", COMMAND_SET_SYSTEM, "Be brief.");
    parses("/set parameter temperature 0.5", COMMAND_SET_PARAMETER, "temperature 0.5");
    parses("/set parameter", COMMAND_SET_PARAMETER, "");
    parses("/show", COMMAND_SHOW, "");
    parses("/show messages", COMMAND_SHOW_MESSAGES, "");
    parses("/save a b.json", COMMAND_SAVE, "a b.json");
    parses("/x y z", COMMAND_UNKNOWN, "/x");
    parses("/set colour red", COMMAND_UNKNOWN, "/set colour");
    parses("/set", COMMAND_SET, "");
    parses("/show all", COMMAND_UNKNOWN, "/show all");
    parses("/byebye", COMMAND_UNKNOWN, "/byebye");
    refuses("/save", "/save FILE");
    refuses("/set system", "/set system TEXT");
    refuses("/bye now", "takes nothing");
    refuses("/show info x", "takes nothing");
    assert_string_equal(command_near(STR_LIT("/shwo")), "/show");
    assert_string_equal(command_near(STR_LIT("/set syste")), "/set system TEXT");
    assert_string_equal(command_near(STR_LIT("/celar")), "/clear");
    assert_null(command_near(STR_LIT("/nonsense")));
}

static void test_quotes(void **state)
{
    (void)state;
    assert_true(command_is_open(str_from("\"\"\"a")));
    assert_true(command_is_open(str_from("/set system \"\"\"a\nb")));
    assert_false(command_is_open(str_from("\"\"\"a\"\"\"")));
    assert_false(command_is_open(str_from("\"\"\"a\nb\"\"\" ")));
    assert_false(command_is_open(str_from("say \"\"\"a")));
    assert_true(command_is_open(str_from("\"\"\"\"")));
    assert_true(str_is(command_unquote(str_from("\"\"\"\na\nb\n\"\"\""), false), "a\nb"));
    assert_true(str_is(command_unquote(str_from("\"a\""), false), "\"a\""));
    assert_true(str_is(command_unquote(str_from(" \"a\" "), true), "a"));
    assert_true(str_is(command_unquote(str_from("\"\""), true), ""));
    assert_true(str_is(command_unquote(str_from(" a "), false), " a "));
}

static void sets(json_t *params, const char *name, const char *value, const char *want)
{
    struct err err = ERR_INIT;
    assert_int_equal(params_set(params, name, value, &err), 0);
    char *text =
        json_dumps(json_object_get(params, params_name(name)), JSON_ENCODE_ANY | JSON_COMPACT);
    assert_string_equal(text ? text : "", want);
    free(text);
}

static void test_params(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *part;
    } wrong[] = {{"temperature", "hot", "number from 0 to 100"},
                 {"temperature", "nan", "number"},
                 {"top_p", "1.5", "0 to 1"},
                 {"top_k", "-1", "whole number"},
                 {"seed", "1.5", "whole number"},
                 {"max_tokens", "0", "from 1 to"},
                 {"logit_bias", "1:200", "-100 to 100"},
                 {"logit_bias", "x", "biases"},
                 {"stop_token_ids", "1,,2", "token ids"},
                 {"ignore_eos", "maybe", "neither yes nor no"},
                 {"stop", "", "empty"},
                 {"temprature", "1", "did you mean temperature?"},
                 {"xyzzy", "1", "no parameter 'xyzzy'"}};
    json_t *p = json_object();
    sets(p, "temperature", "0.5", "0.5");
    sets(p, "top-k", "40", "40");
    sets(p, "repeat_penalty", "1.25", "1.25");
    sets(p, "num_predict", "10", "10");
    sets(p, "seed", "9223372036854775807", "9223372036854775807");
    sets(p, "stop", "a", "[\"a\"]");
    sets(p, "stop", "b", "[\"a\",\"b\"]");
    sets(p, "stop", "default", "");
    sets(p, "stop_token_ids", "1,22", "[1,22]");
    sets(p, "logit_bias", "13:-100,7:1.5", "{\"13\":-100.0,\"7\":1.5}");
    sets(p, "ignore_eos", "yes", "true");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(params_set(p, wrong[i].name, wrong[i].value, &err), -E_INVALID);
        assert_non_null(strstr(err.msg, wrong[i].part));
    }
    struct err err = ERR_INIT;
    json_t *q = json_object(), *bad = json_pack("{s:s}", "temperature", "x");
    assert_int_equal(params_take(q, p, &err), 0);
    assert_true(json_equal(p, q));
    assert_int_equal(params_take(q, bad, &err), -E_INVALID);
    json_decref(p);
    json_decref(q);
    json_decref(bad);
}

/* What arrives in a pipe is what was written. */
static void test_pipe_gets_bytes(void **state)
{
    (void)state;
    int fds[2];
    char got[64] = "";
    struct output o;
    assert_int_equal(pipe(fds), 0);
    output_init(&o, fds[1], true, true);
    output_thinking(&o, "hm", 2);
    output_text(&o, "**a**\033[1m\r", 10);
    output_end(&o);
    output_text(&o, "b\n", 2);
    output_end(&o);
    output_release(&o);
    assert_int_equal(read(fds[0], got, sizeof(got)), 13);
    assert_string_equal(got, "**a**\033[1m\r\nb\n" + 0);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_pipe_gets_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
