/* SPDX-License-Identifier: Apache-2.0 */
/* `berth bench`'s arithmetic: percentiles, times per token, and the rate while all answers are
 * being written. */
#include "tests/support/cmocka_all.h"

#include "cli/bench/stats.h"

static bool near(double a, double b)
{
    return a > b - 1e-6 && a < b + 1e-6;
}

static void add(struct bench_samples *s, double sent, double first, double last, uint32_t n_tokens)
{
    struct bench_request r = {.sent_ms = sent,
                              .first_ms = first,
                              .last_ms = last,
                              .n_prompt = 100,
                              .n_cached = 20,
                              .n_tokens = n_tokens};
    assert_int_equal(buf_append(&s->requests, &r, sizeof(r)), 0);
}

static void percentiles_lie_between_ranks(void **state)
{
    (void)state;
    struct bench_samples s;
    struct bench_stats st;
    bench_samples_init(&s);
    for (int i = 100; i >= 1; i--) /* unsorted: 1, 2, ... 100 ms */
        add(&s, 10, 10 + i, 10 + i, 1);
    s.duration_s = 2;
    bench_stats_of(&s, &st);
    assert_int_equal(st.n_completed, 100);
    assert_int_equal(st.ttft.n, 100);
    assert_true(near(st.ttft.mean, 50.5));
    assert_true(near(st.ttft.p50, 50.5));
    assert_true(near(st.ttft.p90, 90.1)); /* as numpy.percentile has it */
    assert_true(near(st.ttft.p99, 99.01));
    assert_true(near(st.ttft.std, 28.86607004772212));
    assert_int_equal(st.tpot.n, 0); /* no answer has a second token */
    assert_true(near(st.decode_tps, 0));
    assert_int_equal(st.n_prompt, 10000);
    assert_int_equal(st.n_cached, 2000);
    bench_samples_release(&s);
}

static void a_token_costs_the_time_after_the_first(void **state)
{
    (void)state;
    struct bench_samples s;
    struct bench_stats st;
    double gaps[] = {10, 10, 40};
    bench_samples_init(&s);
    add(&s, 0, 50, 110, 4); /* 60 ms for 3 tokens */
    add(&s, 0, 50, 150, 2);
    assert_int_equal(buf_append(&s.itl, gaps, sizeof(gaps)), 0);
    s.duration_s = 0.15;
    bench_stats_of(&s, &st);
    assert_true(near(st.tpot.mean, 60));
    assert_true(near(st.tpot.p50, 60));
    assert_true(near(st.e2el.p50, 130));
    assert_true(near(st.itl.p50, 10));
    assert_true(near(st.itl.mean, 20));
    /* 80 tokens that were not cached, in 50 ms each */
    assert_true(near(st.prefill_tps, 1600));
    bench_samples_release(&s);
}

/* Two answers, side by side from 100 to 300 ms only: what counts is what both get then. */
static void decoding_counts_while_all_are_written(void **state)
{
    (void)state;
    struct bench_samples s;
    struct bench_stats st;
    bench_samples_init(&s);
    add(&s, 0, 0, 300, 31);   /* 100 tokens a second */
    add(&s, 0, 100, 500, 21); /* 50 tokens a second */
    s.duration_s = 0.5;
    bench_stats_of(&s, &st);
    assert_int_equal(st.n_decoding, 2);
    assert_true(near(st.decode_tps, 150));
    bench_samples_release(&s);
}

static void rounds_add_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct bench_samples a, b;
    struct bench_stats st;
    bench_samples_init(&a);
    bench_samples_init(&b);
    bench_stats_of(&a, &st);
    assert_int_equal(st.n_completed, 0);
    assert_int_equal(st.ttft.n, 0);
    add(&b, 0, 10, 20, 2);
    b.n_failed = 3;
    b.duration_s = 1.5;
    assert_int_equal(bench_samples_add(&a, &b, &err), 0);
    assert_int_equal(bench_samples_add(&a, &b, &err), 0);
    bench_stats_of(&a, &st);
    assert_int_equal(st.n_completed, 2);
    assert_int_equal(st.n_failed, 6);
    assert_true(near(st.duration_s, 3));
    assert_int_equal(st.n_decoding, 1); /* one round after the other */
    bench_samples_release(&a);
    bench_samples_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_lie_between_ranks),
        cmocka_unit_test(a_token_costs_the_time_after_the_first),
        cmocka_unit_test(decoding_counts_while_all_are_written),
        cmocka_unit_test(rounds_add_up),
    };
    return cmocka_run_group_tests_name("bench_stats", tests, NULL, NULL);
}
