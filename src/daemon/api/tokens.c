/* SPDX-License-Identifier: Apache-2.0 */
/* POST /tokenize and /detokenize, in llama.cpp's and vLLM's dialects on one route: what a body has
 * in it tells which it is, and the answer has the fields of both. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/openai/body.h"
#include "daemon/api/info.h"
#include "daemon/api/manage.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define ANSWER_MAX_BYTES (256u << 20)

struct tokens_job {
    struct httpd_request *r;
    char *model;  /* owned */
    bool is_text; /* the answer is a text */
};

static void job_free(void *ctx)
{
    struct tokens_job *j = ctx;
    mem_free(j->model);
    mem_free(j);
}

static void end(struct tokens_job *j, uint32_t n_prompt, int status)
{
    struct watch_record rec = {
        .model = j->model, .n_prompts = 1, .n_prompt = n_prompt, .status = status};
    api_watch_end(api_call_of(j->r), &rec);
    httpd_request_unref(j->r);
}

static void put_ids(const struct run_tokens *t, struct buf *out)
{
    buf_printf(out, "{\"count\":%u,\"max_model_len\":%u,\"tokens\":[", t->n_tokens, t->n_ctx);
    for (uint32_t i = 0; i < t->n_tokens; i++)
        buf_printf(out, "%s%d", i ? "," : "", t->tokens[i]);
    buf_append_str(out, "]}");
}

/* "content" is llama.cpp's, "prompt" vLLM's.  Bytes that are no text become U+FFFD. */
static void put_text(const struct run_tokens *t, struct buf *out)
{
    buf_append_str(out, "{\"content\":");
    json_put_str(out, t->text);
    buf_append_str(out, ",\"prompt\":");
    json_put_str(out, t->text);
    buf_append_char(out, '}');
}

/* The worker calls a list of ids a prompt; here it has another name. */
static void fail(struct api_error *e, const struct err *err, bool is_text)
{
    static const char theirs[] = "prompt[";
    struct err own = *err;
    if (is_text && strncmp(err->msg, theirs, sizeof(theirs) - 1) == 0)
        err_set(&own, (enum err_code)err->code, "tokens[%s", err->msg + sizeof(theirs) - 1);
    api_error_from(e, &own);
    if (is_text && own.code == E_INVALID)
        snprintf(e->param, sizeof(e->param), "tokens");
}

/* Loop thread. */
static void on_tokens(void *ctx, const struct run_tokens *t)
{
    struct tokens_job *j = ctx;
    struct api_error e;
    struct buf out;
    if (t->err.code) {
        fail(&e, &t->err, j->is_text);
        api_error_answer(j->r, &e);
        end(j, 0, e.status);
        return;
    }
    buf_init(&out, ANSWER_MAX_BYTES);
    if (j->is_text)
        put_text(t, &out);
    else
        put_ids(t, &out);
    api_answer_json(j->r, 200, &out);
    end(j, t->n_tokens, 200);
}

/* What a body asks; views into root. */
struct ask {
    json_t *root; /* owned */
    char *model;  /* owned */
    struct str text;
    bool special, parse_special;
    int32_t *ids; /* owned */
    uint32_t n_ids;
};

static void ask_release(struct ask *q)
{
    json_decref(q->root);
    mem_free(q->model);
    mem_free(q->ids);
}

static int refuse_key(struct api_error *e, const char *key, const json_t *v)
{
    static const struct {
        const char *name, *why;
    } known[] = {
        {"messages", "send the text, or ask POST /v1/chat/completions for usage.prompt_tokens"},
        {"with_pieces", "ask POST /detokenize for the text of single ids"},
        {"return_token_strs", "ask POST /detokenize for the text of single ids"},
        {"chat_template", "conversations are not rendered on this route"},
        {"chat_template_kwargs", "conversations are not rendered on this route"},
        {"add_generation_prompt", "conversations are not rendered on this route"},
        {"continue_final_message", "conversations are not rendered on this route"},
        {"tools", "conversations are not rendered on this route"}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, key) != 0)
            continue;
        if (json_is_null(v) || json_is_false(v))
            return 0;
        return api_refuse(e, key, "unsupported_parameter", "'%s' is not supported here: %s", key,
                          known[i].why);
    }
    return api_refuse(e, key, "unknown_parameter", "'%s' is not a parameter here", key);
}

/* Opens the body; keys that are not in known (which ends with NULL) are refused. */
static int ask_open(struct ask *q, struct api *a, struct str body, const char *const *known,
                    struct api_error *e)
{
    struct err err = ERR_INIT;
    struct str name = {NULL, 0};
    const char *key;
    json_t *v;
    *q = (struct ask){0};
    int rc = api_json_parse(body, false, &q->root, e);
    if (rc < 0)
        return rc;
    json_object_foreach(q->root, key, v)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        rc = known[i] ? 0 : refuse_key(e, key, v);
        if (rc < 0)
            return rc;
    }
    rc = json_field_str(q->root, "model", &name, &err);
    if (rc > 0 &&
        (name.len == 0 || name.len > LIMIT_MODEL_NAME_BYTES || memchr(name.p, '\0', name.len)))
        return api_refuse(e, "model", "invalid_value", "'model' must be a name of 1 to %u bytes",
                          LIMIT_MODEL_NAME_BYTES);
    if (rc < 0)
        return api_refuse(e, "model", "invalid_type", "%s", err.msg);
    q->model = rc > 0 ? mem_dup(name.p, name.len) : info_only_model(a, &err);
    if (!q->model) {
        api_error_from(e, &err);
        if (err.code == E_INVALID) {
            snprintf(e->param, sizeof(e->param), "model");
            e->code = "missing_required_parameter";
        }
        return -err.code;
    }
    return 0;
}

static int read_flag(const struct ask *q, const char *name, bool *ret, struct api_error *e)
{
    struct err err = ERR_INIT;
    if (json_field_bool(q->root, name, ret, &err) < 0)
        return api_refuse(e, name, "invalid_type", "%s", err.msg);
    return 0;
}

static int read_text(struct ask *q, struct api_error *e)
{
    const json_t *content = json_object_get(q->root, "content");
    const json_t *prompt = json_object_get(q->root, "prompt");
    bool is_vllm = prompt && !json_is_null(prompt);
    const char *name = is_vllm ? "prompt" : "content";
    const json_t *v = is_vllm ? prompt : content;
    if (is_vllm && content && !json_is_null(content))
        return api_refuse(e, "content", "invalid_value",
                          "'content' and 'prompt' mean the same; send one of them");
    if (!v || json_is_null(v))
        return api_refuse(e, "content", "missing_required_parameter",
                          "'content' is missing: the text to tokenize ('prompt' does as well)");
    if (!json_is_string(v))
        return api_refuse(e, name, "invalid_type", "'%s' must be a string, not %s", name,
                          json_kind(v));
    q->text = (struct str){json_string_value(v), json_string_length(v)};
    q->special = is_vllm; /* the defaults of the two servers */
    q->parse_special = true;
    int rc = read_flag(q, "add_special", &q->special, e);
    if (rc == 0)
        rc = read_flag(q, "add_special_tokens", &q->special, e);
    if (rc == 0)
        rc = read_flag(q, "parse_special", &q->parse_special, e);
    return rc;
}

static int read_ids_of(struct ask *q, struct api_error *e)
{
    const json_t *list = json_object_get(q->root, "tokens");
    struct err err = ERR_INIT;
    if (!list || json_is_null(list))
        return api_refuse(e, "tokens", "missing_required_parameter",
                          "'tokens' is missing: an array of token ids");
    if (!json_is_array(list))
        return api_refuse(e, "tokens", "invalid_type",
                          "'tokens' must be an array of token ids, not %s", json_kind(list));
    q->n_ids = (uint32_t)json_array_size(list); /* at most LIMIT_JSON_VALUES */
    q->ids = mem_try_alloc(MAX_OF(q->n_ids, 1u), sizeof(*q->ids), &err);
    if (!q->ids) {
        api_error_from(e, &err);
        return -err.code;
    }
    for (uint32_t i = 0; i < q->n_ids; i++) {
        const json_t *v = json_array_get(list, i);
        char item[32];
        snprintf(item, sizeof(item), "tokens[%u]", i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return api_refuse(e, item, "invalid_value", "'%s' must be a token id between 0 and %d",
                              item, INT32_MAX);
        q->ids[i] = (int32_t)json_integer_value(v);
    }
    return 0;
}

static void run(struct api *a, struct httpd_request *r, struct ask *q, bool is_text)
{
    struct err err = ERR_INIT;
    struct api_call *c = api_call_of(r);
    struct tokens_job *j = mem_alloc(sizeof(*j));
    *j = (struct tokens_job){.r = r, .model = q->model, .is_text = is_text};
    q->model = NULL;
    c->job = j;
    c->job_free = job_free;
    httpd_request_ref(r);
    int rc = is_text
                 ? runner_detokenize(a->cfg.runner, j->model, q->ids, q->n_ids, on_tokens, j, &err)
                 : runner_tokenize(a->cfg.runner, j->model, q->text, q->special, q->parse_special,
                                   on_tokens, j, &err);
    if (rc < 0) {
        struct api_error e;
        api_error_from(&e, &err);
        api_error_answer(r, &e);
        end(j, 0, e.status);
    }
}

void handle_tokenize(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {
        "model", "content", "prompt", "add_special", "parse_special", "add_special_tokens", NULL};
    struct ask q;
    struct api_error e;
    api_watch_begin(api_call_of(r), "tokenize");
    int rc = ask_open(&q, a, httpd_body(r), known, &e);
    if (rc == 0)
        rc = read_text(&q, &e);
    if (rc == 0)
        run(a, r, &q, false);
    else
        api_refuse_watched(r, q.model, &e);
    ask_release(&q);
}

void handle_detokenize(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model", "tokens", NULL};
    struct ask q;
    struct api_error e;
    api_watch_begin(api_call_of(r), "detokenize");
    int rc = ask_open(&q, a, httpd_body(r), known, &e);
    if (rc == 0)
        rc = read_ids_of(&q, &e);
    if (rc == 0)
        run(a, r, &q, true);
    else
        api_refuse_watched(r, q.model, &e);
    ask_release(&q);
}
