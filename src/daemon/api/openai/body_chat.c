/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of a conversation: messages, tools, template variables.  What reaches the template is
 * OpenAI's form with two things settled that templates disagree on: content is a string (text parts
 * joined by line ends), and the arguments of earlier tool calls are objects where they are valid
 * JSON objects. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/openai/body_impl.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

#define ROLE_MAX_BYTES      64u
#define TOOL_NAME_MAX_BYTES 64u
#define TOOL_NAME_CHARS     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

/* Appends the text of one part; path names the message's content. */
static int part_text(struct reader *r, const char *path, size_t i, const json_t *part,
                     struct buf *out)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    if (!type)
        return api_refuse(r->e, path, "invalid_type", "%s[%zu] must be an object with a type", path,
                          i);
    if (strcmp(type, "text") != 0)
        return api_refuse(r->e, path, "unsupported_value",
                          "%s[%zu] is of type '%s', and only text is supported", path, i, type);
    if (!json_is_string(text))
        return api_refuse(r->e, path, "invalid_type", "%s[%zu].text must be a string, not %s", path,
                          i, json_kind(text));
    if (out->len)
        buf_append_char(out, '\n');
    buf_append(out, json_string_value(text), json_string_length(text));
    return 0;
}

static int join_parts(struct reader *r, const char *path, json_t *message, const json_t *parts)
{
    struct err err = ERR_INIT;
    struct buf text;
    buf_init(&text, LIMIT_TEXT_BYTES);
    int rc = json_array_size(parts)
                 ? 0
                 : api_refuse(r->e, path, "invalid_value", "%s is an empty array", path);
    for (size_t i = 0; rc == 0 && i < json_array_size(parts); i++)
        rc = part_text(r, path, i, json_array_get(parts, i), &text);
    if (rc == 0 && buf_status(&text, path, &err) < 0)
        rc = no_room(r, path, &err);
    if (rc == 0 &&
        json_object_set_new(message, "content", json_stringn(buf_str(&text), text.len)) < 0) {
        err_set(&err, E_NOMEM, "%s: no memory", path);
        rc = no_room(r, path, &err);
    }
    buf_release(&text);
    return rc;
}

/* OpenAI sends arguments as JSON in a string; templates want the object. */
static int read_tool_calls(struct reader *r, const char *path, const json_t *calls)
{
    size_t i;
    json_t *call;
    if (!json_is_array(calls))
        return api_refuse(r->e, path, "invalid_type", "%s.tool_calls must be an array, not %s",
                          path, json_kind(calls));
    json_array_foreach((json_t *)calls, i, call)
    {
        json_t *fn = json_object_get(call, "function");
        const json_t *args = json_object_get(fn, "arguments");
        if (!json_is_string(json_object_get(fn, "name")))
            return api_refuse(r->e, path, "invalid_value",
                              "%s.tool_calls[%zu].function must have a name", path, i);
        json_t *parsed = NULL;
        struct err err = ERR_INIT;
        if (json_is_string(args) &&
            json_parse((struct str){json_string_value(args), json_string_length(args)}, &parsed,
                       &err) == 0) {
            if (json_is_object(parsed))
                json_object_set(fn, "arguments", parsed);
            json_decref(parsed);
        }
    }
    return 0;
}

static int read_message(struct reader *r, size_t i, json_t *m)
{
    char path[64];
    snprintf(path, sizeof(path), "messages[%zu]", i);
    const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
    const json_t *calls = json_object_get(m, "tool_calls");
    if (!json_is_object(m))
        return api_refuse(r->e, path, "invalid_type", "%s must be an object, not %s", path,
                          json_kind(m));
    if (!json_is_string(role) || json_string_length(role) == 0 ||
        json_string_length(role) > ROLE_MAX_BYTES)
        return api_refuse(r->e, path, "invalid_value",
                          "%s.role must be a string such as system, user or assistant", path);
    if (calls && !json_is_null(calls)) {
        int rc = read_tool_calls(r, path, calls);
        if (rc < 0)
            return rc;
    }
    bool may_be_empty = strcmp(json_string_value(role), "assistant") == 0;
    if (json_is_string(content) || (may_be_empty && (!content || json_is_null(content))))
        return 0;
    snprintf(path, sizeof(path), "messages[%zu].content", i);
    if (json_is_array(content))
        return join_parts(r, path, m, content);
    return api_refuse(r->e, path, "invalid_type",
                      "%s must be a string or an array of parts, not %s", path, json_kind(content));
}

int read_messages(struct reader *r, const char *name, const json_t *v)
{
    if (!json_is_array(v) || json_array_size(v) == 0)
        return api_refuse(r->e, name, "invalid_type",
                          "'messages' must be an array of at least one message, not %s",
                          json_is_array(v) ? "an empty one" : json_kind(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        int rc = read_message(r, i, json_array_get(v, i));
        if (rc < 0)
            return rc;
    }
    return keep_json(r, name, v, &r->b->req.messages_json);
}

static int check_tool(struct reader *r, size_t i, const json_t *tool)
{
    char path[64];
    snprintf(path, sizeof(path), "tools[%zu]", i);
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *fn = json_object_get(tool, "function"), *name = json_object_get(fn, "name");
    const json_t *params = json_object_get(fn, "parameters"),
                 *about = json_object_get(fn, "description");
    if (!type || strcmp(type, "function") != 0)
        return api_refuse(r->e, path, "invalid_value", "%s.type must be \"function\"", path);
    size_t n = json_string_length(name);
    if (!json_is_string(name) || n == 0 || n > TOOL_NAME_MAX_BYTES ||
        strspn(json_string_value(name), TOOL_NAME_CHARS) != n)
        return api_refuse(r->e, path, "invalid_value",
                          "%s.function.name must be 1 to %u letters, digits, '_', '-' or '.'", path,
                          TOOL_NAME_MAX_BYTES);
    if (params && !json_is_null(params) && !json_is_object(params))
        return api_refuse(r->e, path, "invalid_type",
                          "%s.function.parameters must be an object, not %s", path,
                          json_kind(params));
    if (about && !json_is_null(about) && !json_is_string(about))
        return api_refuse(r->e, path, "invalid_type",
                          "%s.function.description must be a string, not %s", path,
                          json_kind(about));
    return 0;
}

int read_tools(struct reader *r, const char *name, const json_t *v)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v))
        return api_refuse(r->e, name, "invalid_type", "'tools' must be an array, not %s",
                          json_kind(v));
    if (n > LIMIT_REQUEST_TOOLS)
        return api_refuse(r->e, name, "invalid_value",
                          "'tools' must have at most %u tools, not %zu", LIMIT_REQUEST_TOOLS, n);
    for (size_t i = 0; i < n; i++) {
        int rc = check_tool(r, i, json_array_get(v, i));
        if (rc < 0)
            return rc;
    }
    return n ? keep_json(r, name, v, &r->b->req.tools_json) : 0;
}

int read_tool_choice(struct reader *r, const char *name, const json_t *v)
{
    const char *s = json_string_value(v);
    r->hide_tools = s && strcmp(s, "none") == 0;
    if (s && (r->hide_tools || strcmp(s, "auto") == 0))
        return 0;
    return api_refuse(r->e, name, "unsupported_parameter",
                      "'tool_choice' must be \"auto\" or \"none\": a call cannot be forced yet");
}

/* What the renderer gives a template itself: a request that could replace these could forge the
 * conversation or the model's control tokens. */
static bool is_reserved(const char *key)
{
    static const char *const names[] = {"messages",      "tools",
                                        "documents",     "add_generation_prompt",
                                        "chat_template", "bos_token",
                                        "eos_token",     "unk_token",
                                        "pad_token",     "raise_exception",
                                        "range",         "namespace",
                                        "dict",          "strftime_now",
                                        "cycler",        "joiner",
                                        "loop",          "self"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(key, names[i]) == 0)
            return true;
    }
    return false;
}

int read_template_kwargs(struct reader *r, const char *name, const json_t *v)
{
    const char *key;
    json_t *item;
    if (!json_is_object(v))
        return api_refuse(r->e, name, "invalid_type", "'%s' must be an object, not %s", name,
                          json_kind(v));
    json_object_foreach((json_t *)v, key, item)
    {
        if (is_reserved(key))
            return api_refuse(r->e, name, "invalid_value",
                              "'%s.%s' is given to the template by the server and cannot be set",
                              name, key);
        if (json_is_object(item) || json_is_array(item))
            return api_refuse(r->e, name, "invalid_value",
                              "'%s.%s' must be a string, number, boolean or null, not %s", name,
                              key, json_kind(item));
    }
    return json_object_size(v) ? keep_json(r, name, v, &r->b->req.kwargs_json) : 0;
}
