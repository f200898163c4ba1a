/* SPDX-License-Identifier: Apache-2.0 */
/* The part of runner.h that speaks of models: making them known, listing them, their settings, and
 * unloading.  Folders are read on the caller's thread, the rest happens on the loop thread. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/runner/internal.h"
#include "lib/base/mem.h"

static int do_merge(struct runner *r, void *args, struct err *err)
{
    (void)err;
    models_merge(&r->models, args);
    return 0;
}

static void rescan(struct runner *r)
{
    struct model_files_found found;
    struct err err = ERR_INIT;
    models_scan(r->models_dirs, &found);
    int rc = runner_call(r, do_merge, &found, &err);
    BUG_ON(rc < 0);
    models_found_release(&found);
}

/* --- about one model
 * ------------------------------------------------------------------------------------------------
 */

struct with_model {
    const char *name;
    with_model_fn fn;
    void *args;       /* of fn */
    bool was_missing; /* out: reading the folders again may help */
};

static int do_with_model(struct runner *r, void *args, struct err *err)
{
    struct with_model *a = args;
    struct model *m = models_find(&r->models, str_from(a->name));
    a->was_missing = !m;
    if (r->is_stopping)
        return err_set(err, E_GONE, "the daemon is stopping");
    if (!m)
        return models_not_found(&r->models, str_from(a->name), r->models_dirs, err);
    return a->fn(r, m, a->args, err);
}

int runner_call_with_model(struct runner *r, const char *name, with_model_fn fn, void *args,
                           struct err *err)
{
    struct with_model a = {.name = name, .fn = fn, .args = args};
    struct err first = ERR_INIT;
    int rc = runner_call(r, do_with_model, &a, &first);
    if (rc == -E_NOTFOUND && a.was_missing) {
        rescan(r);
        return runner_call(r, do_with_model, &a, err);
    }
    if (rc < 0)
        *err = first;
    return rc;
}

struct register_args {
    struct model_file file;
    char *ret_name;
};

static int do_register(struct runner *r, void *args, struct err *err)
{
    struct register_args *a = args;
    struct model *m;
    int rc = models_register(&r->models, &a->file, &m, err);
    if (rc == 0)
        snprintf(a->ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%s", m->file.name);
    return rc;
}

int runner_register(struct runner *r, const char *path, const char *name, char *ret_name,
                    struct err *err)
{
    struct register_args a = {.ret_name = ret_name};
    if (path[0] != '/')
        return err_set(err, E_INVALID, "path %s is not absolute", path);
    int rc = model_file_look(path, name, &a.file, err);
    if (rc < 0)
        return rc;
    rescan(r); /* the name may mean a file in a folder */
    return runner_call(r, do_register, &a, err);
}

static int do_unload(struct runner *r, struct model *m, void *args, struct err *err)
{
    bool *was_loaded = args;
    struct err why = ERR_INIT;
    (void)err;
    m->failure.code = 0;
    *was_loaded = m->worker && m->worker->state != WORKER_ENDING;
    if (!*was_loaded)
        return 0;
    err_set(&why, E_GONE, "model %s was unloaded on request", m->file.name);
    worker_retire(m->worker, &why);
    model_fail_all(r, m, &why);
    return 0;
}

int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded, struct err *err)
{
    *ret_was_loaded = false;
    return runner_call_with_model(r, model, do_unload, ret_was_loaded, err);
}

/* --- settings
 * -----------------------------------------------------------------------------------------------------
 */

struct settings_args {
    struct model_settings settings;
    bool when_idle;
};

static int do_settings_set(struct runner *r, struct model *m, void *args, struct err *err)
{
    struct settings_args *a = args;
    bool reloads = m->worker && m->worker->state != WORKER_ENDING &&
                   model_settings_reload(&m->settings, &a->settings);
    if (reloads && a->when_idle && m->n_requests)
        return err_set(err, E_BUSY,
                       "model %s has %u requests running or waiting, and these settings would load "
                       "it anew; try again when it is idle",
                       m->file.name, m->n_requests);
    struct model_settings old = m->settings;
    m->settings = a->settings;
    a->settings = old; /* released by the caller */
    if (reloads) {
        struct err why = ERR_INIT;
        err_set(&why, E_GONE, "model %s was given other settings and is loaded anew", m->file.name);
        worker_retire(m->worker, &why);
        model_fail_all(r, m, &why);
    }
    return 0;
}

int runner_settings_set(struct runner *r, const char *model, const struct model_settings *s,
                        bool when_idle, struct err *err)
{
    struct settings_args a = {.when_idle = when_idle};
    if (s->chat_template_len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_LIMIT, "chat template has %zu bytes, more than %u",
                       s->chat_template_len, LIMIT_TEMPLATE_BYTES);
    int rc = model_settings_copy(&a.settings, s, err);
    if (rc < 0)
        return rc;
    rc = runner_call_with_model(r, model, do_settings_set, &a, err);
    model_settings_release(&a.settings);
    return rc;
}

static int do_settings_get(struct runner *r, struct model *m, void *args, struct err *err)
{
    (void)r;
    return model_settings_copy(args, &m->settings, err);
}

int runner_settings_get(struct runner *r, const char *model, struct model_settings *ret,
                        struct err *err)
{
    model_settings_init(ret);
    return runner_call_with_model(r, model, do_settings_get, ret, err);
}

/* --- the list
 * -----------------------------------------------------------------------------------------------------
 */

static void info_fill_worker(const struct worker *w, struct model_info *i)
{
    i->pid = (int)w->child.pid;
    i->state = w->state == WORKER_READY ? MODEL_READY : MODEL_LOADING;
    if (w->state != WORKER_READY)
        return;
    i->n_ctx = w->loaded.n_ctx;
    i->weight_bytes = w->loaded.weight_bytes;
    i->kv_bytes = w->loaded.kv_bytes;
    i->scratch_bytes = w->loaded.scratch_bytes;
    i->n_params = w->loaded.n_params;
    i->has_chat_template = w->loaded.has_chat_template;
    i->loaded_unix = w->loaded.at_unix;
    i->blocks_used = w->loaded.blocks_used;
    i->blocks_total = w->loaded.blocks_total;
    i->expires_in_s = RUN_FOREVER;
    memcpy(i->arch, w->loaded.arch, sizeof(i->arch));
    memcpy(i->quant, w->loaded.quant, sizeof(i->quant));
}

static int info_fill(const struct model *m, struct model_info *i, struct err *err)
{
    *i = (struct model_info){
        .name = mem_dup(m->file.name, strlen(m->file.name)),
        .path = mem_dup(m->file.path, strlen(m->file.path)),
        .state = m->failure.code ? MODEL_FAILED : MODEL_IDLE,
        .file_bytes = m->file.bytes,
        .modified_unix = m->file.modified_unix,
        .n_requests = m->n_taken,
        .n_prompt_tokens = m->n_prompt_tokens,
        .n_cached_tokens = m->n_cached_tokens,
        .n_generated_tokens = m->n_generated_tokens,
        .n_loads = m->n_loads,
        .n_crashes = m->n_crashes,
        .last_used_unix = m->last_used_unix,
    };
    if (m->failure.code)
        snprintf(i->failure, sizeof(i->failure), "%s", m->failure.msg);
    for (const struct run_request *q = m->first; q; q = q->next) {
        i->n_running += q->is_started;
        i->n_waiting += !q->is_started && q->kind == RUN_GENERATE;
    }
    if (m->worker && m->worker->state != WORKER_ENDING)
        info_fill_worker(m->worker, i);
    return model_settings_copy(&i->settings, &m->settings, err);
}

static int do_list(struct runner *r, void *args, struct err *err)
{
    struct model_list *l = args;
    l->items = mem_try_alloc(r->models.n, sizeof(*l->items), err);
    if (!l->items)
        return -err->code;
    for (const struct model *m = r->models.first; m; m = m->next) {
        int rc = info_fill(m, &l->items[l->n++], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int info_compare(const void *a, const void *b)
{
    return strcmp(((const struct model_info *)a)->name, ((const struct model_info *)b)->name);
}

int runner_list(struct runner *r, struct model_list *ret, struct err *err)
{
    struct model_list l = {0};
    rescan(r);
    int rc = runner_call(r, do_list, &l, err);
    if (rc < 0) {
        model_list_release(&l);
        return rc;
    }
    qsort(l.items, l.n, sizeof(*l.items), info_compare);
    *ret = l;
    return 0;
}

void model_list_release(struct model_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        mem_free(l->items[i].name);
        mem_free(l->items[i].path);
        model_settings_release(&l->items[i].settings);
    }
    mem_free(l->items);
    *l = (struct model_list){0};
}
