/* SPDX-License-Identifier: Apache-2.0 */
/* The intake thread: makes token ids of prompts, and answers TOKENIZE and DETOKENIZE.
 *
 * Apart from the scheduler, so that a long prompt or a slow template holds up nobody's tokens.  A
 * request that cannot be prepared goes on with its err set: the scheduler ends it, as it ends all.
 */
#include <jansson.h>
#include <time.h>

#include "lib/base/limits.h"
#include "worker/serve/serve.h"

static unsigned flags_of(const struct job *r)
{
    return (r->flags & MSG_TOKENIZE_ADD_SPECIAL ? TOK_ADD_SPECIAL : 0u) |
           (r->flags & MSG_TOKENIZE_PARSE_SPECIAL ? TOK_PARSE_SPECIAL : 0u);
}

static int need_text(const struct loaded_model *m, struct err *err)
{
    if (m->has_text)
        return 0;
    return err_set(err, E_UNSUPPORTED,
                   "this model's vocabulary has no text; give the prompt as a list of token ids");
}

static int check_ids(const int32_t *ids, uint32_t n, uint32_t n_vocab, struct err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab)
            return err_set(err, E_INVALID,
                           "prompt[%u] is token %d, and the model's tokens are 0 to %u", i, ids[i],
                           n_vocab - 1);
    }
    return 0;
}

static int prepare_tokens(const struct loaded_model *m, struct job *r, struct err *err)
{
    int rc = check_ids(r->gen.tokens, r->gen.n_tokens, m->n_vocab, err);
    for (uint32_t i = 0; rc == 0 && i < r->gen.n_tokens; i++)
        rc = token_vec_push(&r->prompt, r->gen.tokens[i], err);
    return rc;
}

static int prepare_text(const struct loaded_model *m, struct job *r, struct err *err)
{
    int rc = need_text(m, err);
    if (rc < 0)
        return rc;
    /* Never TOK_PARSE_SPECIAL: a prompt is text, and forges no control token. */
    unsigned flags = r->gen.params.add_special ? TOK_ADD_SPECIAL : 0;
    return tokenizer_encode(m->tok, r->gen.text, flags, &r->prompt, err);
}

/* *ret = NULL for an empty text. */
static int parse_json(const char *what, struct str text, bool is_array, json_t **ret,
                      struct err *err)
{
    *ret = NULL;
    if (text.len == 0)
        return 0;
    json_error_t why;
    json_t *j = json_loadb(text.p, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!j && json_error_code(&why) == json_error_out_of_memory)
        return err_set(err, E_NOMEM, "%s: out of memory", what);
    if (!j)
        return err_set(err, E_INVALID, "%s: not valid JSON: %s", what, why.text);
    if (is_array ? !json_is_array(j) : !json_is_object(j)) {
        json_decref(j);
        return err_set(err, E_INVALID, "%s must be a JSON %s", what, is_array ? "array" : "object");
    }
    *ret = j;
    return 0;
}

/* Of the template's extra variables this one is a parameter of ours. */
static bool take_generation_prompt(json_t *kwargs)
{
    const json_t *v = json_object_get(kwargs, "add_generation_prompt");
    bool wanted = !json_is_false(v);
    json_object_del(kwargs, "add_generation_prompt");
    return wanted;
}

static int need_template(const struct loaded_model *m, struct err *err)
{
    if (m->chat_err.code) {
        *err = m->chat_err;
        return err_wrap(err, "the model's chat template cannot be used (another can be given with "
                             "`berth run --chat-template FILE`)");
    }
    if (m->chat)
        return 0;
    return err_set(
        err, E_UNSUPPORTED,
        "this model has no chat template: it completes text (/v1/completions); give it a template "
        "with `berth run --chat-template FILE` to chat");
}

static int encode_chat(const struct loaded_model *m, struct job *r, json_t *messages, json_t *tools,
                       json_t *kwargs, struct err *err)
{
    struct chat_request chat = {
        .messages = messages,
        .tools = tools,
        .add_generation_prompt = take_generation_prompt(kwargs),
        .kwargs = kwargs,
        .now_unix = (int64_t)time(NULL),
    };
    return chat_encode(m->chat, m->tok, &chat, &r->prompt, NULL, err);
}

static int prepare_chat(const struct loaded_model *m, struct job *r, struct err *err)
{
    int rc = need_text(m, err);
    if (rc == 0)
        rc = need_template(m, err);
    if (rc < 0)
        return rc;
    json_t *messages = NULL, *tools = NULL, *kwargs = NULL;
    rc = parse_json("messages", r->gen.messages_json, true, &messages, err);
    if (rc == 0)
        rc = parse_json("tools", r->gen.tools_json, true, &tools, err);
    if (rc == 0)
        rc = parse_json("chat_template_kwargs", r->gen.kwargs_json, false, &kwargs, err);
    if (rc == 0)
        rc = encode_chat(m, r, messages, tools, kwargs, err);
    json_decref(messages);
    json_decref(tools);
    json_decref(kwargs);
    return rc;
}

static int prepare(const struct loaded_model *m, struct job *r, struct err *err)
{
    int rc = 0;
    r->prompt.hopeless =
        m->n_ctx; /* a long text is not worth seconds of work to learn by how much */
    switch (r->gen.input) {
    case GEN_INPUT_TEXT: rc = prepare_text(m, r, err); break;
    case GEN_INPUT_TOKENS: rc = prepare_tokens(m, r, err); break;
    case GEN_INPUT_CHAT: rc = prepare_chat(m, r, err); break;
    }
    if (rc == -E_CONTEXT)
        return err_wrap(err, "the prompt is longer than the context");
    if (rc == -E_LIMIT && r->prompt.len >= r->prompt.max)
        return err_set(err, E_CONTEXT,
                       "the prompt has more than %zu tokens, and the context holds %u",
                       r->prompt.max, m->n_ctx);
    if (rc == 0 && r->prompt.len == 0)
        return err_set(err, E_INVALID,
                       "the prompt is empty, and the model needs at least one token");
    return rc;
}

/* A reply to TOKENIZE: u64 id, u32 count, ids. */
static int reply_tokens(struct serve *s, struct job *r, struct err *err)
{
    int rc = need_text(&s->model, err);
    if (rc == 0)
        rc = tokenizer_encode(s->model.tok, r->text, flags_of(r), &r->prompt, err);
    if (rc < 0)
        return rc;
    struct buf b;
    buf_init(&b, LIMIT_MSG_BYTES);
    put_u64(&b, r->id);
    put_u32(&b, (uint32_t)r->prompt.len);
    buf_append(&b, r->prompt.ids, r->prompt.len * sizeof(*r->prompt.ids));
    rc = buf_status(&b, "tokens", err);
    if (rc == 0)
        rc = outbox_put(&s->out, MSG_TOKENS, &b, true, err);
    buf_release(&b);
    return rc;
}

/* A reply to DETOKENIZE: u64 id, str text. */
static int reply_text(struct serve *s, struct job *r, struct err *err)
{
    int rc = need_text(&s->model, err);
    if (rc == 0)
        rc = check_ids(r->ids, r->n_ids, s->model.n_vocab, err);
    if (rc < 0)
        return rc;
    struct buf text, b;
    buf_init(&text, LIMIT_TEXT_BYTES);
    buf_init(&b, LIMIT_MSG_BYTES);
    rc = tokenizer_decode(s->model.tok, r->ids, r->n_ids, false, &text, err);
    if (rc == 0)
        rc = buf_status(&text, "text", err);
    if (rc == 0) {
        put_u64(&b, r->id);
        put_str(&b, (struct str){text.data, text.len});
        rc = buf_status(&b, "text", err);
    }
    if (rc == 0)
        rc = outbox_put(&s->out, MSG_TEXT, &b, true, err);
    buf_release(&text);
    buf_release(&b);
    return rc;
}

/* TOKENIZE and DETOKENIZE end here; a failure is a FAILED event under their id. */
static void reply(struct serve *s, struct job *r)
{
    struct err why = ERR_INIT, err = ERR_INIT;
    int rc = r->kind == JOB_TOKENIZE ? reply_tokens(s, r, &why) : reply_text(s, r, &why);
    if (rc < 0) {
        rc = job_fail(s, r, &why, &err);
    } else {
        pthread_mutex_lock(&s->lock);
        jobs_remove(s, r);
        pthread_mutex_unlock(&s->lock);
        job_free(r);
    }
    outbox_flush(&s->out);
    if (rc == -E_GONE)
        return;
    if (rc < 0)
        serve_die(&err);
}

void *intake_main(void *serve)
{
    struct serve *s = serve;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct job *r = NULL;
        while (!s->is_ending && !(r = job_queue_pop(&s->to_intake)))
            pthread_cond_wait(&s->for_intake, &s->lock);
        if (s->is_ending)
            break;
        bool is_canceled = r->is_canceled, is_generate = r->kind == JOB_GENERATE;
        pthread_mutex_unlock(&s->lock);
        if (!is_generate)
            reply(s, r);
        else if (!is_canceled && prepare(&s->model, r, &r->err) < 0)
            BUG_ON(r->err.code == 0);
        pthread_mutex_lock(&s->lock);
        if (is_generate) {
            job_queue_push(&s->to_scheduler, r);
            pthread_cond_signal(&s->for_scheduler);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
