/* SPDX-License-Identifier: Apache-2.0 */
/* Implements target.h. */
#include "cli/bench/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench/load.h"
#include "cli/models.h"
#include "lib/base/limits.h"

/* Ids that prompts are drawn from are those of this text. */
static const char words[] =
    "The ship lay at the quay and nobody knew where she would go, but every morning one more box "
    "was carried on board, and in the evening the captain counted them by the light of a lamp that "
    "hung over the door of the harbour office while rain ran down the windows";

static int make_ids(struct target *t, struct err *err)
{
    json_t *answer = NULL;
    json_t *body = json_pack("{s:s, s:s, s:s, s:b}", "model", buf_str(&t->model), "content", words,
                             "prompt", words, "add_special", 0);
    if (t->is_berth) /* one of the two */
        json_object_del(body, "prompt");
    int rc = client_json(&t->client, "POST", "/tokenize", body, &answer, err);
    const json_t *ids = json_object_get(answer, "tokens");
    if (rc == 0 && (json_array_size(ids) == 0 || !json_is_integer(json_array_get(ids, 0))))
        rc = err_set(err, E_FORMAT, "%s makes no tokens of a text", t->name);
    if (rc == 0)
        t->ids = json_incref((json_t *)ids);
    json_decref(answer);
    json_decref(body);
    return rc;
}

int target_open(struct target *t, const struct config *config, const char *model, struct err *err)
{
    json_t *answer = NULL;
    *t = (struct target){.name = "berth", .is_berth = true};
    buf_init(&t->model, LIMIT_PATH_BYTES);
    buf_init(&t->listed, LIMIT_PATH_BYTES);
    int rc = client_init(&t->client, config, err);
    if (rc == 0)
        rc = client_ensure(&t->client, err);
    if (rc == 0)
        rc = model_name(&t->client, model, &t->model, err);
    if (rc == 0) { /* loading is not what is measured */
        json_t *body = json_pack("{s:s}", "model", buf_str(&t->model));
        rc = client_json(&t->client, "POST", "/berth/v1/load", body, &answer, err);
        t->has_template = json_is_true(json_object_get(answer, "has_chat_template"));
        buf_append_str(&t->listed, answer_text(answer, "name"));
        json_decref(body);
        json_decref(answer);
    }
    return rc == 0 ? make_ids(t, err) : rc;
}

static const char *const list[] = {"time", "year",  "people", "way",  "day",   "man",   "thing",
                                   "life", "child", "world",  "hand", "part",  "place", "case",
                                   "week", "point", "home",   "room", "water", "house"};

struct count {
    double n_prompt; /* 0: it was not said */
};

static bool on_count(void *ctx, const json_t *event)
{
    struct count *c = ctx;
    json_int_t n =
        json_integer_value(json_object_get(json_object_get(event, "usage"), "prompt_tokens"));
    if (n > 0)
        c->n_prompt = (double)n;
    return true;
}

/* Tokens of a prompt that has every word of the list so many times. */
static int count_words(const struct target *t, unsigned times, double *ret, struct err *err)
{
    struct count c = {0};
    struct buf b;
    buf_init(&b, LIMIT_TEXT_BYTES);
    for (size_t i = 0; i < times * ARRAY_LEN(list); i++)
        buf_printf(&b, "%s%s", i ? " " : "", list[i % ARRAY_LEN(list)]);
    json_t *body =
        json_pack("{s:s, s:s, s:i, s:b, s:{s:b}}", "model", buf_str(&t->model), "prompt",
                  buf_str(&b), "max_tokens", 1, "stream", 1, "stream_options", "include_usage", 1);
    int rc = client_stream(&t->client, "/v1/completions", body, on_count, &c, err);
    json_decref(body);
    buf_release(&b);
    *ret = c.n_prompt;
    return rc < 0 ? err_wrap(err, "%s: counting tokens", t->name) : 0;
}

/* What words come to with this server's tokenizer: two prompts tell what is between them. */
static int fit_words(struct target *t, struct err *err)
{
    const double n = ARRAY_LEN(list);
    double once = 0, thrice = 0;
    int rc = count_words(t, 1, &once, err);
    if (rc == 0 && once > 0)
        rc = count_words(t, 3, &thrice, err);
    if (rc == 0 && once > 0 && thrice > once) {
        t->word_tokens = (thrice - once) / (2 * n);
        t->extra_tokens = once - n * t->word_tokens;
    }
    return rc;
}

/* The first model that the server names. */
static int first_model(struct target *t, struct err *err)
{
    json_t *answer = NULL;
    int rc = client_json(&t->client, "GET", "/v1/models", NULL, &answer, err);
    const char *id = answer_text(json_array_get(json_object_get(answer, "data"), 0), "id");
    if (rc == 0 && !*id)
        rc = err_set(err, E_NOTFOUND, "%s names no model in /v1/models: name one with --vs-model",
                     t->name);
    if (rc == 0)
        rc = buf_append_str(&t->model, id) < 0 ? buf_status(&t->model, "a model's name", err) : 0;
    json_decref(answer);
    return rc;
}

int target_open_url(struct target *t, const char *url, const char *model, const char *key,
                    struct err *err)
{
    struct err why = ERR_INIT;
    size_t n = strlen(url), size = sizeof(t->client.url);
    *t = (struct target){.name = url, .client = {.api_key = key}, .word_tokens = 1};
    buf_init(&t->model, LIMIT_PATH_BYTES);
    while (n && url[n - 1] == '/')
        n--;
    if (n > 3 && memcmp(url + n - 3, "/v1", 3) == 0)
        n -= 3;
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || n >= size)
        return err_set(err, E_INVALID, "'%.64s' is no http:// or https:// address of a server",
                       url);
    snprintf(t->client.url, size, "%.*s", (int)n, url);
    int rc =
        model ? (buf_append_str(&t->model, model) < 0 ? buf_status(&t->model, "a model's name", err)
                                                      : 0)
              : first_model(t, err);
    if (rc == 0 && make_ids(t, &why) < 0 && why.code == E_NET)
        rc = err_set(err, E_NET, "%s", why.msg);
    if (rc == 0 && !t->ids) /* without a tokenizer to ask, prompts are words */
        rc = fit_words(t, err);
    return rc;
}

void target_release(struct target *t)
{
    json_decref(t->ids);
    buf_release(&t->model);
    buf_release(&t->listed);
}

const char *target_path(const struct target *t, const struct target_prompts *p)
{
    return p->text && t->has_template ? "/v1/chat/completions" : "/v1/completions";
}

/* Number i of the n-th prompt's draws. */
static uint64_t draw(const struct target_prompts *p, uint32_t n, uint32_t i)
{
    uint64_t of = i < p->prefix_len ? p->seed : load_mix(p->seed + 1 + n);
    return load_mix(of + i);
}

static json_t *prompt_ids(const struct target *t, const struct target_prompts *p, uint32_t n)
{
    json_t *ids = json_array();
    for (uint32_t i = 0; i < p->prompt_len; i++) {
        const json_t *id = json_array_get(t->ids, draw(p, n, i) % json_array_size(t->ids));
        /* a number of its own: threads must not share a count of references */
        json_array_append_new(ids, json_integer(json_integer_value(id)));
    }
    return ids;
}

/* As many words as are about so many tokens. */
static uint32_t n_words(const struct target *t, double n_tokens)
{
    return (uint32_t)MAX_OF((n_tokens - t->extra_tokens) / t->word_tokens + 0.5, 1.0);
}

static json_t *prompt_words(const struct target *t, const struct target_prompts *p, uint32_t n)
{
    struct target_prompts w = *p; /* in words */
    struct buf b;
    w.prompt_len = n_words(t, p->prompt_len);
    w.prefix_len = p->prefix_len ? n_words(t, p->prefix_len) : 0;
    buf_init(&b, LIMIT_TEXT_BYTES);
    for (uint32_t i = 0; i < w.prompt_len; i++)
        buf_printf(&b, "%s%s", i ? " " : "", list[draw(&w, n, i) % ARRAY_LEN(list)]);
    json_t *text = json_string(buf_str(&b));
    buf_release(&b);
    return text;
}

json_t *target_body(const struct target *t, const struct target_prompts *p, uint32_t n)
{
    json_t *body = json_pack("{s:s, s:b, s:{s:b}}", "model", buf_str(&t->model), "stream", 1,
                             "stream_options", "include_usage", 1);
    if (p->text && t->has_template)
        json_object_set_new(body, "messages",
                            json_pack("[{s:s, s:s}]", "role", "user", "content", p->text));
    else if (p->text)
        json_object_set_new(body, "prompt", json_string(p->text));
    if (p->text)
        return body;
    json_object_set_new(body, "prompt", t->ids ? prompt_ids(t, p, n) : prompt_words(t, p, n));
    json_object_set_new(body, "max_tokens", json_integer(p->output_len));
    json_object_set_new(body, "temperature", json_integer(0));
    json_object_set_new(body, "ignore_eos", json_true());
    return body;
}

/* The TCP port of a server on this machine; 0: it is elsewhere. */
static uint32_t local_port(const struct target *t)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]"};
    bool is_tls = strncmp(t->client.url, "https", 5) == 0;
    const char *host = strstr(t->client.url, "://") + 3;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        size_t n = strlen(hosts[i]);
        if (strncmp(host, hosts[i], n) != 0)
            continue;
        if (host[n] == ':')
            return (uint32_t)strtoul(host + n + 1, NULL, 10);
        if (host[n] == '\0' || host[n] == '/')
            return is_tls ? 443 : 80;
    }
    return 0;
}

bool target_is_here(const struct target *t)
{
    return t->client.socket || local_port(t);
}

void target_memory(const struct target *t, bool *has_daemon, struct bench_memory *daemon,
                   bool *has_worker, struct bench_memory *worker)
{
    struct err err = ERR_INIT;
    json_t *models = NULL;
    uint32_t port = t->client.socket ? 0 : local_port(t);
    pid_t pid = port ? bench_listener(port) : 0, worker_pid = 0;
    if (t->is_berth && (pid || t->client.socket)) {
        json_t *status = NULL;
        if (client_json(&t->client, "GET", "/berth/v1/status", NULL, &status, &err) == 0)
            pid = (pid_t)answer_number(status, "pid");
        if (models_fetch(&t->client, &models, &err) == 0)
            worker_pid = (pid_t)answer_number(models_pick(models, buf_str(&t->listed)), "pid");
        json_decref(models);
        json_decref(status);
    }
    *has_daemon = pid && bench_memory_of(pid, daemon);
    *has_worker = worker_pid && bench_memory_of(worker_pid, worker);
}
