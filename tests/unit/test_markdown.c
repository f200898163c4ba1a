/* SPDX-License-Identifier: Apache-2.0 */
/* Markdown on a terminal: what becomes a style, what stays text, whatever the pieces; and that a
 * model cannot drive the terminal. */
#include <string.h>

#include "cli/chat/markdown.h"
#include "tests/support/cmocka_all.h"

#define B   "\033[0;1m"
#define BU  "\033[0;1;4m"
#define I   "\033[0;3m"
#define BI  "\033[0;1;3m"
#define C   "\033[0;36m"
#define D   "\033[0;2m"
#define OFF "\033[0m"

static void show(const char *text, size_t piece, struct buf *out)
{
    struct markdown m;
    size_t n = strlen(text);
    buf_clear(out);
    markdown_init(&m);
    for (size_t i = 0; i < n; i += piece)
        markdown_feed(&m, text + i, MIN_OF(piece, n - i), out);
    markdown_end(&m, out);
    markdown_release(&m);
}

static void becomes(const char *text, const char *want)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        show(text, piece, &out);
        assert_string_equal(buf_str(&out), want);
    }
    buf_release(&out);
}

static void test_emphasis(void **state)
{
    (void)state;
    becomes("a **bold** b", "a " B "bold" OFF " b");
    becomes("*it*, ***both***.", I "it" OFF ", " BI "both" OFF ".");
    becomes("_it_ __bold__", I "it" OFF " " B "bold" OFF);
    becomes("**a *b* c**", B "a " BI "b" B " c" OFF);
    becomes("say `**x**` now", "say " C "**x**" OFF " now");
    becomes("``a`b``", C "a`b" OFF);
    becomes("(**x**)", "(" B "x" OFF ")");
}

static void test_text_stays(void **state)
{
    (void)state;
    static const char *const same[] = {"2 * 3 * 4",
                                       "2*3*4",
                                       "snake_case_name",
                                       "a ** b",
                                       "**unclosed",
                                       "`open",
                                       "*",
                                       "#hash",
                                       "-dash",
                                       "1. one\n",
                                       "x > y",
                                       "----x",
                                       "C:\\new \\(x\\)",
                                       "\xC3\xA9t\xC3\xA9 \xE2\x82\xAC",
                                       "a__b__c",
                                       "**\n**"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        becomes(same[i], same[i]);
    becomes("\\*a\\* \\`b\\`", "*a* `b`");
}

static void test_blocks(void **state)
{
    (void)state;
    becomes("# One\ntext\n", BU "One" OFF "\ntext\n");
    becomes("### a **b**\n", B "a b" OFF "\n");
    becomes("- a\n  * b\n", "\xE2\x80\xA2 a\n  \xE2\x80\xA2 b\n");
    becomes("> a\n", D "\xE2\x94\x82 " I "a" OFF "\n");
    becomes("```c\n**x** # y\n\n``\n```\nz",
            D "```c" OFF "\n" C "**x** # y" OFF "\n\n" C "``" OFF "\n" D "```" OFF "\nz");
    becomes("~~~\na\n```\n~~~~\n",
            D "~~~" OFF "\n" C "a" OFF "\n" C "```" OFF "\n" D "~~~~" OFF "\n");
    becomes("```\nopen", D "```" OFF "\n" C "open" OFF);
}

static void test_harmless(void **state)
{
    (void)state;
    becomes("a\033[2Jb", "a\xE2\x90\x9B[2Jb");
    becomes("\033]0;x\007", "\xE2\x90\x9B]0;x\xE2\x90\x87");
    becomes("a\rb\x08\x7F", "ab\xE2\x90\x88\xE2\x90\xA1");
    becomes("\xC2\x9B"
            "1m",
            "\xEF\xBF\xBD"
            "1m");
    becomes("\xE2\x80\xAE"
            "x",
            "\xEF\xBF\xBD"
            "x");
    becomes("```\n\033[0m\n", D "```" OFF "\n" C "\xE2\x90\x9B[0m" OFF "\n");
    becomes("`\033c`", C "\xE2\x90\x9B"
                         "c" OFF);
    becomes("```\033c\n", D "```\xE2\x90\x9B"
                            "c" OFF "\n");
}

static void test_nothing_is_held_for_long(void **state)
{
    (void)state;
    struct markdown m;
    struct buf out;
    buf_init(&out, 1 << 20);
    markdown_init(&m);
    markdown_feed(&m, "plain words", 11, &out);
    assert_string_equal(buf_str(&out), "plain words");
    markdown_feed(&m, " **", 3, &out);
    for (int i = 0; i < 500; i++)
        markdown_feed(&m, "long ", 5, &out);
    assert_true(out.len > 2000);
    markdown_end(&m, &out);
    assert_int_equal(out.len, 11 + 3 + 2500);
    markdown_release(&m);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emphasis),
        cmocka_unit_test(test_text_stays),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_harmless),
        cmocka_unit_test(test_nothing_is_held_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
