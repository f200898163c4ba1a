/* SPDX-License-Identifier: Apache-2.0 */
/* lib/sys/file: whole files, up to exactly the maximum. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_up_to_the_maximum),
        cmocka_unit_test(what_cannot_be_read_is_named),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
