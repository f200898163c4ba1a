/* SPDX-License-Identifier: Apache-2.0 */
/* Implements models.h. */
#include "cli/models.h"

#include <string.h>

#include "cli/model_path.h"
#include "lib/base/limits.h"

const char *answer_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

uint64_t answer_number(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v > 0 ? (uint64_t)v : 0;
}

int models_fetch(const struct client *c, json_t **ret, struct err *err)
{
    json_t *answer = NULL;
    int rc = client_json(c, "GET", "/berth/v1/models", NULL, &answer, err);
    json_t *models = json_object_get(answer, "models");
    if (rc == 0 && !json_is_array(models))
        rc = err_set(err, E_FORMAT, "the daemon's list of models is not one; is it a newer berth?");
    if (rc == 0)
        *ret = json_incref(models);
    json_decref(answer);
    return rc;
}

const json_t *models_pick(const json_t *models, const char *model)
{
    struct buf real;
    struct err gone = ERR_INIT; /* the file may have been removed since it was loaded */
    const json_t *found = NULL, *m;
    const char *key = "name", *value = model;
    size_t i;
    buf_init(&real, LIMIT_PATH_BYTES);
    if (model_is_path(model) && model_real_path(model, &real, &gone) == 0) {
        key = "path";
        value = buf_str(&real);
    }
    json_array_foreach((json_t *)models, i, m)
    {
        if (!found && strcmp(answer_text(m, key), value) == 0)
            found = m;
    }
    buf_release(&real);
    return found;
}

bool model_is_loaded(const json_t *m)
{
    const char *state = answer_text(m, "state");
    return strcmp(state, "ready") == 0 || strcmp(state, "loading") == 0;
}

uint64_t model_memory(const json_t *m)
{
    return answer_number(m, "weight_bytes") + answer_number(m, "kv_bytes") +
           answer_number(m, "scratch_bytes");
}

int model_name(const struct client *c, const char *model, struct buf *out, struct err *err)
{
    if (!model_is_path(model)) {
        buf_append_str(out, model);
        return buf_status(out, "the model's name", err);
    }
    struct buf path;
    json_t *answer = NULL;
    buf_init(&path, LIMIT_PATH_BYTES);
    int rc = model_real_path(model, &path, err);
    if (rc == 0) {
        json_t *body = json_pack("{s:s}", "path", buf_str(&path));
        rc = body ? client_json(c, "POST", "/berth/v1/register", body, &answer, err)
                  : err_set(err, E_INVALID, "the path is not valid UTF-8");
        json_decref(body);
    }
    if (rc == 0) {
        buf_append_str(out, answer_text(answer, "name"));
        rc = buf_status(out, "the model's name", err);
    }
    json_decref(answer);
    buf_release(&path);
    return rc;
}
