/* SPDX-License-Identifier: Apache-2.0 */
/* `berth run`: loads a model into the daemon, asks it, and prints the answer as it comes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/sys/file.h"

struct run {
    const struct cli_args *args;
    struct client client;
    char *model; /* owned: the name the daemon knows it by */
    bool is_chat;
    bool is_raw;       /* --json */
    json_t *params;    /* owned: what every request carries */
    json_t *messages;  /* owned: the conversation so far */
    struct buf answer; /* the answer to the last question */
    int write_errno;   /* of the first failed write to standard output */
};

/* Ctrl-C: the connection closes with the process, and that cancels the request. */
static void on_interrupt(int signo)
{
    (void)signo;
    ssize_t done = write(STDOUT_FILENO, "\n", 1);
    (void)done;
    _exit(CLI_INTERRUPTED);
}

/* The flags that shape the answer, under the API's names. */
static int read_params(const struct cli_args *a, json_t *params, struct err *err)
{
    static const struct {
        const char *flag, *key;
        double min, max;
    } reals[] = {{"temperature", "temperature", 0, 100},
                 {"top-p", "top_p", 0, 1},
                 {"min-p", "min_p", 0, 1},
                 {"repetition-penalty", "repetition_penalty", 0.01, 100},
                 {"presence-penalty", "presence_penalty", -2, 2},
                 {"frequency-penalty", "frequency_penalty", -2, 2}};
    static const struct {
        const char *flag, *key;
        uint64_t min, max;
    } numbers[] = {{"max-tokens", "max_tokens", 1, LIMIT_MODEL_CONTEXT},
                   {"top-k", "top_k", 0, LIMIT_MODEL_VOCAB},
                   {"seed", "seed", 0, INT64_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(reals); i++) {
        double v = 0;
        if (cli_real(a, reals[i].flag, reals[i].min, reals[i].max, &v, err) < 0)
            return -err->code;
        if (cli_has(a, reals[i].flag))
            json_object_set_new(params, reals[i].key, json_real(v));
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t v = 0;
        if (cli_number(a, numbers[i].flag, numbers[i].min, numbers[i].max, &v, err) < 0)
            return -err->code;
        if (cli_has(a, numbers[i].flag))
            json_object_set_new(params, numbers[i].key, json_integer((json_int_t)v));
    }
    json_t *stops = json_array();
    for (unsigned i = 0; i < a->n_given; i++) {
        if (strcmp(a->given[i].flag->name, "stop") == 0)
            json_array_append_new(stops, json_string(a->given[i].value));
    }
    if (json_array_size(stops))
        json_object_set(params, "stop", stops);
    json_decref(stops);
    if (cli_has(a, "ignore-eos"))
        json_object_set_new(params, "ignore_eos", json_true());
    if (cli_has(a, "chat") && cli_has(a, "complete"))
        return err_set(err, E_INVALID, "--chat and --complete exclude each other");
    if (cli_has(a, "complete") && (cli_has(a, "system") || cli_has(a, "chat-template")))
        return err_set(err, E_INVALID,
                       "--complete takes the prompt as it stands: no --system, no --chat-template");
    return 0;
}

/* Makes a path known to the daemon; r->model is the name it has there. */
static int name_model(struct run *r, const char *model, struct err *err)
{
    if (!model_is_path(model)) {
        r->model = mem_dup(model, strlen(model));
        return 0;
    }
    struct buf path;
    buf_init(&path, LIMIT_PATH_BYTES);
    json_t *answer = NULL;
    int rc = model_real_path(model, &path, err);
    if (rc == 0) {
        json_t *body = json_pack("{s:s}", "path", buf_str(&path));
        rc = body ? client_json(&r->client, "POST", "/berth/v1/register", body, &answer, err)
                  : err_set(err, E_INVALID, "the path is not valid UTF-8");
        json_decref(body);
    }
    if (rc == 0) {
        const char *name = json_string_value(json_object_get(answer, "name"));
        r->model = name ? mem_dup(name, strlen(name)) : NULL;
        if (!name)
            rc = err_set(err, E_FORMAT, "the daemon registered the file without naming it");
    }
    json_decref(answer);
    buf_release(&path);
    return rc;
}

/* Loads the model, with the chat template that was given, and settles whether to chat. */
static int load(struct run *r, struct err *err)
{
    const struct cli_args *a = r->args;
    json_t *answer = NULL, *body = json_pack("{s:s}", "model", r->model);
    int rc = body ? 0 : err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    if (rc == 0 && cli_has(a, "chat-template")) {
        struct buf text;
        rc = file_read_all(cli_flag(a, "chat-template"), LIMIT_TEMPLATE_BYTES, &text, err);
        if (rc == 0 &&
            json_object_set_new(body, "chat_template", json_stringn(buf_str(&text), text.len)) < 0)
            rc = err_set(err, E_INVALID, "the chat template is not valid UTF-8");
        buf_release(&text);
    }
    if (rc == 0)
        rc = client_json(&r->client, "POST", "/berth/v1/load", body, &answer, err);
    bool has_template = json_is_true(json_object_get(answer, "has_chat_template"));
    bool asked = cli_has(a, "chat") || cli_has(a, "system") || cli_has(a, "chat-template");
    r->is_chat = asked || (has_template && !cli_has(a, "complete"));
    json_decref(answer);
    json_decref(body);
    return rc;
}

static void print_text(struct run *r, const char *s, size_t n)
{
    while (n && !r->write_errno) {
        ssize_t done = write(STDOUT_FILENO, s, n);
        if (done < 0 && errno != EINTR)
            r->write_errno = errno;
        if (done > 0) {
            s += done;
            n -= (size_t)done;
        }
    }
}

/* The text of an event or of a whole answer. */
static const json_t *text_of(const struct run *r, const json_t *answer)
{
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    if (!r->is_chat)
        return json_object_get(choice, "text");
    const json_t *m = json_object_get(choice, "delta");
    return json_object_get(m ? m : json_object_get(choice, "message"), "content");
}

static bool on_event(void *ctx, const json_t *event)
{
    struct run *r = ctx;
    const json_t *text = text_of(r, event);
    if (json_is_string(text)) {
        print_text(r, json_string_value(text), json_string_length(text));
        buf_append(&r->answer, json_string_value(text), json_string_length(text));
    }
    return r->write_errno == 0;
}

/* Asks once; the answer is printed, ends with a newline, and stays in r->answer. */
static int ask(struct run *r, const char *prompt, size_t len, struct err *err)
{
    json_t *body = json_copy(r->params), *text = json_stringn(prompt, len), *answer = NULL;
    bool stream = !r->is_raw && !cli_has(r->args, "no-stream");
    const char *path = r->is_chat ? "/v1/chat/completions" : "/v1/completions";
    int rc = text ? 0 : err_set(err, E_INVALID, "the prompt is not valid UTF-8");
    if (rc == 0 && r->is_chat) {
        json_array_append_new(r->messages,
                              json_pack("{s:s, s:O}", "role", "user", "content", text));
        json_object_set(body, "messages", r->messages);
    } else if (rc == 0) {
        json_object_set(body, "prompt", text);
    }
    json_decref(text);
    json_object_set_new(body, "model", json_string(r->model));
    json_object_set_new(body, "stream", json_boolean(stream));
    buf_clear(&r->answer);
    if (rc == 0 && stream) {
        rc = client_stream(&r->client, path, body, on_event, r, err);
    } else if (rc == 0) {
        rc = client_json(&r->client, "POST", path, body, &answer, err);
        if (rc == 0 && r->is_raw)
            cli_print_json(answer);
        else if (rc == 0)
            on_event(r, answer);
    }
    if (!r->is_raw && r->answer.len && r->answer.data[r->answer.len - 1] != '\n')
        print_text(r, "\n", 1);
    if (r->write_errno) {
        errno = r->write_errno;
        rc = err_set_sys(err, E_IO, "writing the answer to standard output");
    }
    json_decref(answer);
    json_decref(body);
    return rc;
}

/* On a terminal: every line is a turn.  A refused turn is said and forgotten. */
static int converse(struct run *r, struct err *err)
{
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;
    fprintf(stderr, "berth: %s with %s; Ctrl-D ends\n",
            r->is_chat ? "chatting" : "completing texts", r->model);
    while (rc == 0) {
        fputs("> ", stderr);
        ssize_t n = getline(&line, &cap, stdin);
        if (n <= 0)
            break;
        if (line[n - 1] == '\n')
            n--;
        if (n == 0)
            continue;
        size_t before = json_array_size(r->messages);
        struct err turn = ERR_INIT;
        if (ask(r, line, (size_t)n, &turn) == 0) {
            if (r->is_chat)
                json_array_append_new(r->messages,
                                      json_pack("{s:s, s:o}", "role", "assistant", "content",
                                                json_stringn(buf_str(&r->answer), r->answer.len)));
            continue;
        }
        while (json_array_size(r->messages) > before)
            json_array_remove(r->messages, before);
        if (r->write_errno || turn.code == E_NET) {
            *err = turn;
            rc = -turn.code;
        } else {
            cli_fail(&turn);
        }
    }
    mem_free(line); /* getline's, of the same allocator */
    fputs("\n", stderr);
    return rc;
}

static int join_operands(const struct cli_args *a, struct buf *out, struct err *err)
{
    buf_init(out, LIMIT_TEXT_BYTES);
    for (unsigned i = 1; i < a->n_operands; i++) {
        if (i > 1)
            buf_append_char(out, ' ');
        buf_append_str(out, a->operands[i]);
    }
    return buf_status(out, "the prompt", err);
}

static int run_model(struct run *r, struct err *err)
{
    const struct cli_args *a = r->args;
    struct buf prompt;
    buf_init(&prompt, LIMIT_TEXT_BYTES);
    bool is_loop = a->n_operands == 1 && isatty(STDIN_FILENO);
    int rc = 0;
    if (a->n_operands > 1)
        rc = join_operands(a, &prompt, err);
    else if (!is_loop)
        rc = file_read_all("-", LIMIT_TEXT_BYTES, &prompt, err);
    if (rc == 0 && a->n_operands == 1 && prompt.len && prompt.data[prompt.len - 1] == '\n')
        prompt.len--;
    if (rc == 0 && !is_loop && prompt.len == 0)
        rc = err_set(err, E_INVALID,
                     "there is no prompt: give one after MODEL or on standard input");
    if (rc == 0)
        rc = client_ensure(&r->client, err);
    if (rc == 0)
        rc = name_model(r, a->operands[0], err);
    if (rc == 0)
        rc = load(r, err);
    if (rc == 0 && cli_has(a, "system"))
        json_array_append_new(r->messages, json_pack("{s:s, s:s}", "role", "system", "content",
                                                     cli_flag(a, "system")));
    if (rc == 0)
        rc = is_loop ? converse(r, err) : ask(r, buf_str(&prompt), prompt.len, err);
    buf_release(&prompt);
    return rc;
}

int cmd_run(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct run r = {.args = a, .is_raw = cli_has(a, "json")};
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &sa, NULL);
    r.params = json_object();
    if (read_params(a, r.params, &err) < 0) {
        json_decref(r.params);
        cli_fail(&err);
        return CLI_USAGE;
    }
    r.messages = json_array();
    buf_init(&r.answer, LIMIT_TEXT_BYTES);
    int rc = client_init(&r.client, &a->config, &err);
    if (rc == 0)
        rc = run_model(&r, &err);
    buf_release(&r.answer);
    json_decref(r.messages);
    json_decref(r.params);
    mem_free(r.model);
    if (rc < 0 && r.write_errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL); /* the reader has left: end as any filter does */
        raise(SIGPIPE);
    }
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
