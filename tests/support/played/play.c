/* SPDX-License-Identifier: Apache-2.0 */
/* What the played models say. */
#include "tests/support/played/runner.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "tests/support/http_client.h"

static void send_text(struct play *p, uint32_t choice, struct str text)
{
    struct gen_top top[2] = {{1, -0.5f, text}, {2, -1.0f / 0.0f, STR_LIT("\xff")}};
    struct gen_token token = {1, -0.5f, text, top, 2};
    struct gen_event ev = {.type = GEN_EVENT_DELTA,
                           .request_id = p->id,
                           .choice = choice,
                           .text = text,
                           .n_tokens = 1,
                           .tokens = p->req.params.want_logprobs ? &token : NULL};
    p->fn(p->ctx, &ev);
}

static void send_words(struct play *p, uint32_t n, unsigned pause_ms, size_t bytes)
{
    char *word = mem_alloc(bytes + 16);
    for (uint32_t i = 0; i < n && !atomic_load(&p->canceled); i++) {
        for (uint32_t c = 0; c < p->req.params.n; c++) {
            size_t len = (size_t)snprintf(word, 16, "w%u ", i);
            if (bytes) {
                memset(word + len, 'x', bytes - len);
                len = bytes;
            }
            send_text(p, c, (struct str){word, len});
        }
        if (pause_ms)
            client_wait_ms(pause_ms);
    }
    mem_free(word);
}

static void send_split(struct play *p)
{
    /* Two tokens of two bytes make U+1F30A; the first gives no text yet. */
    struct gen_token half[2] = {{7, -1, STR_LIT("\xF0\x9F"), NULL, 0},
                                {8, -2, STR_LIT("\x8C\x8A"), NULL, 0}};
    struct gen_event ev = {.type = GEN_EVENT_DELTA, .n_tokens = 1};
    ev.tokens = p->req.params.want_logprobs ? &half[0] : NULL;
    p->fn(p->ctx, &ev);
    ev.tokens = p->req.params.want_logprobs ? &half[1] : NULL;
    ev.text = STR_LIT("\xF0\x9F\x8C\x8A");
    p->fn(p->ctx, &ev);
}

static void put_bytes(struct buf *b, const char *name, struct str s)
{
    buf_printf(b, ",\"%s\":", name);
    json_put_str(b, s);
}

static void send_echo(struct play *p)
{
    const struct gen_request *q = &p->req;
    const struct gen_params *s = &q->params;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_printf(
        &b,
        "{\"input\":%d,\"max_tokens\":%u,\"min_tokens\":%u,\"n\":%u,\"has_seed\":%d,\"seed\":%llu",
        (int)q->input, s->max_tokens, s->min_tokens, s->n, s->has_seed,
        (unsigned long long)s->seed);
    buf_printf(&b,
               ",\"temperature\":%g,\"top_k\":%u,\"top_p\":%g,\"min_p\":%g,\"repetition\":%g,"
               "\"presence\":%g,"
               "\"frequency\":%g",
               (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p,
               (double)s->repetition_penalty, (double)s->presence_penalty,
               (double)s->frequency_penalty);
    buf_printf(&b,
               ",\"want_logprobs\":%d,\"top_logprobs\":%u,\"ignore_eos\":%d,\"add_special\":%d,"
               "\"echo\":%d",
               s->want_logprobs, s->top_logprobs, s->ignore_eos, s->add_special, s->echo);
    buf_printf(&b, ",\"keep_alive\":%lld,\"deadline_ms\":%llu",
               p->opt.has_keep_alive ? (long long)p->opt.keep_alive_s : -2,
               (unsigned long long)p->opt.deadline_ms);
    buf_printf(&b, ",\"include_stop\":%d,\"show_special\":%d", s->include_stop, s->show_special);
    put_bytes(&b, "text", q->text);
    put_bytes(&b, "messages", q->messages_json);
    put_bytes(&b, "tools", q->tools_json);
    put_bytes(&b, "kwargs", q->kwargs_json);
    buf_append_str(&b, ",\"tokens\":[");
    for (uint32_t i = 0; i < q->n_tokens; i++)
        buf_printf(&b, "%s%d", i ? "," : "", q->tokens[i]);
    buf_append_str(&b, "],\"stop_tokens\":[");
    for (uint32_t i = 0; i < q->n_stop_tokens; i++)
        buf_printf(&b, "%s%d", i ? "," : "", q->stop_tokens[i]);
    buf_append_str(&b, "],\"stops\":[");
    for (uint32_t i = 0; i < q->n_stops; i++) {
        buf_append_str(&b, i ? "," : "");
        json_put_str(&b, q->stops[i]);
    }
    buf_append_str(&b, "],\"bias\":[");
    for (uint32_t i = 0; i < q->n_logit_bias; i++)
        buf_printf(&b, "%s[%d,%g]", i ? "," : "", q->logit_bias[i].token,
                   (double)q->logit_bias[i].bias);
    buf_append_str(&b, "]}");
    send_text(p, 0, (struct str){buf_str(&b), b.len});
    buf_release(&b);
}

/* True when the play has said its last word itself. */
static bool send_body(struct play *p)
{
    const char *m = p->model;
    uint32_t n = p->req.params.max_tokens;
    struct gen_event ev = {.type = GEN_EVENT_STARTED,
                           .n_prompt = 9,
                           .n_cached = 4,
                           .model_digest = FAKE_DIGEST,
                           .fingerprint = "fp_0123456789ab"};
    if (strcmp(m, "silent") == 0) {
        while (!atomic_load(&p->canceled))
            client_wait_ms(2);
        return false;
    }
    if (strncmp(m, "fail-", 5) == 0) {
        struct gen_event failed = {.type = GEN_EVENT_FAILED,
                                   .code = (int)strtol(m + 5, NULL, 10),
                                   .message = STR_LIT("as \"asked\"")};
        p->fn(p->ctx, &failed);
        return true;
    }
    if (strcmp(m, "picky") == 0 && str_is(p->req.text, "long")) {
        struct gen_event failed = {.type = GEN_EVENT_FAILED,
                                   .code = E_CONTEXT,
                                   .message = STR_LIT("the prompt has 9 tokens and the context 8")};
        p->fn(p->ctx, &failed);
        return true;
    }
    if (strcmp(m, "thinking") == 0)
        client_wait_ms(1500);
    if (p->is_load) {
        struct gen_event progress = {
            .type = GEN_EVENT_PROGRESS, .text = STR_LIT("reading"), .done = 1, .total = 2};
        p->fn(p->ctx, &progress);
        return false;
    }
    p->fn(p->ctx, &ev);
    if (strcmp(m, "slow") == 0 || strcmp(m, "picky") == 0)
        send_words(p, n ? n : 100000, 5, 0);
    else if (strcmp(m, "flood") == 0)
        send_words(p, n ? n : 1024, 0, 65536);
    else if (strcmp(m, "echo") == 0)
        send_echo(p);
    else if (strcmp(m, "bytes") == 0)
        send_split(p);
    else
        send_words(p, strcmp(m, "crash") == 0 ? 2 : n ? n : 5, 0, 0);
    if (strcmp(m, "crash") == 0) {
        struct gen_event died = {
            .type = GEN_EVENT_FAILED, .code = E_GONE, .message = STR_LIT("the worker died")};
        p->fn(p->ctx, &died);
        return true;
    }
    return false;
}

static void *play_run(void *arg)
{
    struct play *p = arg;
    struct runner *r = p->runner;
    bool has_ended = send_body(p);
    if (!has_ended && atomic_load(&p->canceled) && atomic_load(&r->is_stopping)) {
        struct gen_event gone = {
            .type = GEN_EVENT_FAILED, .code = E_GONE, .message = STR_LIT("the daemon is stopping")};
        p->fn(p->ctx, &gone);
    } else if (!has_ended) {
        bool canceled = atomic_load(&p->canceled);
        struct gen_event ev = {.type = GEN_EVENT_CHOICE_DONE,
                               .stop_index = -1,
                               .n_generated = 5,
                               .finish = canceled                   ? GEN_FINISH_CANCEL
                                         : p->req.params.max_tokens ? GEN_FINISH_LENGTH
                                                                    : GEN_FINISH_STOP};
        for (uint32_t c = 0; !p->is_load && c < p->req.params.n; c++) {
            ev.choice = c;
            p->fn(p->ctx, &ev);
        }
        ev.type = GEN_EVENT_DONE;
        ev.n_prompt = 9;
        ev.n_cached = 4;
        p->fn(p->ctx, &ev);
    }
    pthread_mutex_lock(&r->lock);
    struct play **at = &r->plays;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    gen_request_release(&p->req);
    mem_free(p);
    r->n_running--;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static int play_start(struct runner *r, const char *model, struct gen_request *req, bool is_load,
                      const struct run_options *opt, runner_event_fn fn, void *ctx,
                      uint64_t *ret_id, struct err *err)
{
    if (strncmp(model, "refuse-", 7) == 0 || !played_knows(model)) {
        gen_request_release(req);
        int code = played_knows(model) ? (int)strtol(model + 7, NULL, 10) : E_NOTFOUND;
        return err_set(err, (enum err_code)code, "no model is called '%s'", model);
    }
    struct play *p = mem_alloc(sizeof(*p));
    snprintf(p->model, sizeof(p->model), "%s", model);
    p->req = *req;
    gen_request_init(req);
    p->runner = r;
    p->is_load = is_load;
    p->opt = opt ? *opt : (struct run_options){0};
    p->fn = fn;
    p->ctx = ctx;
    pthread_mutex_lock(&r->lock);
    *ret_id = p->id = ++r->next_id;
    p->next = r->plays;
    r->plays = p;
    r->n_running++;
    pthread_mutex_unlock(&r->lock);
    pthread_t t;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    BUG_ON(pthread_create(&t, &attr, play_run, p) != 0);
    pthread_attr_destroy(&attr);
    if (strcmp(model, "late") == 0)
        client_wait_ms(30);
    return 0;
}

int runner_generate(struct runner *r, const char *model, struct gen_request *req,
                    const struct run_options *opt, runner_event_fn fn, void *ctx, uint64_t *ret_id,
                    struct err *err)
{
    return play_start(r, model, req, false, opt, fn, ctx, ret_id, err);
}

void runner_cancel(struct runner *r, uint64_t id)
{
    pthread_mutex_lock(&r->lock);
    for (struct play *p = r->plays; p; p = p->next) {
        if (p->id == id && !atomic_exchange(&p->canceled, true))
            r->n_canceled++;
    }
    pthread_mutex_unlock(&r->lock);
}

int runner_load(struct runner *r, const char *model, const struct run_options *opt,
                runner_event_fn fn, void *ctx, struct err *err)
{
    struct gen_request req;
    uint64_t id;
    gen_request_init(&req);
    return play_start(r, model, &req, true, opt, fn, ctx, &id, err);
}
