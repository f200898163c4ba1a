/* SPDX-License-Identifier: Apache-2.0 */
/* The played models: their list, their settings, what does not answer. */
#include "tests/support/played/runner.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

static const char *const fake_names[] = {"bytes", "crash",  "echo", "flood",    "late", "ns/words",
                                         "picky", "silent", "slow", "thinking", "words"};
int runner_new(const struct runner_config *cfg, struct runner **ret, struct err *err)
{
    (void)cfg;
    (void)err;
    struct runner *r = mem_alloc(sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    *ret = r;
    return 0;
}

void runner_stop(struct runner *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->is_stopping, true);
    for (struct play *p = r->plays; p; p = p->next)
        atomic_store(&p->canceled, true);
    while (r->n_running || r->n_tokens_jobs)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void runner_free(struct runner *r)
{
    runner_stop(r);
    for (size_t i = 0; i < ARRAY_LEN(r->settings); i++)
        model_settings_release(&r->settings[i]);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    mem_free(r);
}

bool played_knows(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(fake_names); i++) {
        if (strcmp(name, fake_names[i]) == 0)
            return true;
    }
    return strncmp(name, "fail-", 5) == 0 || strncmp(name, "refuse-", 7) == 0;
}

int runner_register(struct runner *r, const char *path, const char *name, char *ret_name,
                    struct err *err)
{
    (void)r;
    if (strcmp(path + strlen(path) - MIN_OF(strlen(path), 5), ".gguf") != 0)
        return err_set(err, E_INVALID, "%s does not end in .gguf", path);
    snprintf(ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%s", name ? name : "registered");
    return 0;
}

/* NULL: it keeps none. */
static struct model_settings *settings_of(struct runner *r, const char *model)
{
    for (size_t i = 0; i < ARRAY_LEN(fake_names); i++) {
        if (strcmp(model, fake_names[i]) == 0)
            return &r->settings[i];
    }
    return NULL;
}

int runner_settings_get(struct runner *r, const char *model, struct model_settings *ret,
                        struct err *err)
{
    model_settings_init(ret);
    if (!played_knows(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'; did you mean words?", model);
    pthread_mutex_lock(&r->lock);
    const struct model_settings *s = settings_of(r, model);
    int rc = s ? model_settings_copy(ret, s, err) : 0;
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int runner_resolve(struct runner *r, const char *name, bool partial, char *ret_name,
                   struct err *err)
{
    (void)r;
    (void)partial;
    size_t n = strlen(name);
    bool has_suffix = n > 5 && strcmp(name + n - 5, ".gguf") == 0;
    snprintf(ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%.*s", (int)(has_suffix ? n - 5 : n), name);
    if (!played_knows(ret_name))
        return err_set(err, E_NOTFOUND, "no model is called '%s'; did you mean words?", name);
    return 0;
}

int runner_give_up(struct runner *r, const char *digest, bool force, struct err *err)
{
    (void)r;
    (void)digest;
    (void)force;
    (void)err;
    return 0; /* there is no store here */
}

bool runner_uses(struct runner *r, const char *digest)
{
    (void)r;
    (void)digest;
    return false;
}

int runner_settings_set(struct runner *r, const char *model, const struct model_settings *s,
                        bool when_idle, struct err *err)
{
    if (!played_knows(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    if (s->chat_template_len == 3)
        return err_set(err, E_FORMAT, "bad template");
    pthread_mutex_lock(&r->lock);
    struct model_settings *mine = settings_of(r, model);
    int rc = 0;
    if (when_idle && strcmp(model, "slow") == 0 && r->n_running > 0) {
        rc = err_set(err, E_BUSY, "slow has requests");
    } else if (mine) {
        model_settings_release(mine);
        rc = model_settings_copy(mine, s, err);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int runner_list(struct runner *r, struct model_list *ret, struct err *err)
{
    (void)err;
    pthread_mutex_lock(&r->lock);
    ret->n = ARRAY_LEN(fake_names);
    ret->items = mem_alloc(ret->n * sizeof(*ret->items));
    for (size_t i = 0; i < ret->n; i++) {
        struct model_info *m = &ret->items[i];
        *m = (struct model_info){.name = mem_dup(fake_names[i], strlen(fake_names[i])),
                                 .path = mem_dup("/m.gguf", 7),
                                 .file_bytes = 1000,
                                 .modified_unix = 1700000000};
        if (strcmp(fake_names[i], "slow") == 0) { /* where tests look at what the runner was told */
            m->state = MODEL_READY;
            m->n_running = r->n_running;
            m->n_requests = r->n_canceled;
            m->pid = 1;
            m->n_ctx = 128;
            snprintf(m->arch, sizeof(m->arch), "fake");
            snprintf(m->quant, sizeof(m->quant), "F32");
            m->loaded_unix = 1700000001;
            m->last_used_unix = 1700000001;
            m->expires_in_s = RUN_FOREVER;
            snprintf(m->digest, sizeof(m->digest), "%s", FAKE_DIGEST);
        }
        BUG_ON(model_settings_copy(&m->settings, &r->settings[i], err) < 0);
    }
    pthread_mutex_unlock(&r->lock);
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
}

int runner_stats(struct runner *r, struct runner_stats *ret, struct err *err)
{
    (void)r;
    (void)err;
    *ret = (struct runner_stats){.n_loads = 1};
    return 0;
}

bool runner_is_ready(struct runner *r, char *ret_why, size_t size)
{
    (void)r;
    (void)ret_why;
    (void)size;
    return true;
}

bool runner_has_room(struct runner *r, char *ret_why, size_t size)
{
    (void)r;
    (void)ret_why;
    (void)size;
    return true;
}

bool runner_is_alive(struct runner *r, uint32_t limit_ms)
{
    (void)r;
    (void)limit_ms;
    return true;
}

int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded, struct err *err)
{
    (void)r;
    if (!played_knows(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    *ret_was_loaded = strcmp(model, "slow") == 0;
    return 0;
}
