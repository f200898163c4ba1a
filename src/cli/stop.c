/* SPDX-License-Identifier: Apache-2.0 */
/* `berth stop`: unloads one model or all, or ends the daemon. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "lib/base/limits.h"

#define STOP_WAIT_MS 15000

static int unload(const struct client *c, const char *model, struct err *err)
{
    json_t *answer = NULL, *body = json_pack("{s:s}", "model", model);
    if (!body)
        return err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    int rc = client_json(c, "POST", "/berth/v1/unload", body, &answer, err);
    if (rc == 0 && !json_is_true(json_object_get(answer, "was_loaded")))
        rc = err_set(err, E_NOTFOUND,
                     "the model '%s' is not loaded; `berth ps` lists those that are", model);
    if (rc == 0)
        printf("unloaded %s\n", model);
    json_decref(answer);
    json_decref(body);
    return rc;
}

/* The daemon's name of the model in the file at path, appended to out; path itself where it knows
 * none. */
static int name_of_path(const struct client *c, const char *path, struct buf *out, struct err *err)
{
    struct buf real;
    struct err gone = ERR_INIT; /* the file may have been removed since it was loaded */
    json_t *answer = NULL;
    const char *found = path;
    buf_init(&real, LIMIT_PATH_BYTES);
    int rc = client_json(c, "GET", "/berth/v1/models", NULL, &answer, err);
    if (rc == 0 && model_real_path(path, &real, &gone) == 0) {
        size_t i;
        const json_t *m;
        json_array_foreach(json_object_get(answer, "models"), i, m)
        {
            const char *file = json_string_value(json_object_get(m, "path"));
            const char *name = json_string_value(json_object_get(m, "name"));
            if (file && name && strcmp(file, buf_str(&real)) == 0)
                found = name;
        }
    }
    if (rc == 0) {
        buf_append_str(out, found);
        rc = buf_status(out, "the model's name", err);
    }
    json_decref(answer);
    buf_release(&real);
    return rc;
}

static int unload_operand(const struct client *c, const char *model, struct err *err)
{
    if (!model_is_path(model))
        return unload(c, model, err);
    struct buf name;
    buf_init(&name, LIMIT_PATH_BYTES);
    int rc = name_of_path(c, model, &name, err);
    if (rc == 0)
        rc = unload(c, buf_str(&name), err);
    buf_release(&name);
    return rc;
}

static int unload_all(const struct client *c, struct err *err)
{
    json_t *answer = NULL;
    int rc = client_json(c, "GET", "/berth/v1/models", NULL, &answer, err);
    size_t i;
    const json_t *m;
    json_array_foreach(json_object_get(answer, "models"), i, m)
    {
        const char *state = json_string_value(json_object_get(m, "state"));
        const char *name = json_string_value(json_object_get(m, "name"));
        if (rc == 0 && name && state &&
            (strcmp(state, "ready") == 0 || strcmp(state, "loading") == 0))
            rc = unload(c, name, err);
    }
    json_decref(answer);
    return rc;
}

/* Asks the daemon to end and waits until its port is free. */
static int stop_daemon(const struct client *c, struct err *err)
{
    json_t *answer = NULL, *body = json_object();
    int rc = client_json(c, "POST", "/berth/v1/shutdown", body, &answer, err);
    json_decref(answer);
    json_decref(body);
    struct timespec step = {.tv_nsec = 20 * 1000000};
    for (int waited = 0; rc == 0 && waited < STOP_WAIT_MS; waited += 20) {
        struct err gone = ERR_INIT;
        if (client_probe(c, &gone) == 0) {
            printf("stopped the daemon on %s\n", c->url);
            return 0;
        }
        nanosleep(&step, NULL);
    }
    if (rc == 0)
        rc = err_set(err, E_TIMEOUT,
                     "the daemon on %s still answers %d seconds after it was told to stop", c->url,
                     STOP_WAIT_MS / 1000);
    return rc;
}

int cmd_stop(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    bool all = cli_has(a, "all"), whole = cli_has(a, "daemon");
    int there = client_init(&c, &a->config, &err);
    if (there == 0)
        there = client_probe(&c, &err);
    if (there < 0)
        return cli_fail(&err);
    if (!there && a->n_operands) {
        err_set(&err, E_NOTFOUND, "the model '%.128s' is not loaded: no daemon listens on %s",
                a->operands[0], c.url);
        return cli_fail(&err);
    }
    if (!there) {
        fprintf(stderr, "berth: no daemon listens on %s; nothing to stop\n", c.url);
        return CLI_OK;
    }
    int rc = whole ? stop_daemon(&c, &err)
             : all ? unload_all(&c, &err)
                   : unload_operand(&c, a->operands[0], &err);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
