/* SPDX-License-Identifier: Apache-2.0 */
/* `berth stop`: unloads one model or all, or ends the daemon. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/models.h"
#include "cli/table.h"

#define STOP_WAIT_MS 15000

struct stop {
    struct client client;
    bool is_json;
    json_t *unloaded; /* owned: names */
};

static int unload(struct stop *s, const char *model, struct err *err)
{
    json_t *answer = NULL, *body = json_pack("{s:s}", "model", model);
    if (!body)
        return err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    int rc = client_json(&s->client, "POST", "/berth/v1/unload", body, &answer, err);
    if (rc == 0 && !json_is_true(json_object_get(answer, "was_loaded")))
        rc = err_set(err, E_NOTFOUND,
                     "the model '%s' is not loaded; `berth ps` lists those that are", model);
    if (rc == 0)
        json_array_append_new(s->unloaded, json_string(model));
    if (rc == 0 && !s->is_json)
        printf("unloaded %s\n", model);
    json_decref(answer);
    json_decref(body);
    return rc;
}

/* MODEL: a name, or the path of its file. */
static int unload_operand(struct stop *s, const char *model, struct err *err)
{
    if (!model_is_path(model))
        return unload(s, model, err);
    json_t *models = NULL;
    int rc = models_fetch(&s->client, &models, err);
    if (rc == 0) {
        const json_t *m = models_pick(models, model);
        rc = unload(s, m ? answer_text(m, "name") : model, err);
    }
    json_decref(models);
    return rc;
}

static int unload_all(struct stop *s, struct err *err)
{
    json_t *models = NULL;
    int rc = models_fetch(&s->client, &models, err);
    size_t i;
    const json_t *m;
    json_array_foreach(models, i, m)
    {
        if (rc == 0 && model_is_loaded(m))
            rc = unload(s, answer_text(m, "name"), err);
    }
    json_decref(models);
    return rc;
}

/* Asks the daemon to end and waits until its port is free. */
static int stop_daemon(struct stop *s, struct err *err)
{
    const struct client *c = &s->client;
    json_t *answer = NULL, *body = json_object();
    int rc = client_json(c, "POST", "/berth/v1/shutdown", body, &answer, err);
    json_decref(answer);
    json_decref(body);
    struct timespec step = {.tv_nsec = 20 * 1000000};
    for (int waited = 0; rc == 0 && waited < STOP_WAIT_MS; waited += 20) {
        struct err gone = ERR_INIT;
        if (client_probe(c, &gone) == 0) {
            if (!s->is_json)
                printf("stopped the daemon on %s\n", client_place(c));
            return 0;
        }
        nanosleep(&step, NULL);
    }
    if (rc == 0)
        rc = err_set(err, E_TIMEOUT,
                     "the daemon on %s still answers %d seconds after it was told to stop",
                     client_place(c), STOP_WAIT_MS / 1000);
    return rc;
}

int cmd_stop(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct stop s = {.is_json = cli_has(a, "json")};
    bool whole = cli_has(a, "daemon");
    int there = client_init(&s.client, &a->config, &err);
    if (there == 0)
        there = client_probe(&s.client, &err);
    if (there < 0)
        return cli_fail(&err);
    if (!there && a->n_operands) {
        err_set(&err, E_NOTFOUND, "the model '%.128s' is not loaded: no daemon listens on %s",
                a->operands[0], client_place(&s.client));
        return cli_fail(&err);
    }
    s.unloaded = json_array();
    int rc = 0;
    if (!there)
        fprintf(stderr, "berth: no daemon listens on %s; nothing to stop\n",
                client_place(&s.client));
    else if (whole)
        rc = stop_daemon(&s, &err);
    else if (cli_has(a, "all"))
        rc = unload_all(&s, &err);
    else
        rc = unload_operand(&s, a->operands[0], &err);
    if (s.is_json) {
        json_t *j = json_pack("{s:O, s:b}", "unloaded", s.unloaded, "stopped_daemon",
                              rc == 0 && whole && there);
        cli_print_json(j);
        json_decref(j);
    }
    json_decref(s.unloaded);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
