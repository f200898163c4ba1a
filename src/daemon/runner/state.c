/* SPDX-License-Identifier: Apache-2.0 */
/* Implements state.h. */
#include "daemon/runner/state.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/sys/file.h"

#define STATE_MAX_BYTES (64u << 20)

static int path_make(const char *dir, const char *name, char **ret, struct err *err)
{
    struct buf b;
    buf_init(&b, 8192);
    buf_printf(&b, "%s/%s", dir, name);
    int rc = buf_status(&b, "the state folder's path", err);
    *ret = rc == 0 ? buf_take(&b) : NULL;
    buf_release(&b);
    return rc;
}

/* Every entry is tried, so that a mistake shows at start and not when its model is asked for. */
static int models_check(const json_t *models, struct err *err)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)models, name, v)
    {
        struct model_settings s;
        model_settings_init(&s);
        int rc = model_settings_apply(&s, v, err);
        model_settings_release(&s);
        if (rc < 0)
            return err_wrap(err, "model '%s'", name);
    }
    return 0;
}

static int state_parse(struct state *s, struct str text, struct err *err)
{
    json_t *root = NULL;
    const json_t *models = NULL;
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is %s, not an object", json_kind(root));
    if (rc == 0 && json_field_obj(root, "models", &models, err) <= 0)
        rc = err_set(err, E_FORMAT, "it has no object 'models'");
    if (rc == 0)
        rc = models_check(models, err);
    if (rc == 0) {
        json_decref(s->models);
        s->models = json_incref((json_t *)(uintptr_t)models);
    }
    json_decref(root);
    return rc;
}

static int state_read(struct state *s, struct err *err)
{
    struct buf text;
    int rc = file_read_regular(s->path, STATE_MAX_BYTES, &text, err);
    if (rc == 0) {
        rc = state_parse(s, (struct str){buf_str(&text), text.len}, err);
        if (rc < 0) {
            err_wrap(err,
                     "%s, which keeps the settings of models, cannot be used (mend it, or move "
                     "it away to begin without)",
                     s->path);
            err->code = E_FORMAT;
            rc = -E_FORMAT;
        }
    } else if (rc == -E_NOTFOUND) {
        rc = 0;
    }
    buf_release(&text);
    return rc;
}

int state_open(const char *dir, struct state *ret, struct err *err)
{
    *ret = (struct state){.models = json_object()};
    if (!dir || !dir[0])
        return 0;
    int rc = path_make(dir, "models.json", &ret->path, err);
    if (rc == 0)
        rc = state_read(ret, err);
    if (rc < 0)
        state_close(ret);
    return rc;
}

void state_close(struct state *s)
{
    mem_free(s->path);
    json_decref(s->models);
    *s = (struct state){0};
}

int state_get(const json_t *models, const char *name, struct model_settings *ret, struct err *err)
{
    const json_t *v = json_object_get(models, name);
    model_settings_init(ret);
    return v ? model_settings_apply(ret, v, err) : 0;
}

static int state_write(const struct state *s, const json_t *models, struct err *err)
{
    struct buf b;
    if (!s->path)
        return 0;
    char *dir = mem_dup(s->path, (size_t)(strrchr(s->path, '/') - s->path));
    int rc = file_make_dirs(dir, err);
    mem_free(dir);
    if (rc < 0)
        return rc;
    buf_init(&b, STATE_MAX_BYTES);
    buf_append_str(&b, "{\"models\":");
    json_put_value(&b, models);
    buf_append_str(&b, "}\n");
    rc = buf_status(&b, "settings of models", err);
    if (rc == 0)
        rc = file_write_whole(s->path, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

int state_put(struct state *s, const char *name, const struct model_settings *settings,
              struct err *err)
{
    json_t *models = json_copy(s->models), *v = model_settings_json(settings);
    if (json_object_size(v))
        json_object_set_new(models, name, v);
    else {
        json_object_del(models, name);
        json_decref(v);
    }
    int rc = state_write(s, models, err);
    if (rc < 0) {
        json_decref(models);
        return rc;
    }
    json_decref(s->models);
    s->models = models;
    return 0;
}
