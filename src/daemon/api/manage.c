/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's own routes: models and what is declared of them, loading, unloading, the
 * daemon's state. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/api/openai/body.h"
#include "daemon/api/guard.h"
#include "daemon/api/info.h"
#include "daemon/api/load.h"
#include "daemon/api/manage.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

json_t *manage_body(struct httpd_request *r, const char *const *known)
{
    struct api_error e;
    json_t *root = NULL;
    const char *key;
    json_t *v;
    if (api_json_parse(httpd_body(r), true, &root, &e) < 0) {
        api_error_answer(r, &e);
        return NULL;
    }
    json_object_foreach(root, key, v)
    {
        size_t i = 0;
        while (known && known[i] && strcmp(known[i], key) != 0)
            i++;
        if (known && !known[i]) {
            api_refuse(&e, key, "unknown_parameter", "'%s' is not a parameter here", key);
            api_error_answer(r, &e);
            json_decref(root);
            return NULL;
        }
    }
    return root;
}

const char *manage_string(struct httpd_request *r, const json_t *root, const char *name,
                          bool required, size_t max, bool *absent)
{
    struct api_error e;
    struct err err = ERR_INIT;
    struct str s = {NULL, 0};
    int rc = json_field_str(root, name, &s, &err);
    *absent = rc == 0 && !required;
    if (*absent)
        return NULL;
    if (rc < 0)
        api_refuse_err(&e, name, &err);
    else if (rc == 0)
        api_refuse(&e, name, "missing_required_parameter", "'%s' is missing", name);
    else if (s.len == 0 || s.len > max || memchr(s.p, '\0', s.len))
        api_refuse(&e, name, "invalid_value", "'%s' must be a string of 1 to %zu bytes", name, max);
    else
        return s.p;
    api_error_answer(r, &e);
    return NULL;
}

/* A boolean field, *ret when it is absent.  False and the request is answered. */
static bool flag_or_answer(struct httpd_request *r, const json_t *root, const char *name, bool *ret)
{
    struct api_error e;
    struct err err = ERR_INIT;
    if (json_field_bool(root, name, ret, &err) >= 0)
        return true;
    api_refuse_err(&e, name, &err);
    e.code = "invalid_type";
    api_error_answer(r, &e);
    return false;
}

void handle_manage_models(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    if (!info_list(a, r, &list))
        return;
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_append_str(&out, "{\"models\":[");
    for (size_t i = 0; i < list.n; i++) {
        if (i)
            buf_append_char(&out, ',');
        info_put(&list.items[i], &out);
    }
    buf_append_str(&out, "]}");
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}

void handle_manage_model(struct api *a, struct httpd_request *r, const char *rest)
{
    info_answer(a, r, rest, info_put);
}

/* Resident bytes of this process, of /proc/self/statm; 0: unknown. */
static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    bool ok = fscanf(f, "%llu %llu", &total, &resident) == 2;
    fclose(f);
    return ok ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void put_folders(const char *dirs, struct buf *out)
{
    const char *sep = "";
    for (const char *s = dirs ? dirs : ""; *s;) {
        size_t n = strcspn(s, ":");
        if (n > 0) {
            buf_append_str(out, sep);
            json_put_str(out, (struct str){s, n});
            sep = ",";
        }
        s += n + (s[n] == ':');
    }
}

static void put_runner(struct api *a, const struct runner_stats *s, struct buf *out)
{
    char why[256] = "";
    bool ready = runner_is_ready(a->cfg.runner, why, sizeof(why));
    buf_printf(out, ",\"ready\":%s,\"ready_reason\":", ready ? "true" : "false");
    json_put_str(out, str_from(why));
    const struct {
        const char *name;
        uint64_t v;
    } rows[] = {{"max_memory_bytes", s->max_memory_bytes},
                {"planned_bytes", s->planned_bytes},
                {"models_loaded", s->n_loaded},
                {"requests_running", s->n_running},
                {"requests_waiting", s->n_waiting},
                {"loads", s->n_loads},
                {"load_failures", s->n_load_failures},
                {"crashes", s->n_crashes},
                {"hangs", s->n_hangs},
                {"evictions", s->n_evictions},
                {"idle_unloads", s->n_idle_unloads},
                {"refused_for_memory", s->n_refused_memory}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_printf(out, ",\"%s\":%llu", rows[i].name, (unsigned long long)rows[i].v);
    buf_printf(out, ",\"stopping\":%s", s->is_stopping ? "true" : "false");
}

void handle_status(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct runner_stats stats = {0};
    struct httpd_stats http = {0};
    struct err err = ERR_INIT;
    struct httpd *h = atomic_load(&a->httpd);
    if (runner_stats(a->cfg.runner, &stats, &err) < 0) {
        api_answer_err(r, &err);
        return;
    }
    if (h)
        httpd_stats(h, &http);
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_printf(&out,
               "{\"version\":\"%s\",\"pid\":%d,\"uptime_s\":%llu,\"resident_bytes\":%llu,"
               "\"connections\":%u,\"requests\":%u",
               BERTH_VERSION, (int)getpid(),
               (unsigned long long)((api_now_us() - a->started_us) / 1000000),
               (unsigned long long)resident_bytes(), http.n_connections, http.n_requests);
    put_runner(a, &stats, &out);
    buf_append_str(&out, ",\"models_dirs\":[");
    put_folders(a->cfg.models_dirs, &out);
    buf_append_str(&out, "]}");
    api_answer_json(r, 200, &out);
}

void handle_keys(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct keys *keys = guard_keys(a->cfg.guard);
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_append_str(&out, "{\"keys\":");
    if (keys)
        keys_put_json(keys, &out);
    else
        buf_append_str(&out, "[]");
    buf_printf(&out, ",\"required\":%s}", keys ? "true" : "false");
    api_answer_json(r, 200, &out);
}

void handle_register(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"path", "name", NULL};
    struct err err = ERR_INIT;
    bool absent;
    json_t *root = manage_body(r, known);
    const char *path =
        root ? manage_string(r, root, "path", true, LIMIT_PATH_BYTES, &absent) : NULL;
    const char *name =
        path ? manage_string(r, root, "name", false, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (!path || (!name && !absent)) {
        json_decref(root);
        return;
    }
    char *used = mem_alloc(LIMIT_MODEL_NAME_BYTES + 1);
    if (path[0] != '/')
        err_set(&err, E_INVALID, "'path' must be absolute, and '%.200s' is not", path);
    else if (runner_register(a->cfg.runner, path, name, used, &err) < 0)
        err_wrap(&err, "registering %.200s", path);
    if (err.code) {
        api_answer_err(r, &err);
    } else {
        struct buf out;
        buf_init(&out, 16 * LIMIT_MODEL_NAME_BYTES);
        buf_append_str(&out, "{\"id\":");
        json_put_str(&out, str_from(used));
        buf_append_str(&out, ",\"name\":");
        json_put_str(&out, str_from(used));
        buf_append_char(&out, '}');
        api_answer_json(r, 200, &out);
    }
    mem_free(used);
    json_decref(root);
}

int manage_apply(struct model_settings *s, const json_t *body, const char *const *own,
                 struct err *err)
{
    const char *key;
    json_t *v, *flat = json_object();
    int rc = 0;
    json_object_foreach((json_t *)body, key, v)
    {
        size_t i = 0;
        while (own[i] && strcmp(own[i], key) != 0)
            i++;
        if (!own[i])
            json_object_set(flat, strcmp(key, "chat_template") == 0 ? "chat-template" : key, v);
    }
    const json_t *nested = json_object_get(body, "settings");
    if (nested && !json_is_null(nested) && !json_is_object(nested))
        rc = err_set(err, E_INVALID, "'settings' must be an object, not %s", json_kind(nested));
    if (rc == 0 && json_is_object(nested))
        rc = model_settings_apply(s, nested, err);
    if (rc == 0)
        rc = model_settings_apply(s, flat, err);
    json_decref(flat);
    return rc;
}

static void put_declared(const struct model_settings *s, const char *model, struct buf *out)
{
    json_t *declared = model_settings_json(s);
    buf_append_str(out, "{\"model\":");
    json_put_str(out, str_from(model));
    buf_append_str(out, ",\"settings\":");
    json_put_value(out, declared);
    buf_append_char(out, '}');
    json_decref(declared);
}

/* The sentence's field is what stands in its first quotes. */
static void answer_setting(struct httpd_request *r, const struct err *err)
{
    struct api_error e;
    size_t n = err->msg[0] == '\'' ? strcspn(err->msg + 1, "'") : 0;
    api_error_from(&e, err);
    if (err->code == E_INVALID)
        snprintf(e.param, sizeof(e.param), "%.*s", (int)MIN_OF(n, sizeof(e.param) - 1),
                 err->msg + 1);
    api_error_answer(r, &e);
}

/* Declares what body says; with replace, of nothing else but it.  E_BUSY with when_idle. */
static int declare(struct api *a, const char *model, const json_t *body, const char *const *own,
                   bool replace, bool when_idle, struct model_settings *s, struct err *err)
{
    int rc = runner_settings_get(a->cfg.runner, model, s, err);
    if (rc == 0 && replace)
        model_settings_release(s);
    if (rc == 0)
        rc = manage_apply(s, body, own, err);
    if (rc == 0)
        rc = runner_settings_set(a->cfg.runner, model, s, when_idle, err);
    return rc;
}

void handle_configure(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const own[] = {"model", "settings", "replace", "when_idle", NULL};
    struct err err = ERR_INIT;
    bool absent, replace = false, when_idle = false;
    json_t *root = manage_body(r, NULL);
    const char *model =
        root ? manage_string(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    struct model_settings s;
    model_settings_init(&s);
    if (!model || !flag_or_answer(r, root, "replace", &replace) ||
        !flag_or_answer(r, root, "when_idle", &when_idle)) {
        /* answered */
    } else if (declare(a, model, root, own, replace, when_idle, &s, &err) < 0) {
        answer_setting(r, &err);
    } else {
        struct buf out;
        buf_init(&out, INFO_LIST_MAX_BYTES);
        put_declared(&s, model, &out);
        api_answer_json(r, 200, &out);
    }
    model_settings_release(&s);
    json_decref(root);
}

void handle_configured(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    struct err err = ERR_INIT;
    const char *model = httpd_query_value(r, "model"), *sep = "";
    if (!info_list(a, r, &list))
        return;
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    const struct model_info *m = model ? info_find(a, &list, model) : NULL;
    if (m) {
        put_declared(&m->settings, m->name, &out);
    } else if (model) {
        info_not_found(a, model, &err);
    } else {
        buf_append_str(&out, "{\"models\":[");
        for (size_t i = 0; i < list.n; i++) {
            buf_append_str(&out, sep);
            put_declared(&list.items[i].settings, list.items[i].name, &out);
            sep = ",";
        }
        buf_append_str(&out, "]}");
    }
    model_list_release(&list);
    if (err.code)
        api_answer_err(r, &err);
    else
        api_answer_json(r, 200, &out);
    buf_release(&out);
}

/* What a load may declare on its way: a template, and that the model stays. */
static int load_settings(struct api *a, const json_t *root, const char *model, struct err *err)
{
    static const char *const own[] = {"model", "stream", "keep_alive", NULL};
    struct model_settings s;
    model_settings_init(&s);
    int rc = 0;
    if (json_object_get(root, "chat_template") || json_object_get(root, "pinned"))
        rc = declare(a, model, root, own, false, false, &s, err);
    model_settings_release(&s);
    return rc;
}

void handle_load(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model",      "chat_template", "stream",
                                        "keep_alive", "pinned",        NULL};
    struct err err = ERR_INIT;
    struct run_options opt = {0};
    bool absent, stream = false;
    json_t *root = manage_body(r, known);
    const char *model =
        root ? manage_string(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    const json_t *keep = json_object_get(root, "keep_alive");
    if (!model || !flag_or_answer(r, root, "stream", &stream)) {
        json_decref(root);
        return;
    }
    opt.has_keep_alive = keep && !json_is_null(keep);
    if ((opt.has_keep_alive && api_keep_alive_read(keep, &opt.keep_alive_s, &err) < 0) ||
        load_settings(a, root, model, &err) < 0)
        answer_setting(r, &err);
    else
        load_start(a, r, model, &opt, stream ? LOAD_STREAM : LOAD_INFO);
    json_decref(root);
}

void handle_unload(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model", NULL};
    struct err err = ERR_INIT;
    bool absent, was_loaded = false;
    json_t *root = manage_body(r, known);
    const char *model =
        root ? manage_string(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (model && runner_unload(a->cfg.runner, model, &was_loaded, &err) < 0)
        api_answer_err(r, &err);
    else if (model)
        httpd_answer(r, 200, API_JSON,
                     was_loaded ? STR_LIT("{\"was_loaded\":true}")
                                : STR_LIT("{\"was_loaded\":false}"));
    json_decref(root);
}

void handle_shutdown(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    httpd_close_after(r);
    httpd_answer(r, 200, API_JSON, STR_LIT("{\"status\":\"stopping\"}"));
    if (a->cfg.shutdown)
        a->cfg.shutdown(a->cfg.ctx);
}
