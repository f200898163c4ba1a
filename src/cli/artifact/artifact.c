/* SPDX-License-Identifier: Apache-2.0 */
/* Implements artifact.h over the daemon's model manager. */
#include "cli/artifact/artifact.h"

#include <string.h>

#include "cli/chat/interrupt.h"
#include "cli/commands.h"
#include "lib/base/limits.h"

#define PATH_BYTES 1800u

int artifact_heed_interrupts(struct client *c, struct err *err)
{
    if (interrupt_start(err) < 0)
        return -err->code;
    c->has_cancel_fd = true;
    c->cancel_fd = interrupt_fd();
    return 0;
}

int artifact_client(const struct cli_args *a, struct client *ret, struct err *err)
{
    if (client_init(ret, &a->config, err) < 0 || client_ensure(ret, err) < 0)
        return -err->code;
    return artifact_heed_interrupts(ret, err);
}

void artifact_path(struct buf *out, const char *name, const char *rest)
{
    buf_append_str(out, "/models/");
    client_escape(out, name, true);
    buf_append_str(out, rest);
}

/* No model of the store; `berth list` (not docker's) shows files, too, and one may be meant. */
static int not_stored(const struct client *c, const char *name, struct err *err)
{
    struct err ignored = ERR_INIT;
    struct buf path;
    json_t *found = NULL;
    buf_init(&path, PATH_BYTES);
    buf_append_str(&path, "/berth/v1/models/");
    client_escape(&path, name, true);
    const char *file = NULL;
    if (*cli_speaker() && buf_status(&path, "the model's name", &ignored) == 0 &&
        client_json(c, "GET", buf_str(&path), NULL, &found, &ignored) == 0)
        file = json_string_value(json_object_get(found, "path"));
    if (file)
        err_set(
            err, E_NOTFOUND,
            "'%.128s' is the file %.256s, and no model of the store: `berth inspect %.128s` says "
            "what it is, and `berth package --gguf FILE NAME` makes a model of it",
            name, file, name);
    else
        err_set(err, E_NOTFOUND,
                "there is no model '%.128s' in the store; `%s list` lists those there are", name,
                *cli_speaker() ? "berth" : "docker model");
    json_decref(found);
    buf_release(&path);
    return -E_NOTFOUND;
}

/* A request about one model. */
static int ask(const struct client *c, const char *method, const char *name, const char *rest,
               json_t **ret, struct err *err)
{
    struct buf path;
    buf_init(&path, PATH_BYTES);
    artifact_path(&path, name, rest);
    int rc = buf_status(&path, "the model's name", err);
    if (rc == 0)
        rc = client_json(c, method, buf_str(&path), NULL, ret, err);
    if (rc == -E_NOTFOUND && !strstr(rest, "remote="))
        rc = not_stored(c, name, err);
    buf_release(&path);
    return rc;
}

/* {"model": REF}, and of the hub this user's token (new reference), or NULL.  A name that says no
 * registry gets this user's, where that is another than the usual one. */
static json_t *transfer_body(const struct client *c, const char *ref, struct err *err)
{
    struct oci_reference r;
    struct err ignored = ERR_INIT;
    struct buf whole;
    buf_init(&whole, LIMIT_MODEL_NAME_BYTES);
    bool is_reference = !oci_may_be_id(str_from(ref)) &&
                        oci_reference_parse(str_from(ref), c->default_registry, &r, &ignored) == 0;
    bool is_hub = is_reference && oci_registry_is_hub(r.registry);
    if (is_reference && !is_hub && c->default_registry &&
        strcmp(c->default_registry, "docker.io") != 0)
        oci_reference_put(&r, &whole);
    json_t *body = json_pack("{s:s}", "model", whole.len && !whole.failed ? buf_str(&whole) : ref);
    if (!body)
        err_set(err, E_INVALID, "the model's name is not valid UTF-8");
    if (body && is_hub && c->hf_token) /* a token goes to the hub and to nobody else */
        json_object_set_new(body, "token", json_string(c->hf_token));
    buf_release(&whole);
    return body;
}

static int transfer_run(struct client *c, const char *path, const char *verb, const char *ref,
                        enum transfer_style style, struct transfer *t, struct err *err)
{
    char what[256];
    snprintf(what, sizeof(what), "%s %s", verb, ref);
    transfer_begin(t, style, what);
    json_t *body = transfer_body(c, ref, err);
    if (!body)
        return -err->code;
    c->on_tick = transfer_tick;
    c->tick_ctx = t;
    int rc = client_lines(c, path, body, NULL, transfer_line, t, err);
    c->on_tick = NULL;
    if (rc == 0 && !t->id[0])
        rc = err_set(err, E_NET, "the daemon broke %s %s off; its log says why", verb, ref);
    transfer_end(t, rc == 0);
    json_decref(body);
    return rc;
}

int artifact_pull(struct client *c, const char *ref, enum transfer_style style, struct transfer *t,
                  struct err *err)
{
    return transfer_run(c, "/berth/v1/pull", "pulling", ref, style, t, err);
}

int artifact_push(struct client *c, const char *ref, enum transfer_style style, struct transfer *t,
                  struct err *err)
{
    struct err why = ERR_INIT;
    json_t *model = NULL;
    int rc = transfer_run(c, "/berth/v1/push", "pushing", ref, style, t, err);
    if (rc == -E_NOTFOUND && artifact_model(c, ref, false, &model, &why) == -E_NOTFOUND)
        *err = why; /* it is not here, where a 404 of the registry would read the same */
    json_decref(model);
    return rc;
}

int artifact_tag(const struct client *c, const char *src, const char *dst, struct err *err)
{
    const char *slash = strrchr(dst, '/'), *colon = strchr(slash ? slash : dst, ':');
    char repo[LIMIT_MODEL_NAME_BYTES + 1];
    json_t *answer = NULL;
    struct buf rest;
    size_t n = colon ? (size_t)(colon - dst) : strlen(dst);
    if (n == 0 || n >= sizeof(repo) || strchr(dst, '@'))
        return err_set(err, E_INVALID,
                       "'%.128s' is no name that a model can be given: NAME or NAME:TAG", dst);
    snprintf(repo, sizeof(repo), "%.*s", (int)n, dst);
    buf_init(&rest, PATH_BYTES);
    buf_append_str(&rest, "/tag?repo=");
    client_escape(&rest, repo, false);
    buf_append_str(&rest, "&tag=");
    client_escape(&rest, colon && colon[1] ? colon + 1 : "latest", false);
    int rc = buf_status(&rest, "the new name", err);
    if (rc == 0)
        rc = ask(c, "POST", src, buf_str(&rest), &answer, err);
    json_decref(answer);
    buf_release(&rest);
    return rc;
}

int artifact_remove(const struct client *c, const char *name, bool force, json_t *done,
                    struct err *err)
{
    json_t *answer = NULL;
    int rc = ask(c, "DELETE", name, force ? "?force=true" : "", &answer, err);
    if (rc == 0)
        json_array_extend(done, answer);
    json_decref(answer);
    return rc;
}

int artifact_model(const struct client *c, const char *name, bool is_remote, json_t **ret,
                   struct err *err)
{
    *ret = NULL;
    int rc = ask(c, "GET", name, is_remote ? "?remote=true" : "", ret, err);
    if (rc == 0 && !json_is_object(*ret))
        rc = err_set(err, E_FORMAT, "what the daemon says of '%.128s' is no model", name);
    if (rc < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}

int artifact_models(const struct client *c, json_t **ret, struct err *err)
{
    *ret = NULL;
    int rc = client_json(c, "GET", "/models", NULL, ret, err);
    if (rc == 0 && !json_is_array(*ret))
        rc = err_set(err, E_FORMAT, "the daemon's list of models is not one");
    if (rc < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}

bool artifact_may_pull(const char *model)
{
    struct oci_reference r;
    struct err ignored = ERR_INIT;
    bool is_file = model[0] == '/' || model[0] == '.' || model[0] == '~' ||
                   str_has_suffix(str_from(model), STR_LIT(".gguf"));
    return !is_file && !oci_may_be_id(str_from(model)) &&
           oci_reference_parse(str_from(model), NULL, &r, &ignored) == 0;
}

int artifact_interrupted(const char *program, const char *verb, const char *ref)
{
    fprintf(stderr, "%s: interrupted; `%s %s %s` goes on where it stopped\n", program, program,
            verb, ref);
    return CLI_INTERRUPTED;
}
