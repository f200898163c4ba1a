/* SPDX-License-Identifier: Apache-2.0 */
/* As much of cmocka's interface as tests/kernel and the engine's tests use, for programs built for
 * another processor, for which no cmocka is installed.  A failed check ends its test, and the
 * others go on; what is printed is what tests/run.py reads. */
#ifndef TESTS_ARM_CMOCKA_H
#define TESTS_ARM_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

/* One for all files of a program. */
__attribute__((weak)) jmp_buf mini_failed;

#define cmocka_unit_test(f)                                                                        \
    {                                                                                              \
#f, f                                                                                      \
    }
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        printf("%s:%d: ", __FILE__, __LINE__);                                                     \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        longjmp(mini_failed, 1);                                                                   \
    } while (0)
#define assert_true(c)                                                                             \
    do {                                                                                           \
        if (!(c))                                                                                  \
            fail_msg("not so: %s", #c);                                                            \
    } while (0)
#define assert_false(c)              assert_true(!(c))
#define assert_int_equal(a, b)       assert_true((long long)(a) == (long long)(b))
#define assert_non_null(p)           assert_true((p) != NULL)
#define assert_null(p)               assert_true((p) == NULL)
#define assert_string_equal(a, b)    assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

__attribute__((unused)) static int mini_run(const struct CMUnitTest *tests, size_t n)
{
    static volatile int failed;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = NULL;
        printf("[ RUN      ] %s\n", tests[i].name);
        fflush(stdout);
        if (setjmp(mini_failed) == 0) {
            tests[i].run(&state);
            printf("[       OK ] %s\n", tests[i].name);
        } else {
            failed++;
            printf("[  FAILED  ] %s\n", tests[i].name);
        }
    }
    printf("[  PASSED  ] %d test(s).\n", (int)n - failed);
    if (failed)
        printf("[  FAILED  ] %d test(s)\n", failed);
    return failed;
}

#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
    mini_run(tests, sizeof(tests) / sizeof((tests)[0]))

#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    cmocka_run_group_tests_name("", tests, setup, teardown)

#endif
