/* SPDX-License-Identifier: Apache-2.0 */
/* Implements ask.h. */
#include "cli/chat/ask.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "cli/chat/interrupt.h"
#include "cli/model_path.h"
#include "cli/progress.h"
#include "lib/base/clock.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

static int64_t now_us(void)
{
    return (int64_t)(clock_ns() / 1000);
}

int chat_init(struct chat *c, const struct config *cfg, const char *model, struct output *out,
              struct err *err)
{
    *c = (struct chat){.params = json_object(),
                       .messages = json_array(),
                       .asked_for = mem_dup(model, strlen(model)),
                       .is_streaming = true,
                       .out = out};
    buf_init(&c->answer.text, LIMIT_ANSWER_BYTES);
    buf_init(&c->answer.thinking, LIMIT_ANSWER_BYTES);
    if (client_init(&c->client, cfg, err) < 0)
        return -err->code;
    return 0;
}

void chat_heed_interrupts(struct chat *c)
{
    c->client.has_cancel_fd = true;
    c->client.cancel_fd = interrupt_fd();
}

bool chat_is_full(const struct chat *c)
{
    const struct answer *a = &c->answer;
    return strcmp(a->finish, "length") == 0 && c->n_ctx > 0 && a->n_prompt >= 0 &&
           a->n_prompt + a->n_generated >= c->n_ctx;
}

void chat_release(struct chat *c)
{
    buf_release(&c->answer.text);
    buf_release(&c->answer.thinking);
    json_decref(c->params);
    json_decref(c->messages);
    mem_free(c->system);
    mem_free(c->digest);
    mem_free(c->model);
    mem_free(c->asked_for);
}

/* Makes a path known to the daemon; *ret_name (owned) is the name the model has there. */
static int register_path(struct chat *c, const char *given, char **ret_name, struct err *err)
{
    struct buf path;
    buf_init(&path, LIMIT_PATH_BYTES);
    json_t *answer = NULL;
    int rc = model_real_path(given, &path, err);
    if (rc == 0) {
        json_t *body = json_pack("{s:s}", "path", buf_str(&path));
        rc = body ? client_json(&c->client, "POST", "/berth/v1/register", body, &answer, err)
                  : err_set(err, E_INVALID, "the path is not valid UTF-8");
        json_decref(body);
    }
    if (rc == 0) {
        const char *name = json_string_value(json_object_get(answer, "name"));
        if (name)
            *ret_name = mem_dup(name, strlen(name));
        else
            rc = err_set(err, E_FORMAT, "the daemon registered the file without naming it");
    }
    json_decref(answer);
    buf_release(&path);
    return rc;
}

/* A daemon answers, and c->model is a name it knows or refuses. */
static int reach(struct chat *c, struct err *err)
{
    char *name = NULL;
    if (client_ensure(&c->client, err) < 0)
        return -err->code;
    if (!model_is_path(c->asked_for))
        name = mem_dup(c->asked_for, strlen(c->asked_for));
    else if (register_path(c, c->asked_for, &name, err) < 0)
        return -err->code;
    mem_free(c->model);
    c->model = name;
    return 0;
}

static void on_progress_tick(void *ctx)
{
    progress_tick(ctx);
}

int chat_set_template(struct chat *c, struct str text, struct err *err)
{
    json_t *answer = NULL, *template = text.p ? json_stringn(text.p, text.len) : json_null();
    if (!template)
        return err_set(err, E_INVALID, "the chat template is not valid UTF-8");
    if (reach(c, err) < 0) {
        json_decref(template);
        return -err->code;
    }
    json_t *body = json_pack("{s:s, s:o}", "model", c->model, "chat_template", template);
    int rc = body ? client_json(&c->client, "POST", "/berth/v1/configure", body, &answer, err)
                  : err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    json_decref(answer);
    json_decref(body);
    return rc;
}

int chat_try(struct chat *c, struct err *err)
{
    json_t *answer = NULL;
    json_t *body = json_pack("{s:s, s:i, s:[{s:s, s:s}]}", "model", c->model, "max_tokens", 1,
                             "messages", "role", "user", "content", "Hello");
    int rc = body ? client_json(&c->client, "POST", "/v1/chat/completions", body, &answer, err)
                  : err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    json_decref(answer);
    json_decref(body);
    return rc;
}

static void keep_string(char **to, const json_t *v)
{
    const char *s = json_string_value(v);
    if (!s || !*s)
        return;
    mem_free(*to);
    *to = mem_dup(s, strlen(s));
}

static int64_t count_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : -1;
}

struct loading {
    struct progress progress;
    json_t *model; /* owned: what the last event says of it */
};

/* {"what", "done", "total"}, and at the end the model as GET /berth/v1/models has it. */
static bool on_load_event(void *ctx, const json_t *event)
{
    struct loading *l = ctx;
    if (json_object_get(event, "name")) {
        json_decref(l->model);
        l->model = json_deep_copy(event);
        return true;
    }
    json_int_t done = json_integer_value(json_object_get(event, "done"));
    json_int_t total = json_integer_value(json_object_get(event, "total"));
    progress_set(&l->progress, json_string_value(json_object_get(event, "what")),
                 (uint64_t)MAX_OF(done, 0), (uint64_t)MAX_OF(total, 0));
    progress_tick(&l->progress);
    return true;
}

int chat_load(struct chat *c, enum chat_mode mode, struct err *err)
{
    if (reach(c, err) < 0)
        return -err->code;
    json_t *body = json_pack("{s:s, s:b}", "model", c->model, "stream", 1);
    if (!body)
        return err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    struct loading l = {.model = NULL};
    struct buf what;
    buf_init(&what, LIMIT_PATH_BYTES);
    buf_printf(&what, "loading %s", c->model);
    if (c->has_keep_alive)
        json_object_set_new(body, "keep_alive", json_integer(c->keep_alive_s));
    progress_begin(&l.progress, buf_str(&what), c->out->has_color);
    c->client.on_tick = on_progress_tick;
    c->client.tick_ctx = &l.progress;
    int rc = client_events(&c->client, "/berth/v1/load", body, on_load_event, &l, err);
    c->client.on_tick = NULL;
    progress_end(&l.progress);
    if (rc == 0 && !l.model)
        rc = err_set(err, E_NET, "the daemon broke the loading of %s off; its log says why",
                     c->model);
    c->has_template = json_is_true(json_object_get(l.model, "has_chat_template"));
    c->is_chat = mode == CHAT_ALWAYS || (mode == CHAT_BY_TEMPLATE && c->has_template);
    keep_string(&c->digest, json_object_get(l.model, "digest"));
    c->n_ctx = count_of(l.model, "n_ctx");
    buf_release(&what);
    json_decref(l.model);
    json_decref(body);
    return rc;
}

/* A field of an event's only choice, or of a whole answer's. */
static const json_t *part_of(const struct chat *c, const json_t *event, const char *chat_key)
{
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    if (!c->is_chat)
        return strcmp(chat_key, "content") == 0 ? json_object_get(choice, "text") : NULL;
    const json_t *m = json_object_get(choice, "delta");
    return json_object_get(m ? m : json_object_get(choice, "message"), chat_key);
}

static void take_usage(struct answer *a, const json_t *usage)
{
    if (!json_is_object(usage))
        return;
    a->n_prompt = count_of(usage, "prompt_tokens");
    a->n_generated = count_of(usage, "completion_tokens");
    a->n_cached = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
}

/* What an event, or a whole answer, says. */
static void take(struct chat *c, const json_t *event)
{
    struct answer *a = &c->answer;
    const json_t *text = part_of(c, event, "content");
    const json_t *thinking = part_of(c, event, "reasoning_content");
    if (!a->first_us && (json_string_length(text) || json_string_length(thinking)))
        a->first_us = now_us();
    buf_append(&a->thinking, json_string_value(thinking), json_string_length(thinking));
    buf_append(&a->text, json_string_value(text), json_string_length(text));
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    if (finish)
        snprintf(a->finish, sizeof(a->finish), "%s", finish);
    const char *print = json_string_value(json_object_get(event, "system_fingerprint"));
    if (print)
        snprintf(a->fingerprint, sizeof(a->fingerprint), "%s", print);
    take_usage(a, json_object_get(event, "usage"));
    const json_t *timings = json_object_get(event, "timings");
    if (timings)
        a->tokens_per_s = json_number_value(json_object_get(timings, "predicted_per_second"));
}

static bool on_event(void *ctx, const json_t *event)
{
    struct chat *c = ctx;
    const json_t *text = part_of(c, event, "content");
    const json_t *thinking = part_of(c, event, "reasoning_content");
    take(c, event);
    output_thinking(c->out, json_string_value(thinking), json_string_length(thinking));
    output_text(c->out, json_string_value(text), json_string_length(text));
    return c->out->write_errno == 0;
}

/* A seed of its own for every answer that is given none, so that it can be told afterwards. */
static uint64_t draw_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = (uint64_t)now_us() * 0x9E3779B97F4A7C15u;
    return seed >> 11; /* exact in every client's numbers */
}

static json_t *body_of(struct chat *c, const char *prompt, size_t len, struct err *err)
{
    json_t *text = json_stringn(prompt, len);
    if (!text) {
        err_set(err, E_INVALID, "the prompt is not valid UTF-8");
        return NULL;
    }
    json_t *body = json_copy(c->params);
    json_object_set_new(body, "model", json_string(c->model));
    if (c->is_chat) {
        json_t *all = json_array();
        size_t i;
        json_t *m;
        if (c->system)
            json_array_append_new(all,
                                  json_pack("{s:s, s:s}", "role", "system", "content", c->system));
        json_array_foreach(c->messages, i, m)
            json_array_append_new(all, json_pack("{s:O, s:O}", "role", json_object_get(m, "role"),
                                                 "content", json_object_get(m, "content")));
        json_array_append_new(all, json_pack("{s:s, s:O}", "role", "user", "content", text));
        json_object_set_new(body, "messages", all);
    } else {
        json_object_set(body, "prompt", text);
    }
    json_decref(text);
    if (!json_object_get(body, "seed"))
        json_object_set_new(body, "seed", json_integer((json_int_t)draw_seed()));
    c->answer.seed = (uint64_t)json_integer_value(json_object_get(body, "seed"));
    json_object_set_new(body, "stream", json_boolean(c->is_streaming && !c->is_json));
    if (c->is_streaming && !c->is_json)
        json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1));
    if (c->is_verbose) /* when pieces come here says little: an answer may come in one */
        json_object_set_new(body, "timings_per_token", json_true());
    if (c->has_keep_alive)
        json_object_set_new(body, "keep_alive", json_integer(c->keep_alive_s));
    return body;
}

/* The whole answer at once. */
static int ask_whole(struct chat *c, const char *path, const json_t *body, struct err *err)
{
    struct buf bytes;
    buf_init(&bytes, 2 * (size_t)LIMIT_ANSWER_BYTES);
    int rc = client_bytes(&c->client, "POST", path, body, &bytes, err);
    json_t *answer = rc == 0 ? json_loadb(buf_str(&bytes), bytes.len, 0, NULL) : NULL;
    if (rc == 0 && !answer)
        rc = err_set(err, E_FORMAT, "the daemon's answer is not JSON");
    if (rc == 0 && c->is_json) {
        take(c, answer);
        output_text(c->out, buf_str(&bytes), bytes.len);
    } else if (rc == 0) {
        on_event(c, answer);
    }
    json_decref(answer);
    buf_release(&bytes);
    return rc;
}

/* The question and what was answered become turns. */
static void remember(struct chat *c, const char *prompt, size_t len)
{
    struct answer *a = &c->answer;
    json_array_append_new(
        c->messages, json_pack("{s:s, s:o}", "role", "user", "content", json_stringn(prompt, len)));
    json_t *turn =
        json_pack("{s:s, s:o, s:I}", "role", "assistant", "content",
                  json_stringn(buf_str(&a->text), a->text.len), "seed", (json_int_t)a->seed);
    if (a->thinking.len)
        json_object_set_new(turn, "reasoning_content",
                            json_stringn(buf_str(&a->thinking), a->thinking.len));
    if (a->is_stopped)
        json_object_set_new(turn, "stopped", json_true());
    json_array_append_new(c->messages, turn);
}

int chat_ask(struct chat *c, const char *prompt, size_t len, struct err *err)
{
    struct answer *a = &c->answer;
    struct buf text = a->text, thinking = a->thinking;
    buf_clear(&text);
    buf_clear(&thinking);
    *a = (struct answer){.text = text,
                         .thinking = thinking,
                         .asked_us = now_us(),
                         .n_prompt = -1,
                         .n_cached = -1,
                         .n_generated = -1};
    json_t *body = body_of(c, prompt, len, err);
    if (!body)
        return -err->code;
    const char *path = c->is_chat ? "/v1/chat/completions" : "/v1/completions";
    int rc = c->is_streaming && !c->is_json
                 ? client_stream(&c->client, path, body, on_event, c, err)
                 : ask_whole(c, path, body, err);
    json_decref(body);
    output_end(c->out);
    if (c->out->write_errno) {
        errno = c->out->write_errno;
        return err_set_sys(err, E_IO, "writing the answer to standard output");
    }
    a->is_stopped = rc < 0;
    if (rc == 0 || (rc == -E_CANCELED && a->text.len))
        remember(c, prompt, len);
    return rc;
}

bool chat_undo(struct chat *c)
{
    size_t n = json_array_size(c->messages);
    while (n > 0) {
        const json_t *m = json_array_get(c->messages, n - 1);
        const char *role = json_string_value(json_object_get(m, "role"));
        bool is_question = role && strcmp(role, "user") == 0;
        json_array_remove(c->messages, --n);
        if (is_question)
            return true;
    }
    return false;
}

const json_t *chat_last_question(const struct chat *c)
{
    for (size_t n = json_array_size(c->messages); n > 0; n--) {
        const json_t *m = json_array_get(c->messages, n - 1);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && strcmp(role, "user") == 0)
            return json_object_get(m, "content");
    }
    return NULL;
}

void chat_put_timing(const struct chat *c, struct buf *out)
{
    const struct answer *a = &c->answer;
    int64_t whole = now_us() - a->asked_us;
    if (a->n_prompt >= 0)
        buf_printf(out, "prompt %lld tokens (%lld cached), ", (long long)a->n_prompt,
                   (long long)MAX_OF(a->n_cached, 0));
    if (a->first_us)
        buf_printf(out, "first text after %.3f s, ", (double)(a->first_us - a->asked_us) / 1e6);
    if (a->n_generated >= 0)
        buf_printf(out, "answer %lld tokens, ", (long long)a->n_generated);
    if (a->tokens_per_s > 0)
        buf_printf(out, "%.1f tokens/s, ", a->tokens_per_s);
    buf_printf(out, "%.3f s in all, end: %s, seed %llu", (double)whole / 1e6,
               a->is_stopped  ? "stopped"
               : a->finish[0] ? a->finish
                              : "unknown",
               (unsigned long long)a->seed);
    if (a->fingerprint[0])
        buf_printf(out, ", %s", a->fingerprint);
}
