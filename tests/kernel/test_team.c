/* SPDX-License-Identifier: Apache-2.0 */
/* The compute threads: every piece exactly once, over many rounds, for any number of threads. */
#include "tests/kernel/kernel_test.h"

#include <stdatomic.h>
#include <unistd.h>

#include "worker/kernel/team.h"

enum { PIECES = 257 };

struct count {
    uint32_t n_threads;
    uint32_t plain[PIECES]; /* no atomics: a piece run twice at once is a race for TSan to see */
    _Atomic uint32_t bad_thread;
};

static void count_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    struct count *c = ctx;
    if (piece >= PIECES || thread >= c->n_threads)
        atomic_store(&c->bad_thread, 1);
    else
        c->plain[piece]++;
}

static void each_piece_runs_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 8; n++) {
        struct team *t;
        struct err err = ERR_INIT;
        assert_int_equal(team_new(n, &t, &err), 0);
        assert_int_equal(team_size(t), n);
        static struct count c;
        memset(&c, 0, sizeof(c));
        c.n_threads = n;
        uint32_t want[PIECES] = {0};
        for (uint32_t round = 0; round < 400; round++) {
            uint32_t pieces = round % 7 == 0 ? round % (PIECES + 1) : round % 5;
            team_run(t, pieces, count_piece, &c);
            for (uint32_t i = 0; i < pieces; i++)
                want[i]++;
            if (round % 50 == 0)
                assert_memory_equal(c.plain, want, sizeof(want));
            if (round % 100 == 99)
                usleep(500); /* long enough for all to fall asleep */
        }
        assert_memory_equal(c.plain, want, sizeof(want));
        assert_int_equal(atomic_load(&c.bad_thread), 0);
        team_free(t);
    }
}

static void slow_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    (void)thread;
    usleep(piece == 0 ? 3000 : 10);
    ((uint32_t *)ctx)[piece]++;
}

static void the_caller_waits_for_the_slowest(void **state)
{
    (void)state;
    struct team *t;
    struct err err = ERR_INIT;
    assert_int_equal(team_new(4, &t, &err), 0);
    uint32_t done[16] = {0};
    for (uint32_t round = 1; round <= 10; round++) {
        team_run(t, 16, slow_piece, done);
        for (int i = 0; i < 16; i++)
            assert_int_equal(done[i], round);
    }
    team_free(t);
    team_free(NULL);
}

static void absurd_sizes_are_refused(void **state)
{
    (void)state;
    struct team *t = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(team_new(0, &t, &err), -E_INVALID);
    assert_int_equal(team_new(1u << 20, &t, &err), -E_INVALID);
    mem_fault_after(1);
    assert_int_equal(team_new(2, &t, &err), -E_NOMEM);
    mem_fault_after(2);
    assert_int_equal(team_new(2, &t, &err), -E_NOMEM);
    mem_fault_after(-1);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_piece_runs_once),
        cmocka_unit_test(the_caller_waits_for_the_slowest),
        cmocka_unit_test(absurd_sizes_are_refused),
    };
    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
