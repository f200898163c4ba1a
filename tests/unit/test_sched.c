/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler through the engine's interface: order, chunks, preemption, shared prompts, ends,
 * refusals. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/engine_run.h"
#include "tests/support/gguf_build.h"
#include "tests/support/tiny_model.h"
#include "worker/engine/speculate.h"

#define N_CTX    64u
#define MAX_RUNS 40

static struct run runs[MAX_RUNS];
static int32_t prompts[MAX_RUNS][N_CTX];

static struct gguf *tiny; /* open while all tests run */

static int open_model(void **state)
{
    (void)state;
    tiny = tiny_model_open(tiny_model_find("llama"));
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    gguf_close(tiny);
    return 0;
}

static struct engine *open_tiny(const struct engine_config *cfg)
{
    struct engine_config c = *cfg;
    c.n_ctx = N_CTX;
    return run_open(tiny, &c);
}

static void ask(uint32_t i, uint32_t n_prompt, uint32_t max_tokens)
{
    run_request(&runs[i], i, prompts[i], n_prompt, TINY_VOCAB);
    runs[i].req.params.max_tokens = max_tokens;
}

static struct engine_stats run_n(struct engine *e, uint32_t n)
{
    struct run_set s = {.e = e, .runs = runs, .n = n, .validate = true};
    run_all(&s);
    struct engine_stats st;
    engine_stats(e, &st);
    return st;
}

static uint64_t cache_of(uint32_t n_blocks)
{
    struct engine_plan p;
    struct err err = ERR_INIT;
    const struct engine_config cfg = {.n_ctx = N_CTX};
    assert_int_equal(engine_plan(tiny, &cfg, &p, &err), 0);
    return p.block_bytes * n_blocks;
}

static void test_prompts_are_cut_into_chunks(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){
        .max_num_seqs = 4, .max_num_batched_tokens = 10, .no_prefix_cache = true});
    ask(0, 41, 1);
    assert_int_equal(run_n(e, 1).n_steps, 5); /* 10 10 10 10 1 */
    ask(0, 40, 3);
    assert_int_equal(run_n(e, 1).n_steps, 5 + 4 + 2);
    engine_free(e);
}

/* A text that begins like an earlier one is computed from where they differ, whole blocks only; the
 * last position always is. */
static void test_prefixes_are_found_again(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){.max_num_seqs = 4, .block_size = 16});
    ask(0, 40, 9);
    run_n(e, 1);
    assert_int_equal(runs[0].n_cached, 0);
    ask(1, 40, 1);
    memcpy(prompts[1], prompts[0], 40 * sizeof(int32_t));
    ask(2, 40, 1);
    memcpy(prompts[2], prompts[0], 23 * sizeof(int32_t));
    prompts[2][23] = (prompts[0][23] + 1) % TINY_VOCAB;
    ask(3, 40, 1);
    prompts[3][0] = (prompts[0][0] + 1) % TINY_VOCAB;
    memcpy(prompts[3] + 1, prompts[0] + 1, 39 * sizeof(int32_t));
    struct run_set s = {.e = e, .runs = runs + 1, .n = 3, .validate = true};
    run_all(&s);
    assert_int_equal(runs[1].n_cached, 32);
    assert_int_equal(runs[2].n_cached, 16);
    assert_int_equal(runs[3].n_cached, 0);
    /* an answer is part of the text, too */
    ask(4, 49, 1);
    memcpy(prompts[4], prompts[0], 40 * sizeof(int32_t));
    memcpy(prompts[4] + 40, runs[0].choices[0].tokens, 9 * sizeof(int32_t));
    s = (struct run_set){.e = e, .runs = runs + 4, .n = 1, .validate = true};
    run_all(&s);
    assert_int_equal(runs[4].n_cached, 48);
    /* another tenant's is not */
    ask(5, 40, 1);
    memcpy(prompts[5], prompts[0], 40 * sizeof(int32_t));
    runs[5].req.cache_salt = 7;
    s = (struct run_set){.e = e, .runs = runs + 5, .n = 1, .validate = true};
    run_all(&s);
    assert_int_equal(runs[5].n_cached, 0);
    struct engine_stats st;
    engine_stats(e, &st);
    assert_int_equal(st.n_blocks_used, 0); /* all can be had again */
    engine_free(e);
}

#define LONG (4 * ENGINE_PROMPT_BESIDE)

/* A short prompt with an answer of n_answer tokens runs when a long one comes; returns the steps.
 */
static uint64_t run_beside(uint64_t pace_ns, uint32_t n_answer)
{
    static int32_t long_prompt[LONG];
    const struct engine_config cfg = {
        .n_ctx = 1024, .max_num_seqs = 3, .no_prefix_cache = true, .pace_ns = pace_ns};
    struct engine *e = run_open(tiny, &cfg);
    ask(0, 3, n_answer);
    run_request(&runs[1], 1, long_prompt, LONG, TINY_VOCAB);
    runs[1].req.params.max_tokens = 1;
    runs[1].submit_at_step = 1;
    ask(2, 20, 1);
    runs[2].submit_at_step = 3;
    const uint64_t n_steps = run_n(e, 3).n_steps;
    run_request(&runs[3], 3, long_prompt, LONG, TINY_VOCAB);
    struct run_set alone = {.e = e, .runs = runs + 3, .n = 1};
    runs[3].req.params.max_tokens = 1;
    run_all(&alone);
    struct engine_stats st;
    engine_stats(e, &st);
    assert_int_equal(st.n_steps, n_steps + 1);
    engine_free(e);
    return n_steps;
}

/* Beside an answer a step takes no more of a prompt than ENGINE_PROMPT_BESIDE tokens, in steps that
 * take too long 32; a short prompt meanwhile has its first token in the step after it came. */
static void test_prompts_leave_answers_room(void **state)
{
    (void)state;
    assert_int_equal(run_beside(UINT64_MAX / LONG, 12), 12);
    assert_int_equal(runs[1].ended_at_step, 4); /* 4 x 128 */
    assert_int_equal(runs[2].ended_at_step, 3);
    assert_int_equal(run_beside(1, 24), 24);
    assert_int_equal(runs[1].ended_at_step, 12); /* 128, 32, 64 while two wait for one, 9 x 32 */
    assert_int_equal(runs[2].ended_at_step, 3);
}

/* Short prompts that keep coming neither wait for the long ones nor keep them from going on, each
 * in its turn. */
static void test_short_and_long_prompts_go_on(void **state)
{
    (void)state;
    enum { N_SHORT = 20 };
    static int32_t long_prompt[2][LONG];
    const struct engine_config cfg = {
        .n_ctx = 1024, .max_num_seqs = 5, .no_prefix_cache = true, .pace_ns = 1};
    struct engine *e = run_open(tiny, &cfg);
    for (uint32_t i = 0; i < N_SHORT; i++) {
        ask(i, 20, 2);
        runs[i].submit_at_step = 2 * i;
    }
    ask(N_SHORT + 2, 20, 2 * N_SHORT); /* somebody is always answered */
    for (uint32_t i = 0; i < 2; i++) {
        run_request(&runs[N_SHORT + i], N_SHORT + i, long_prompt[i], LONG, TINY_VOCAB);
        runs[N_SHORT + i].req.params.max_tokens = 2;
        runs[N_SHORT + i].submit_at_step = 1;
    }
    run_n(e, N_SHORT + 3);
    for (uint32_t i = 0; i < N_SHORT; i++)
        assert_in_range(runs[i].ended_at_step, 2 * i + 1, 2 * i + 2);
    assert_in_range(runs[N_SHORT].ended_at_step, 4, 1 + LONG / 32);
    assert_in_range(runs[N_SHORT + 1].ended_at_step, runs[N_SHORT].ended_at_step + 1,
                    1 + 2 * LONG / 32);
    engine_free(e);
}

/* Who waits with a lower number is served first, of equals who came first. */
static void test_priorities(void **state)
{
    (void)state;
    static const int32_t priorities[] = {0, 5, 0, -1, 0};
    static const uint32_t order[] = {0, 3, 2, 4, 1};
    struct engine *e = open_tiny(&(struct engine_config){.max_num_seqs = 1});
    for (uint32_t i = 0; i < 5; i++) {
        ask(i, 10, 4);
        runs[i].req.params.priority = priorities[i];
        runs[i].submit_at_step = i != 0; /* the first one runs already */
    }
    run_n(e, 5);
    for (uint32_t i = 1; i < 5; i++)
        assert_true(runs[order[i]].started_at_step > runs[order[i - 1]].started_at_step);
    engine_free(e);
}

static void guess(const int32_t *text, uint32_t n_prompt, uint32_t n_answer, const int32_t *want,
                  uint32_t n)
{
    int32_t draft[8];
    const struct kv_tokens t = {text, text + n_prompt, n_prompt};
    assert_int_equal(speculate(&t, n_answer, 4, draft), n);
    assert_memory_equal(draft, want, n * sizeof(*draft));
}

static void test_guesses(void **state)
{
    (void)state;
    static const int32_t none[] = {1}, pair[] = {7, 8, 7, 8}, once[] = {1, 2, 3, 4, 5, 6},
                         text[] = {1, 2, 3, 4, 9, 2, 3, 5, 6, 7, 8, 1, 2, 3};
    guess(none, 1, 0, NULL, 0);
    guess(once, 3, 3, NULL, 0);
    guess(pair, 4, 0, (const int32_t[]){7, 8, 7, 8}, 4);      /* a loop goes on */
    guess(text, 14, 0, (const int32_t[]){4, 9, 2, 3}, 4);     /* the longest agreement */
    guess(text, 5, 9, (const int32_t[]){4, 9, 2, 3}, 4);      /* wherever the prompt ends */
    guess(text + 1, 13, 0, (const int32_t[]){5, 6, 7, 8}, 4); /* of equals the last */
}

/* Guesses save steps and change nothing: answers that have two tokens to choose from repeat
 * themselves. */
static void test_guesses_save_steps(void **state)
{
    (void)state;
    static const struct gen_logit_bias two[] = {{.token = 3, .bias = 50}, {.token = 4, .bias = 50}};
    static struct run_choice plain[3];
    uint64_t n_steps[2];
    for (uint32_t n_speculate = 0; n_speculate <= 4; n_speculate += 4) {
        struct engine *e =
            open_tiny(&(struct engine_config){.max_num_seqs = 3, .n_speculate = n_speculate});
        for (uint32_t i = 0; i < 3; i++) {
            ask(i, 12, 48);
            runs[i].req.logit_bias = two;
            runs[i].req.n_logit_bias = 2;
        }
        const struct engine_stats st = run_n(e, 3);
        n_steps[n_speculate != 0] = st.n_steps;
        assert_int_equal(st.n_accepted > 0, n_speculate > 0);
        assert_int_equal(st.n_generated_tokens, 3 * 48);
        for (uint32_t i = 0; i < 3; i++) {
            if (n_speculate == 0)
                plain[i] = runs[i].choices[0];
            assert_memory_equal(runs[i].choices[0].tokens, plain[i].tokens, 48 * sizeof(int32_t));
        }
        engine_free(e);
    }
    assert_true(n_steps[1] < n_steps[0]);
}

/* A choice whose guesses fail gets no more of them. */
static void test_guesses_are_given_up(void **state)
{
    (void)state;
    struct engine *e = open_tiny(
        &(struct engine_config){.max_num_seqs = 1, .n_speculate = 16, .min_acceptance = 1.0f});
    ask(0, 12, 50);
    const struct engine_stats st = run_n(e, 1);
    assert_in_range(st.n_drafted, 1, 48);
    engine_free(e);
}

/* A draft that says what the model would say, sampled or not: five tokens a step. */
static void test_a_draft_saves_steps(void **state)
{
    (void)state;
    static struct run_choice plain[4];
    uint64_t n_steps[3];
    for (int with = 0; with < 3; with++) { /* in every step, and where it is faster */
        struct engine *e = open_tiny(&(struct engine_config){
            .max_num_seqs = 8, .draft = with ? tiny : NULL, .draft_always = with == 1});
        for (uint32_t i = 0; i < 4; i++) {
            ask(i, 10 + i, 41);
            runs[i].req.params.temperature = i % 2 ? 1.0f : 0;
            runs[i].req.params.repetition_penalty = i / 2 ? 1.2f : 1;
        }
        const struct engine_stats st = run_n(e, 4);
        n_steps[with] = st.n_steps;
        if (with)
            assert_int_equal(st.n_accepted, st.n_drafted);
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(runs[i].choices[0].n, 41);
            if (!with)
                plain[i] = runs[i].choices[0];
            assert_memory_equal(runs[i].choices[0].tokens, plain[i].tokens, 41 * sizeof(int32_t));
        }
        engine_free(e);
    }
    assert_int_equal(n_steps[0], 41);
    assert_int_equal(n_steps[1], 1 + 40 / (ENGINE_DEFAULT_DRAFT + 1));
    assert_in_range(n_steps[2], 1 + 6 + 6, 41); /* each way is tried for six steps */
}

/* What the draft has not read of a long prompt, it reads piece by piece while tokens come. */
static void test_a_draft_catches_up(void **state)
{
    (void)state;
    static int32_t text[3 * ENGINE_PROMPT_BESIDE];
    struct engine *e = run_open(tiny, &(struct engine_config){.n_ctx = 1024,
                                                              .max_num_seqs = 1,
                                                              .max_num_batched_tokens = 1024,
                                                              .draft = tiny,
                                                              .draft_always = true});
    run_request(&runs[0], 0, text, ARRAY_LEN(text), TINY_VOCAB);
    runs[0].req.params.max_tokens = 4 + 2 * (ENGINE_DEFAULT_DRAFT + 1);
    struct engine_stats st = run_n(e, 1);
    /* the prompt; three pieces, the last of which leaves a little; two steps of guesses */
    assert_int_equal(st.n_steps, 1 + 3 + 2);
    assert_int_equal(st.n_drafted, 2 * ENGINE_DEFAULT_DRAFT);
    const uint64_t before = st.n_steps;
    runs[0].n_started = runs[0].n_choices_over = 0;
    runs[0].is_over = false;
    runs[0].choices[0] = (struct run_choice){0};
    st = run_n(e, 1); /* again: both know the text by now */
    assert_int_equal(st.n_steps - before, 1 + 3);
    engine_free(e);
}

/* A choice whose guesses fail gets no more, and its place in the draft's cache is free. */
static void test_a_bad_draft_is_given_up(void **state)
{
    (void)state;
    struct gguf *other = tiny_model_open(tiny_model_find("qwen3"));
    struct engine *e = open_tiny(&(struct engine_config){.max_num_seqs = 1,
                                                         .n_speculate = 16,
                                                         .min_acceptance = 1.0f,
                                                         .draft = other,
                                                         .draft_always = true});
    ask(0, 12, 50);
    const struct engine_stats st = run_n(e, 1);
    assert_in_range(st.n_drafted, 1, 48);
    engine_free(e);
    gguf_close(other);
}

/* Blocks for hardly more than one context, in the draft's cache too: texts come and go in it. */
static void test_a_draft_without_room(void **state)
{
    (void)state;
    struct engine_plan p;
    struct err err = ERR_INIT;
    struct engine_config cfg = {
        .n_ctx = N_CTX, .max_num_seqs = 8, .draft = tiny, .draft_always = true};
    assert_int_equal(engine_plan(tiny, &cfg, &p, &err), 0);
    for (int cached = 0; cached < 2; cached++) {
        cfg.kv_cache_bytes = p.block_bytes * 7;
        cfg.no_prefix_cache = !cached;
        struct engine *e = open_tiny(&cfg);
        for (uint32_t i = 0; i < 12; i++) {
            ask(i, 5 + i, 0);
            runs[i].cancel_after = i % 5 == 4 ? 9 : 0;
        }
        const struct engine_stats st = run_n(e, 12);
        assert_true(st.n_preemptions > 0 && st.n_accepted > 0);
        for (uint32_t i = 0; i < 12; i++)
            if (!runs[i].cancel_after)
                assert_int_equal(runs[i].choices[0].n, N_CTX - 5 - i);
        engine_free(e);
    }
}

/* A running sequence gets its token in every step while a long prompt is computed. */
static void test_decodes_come_first(void **state)
{
    (void)state;
    struct engine *e =
        open_tiny(&(struct engine_config){.max_num_seqs = 2, .max_num_batched_tokens = 5});
    ask(0, 3, 12);
    ask(1, 40, 1);
    runs[1].submit_at_step = 1;
    const struct engine_stats st = run_n(e, 2);
    assert_int_equal(runs[0].choices[0].n, 12);
    assert_int_equal(st.n_steps, 12); /* 40 = 10 x 4 beside the decodes of steps 1 to 10 */
    engine_free(e);
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){.max_num_seqs = 3});
    for (uint32_t i = 0; i < 20; i++)
        ask(i, 1 + i * 7 % 30, 3 + i % 4);
    run_n(e, 20);
    for (uint32_t i = 1; i < 20; i++)
        assert_true(runs[i].started_at_step >= runs[i - 1].started_at_step);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(runs[i].choices[0].n, 3 + i % 4);
        assert_int_equal(runs[i].choices[0].finish, GEN_FINISH_LENGTH);
    }
    engine_free(e);
}

/* Blocks for hardly more than one context: the young give way, and all get their answers. */
static void test_preemption(void **state)
{
    (void)state;
    struct engine *e =
        open_tiny(&(struct engine_config){.max_num_seqs = 8, .kv_cache_bytes = cache_of(5)});
    for (uint32_t i = 0; i < 12; i++)
        ask(i, 5, 0); /* to the context's end */
    const struct engine_stats st = run_n(e, 12);
    assert_int_equal(st.n_blocks, 5);
    assert_true(st.n_preemptions > 3);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(runs[i].choices[0].n, N_CTX - 5);
        assert_int_equal(runs[i].choices[0].finish, GEN_FINISH_LENGTH);
    }
    assert_true(st.n_prompt_tokens == 60 && st.n_generated_tokens == 12 * (N_CTX - 5));
    engine_free(e);
}

static uint32_t most_blocks;

static void watch_blocks(void *ctx, const struct engine_event *ev)
{
    struct engine_stats st;
    (void)ev;
    engine_stats(ctx, &st);
    most_blocks = MAX_OF(most_blocks, st.n_blocks_used);
}

static void test_choices_share_the_prompt(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine *e = open_tiny(&(struct engine_config){.max_num_seqs = 6});
    ask(0, 50, 4); /* 3 whole blocks and two positions: 4 blocks, of which 3 are shared */
    runs[0].req.params.n = 6;
    assert_int_equal(engine_submit(e, &runs[0].req, &err), 0);
    most_blocks = 0;
    while (engine_step(e, watch_blocks, e))
        assert_null(engine_validate(e));
    assert_int_equal(most_blocks, 3 + 6);
    run_n(e, 1);
    for (uint32_t c = 1; c < 6; c++) /* greedy: all alike */
        assert_memory_equal(runs[0].choices[c].tokens, runs[0].choices[0].tokens,
                            4 * sizeof(int32_t));
    engine_free(e);
}

static void test_more_choices_than_slots(void **state)
{
    (void)state;
    struct engine *e =
        open_tiny(&(struct engine_config){.max_num_seqs = 2, .max_num_batched_tokens = 7});
    ask(0, 20, 5);
    ask(1, 3, 5);
    runs[0].req.params.n = RUN_CHOICES;
    runs[0].req.params.temperature = 1;
    run_n(e, 2);
    bool differ = false;
    for (uint32_t c = 0; c < RUN_CHOICES; c++) {
        assert_int_equal(runs[0].choices[c].n, 5);
        differ = differ ||
                 memcmp(runs[0].choices[c].tokens, runs[0].choices[0].tokens, 5 * sizeof(int32_t));
    }
    assert_true(differ); /* each choice has its own stream of random numbers */
    engine_free(e);
}

static void test_ends(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){0});
    ask(0, 6, 20);
    run_n(e, 1);
    const struct run_choice plain = runs[0].choices[0];
    assert_int_equal(plain.n, 20);
    int32_t end = plain.tokens[3];
    uint32_t at = 0;
    while (plain.tokens[at] != end)
        at++;
    ask(1, 6, 20);
    memcpy(prompts[1], prompts[0], sizeof prompts[0]);
    runs[1].req.eog = &end;
    runs[1].req.n_eog = 1;
    runs[0] = runs[1];
    run_n(e, 1); /* ends where the token would come, and does not deliver it */
    assert_int_equal(runs[0].choices[0].n, at);
    assert_int_equal(runs[0].choices[0].finish, GEN_FINISH_STOP);
    runs[0] = runs[1];
    runs[0].req.params.ignore_eos = true;
    run_n(e, 1);
    assert_int_equal(runs[0].choices[0].n, 20);
    assert_memory_equal(runs[0].choices[0].tokens, plain.tokens, 20 * sizeof(int32_t));
    runs[0] = runs[1];
    runs[0].req.n_eog = 0;
    runs[0].req.stop_tokens = &end;
    runs[0].req.n_stop_tokens = 1;
    runs[0].req.params.ignore_eos = true; /* stop tokens stop all the same */
    run_n(e, 1);
    assert_int_equal(runs[0].choices[0].n, at);
    runs[0] = runs[1];
    runs[0].req.params.min_tokens = 10;
    run_n(e, 1);
    assert_true(runs[0].choices[0].n >= 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_not_equal(runs[0].choices[0].tokens[i], end);
    engine_free(e);
}

static void no_events(void *ctx, const struct engine_event *ev)
{
    (void)ctx;
    fail_msg("an event of type %d for request %llu", ev->type, (unsigned long long)ev->request_id);
}

static void test_cancel(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine_stats st;
    struct engine *e =
        open_tiny(&(struct engine_config){.max_num_seqs = 2, .max_num_batched_tokens = 4});
    for (uint32_t i = 0; i < 4; i++) {
        ask(i, 30, 5);
        runs[i].req.params.n = 1 + i % 2;
        assert_int_equal(engine_submit(e, &runs[i].req, &err), 0);
    }
    engine_cancel(e, 77);
    engine_cancel(e, 3); /* waiting */
    engine_cancel(e, 0);
    engine_finish_choice(e, 1, 0);
    engine_finish_choice(e, 1, 9);
    engine_cancel(e, 1);
    engine_cancel(e, 2);
    assert_true(engine_is_idle(e));
    assert_false(engine_step(e, no_events, NULL));
    ask(0, 30, 5); /* in the middle of its prompt: ids may be used again */
    assert_int_equal(engine_submit(e, &runs[0].req, &err), 0);
    most_blocks = 0;
    assert_true(engine_step(e, watch_blocks, e));
    assert_true(engine_step(e, watch_blocks, e));
    engine_stats(e, &st);
    assert_true(st.n_blocks_used > 0);
    engine_cancel(e, 0);
    engine_stats(e, &st);
    assert_int_equal(st.n_blocks_used, 0);
    assert_false(engine_step(e, no_events, NULL));
    engine_free(e);
}

/* A callback that asks for more while events are delivered. */
struct chain {
    struct engine *e;
    uint32_t n_done;
};

static void on_chain(void *ctx, const struct engine_event *ev)
{
    struct chain *c = ctx;
    struct err err = ERR_INIT;
    if (ev->type == ENGINE_TOKEN && ev->request_id == 1)
        engine_cancel(c->e, 1);
    if (ev->type != ENGINE_CHOICE_DONE)
        return;
    assert_int_not_equal(ev->request_id, 1);
    if (++c->n_done == 5)
        return;
    ask(c->n_done + 1, 4, 2);
    assert_int_equal(engine_submit(c->e, &runs[c->n_done + 1].req, &err), 0);
}

static void test_callbacks_may_submit_and_cancel(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct chain c = {.e = open_tiny(&(struct engine_config){0})};
    for (uint32_t i = 0; i < 2; i++) {
        ask(i, 4, 2);
        assert_int_equal(engine_submit(c.e, &runs[i].req, &err), 0);
    }
    while (engine_step(c.e, on_chain, &c))
        ;
    assert_int_equal(c.n_done, 5);
    engine_free(c.e);
}

static void test_refusals(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){0});
    struct err err = ERR_INIT;
    const int32_t bad[] = {1, (int32_t)TINY_VOCAB}, negative[] = {-1};
    ask(0, N_CTX - 1, 1);
    struct engine_request r = runs[0].req;
    int32_t longer[N_CTX] = {0};
    r.prompt = longer;
    r.n_prompt = N_CTX;
    assert_int_equal(engine_submit(e, &r, &err), -E_CONTEXT);
    assert_non_null(strstr(err.msg, "64"));
    r.n_prompt = N_CTX - 3;
    r.params.max_tokens = 4; /* not shrunk in silence */
    assert_int_equal(engine_submit(e, &r, &err), -E_CONTEXT);
    assert_non_null(strstr(err.msg, "max_tokens is 4"));
    r.n_prompt = 0;
    assert_int_equal(engine_submit(e, &r, &err), -E_INVALID);
    r.prompt = bad;
    r.n_prompt = 2;
    assert_int_equal(engine_submit(e, &r, &err), -E_INVALID);
    r.prompt = negative;
    r.n_prompt = 1;
    assert_int_equal(engine_submit(e, &r, &err), -E_INVALID);
    r = runs[0].req;
    r.params.n = LIMIT_REQUEST_CHOICES + 1;
    assert_int_equal(engine_submit(e, &r, &err), -E_INVALID);
    r = runs[0].req;
    const struct gen_logit_bias b = {.token = -5, .bias = 1};
    r.logit_bias = &b;
    r.n_logit_bias = 1;
    assert_int_equal(engine_submit(e, &r, &err), -E_INVALID);
    assert_int_equal(engine_submit(e, &runs[0].req, &err), 0);
    assert_int_equal(engine_submit(e, &runs[0].req, &err), -E_EXISTS);
    float logits[TINY_VOCAB];
    assert_int_equal(engine_logits(e, longer, 1, logits, &err), -E_BUSY);
    for (uint32_t i = 1; i < LIMIT_REQUESTS_QUEUED; i++) {
        r = runs[0].req;
        r.id = i;
        assert_int_equal(engine_submit(e, &r, &err), 0);
    }
    r.id = LIMIT_REQUESTS_QUEUED;
    assert_int_equal(engine_submit(e, &r, &err), -E_BUSY);
    engine_cancel(e, 5);
    assert_int_equal(engine_submit(e, &r, &err), 0);
    engine_free(e);
    e = open_tiny(&(struct engine_config){0});
    static float all[(N_CTX + 1) * TINY_VOCAB];
    assert_int_equal(engine_logits(e, longer, N_CTX, all, &err), 0);
    assert_int_equal(engine_logits(e, longer, N_CTX + 1, all, &err), -E_CONTEXT);
    assert_int_equal(engine_logits(e, negative, 1, all, &err), -E_INVALID);
    engine_free(e);
}

/* A model whose numbers are no numbers ends its requests with an error, and nothing else. */
static void test_model_of_nan(void **state)
{
    (void)state;
    struct buf file;
    struct gguf *g;
    struct err err = ERR_INIT;
    static const char *const names[] = {"llama", "llama-moe", "gemma2"};
    for (size_t m = 0; m < ARRAY_LEN(names); m++) {
        tiny_model_build(tiny_model_find(names[m]), &file);
        memset(file.data + file.len - 40000, 0xff, 40000); /* all bits set: NaN */
        assert_int_equal(build_open_bytes(file.data, file.len, 0, &g, &err), 0);
        struct engine *e = run_open(g, &(struct engine_config){.n_ctx = N_CTX});
        ask(0, 5, 5);
        runs[0].req.params.temperature = 1;
        run_n(e, 1);
        assert_int_equal(runs[0].choices[0].finish, GEN_FINISH_ERROR);
        assert_int_equal(runs[0].choices[0].n, 0);
        engine_free(e);
        gguf_close(g);
        buf_release(&file);
    }
}

static void test_submit_without_memory(void **state)
{
    (void)state;
    struct engine *e = open_tiny(&(struct engine_config){0});
    struct err err = ERR_INIT;
    ask(0, 9, 4);
    runs[0].req.params.n = 3;
    int r = -1;
    for (long n = 0; r; n++) {
        mem_fault_after(n);
        r = engine_submit(e, &runs[0].req, &err);
        mem_fault_after(-1);
        assert_true(r == 0 || (r == -E_NOMEM && engine_is_idle(e)));
        assert_true(n < 50);
    }
    engine_cancel(e, 0);
    run_n(e, 1);
    assert_int_equal(runs[0].choices[2].n, 4);
    engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_are_cut_into_chunks),
        cmocka_unit_test(test_prefixes_are_found_again),
        cmocka_unit_test(test_prompts_leave_answers_room),
        cmocka_unit_test(test_short_and_long_prompts_go_on),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_guesses),
        cmocka_unit_test(test_guesses_save_steps),
        cmocka_unit_test(test_guesses_are_given_up),
        cmocka_unit_test(test_a_draft_saves_steps),
        cmocka_unit_test(test_a_draft_catches_up),
        cmocka_unit_test(test_a_bad_draft_is_given_up),
        cmocka_unit_test(test_a_draft_without_room),
        cmocka_unit_test(test_decodes_come_first),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_choices_share_the_prompt),
        cmocka_unit_test(test_more_choices_than_slots),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_callbacks_may_submit_and_cancel),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_model_of_nan),
        cmocka_unit_test(test_submit_without_memory),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
