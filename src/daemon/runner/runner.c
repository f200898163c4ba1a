/* SPDX-License-Identifier: Apache-2.0 */
/* Implements runner.h: the loop thread, and how calls from other threads reach it.
 *
 * A call is checked and encoded on the caller's thread, folders are read there too; then a task
 * runs on the loop thread while the caller waits.  Called from the loop thread itself (inside an
 * event callback), it runs at once. */
#include "daemon/runner/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define DEFAULT_LOAD_TIMEOUT_S 600u
#define DEFAULT_HANG_TIMEOUT_S 60u

/* A function to run on the loop thread, with its answer. */
struct call {
    struct runner *r;
    int (*fn)(struct runner *r, void *args, struct err *err);
    void *args;
    struct err *err;
    int rc;
    struct loop_task task;
    pthread_mutex_t lock;
    pthread_cond_t returned;
    bool has_returned;
};

static void call_run(void *ctx)
{
    struct call *c = ctx;
    int rc = c->fn(c->r, c->args, c->err);
    pthread_mutex_lock(&c->lock);
    c->rc = rc;
    c->has_returned = true;
    pthread_cond_signal(&c->returned);
    pthread_mutex_unlock(&c->lock);
}

static int call(struct runner *r, int (*fn)(struct runner *, void *, struct err *), void *args,
                struct err *err)
{
    if (pthread_equal(pthread_self(), r->thread))
        return fn(r, args, err);
    struct call c = {.r = r, .fn = fn, .args = args, .err = err, .task = {.fn = call_run}};
    c.task.ctx = &c;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.returned, NULL);
    loop_post(r->loop, &c.task);
    pthread_mutex_lock(&c.lock);
    while (!c.has_returned)
        pthread_cond_wait(&c.returned, &c.lock);
    pthread_mutex_unlock(&c.lock);
    pthread_cond_destroy(&c.returned);
    pthread_mutex_destroy(&c.lock);
    return c.rc;
}

/* --- models
 * ----------------------------------------------------------------------------------------------------
 */

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
    int rc = call(r, do_merge, &found, &err);
    BUG_ON(rc < 0);
    models_found_release(&found);
}

struct with_model {
    const char *name;
    bool was_missing; /* out: reading the folders again may help */
    struct run_request *request;
    struct str text;
    bool was_loaded;
};

static int model_get(struct runner *r, struct with_model *a, struct model **ret, struct err *err)
{
    *ret = models_find(&r->models, str_from(a->name));
    a->was_missing = !*ret;
    if (r->is_stopping)
        return err_set(err, E_GONE, "the daemon is stopping");
    return *ret ? 0 : models_not_found(&r->models, str_from(a->name), r->models_dirs, err);
}

/* Runs fn, and once more after looking into the folders if it did not find the model. */
static int call_with_model(struct runner *r, int (*fn)(struct runner *, void *, struct err *),
                           struct with_model *a, struct err *err)
{
    struct err first = ERR_INIT;
    int rc = call(r, fn, a, &first);
    if (rc == -E_NOTFOUND && a->was_missing) {
        rescan(r);
        return call(r, fn, a, err);
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
    return call(r, do_register, &a, err);
}

static int do_set_template(struct runner *r, void *args, struct err *err)
{
    struct with_model *a = args;
    struct model *m;
    struct err why = ERR_INIT;
    int rc = model_get(r, a, &m, err);
    if (rc < 0 || str_eq((struct str){m->chat_template, m->chat_template_len}, a->text))
        return rc;
    mem_free(m->chat_template);
    m->chat_template = a->text.len ? mem_dup(a->text.p, a->text.len) : NULL;
    m->chat_template_len = a->text.len;
    if (m->worker) {
        err_set(&why, E_GONE, "model %s was given another chat template and is loaded anew",
                m->file.name);
        worker_retire(m->worker, &why);
        model_fail_all(r, m, &why);
    }
    return 0;
}

int runner_set_template(struct runner *r, const char *model, struct str chat_template,
                        struct err *err)
{
    struct with_model a = {.name = model, .text = chat_template};
    if (chat_template.len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_LIMIT, "chat template has %zu bytes, more than %u", chat_template.len,
                       LIMIT_TEMPLATE_BYTES);
    return call_with_model(r, do_set_template, &a, err);
}

static void info_fill(const struct model *m, struct model_info *i)
{
    const struct worker *w = m->worker;
    *i = (struct model_info){
        .name = mem_dup(m->file.name, strlen(m->file.name)),
        .path = mem_dup(m->file.path, strlen(m->file.path)),
        .state = m->has_failed ? MODEL_FAILED : MODEL_IDLE,
        .file_bytes = m->file.bytes,
        .modified_unix = m->file.modified_unix,
        .n_requests = m->n_taken,
    };
    for (const struct run_request *q = m->first; q; q = q->next) {
        i->n_running += q->is_started;
        i->n_waiting += !q->is_started && !q->is_load;
    }
    if (!w || w->state == WORKER_ENDING)
        return;
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
    memcpy(i->arch, w->loaded.arch, sizeof(i->arch));
    memcpy(i->quant, w->loaded.quant, sizeof(i->quant));
}

static int do_list(struct runner *r, void *args, struct err *err)
{
    struct model_list *l = args;
    l->items = mem_try_alloc(r->models.n, sizeof(*l->items), err);
    if (!l->items)
        return -err->code;
    for (const struct model *m = r->models.first; m; m = m->next)
        info_fill(m, &l->items[l->n++]);
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
    int rc = call(r, do_list, &l, err);
    if (rc < 0)
        return rc;
    qsort(l.items, l.n, sizeof(*l.items), info_compare);
    *ret = l;
    return 0;
}

void model_list_release(struct model_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        mem_free(l->items[i].name);
        mem_free(l->items[i].path);
    }
    mem_free(l->items);
    *l = (struct model_list){0};
}

/* --- requests
 * --------------------------------------------------------------------------------------------------
 */

static int do_enqueue(struct runner *r, void *args, struct err *err)
{
    struct with_model *a = args;
    struct run_request *q = a->request;
    struct model *m;
    int rc = model_get(r, a, &m, err);
    if (rc < 0)
        return rc;
    if (m->n_requests >= LIMIT_REQUESTS_QUEUED ||
        q->payload.len > LIMIT_REQUESTS_QUEUED_BYTES - m->queued_bytes)
        return err_set(
            err, E_BUSY,
            "model %s has %u requests running and waiting, as many as it may; try again later",
            m->file.name, m->n_requests);
    run_request_add(r, m, q);
    model_serve(r, m);
    return 0;
}

static int enqueue(struct runner *r, const char *model, struct run_request *q, struct err *err)
{
    struct with_model a = {.name = model, .request = q};
    int rc = call_with_model(r, do_enqueue, &a, err);
    if (rc < 0)
        run_request_free(q);
    return rc;
}

static struct run_request *run_request_new(struct runner *r, runner_event_fn fn, void *ctx)
{
    struct run_request *q = mem_alloc(sizeof(*q));
    q->id = atomic_fetch_add(&r->next_id, 1);
    q->fn = fn;
    q->ctx = ctx;
    buf_init(&q->payload, LIMIT_MSG_BYTES);
    return q;
}

/* A seed that clients can be shown: JSON numbers are exact up to 2^53. */
static int seed_draw(uint64_t *ret, struct err *err)
{
    if (getrandom(ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
        return err_set_sys(err, E_IO, "no random seed could be drawn");
    *ret &= (1ull << 53) - 1;
    return 0;
}

static int run_request_prepare(struct runner *r, struct gen_request *req, struct run_request *q,
                               struct err *err)
{
    (void)r;
    int rc = gen_request_check(req, err);
    if (rc == 0 && !req->params.has_seed) {
        rc = seed_draw(&req->params.seed, err);
        req->params.has_seed = rc == 0;
    }
    if (rc == 0)
        rc = msg_generate_encode(&q->payload, q->id, req, err);
    q->n_choices = q->n_open = req->params.n;
    q->n_stops = req->n_stops;
    return rc;
}

int runner_generate(struct runner *r, const char *model, struct gen_request *req,
                    runner_event_fn fn, void *ctx, uint64_t *ret_id, struct err *err)
{
    struct run_request *q = run_request_new(r, fn, ctx);
    int rc = run_request_prepare(r, req, q, err);
    gen_request_release(req);
    if (rc < 0) {
        run_request_free(q);
        return rc;
    }
    *ret_id = q->id; /* before: events may come before enqueue returns */
    return enqueue(r, model, q, err);
}

int runner_load(struct runner *r, const char *model, runner_event_fn fn, void *ctx, struct err *err)
{
    struct run_request *q = run_request_new(r, fn, ctx);
    q->is_load = true;
    return enqueue(r, model, q, err);
}

struct cancel {
    struct loop_task task;
    struct runner *r;
    uint64_t id;
};

static void do_cancel(void *ctx)
{
    struct cancel *c = ctx;
    struct run_request *q = run_request_find(c->r, c->id);
    if (q && !q->is_canceled) {
        q->is_canceled = true;
        if (!q->is_sent)
            run_request_end_canceled(c->r, q);
        else if (q->model->worker)
            worker_cancel(q->model->worker, q->id);
    }
    mem_free(c);
}

/* Never waits: a callback may be waiting for a lock that the caller holds. */
void runner_cancel(struct runner *r, uint64_t id)
{
    struct cancel *c = mem_alloc(sizeof(*c));
    *c = (struct cancel){.task = {.fn = do_cancel, .ctx = c}, .r = r, .id = id};
    loop_post(r->loop, &c->task);
}

static int do_unload(struct runner *r, void *args, struct err *err)
{
    struct with_model *a = args;
    struct model *m;
    struct err why = ERR_INIT;
    int rc = model_get(r, a, &m, err);
    if (rc < 0)
        return rc;
    m->has_failed = false;
    a->was_loaded = m->worker && m->worker->state != WORKER_ENDING;
    if (!a->was_loaded)
        return 0;
    err_set(&why, E_GONE, "model %s was unloaded on request", m->file.name);
    worker_retire(m->worker, &why);
    model_fail_all(r, m, &why);
    return 0;
}

int runner_unload(struct runner *r, const char *model, bool *ret_was_loaded, struct err *err)
{
    struct with_model a = {.name = model};
    int rc = call_with_model(r, do_unload, &a, err);
    *ret_was_loaded = rc == 0 && a.was_loaded;
    return rc;
}

/* --- life
 * ------------------------------------------------------------------------------------------------------
 */

static void *runner_main(void *ctx)
{
    struct runner *r = ctx;
    struct err err = ERR_INIT;
    if (loop_run(r->loop, &err) < 0)
        log_error("runner: %s", err.msg);
    return NULL;
}

static void runner_release(struct runner *r)
{
    models_release(&r->models);
    loop_free(r->loop);
    mem_free(r->models_dirs);
    mem_free(r->cpu_level);
    mem_free(r);
}

/* Signals belong to the daemon's main thread: this one, and every process it starts, begins with
 * all blocked or reset. */
static int thread_start(struct runner *r, struct err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&r->thread, NULL, runner_main, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = rc;
    return rc ? err_set_sys(err, E_NOMEM, "the runner's thread") : 0;
}

int runner_new(const struct runner_config *cfg, struct runner **ret_runner, struct err *err)
{
    struct runner *r = mem_alloc(sizeof(*r));
    const char *dirs = cfg->models_dirs ? cfg->models_dirs : "",
               *level = cfg->cpu_level ? cfg->cpu_level : "";
    r->cfg = *cfg;
    r->models_dirs = mem_dup(dirs, strlen(dirs));
    r->cpu_level = mem_dup(level, strlen(level));
    r->cfg.models_dirs = r->models_dirs;
    r->cfg.cpu_level = r->cpu_level;
    r->cfg.load_timeout_s = cfg->load_timeout_s ? cfg->load_timeout_s : DEFAULT_LOAD_TIMEOUT_S;
    r->cfg.hang_timeout_s = cfg->hang_timeout_s ? cfg->hang_timeout_s : DEFAULT_HANG_TIMEOUT_S;
    /* What the machine has in all: a stated bound, not what happens to be free. */
    r->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    atomic_init(&r->next_id, 1);
    int rc = loop_new(&r->loop, err);
    if (rc == 0)
        rc = thread_start(r, err);
    if (rc < 0)
        runner_release(r);
    else
        *ret_runner = r;
    return rc;
}

static int do_stop(struct runner *r, void *args, struct err *err)
{
    struct err why = ERR_INIT;
    (void)args;
    (void)err;
    r->is_stopping = true;
    err_set(&why, E_GONE, "the daemon is stopping");
    for (struct model *m = r->models.first; m; m = m->next)
        model_fail_all(r, m, &why);
    for (struct worker *w = r->workers; w; w = w->next)
        worker_retire(w, &why);
    if (!r->workers)
        loop_stop(r->loop);
    return 0;
}

void runner_free(struct runner *r)
{
    struct err err = ERR_INIT;
    if (!r)
        return;
    int rc = call(r, do_stop, NULL, &err);
    BUG_ON(rc < 0);
    pthread_join(r->thread, NULL);
    runner_release(r);
}
