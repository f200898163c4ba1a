/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP API over a runner that plays known models, defined here instead of daemon/runner's: its
 * answers, failures and races, from many threads at once (run it under TSan).
 *
 * `test_api_http --serve --port N --ready-fd N` serves the same until SIGTERM, for
 * tests/scenario/test_api.py. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/api/api.h"
#include "daemon/serve.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

/* --- the runner that plays
 * -------------------------------------------------------------------------------------- "words"
 * max_tokens words (default 5) for each choice, at once "ns/words"  the same under a name with a
 * slash "slow"      the same, 5 ms apart, endless without max_tokens "late"      the same as words,
 * ended before runner_generate has returned "flood"     64 KiB words as fast as they go, 64 MiB
 * without max_tokens "echo"      the request as the runner sees it, as JSON "crash"     two words,
 * then FAILED with E_GONE "silent"    nothing at all until it is canceled "thinking"  nothing for
 * 700 ms, then as words "bytes"     words that break UTF-8 apart into tokens "fail-N"    FAILED
 * with err code N and nothing before; "refuse-N": runner_generate fails with it "picky"     as
 * slow, but FAILED with E_CONTEXT at once where the prompt is "long" */

struct runner {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t next_id;
    unsigned n_running, n_canceled, n_tokens_jobs;
    atomic_bool is_stopping;
    struct play *plays;
    struct model_settings settings[16]; /* of fake_names */
};

struct play {
    struct play *next;
    uint64_t id;
    struct runner *runner;
    char model[64];
    struct gen_request req;
    struct run_options opt;
    bool is_load;
    runner_event_fn fn;
    void *ctx;
    atomic_bool canceled;
};

static const char *const fake_names[] = {"bytes", "crash",  "echo", "flood",    "late", "ns/words",
                                         "picky", "silent", "slow", "thinking", "words"};
#define FAKE_DIGEST "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void wait_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

int runner_new(const struct runner_config *cfg, struct runner **ret, struct err *err)
{
    (void)cfg;
    (void)err;
    struct runner *r = mem_alloc(sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    *ret = r;
    return 0;
}

void runner_stop(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->is_stopping, true);
    for (struct play *p = r->plays; p; p = p->next)
        atomic_store(&p->canceled, true);
    while (r->n_running || r->n_tokens_jobs)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void runner_free(struct runner *r)
{
    runner_stop(r);
    for (size_t i = 0; i < ARRAY_LEN(r->settings); i++)
        model_settings_release(&r->settings[i]);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    mem_free(r);
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(fake_names); i++) {
        if (strcmp(name, fake_names[i]) == 0)
            return true;
    }
    return strncmp(name, "fail-", 5) == 0 || strncmp(name, "refuse-", 7) == 0;
}

int runner_register(struct runner *r, const char *path, const char *name, char *ret_name,
                    struct err *err)
{
    (void)r;
    if (strcmp(path + strlen(path) - MIN_OF(strlen(path), 5), ".gguf") != 0)
        return err_set(err, E_INVALID, "%s does not end in .gguf", path);
    snprintf(ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%s", name ? name : "registered");
    return 0;
}

/* NULL: it keeps none. */
static struct model_settings *settings_of(struct runner *r, const char *model)
{
    for (size_t i = 0; i < ARRAY_LEN(fake_names); i++) {
        if (strcmp(model, fake_names[i]) == 0)
            return &r->settings[i];
    }
    return NULL;
}

int runner_settings_get(struct runner *r, const char *model, struct model_settings *ret,
                        struct err *err)
{
    model_settings_init(ret);
    if (!is_known(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'; did you mean words?", model);
    pthread_mutex_lock(&r->lock);
    const struct model_settings *s = settings_of(r, model);
    int rc = s ? model_settings_copy(ret, s, err) : 0;
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int runner_resolve(struct runner *r, const char *name, bool partial, char *ret_name,
                   struct err *err)
{
    (void)r;
    (void)partial;
    size_t n = strlen(name);
    bool has_suffix = n > 5 && strcmp(name + n - 5, ".gguf") == 0;
    snprintf(ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%.*s", (int)(has_suffix ? n - 5 : n), name);
    if (!is_known(ret_name))
        return err_set(err, E_NOTFOUND, "no model is called '%s'; did you mean words?", name);
    return 0;
}

int runner_give_up(struct runner *r, const char *digest, bool force, struct err *err)
{
    (void)r;
    (void)digest;
    (void)force;
    (void)err;
    return 0; /* there is no store here */
}

bool runner_uses(struct runner *r, const char *digest)
{
    (void)r;
    (void)digest;
    return false;
}

int runner_settings_set(struct runner *r, const char *model, const struct model_settings *s,
                        bool when_idle, struct err *err)
{
    if (!is_known(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    if (s->chat_template_len == 3)
        return err_set(err, E_FORMAT, "bad template");
    pthread_mutex_lock(&r->lock);
    struct model_settings *mine = settings_of(r, model);
    int rc = 0;
    if (when_idle && strcmp(model, "slow") == 0 && r->n_running > 0) {
        rc = err_set(err, E_BUSY, "slow has requests");
    } else if (mine) {
        model_settings_release(mine);
        rc = model_settings_copy(mine, s, err);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int runner_list(struct runner *r, struct model_list *ret, struct err *err)
{
    (void)err;
    pthread_mutex_lock(&r->lock);
    ret->n = ARRAY_LEN(fake_names);
    ret->items = mem_alloc(ret->n * sizeof(*ret->items));
    for (size_t i = 0; i < ret->n; i++) {
        struct model_info *m = &ret->items[i];
        *m = (struct model_info){.name = mem_dup(fake_names[i], strlen(fake_names[i])),
                                 .path = mem_dup("/m.gguf", 7),
                                 .file_bytes = 1000,
                                 .modified_unix = 1700000000};
        if (strcmp(fake_names[i], "slow") == 0) { /* where tests look at what the runner was told */
            m->state = MODEL_READY;
            m->n_running = r->n_running;
            m->n_requests = r->n_canceled;
            m->pid = 1;
            m->n_ctx = 128;
            snprintf(m->arch, sizeof(m->arch), "fake");
            snprintf(m->quant, sizeof(m->quant), "F32");
            m->loaded_unix = 1700000001;
            m->last_used_unix = 1700000001;
            m->expires_in_s = RUN_FOREVER;
            snprintf(m->digest, sizeof(m->digest), "%s", FAKE_DIGEST);
        }
        BUG_ON(model_settings_copy(&m->settings, &r->settings[i], err) < 0);
    }
    pthread_mutex_unlock(&r->lock);
    return 0;
}

void model_list_release(struct model_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        mem_free(l->items[i].name);
        mem_free(l->items[i].path);
        model_settings_release(&l->items[i].settings);
    }
    mem_free(l->items);
}

int runner_stats(struct runner *r, struct runner_stats *ret, struct err *err)
{
    (void)r;
    (void)err;
    *ret = (struct runner_stats){.n_loads = 1};
    return 0;
}

bool runner_is_ready(struct runner *r, char *ret_why, size_t size)
{
    (void)r;
    (void)ret_why;
    (void)size;
    return true;
}

bool runner_has_room(struct runner *r, char *ret_why, size_t size)
{
    (void)r;
    (void)ret_why;
    (void)size;
    return true;
}

bool runner_is_alive(struct runner *r, uint32_t limit_ms)
{
    (void)r;
    (void)limit_ms;
    return true;
}

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
            wait_ms(pause_ms);
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
            wait_ms(2);
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
        wait_ms(700);
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
    if (strncmp(model, "refuse-", 7) == 0 || !is_known(model)) {
        gen_request_release(req);
        int code = is_known(model) ? (int)strtol(model + 7, NULL, 10) : E_NOTFOUND;
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
        wait_ms(30);
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

/* A token is a byte; 256 goes before a text, 257 is what "<end>" spells. */
struct tokens_play {
    struct runner *runner;
    int32_t ids[64];
    uint32_t n;
    char text[64];
    bool is_text;
    runner_tokens_fn fn;
    void *ctx;
};

static void *tokens_run(void *arg)
{
    struct tokens_play *p = arg;
    struct run_tokens t = {.tokens = p->ids, .n_tokens = p->n, .n_ctx = 128};
    for (uint32_t i = 0; p->is_text && i < p->n; i++) {
        p->text[i] = (char)p->ids[i];
        if (p->ids[i] > 257)
            err_set(&t.err, E_INVALID,
                    "prompt[%u] is token %d, and the model's tokens are 0 to 257", i, p->ids[i]);
    }
    t.text = (struct str){p->text, p->n};
    p->fn(p->ctx, &t);
    /* The real runner answers from a thread that it joins; here runner_stop() waits for this. */
    struct runner *r = p->runner;
    mem_free(p);
    pthread_mutex_lock(&r->lock);
    r->n_tokens_jobs--;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static int tokens_start(const char *model, const struct tokens_play *what, struct err *err)
{
    struct runner *r = what->runner;
    pthread_t t;
    pthread_attr_t attr;
    if (!is_known(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    struct tokens_play *p = mem_alloc(sizeof(*p));
    *p = *what;
    pthread_mutex_lock(&r->lock);
    r->n_tokens_jobs++;
    pthread_mutex_unlock(&r->lock);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    BUG_ON(pthread_create(&t, &attr, tokens_run, p) != 0);
    pthread_attr_destroy(&attr);
    return 0;
}

int runner_tokenize(struct runner *r, const char *model, struct str text, bool special,
                    bool parse_special, runner_tokens_fn fn, void *ctx, struct err *err)
{
    struct tokens_play p = {.runner = r, .fn = fn, .ctx = ctx};
    if (special)
        p.ids[p.n++] = 256;
    if (parse_special && str_is(text, "<end>"))
        p.ids[p.n++] = 257;
    else
        for (size_t i = 0; i < text.len && p.n < 64; i++)
            p.ids[p.n++] = (unsigned char)text.p[i];
    return tokens_start(model, &p, err);
}

int runner_detokenize(struct runner *r, const char *model, const int32_t *tokens, uint32_t n_tokens,
                      runner_tokens_fn fn, void *ctx, struct err *err)
{
    struct tokens_play p = {
        .runner = r, .fn = fn, .ctx = ctx, .is_text = true, .n = MIN_OF(n_tokens, 64u)};
    memcpy(p.ids, tokens, p.n * sizeof(*tokens));
    return tokens_start(model, &p, err);
}

int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded, struct err *err)
{
    (void)r;
    if (!is_known(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    *ret_was_loaded = strcmp(model, "slow") == 0;
    return 0;
}

/* --- a small client
 * ---------------------------------------------------------------------------------------------- */

struct server {
    struct runner *runner;
    struct api *api;
    struct httpd *httpd;
    atomic_uint n_shutdowns;
};

static void count_shutdown(void *ctx)
{
    struct server *s = ctx;
    atomic_fetch_add(&s->n_shutdowns, 1);
}

static void server_start(struct server *s)
{
    struct err err = ERR_INIT;
    *s = (struct server){0};
    assert_int_equal(runner_new(NULL, &s->runner, &err), 0);
    s->api = api_new(&(struct api_config){
        .runner = s->runner, .keep_alive_ms = 300, .shutdown = count_shutdown, .ctx = s});
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct httpd_config hc = {.listen = &tcp,
                              .n_listen = 1,
                              .n_threads = 3,
                              .on_headers = api_on_headers,
                              .on_request = api_on_request,
                              .on_refusal = api_on_refusal,
                              .ctx = s->api};
    assert_int_equal(httpd_start(&hc, &s->httpd, &err), 0);
    api_set_httpd(s->api, s->httpd);
}

static void server_stop(struct server *s)
{
    httpd_stop(s->httpd);
    api_set_httpd(s->api, NULL);
    runner_free(s->runner);
    api_free(s->api);
}

static int dial(const struct server *s)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(httpd_port(s->httpd))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BUG_ON(fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0);
    return fd;
}

static int post(const struct server *s, const char *path, const char *body)
{
    char head[512];
    int fd = dial(s);
    int n = snprintf(head, sizeof(head),
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     path, strlen(body));
    BUG_ON(send(fd, head, (size_t)n, MSG_NOSIGNAL) != n);
    BUG_ON(send(fd, body, strlen(body), MSG_NOSIGNAL) != (ssize_t)strlen(body));
    return fd;
}

/* Everything until the server closes; closes. */
static char *read_all(int fd)
{
    struct buf b;
    buf_init(&b, 256u << 20);
    for (;;) {
        BUG_ON(buf_reserve(&b, 65536) < 0);
        ssize_t n = recv(fd, b.data + b.len, 65536, 0);
        if (n <= 0)
            break;
        b.len += (size_t)n;
    }
    BUG_ON(buf_append_char(&b, '\0') < 0);
    close(fd);
    return buf_take(&b);
}

static unsigned canceled(struct server *s)
{
    pthread_mutex_lock(&s->runner->lock);
    unsigned n = s->runner->n_canceled;
    pthread_mutex_unlock(&s->runner->lock);
    return n;
}

static unsigned running(struct server *s)
{
    pthread_mutex_lock(&s->runner->lock);
    unsigned n = s->runner->n_running;
    pthread_mutex_unlock(&s->runner->lock);
    return n;
}

#define BODY(model, rest) "{\"model\":\"" model "\",\"prompt\":\"x\"" rest "}"

#define SEVERAL(model, rest)                                                                       \
    "{\"model\":\"" model "\",\"prompt\":[\"short\",\"long\",\"short\"]" rest "}"

static void expect(struct server *s, const char *body, const char *wanted)
{
    char *answer = read_all(post(s, "/v1/completions", body));
    if (!strstr(answer, wanted))
        fail_msg("%s: answer without %s: %s", body, wanted, answer);
    mem_free(answer);
}

/* --- tests
 * -------------------------------------------------------------------------------------------------------
 */

static void answers_come_whole_and_streamed(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    expect(&s, BODY("words", ""), "\"text\":\"w0 w1 w2 w3 w4 \"");
    expect(&s, BODY("words", ",\"stream\":true"), "data: [DONE]\n\n");
    expect(&s, BODY("late", ""), "\"text\":\"w0 w1 w2 w3 w4 \"");
    expect(&s, BODY("late", ",\"stream\":true"), "data: [DONE]\n\n");
    expect(&s, BODY("thinking", ",\"stream\":true"), ": keep-alive\n\n");
    expect(&s, BODY("crash", ",\"stream\":true"),
           "data: {\"error\":{\"message\":\"the worker died\"");
    expect(&s, BODY("crash", ""), "HTTP/1.1 500 ");
    expect(&s, BODY("crash", ",\"stream\":false"), "\"code\":\"worker_crashed\"");
    expect(&s, BODY("fail-17", ",\"stream\":true"),
           "HTTP/1.1 400 "); /* E_CONTEXT, before anything streamed */
    expect(&s, BODY("refuse-11", ""), "HTTP/1.1 429 ");
    server_stop(&s);
}

static void a_client_that_leaves_cancels(void **state)
{
    (void)state;
    static const char *const bodies[] = {BODY("silent", ""), BODY("silent", ",\"stream\":true"),
                                         BODY("slow", ""), BODY("slow", ",\"stream\":true")};
    struct server s;
    server_start(&s);
    for (unsigned i = 0; i < ARRAY_LEN(bodies); i++) {
        int fd = post(&s, "/v1/completions", bodies[i]);
        for (int w = 0; w < 500 && running(&s) == 0; w++)
            wait_ms(2);
        assert_int_equal(running(&s), 1);
        if (i & 1)
            shutdown(fd, SHUT_WR); /* half-closed counts as gone */
        else
            close(fd);
        for (int w = 0; w < 1000 && running(&s) > 0; w++)
            wait_ms(2);
        assert_int_equal(running(&s), 0);
        assert_int_equal(canceled(&s), i + 1);
        if (i & 1)
            close(fd);
    }
    server_stop(&s);
}

static void a_reader_that_never_reads_is_dropped(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    int fd = post(&s, "/v1/completions", BODY("flood", ",\"stream\":true"));
    for (int w = 0; w < 2000 && canceled(&s) == 0; w++)
        wait_ms(2);
    assert_int_equal(canceled(&s), 1);
    char *got = read_all(fd);
    assert_null(strstr(got, "[DONE]"));
    mem_free(got);
    expect(&s, BODY("words", ""), "w4 ");
    server_stop(&s);
}

static void *one_client(void *arg)
{
    struct server *s = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < 12; i++) {
        switch (rand_r(&seed) % 9) {
        case 0: expect(s, BODY("words", ",\"n\":3,\"logprobs\":2"), "w4 "); break;
        case 1: expect(s, BODY("words", ",\"stream\":true,\"n\":2"), "[DONE]"); break;
        case 2: expect(s, BODY("slow", ",\"stream\":true,\"max_tokens\":4"), "[DONE]"); break;
        case 3: close(post(s, "/v1/completions", BODY("slow", ",\"stream\":true"))); break;
        case 4: close(post(s, "/v1/completions", BODY("late", ""))); break;
        case 5: expect(s, SEVERAL("words", ",\"n\":2,\"stream\":true"), "[DONE]"); break;
        case 6: expect(s, SEVERAL("picky", ""), "context_length_exceeded"); break;
        case 7: close(post(s, "/v1/completions", SEVERAL("slow", ",\"stream\":true"))); break;
        default: expect(s, BODY("fail-16", ",\"stream\":true"), "worker_crashed"); break;
        }
    }
    return NULL;
}

static void many_clients_at_once(void **state)
{
    (void)state;
    enum { N = 16 };
    struct server s;
    pthread_t t[N];
    server_start(&s);
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_create(&t[i], NULL, one_client, &s), 0);
    for (int i = 0; i < N; i++)
        pthread_join(t[i], NULL);
    for (int w = 0; w < 1000 && running(&s) > 0; w++)
        wait_ms(2);
    assert_int_equal(running(&s), 0);
    server_stop(&s);
}

static void stopping_ends_what_runs(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct server s;
        int fds[8];
        server_start(&s);
        for (int i = 0; i < 8; i++)
            fds[i] = post(&s, "/v1/completions",
                          i & 1   ? BODY("slow", ",\"stream\":true")
                          : i & 2 ? BODY("silent", "")
                                  : BODY("slow", ""));
        wait_ms((unsigned)round * 10);
        server_stop(&s);
        for (int i = 0; i < 8; i++)
            close(fds[i]);
    }
}

static void load_answers_from_another_thread(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    char *answer =
        read_all(post(&s, "/berth/v1/load", "{\"model\":\"slow\",\"chat_template\":\"some\"}"));
    assert_non_null(strstr(answer, "\"state\":\"ready\""));
    mem_free(answer);
    answer = read_all(post(&s, "/berth/v1/load", "{\"model\":\"fail-4\"}"));
    assert_non_null(strstr(answer, "insufficient_memory"));
    assert_non_null(strstr(answer, "x-should-retry: false"));
    mem_free(answer);
    close(post(&s, "/berth/v1/load", "{\"model\":\"thinking\"}"));
    server_stop(&s);
}

static void shutdown_route_tells_its_owner(void **state)
{
    (void)state;
    struct server s;
    server_start(&s);
    mem_free(read_all(post(&s, "/berth/v1/shutdown", "{}")));
    assert_int_equal(atomic_load(&s.n_shutdowns), 1);
    server_stop(&s);
}

static int serve(int argc, char **argv)
{
    struct daemon_config cfg;
    daemon_config_init(&cfg);
    cfg.keep_alive_ms = 300;
    cfg.drain_timeout_s = 1;
    cfg.log_level = LOG_LEVEL_DEBUG;
    for (int i = 2; i + 1 < argc; i += 2) {
        int n = (int)strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--port") == 0)
            cfg.port = (uint16_t)n;
        else if (strcmp(argv[i], "--ready-fd") == 0)
            cfg.ready_fd = n;
        else if (strcmp(argv[i], "--exit-idle") == 0)
            cfg.exit_idle_s = (uint32_t)n;
        else if (strcmp(argv[i], "--host") == 0)
            cfg.host = argv[i + 1];
        else if (strcmp(argv[i], "--models") == 0)
            cfg.runner.models_dirs = argv[i + 1];
    }
    return daemon_main(&cfg);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--serve") == 0)
        return serve(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_whole_and_streamed),
        cmocka_unit_test(a_client_that_leaves_cancels),
        cmocka_unit_test(a_reader_that_never_reads_is_dropped),
        cmocka_unit_test(load_answers_from_another_thread),
        cmocka_unit_test(shutdown_route_tells_its_owner),
        cmocka_unit_test(stopping_ends_what_runs),
        cmocka_unit_test(many_clients_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
