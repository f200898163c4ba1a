/* SPDX-License-Identifier: Apache-2.0 */
/* `berth run`: loads a model into the daemon, asks it, and prints the answer as it comes; or holds
 * a conversation (chat/repl.h). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/chat/ask.h"
#include "cli/chat/interrupt.h"
#include "cli/chat/params.h"
#include "cli/chat/repl.h"
#include "cli/commands.h"
#include "cli/lock/lock.h"
#include "cli/artifact/artifact.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/sys/file.h"

static bool is_raw(const struct cli_args *a)
{
    return cli_has(a, "complete") || cli_has(a, "raw");
}

/* What the command line says against itself. */
static int check_flags(const struct cli_args *a, struct err *err)
{
    if (cli_has(a, "chat") && is_raw(a))
        return err_set(err, E_INVALID, "--chat and --complete exclude each other");
    const char *pull = cli_flag(a, "pull");
    if (pull && strcmp(pull, "always") != 0 && strcmp(pull, "missing") != 0 &&
        strcmp(pull, "never") != 0)
        return err_set(err, E_INVALID, "--pull: '%.64s' is none of always, missing and never",
                       pull);
    if (is_raw(a) && (cli_has(a, "system") || cli_has(a, "chat-template")))
        return err_set(err, E_INVALID,
                       "--complete takes the prompt as it stands: no --system, no --chat-template");
    return 0;
}

static int take_flags(struct chat *c, const struct cli_args *a, struct err *err)
{
    const struct config_value *keep_alive = &a->config.values[CONFIG_keep_alive];
    const char *system = cli_flag(a, "system");
    if (check_flags(a, err) < 0 || params_from_flags(a, c->params, err) < 0)
        return -err->code;
    /* From elsewhere than a flag it is meant for the daemon, and for every model. */
    c->has_keep_alive = keep_alive->source == CONFIG_FROM_FLAG;
    c->keep_alive_s = keep_alive->number == CONFIG_FOREVER ? -1 : (int64_t)keep_alive->number;
    c->is_json = cli_has(a, "json");
    c->is_streaming = !c->is_json && !cli_has(a, "no-stream");
    c->is_verbose = cli_has(a, "verbose");
    c->system = system ? mem_dup(system, strlen(system)) : NULL;
    return 0;
}

static enum chat_mode mode_of(const struct cli_args *a)
{
    if (is_raw(a))
        return CHAT_NEVER;
    return cli_has(a, "chat") || cli_has(a, "system") || cli_has(a, "chat-template")
               ? CHAT_ALWAYS
               : CHAT_BY_TEMPLATE;
}

/* Declares the template for every client of the daemon, loads the model with it, and says so; one
 * that does not even load, or cannot be compiled, is withdrawn. */
static int load_with_template(struct chat *c, const char *path, struct err *err)
{
    struct buf text;
    int rc = file_read_all(path, LIMIT_TEMPLATE_BYTES, &text, err);
    if (rc == 0 && text.len == 0)
        rc = err_set(err, E_INVALID, "%s is empty: it is no chat template", path);
    if (rc == 0)
        rc = chat_set_template(c, (struct str){buf_str(&text), text.len}, err);
    buf_release(&text);
    if (rc < 0)
        return rc;
    rc = chat_load(c, CHAT_ALWAYS, err);
    if (rc == 0 && !c->has_template)
        rc = chat_try(c, err);
    struct err other = ERR_INIT;
    if (rc < 0)
        (void)!chat_set_template(c, (struct str){NULL, 0}, &other);
    else
        fprintf(stderr,
                "berth: %s is now declared as the chat template of %s, for all clients; "
                "`berth configure` changes that\n",
                path, c->model);
    return rc;
}

/* Whether standard input was given on purpose: a pipe, a socket or a file. */
static bool has_input(void)
{
    struct stat st;
    return fstat(STDIN_FILENO, &st) == 0 &&
           (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* The words of the command line, then, after an empty line, standard input if it is no terminal. */
static int read_prompt(const struct cli_args *a, struct buf *out, struct err *err)
{
    struct buf input;
    bool has_words = a->n_operands > 1;
    buf_init(out, LIMIT_TEXT_BYTES);
    for (unsigned i = 1; i < a->n_operands; i++) {
        if (i > 1)
            buf_append_char(out, ' ');
        buf_append_str(out, a->operands[i]);
    }
    if (has_words && !has_input())
        return buf_status(out, "the prompt", err);
    int rc = file_read_all("-", LIMIT_TEXT_BYTES, &input, err);
    if (rc == 0 && input.len && input.data[input.len - 1] == '\n')
        input.len--;
    if (rc == 0 && input.len) {
        if (out->len)
            buf_append_str(out, "\n\n");
        buf_append(out, buf_str(&input), input.len);
    }
    if (rc == 0 && !input.len && !has_words)
        rc = err_set(err, E_INVALID,
                     "there is no prompt: give one after MODEL or on standard input");
    buf_release(&input);
    return rc < 0 ? rc : buf_status(out, "the prompt", err);
}

static int answer_once(struct chat *c, const struct buf *prompt, struct err *err)
{
    if (chat_ask(c, buf_str(prompt), prompt->len, err) < 0)
        return -err->code;
    if (c->is_verbose) {
        struct buf out;
        buf_init(&out, 4096);
        chat_put_timing(c, &out);
        fprintf(stderr, "berth: %s\n", buf_str(&out));
        buf_release(&out);
    }
    return 0;
}

/* Fetches the model, saying so in the words of whoever was called. */
static int fetch(struct chat *c, const struct cli_args *a, const char *why, struct err *err)
{
    struct transfer t;
    const char *model = a->operands[0];
    bool is_docker = !*cli_speaker();
    *err = (struct err)ERR_INIT;
    if (is_docker)
        fprintf(stderr, "Unable to find model '%s' locally. Pulling from the server.\n", model);
    else
        fprintf(stderr, "berth: %s%s; pulling it\n", model, why);
    int rc = client_ensure(&c->client, err);
    if (rc == 0)
        rc = artifact_pull(&c->client, model, TRANSFER_BERTH, &t, err);
    if (rc == 0)
        fprintf(stderr, "%s%s\n", cli_speaker(), t.message);
    if (rc == -E_CANCELED)
        artifact_interrupted(is_docker ? "docker model" : "berth", "pull", model);
    transfer_release(&t);
    return rc;
}

/* From here on the chat is with the bytes that the lock names, if all that it says is so. */
static int pin(struct chat *c, const char *model, struct err *err)
{
    struct buf ref;
    buf_init(&ref, LIMIT_PATH_BYTES);
    int rc = client_ensure(&c->client, err);
    if (rc == 0)
        rc = lock_demand(&c->client, LOCK_FILE, model, true, &ref, err);
    if (rc == 0) {
        mem_free(c->asked_for);
        c->asked_for = buf_take(&ref);
    }
    buf_release(&ref);
    return rc;
}

/* Loads the model; one that is not here is fetched where --pull says so, or where its name can only
 * be a registry's. */
static int load(struct chat *c, const struct cli_args *a, struct err *err)
{
    const char *model = a->operands[0], *pull = cli_flag(a, "pull");
    if (cli_has(a, "locked") && pin(c, model, err) < 0)
        return -err->code;
    bool may =
        !cli_has(a, "locked") && artifact_may_pull(model) && !(pull && strcmp(pull, "never") == 0);
    bool must = may && pull && strcmp(pull, "always") == 0;
    if (must && fetch(c, a, " may be newer in its registry", err) < 0)
        return -err->code;
    if (cli_has(a, "chat-template"))
        return load_with_template(c, cli_flag(a, "chat-template"), err);
    int rc = chat_load(c, mode_of(a), err);
    if (rc != -E_NOTFOUND || !may || must || (!pull && !strpbrk(model, "/:@")))
        return rc;
    rc = fetch(c, a, " is not here", err);
    return rc < 0 ? rc : chat_load(c, mode_of(a), err);
}

static int run_model(struct chat *c, const struct cli_args *a, struct err *err)
{
    struct buf prompt;
    buf_init(&prompt, LIMIT_TEXT_BYTES);
    bool loads_only = cli_has(a, "detach");
    bool is_loop = a->n_operands == 1 && isatty(STDIN_FILENO) && !loads_only;
    int rc = is_loop || loads_only ? 0 : read_prompt(a, &prompt, err);
    if (rc == 0) /* until here Ctrl-C ends the process */
        rc = interrupt_start(err);
    if (rc == 0)
        chat_heed_interrupts(c);
    if (rc == 0)
        rc = load(c, a, err);
    if (rc == 0 && is_loop) {
        struct repl_options o = {.mode = mode_of(a),
                                 .can_edit = config_can_edit_lines() && isatty(STDOUT_FILENO),
                                 .keeps_history = !cli_has(a, "no-history") &&
                                                  config_u32(&a->config, CONFIG_history)};
        rc = repl_run(c, &o, err);
    } else if (rc == 0 && !loads_only) {
        rc = answer_once(c, &prompt, err);
    }
    buf_release(&prompt);
    return rc;
}

int cmd_run(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct chat c = {0};
    struct output out;
    output_init(&out, STDOUT_FILENO, config_wants_color() && !cli_has(a, "no-color"),
                !cli_has(a, "no-markdown") && !cli_has(a, "json"));
    bool is_usage = false;
    int rc = chat_init(&c, &a->config, a->operands[0], &out, &err);
    if (rc == 0) {
        rc = take_flags(&c, a, &err);
        is_usage = rc < 0;
    }
    if (rc == 0)
        rc = run_model(&c, a, &err);
    int write_errno = out.write_errno;
    chat_release(&c);
    output_release(&out);
    if (rc < 0 && write_errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL); /* the reader has left: end as any filter does */
        raise(SIGPIPE);
    }
    if (rc == -E_CANCELED)
        return CLI_INTERRUPTED;
    if (rc < 0)
        cli_fail(&err);
    return is_usage ? CLI_USAGE : rc < 0 ? CLI_FAILED : CLI_OK;
}
