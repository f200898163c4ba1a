/* SPDX-License-Identifier: Apache-2.0 */
/* Implements engine_run.h. */
#include "tests/support/engine_run.h"

#include <string.h>
#include <unistd.h>

#include "tests/support/cmocka_all.h"
#include "tests/support/gguf_build.h"

struct engine *run_open(const struct gguf *g, const struct engine_config *cfg)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    if (engine_new(g, cfg, &e, &err))
        fail_msg("%s", err.msg);
    return e;
}

static struct run *find(struct run_set *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->runs[i].req.id == id)
            return &s->runs[i];
    fail_msg("an event for request %llu, which nobody made", (unsigned long long)id);
    return NULL;
}

static void choice_over(const struct run_set *s, struct run *r)
{
    if (++r->n_choices_over < r->req.params.n)
        return;
    r->is_over = true;
    r->ended_at_step = s->step;
}

static void on_token(struct run_set *s, struct run *r, struct run_choice *c,
                     const struct engine_event *ev)
{
    assert_true(c->n < RUN_TOKENS);
    assert_true(ev->n_top <= RUN_TOP);
    c->tokens[c->n] = ev->token;
    c->logprobs[c->n] = ev->logprob;
    memcpy(c->tops[c->n], ev->top, ev->n_top * sizeof *ev->top);
    c->n++;
    if (r->finish_choice_after && c->n == r->finish_choice_after) {
        engine_finish_choice(s->e, r->req.id, ev->choice);
        c->n_done++;
        choice_over(s, r);
    } else if (r->cancel_after && ev->choice == 0 && c->n == r->cancel_after) {
        engine_cancel(s->e, r->req.id);
        r->is_over = true;
    }
}

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct run_set *s = ctx;
    struct run *r = find(s, ev->request_id);
    assert_false(r->is_over);
    assert_true(ev->choice < r->req.params.n);
    struct run_choice *c = &r->choices[ev->choice];
    switch (ev->type) {
    case ENGINE_STARTED:
        r->started_at_step = s->step;
        r->n_cached = ev->n_cached;
        assert_int_equal(++r->n_started, 1);
        break;
    case ENGINE_TOKEN:
        assert_int_equal(r->n_started, 1);
        assert_int_equal(c->n_done, 0);
        on_token(s, r, c, ev);
        break;
    case ENGINE_CHOICE_DONE:
        assert_int_equal(++c->n_done, 1);
        c->finish = ev->finish;
        choice_over(s, r);
    }
}

static uint32_t submit_due(struct run_set *s)
{
    uint32_t n_left = 0;
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < s->n; i++) {
        struct run *r = &s->runs[i];
        if (r->submit_at_step == s->step && engine_submit(s->e, &r->req, &err))
            fail_msg("request %u: %s", i, err.msg);
        n_left += r->submit_at_step > s->step;
    }
    return n_left;
}

int run_prepare(const struct gguf *g, const char *cpu_level)
{
    struct err err = ERR_INIT;
    uint64_t n = 0;
    const int fd = build_fd("", 0);
    if (engine_prepare(g, cpu_level, fd, NULL, NULL, &n, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(lseek(fd, 0, SEEK_END), n);
    return fd;
}

static void prepare(const struct run_set *s, enum weights_of of)
{
    struct err err = ERR_INIT;
    const int fd = run_prepare(s->prepare[of], engine_get_plan(s->e)->config.cpu_level);
    if (engine_attach_prepared(s->e, of, fd, &err))
        fail_msg("%s", err.msg);
    close(fd);
    assert_true(engine_is_prepared(s->e, of));
}

void run_all(struct run_set *s)
{
    bool more = true;
    for (s->step = 0; more; s->step++) {
        const uint32_t n_left = submit_due(s);
        for (int of = 0; of < WEIGHTS_N; of++)
            if (s->prepare[of] && s->step == s->prepare_at[of])
                prepare(s, (enum weights_of)of);
        more = engine_step(s->e, on_event, s) || n_left;
        const char *broken = s->validate ? engine_validate(s->e) : NULL;
        if (broken)
            fail_msg("after step %u: %s", s->step, broken);
        assert_true(s->step < 100000);
    }
    for (uint32_t i = 0; i < s->n; i++)
        assert_true(s->runs[i].is_over);
    struct engine_stats st;
    engine_stats(s->e, &st);
    assert_int_equal(st.n_blocks_used, 0);
    assert_int_equal(st.n_running + st.n_waiting, 0);
}

void run_request(struct run *r, uint64_t id, int32_t *prompt, uint32_t n_prompt, uint32_t n_vocab)
{
    uint32_t rng = (uint32_t)id * 2654435761u + 1;
    memset(r, 0, sizeof *r);
    for (uint32_t i = 0; i < n_prompt; i++) {
        rng = rng * 1664525u + 1013904223u;
        prompt[i] = (int32_t)((rng >> 8) % n_vocab);
    }
    r->req.id = id;
    r->req.prompt = prompt;
    r->req.n_prompt = n_prompt;
    gen_params_init(&r->req.params);
    r->req.params.has_seed = true;
    r->req.params.seed = id;
    r->req.params.temperature = 0;
    r->req.params.max_tokens = 8;
}
