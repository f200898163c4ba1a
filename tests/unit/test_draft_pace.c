/* SPDX-License-Identifier: Apache-2.0 */
/* Which way a draft model's speed control takes, on machines whose speed is made up. */
#include "tests/support/cmocka_all.h"
#include "worker/engine/draft.h"

/* Nanoseconds and tokens of a step without guesses and with. */
struct machine {
    double ns[2], tokens[2];
};

static const struct machine PAYS = {{1000, 1500}, {1, 2}}, LOSES = {{1000, 2500}, {1, 2}};

static bool step(struct pace *p, const struct machine *m)
{
    const bool way = pace_choose(p);
    pace_note(p, way, m->ns[way], m->tokens[way]);
    return way;
}

/* n steps, all of which went that way. */
static void expect(struct pace *p, const struct machine *m, bool way, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (step(p, m) != way)
            fail_msg("step %u of %u went the other way", i, n);
}

static void the_faster_way_is_taken(void **state)
{
    (void)state;
    for (int pays = 0; pays < 2; pays++) {
        struct pace p = {0};
        const struct machine *m = pays ? &PAYS : &LOSES;
        expect(&p, m, true, PACE_TRY_STEPS);
        expect(&p, m, false, PACE_TRY_STEPS);
        expect(&p, m, pays, PACE_WAIT_MIN);
    }
    struct pace p = {0}; /* as fast: without */
    const struct machine even = {{1000, 2000}, {1, 2}};
    expect(&p, &even, true, PACE_TRY_STEPS);
    expect(&p, &even, false, PACE_TRY_STEPS + PACE_WAIT_MIN);
}

static void the_loser_is_tried_again_ever_more_rarely(void **state)
{
    (void)state;
    for (int pays = 0; pays < 2; pays++) {
        struct pace p = {0};
        const struct machine *m = pays ? &PAYS : &LOSES;
        expect(&p, m, true, PACE_TRY_STEPS);
        expect(&p, m, false, PACE_TRY_STEPS);
        /* The way tried last lost or won: once more is waited as long at first, or twice. */
        uint32_t wait = PACE_WAIT_MIN;
        for (int i = 0; i < 12; i++) {
            expect(&p, m, pays, wait);
            expect(&p, m, !pays, PACE_TRY_STEPS);
            wait = wait * 2 < PACE_WAIT_MAX ? wait * 2 : PACE_WAIT_MAX;
        }
        assert_int_equal(wait, PACE_WAIT_MAX);
    }
}

static void what_has_become_faster_is_found(void **state)
{
    (void)state;
    struct pace p = {0};
    expect(&p, &LOSES, true, PACE_TRY_STEPS);
    expect(&p, &LOSES, false, PACE_TRY_STEPS + PACE_WAIT_MIN);
    expect(&p, &LOSES, true, PACE_TRY_STEPS);
    expect(&p, &LOSES, false, 2 * PACE_WAIT_MIN);
    expect(&p, &PAYS, true, PACE_TRY_STEPS); /* its next try wins, and the wait begins anew */
    expect(&p, &PAYS, true, PACE_WAIT_MIN);
    expect(&p, &PAYS, false, PACE_TRY_STEPS);
    expect(&p, &PAYS, true, 2 * PACE_WAIT_MIN);
    /* The way taken becomes slower: noticed as it is gone, without a try. */
    const struct machine slow = {{1000, 1e6}, {1, 2}};
    assert_false(pace_choose(&p));
    expect(&p, &PAYS, false, PACE_TRY_STEPS);
    expect(&p, &slow, true, 1);
    expect(&p, &slow, false, PACE_WAIT_MIN);
}

static void one_slow_step_decides_nothing(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < PACE_TRY_STEPS; at++) {
        struct pace p = {0};
        for (uint32_t i = 0; i < PACE_TRY_STEPS; i++) {
            assert_true(pace_choose(&p));
            pace_note(&p, true, i == at ? 4000 : 1500, 2); /* mean 1917: still more than one a 1000 */
        }
        expect(&p, &PAYS, false, PACE_TRY_STEPS);
        assert_true(pace_choose(&p));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_faster_way_is_taken),
        cmocka_unit_test(the_loser_is_tried_again_ever_more_rarely),
        cmocka_unit_test(what_has_become_faster_is_found),
        cmocka_unit_test(one_slow_step_decides_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
