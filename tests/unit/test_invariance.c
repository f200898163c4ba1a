/* SPDX-License-Identifier: Apache-2.0 */
/* Promise 1 of the design: 64 mixed requests at once give, each, bit for bit what they give alone:
 * whatever the batch, the chunks of prompts, the number of threads, priorities, guesses of tokens
 * to come, and preemption. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/engine_run.h"
#include "tests/support/tiny_model.h"

#ifdef BERTH_SAN /* takes thirty times as long */
#define N_RUNS 24u
#else
#define N_RUNS 64u
#endif
#define MAX_PROMPT 120u
#define N_CTX      192u

static int32_t prompts[N_RUNS][MAX_PROMPT];
static struct gen_logit_bias bias[2] = {{.token = 3, .bias = 1.5f}, {.token = 7, .bias = -100}};
static int32_t eog[2], stop_token[1];

/* Requests of all kinds: lengths, choices, samplings, ends. */
static void make_runs(struct run *runs, uint32_t n_vocab)
{
    static const uint32_t lengths[] = {1, 2, 15, 16, 17, 33, 64, 120};
    eog[0] = 5;
    eog[1] = 11;
    stop_token[0] = 9;
    for (uint32_t i = 0; i < N_RUNS; i++) {
        struct run *r = &runs[i];
        struct gen_params *p = &r->req.params;
        run_request(r, 100 + i, prompts[i], lengths[i % 8], n_vocab);
        if (i % 4 == 3) /* says things again: there is something to guess */
            for (uint32_t t = 6; t < lengths[i % 8]; t++)
                prompts[i][t] = prompts[i][t - 6];
        if (i % 16 >= 8) /* begins like an earlier one */
            memcpy(prompts[i], prompts[i - 8], MIN_OF(lengths[i % 8], 48u) * sizeof(int32_t));
        p->want_logprobs = true;
        p->top_logprobs = i % 3 ? RUN_TOP : 0;
        p->priority = (int32_t)(i * 7 % 5) - 2;
        p->max_tokens = i % 7 == 6 ? 0 : 5 + i % 32;
        p->n = i % 5 == 1 ? 3 : i % 16 == 15 ? RUN_CHOICES : 1;
        p->temperature = i % 4 ? 0.4f + 0.2f * (float)(i % 5) : 0;
        p->top_k = i % 6 == 2 ? 5 : 0;
        p->top_p = i % 6 == 3 ? 0.8f : 1;
        p->min_p = i % 6 == 4 ? 0.05f : 0;
        p->repetition_penalty = i % 8 == 3 ? 1.3f : 1;
        p->frequency_penalty = i % 8 == 5 ? 0.4f : 0;
        p->presence_penalty = i % 8 == 6 ? 0.7f : 0;
        p->min_tokens = i % 9 == 4 ? 4 : 0;
        p->ignore_eos = i % 10 == 9;
        if (i % 3 == 0) {
            r->req.eog = eog;
            r->req.n_eog = 2;
        }
        if (i % 11 == 7) {
            r->req.stop_tokens = stop_token;
            r->req.n_stop_tokens = 1;
        }
        if (i % 4 == 2) {
            r->req.logit_bias = bias;
            r->req.n_logit_bias = 2;
        }
        r->finish_choice_after = i % 13 == 5 ? 3 : 0;
        r->cancel_after = i % 13 == 8 ? 4 : 0;
    }
}

static void check_same(const struct run *got, const struct run *want, uint32_t i)
{
    /* How far the other choices are when choice 0 makes its caller cancel depends on company; their
     * tokens do not. */
    const bool cut = want->cancel_after != 0;
    for (uint32_t c = 0; c < want->req.params.n; c++) {
        const struct run_choice *g = &got->choices[c], *w = &want->choices[c];
        const uint32_t n = cut ? MIN_OF(g->n, w->n) : w->n;
        if (!cut && (g->n != w->n || g->finish != w->finish))
            fail_msg("request %u, choice %u: %u tokens, finish %d; alone %u, %d", i, c, g->n,
                     g->finish, w->n, w->finish);
        for (uint32_t t = 0; t < n; t++)
            if (g->tokens[t] != w->tokens[t] ||
                memcmp(&g->logprobs[t], &w->logprobs[t], sizeof(float)) ||
                memcmp(g->tops[t], w->tops[t], sizeof g->tops[t]))
                fail_msg("request %u, choice %u, token %u: %d (%.9g); alone %d (%.9g)", i, c, t,
                         g->tokens[t], (double)g->logprobs[t], w->tokens[t],
                         (double)w->logprobs[t]);
    }
}

/* The requests one by one in an engine with room for everything, each computed whole. */
static void run_alone(const struct gguf *g, struct run *runs, const struct engine_config *base)
{
    struct engine_config cfg = *base;
    cfg.n_threads = 1;
    cfg.no_prefix_cache = true;
    cfg.n_speculate = 0;
    cfg.draft = NULL;
    struct engine *e = run_open(g, &cfg);
    make_runs(runs, engine_hparams(e)->n_vocab);
    for (uint32_t i = 0; i < N_RUNS; i++) {
        struct run_set s = {.e = e, .runs = &runs[i], .n = 1};
        run_all(&s);
    }
    engine_free(e);
}

static void run_together(const struct gguf *g, struct run *got, const struct run *want,
                         const struct engine_config *cfg, bool staggered, bool preempts,
                         bool prepared)
{
    struct engine *e = run_open(g, cfg);
    make_runs(got, engine_hparams(e)->n_vocab);
    for (uint32_t i = 0; staggered && i < N_RUNS; i++)
        got[i].submit_at_step = i * 2;
    struct run_set s = {.e = e,
                        .runs = got,
                        .n = N_RUNS,
                        .validate = true,
                        .prepare = {prepared ? g : NULL},
                        .prepare_at = {20}};
    run_all(&s);
    s.prepare[WEIGHTS_OF_MODEL] = NULL;
    struct engine_stats st;
    engine_stats(e, &st);
    if (preempts)
        assert_true(st.n_preemptions > 0);
    if (cfg->draft && !cfg->draft_always)
        assert_true(st.n_drafted >= st.n_accepted);
    else if (cfg->draft == g) /* all but ends come true, whatever is sampled how */
        assert_true(st.n_drafted > 0 && st.n_accepted >= st.n_drafted - st.n_drafted / 10);
    else if (cfg->n_speculate && (cfg->draft_always || !preempts))
        assert_true(st.n_drafted > st.n_accepted && st.n_accepted > 0);
    for (uint32_t i = 0; i < N_RUNS; i++)
        check_same(&got[i], &want[i], i);
    /* again, where the cache knows their beginnings */
    make_runs(got, engine_hparams(e)->n_vocab);
    run_all(&s);
    uint32_t n_reused = 0;
    for (uint32_t i = 0; i < N_RUNS; i++) {
        check_same(&got[i], &want[i], i);
        n_reused += got[i].n_cached;
    }
    assert_true(preempts || n_reused > 0); /* a tight cache may have forgotten */
    engine_free(e);
}

/* prepared: those in company go over to prepared weights after twenty steps.
 * draft: a model that guesses in some of the runs, or NULL.  thorough: more ways of company than
 * the one that has it all. */
static void check_model(const struct gguf *g, const struct gguf *draft, enum kv_type kv_type,
                        const char *level, bool thorough, bool prepared)
{
    struct err err = ERR_INIT;
    struct run *want = mem_try_alloc(N_RUNS, sizeof *want, &err),
               *got = mem_try_alloc(N_RUNS, sizeof *got, &err);
    struct engine_config cfg = {.n_ctx = N_CTX,
                                .kv_type = kv_type,
                                .cpu_level = level,
                                .max_num_seqs = 32,
                                .max_num_batched_tokens = 512};
    struct engine_plan plan, with_draft;
#ifdef BERTH_SAN
    thorough = false; /* a sanitizer wants each path once */
#endif
    assert_non_null(got);
    run_alone(g, want, &cfg);
    assert_int_equal(engine_plan(g, &cfg, &plan, &err), 0);
    for (cfg.n_threads = thorough ? 1 : 2; cfg.n_threads <= 2; cfg.n_threads++) {
        struct engine_config tight = cfg; /* few blocks, small steps */
        cfg.n_speculate = 5;
        tight.n_speculate = 3;
        tight.max_num_seqs = 7;
        tight.max_num_batched_tokens = 19;
        tight.kv_cache_bytes = plan.block_bytes * (N_CTX / plan.config.block_size + 2);
        run_together(g, got, want, &tight, true, true, prepared);
        if (thorough) {
            run_together(g, got, want, &tight, false, true, prepared);
            run_together(g, got, want, &cfg, false, false, prepared);
        }
        if (draft) {
            tight.draft = cfg.draft = draft;
            tight.draft_always = true; /* the other one as it sees fit */
            assert_int_equal(engine_plan(g, &cfg, &with_draft, &err), 0);
            tight.kv_cache_bytes = with_draft.block_bytes * (N_CTX / plan.config.block_size + 2);
            run_together(g, got, want, &tight, true, true, prepared);
            if (draft != g || thorough)
                run_together(g, got, want, &cfg, thorough, false, prepared);
            cfg.draft = NULL;
        }
    }
    mem_free(want);
    mem_free(got);
}

static void test_stories(void **state)
{
    struct gguf *g;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(gguf_open_path("models/stories.gguf", 0, &g, &err), 0);
    check_model(g, g, KV_F32, NULL, true, false);
    gguf_close(g);
}

static void test_architectures(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < n_tiny_models; i++) {
        struct gguf *g = tiny_model_open(&tiny_models[i]), *draft = NULL;
        if (i % 4 == 0) /* by one of another family */
            draft = tiny_model_open(&tiny_models[(i + 3) % n_tiny_models]);
        check_model(g, draft, i % 4 ? (enum kv_type)(i % 3) : KV_F16, NULL, false, false);
        gguf_close(draft);
        gguf_close(g);
    }
}

static void test_levels(void **state)
{
    const char *levels[16];
    (void)state;
    const int n = kern_levels(levels);
    struct gguf *g = tiny_model_open(tiny_model_find("llama-moe"));
    for (int l = 0; l < n; l++)
        check_model(g, NULL, l % 2 ? KV_F32 : KV_F16, levels[l], true, false);
    gguf_close(g);
}

/* Alone from the file's weights, together from prepared ones, which come while they run. */
static void test_prepared(void **state)
{
    const char *levels[16];
    (void)state;
    const int n = kern_levels(levels);
#ifdef BERTH_SAN
    const int first = n - 1; /* as above: what is new here is not the level's */
#else
    const int first = 0;
#endif
    for (int l = first; l < n; l++) {
        struct err err = ERR_INIT;
        struct kern k;
        const enum dtype quant = l % 2 ? DTYPE_Q4_0 : DTYPE_Q8_0;
        const struct tiny_model m = tiny_model_as(tiny_model_find("llama-moe"), quant);
        assert_int_equal(kern_init(&k, levels[l], &err), 0);
        struct gguf *g = tiny_model_open(&m);
        check_model(g, NULL, KV_F16, levels[l], false, k.matmul_panels[quant]);
        gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
