/* SPDX-License-Identifier: Apache-2.0 */
/* Docker Model Runner's service routes, in its shapes: what runs, what it takes, unloading, and
 * configuring a model by engine flags. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/api/openai/body.h"
#include "daemon/api/flags.h"
#include "daemon/api/info.h"
#include "daemon/api/manage.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define ENGINE "llama.cpp" /* the track of GGUF models, as clients call it */

static bool is_busy(const struct model_info *m)
{
    return m->n_running || m->n_waiting || m->state == MODEL_LOADING;
}

void handle_engines_status(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)a;
    (void)rest;
    httpd_answer(r, 200, API_JSON,
                 STR_LIT("{\"" ENGINE "\":\"Running: berth " BERTH_VERSION "\","
                         "\"vllm\":\"Not Installed\",\"diffusers\":\"Not Installed\"}"));
}

/* As Go prints a time.Duration. */
static void put_duration(uint64_t s, struct buf *out)
{
    if (s == RUN_FOREVER)
        buf_append_str(out, "-1");
    else if (s >= 3600)
        buf_printf(out, "%lluh%llum%llus", (unsigned long long)s / 3600,
                   (unsigned long long)s / 60 % 60, (unsigned long long)s % 60);
    else if (s >= 60)
        buf_printf(out, "%llum%llus", (unsigned long long)s / 60, (unsigned long long)s % 60);
    else
        buf_printf(out, "%llus", (unsigned long long)s);
}

static void put_runner(const struct model_info *m, struct buf *out)
{
    /* Go's zero time, which its clients take for "now in use" */
    char stamp[32] = "0001-01-01T00:00:00Z";
    struct tm tm;
    time_t used = (time_t)MAX_OF(m->last_used_unix, m->loaded_unix);
    if (!is_busy(m) && gmtime_r(&used, &tm))
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_append_str(out, "{\"backend_name\":\"" ENGINE "\",\"model_name\":");
    json_put_str(out, str_from(m->name));
    buf_printf(out, ",\"mode\":\"completion\",\"last_used\":\"%s\"%s%s", stamp,
               m->n_running || m->n_waiting ? ",\"in_use\":true" : "",
               m->state == MODEL_LOADING ? ",\"loading\":true" : "");
    if (m->settings.has_keep_alive || m->settings.pinned) {
        buf_append_str(out, ",\"keep_alive\":\"");
        put_duration(m->settings.pinned ? RUN_FOREVER : m->settings.keep_alive_s, out);
        buf_append_char(out, '"');
    }
    buf_append_char(out, '}');
}

void handle_engines_ps(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    if (!info_list(a, r, &list))
        return;
    struct buf out;
    const char *sep = "";
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_append_char(&out, '[');
    for (size_t i = 0; i < list.n; i++) {
        const struct model_info *m = &list.items[i];
        if (m->state != MODEL_READY && m->state != MODEL_LOADING)
            continue;
        buf_append_str(&out, sep);
        put_runner(m, &out);
        sep = ",";
    }
    buf_append_char(&out, ']');
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}

void handle_engines_df(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    struct stat self;
    uint64_t sum = 0;
    char text[128];
    if (!info_list(a, r, &list))
        return;
    for (size_t i = 0; i < list.n; i++)
        sum += list.items[i].file_bytes;
    model_list_release(&list);
    snprintf(text, sizeof(text), "{\"models_disk_usage\":%llu,\"default_backend_disk_usage\":%llu}",
             (unsigned long long)sum,
             stat("/proc/self/exe", &self) == 0 ? (unsigned long long)self.st_size : 0ull);
    httpd_answer(r, 200, API_JSON, str_from(text));
}

/* Unloads m unless it is in use; 1 when it did. */
static int unload_idle(struct api *a, const struct model_info *m)
{
    struct err err = ERR_INIT;
    bool was_loaded = false;
    if (m->state != MODEL_READY || is_busy(m))
        return 0;
    return runner_unload(a->cfg.runner, m->name, &was_loaded, &err) == 0 && was_loaded;
}

/* How many were unloaded, or a negative code.  models NULL: all. */
static int unload(struct api *a, const json_t *models, struct err *err)
{
    struct model_list list;
    int n = 0, rc = 0;
    if (runner_list(a->cfg.runner, &list, err) < 0)
        return -err->code;
    for (size_t i = 0; !models && i < list.n; i++)
        n += unload_idle(a, &list.items[i]);
    for (size_t i = 0; rc == 0 && i < json_array_size(models); i++) {
        const char *name = json_string_value(json_array_get(models, i));
        const struct model_info *m = name ? info_find(a, &list, name) : NULL;
        if (!name)
            rc = err_set(err, E_INVALID, "'models' must be an array of names; item %zu is %s", i,
                         json_kind(json_array_get(models, i)));
        else if (!m)
            rc = info_not_found(a, name, err);
        else
            n += unload_idle(a, m);
    }
    model_list_release(&list);
    return rc < 0 ? rc : n;
}

void handle_engines_unload(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {"all", "backend", "models", NULL};
    struct err err = ERR_INIT;
    bool all = false;
    const json_t *models = NULL;
    struct str backend = STR_LIT(ENGINE);
    json_t *root = manage_body(r, known);
    int n = -1;
    if (!root)
        return;
    if (json_field_bool(root, "all", &all, &err) >= 0 &&
        json_field_arr(root, "models", &models, &err) >= 0 &&
        json_field_str(root, "backend", &backend, &err) >= 0) {
        if (!all && !models)
            err_set(&err, E_INVALID, "say which: {\"models\": [\"NAME\"]} or {\"all\": true}");
        else if (backend.len && !str_is(backend, ENGINE))
            n = 0; /* an engine that nothing runs on */
        else
            n = unload(a, all ? NULL : models, &err);
    }
    if (n < 0) {
        api_answer_err(r, &err);
    } else {
        char text[64];
        snprintf(text, sizeof(text), "{\"unloaded_runners\":%d}", n);
        httpd_answer(r, 200, API_JSON, str_from(text));
    }
    json_decref(root);
}

/* --- configure --- */

/* The flags of a configure body as settings: "runtime-flags", or else "raw-runtime-flags". */
static int read_flags(const json_t *root, json_t *settings, struct err *err)
{
    const json_t *flags = NULL;
    struct str raw = {NULL, 0};
    json_t *split = NULL;
    int rc = json_field_arr(root, "runtime-flags", &flags, err);
    if (rc == 0)
        rc = json_field_str(root, "raw-runtime-flags", &raw, err);
    if (rc > 0 && !flags)
        rc = flags_split(raw, &split, err);
    if (rc >= 0)
        rc = flags_read(flags ? flags : split, settings, err);
    json_decref(split);
    return rc;
}

/* Docker Model Runner's "not said" of a number. */
static bool is_zero(const json_t *v)
{
    return !v || json_is_null(v) || (json_is_number(v) && json_number_value(v) == 0);
}

/* Docker Model Runner's object.  Without a draft model, guesses come from the text itself. */
static int read_speculative(const json_t *v, json_t *settings, struct err *err)
{
    const json_t *draft = json_object_get(v, "draft_model"),
                 *rate = json_object_get(v, "min_acceptance_rate"),
                 *n = json_object_get(v, "num_tokens");
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return err_set(err, E_INVALID, "'speculative' must be an object");
    if (draft && !json_is_null(draft))
        json_object_set(settings, "speculative-draft-model", (json_t *)(uintptr_t)draft);
    if (!is_zero(n))
        json_object_set(settings, "speculative-num-tokens", (json_t *)(uintptr_t)n);
    if (!is_zero(rate))
        json_object_set(settings, "speculative-min-acceptance-rate", (json_t *)(uintptr_t)rate);
    return 0;
}

int dmr_read_configure(const json_t *root, json_t *settings, struct err *err)
{
    struct str mode = STR_LIT("completion");
    const json_t *size = json_object_get(root, "context-size");
    const json_t *keep = json_object_get(root, "keep_alive");
    int rc = json_field_str(root, "mode", &mode, err);
    if (rc >= 0 && mode.len && !str_is(mode, "completion"))
        rc = err_set(err, E_UNSUPPORTED,
                     "'mode' must be \"completion\": models complete texts here");
    if (rc >= 0)
        rc = read_flags(root, settings, err);
    if (rc >= 0)
        rc = read_speculative(json_object_get(root, "speculative"), settings, err);
    for (size_t i = 0; rc >= 0 && i < 2; i++) {
        static const char *const names[] = {"vllm", "llamacpp"};
        const json_t *v = json_object_get(root, names[i]);
        if (v && !json_is_null(v) && !json_is_object(v))
            rc = err_set(err, E_INVALID, "'%s' must be an object, not %s", names[i], json_kind(v));
        else if (json_object_size(v))
            rc = err_set(err, E_UNSUPPORTED,
                         "'%s' of '%s' cannot be set: this engine, which runs GGUF files on the "
                         "processor, has no such thing; leave it out",
                         json_object_iter_key(json_object_iter((json_t *)(uintptr_t)v)), names[i]);
    }
    if (rc >= 0 && json_is_integer(size) && json_integer_value(size) == -1)
        size = NULL; /* the model's own */
    if (rc >= 0 && size && !json_is_null(size))
        json_object_set(settings, "context-size", (json_t *)size);
    if (rc >= 0 && keep && !json_is_null(keep))
        json_object_set(settings, "keep-alive", (json_t *)keep);
    return rc < 0 ? rc : 0;
}

static void preload_event(void *ctx, const struct gen_event *ev)
{
    (void)ctx;
    if (ev->type == GEN_EVENT_FAILED)
        log_warn("loading a model after it was configured: %.*s", STR_ARG(ev->message));
}

/* Replaces all that such a body can say; the template stays, which it cannot. */
static int configure(struct api *a, const char *model, const json_t *settings, struct err *err)
{
    struct model_settings old, new;
    int rc = runner_settings_get(a->cfg.runner, model, &old, err);
    if (rc < 0)
        return rc;
    model_settings_init(&new);
    new.chat_template = old.chat_template;
    new.chat_template_len = old.chat_template_len;
    new.pinned = old.pinned;
    old.chat_template = NULL;
    rc = model_settings_apply(&new, settings, err);
    if (rc == 0)
        rc = runner_settings_set(a->cfg.runner, model, &new, true, err);
    model_settings_release(&old);
    model_settings_release(&new);
    return rc;
}

void handle_engines_configure(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    static const char *const known[] = {
        "model",       "mode", "raw-runtime-flags", "keep_alive", "runtime-flags", "context-size",
        "speculative", "vllm", "llamacpp",          NULL};
    struct err err = ERR_INIT, ignored = ERR_INIT;
    struct api_error e;
    bool absent;
    json_t *root = manage_body(r, known), *settings = json_object();
    const char *model =
        root ? manage_string(r, root, "model", true, LIMIT_MODEL_NAME_BYTES, &absent) : NULL;
    if (model &&
        (dmr_read_configure(root, settings, &err) < 0 || configure(a, model, settings, &err) < 0)) {
        api_error_from(&e, &err);
        if (err.code == E_BUSY) { /* what its clients know */
            e.status = 409;
            e.code = "runner_active";
        }
        api_error_answer(r, &e);
    } else if (model) {
        if (runner_load(a->cfg.runner, model, NULL, preload_event, NULL, &ignored) < 0)
            log_info("%s is configured, and not loaded: %s", model, ignored.msg);
        httpd_answer(r, 202, NULL, STR_LIT(""));
    }
    json_decref(settings);
    json_decref(root);
}

static void put_configured(const struct model_info *m, struct buf *out)
{
    json_t *declared = model_settings_json(&m->settings);
    json_object_del(declared, "chat-template"); /* large, and no flag of theirs */
    buf_append_str(out, "{\"Backend\":\"" ENGINE "\",\"Model\":");
    json_put_str(out, str_from(m->name));
    buf_append_str(out, ",\"ModelID\":");
    json_put_str(out, str_from(m->digest));
    buf_append_str(out, ",\"Mode\":\"completion\",\"Config\":");
    json_put_value(out, declared);
    buf_append_char(out, '}');
    json_decref(declared);
}

static bool is_configured(const struct model_info *m)
{
    json_t *declared = model_settings_json(&m->settings);
    bool any = json_object_size(declared) > 0;
    json_decref(declared);
    return any;
}

void handle_engines_configured(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    const char *model = httpd_query_value(r, "model"), *sep = "";
    if (!info_list(a, r, &list))
        return;
    const struct model_info *wanted = model ? info_find(a, &list, model) : NULL;
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_append_char(&out, '[');
    for (size_t i = 0; i < list.n; i++) {
        if (!is_configured(&list.items[i]) || (model && &list.items[i] != wanted))
            continue;
        buf_append_str(&out, sep);
        put_configured(&list.items[i], &out);
        sep = ",";
    }
    buf_append_char(&out, ']');
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}
