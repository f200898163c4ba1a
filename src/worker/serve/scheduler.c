/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler thread: loads the model, then steps the engine while there is work, and turns its
 * events into the text and the frames that the daemon gets.  Between steps it takes new requests,
 * cancels and pings.  See serve.h. */
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "worker/serve/serve.h"

/* One DELTA says at most so much; more (an echoed prompt) is cut between characters. */
#define DELTA_MAX_BYTES (256u << 10)
/* Of one token's text in a list of log probabilities: real tokens are far shorter. */
#define LOGPROB_BYTES_MAX 1024u
#define ACTIVE_BUCKETS    256u

struct scheduler {
    struct serve *s;
    struct job *active[ACTIVE_BUCKETS]; /* in the engine, by id: this thread's own */
    struct buf text, pieces;            /* scratch */
    double step_ms;                     /* when the current step began */
};

static void must(int rc, const struct err *err)
{
    if (rc < 0 && rc != -E_GONE) /* gone: the reader ends the process */
        serve_die(err);
}

static void emit(struct scheduler *sc, const struct gen_event *e)
{
    struct err err = ERR_INIT;
    must(outbox_put_event(&sc->s->out, e, true, &err), &err);
}

/* --- requests in the engine
 * ------------------------------------------------------------------------------------ */

static struct job *active_find(const struct scheduler *sc, uint64_t id)
{
    struct job *r = sc->active[id % ACTIVE_BUCKETS];
    while (r && r->id != id)
        r = r->next_active;
    return r;
}

static void active_add(struct scheduler *sc, struct job *r)
{
    struct job **bucket = &sc->active[r->id % ACTIVE_BUCKETS];
    r->next_active = *bucket;
    r->is_active = true;
    *bucket = r;
}

static void active_remove(struct scheduler *sc, struct job *r)
{
    struct job **at = &sc->active[r->id % ACTIVE_BUCKETS];
    while (*at && *at != r)
        at = &(*at)->next_active;
    BUG_ON(!*at);
    *at = r->next_active;
    r->is_active = false;
}

static void finish_failed(struct scheduler *sc, struct job *r, const struct err *why)
{
    struct err err = ERR_INIT;
    if (r->is_active)
        active_remove(sc, r);
    must(job_fail(sc->s, r, why, &err), &err);
}

static void finish_done(struct scheduler *sc, struct job *r, enum gen_finish finish)
{
    struct err err = ERR_INIT;
    if (r->is_active)
        active_remove(sc, r);
    must(job_done(sc->s, r, finish, &err), &err);
}

/* The engine works on it, and it cannot go on. */
static void abandon(struct scheduler *sc, struct job *r, const struct err *why)
{
    engine_cancel(sc->s->model.engine, r->id);
    finish_failed(sc, r, why);
}

/* --- text out
 * --------------------------------------------------------------------------------------------------
 */

/* Where to cut s so that at most max bytes and only whole characters are taken. */
static size_t cut_at(struct str s, size_t max)
{
    if (s.len <= max)
        return s.len;
    size_t n = max;
    while (n > max - 4 && ((unsigned char)s.p[n] & 0xC0) == 0x80)
        n--;
    return n;
}

static void emit_text(struct scheduler *sc, const struct job *r, uint32_t choice, struct str text)
{
    while (text.len) {
        size_t n = cut_at(text, DELTA_MAX_BYTES);
        struct gen_event e = {
            .type = GEN_EVENT_DELTA, .request_id = r->id, .choice = choice, .text = {text.p, n}};
        emit(sc, &e);
        text.p += n;
        text.len -= n;
    }
}

/* The prompt as clients know it.  Theirs, where it was text; else what its tokens say. */
static int echo_text(struct scheduler *sc, const struct job *r, struct str *ret, struct err *err)
{
    buf_clear(&sc->text);
    if (r->gen.input == GEN_INPUT_TEXT && gen_text_is_utf8(r->gen.text)) {
        *ret = r->gen.text;
        return 0;
    }
    struct detok d;
    detok_init(&d, sc->s->model.tok, false, true);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->prompt.len; i++)
        rc = detok_feed(&d, r->prompt.ids[i], &sc->text, err);
    if (rc == 0)
        rc = detok_finish(&d, &sc->text, err);
    if (rc == 0)
        rc = buf_status(&sc->text, "echo", err);
    *ret = (struct str){sc->text.data, sc->text.len};
    return rc;
}

/* The text of one token alone, appended to sc->pieces; its place there, since the buffer may still
 * move. */
static size_t piece_add(struct scheduler *sc, int32_t token)
{
    size_t before = sc->pieces.len;
    struct err err = ERR_INIT;
    if (!sc->s->model.has_text ||
        tokenizer_token_bytes(sc->s->model.tok, token, &sc->pieces, &err) < 0)
        return 0;
    size_t n = MIN_OF(sc->pieces.len - before, LOGPROB_BYTES_MAX);
    sc->pieces.len = before + n;
    return n;
}

/* Fills t and top[] from the engine's event. */
static void describe_token(struct scheduler *sc, const struct engine_event *ev, struct gen_token *t,
                           struct gen_top *top)
{
    size_t lens[LIMIT_REQUEST_TOP_LOGPROBS + 1];
    uint32_t n_top = MIN_OF(ev->n_top, LIMIT_REQUEST_TOP_LOGPROBS);
    buf_clear(&sc->pieces);
    lens[0] = piece_add(sc, ev->token);
    for (uint32_t i = 0; i < n_top; i++)
        lens[i + 1] = piece_add(sc, ev->top[i].token);
    const char *p = buf_str(&sc->pieces);
    *t = (struct gen_token){.token = ev->token,
                            .logprob = ev->logprob,
                            .bytes = {p, lens[0]},
                            .top = top,
                            .n_top = n_top};
    for (uint32_t i = 0; i < n_top; i++) {
        p += lens[i];
        top[i] = (struct gen_top){ev->top[i].token, ev->top[i].logprob, {p, lens[i + 1]}};
    }
}

/* With log probabilities every token is told at once; without, tokens whose text is held back wait
 * for it. */
static void emit_delta(struct scheduler *sc, const struct job *r, struct answer *a,
                       const struct engine_event *ev, uint32_t choice)
{
    struct gen_token token;
    struct gen_top top[LIMIT_REQUEST_TOP_LOGPROBS];
    bool want_token = ev && r->gen.params.want_logprobs;
    if (sc->text.len == 0 && !want_token && (a->n_unsent == 0 || a->has_text))
        return;
    struct gen_event e = {
        .type = GEN_EVENT_DELTA,
        .request_id = r->id,
        .choice = choice,
        .text = {sc->text.data, sc->text.len},
        .n_tokens = a->n_unsent,
    };
    if (want_token) {
        describe_token(sc, ev, &token, top);
        e.tokens = &token;
    }
    emit(sc, &e);
    a->n_unsent = 0;
}

static void choice_done(struct scheduler *sc, struct job *r, uint32_t choice,
                        enum gen_finish finish)
{
    struct answer *a = &r->answers[choice];
    struct gen_event e = {
        .type = GEN_EVENT_CHOICE_DONE,
        .request_id = r->id,
        .choice = choice,
        .finish = finish,
        .stop_index = a->stop_index,
        .n_generated = a->n_tokens,
    };
    a->is_done = true;
    emit(sc, &e);
    if (--r->n_open == 0)
        finish_done(sc, r, GEN_FINISH_NONE);
}

/* --- engine events
 * --------------------------------------------------------------------------------------------- */

static void on_started(struct scheduler *sc, struct job *r, const struct engine_event *ev)
{
    r->n_cached = ev->n_cached;
    r->started_ms = sc->step_ms; /* told after the step's work, which was its own already */
    struct gen_event e = {.type = GEN_EVENT_STARTED,
                          .request_id = r->id,
                          .n_prompt = r->n_prompt,
                          .n_cached = r->n_cached};
    emit(sc, &e);
    if (!r->gen.params.echo)
        return;
    struct err err = ERR_INIT;
    struct str text;
    if (echo_text(sc, r, &text, &err) < 0) {
        abandon(sc, r, &err);
        return;
    }
    for (uint32_t i = 0; i < r->n_answers; i++)
        emit_text(sc, r, i, text);
}

static void on_token(struct scheduler *sc, struct job *r, const struct engine_event *ev)
{
    struct answer *a = &r->answers[ev->choice];
    struct err err = ERR_INIT;
    if (r->first_token_ms == 0)
        r->first_token_ms = serve_now_ms();
    r->n_generated++;
    buf_clear(&sc->text);
    int rc = answer_feed(a, ev->token, &sc->text, &err);
    if (rc < 0) {
        abandon(sc, r, &err);
        return;
    }
    emit_delta(sc, r, a, ev, ev->choice);
    if (rc == 1) {
        engine_finish_choice(sc->s->model.engine, r->id, ev->choice);
        choice_done(sc, r, ev->choice, GEN_FINISH_STOP);
    }
}

static void on_choice_done(struct scheduler *sc, struct job *r, const struct engine_event *ev)
{
    struct answer *a = &r->answers[ev->choice];
    struct err err = ERR_INIT;
    if (ev->finish == GEN_FINISH_ERROR && ev->code == -E_INVALID) {
        err_set(&err, E_INVALID,
                "after %u tokens no token was left to choose: logit_bias and min_tokens ban all of "
                "them, or a penalty is too strong",
                a->n_tokens);
        abandon(sc, r, &err);
        return;
    }
    if (ev->finish == GEN_FINISH_ERROR) {
        err_set(&err, E_INTERNAL,
                "the model computed a value that is not a number after %u tokens: its "
                "weights are damaged or its format is not what it says",
                a->n_tokens);
        abandon(sc, r, &err);
        return;
    }
    buf_clear(&sc->text);
    int rc = answer_finish(a, &sc->text, &err);
    if (rc < 0) {
        abandon(sc, r, &err);
        return;
    }
    if (a->n_unsent || sc->text.len) {
        struct gen_event e = {.type = GEN_EVENT_DELTA,
                              .request_id = r->id,
                              .choice = ev->choice,
                              .text = {sc->text.data, sc->text.len},
                              .n_tokens = a->n_unsent};
        emit(sc, &e);
        a->n_unsent = 0;
    }
    choice_done(sc, r, ev->choice, rc == 1 ? GEN_FINISH_STOP : ev->finish);
}

static void on_engine_event(void *ctx, const struct engine_event *ev)
{
    struct scheduler *sc = ctx;
    struct job *r = active_find(sc, ev->request_id);
    if (!r)
        return; /* ended earlier in this step */
    BUG_ON(ev->type != ENGINE_STARTED && ev->choice >= r->n_answers);
    if (ev->type == ENGINE_STARTED)
        on_started(sc, r, ev);
    else if (r->answers[ev->choice].is_done)
        return;
    else if (ev->type == ENGINE_TOKEN)
        on_token(sc, r, ev);
    else
        on_choice_done(sc, r, ev);
}

/* --- requests in
 * -----------------------------------------------------------------------------------------------
 */

static int answers_init(struct scheduler *sc, struct job *r, struct err *err)
{
    const struct loaded_model *m = &sc->s->model;
    int rc = stop_set_init(&r->stops, r->gen.stops, r->gen.n_stops, err);
    if (rc < 0)
        return rc;
    r->answers = mem_try_alloc(r->gen.params.n, sizeof(*r->answers), err);
    if (!r->answers)
        return -err->code;
    for (uint32_t i = 0; i < r->gen.params.n; i++) {
        r->n_answers++;
        rc = answer_init(&r->answers[i], m->has_text ? m->tok : NULL, &r->stops, &r->gen.params,
                         err);
        if (rc < 0)
            return rc;
    }
    r->n_open = r->n_answers;
    return 0;
}

static int check_vocab(const struct loaded_model *m, const struct job *r, struct err *err)
{
    for (uint32_t i = 0; i < r->gen.n_stop_tokens; i++) {
        if ((uint32_t)r->gen.stop_tokens[i] >= m->n_vocab)
            return err_set(err, E_INVALID,
                           "stop_token_ids[%u] is %d, and the model's tokens are 0 to %u", i,
                           r->gen.stop_tokens[i], m->n_vocab - 1);
    }
    for (uint32_t i = 0; i < r->gen.n_logit_bias; i++) {
        if ((uint32_t)r->gen.logit_bias[i].token >= m->n_vocab)
            return err_set(err, E_INVALID,
                           "logit_bias names token %d, and the model's tokens are 0 to %u",
                           r->gen.logit_bias[i].token, m->n_vocab - 1);
    }
    return 0;
}

static int submit(struct scheduler *sc, struct job *r, struct err *err)
{
    const struct loaded_model *m = &sc->s->model;
    int rc = check_vocab(m, r, err);
    if (rc == 0)
        rc = answers_init(sc, r, err);
    if (rc < 0)
        return rc;
    r->n_prompt = (uint32_t)r->prompt.len;
    const struct engine_request er = {
        .id = r->id,
        .prompt = r->prompt.ids,
        .n_prompt = r->n_prompt,
        .params = r->gen.params,
        .eog = m->eog,
        .n_eog = m->n_eog,
        .stop_tokens = r->gen.stop_tokens,
        .n_stop_tokens = r->gen.n_stop_tokens,
        .logit_bias = r->gen.logit_bias,
        .n_logit_bias = r->gen.n_logit_bias,
        .cache_salt = r->gen.cache_salt,
    };
    active_add(sc, r); /* before: the engine may have something to say at once */
    rc = engine_submit(m->engine, &er, err);
    if (rc < 0)
        active_remove(sc, r);
    return rc;
}

static void take_request(struct scheduler *sc, struct job *r, bool is_canceled)
{
    struct err err = ERR_INIT;
    if (is_canceled)
        finish_done(sc, r, GEN_FINISH_CANCEL);
    else if (r->err.code)
        finish_failed(sc, r, &r->err);
    else if (submit(sc, r, &err) < 0)
        finish_failed(sc, r, &err);
}

/* Those the engine has; the others meet their flag when they come out of a queue. */
static void take_cancels(struct scheduler *sc)
{
    struct serve *s = sc->s;
    for (uint32_t b = 0; b < ACTIVE_BUCKETS; b++) {
        struct job *next;
        for (struct job *r = sc->active[b]; r; r = next) {
            next = r->next_active;
            pthread_mutex_lock(&s->lock);
            bool is_canceled = r->is_canceled;
            pthread_mutex_unlock(&s->lock);
            if (!is_canceled)
                continue;
            engine_cancel(s->model.engine, r->id);
            finish_done(sc, r, GEN_FINISH_CANCEL);
        }
    }
}

static void answer_pings(struct scheduler *sc, const uint64_t *cookies, uint32_t n)
{
    struct engine_stats st = {0};
    if (n)
        engine_stats(sc->s->model.engine, &st);
    for (uint32_t i = 0; i < n; i++) {
        struct err err = ERR_INIT;
        struct buf b;
        const struct msg_pong pong = {.cookie = cookies[i],
                                      .n_running = st.n_running,
                                      .n_waiting = st.n_waiting,
                                      .n_blocks_used = st.n_blocks_used,
                                      .n_blocks = st.n_blocks,
                                      .n_preemptions = st.n_preemptions,
                                      .n_drafted = st.n_drafted,
                                      .n_accepted = st.n_accepted};
        buf_init(&b, 64);
        int rc = msg_pong_encode(&b, &pong, &err);
        must(rc < 0 ? rc : outbox_put(&sc->s->out, MSG_PONG, &b, true, &err), &err);
        buf_release(&b);
    }
}

/* The prepared weights that have come, from the next step on. */
static void attach(struct scheduler *sc)
{
    struct serve *s = sc->s;
    struct err why = ERR_INIT, err = ERR_INIT;
    struct buf b;
    pthread_mutex_lock(&s->lock);
    const int fd = s->attach_fd;
    const enum weights_of of = s->attach_of;
    pthread_mutex_unlock(&s->lock);
    const int rc = engine_attach_prepared(s->model.engine, of, fd, &why);
    close(fd);
    pthread_mutex_lock(&s->lock);
    s->attach_fd = -1;
    s->has_attach = false;
    pthread_mutex_unlock(&s->lock);
    const struct msg_attached m = {.code = rc < 0 ? (uint32_t)why.code : 0,
                                   .why = str_from(rc < 0 ? why.msg : "")};
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    int sent = msg_attached_encode(&b, &m, &err);
    must(sent < 0 ? sent : outbox_put(&s->out, MSG_ATTACHED, &b, true, &err), &err);
    buf_release(&b);
}

/* Waits for something to do unless the engine has; false at the end. */
static bool take_mail(struct scheduler *sc)
{
    struct serve *s = sc->s;
    uint64_t pings[SERVE_PINGS];
    pthread_mutex_lock(&s->lock);
    while (!s->is_ending && !s->to_scheduler.first && !s->has_cancel && !s->has_attach &&
           s->n_pings == 0 && engine_is_idle(s->model.engine))
        pthread_cond_wait(&s->for_scheduler, &s->lock);
    bool is_ending = s->is_ending, has_cancel = s->has_cancel, has_attach = s->has_attach;
    uint32_t n_pings = s->n_pings;
    memcpy(pings, s->pings, n_pings * sizeof(pings[0]));
    s->n_pings = 0;
    s->has_cancel = false;
    struct job *r = NULL;
    while (!is_ending && (r = job_queue_pop(&s->to_scheduler))) {
        bool is_canceled = r->is_canceled;
        pthread_mutex_unlock(&s->lock);
        take_request(sc, r, is_canceled);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    if (has_cancel && !is_ending)
        take_cancels(sc);
    if (has_attach && !is_ending)
        attach(sc);
    answer_pings(sc, pings, is_ending ? 0 : n_pings);
    return !is_ending;
}

/* --- life
 * ------------------------------------------------------------------------------------------------------
 */

static void load_forget(struct load_job *job)
{
    for (uint32_t i = 0; i < job->n_fds; i++)
        close(job->fds[i]);
    job->n_fds = 0;
    arena_release(&job->arena);
}

static int send_loaded(struct serve *s, const struct msg_loaded *loaded, struct err *err)
{
    struct buf b;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    int rc = msg_loaded_encode(&b, loaded, err);
    if (rc == 0)
        rc = outbox_put(&s->out, MSG_LOADED, &b, true, err);
    buf_release(&b);
    return rc;
}

static void send_load_failed(struct serve *s, const struct err *why)
{
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    put_u32(&b, (uint32_t)why->code);
    put_str(&b, str_from(why->msg));
    int rc = buf_status(&b, "LOAD_FAILED", &err);
    must(rc < 0 ? rc : outbox_put(&s->out, MSG_LOAD_FAILED, &b, true, &err), &err);
    buf_release(&b);
    pthread_mutex_lock(&s->lock);
    s->is_over = true;
    pthread_mutex_unlock(&s->lock);
    outbox_wake(&s->out); /* the reader sends it and ends */
}

/* Waits for LOAD and does it; false when there is nothing to run. */
static bool load(struct serve *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->is_ending && !s->has_load)
        pthread_cond_wait(&s->for_scheduler, &s->lock);
    bool is_ending = s->is_ending;
    pthread_mutex_unlock(&s->lock);
    if (is_ending)
        return false;
    struct arena arena;
    struct msg_loaded loaded;
    struct err why = ERR_INIT, err = ERR_INIT;
    arena_init(&arena, LIMIT_MSG_SMALL_BYTES);
    int rc = model_load(s, &s->model, &arena, &loaded, &why);
    if (rc == 0) {
        pthread_mutex_lock(&s->lock);
        s->phase = SERVE_READY; /* before LOADED goes out: requests may follow it at once */
        pthread_mutex_unlock(&s->lock);
        must(send_loaded(s, &loaded, &err), &err);
        outbox_flush(&s->out);
    } else if (rc != -E_CANCELED) {
        send_load_failed(s, &why);
    }
    arena_release(&arena);
    load_forget(&s->load);
    return rc == 0;
}

void *scheduler_main(void *serve)
{
    struct scheduler sc = {.s = serve};
    struct serve *s = serve;
    buf_init(&sc.text, LIMIT_MSG_BYTES);
    buf_init(&sc.pieces, (LIMIT_REQUEST_TOP_LOGPROBS + 2) * LIMIT_TOKEN_BYTES);
    if (load(s)) {
        while (take_mail(&sc)) {
            outbox_flush(&s->out);
            sc.step_ms = serve_now_ms();
            if (!engine_is_idle(s->model.engine))
                engine_step(s->model.engine, on_engine_event, &sc);
            outbox_flush(&s->out);
        }
    }
    buf_release(&sc.text);
    buf_release(&sc.pieces);
    return NULL;
}
