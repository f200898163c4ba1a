/* SPDX-License-Identifier: Apache-2.0 */
/* The sampler: each filter's exact set, penalties, bans, log-probabilities, ties, hostile rows, and
 * that draws follow the distribution. */
#include "tests/support/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "worker/engine/sampler.h"

#define N     8u
#define DRAWS 10000u

static const float row[N] = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 0.5f, 2.5f, -4.0f};

struct fixture {
    struct sampler s;
    struct gen_params p;
    struct sampler_input in;
    struct sampler_result out;
};

static struct kern kern;

static void open_fixture(struct fixture *f, const float *logits, uint32_t n)
{
    struct err err = ERR_INIT;
    memset(f, 0, sizeof *f);
    assert_int_equal(sampler_init(&f->s, &kern, n, &err), 0);
    gen_params_init(&f->p);
    f->p.has_seed = true;
    f->in = (struct sampler_input){.logits = logits, .params = &f->p};
}

static int32_t run(struct fixture *f)
{
    assert_int_equal(sampler_run(&f->s, &f->in, &f->out), 0);
    return f->out.token;
}

/* How often each token comes in DRAWS draws; the answer's length is the draw's index. */
static void count_draws(struct fixture *f, uint32_t counts[N])
{
    static int32_t answer[DRAWS];
    memset(counts, 0, N * sizeof *counts);
    f->in.answer = answer;
    for (uint32_t i = 0; i < DRAWS; i++) {
        f->in.n_answer = i;
        counts[run(f)]++;
    }
    f->in.n_answer = 0;
}

/* Exactly the tokens of `want` (a bit each) are drawn, each about as often as its share of
 * exp(logit / T). */
static void check_draws(struct fixture *f, unsigned want)
{
    uint32_t counts[N];
    double total = 0, chi2 = 0;
    int df = -1;
    count_draws(f, counts);
    for (uint32_t i = 0; i < N; i++)
        total += want >> i & 1 ? exp(row[i] / f->p.temperature) : 0;
    for (uint32_t i = 0; i < N; i++) {
        const double expect = want >> i & 1 ? DRAWS * exp(row[i] / f->p.temperature) / total : 0;
        if (expect == 0)
            assert_int_equal(counts[i], 0);
        else {
            chi2 += (counts[i] - expect) * (counts[i] - expect) / expect;
            df++;
        }
    }
    /* The seeds are fixed: a right sampler stays below the 99.9 % point once and for all. */
    static const double limit[N] = {1e-9, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32};
    if (chi2 > limit[df])
        print_error("chi2 %g with %d degrees of freedom\n", chi2, df);
    assert_true(chi2 <= limit[df]);
}

static void test_temperature(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, row, N);
    check_draws(&f, 0xff);
    f.p.temperature = 0.5f;
    f.p.seed = 99;
    check_draws(&f, 0xff);
    f.p.temperature = 3.0f;
    check_draws(&f, 0xff);
    f.p.temperature = 1e-3f;
    for (int i = 0; i < 20; i++, f.p.seed++) {
        const int32_t t = run(&f);
        assert_true(t == 1 || t == 3);
    }
    sampler_release(&f.s);
}

static void test_greedy_takes_first_of_equals(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, row, N);
    f.p.temperature = 0;
    assert_int_equal(run(&f), 1);
    sampler_release(&f.s);
}

static void test_top_k(void **state)
{
    /* descending: 1 3 (equal), 6, 2, 0, 5, 4, 7 */
    static const unsigned sets[] = {0, 0x02, 0x0a, 0x4a, 0x4e, 0x4f, 0x6f, 0x7f, 0xff};
    struct fixture f;
    (void)state;
    open_fixture(&f, row, N);
    for (uint32_t k = 1; k <= N; k++) {
        f.p.top_k = k;
        check_draws(&f, sets[k]);
    }
    f.p.top_k = 1000;
    check_draws(&f, 0xff);
    sampler_release(&f.s);
}

static void test_min_p(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, row, N);
    f.p.min_p = 0.99f;
    check_draws(&f, 0x0a);
    f.p.min_p = 0.5f; /* within ln 2 = 0.69 of the best */
    check_draws(&f, 0x4a);
    f.p.min_p = 0.3f; /* 1.2 */
    check_draws(&f, 0x4e);
    f.p.min_p = 0.1f; /* 2.3 */
    check_draws(&f, 0x4f);
    f.p.temperature = 2.0f; /* after temperature: 4.6 of the raw logits */
    check_draws(&f, 0x7f);
    f.p.temperature = 1.0f;
    f.p.min_p = 1.0f;
    check_draws(&f, 0x0a);
    sampler_release(&f.s);
}

static void test_top_p(void **state)
{
    struct fixture f;
    double total = 0;
    (void)state;
    for (uint32_t i = 0; i < N; i++)
        total += exp(row[i]);
    open_fixture(&f, row, N);
    const double p1 = exp(3.0) / total; /* tokens 1 and 3 have this each */
    f.p.top_p = (float)(p1 * 0.5);
    check_draws(&f, 0x02);
    f.p.top_p = (float)(p1 * 0.999);
    check_draws(&f, 0x02);
    f.p.top_p = (float)(p1 * 1.001);
    check_draws(&f, 0x0a);
    f.p.top_p = (float)(p1 * 2.001);
    check_draws(&f, 0x4a);
    f.p.top_p = 0.999f; /* all but 7, whose share is 2.7e-4, and 4 stays */
    check_draws(&f, 0x7f);
    f.p.top_p = 1e-6f;
    check_draws(&f, 0x02);
    f.p.top_p = 0.5f; /* of what top_k leaves: 1 and 3 have half each */
    f.p.top_k = 2;
    check_draws(&f, 0x02);
    f.p.top_p = 0.51f;
    check_draws(&f, 0x0a);
    sampler_release(&f.s);
}

/* Filters on a large row of many equal and close values against a plain sort. */
static uint32_t n_large;
static float *large;

static int by_value_then_id(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (large[i] != large[j])
        return large[i] > large[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static void test_large_rows(void **state)
{
    struct fixture f;
    struct err err = ERR_INIT;
    (void)state;
    n_large = 20000;
    large = mem_try_alloc(n_large, sizeof *large, &err);
    uint32_t *order = mem_try_alloc(n_large, sizeof *order, &err), rng = 3;
    bool *seen = mem_try_alloc(n_large, sizeof *seen, &err);
    for (uint32_t kind = 0; kind < 3; kind++) {
        for (uint32_t i = 0; i < n_large; i++) {
            rng = rng * 1664525u + 1013904223u;
            /* spread; a few hundred distinct; all equal */
            large[i] = kind == 0   ? (float)(rng >> 8) * 0x1p-22f - 2
                       : kind == 1 ? (float)(rng >> 24) * 0.01f
                                   : 0.5f;
            order[i] = i;
        }
        qsort(order, n_large, sizeof *order, by_value_then_id);
        open_fixture(&f, large, n_large);
        f.p.top_k = 37;
        memset(seen, 0, n_large * sizeof *seen);
        for (f.p.seed = 0; f.p.seed < 600; f.p.seed++)
            seen[run(&f)] = true;
        for (uint32_t i = 0; i < n_large; i++)
            if (seen[order[i]] != (i < 37))
                fail_msg("kind %u: rank %u seen %d", kind, i, seen[order[i]]);
        sampler_release(&f.s);
    }
    mem_free(large);
    mem_free(order);
    mem_free(seen);
}

/* The set that filters keep of `large` in the order by value, most first: how many of `order`, by
 * sorting and sums in double.  Values near a threshold make it a range: *ret_least to *ret_most. */
static void kept_by_sort(const struct gen_params *p, const uint32_t *order, uint32_t *ret_least,
                         uint32_t *ret_most)
{
    const double t = p->temperature, max = large[order[0]];
    double total = 0, sum = 0;
    uint32_t n = p->top_k ? MIN_OF(p->top_k, n_large) : n_large;
    while (p->min_p > 0 && exp((large[order[n - 1]] - max) / t) < p->min_p)
        n--;
    for (uint32_t i = 0; i < n; i++)
        total += exp((large[order[i]] - max) / t);
    *ret_least = *ret_most = n;
    for (uint32_t i = 0; p->top_p < 1 && i < n; i++) {
        sum += exp((large[order[i]] - max) / t) / total;
        if (sum < p->top_p * (1 - 1e-5))
            *ret_least = i + 2;
        if (sum >= p->top_p * (1 + 1e-5)) {
            *ret_most = i + 1;
            break;
        }
    }
    *ret_least = MIN_OF(*ret_least, n);
}

/* The token drawn is the one where the sum of the kept tokens' shares, by id, passes the uniform
 * number. */
static void check_draw(struct fixture *f, const uint32_t *order, bool *kept)
{
    const struct gen_params *p = &f->p;
    uint32_t least, most;
    kept_by_sort(p, order, &least, &most);
    memset(kept, 0, n_large * sizeof *kept);
    double total = 0, before = 0;
    for (uint32_t i = 0; i < most; i++) {
        kept[order[i]] = true;
        total += exp((large[order[i]] - large[order[0]]) / (double)p->temperature);
    }
    const double u = sampler_uniform(p->seed, 0, 0),
                 slack = 1e-5 + 2.0 * (double)(most - least) / most;
    const uint32_t token = (uint32_t)run(f);
    if (!kept[token])
        fail_msg("token %u is not among the %u kept", token, most);
    for (uint32_t i = 0; i < token; i++)
        before += kept[i] ? exp((large[i] - large[order[0]]) / (double)p->temperature) / total : 0;
    const double share = exp((large[token] - large[order[0]]) / (double)p->temperature) / total;
    if (u < before - slack || u > before + share + slack)
        fail_msg(
            "n %u, top_k %u, top_p %g, min_p %g, T %g: drew %u, whose share is %g to %g, by %g",
            n_large, p->top_k, p->top_p, p->min_p, p->temperature, token, before, before + share,
            u);
}

static void test_draws_by_sort(void **state)
{
    static const uint32_t sizes[] = {1, 2, 127, 128, 129, 300, 4099};
    static const struct gen_params params[] = {
        {.temperature = 1, .top_p = 1},
        {.temperature = 0.7f, .top_p = 0.95f},
        {.temperature = 2, .top_p = 0.3f},
        {.temperature = 1, .top_p = 0.999999f},
        {.temperature = 1, .top_p = 1, .top_k = 40},
        {.temperature = 0.6f, .top_p = 0.9f, .top_k = 20},
        {.temperature = 1, .top_p = 1, .top_k = 200, .min_p = 0.01f},
        {.temperature = 1.5f, .top_p = 0.8f, .min_p = 0.001f},
    };
    struct err err = ERR_INIT;
    struct fixture f;
    uint32_t rng = 5;
    (void)state;
    large = mem_try_alloc(4099, sizeof *large, &err);
    uint32_t *order = mem_try_alloc(4099, sizeof *order, &err);
    bool *kept = mem_try_alloc(4099, sizeof *kept, &err);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        n_large = sizes[s];
        for (uint32_t i = 0; i < n_large; i++, rng = rng * 1664525u + 1013904223u) {
            const float a = (float)(rng >> 8) * 0x1p-24f;
            large[i] = 40 * a * a * a - 3; /* few are likely, some banned */
            if (i && rng >> 28 == 3)
                large[i] = -INFINITY;
            order[i] = i;
        }
        qsort(order, n_large, sizeof *order, by_value_then_id);
        open_fixture(&f, large, n_large);
        for (size_t k = 0; k < ARRAY_LEN(params); k++)
            for (uint32_t seed = 0; seed < 60; seed++) {
                f.p = params[k];
                f.p.repetition_penalty = 1;
                f.p.seed = seed;
                check_draw(&f, order, kept);
            }
        f.p.temperature = 0;
        assert_int_equal(run(&f), order[0]);
        f.p.want_logprobs = true;
        f.p.top_logprobs = 20;
        run(&f);
        for (uint32_t i = 0; i < f.out.n_top; i++)
            assert_int_equal(f.out.top[i].token, order[i]);
        sampler_release(&f.s);
    }
    mem_free(large);
    mem_free(order);
    mem_free(kept);
}

static void test_penalties(void **state)
{
    struct fixture f;
    const int32_t prompt[] = {1, 1, 4}, answer[] = {3, 3, 6};
    (void)state;
    open_fixture(&f, row, N);
    f.p.temperature = 0;
    f.in.prompt = prompt;
    f.in.n_prompt = 3;
    f.in.answer = answer;
    f.in.n_answer = 3;
    assert_int_equal(run(&f), 1);
    f.p.repetition_penalty = 1.25f; /* 1, 3: 2.4; 6: 2.0; 4: -1.25, each once; 2 stays 2.0 */
    assert_int_equal(run(&f), 1);
    f.p.repetition_penalty = 2.0f; /* 1, 3: 1.5; 6: 1.25; so 2 with 2.0 */
    assert_int_equal(run(&f), 2);
    f.p.repetition_penalty = 1.0f;
    f.p.presence_penalty = 0.1f; /* the answer's only: 3 falls behind 1 */
    assert_int_equal(run(&f), 1);
    f.p.presence_penalty = 0;
    const struct gen_logit_bias less_one[] = {{.token = 1, .bias = -10.0f}};
    f.in.bias = less_one; /* leaves 3 (twice in the answer), then 6 (once), then 2 */
    f.in.n_bias = 1;
    assert_int_equal(run(&f), 3);
    f.p.frequency_penalty = 0.4f; /* 3: 2.2, 6: 2.1 */
    assert_int_equal(run(&f), 3);
    f.p.frequency_penalty = 0.55f; /* 3: 1.9, 6: 1.95, 2: 2.0 */
    assert_int_equal(run(&f), 2);
    f.p.frequency_penalty = 0;
    f.p.presence_penalty = 1.1f; /* 3: 1.9, 6: 1.4, 2: 2.0 */
    assert_int_equal(run(&f), 2);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(f.s.counts[i], 0);
    sampler_release(&f.s);
}

static void test_bias_and_bans(void **state)
{
    struct fixture f;
    const struct gen_logit_bias bias[] = {
        {.token = 1, .bias = -100}, {.token = 0, .bias = 1.9f}, {.token = 3, .bias = -200}};
    const int32_t eog[] = {1, -1, 400}, stop[] = {3};
    (void)state;
    open_fixture(&f, row, N);
    f.in.bias = bias;
    f.in.n_bias = 3;
    uint32_t counts[N];
    count_draws(&f, counts);
    assert_int_equal(counts[1] + counts[3], 0);
    f.p.temperature = 0;
    assert_int_equal(run(&f), 0);
    f.in.n_bias = 0;
    f.in.eog = eog;
    f.in.n_eog = 3;
    f.in.stop_tokens = stop;
    f.in.n_stop_tokens = 1;
    f.p.min_tokens = 2;
    const int32_t answer[] = {0, 0};
    f.in.answer = answer;
    assert_int_equal(run(&f), 6);
    f.in.n_answer = 1;
    assert_int_equal(run(&f), 6);
    f.in.n_answer = 2;
    assert_int_equal(run(&f), 1);
    sampler_release(&f.s);
}

static void test_logprobs(void **state)
{
    struct fixture f;
    double total = 0;
    (void)state;
    for (uint32_t i = 0; i < N; i++)
        total += exp(row[i]);
    open_fixture(&f, row, N);
    f.p.want_logprobs = true;
    f.p.top_logprobs = 4;
    f.p.temperature = 0.01f; /* logprobs are of the raw logits all the same */
    const struct gen_logit_bias bias = {.token = 0, .bias = 50};
    f.in.bias = &bias;
    f.in.n_bias = 1;
    assert_int_equal(run(&f), 0);
    assert_float_equal(f.out.logprob, 1.0 - log(total), 1e-5);
    static const int32_t best[4] = {1, 3, 6, 2};
    assert_int_equal(f.out.n_top, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(f.out.top[i].token, best[i]);
        assert_float_equal(f.out.top[i].logprob, row[best[i]] - log(total), 1e-5);
    }
    f.p.top_logprobs = 20; /* more than there are */
    run(&f);
    assert_int_equal(f.out.n_top, N);
    f.p.want_logprobs = false;
    run(&f);
    assert_int_equal(f.out.n_top, 0);
    sampler_release(&f.s);
}

static void test_hostile_rows(void **state)
{
    struct fixture f;
    float x[N] = {0};
    (void)state;
    open_fixture(&f, x, N);
    static const float bad[] = {NAN, INFINITY};
    for (int b = 0; b < 2; b++)
        for (uint32_t i = 0; i < N; i++) {
            memcpy(x, row, sizeof x);
            x[i] = bad[b];
            assert_int_equal(sampler_run(&f.s, &f.in, &f.out), -E_INTERNAL);
        }
    for (uint32_t i = 0; i < N; i++)
        x[i] = -INFINITY;
    assert_int_equal(sampler_run(&f.s, &f.in, &f.out), -E_INTERNAL);
    x[5] = -3.4e38f; /* one finite: that one, whatever the filters */
    f.p.top_k = 3;
    f.p.top_p = 0.9f;
    f.p.min_p = 0.1f;
    f.p.temperature = 0.001f;
    assert_int_equal(run(&f), 5);
    for (uint32_t i = 0; i < N; i++)
        x[i] = i % 2 ? 3.4e38f : -3.4e38f;
    assert_int_equal(run(&f) % 2, 1);
    const struct gen_logit_bias ban_all[N] = {{0, -100}, {1, -100}, {2, -100}, {3, -100},
                                              {4, -100}, {5, -100}, {6, -100}, {7, -100}};
    f.in.bias = ban_all;
    f.in.n_bias = N;
    assert_int_equal(sampler_run(&f.s, &f.in, &f.out), -E_INVALID); /* the model is not to blame */
    sampler_release(&f.s);
}

/* The generator is the published one: known answers of Philox4x32-10 (Random123, kat_vectors). */
static void test_uniform(void **state)
{
    (void)state;
    /* counter and key 0: 6627e8d5 e169c58d ... */
    assert_true(sampler_uniform(0, 0, 0) == (double)(0x6627e8d5e169c58dull >> 11) * 0x1p-53);
    assert_true(sampler_uniform(1, 0, 0) != sampler_uniform(0, 0, 0));
    assert_true(sampler_uniform(1ull << 32, 0, 0) != sampler_uniform(0, 0, 0));
    assert_true(sampler_uniform(0, 1, 0) != sampler_uniform(0, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_temperature),   cmocka_unit_test(test_greedy_takes_first_of_equals),
        cmocka_unit_test(test_top_k),         cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_top_p),         cmocka_unit_test(test_large_rows),
        cmocka_unit_test(test_draws_by_sort), cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_bias_and_bans), cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_hostile_rows),  cmocka_unit_test(test_uniform),
    };
    struct err err = ERR_INIT;
    if (kern_init(&kern, NULL, &err) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
