/* SPDX-License-Identifier: Apache-2.0 */
/* `docker model compose`: the provider that Compose calls for a service of `provider: {type:
 * model}`. Standard output is JSON lines of {"type", "message"}; setenv gives the service's
 * variables. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/docker/plugin.h"
#include "cli/docker/text.h"
#include "cli/artifact/artifact.h"
#include "lib/base/limits.h"

static void say(const char *type, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(const char *type, const char *format, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    json_t *j = json_pack("{s:s, s:s}", "type", type, "message", text);
    if (j) {
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
    }
    json_decref(j);
}

static int print_metadata(void)
{
    static const struct {
        const char *name, *dflt;
    } defaults[] = {{"backend", "llama.cpp"},
                    {"context-size", "-1"},
                    {"model", "[]"},
                    {"speculative-min-acceptance-rate", "0"},
                    {"speculative-num-tokens", "0"}};
    int n_words;
    char *words[] = {(char *)"compose"};
    const struct docker_command *c = docker_find(1, words, &n_words);
    json_t *parameters = json_array();
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        const char *dflt = NULL;
        if (strcmp(f->name, "project-name") == 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
            dflt = strcmp(defaults[i].name, f->name) == 0 ? defaults[i].dflt : dflt;
        json_t *p = json_pack("{s:s, s:s, s:b, s:s}", "name", f->name, "description", f->help,
                              "required", strcmp(f->name, "model") == 0, "type", f->arg);
        if (dflt)
            json_object_set_new(p, "default", json_string(dflt));
        json_array_append_new(parameters, p);
    }
    json_t *j = json_pack("{s:s, s:{s:o}, s:{s:n}}", "description", "Docker Model Runner", "up",
                          "parameters", parameters, "down", "parameters");
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
    return CLI_OK;
}

/* Sees to it that the model is in the store. */
static int ensure_model(struct client *c, const char *model, struct err *err)
{
    json_t *m = NULL;
    struct transfer t;
    int rc = artifact_model(c, model, false, &m, err);
    json_decref(m);
    if (rc != -E_NOTFOUND)
        return rc;
    say("info", "Pulling model %s", model);
    *err = (struct err)ERR_INIT;
    rc = artifact_pull(c, model, TRANSFER_QUIET, &t, err);
    transfer_release(&t);
    return rc;
}

/* The draft model of the service's models, which is brought as they are. */
static int add_draft(struct client *c, const struct cli_args *a, const char *draft, json_t *body,
                     struct err *err)
{
    uint64_t n = 0;
    double rate = 0;
    int rc = ensure_model(c, draft, err);
    if (rc == 0)
        rc = cli_number(a, "speculative-num-tokens", 0, INT32_MAX, &n, err);
    if (rc == 0)
        rc = cli_real(a, "speculative-min-acceptance-rate", 0, 1, &rate, err);
    if (rc < 0)
        return rc;
    say("info", "Enabling speculative decoding with draft model: %s", draft);
    json_object_set_new(body, "speculative",
                        json_pack("{s:s, s:I, s:f}", "draft_model", draft, "num_tokens",
                                  (json_int_t)n, "min_acceptance_rate", rate));
    return 0;
}

static int configure(struct client *c, const struct cli_args *a, const char *model, struct err *err)
{
    uint64_t n = 0;
    const char *size = cli_flag(a, "context-size"), *flags = cli_flag(a, "runtime-flags");
    const char *draft = cli_flag(a, "speculative-draft-model");
    json_t *answer = NULL, *body = json_pack("{s:s}", "model", model);
    int rc = body ? 0 : err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    if (rc == 0 && size && strcmp(size, "-1") != 0) {
        rc = cli_number(a, "context-size", 0, INT32_MAX, &n, err);
        say("info", "Setting context size to %llu", (unsigned long long)n);
        json_object_set_new(body, "context-size", json_integer((json_int_t)n));
    }
    if (flags && *flags) {
        say("info", "Setting raw runtime flags to %s", flags);
        json_object_set_new(body, "raw-runtime-flags", json_string(flags));
    }
    if (rc == 0 && draft && *draft)
        rc = add_draft(c, a, draft, body, err);
    if (rc == 0)
        rc = client_json(c, "POST", "/engines/_configure", body, &answer, err);
    if (rc == 0)
        say("info", "Successfully configured backend for model %s", model);
    json_decref(answer);
    json_decref(body);
    return rc;
}

static int up(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct buf models;
    char endpoint[320];
    int rc = 0;
    buf_init(&models, 1u << 20);
    say("info", "Initializing model runner...");
    if (client_init(&c, &a->config, &err) < 0 || (c.is_quiet = true, client_ensure(&c, &err) < 0))
        rc = -err.code;
    for (unsigned i = 0; rc == 0 && i < a->n_given; i++) {
        const char *model = a->given[i].value;
        if (strcmp(a->given[i].flag->name, "model") != 0)
            continue;
        rc = ensure_model(&c, model, &err);
        if (rc == 0)
            rc = configure(&c, a, model, &err);
        buf_printf(&models, "%s%s", models.len ? "," : "", model);
    }
    if (rc == 0 && !models.len)
        rc = err_set(&err, E_INVALID, "options.model is required");
    if (rc == 0) {
        say("setenv", "URL=%s/engines/v1/", docker_endpoint(&c, endpoint));
        say("setenv", "MODEL=%s", buf_str(&models));
    } else {
        say("error", "%s", err.msg);
    }
    buf_release(&models);
    return rc < 0 ? CLI_FAILED : CLI_OK;
}

int docker_compose(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    if (strcmp(a->operands[0], "metadata") == 0)
        return print_metadata();
    if (strcmp(a->operands[0], "up") == 0)
        return up(a);
    if (strcmp(a->operands[0], "down") == 0)
        return CLI_OK; /* a model leaves by itself when nobody asks it */
    err_set(&err, E_INVALID, "unknown command: docker model compose %.64s", a->operands[0]);
    return cli_fail(&err);
}
