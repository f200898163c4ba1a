/* SPDX-License-Identifier: Apache-2.0 */
/* lib/sys/memory: limits of control groups, from files as the kernel writes them. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/sys/file.h"
#include "lib/sys/memory.h"

static char root[] = "/tmp/berth-memory-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[256];
    struct err err = ERR_INIT;
    snprintf(path, sizeof(path), "%s/%s", root, name);
    *strrchr(path, '/') = '\0';
    assert_int_equal(file_make_dirs(path, &err), 0);
    snprintf(path, sizeof(path), "%s/%s", root, name);
    assert_int_equal(file_write_whole(path, text, strlen(text), &err), 0);
}

static uint64_t limit_of(const char *self_cgroup)
{
    char path[256];
    put("self", self_cgroup);
    snprintf(path, sizeof(path), "%s/self", root);
    return memory_cgroup_bytes(path, root);
}

static void the_least_of_a_group_and_those_above(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    assert_true(limit_of("0::/\n") == UINT64_MAX);
    put("a/b/memory.max", "max\n");
    assert_true(limit_of("0::/a/b\n") == UINT64_MAX);
    put("a/memory.max", "4096\n");
    assert_true(limit_of("0::/a/b\n") == 4096);
    put("a/b/memory.max", "1024\n");
    assert_true(limit_of("0::/a/b\n") == 1024);
    assert_true(limit_of("0::/a\n") == 4096);
    put("memory/x/memory.limit_in_bytes", "512\n");
    assert_true(limit_of("5:cpu:/a\n4:memory:/x\n0::/a\n") == 512);
    assert_true(limit_of("garbage") == UINT64_MAX);
    assert_true(memory_cgroup_bytes("/nonexistent", root) == UINT64_MAX);
    assert_true(memory_limit_bytes() > 0);
    static const char *const names[] = {"a/b/memory.max",
                                        "a/b",
                                        "a/memory.max",
                                        "a",
                                        "self",
                                        "memory/x/memory.limit_in_bytes",
                                        "memory/x",
                                        "memory",
                                        ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", root, names[i]);
        assert_int_equal(remove(path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_least_of_a_group_and_those_above)};
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
