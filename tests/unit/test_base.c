/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base: errors, buffers, arenas, maps, allocation faults. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"

static void err_keeps_code_and_cleans_message(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, E_FORMAT, "name '%s'", "a\n\x1b[2J\xff\xc3\xa9"), -E_FORMAT);
    assert_string_equal(err.msg, "name 'a??[2J?\xc3\xa9'");
    assert_int_equal(err_wrap(&err, "open %s", "x"), -E_FORMAT);
    assert_string_equal(err.msg, "open x: name 'a??[2J?\xc3\xa9'");
    assert_string_equal(err_code_name(E_CONTEXT), "context");
    assert_string_equal(err_code_name(999), "unknown");
}

static void err_of_any_length_is_cut(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char big[4 * ERR_MSG_MAX];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_set(&err, E_LIMIT, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    err_wrap(&err, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
}

static void buf_stops_at_its_maximum(void **state)
{
    (void)state;
    struct buf b;
    struct err err = ERR_INIT;
    buf_init(&b, 10);
    assert_int_equal(buf_append_str(&b, "0123456789"), 0);
    assert_int_equal(buf_append_char(&b, 'x'), -E_LIMIT);
    assert_string_equal(buf_str(&b), "0123456789");
    assert_int_equal(buf_status(&b, "answer", &err), -E_LIMIT);
    assert_string_equal(err.msg, "answer: larger than 10 bytes");
    buf_clear(&b);
    assert_int_equal(buf_printf(&b, "%d", 12345), 0);
    buf_consume(&b, 3);
    assert_string_equal(buf_str(&b), "45");
    buf_release(&b);
}

static void buf_printf_longer_than_its_stack_line(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100000);
    assert_int_equal(buf_printf(&b, "%05000d|", 7), 0);
    assert_int_equal(b.len, 5001);
    assert_int_equal(b.data[5000], '|');
    buf_release(&b);
}

static void buf_survives_lack_of_memory(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(buf_append_str(&b, "keep"), 0);
    mem_fault_after(0);
    char more[200] = {0};
    assert_int_equal(buf_append(&b, more, sizeof(more)), -E_NOMEM);
    mem_fault_after(-1);
    assert_string_equal(buf_str(&b), "keep");
    buf_release(&b);
}

static void arena_hands_out_aligned_zeroes_up_to_its_limit(void **state)
{
    (void)state;
    struct arena a;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    for (size_t n = 0; n < 300; n++) {
        unsigned char *p = arena_try_alloc(&a, n, &err);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xFF, n);
    }
    assert_null(arena_try_alloc(&a, 1 << 20, &err));
    assert_int_equal(err.code, E_LIMIT);
    arena_release(&a);
    assert_non_null(arena_try_alloc(&a, 1 << 20, &err));
    arena_release(&a);
}

static void map_finds_what_was_put(void **state)
{
    (void)state;
    enum { N = 20000 };
    static char names[N][16];
    struct map m;
    struct err err = ERR_INIT;
    uint32_t old;
    map_init(&m);
    assert_int_equal(map_get(&m, STR_LIT("x")), MAP_NONE);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "t%u", i);
        assert_int_equal(map_try_put(&m, str_from(names[i]), i, &old, &err), 0);
        assert_int_equal(old, MAP_NONE);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(map_get(&m, str_from(names[i])), i);
    assert_int_equal(map_try_put(&m, STR_LIT("t7"), 99, &old, &err), 0);
    assert_int_equal(old, 7);
    assert_int_equal(map_get(&m, STR_LIT("t7")), 7);
    assert_int_equal(map_try_put(&m, STR_LIT(""), 5, &old, &err), 0);
    assert_int_equal(map_get(&m, STR_LIT("")), 5);
    map_release(&m);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    uint64_t r = 1;
    assert_false(size_mul(1ull << 33, 1ull << 33, &r));
    assert_false(size_add(UINT64_MAX, 1, &r));
    assert_int_equal(r, 1);
    struct err err = ERR_INIT;
    assert_null(mem_try_alloc(SIZE_MAX, 2, &err));
    assert_null(mem_try_resize(NULL, SIZE_MAX, 2, &err));
    assert_null(mem_try_aligned(SIZE_MAX, &err));
    assert_int_equal(err.code, E_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_code_and_cleans_message),
        cmocka_unit_test(err_of_any_length_is_cut),
        cmocka_unit_test(buf_stops_at_its_maximum),
        cmocka_unit_test(buf_printf_longer_than_its_stack_line),
        cmocka_unit_test(buf_survives_lack_of_memory),
        cmocka_unit_test(arena_hands_out_aligned_zeroes_up_to_its_limit),
        cmocka_unit_test(map_finds_what_was_put),
        cmocka_unit_test(sizes_that_overflow_are_refused),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
