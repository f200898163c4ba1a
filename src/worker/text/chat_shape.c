/* SPDX-License-Identifier: Apache-2.0 */
/* Implements chat_shape.h. */
#include "worker/text/chat_shape.h"

#include "lib/base/limits.h"

#define NEEDLE "Wx7qNeedle"

/* Whether rendering {"messages": …, "tools": …} works; its text is in *out.  Steals messages and
 * tools. */
static bool probe(const struct jinja *j, json_t *messages, json_t *tools, struct jinja_output *out)
{
    struct err err = ERR_INIT;
    json_t *c =
        json_pack("{s:o, s:o, s:b, s:s, s:s, s:n}", "messages", messages, "tools", tools,
                  "add_generation_prompt", 0, "bos_token", "", "eos_token", "", "documents");
    struct jinja_options opt = {.context = c};
    bool ok = c && jinja_render(j, &opt, out, &err) == 0;
    json_decref(c);
    return ok;
}

static bool shows(const struct jinja_output *out, const char *text)
{
    return strstr(buf_str(&out->text), text) != NULL;
}

static void probe_content(const struct jinja *j, struct chat_shape *s)
{
    struct jinja_output out;
    jinja_output_init(&out);
    /* a list that is printed as a list shows the quoted word "type" too */
    s->takes_parts = probe(j,
                           json_pack("[{s:s, s:[{s:s, s:s}]}]", "role", "user", "content", "type",
                                     "text", "text", NEEDLE),
                           json_null(), &out) &&
                     shows(&out, NEEDLE) && !shows(&out, "'type'") && !shows(&out, "\"type\"");
    if (s->takes_parts)
        s->wants_parts = !(probe(j, json_pack("[{s:s, s:s}]", "role", "user", "content", NEEDLE),
                                 json_null(), &out) &&
                           shows(&out, NEEDLE));
    jinja_output_release(&out);
}

static json_t *call_with(json_t *arguments)
{
    return json_pack("[{s:s, s:s}, {s:s, s:s, s:[{s:s, s:s, s:{s:s, s:o}}]}]", "role", "user",
                     "content", "a", "role", "assistant", "content", "", "tool_calls", "id",
                     "call_1_a", "type", "function", "function", "name", "f", "arguments",
                     arguments);
}

static json_t *one_tool(void)
{
    return json_pack("[{s:s, s:{s:s, s:s, s:{s:s, s:{s:{s:s, s:s}}, s:[]}}}]", "type", "function",
                     "function", "name", "f", "description", "d", "parameters", "type", "object",
                     "properties", "x", "type", "string", "description", "d", "required");
}

static void probe_arguments(const struct jinja *j, struct chat_shape *s)
{
    struct jinja_output out;
    jinja_output_init(&out);
    bool string_ok = probe(j, call_with(json_string("{\"" NEEDLE "\": 1}")), one_tool(), &out) &&
                     shows(&out, "\"" NEEDLE "\":");
    s->wants_arguments = !string_ok &&
                         probe(j, call_with(json_pack("{s:i}", NEEDLE, 1)), one_tool(), &out) &&
                         shows(&out, NEEDLE);
    jinja_output_release(&out);
}

void chat_shape_probe(const struct jinja *j, struct chat_shape *ret)
{
    *ret = (struct chat_shape){.takes_parts = false};
    probe_content(j, ret);
    if (jinja_uses(j, "messages"))
        probe_arguments(j, ret);
}

static int no_memory(struct err *err)
{
    return err_set(err, E_NOMEM, "no memory for the messages of a chat");
}

/* The text parts, joined by newlines. */
static int join_parts(const json_t *parts, json_t **ret, struct err *err)
{
    struct buf b;
    size_t i;
    json_t *part;
    buf_init(&b, LIMIT_TEXT_BYTES);
    json_array_foreach((json_t *)parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_is_string(part) ? part : json_object_get(part, "text");
        if (!json_is_string(text) || (type && strcmp(type, "text") != 0)) {
            buf_release(&b);
            return err_set(
                err, E_INVALID,
                "a message has a content part of type '%.40s', and this model's chat template "
                "takes text only",
                type ? type : "unknown");
        }
        if (i)
            buf_append_char(&b, '\n');
        buf_append(&b, json_string_value(text), json_string_length(text));
    }
    int rc = buf_status(&b, "the text of a message", err);
    if (rc == 0 && !(*ret = json_stringn_nocheck(buf_str(&b), b.len)))
        rc = no_memory(err);
    buf_release(&b);
    return rc;
}

/* *ret: a new reference, or NULL when the content can stay. */
static int shaped_content(const struct chat_shape *s, const json_t *content, json_t **ret,
                          struct err *err)
{
    *ret = NULL;
    if (json_is_array(content) && !s->takes_parts)
        return join_parts(content, ret, err);
    if (json_is_string(content) && s->wants_parts) {
        *ret = json_pack("[{s:s, s:O}]", "type", "text", "text", content);
        return *ret ? 0 : no_memory(err);
    }
    return 0;
}

/* Tool calls whose arguments are a string of JSON, with the object instead; *ret NULL when they can
 * stay. */
static int shaped_calls(const struct chat_shape *s, const json_t *calls, json_t **ret,
                        struct err *err)
{
    size_t i;
    json_t *call;
    *ret = NULL;
    if (!s->wants_arguments || !json_is_array(calls))
        return 0;
    json_t *copy = json_array();
    if (!copy)
        return no_memory(err);
    json_array_foreach((json_t *)calls, i, call)
    {
        const json_t *text = json_object_get(json_object_get(call, "function"), "arguments");
        json_t *one = json_copy(call), *fn = NULL, *args = NULL;
        if (json_is_string(text))
            args = json_loadb(json_string_value(text), json_string_length(text), 0, NULL);
        bool ok = one != NULL;
        if (ok && json_is_object(args)) {
            fn = json_copy(json_object_get(call, "function"));
            ok = fn && json_object_set(fn, "arguments", args) == 0 &&
                 json_object_set(one, "function", fn) == 0;
        }
        json_decref(fn);
        json_decref(args);
        if (!ok || json_array_append_new(copy, one) != 0) {
            if (!ok)
                json_decref(one);
            json_decref(copy);
            return no_memory(err);
        }
    }
    *ret = copy;
    return 0;
}

static int shape_message(const struct chat_shape *s, const json_t *m, json_t **ret, struct err *err)
{
    json_t *content, *calls = NULL;
    int rc = shaped_content(s, json_object_get(m, "content"), &content, err);
    if (rc == 0)
        rc = shaped_calls(s, json_object_get(m, "tool_calls"), &calls, err);
    if (rc < 0) {
        json_decref(content);
        return rc;
    }
    json_t *copy = content || calls ? json_copy((json_t *)m) : json_incref((json_t *)m);
    bool ok = copy != NULL;
    if (ok && content)
        ok = json_object_set(copy, "content", content) == 0;
    if (ok && calls)
        ok = json_object_set(copy, "tool_calls", calls) == 0;
    json_decref(content);
    json_decref(calls);
    if (!ok) {
        json_decref(copy);
        return no_memory(err);
    }
    *ret = copy;
    return 0;
}

int chat_shape_messages(const struct chat_shape *s, const json_t *messages, json_t **ret,
                        struct err *err)
{
    size_t i;
    json_t *m, *out = json_array();
    if (!out)
        return no_memory(err);
    json_array_foreach((json_t *)messages, i, m)
    {
        json_t *one = NULL;
        int rc = json_is_object(m) ? shape_message(s, m, &one, err)
                                   : err_set(err, E_INVALID, "messages[%zu] is not an object", i);
        if (rc == 0 && json_array_append_new(out, one) != 0)
            rc = no_memory(err);
        if (rc < 0) {
            json_decref(out);
            return rc;
        }
    }
    *ret = out;
    return 0;
}
