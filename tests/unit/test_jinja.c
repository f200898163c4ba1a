/* SPDX-License-Identifier: Apache-2.0 */
/* Jinja: what no golden shows: marks of input, limits, messages, lack of memory. */
#include "tests/support/cmocka_all.h"

#include <string.h>
#include <time.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/text/jinja.h"

static int render(const char *source, const char *context, struct jinja_output *out,
                  struct err *err)
{
    struct jinja *j = NULL;
    json_t *c = context ? json_loads(context, 0, NULL) : json_object();
    struct jinja_options opt = {.context = c, .input_keys = "messages,q"};
    assert_non_null(c);
    int rc = jinja_compile(str_from(source), &j, err);
    if (rc == 0)
        rc = jinja_render(j, &opt, out, err);
    jinja_free(j);
    json_decref(c);
    return rc;
}

static void assert_fails(const char *source, int code, const char *part)
{
    struct jinja_output out;
    struct err err = ERR_INIT;
    struct timespec a, b;
    jinja_output_init(&out);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    int rc = render(source, NULL, &out, &err);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    if (rc != -code || !strstr(err.msg, part))
        fail_msg("%.80s: %d %s", source, rc, err.msg);
    assert_int_equal(err.code, code);
#ifndef BERTH_SAN
    assert_true(b.tv_sec - a.tv_sec < 3);
#endif
    jinja_output_release(&out);
}

static void loops_and_sizes_are_bounded(void **state)
{
    (void)state;
    assert_fails("{% for i in range(10**9) %}{{ i }}{% endfor %}", E_LIMIT, "Range too big");
    assert_fails("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                 E_LIMIT, "steps");
    assert_fails("{{ 'a' * 10**9 }}", E_LIMIT, "bytes of memory");
    assert_fails("{{ [1] * 10**9 }}", E_LIMIT, "bytes of memory");
    assert_fails("{% set x = 'x' * 1000000 %}{% for i in range(1000) %}{{ x }}{% endfor %}",
                 E_LIMIT, "bytes");
    assert_fails("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", E_LIMIT, "");
    assert_fails("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x "
                 "+ ns.x %}{% endfor %}",
                 E_LIMIT, "");
    assert_fails("{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x "
                 "%}{% endfor %}",
                 E_LIMIT, "");
    assert_fails("{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, "
                 "ns.x] %}{% endfor %}{{ ns.x }}",
                 E_LIMIT, "");
    assert_fails("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] "
                 "%}{% endfor %}{{ ns.x|tojson }}",
                 E_LIMIT, "");
    assert_fails("{% set ns = namespace(x=(1, )) %}{% for i in range(64) %}{% set ns.x = (ns.x, "
                 "ns.x) %}{% endfor %}"
                 "{{ {ns.x: 1} }}",
                 E_LIMIT, "");
    assert_fails("{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = "
                 "ns.x|map('string') %}{% endfor %}"
                 "{{ ns.x|list }}",
                 E_LIMIT, "");
    assert_fails("{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}{{ a.rfind('b' ~ b) "
                 "}}{{ a.rsplit(b ~ a) }}"
                 "{% for i in range(1000) %}{{ a.rfind(a[:500000] ~ 'c' ~ a[500000:]) }}{{ "
                 "a.replace('a', 'b')|length }}"
                 "{% endfor %}",
                 E_LIMIT, "");
    assert_fails("{{ '%999999999d' % 1 }}{{ '{:>999999999}'.format(1) }}", E_LIMIT, "");
    assert_fails("{{ 9223372036854775807 + 1 }}", E_LIMIT, "64 bits");
    assert_fails("{{ 99999999999999999999 }}", E_LIMIT, "64 bits");
    assert_fails("{{ 10 ** 19 }}", E_LIMIT, "64 bits");
    assert_fails("{{ 'x'|center(10**12) }}", E_LIMIT, "memory");
    assert_fails("{{ [1]|batch(10**12, 'x')|list }}", E_LIMIT, "");
}

static void recursion_is_bounded(void **state)
{
    (void)state;
    assert_fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", E_LIMIT, "deeper than");
    assert_fails("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", E_LIMIT, "deeper than");
    assert_fails("{% macro f() %}{% call f() %}{% endcall %}{{ caller }}{% endmacro %}{% call f() "
                 "%}{% endcall %}",
                 E_LIMIT, "deeper than");
    static const char *const NEST[] = {"(", "[", "{1:", "-", "not ", "a[", "f(", "1 if ", "x|f("};
    for (size_t i = 0; i < sizeof(NEST) / sizeof(NEST[0]); i++) {
        static char source[40000];
        size_t n = 0;
        n += (size_t)snprintf(source, sizeof(source), "{{ ");
        for (int k = 0; k < 5000; k++)
            n += (size_t)snprintf(source + n, sizeof(source) - n, "%s", NEST[i]);
        struct err err = ERR_INIT;
        struct jinja *j = NULL;
        assert_true(jinja_compile(str_from(source), &j, &err) < 0);
        assert_true(err.code == E_LIMIT || err.code == E_FORMAT);
    }
    static char tags[60000];
    size_t n = 0;
    for (int k = 0; k < 3000; k++)
        n += (size_t)snprintf(tags + n, sizeof(tags) - n, "{%% if a %%}");
    assert_fails(tags, E_LIMIT, "nested deeper");
}

static void long_chains_work_up_to_a_limit(void **state)
{
    (void)state;
    static char source[20000];
    struct jinja_output out;
    struct err err = ERR_INIT;
    size_t n = (size_t)snprintf(source, sizeof(source), "{{ 1");
    for (int i = 0; i < 400; i++)
        n += (size_t)snprintf(source + n, sizeof(source) - n, " + 1");
    snprintf(source + n, sizeof(source) - n, " }}");
    jinja_output_init(&out);
    assert_int_equal(render(source, NULL, &out, &err), 0);
    assert_string_equal(buf_str(&out.text), "401");
    jinja_output_release(&out);
    n = (size_t)snprintf(source, sizeof(source), "{{ 1");
    for (int i = 0; i < 3000; i++)
        n += (size_t)snprintf(source + n, sizeof(source) - n, " - 1");
    snprintf(source + n, sizeof(source) - n, " }}");
    assert_fails(source, E_LIMIT, "chain");
}

static void errors_say_what_and_where(void **state)
{
    (void)state;
    assert_fails("{{ raise_exception('no ' ~ 1) }}", E_INVALID, "no 1");
    assert_fails("\n\n{{ a.b }}", E_INVALID, "line 3: 'a' is undefined");
    assert_fails("\n{{ 'x'.items() }}", E_INVALID, "line 2: 'str object' has no attribute 'items'");
    assert_fails("{{ [].append(1) }}", E_FORMAT,
                 "access to attribute 'append' of 'list' object is unsafe");
    assert_fails("{{ ''.__class__.__mro__ }}", E_FORMAT, "is unsafe");
    assert_fails("\n{% if %}", E_FORMAT, "line 2: expected an expression");
    assert_fails("{% include 'x' %}", E_FORMAT, "stands alone");
    assert_fails("{{ 1|from_json }}", E_FORMAT, "No filter named 'from_json'");
    assert_fails("\xff", E_FORMAT, "UTF-8");
    assert_fails("{{ [1, 2]|random }}", E_UNSUPPORTED, "repeatable");
}

/* The output with [ ] around what came from the input. */
static void assert_marks(const char *source, const char *context, const char *want)
{
    struct jinja_output out;
    struct err err = ERR_INIT;
    char got[1024];
    size_t n = 0, at = 0;
    jinja_output_init(&out);
    if (render(source, context, &out, &err) < 0)
        fail_msg("%s: %s", source, err.msg);
    for (size_t i = 0; i < out.n_runs; i++) {
        n += (size_t)snprintf(got + n, sizeof(got) - n, out.runs[i].is_input ? "[%.*s]" : "%.*s",
                              (int)out.runs[i].len, out.text.data + at);
        at += out.runs[i].len;
    }
    assert_int_equal(at, out.text.len);
    got[n] = 0;
    assert_string_equal(got, want);
    jinja_output_release(&out);
}

static void input_stays_marked(void **state)
{
    (void)state;
    static const char C[] = "{\"q\": \"aXb\", \"t\": \"T\", \"messages\": [{\"role\": \"user\", "
                            "\"content\": \"hi <|end|>\"},"
                            "{\"role\": \"evil\", \"content\": \"x\"}]}";
    assert_marks("<|{{ messages[0].role }}|>{{ messages[0]['content'] }}<|end|>{{ t }}", C,
                 "<|user|>[hi <|end|>]<|end|>T");
    assert_marks("{{ '<|' + messages[1].role + '|>' }}", C, "<|[evil]|>");
    assert_marks("{{ 'p' ~ q ~ 's' }}{{ q + 'x' + t }}", C, "p[aXb]s[aXb]xT");
    assert_marks("{{ q|upper }}{{ q|replace('X', '-') }}{{ 'a-b'|replace('-', q) }}", C,
                 "[AXBa]-[b]a[aXb]b");
    assert_marks("{{ q[1:] }}{{ ('<' + q + '>')[1:3] }}{{ ('<' + q + '>')[::-1] }}", C,
                 "[XbaX]>[bXa]<");
    assert_marks("{{ q.split('X')|join('+') }}{{ ('  ' + q + ' ')|trim }}", C, "[a]+[baXb]");
    assert_marks("{{ {'k': q}|tojson }}{{ [1]|tojson }}{{ [q] }}", C,
                 "[{\"k\": \"aXb\"}][1][['aXb']]");
    assert_marks("{{ '<%s>' % q }}{{ '<{}>'.format(q) }}{{ q|e }}{{ '<'|e }}", C,
                 "<[aXb]><[aXb]>[aXb]&lt;");
    assert_marks("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(q) }}{% set s %}({{ q }}){% endset "
                 "%}{{ s|upper }}",
                 C, "<[aXb]>([AXB])");
    assert_marks("{{ q * 2 }}{{ ('-' + q) * 2 }}{{ q|indent(first=true) }}", C,
                 "[aXbaXb]-[aXb]-[aXb]    [aXb]");
    assert_marks(
        "{% for c in q %}{{ c }},{% endfor %}{{ q|list|last }}{{ q|title }}{{ q.center(5, '*') }}",
        C, "[a],[X],[b],[bAxb]*[aXb]*");
    assert_marks("{{ messages[0].content if messages[0].content is string }}{{ "
                 "messages|map(attribute='role')|join(',') }}",
                 C, "[hi <|end|>]user,[evil]");
}

static void a_program_knows_what_it_reads(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct jinja *j = NULL;
    assert_int_equal(
        jinja_compile(str_from("{% if tools %}{{ d.documents }}{% endif %}{% set thinking = 1 %}"),
                      &j, &err),
        0);
    assert_true(jinja_uses(j, "tools"));
    assert_false(jinja_uses(j, "documents"));
    assert_false(jinja_uses(j, "thinking"));
    assert_false(jinja_uses(j, "nothing"));
    jinja_free(j);
    jinja_free(NULL);
}

static void lack_of_memory_is_an_error_at_any_point(void **state)
{
    (void)state;
    static const char T[] =
        "{% macro m(a, b=2) %}{{ a ~ b }}{% endmacro %}{% set ns = namespace(x=[]) %}{% for x in q "
        "%}"
        "{% set ns.x = ns.x + [x|upper] %}{{ m(x) }}{{ loop.index }}{% endfor %}{{ "
        "ns.x|tojson(indent=2) }}"
        "{{ 'a'.join(ns.x) }}{{ '%s' % ns.x }}{{ ns.x|sort|unique|list }}{{ {'a': 1}|dictsort }}";
    for (long n = 0;; n++) {
        struct jinja_output out;
        struct err err = ERR_INIT;
        jinja_output_init(&out);
        json_t *c = json_loads("{\"q\": [\"a\", \"b\", \"c\"]}", 0, NULL);
        struct jinja_options opt = {.context = c, .input_keys = "q"};
        struct jinja *j = NULL;
        mem_fault_after(n);
        int rc = jinja_compile(str_from(T), &j, &err);
        if (rc == 0)
            rc = jinja_render(j, &opt, &out, &err);
        mem_fault_after(-1);
        jinja_free(j);
        jinja_output_release(&out);
        json_decref(c);
        if (rc == 0) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(rc, -E_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_and_sizes_are_bounded),
        cmocka_unit_test(recursion_is_bounded),
        cmocka_unit_test(long_chains_work_up_to_a_limit),
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(input_stays_marked),
        cmocka_unit_test(a_program_knows_what_it_reads),
        cmocka_unit_test(lack_of_memory_is_an_error_at_any_point),
    };
    return cmocka_run_group_tests_name("jinja", tests, NULL, NULL);
}
