/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's own routes, and unloading. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/api/api_impl.h"
#include "daemon/api/body.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define LIST_MAX_BYTES (64u << 20)

static const char *const state_names[] = {[MODEL_IDLE] = "idle",
                                          [MODEL_LOADING] = "loading",
                                          [MODEL_READY] = "ready",
                                          [MODEL_FAILED] = "failed",
                                          [MODEL_BROKEN] = "broken"};

static void answer_err(struct httpd_request *r, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    api_error_answer(r, &e);
}

/* The body as an object (new reference), or NULL and the request is answered.  Keys that are not in
 * known, which ends with NULL, are refused. */
static json_t *body_or_answer(struct httpd_request *r, const char *const *known)
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
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i]) {
            api_refuse(&e, key, "unknown_parameter", "'%s' is not a parameter here", key);
            api_error_answer(r, &e);
            json_decref(root);
            return NULL;
        }
    }
    return root;
}

/* A string field of root as a C string.  NULL and the request is answered when it is missing (if
 * required) or of another type, empty or not plain; NULL and *absent when it may be missing and is.
 */
static const char *string_or_answer(struct httpd_request *r, const json_t *root, const char *name,
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

static void put_info(const struct model_info *m, struct buf *out)
{
    buf_append_str(out, "{\"name\":");
    json_put_str(out, str_from(m->name));
    buf_append_str(out, ",\"path\":");
    json_put_str(out, str_from(m->path));
    buf_printf(out, ",\"state\":\"%s\",\"file_bytes\":%llu,\"modified_unix\":%lld",
               state_names[m->state], (unsigned long long)m->file_bytes,
               (long long)m->modified_unix);
    if (m->state == MODEL_READY) {
        buf_printf(
            out,
            ",\"pid\":%d,\"n_ctx\":%u,\"n_running\":%u,\"n_waiting\":%u,\"weight_bytes\":%llu,"
            "\"kv_bytes\":%llu,\"scratch_bytes\":%llu,\"n_params\":%llu,\"has_chat_template\":%s,"
            "\"loaded_unix\":%lld,"
            "\"n_requests\":%llu,\"arch\":",
            m->pid, m->n_ctx, m->n_running, m->n_waiting, (unsigned long long)m->weight_bytes,
            (unsigned long long)m->kv_bytes, (unsigned long long)m->scratch_bytes,
            (unsigned long long)m->n_params, m->has_chat_template ? "true" : "false",
            (long long)m->loaded_unix, (unsigned long long)m->n_requests);
        json_put_str(out, str_from(m->arch));
        buf_append_str(out, ",\"quant\":");
        json_put_str(out, str_from(m->quant));
    }
    buf_append_char(out, '}');
}

void handle_manage_models(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    struct err err = ERR_INIT;
    if (runner_list(a->cfg.runner, &list, &err) < 0) {
        answer_err(r, &err);
        return;
    }
    struct buf out;
    buf_init(&out, LIST_MAX_BYTES);
    buf_append_str(&out, "{\"models\":[");
    for (size_t i = 0; i < list.n; i++) {
        if (i)
            buf_append_char(&out, ',');
        put_info(&list.items[i], &out);
    }
    buf_append_str(&out, "]}");
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}

void handle_status(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct timespec ts;
    struct httpd_stats stats = {0};
    struct httpd *h = atomic_load(&a->httpd);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    if (h)
        httpd_stats(h, &stats);
    struct buf out;
    buf_init(&out, LIST_MAX_BYTES);
    buf_printf(
        &out,
        "{\"version\":\"%s\",\"pid\":%d,\"uptime_s\":%llu,\"connections\":%u,\"requests\":%u,"
        "\"models_dirs\":[",
        BERTH_VERSION, (int)getpid(),
        (unsigned long long)((uint64_t)ts.tv_sec - a->started_us / 1000000), stats.n_connections,
        stats.n_requests);
    const char *sep = "";
    for (const char *s = a->cfg.models_dirs ? a->cfg.models_dirs : ""; *s;) {
        size_t n = strcspn(s, ":");
        if (n > 0) {
            buf_append_str(&out, sep);
            json_put_str(&out, (struct str){s, n});
            sep = ",";
        }
        s += n + (s[n] == ':');
    }
    buf_append_str(&out, "]}");
    api_answer_json(r, 200, &out);
}

void handle_register(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"path", "name", NULL};
    struct err err = ERR_INIT;
    bool absent;
    json_t *root = body_or_answer(r, known);
    const char *path =
        root ? string_or_answer(r, root, "path", true, LIMIT_PATH_BYTES, &absent) : NULL;
    const char *name =
        path ? string_or_answer(r, root, "name", false, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
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
        answer_err(r, &err);
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

/* Declares the template of body's chat_template, if there is one; null: the model's own. */
static int set_template(struct api *a, const json_t *root, const char *model, struct err *err)
{
    struct str text = {"", 0};
    const json_t *v = json_object_get(root, "chat_template");
    if (!v)
        return 0;
    if (json_field_str(root, "chat_template", &text, err) < 0)
        return -err->code;
    if (text.len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_INVALID, "'chat_template' has %zu bytes, more than %u", text.len,
                       LIMIT_TEMPLATE_BYTES);
    struct model_settings s;
    int rc = runner_settings_get(a->cfg.runner, model, &s, err);
    if (rc < 0)
        return rc;
    mem_free(s.chat_template);
    s.chat_template = text.len ? mem_dup(text.p, text.len) : NULL;
    s.chat_template_len = text.len;
    rc = runner_settings_set(a->cfg.runner, model, &s, false, err);
    model_settings_release(&s);
    return rc;
}

void handle_configure(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model", "chat_template", NULL};
    struct err err = ERR_INIT;
    bool absent;
    json_t *root = body_or_answer(r, known);
    const char *model =
        root ? string_or_answer(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (model && set_template(a, root, model, &err) < 0)
        answer_err(r, &err);
    else if (model)
        httpd_answer(r, 200, API_JSON, STR_LIT("{}"));
    json_decref(root);
}

/* A load that is waited for; hangs on its request. */
struct load {
    struct api *api;
    struct httpd_request *r;
    char *model; /* the request's arena */
};

static void load_answer(void *ctx)
{
    struct load *l = ctx;
    struct model_list list;
    struct err err = ERR_INIT;
    if (runner_list(l->api->cfg.runner, &list, &err) < 0) {
        answer_err(l->r, &err);
        return;
    }
    struct buf out;
    buf_init(&out, LIST_MAX_BYTES);
    for (size_t i = 0; i < list.n; i++) {
        if (strcmp(list.items[i].name, l->model) == 0)
            put_info(&list.items[i], &out);
    }
    if (out.len == 0)
        buf_append_str(&out, "{}"); /* known by another of its names */
    model_list_release(&list);
    api_answer_json(l->r, 200, &out);
}

/* Loop thread: the runner must not be asked from here, so an HTTP thread answers. */
static void load_event(void *ctx, const struct gen_event *ev)
{
    struct load *l = ctx;
    struct err err = ERR_INIT;
    if (ev->type == GEN_EVENT_FAILED) {
        err_set(&err, (enum err_code)(ev->code > 0 && ev->code < E_N_CODES ? ev->code : E_INTERNAL),
                "%.*s", STR_ARG(ev->message));
        answer_err(l->r, &err);
    } else if (ev->type == GEN_EVENT_DONE) {
        httpd_run_later(l->r, load_answer, l);
    } else {
        return;
    }
    httpd_request_unref(l->r);
}

void handle_load(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model", "chat_template", NULL};
    struct err err = ERR_INIT;
    bool absent;
    json_t *root = body_or_answer(r, known);
    const char *model =
        root ? string_or_answer(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (!model) {
        json_decref(root);
        return;
    }
    struct load *l = arena_try_alloc(httpd_arena(r), sizeof(*l), &err);
    char *name = l ? arena_try_dup(httpd_arena(r), model, strlen(model), &err) : NULL;
    if (name && set_template(a, root, name, &err) == 0) {
        *l = (struct load){a, r, name};
        httpd_request_ref(r);
        if (runner_load(a->cfg.runner, name, NULL, load_event, l, &err) < 0)
            httpd_request_unref(r);
    }
    if (err.code)
        answer_err(r, &err);
    json_decref(root);
}

void handle_unload(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"model", NULL};
    struct err err = ERR_INIT;
    bool absent, was_loaded = false;
    json_t *root = body_or_answer(r, known);
    const char *model =
        root ? string_or_answer(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (model && runner_unload(a->cfg.runner, model, &was_loaded, &err) < 0)
        answer_err(r, &err);
    else if (model)
        httpd_answer(r, 200, API_JSON,
                     was_loaded ? STR_LIT("{\"was_loaded\":true}")
                                : STR_LIT("{\"was_loaded\":false}"));
    json_decref(root);
}

/* Unloads what is loaded and idle ("all" leaves busy models alone, as Docker Model Runner does). */
static int unload_all(struct api *a, struct err *err)
{
    struct model_list list;
    int n = 0;
    if (runner_list(a->cfg.runner, &list, err) < 0)
        return -err->code;
    for (size_t i = 0; i < list.n; i++) {
        const struct model_info *m = &list.items[i];
        bool was_loaded = false;
        struct err each = ERR_INIT;
        if (m->state == MODEL_READY && !m->n_running && !m->n_waiting &&
            runner_unload(a->cfg.runner, m->name, &was_loaded, &each) == 0)
            n += was_loaded;
    }
    model_list_release(&list);
    return n;
}

static int unload_named(struct api *a, const json_t *models, struct err *err)
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(models); i++) {
        const char *name = json_string_value(json_array_get(models, i));
        bool was_loaded = false;
        if (!name)
            return err_set(err, E_INVALID, "'models' must be an array of names; item %zu is %s", i,
                           json_kind(json_array_get(models, i)));
        if (runner_unload(a->cfg.runner, name, &was_loaded, err) < 0)
            return -err->code;
        n += was_loaded;
    }
    return n;
}

void handle_engines_unload(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"all", "backend", "models", NULL};
    struct err err = ERR_INIT;
    bool all = false;
    const json_t *models = NULL;
    json_t *root = body_or_answer(r, known);
    if (!root)
        return;
    int n = 0;
    if (json_field_bool(root, "all", &all, &err) < 0 ||
        json_field_arr(root, "models", &models, &err) < 0)
        n = -1;
    else if (!all && !models)
        n = err_set(&err, E_INVALID, "say which: {\"models\": [\"NAME\"]} or {\"all\": true}");
    else
        n = all ? unload_all(a, &err) : unload_named(a, models, &err);
    if (n < 0) {
        answer_err(r, &err);
    } else {
        char text[64];
        snprintf(text, sizeof(text), "{\"unloaded_runners\":%d}", n);
        httpd_answer(r, 200, API_JSON, str_from(text));
    }
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
