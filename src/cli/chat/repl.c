/* SPDX-License-Identifier: Apache-2.0 */
/* Implements repl.h. */
#include "cli/chat/repl.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/chat/command.h"
#include "cli/chat/interrupt.h"
#include "cli/chat/line.h"
#include "cli/chat/params.h"
#include "cli/chat/store.h"
#include "cli/model_path.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define HINT_CHAT     "Send a message (/? for help)"
#define HINT_COMPLETE "Begin a text (/? for help)"

struct repl {
    struct chat *chat;
    const struct repl_options *options;
    struct line_reader *lines;
    bool keeps_history, has_ended;
    struct buf text; /* what was typed, all lines of it */
};

/* What berth says itself, as opposed to the model. */
static void say(const struct repl *r, const char *text, size_t n)
{
    struct buf out;
    bool has_color = r->chat->out->has_color && isatty(STDERR_FILENO);
    buf_init(&out, LIMIT_ANSWER_BYTES);
    if (has_color)
        text_put_style(&out, TEXT_GREY);
    text_put_harmless(&out, text, n);
    if (has_color)
        text_put_style(&out, 0);
    fflush(stdout);
    fprintf(stderr, "%s\n", buf_str(&out));
    buf_release(&out);
}

static void say_str(const struct repl *r, const char *text)
{
    size_t n = strlen(text);
    say(r, text, n && text[n - 1] == '\n' ? n - 1 : n);
}

static void say_err(const struct repl *r, const struct err *err)
{
    (void)r;
    fflush(stdout);
    fprintf(stderr, "berth: %s\n", err->msg);
}

/* What can be done about a failed question, where the sentence does not say it. */
static void advise(const struct repl *r, const struct err *err)
{
    bool has_turns = json_array_size(r->chat->messages) > 0;
    if (err->code == E_INVALID && strstr(err->msg, "context") && has_turns && r->chat->is_chat)
        say_str(r,
                "/undo forgets the last question and its answer, /clear the whole conversation.");
    else if (err->code == E_NET || err->code == E_GONE || err->code == E_BUSY)
        say_str(r, "The conversation is kept; the next message tries again, /retry repeats this "
                   "one.");
}

/* Asks, loading the model first where it has gone meanwhile.  A failure to write ends all. */
static int ask(struct repl *r, const char *prompt, size_t len, struct err *err)
{
    struct chat *c = r->chat;
    struct err why = ERR_INIT;
    enum chat_mode mode = c->is_chat ? CHAT_ALWAYS : CHAT_NEVER;
    interrupt_take();
    int rc = chat_load(c, mode, &why);
    if (rc == 0)
        rc = chat_ask(c, prompt, len, &why);
    if (c->out->write_errno) {
        *err = why;
        return rc;
    }
    if (rc == -E_CANCELED) {
        interrupt_take();
        say_str(r, c->answer.text.len ? "(stopped; what came so far stays in the conversation)"
                                      : "(stopped)");
    } else if (rc < 0) {
        say_err(r, &why);
        advise(r, &why);
    } else if (chat_is_full(c)) {
        say_str(r, c->is_chat ? "(the context is full: /undo or /clear makes room)"
                              : "(the context is full)");
    }
    if (c->is_verbose && (rc == 0 || rc == -E_CANCELED)) {
        struct buf out;
        buf_init(&out, 4096);
        chat_put_timing(c, &out);
        say_str(r, buf_str(&out));
        buf_release(&out);
    }
    return 0;
}

static void put_message(const json_t *m, struct buf *out)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *content = json_object_get(m, "content");
    buf_printf(out, "%s%s: ", role ? role : "?",
               json_is_true(json_object_get(m, "stopped")) ? " (stopped)" : "");
    buf_append(out, json_string_value(content), json_string_length(content));
    buf_append_char(out, '\n');
}

/* The daemon's description of the model (borrowed from *ret_all, a new reference), or NULL. */
static const json_t *describe(const struct repl *r, json_t **ret_all)
{
    struct err err = ERR_INIT;
    size_t i;
    const json_t *m;
    *ret_all = NULL;
    if (client_json(&r->chat->client, "GET", "/berth/v1/models", NULL, ret_all, &err) < 0) {
        say_err(r, &err);
        return NULL;
    }
    json_array_foreach(json_object_get(*ret_all, "models"), i, m)
    {
        const char *name = json_string_value(json_object_get(m, "name"));
        if (name && strcmp(name, r->chat->model) == 0)
            return m;
    }
    return NULL;
}

static void put_info(const json_t *m, struct buf *out)
{
    char size[16], memory[16], params[16];
    const char *key;
    json_t *v;
    text_bytes(answer_number(m, "file_bytes"), size);
    text_bytes(model_memory(m), memory);
    text_count(answer_number(m, "n_params"), params);
    buf_printf(out, "name           %s\nfile           %s, %s\n", answer_text(m, "name"),
               answer_text(m, "path"), size);
    buf_printf(out, "state          %s\n", answer_text(m, "state"));
    if (model_is_loaded(m)) {
        buf_printf(out, "architecture   %s, %s parameters, %s\n", answer_text(m, "arch"), params,
                   answer_text(m, "quant"));
        buf_printf(out, "context        %llu tokens\nmemory         %s\n",
                   (unsigned long long)answer_number(m, "n_ctx"), memory);
        buf_printf(out, "chat template  %s\n",
                   json_is_true(json_object_get(m, "has_chat_template")) ? "yes" : "none");
    }
    if (*answer_text(m, "digest"))
        buf_printf(out, "digest         %s\n", answer_text(m, "digest"));
    json_object_foreach(json_object_get(m, "settings"), key, v)
    {
        buf_printf(out, "%-14s ", key);
        json_put_value(out, v);
        buf_append_str(out, " (declared)\n");
    }
}

static void show_info(const struct repl *r)
{
    json_t *all;
    struct buf out;
    const json_t *m = describe(r, &all);
    buf_init(&out, LIMIT_ANSWER_BYTES);
    if (m)
        put_info(m, &out);
    else
        buf_printf(&out, "%s is not in the daemon's list\n", r->chat->model);
    say_str(r, buf_str(&out));
    buf_release(&out);
    json_decref(all);
}

static void show(const struct repl *r, enum command_id what)
{
    const struct chat *c = r->chat;
    struct buf out;
    size_t i;
    const json_t *m;
    buf_init(&out, LIMIT_ANSWER_BYTES);
    switch (what) {
    case COMMAND_SHOW_INFO: show_info(r); break;
    case COMMAND_SHOW_SYSTEM: buf_append_str(&out, c->system ? c->system : "(none)"); break;
    case COMMAND_SHOW_PARAMETERS: params_show(c->params, &out); break;
    case COMMAND_SHOW_MESSAGES:
        if (c->system)
            buf_printf(&out, "system: %s\n", c->system);
        json_array_foreach(c->messages, i, m) put_message(m, &out);
        if (out.len == 0)
            buf_append_str(&out, "(none)");
        break;
    case COMMAND_SET: command_help("set", &out); break;
    default: command_help("show", &out); break;
    }
    if (out.len)
        say_str(r, buf_str(&out));
    buf_release(&out);
}

static void set_system(struct repl *r, struct str rest)
{
    struct chat *c = r->chat;
    struct str text = command_unquote(rest, true);
    mem_free(c->system);
    c->system = text.len ? mem_dup(text.p, text.len) : NULL;
    say_str(r, !c->is_chat && c->system ? "Kept, but this model completes texts: it is not told."
               : c->system              ? "The system message is set, for the whole conversation."
                                        : "There is no system message.");
}

static void set_parameter(struct repl *r, struct str rest)
{
    struct err err = ERR_INIT;
    struct buf name, value;
    size_t n = 0;
    if (rest.len == 0) {
        show(r, COMMAND_SHOW_PARAMETERS);
        return;
    }
    while (n < rest.len && rest.p[n] != ' ' && rest.p[n] != '\t')
        n++;
    buf_init(&name, 256);
    buf_init(&value, LIMIT_REQUEST_STOP_BYTES);
    buf_append(&name, rest.p, n);
    struct str text = command_unquote((struct str){rest.p + n, rest.len - n}, true);
    buf_append(&value, text.p, text.len);
    if (value.len == 0)
        err_set(&err, E_INVALID, "Usage: /set parameter NAME VALUE");
    else if (buf_status(&name, "the name", &err) == 0 && buf_status(&value, "the value", &err) == 0)
        (void)!params_set(r->chat->params, buf_str(&name), buf_str(&value), &err);
    if (err.code) {
        say_err(r, &err);
    } else {
        const char *key = params_name(buf_str(&name));
        json_t *v = json_object_get(r->chat->params, key);
        char *now =
            v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
        buf_clear(&value);
        buf_printf(&value, "%s is now %s.", key, now ? now : "the default");
        mem_free(now); /* of the same allocator */
        say_str(r, buf_str(&value));
    }
    buf_release(&name);
    buf_release(&value);
}

/* Another model for the same conversation; the old one stays when that does not work. */
static void load_model(struct repl *r, const char *name)
{
    struct chat *c = r->chat;
    struct err err = ERR_INIT;
    char *asked_for = c->asked_for, *model = c->model, *digest = c->digest;
    bool was_chat = c->is_chat;
    c->asked_for = mem_dup(name, strlen(name));
    c->model = c->digest = NULL;
    if (chat_load(c, r->options->mode, &err) < 0) {
        mem_free(c->asked_for);
        mem_free(c->model);
        mem_free(c->digest);
        c->asked_for = asked_for;
        c->model = model;
        c->digest = digest;
        c->is_chat = was_chat;
        say_err(r, &err);
        return;
    }
    struct buf out;
    buf_init(&out, LIMIT_PATH_BYTES);
    buf_printf(&out, "%s %s from here on.", c->is_chat ? "Chatting with" : "Completing texts with",
               c->model);
    say_str(r, buf_str(&out));
    buf_release(&out);
    mem_free(asked_for);
    mem_free(model);
    mem_free(digest);
}

static void save_or_load(struct repl *r, const struct command *cmd)
{
    struct chat *c = r->chat;
    struct err err = ERR_INIT;
    struct stat st;
    struct buf out;
    struct str text = command_unquote(cmd->rest, true);
    char *name = mem_dup(text.p, text.len);
    bool is_file =
        stat(name, &st) == 0 && S_ISREG(st.st_mode) && !str_has_suffix(text, STR_LIT(".gguf"));
    buf_init(&out, LIMIT_PATH_BYTES + 4096);
    if (cmd->id == COMMAND_SAVE) {
        if (conversation_save(c, name, &err) == 0)
            buf_printf(&out, "Saved %zu messages to %s.", json_array_size(c->messages), name);
    } else if (!is_file && str_has_suffix(text, STR_LIT(".json"))) {
        err_set(&err, E_NOTFOUND, "there is no saved conversation %s", name);
    } else if (!is_file) {
        load_model(r, name);
    } else if (conversation_load(c, name, &out, &err) == 0) {
        buf_printf(&out, "%zu messages from %s.", json_array_size(c->messages), name);
    }
    if (err.code)
        say_err(r, &err);
    else if (out.len)
        say_str(r, buf_str(&out));
    buf_release(&out);
    mem_free(name);
}

static int retry(struct repl *r, struct err *err)
{
    const json_t *last = chat_last_question(r->chat);
    if (!last) {
        say_str(r, "There is no question to repeat.");
        return 0;
    }
    char *prompt = mem_dup(json_string_value(last), json_string_length(last));
    size_t n = json_string_length(last), n_before;
    json_t *kept = json_copy(r->chat->messages);
    chat_undo(r->chat);
    n_before = json_array_size(r->chat->messages);
    int rc = ask(r, prompt, n, err);
    if (json_array_size(r->chat->messages) == n_before) { /* no answer: the old one stays */
        json_decref(r->chat->messages);
        r->chat->messages = json_incref(kept);
    }
    json_decref(kept);
    mem_free(prompt);
    return rc;
}

static void help(const struct repl *r, struct str rest)
{
    struct buf out;
    const char *part = str_is(rest, "set") || str_is(rest, "/set")     ? "set"
                       : str_is(rest, "show") || str_is(rest, "/show") ? "show"
                                                                       : NULL;
    buf_init(&out, 65536);
    command_help(part, &out);
    say_str(r, buf_str(&out));
    buf_release(&out);
}

static void set_switch(struct repl *r, enum command_id id)
{
    struct output *o = r->chat->out;
    switch (id) {
    case COMMAND_SET_VERBOSE: r->chat->is_verbose = true; break;
    case COMMAND_SET_QUIET: r->chat->is_verbose = false; break;
    case COMMAND_SET_HISTORY: r->keeps_history = true; break;
    case COMMAND_SET_NOHISTORY: r->keeps_history = false; break;
    case COMMAND_SET_MARKDOWN:
        o->has_markdown = o->has_color;
        if (!o->has_color)
            say_str(r, "This terminal shows no colours, so Markdown is shown as it is.");
        break;
    case COMMAND_SET_NOMARKDOWN: o->has_markdown = false; break;
    default: break;
    }
}

/* One command, or a message. */
static int obey(struct repl *r, const struct command *cmd, struct err *err)
{
    struct str message;
    switch (cmd->id) {
    case COMMAND_MESSAGE:
        message = command_unquote(cmd->rest, false);
        return ask(r, message.p, message.len, err);
    case COMMAND_UNKNOWN: {
        struct buf out;
        buf_init(&out, LIMIT_TEXT_BYTES);
        const char *near = command_near(cmd->rest);
        buf_printf(&out, "Unknown command '%.*s'%s%s%s Type /? for help", STR_ARG(cmd->rest),
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : ".");
        say_str(r, buf_str(&out));
        buf_release(&out);
        break;
    }
    case COMMAND_HELP: help(r, cmd->rest); break;
    case COMMAND_BYE: r->has_ended = true; break;
    case COMMAND_CLEAR:
        json_array_clear(r->chat->messages);
        say_str(r, "The conversation is forgotten.");
        break;
    case COMMAND_UNDO:
        say_str(r, chat_undo(r->chat) ? "The last question and its answer are forgotten."
                                      : "There is nothing to forget.");
        break;
    case COMMAND_RETRY: return retry(r, err);
    case COMMAND_SET_SYSTEM: set_system(r, cmd->rest); break;
    case COMMAND_SET_PARAMETER: set_parameter(r, cmd->rest); break;
    case COMMAND_SAVE:
    case COMMAND_LOAD: save_or_load(r, cmd); break;
    case COMMAND_SET:
    case COMMAND_SHOW:
    case COMMAND_SHOW_INFO:
    case COMMAND_SHOW_SYSTEM:
    case COMMAND_SHOW_PARAMETERS:
    case COMMAND_SHOW_MESSAGES: show(r, cmd->id); break;
    default: set_switch(r, cmd->id); break;
    }
    return 0;
}

/* A line, and those that belong to it.  False: nothing to obey. */
static bool read_text(struct repl *r)
{
    struct buf line;
    bool had_text, is_open = false;
    const char *hint = r->chat->is_chat ? HINT_CHAT : HINT_COMPLETE;
    buf_init(&line, LIMIT_TEXT_BYTES);
    buf_clear(&r->text);
    do {
        enum line_result rc =
            line_read(r->lines, is_open ? ". " : "> ", is_open ? NULL : hint, &line, &had_text);
        if (rc != LINE_TEXT) {
            if (rc == LINE_END)
                r->has_ended = true;
            else if (!had_text && !is_open)
                say_str(r, "Use Ctrl + d or /bye to exit.");
            buf_clear(&r->text);
            break;
        }
        if (is_open)
            buf_append_char(&r->text, '\n');
        buf_append(&r->text, buf_str(&line), line.len);
        is_open = command_is_open((struct str){buf_str(&r->text), r->text.len});
    } while (is_open);
    buf_release(&line);
    const char *s = buf_str(&r->text);
    return s[strspn(s, " \t\r\n")] != '\0';
}

int repl_run(struct chat *c, const struct repl_options *o, struct err *err)
{
    struct repl r = {.chat = c, .options = o, .keeps_history = o->keeps_history};
    int rc = 0;
    buf_init(&r.text, LIMIT_TEXT_BYTES);
    r.lines = line_open(o->can_edit, c->out->has_color);
    if (*line_plain_reason(r.lines))
        say_str(&r, line_plain_reason(r.lines));
    interrupt_at_end(line_restore_terminal);
    if (r.keeps_history)
        history_load(r.lines);
    while (rc == 0 && !r.has_ended) {
        struct command cmd;
        struct err why = ERR_INIT;
        if (!read_text(&r))
            continue;
        line_remember(r.lines, buf_str(&r.text));
        if (r.keeps_history)
            history_add(buf_str(&r.text));
        if (command_parse((struct str){buf_str(&r.text), r.text.len}, &cmd, &why) < 0)
            say_err(&r, &why);
        else
            rc = obey(&r, &cmd, err);
    }
    line_close(r.lines);
    buf_release(&r.text);
    return rc;
}
