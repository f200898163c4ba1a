/* SPDX-License-Identifier: Apache-2.0 */
/* The draft model of a worker: which one is meant, and its files.  Loop thread.
 *
 * It is no model of its own here: it has no worker and no requests, its memory is part of the plan
 * of the worker that holds it, and its files are held as long as that is. */
#include <stdio.h>
#include <string.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

const char *draft_of(const struct model *m)
{
    const struct model_settings *set = &m->settings;
    const char *common = m->runner->cfg.draft_model;
    if (set->has_speculative_num_tokens && set->speculative_num_tokens == 0)
        return NULL;
    if (set->speculative_draft_model)
        return set->speculative_draft_model;
    /* The daemon's own is for all models but itself. */
    return common && common[0] && strcmp(common, m->file.name) != 0 &&
                   strcmp(common, m->file.path) != 0
               ? common
               : NULL;
}

/* What is declared of it as a model of its own. */
static void take_declared(struct worker *w, const char *name)
{
    struct model_settings s;
    struct err ignored = ERR_INIT;
    if (state_get(w->runner->declared, name, &s, &ignored) < 0)
        return;
    w->draft.no_prepare = s.no_prepare;
    model_settings_release(&s);
}

/* m: the model of that path, if it is known as one. */
static int file_open(struct worker *w, const char *path, const struct model *m, struct err *err)
{
    w->draft.path = mem_dup(path, strlen(path));
    if (m)
        take_declared(w, m->file.name);
    return model_files_open(path, &w->draft.files, err);
}

static const struct model *model_of_path(const struct runner *r, const char *path)
{
    const struct model *m = r->models.first;
    while (m && (m->file.digest[0] || strcmp(m->file.path, path) != 0))
        m = m->next;
    return m;
}

/* The file beside the store that name says; NULL: it is the store's, or nobody's.  *ret_m: the
 * model known under it, or NULL. */
static const char *file_of(const struct runner *r, const char *name, const struct model **ret_m)
{
    const bool is_path = name[0] == '/';
    const struct model *m =
        is_path ? model_of_path(r, name) : models_find(&r->models, str_from(name));
    *ret_m = m;
    return is_path ? name : m && !m->file.digest[0] ? m->file.path : NULL;
}

bool draft_digest(const struct model *m, char ret[OCI_DIGEST_CHARS + 1])
{
    const struct runner *r = m->runner;
    const char *name = draft_of(m);
    char stored[LIMIT_MODEL_NAME_BYTES + 1];
    struct err ignored = ERR_INIT;
    const struct model *d;
    return name && r->cfg.store && !file_of(r, name, &d) &&
           shelf_find(r->shelf, name, false, stored, ret, &ignored) == 0;
}

static int stored_open(struct worker *w, const char *name, struct err *err)
{
    struct store *s = w->runner->cfg.store;
    char stored[LIMIT_MODEL_NAME_BYTES + 1];
    struct store_model m = {0};
    struct err ignored = ERR_INIT;
    if (!s || shelf_find(w->runner->shelf, name, false, stored, w->draft.digest, &ignored) < 0)
        return models_not_found(&w->runner->models, str_from(name), w->runner->models_dirs, err);
    take_declared(w, stored);
    int rc = store_model_read(s, w->draft.digest, &m, err);
    if (rc == 0 && strcmp(m.format, "gguf") != 0)
        rc = err_set(err, E_UNSUPPORTED, "%s is a %s model, and only GGUF models are loaded", name,
                     m.format);
    if (rc == 0)
        rc = store_model_open(s, &m, &w->draft.opened, err);
    store_model_release(&m);
    return rc < 0 ? rc : model_files_copy(&w->draft.opened.files, &w->draft.files, err);
}

int draft_open(struct worker *w, struct err *err)
{
    const char *name = draft_of(w->model);
    if (!name)
        return 0;
    const struct model *m;
    const char *path = file_of(w->runner, name, &m);
    int rc = path ? file_open(w, path, m, err) : stored_open(w, name, err);
    if (rc == 0 && w->files.n + w->draft.files.n > LIMIT_MSG_FDS)
        rc = err_set(err, E_LIMIT, "it and the model have %u files; at most %u can be opened",
                     w->files.n + w->draft.files.n, LIMIT_MSG_FDS);
    if (rc < 0)
        return err_wrap(err, "the draft model %.200s of %.200s", name, w->model->file.name);
    w->draft.name = mem_dup(name, strlen(name));
    w->draft.is_common = !w->model->settings.speculative_draft_model;
    log_info("model %s: %s guesses its tokens", w->model->file.name, name);
    return 0;
}

void draft_hand_over(struct worker *w)
{
    struct model_files *f = &w->files, *d = &w->draft.files;
    const uint32_t n = f->n + d->n;
    if (d->n == 0)
        return;
    struct model_files all = {
        .n = n, .fds = mem_alloc(n * sizeof(*all.fds)), .paths = mem_alloc(n * sizeof(*all.paths))};
    for (uint32_t i = 0; i < n; i++) {
        all.fds[i] = i < f->n ? f->fds[i] : d->fds[i - f->n];
        all.paths[i] = i < f->n ? f->paths[i] : d->paths[i - f->n];
    }
    f->n = d->n = 0; /* what they name is all's now */
    model_files_close(f);
    model_files_close(d);
    *f = all;
}

static void let_go(struct worker *w)
{
    model_files_close(&w->draft.files);
    if (w->runner->cfg.store)
        store_model_close(w->runner->cfg.store, &w->draft.opened);
    mem_free(w->draft.name);
    mem_free(w->draft.path);
    w->draft.name = w->draft.path = NULL;
    w->draft.digest[0] = w->draft.file_digest[0] = '\0';
}

void draft_refused(struct worker *w, struct str why)
{
    struct err text = ERR_INIT;
    err_set(&text, E_INVALID, "%.*s", STR_ARG(why)); /* cleans it, too */
    err_wrap(&text, "%.100s", w->draft.name ? w->draft.name : "");
    log_warn("model %s is loaded without the draft model that is set for all: %s",
             w->model->file.name, text.msg);
    w->draft.refusal = mem_dup(text.msg, strlen(text.msg));
    let_go(w);
}

void draft_set_digest(struct worker *w, const char *digest)
{
    if (!w->draft.name) /* left away meanwhile */
        return;
    snprintf(w->draft.file_digest, sizeof(w->draft.file_digest), "%s", digest);
    prepare_next(w->runner);
}

void draft_close(struct worker *w)
{
    let_go(w);
    mem_free(w->draft.refusal);
    w->draft.refusal = NULL;
}
