/* SPDX-License-Identifier: Apache-2.0 */
/* Implements chat.h: the variables a chat template is given are those of transformers'
 * apply_chat_template. */
#include "worker/text/chat.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/text/chat_shape.h"

struct variant {
    struct jinja *jinja; /* NULL: the model has none */
    struct chat_shape shape;
};

struct chat_template {
    struct variant plain;
    struct variant tool_use; /* when there are tools */
    int32_t unk, pad;        /* token ids or TOKEN_NONE */
};

static int variant_open(struct str source, struct variant *v, struct err *err)
{
    int rc = jinja_compile(source, &v->jinja, err);
    if (rc == 0)
        chat_shape_probe(v->jinja, &v->shape);
    return rc;
}

static int token_id(const struct gguf *g, const char *key, int32_t *ret, struct err *err)
{
    int64_t id;
    int rc = gguf_get_i64(g, key, TOKEN_NONE, &id, err);
    *ret = id >= 0 && id <= INT32_MAX ? (int32_t)id : TOKEN_NONE;
    return rc;
}

static int open_all(const struct gguf *g, struct str override, struct chat_template *c,
                    struct err *err)
{
    struct str plain = override, tool_use = {NULL, 0};
    int rc = token_id(g, "tokenizer.ggml.unknown_token_id", &c->unk, err);
    if (rc == 0)
        rc = token_id(g, "tokenizer.ggml.padding_token_id", &c->pad, err);
    if (rc == 0 && !override.len)
        rc = gguf_get_str(g, "tokenizer.chat_template", plain, &plain, err);
    if (rc == 0 && !override.len)
        rc = gguf_get_str(g, "tokenizer.chat_template.tool_use", tool_use, &tool_use, err);
    if (rc == 0 && plain.len)
        rc = variant_open(plain, &c->plain, err);
    if (rc == 0 && tool_use.len)
        rc = variant_open(tool_use, &c->tool_use, err);
    return rc;
}

int chat_template_from_gguf(const struct gguf *g, struct str override, struct chat_template **ret,
                            struct err *err)
{
    *ret = NULL;
    struct chat_template *c = mem_try_alloc(1, sizeof(*c), err);
    if (!c)
        return -err->code;
    int rc = open_all(g, override, c, err);
    if (rc < 0 || (!c->plain.jinja && !c->tool_use.jinja)) {
        chat_template_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void chat_template_free(struct chat_template *c)
{
    if (!c)
        return;
    jinja_free(c->plain.jinja);
    jinja_free(c->tool_use.jinja);
    mem_free(c);
}

static bool is_reserved(const char *key)
{
    static const char *const WORDS[] = {"messages",
                                        "tools",
                                        "add_generation_prompt",
                                        "bos_token",
                                        "eos_token",
                                        "unk_token",
                                        "pad_token",
                                        "raise_exception",
                                        "strftime_now",
                                        "range",
                                        "namespace",
                                        "dict",
                                        "cycler",
                                        "joiner",
                                        "lipsum",
                                        "loop",
                                        "self",
                                        "caller",
                                        "varargs",
                                        "kwargs"};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (strcmp(key, WORDS[i]) == 0)
            return true;
    return false;
}

/* The caller's own variables: scalars and documents.  Their strings are input like a message's. */
static int add_kwargs(json_t *context, const json_t *kwargs, struct buf *input_keys,
                      struct err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)kwargs, key, v)
    {
        bool is_list = json_is_array(v) || json_is_object(v);
        if (is_reserved(key))
            return err_set(err, E_INVALID,
                           "chat_template_kwargs may not set '%.64s': the name is reserved", key);
        if (is_list && strcmp(key, "documents") != 0)
            return err_set(
                err, E_INVALID,
                "chat_template_kwargs: '%.64s' must be a string, a number, true, false or null",
                key);
        if (strchr(key, ','))
            return err_set(err, E_INVALID, "chat_template_kwargs: '%.64s' is no variable's name",
                           key);
        if (json_object_set(context, key, v) != 0)
            return err_set(err, E_NOMEM, "no memory for the variables of a chat template");
        buf_append_char(input_keys, ',');
        buf_append_str(input_keys, key);
    }
    return buf_status(input_keys, "the names in chat_template_kwargs", err);
}

static bool add_token(json_t *context, const char *key, const struct tokenizer *t, int32_t id)
{
    if (id == TOKEN_NONE)
        return true;
    struct str s = tokenizer_piece(t, id);
    return json_object_set_new(context, key, json_stringn(s.p ? s.p : "", s.len)) == 0;
}

static bool add_tokens(json_t *context, const struct chat_template *c, const struct tokenizer *t)
{
    return add_token(context, "bos_token", t, tokenizer_bos(t)) &&
           add_token(context, "eos_token", t, tokenizer_eos(t)) &&
           add_token(context, "unk_token", t, c->unk) && add_token(context, "pad_token", t, c->pad);
}

/* The template's variables; *ret is owned by the caller also on failure. */
static int make_context(const struct chat_template *c, const struct variant *v,
                        const struct tokenizer *t, const struct chat_request *req, json_t **ret,
                        struct buf *input_keys, struct err *err)
{
    json_t *messages;
    int rc = chat_shape_messages(&v->shape, req->messages, &messages, err);
    if (rc < 0)
        return rc;
    *ret = json_pack("{s:o, s:O?, s:n, s:b}", "messages", messages, "tools", req->tools,
                     "documents", "add_generation_prompt", req->add_generation_prompt);
    if (!*ret || !add_tokens(*ret, c, t))
        return err_set(err, E_NOMEM, "no memory for the variables of a chat template");
    return req->kwargs ? add_kwargs(*ret, req->kwargs, input_keys, err) : 0;
}

static int encode_output(const struct tokenizer *t, const struct jinja_output *o,
                         struct token_vec *out, struct err *err)
{
    struct text_run *runs = mem_try_alloc(o->n_runs, sizeof(*runs), err);
    size_t at = 0;
    int32_t bos = tokenizer_bos(t);
    struct str text = {o->text.data, o->text.len}, bos_text = {NULL, 0};
    if (!runs)
        return -err->code;
    for (size_t i = 0; i < o->n_runs; i++) {
        runs[i] = (struct text_run){{o->text.data + at, o->runs[i].len}, !o->runs[i].is_input};
        at += o->runs[i].len;
    }
    if (bos != TOKEN_NONE)
        bos_text = tokenizer_piece(t, bos);
    bool has_bos =
        bos_text.len && o->n_runs && runs[0].is_trusted && str_has_prefix(text, bos_text);
    int rc = tokenizer_encode_runs(t, runs, o->n_runs,
                                   TOK_PARSE_SPECIAL | (has_bos ? 0 : TOK_ADD_SPECIAL), out, err);
    mem_free(runs);
    return rc;
}

static int render(const struct variant *v, const struct tokenizer *t,
                  const struct jinja_options *opt, struct token_vec *out, struct buf *rendered,
                  struct err *err)
{
    struct jinja_output o;
    jinja_output_init(&o);
    int rc = jinja_render(v->jinja, opt, &o, err);
    if (rc == -E_FORMAT || rc == -E_UNSUPPORTED)
        err->code = E_INVALID; /* this conversation is more than the template can do */
    if (rc < 0)
        rc = err_wrap(err, "the model's chat template refuses the conversation");
    if (rc == 0 && rendered) {
        buf_append(rendered, buf_str(&o.text), o.text.len);
        rc = buf_status(rendered, "the rendered conversation", err);
    }
    if (rc == 0)
        rc = encode_output(t, &o, out, err);
    jinja_output_release(&o);
    return rc;
}

int chat_encode(const struct chat_template *c, const struct tokenizer *t,
                const struct chat_request *req, struct token_vec *out, struct buf *rendered,
                struct err *err)
{
    if (!json_is_array(req->messages))
        return err_set(err, E_INVALID, "messages must be an array");
    bool has_tools = json_array_size(req->tools) > 0;
    const struct variant *v =
        (has_tools && c->tool_use.jinja) || !c->plain.jinja ? &c->tool_use : &c->plain;
    json_t *context = NULL;
    struct buf keys;
    buf_init(&keys, LIMIT_MSG_SMALL_BYTES);
    buf_append_str(&keys, "messages,tools,documents");
    int rc = make_context(c, v, t, req, &context, &keys, err);
    if (rc == 0) {
        struct jinja_options opt = {
            .context = context, .input_keys = buf_str(&keys), .now_unix = req->now_unix};
        rc = render(v, t, &opt, out, rendered, err);
    }
    json_decref(context);
    buf_release(&keys);
    return rc;
}
