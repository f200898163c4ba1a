/* SPDX-License-Identifier: Apache-2.0 */
/* The part of runner.h that speaks of models: making them known, listing them, their settings, and
 * unloading.  Folders are read on the caller's thread, the rest happens on the loop thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define GIVE_UP_TICK_MS 10u
#define GIVE_UP_MS      30000u /* longer than a worker may take to end */

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
    shelf_scan(r->shelf, &found);
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
    bool was_missing; /* out: looking into folders and store again may help */
    /* What name means in the store, and which bytes that are now; "": nothing. */
    char stored[LIMIT_MODEL_NAME_BYTES + 1];
    char digest[OCI_DIGEST_CHARS + 1];
};

void models_moved(struct model *m)
{
    m->settings.pinned = false;
    m->has_keep_alive = true;
    m->keep_alive_s = 0;
    if (m->worker)
        m->worker->log.model_name = m->file.name;
    idle_update(m);
}

/* A file's name is the file's; else the store says which bytes are meant, now. */
static struct model *find(struct runner *r, const struct with_model *a)
{
    struct model *m = models_find(&r->models, str_from(a->name));
    if (m && !m->file.digest[0])
        return m;
    m = a->stored[0] ? models_find(&r->models, str_from(a->stored)) : NULL;
    return m && strcmp(m->file.digest, a->digest) == 0 ? m : NULL;
}

/* With how to have it, where a registry may have it. */
static int not_found(struct runner *r, const char *name, struct err *err)
{
    struct oci_reference ref;
    struct err why = ERR_INIT;
    int rc = models_not_found(&r->models, str_from(name), r->models_dirs, err);
    size_t n = strlen(err->msg);
    if (r->cfg.store && oci_reference_parse(str_from(name), NULL, &ref, &why) == 0 &&
        n + strlen(name) < sizeof(err->msg) - 64)
        snprintf(err->msg + n, sizeof(err->msg) - n,
                 "%s `berth pull %s` brings one of that name from its registry",
                 n && err->msg[n - 1] == '?' ? "" : ";", name);
    return rc;
}

static int do_with_model(struct runner *r, void *args, struct err *err)
{
    struct with_model *a = args;
    struct model *m = find(r, a);
    a->was_missing = !m;
    if (r->is_stopping)
        return err_set(err, E_STOPPING, "the daemon is stopping");
    if (!m)
        return not_found(r, a->name, err);
    return a->fn(r, m, a->args, err);
}

/* What name means in the store; nothing, when that cannot be told, is all the same here. */
static void resolve(struct runner *r, struct with_model *a)
{
    struct err ignored = ERR_INIT;
    if (shelf_find(r->shelf, a->name, false, a->stored, a->digest, &ignored) < 0)
        a->stored[0] = '\0';
}

int runner_call_with_model(struct runner *r, const char *name, with_model_fn fn, void *args,
                           struct err *err)
{
    struct with_model a = {.name = name, .fn = fn, .args = args};
    struct err first = ERR_INIT;
    resolve(r, &a);
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
    supervise_reset(m);
    m->failure.code = 0;
    m->has_keep_alive = false;
    /* Without a worker its requests wait for one: what it is unpacked from, or a restart's pause.
     */
    *was_loaded = m->worker ? m->worker->state != WORKER_ENDING : m->n_requests > 0;
    if (!*was_loaded)
        return 0;
    err_set(&why, E_UNLOADED, "model %s was unloaded on request", m->file.name);
    if (m->worker)
        worker_retire(m->worker, &why);
    model_fail_all(r, m, &why);
    return 0;
}

int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded, struct err *err)
{
    *ret_was_loaded = false;
    return runner_call_with_model(r, model, do_unload, ret_was_loaded, err);
}

/* --- models of the store
 * ----------------------------------------------------------------------------------------------
 */

static int do_name(struct runner *r, struct model *m, void *args, struct err *err)
{
    (void)r;
    (void)err;
    snprintf(args, LIMIT_MODEL_NAME_BYTES + 1, "%s", m->file.name);
    return 0;
}

int runner_resolve(struct runner *r, const char *name, bool partial, char *ret, struct err *err)
{
    char part[LIMIT_MODEL_NAME_BYTES + 1], digest[OCI_DIGEST_CHARS + 1];
    struct err ignored = ERR_INIT;
    int rc = runner_call_with_model(r, name, do_name, ret, err);
    if (rc == -E_NOTFOUND && partial &&
        shelf_find(r->shelf, name, true, part, digest, &ignored) == 0)
        rc = runner_call_with_model(r, part, do_name, ret, err);
    return rc;
}

struct give_up {
    const char *digest;
    bool force;
    bool is_left; /* out: a worker still has it */
};

/* Whether m is the model of this digest, or its worker has that model to guess for it. */
static bool has_digest(const struct model *m, const char *digest)
{
    return strcmp(m->file.digest, digest) == 0 ||
           (m->worker && strcmp(m->worker->draft.digest, digest) == 0);
}

static int do_give_up(struct runner *r, void *args, struct err *err)
{
    struct give_up *g = args;
    struct err why = ERR_INIT;
    for (const struct model *m = r->models.first; m && !g->force; m = m->next) {
        if (has_digest(m, g->digest) &&
            (m->n_requests || (m->worker && m->worker->state == WORKER_LOADING)))
            return err_set(err, E_EXISTS,
                           "model %s is in use (%u running or waiting); end it with `berth rm "
                           "--force`, or ?force=true, or wait",
                           m->file.name, m->n_requests);
    }
    err_set(&why, E_UNLOADED, "the model was removed");
    g->is_left = false;
    for (struct model *m = r->models.first; m; m = m->next) {
        if (!has_digest(m, g->digest))
            continue;
        if (m->worker && m->worker->state != WORKER_ENDING)
            worker_retire(m->worker, &why);
        model_fail_all(r, m, &why);
        g->is_left |= m->worker != NULL;
    }
    return 0;
}

int runner_give_up(struct runner *r, const char *digest, bool force, struct err *err)
{
    struct give_up g = {.digest = digest, .force = force};
    for (unsigned i = 0; i < GIVE_UP_MS / GIVE_UP_TICK_MS; i++) {
        int rc = runner_call(r, do_give_up, &g, err);
        if (rc < 0 || !g.is_left)
            return rc;
        usleep(GIVE_UP_TICK_MS * 1000);
    }
    return err_set(err, E_TIMEOUT, "the model's worker does not end");
}

static int do_is_used(struct runner *r, void *args, struct err *err)
{
    struct give_up *g = args;
    (void)err;
    for (const struct model *m = r->models.first; m; m = m->next) {
        const struct worker *w = m->worker; /* one that ends needs nothing any more */
        const bool is_live = w && w->state != WORKER_ENDING;
        g->is_left |= (has_digest(m, g->digest) && (is_live || m->first)) ||
                      (is_live && (strcmp(w->digest, g->digest) == 0 ||
                                   strcmp(w->draft.file_digest, g->digest) == 0));
    }
    return 0;
}

bool runner_uses(struct runner *r, const char *digest)
{
    struct give_up g = {.digest = digest};
    struct err err = ERR_INIT;
    return runner_call(r, do_is_used, &g, &err) == 0 && g.is_left;
}

/* --- settings
 * -----------------------------------------------------------------------------------------------------
 */

struct settings_args {
    const struct model_settings *given;
    struct model_settings settings; /* a copy, the model's in the end */
    bool when_idle;
    char name[LIMIT_MODEL_NAME_BYTES + 1]; /* out: as the model is called */
    json_t *declared;                      /* all models' */
};

static bool must_reload(const struct model *m, const struct model_settings *new)
{
    return m->worker && m->worker->state != WORKER_ENDING &&
           model_settings_reload(&m->settings, new);
}

static int do_settings_check(struct runner *r, struct model *m, void *args, struct err *err)
{
    struct settings_args *a = args;
    (void)r;
    snprintf(a->name, sizeof(a->name), "%s", m->file.name);
    if (must_reload(m, a->given) && a->when_idle && m->n_requests)
        return err_set(err, E_BUSY,
                       "model %s has %u requests running or waiting, and these settings would load "
                       "it anew; try again when it is idle",
                       m->file.name, m->n_requests);
    return 0;
}

static int do_settings_set(struct runner *r, struct model *m, void *args, struct err *err)
{
    struct settings_args *a = args;
    int rc = do_settings_check(r, m, a, err);
    if (rc < 0)
        return rc;
    bool reloads = must_reload(m, &a->settings);
    struct model_settings old = m->settings;
    m->settings = a->settings;
    a->settings = old; /* released by the caller */
    json_t *declared = r->declared;
    r->declared = json_incref(a->declared);
    json_decref(declared);
    m->has_keep_alive = false; /* what was declared last counts */
    supervise_reset(m);
    if (reloads) {
        struct err why = ERR_INIT;
        err_set(&why, E_UNLOADED, "model %s was given other settings and is loaded anew",
                m->file.name);
        worker_retire(m->worker, &why);
        model_fail_all(r, m, &why);
    } else if (m->worker && m->worker->state == WORKER_READY) {
        fingerprint_make(m->worker);
    } else if (!m->worker) {
        model_serve(r, m); /* what waited in the pause before a restart, which is over */
    }
    idle_update(m);
    prepare_declared(m);
    return 0;
}

/* Written first: what counts is on the disk.  If the model has become busy meanwhile, it is written
 * back as it was. */
static int settings_set_locked(struct runner *r, const char *model, struct settings_args *a,
                               struct err *err)
{
    struct err ignored = ERR_INIT;
    int rc = runner_call_with_model(r, model, do_settings_check, a, err);
    struct model_settings old;
    if (rc == 0)
        rc = state_get(r->state.models, a->name, &old, err);
    if (rc < 0)
        return rc;
    rc = state_put(&r->state, a->name, a->given, err);
    if (rc == 0) {
        a->declared = r->state.models;
        rc = runner_call_with_model(r, a->name, do_settings_set, a, err);
        if (rc < 0 && state_put(&r->state, a->name, &old, &ignored) < 0)
            log_error("settings of model %s: %s", a->name, ignored.msg);
    }
    model_settings_release(&old);
    return rc;
}

/* A draft model that is newly declared must be there; one declared before may have gone since. */
static int draft_check(struct runner *r, const char *model, const struct model_settings *s,
                       struct err *err)
{
    const char *draft = s->speculative_draft_model;
    char name[LIMIT_MODEL_NAME_BYTES + 1];
    struct model_settings old;
    struct model_file file;
    int rc = draft ? runner_settings_get(r, model, &old, err) : 0;
    if (rc < 0 || !draft)
        return rc;
    const bool is_new =
        !old.speculative_draft_model || strcmp(old.speculative_draft_model, draft) != 0;
    model_settings_release(&old);
    if (!is_new)
        return 0;
    if (draft[0] != '/') {
        rc = runner_resolve(r, draft, false, name, err);
    } else {
        rc = model_file_look(draft, NULL, &file, err);
        if (rc == 0)
            model_file_release(&file);
    }
    return rc < 0 ? err_wrap(err, "'speculative-draft-model'") : 0;
}

int runner_settings_set(struct runner *r, const char *model, const struct model_settings *s,
                        bool when_idle, struct err *err)
{
    struct settings_args a = {.given = s, .when_idle = when_idle};
    if (s->chat_template_len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_LIMIT, "chat template has %zu bytes, more than %u",
                       s->chat_template_len, LIMIT_TEMPLATE_BYTES);
    int rc = draft_check(r, model, s, err);
    if (rc == 0)
        rc = model_settings_copy(&a.settings, s, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&r->state_lock);
    rc = settings_set_locked(r, model, &a, err);
    pthread_mutex_unlock(&r->state_lock);
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
    if (!w->model->is_broken)
        i->state = w->state == WORKER_READY ? MODEL_READY : MODEL_LOADING;
    if (w->state != WORKER_READY)
        return;
    i->n_ctx = w->loaded.n_ctx;
    i->weight_bytes = w->loaded.weight_bytes;
    i->kv_bytes = w->loaded.kv_bytes;
    i->scratch_bytes = w->loaded.scratch_bytes;
    const struct prepared_state *own = &w->prepared.of[WEIGHTS_OF_MODEL],
                                *drafts = &w->prepared.of[WEIGHTS_OF_DRAFT];
    prepare_describe(w, WEIGHTS_OF_MODEL, i->prepared);
    i->prepared_bytes = own->is_attached ? own->n_bytes : 0;
    prepare_describe(w, WEIGHTS_OF_DRAFT, i->draft_prepared);
    i->draft_prepared_bytes = drafts->is_attached ? drafts->n_bytes : 0;
    i->draft_weight_bytes = w->loaded.draft_weight_bytes;
    i->draft_model = w->draft.name ? mem_dup(w->draft.name, strlen(w->draft.name)) : NULL;
    i->draft_refusal =
        w->draft.refusal ? mem_dup(w->draft.refusal, strlen(w->draft.refusal)) : NULL;
    i->n_params = w->loaded.n_params;
    i->has_chat_template = w->loaded.has_chat_template;
    i->loaded_unix = w->loaded.at_unix;
    i->blocks_used = w->loaded.blocks_used;
    i->blocks_total = w->loaded.blocks_total;
    i->n_preemptions = w->loaded.n_preemptions;
    i->n_drafted = w->loaded.n_drafted;
    i->n_accepted = w->loaded.n_accepted;
    i->expires_in_s = idle_expires_in_s(w->model);
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
        .is_stored = m->file.digest[0] != '\0',
        .is_moved = m->is_moved,
        .facts = m->file.facts,
        .n_requests = m->n_taken,
        .n_prompt_tokens = m->n_prompt_tokens,
        .n_cached_tokens = m->n_cached_tokens,
        .n_generated_tokens = m->n_generated_tokens,
        .n_loads = m->n_loads,
        .n_crashes = m->n_crashes,
        .last_used_unix = m->last_used_unix,
    };
    memcpy(i->digest, m->digest, sizeof(m->digest));
    if (m->is_broken) {
        i->state = MODEL_BROKEN;
        i->retry_in_s = supervise_retry_in_s(m);
    }
    if (m->unpacking[0] && m->first)
        i->state = MODEL_LOADING;
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
        mem_free(l->items[i].draft_model);
        mem_free(l->items[i].draft_refusal);
        model_settings_release(&l->items[i].settings);
    }
    mem_free(l->items);
    *l = (struct model_list){0};
}
