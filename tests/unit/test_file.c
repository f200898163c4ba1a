/* SPDX-License-Identifier: Apache-2.0 */
/* lib/sys/file: whole files, up to exactly the maximum. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/sys/file.h"

enum { BYTES = 70000 };

static void files_up_to_the_maximum(void **state)
{
    (void)state;
    char path[] = "/tmp/berth-file-XXXXXX";
    int fd = mkstemp(path);
    char *p = mem_alloc(BYTES);
    memset(p, 'x', BYTES);
    assert_int_equal(write(fd, p, BYTES), BYTES);
    close(fd);
    static const struct {
        size_t max;
        int rc;
    } cases[] = {{BYTES, 0}, {BYTES + 1, 0}, {1 << 20, 0}, {BYTES - 1, -E_LIMIT}, {0, -E_LIMIT}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b;
        struct err err = ERR_INIT;
        assert_int_equal(file_read_all(path, cases[i].max, &b, &err), cases[i].rc);
        if (cases[i].rc == 0) {
            assert_int_equal(b.len, BYTES);
            assert_int_equal(strlen(b.data), BYTES);
        } else {
            assert_non_null(strstr(err.msg, path));
        }
        buf_release(&b);
    }
    mem_free(p);
    unlink(path);
}

static void what_cannot_be_read_is_named(void **state)
{
    (void)state;
    struct buf b;
    struct err err = ERR_INIT;
    assert_int_equal(file_read_all("/tmp/berth-no-such-file", 10, &b, &err), -E_NOTFOUND);
    assert_non_null(strstr(err.msg, "/tmp/berth-no-such-file"));
    buf_release(&b);
    assert_int_equal(file_read_all("/tmp", 10, &b, &err), -E_IO);
    buf_release(&b);
}

/* A pipe nobody writes to, and a device that never ends, are no files of ours; nor is a folder. */
static void only_regular_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/berth-file-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    const char *const others[] = {path, "/dev/zero", dir};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct buf b;
        struct err err = ERR_INIT;
        assert_int_equal(file_read_regular(others[i], 100, &b, &err), -E_IO);
        assert_non_null(strstr(err.msg, "is not a regular file"));
        buf_release(&b);
    }
    unlink(path);
    struct buf b;
    struct err err = ERR_INIT;
    assert_int_equal(file_write_whole(path, "text", 4, &err), 0);
    assert_int_equal(file_read_regular(path, 100, &b, &err), 0);
    assert_string_equal(b.data, "text");
    buf_release(&b);
    unlink(path);
    assert_int_equal(file_read_regular(path, 100, &b, &err), -E_NOTFOUND);
    buf_release(&b);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_up_to_the_maximum),
        cmocka_unit_test(what_cannot_be_read_is_named),
        cmocka_unit_test(only_regular_files),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
