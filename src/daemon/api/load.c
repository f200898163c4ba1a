/* SPDX-License-Identifier: Apache-2.0 */
/* Implements load.h.  Progress comes on the runner's loop thread, which must not be asked anything
 * from there: the answer that needs a list of models is given on an HTTP thread. */
#include "daemon/api/load.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "daemon/api/info.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/net/sse.h"

#define KEEP_ALIVE_MS 15000u

struct load {
    struct api *api;
    struct httpd_request *r;
    char *model; /* owned */
    enum load_kind kind;
    pthread_mutex_t lock; /* guards everything below */
    bool begun, ended;
};

static void load_free(void *ctx)
{
    struct load *l = ctx;
    pthread_mutex_destroy(&l->lock);
    mem_free(l->model);
    mem_free(l);
}

static void send_locked(struct load *l, const struct buf *out)
{
    if (!l->begun) {
        l->begun = true;
        httpd_set_header(l->r, "Cache-Control", "no-cache");
        httpd_set_header(l->r, "X-Accel-Buffering", "no");
        httpd_stream_begin(l->r, 200, "text/event-stream; charset=utf-8");
    }
    int rc =
        out->failed ? -out->failed : httpd_stream_write(l->r, (struct str){out->data, out->len});
    (void)rc; /* who is not listening any more misses nothing: the load goes on */
}

/* What a watched request (a completion that only loads) tells of its end. */
static void tell_end(struct load *l, int status)
{
    struct api_call *c = api_call_of(l->r);
    struct watch_record rec = {.model = l->model, .status = status};
    if (c->is_watched)
        api_watch_end(c, &rec);
}

static void fail_locked(struct load *l, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    l->ended = true;
    if (l->begun) {
        struct buf out;
        buf_init(&out, 16 * ERR_MSG_MAX);
        buf_append_str(&out, "data: ");
        api_error_put(&out, &e);
        buf_append_str(&out, "\n\n");
        send_locked(l, &out);
        buf_release(&out);
        httpd_stream_end(l->r);
    } else {
        api_error_answer(l->r, &e);
    }
    tell_end(l, e.status);
}

/* HTTP thread. */
static void load_answer(void *ctx)
{
    struct load *l = ctx;
    struct model_list list = {0};
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    int rc = runner_list(l->api->cfg.runner, &list, &err);
    const struct model_info *m = rc == 0 ? info_find(l->api, &list, l->model) : NULL;
    if (l->kind == LOAD_STREAM)
        buf_append_str(&out, "data: ");
    if (m)
        info_put(m, &out);
    else
        buf_append_str(&out, "{}"); /* it was taken away meanwhile */
    if (l->kind == LOAD_STREAM)
        buf_append_str(&out, "\n\n");
    pthread_mutex_lock(&l->lock);
    if (rc < 0) {
        fail_locked(l, &err);
    } else if (l->kind == LOAD_STREAM) {
        send_locked(l, &out);
        httpd_stream_end(l->r);
    } else {
        api_answer_json(l->r, 200, &out);
    }
    l->ended = true;
    pthread_mutex_unlock(&l->lock);
    model_list_release(&list);
    buf_release(&out);
}

static void put_progress(const struct gen_event *ev, struct buf *out)
{
    buf_append_str(out, "data: {\"what\":");
    json_put_str(out, ev->text);
    buf_printf(out, ",\"done\":%llu,\"total\":%llu}\n\n", (unsigned long long)ev->done,
               (unsigned long long)ev->total);
}

static void progress(struct load *l, const struct gen_event *ev)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    put_progress(ev, &out);
    pthread_mutex_lock(&l->lock);
    if (!l->ended)
        send_locked(l, &out);
    pthread_mutex_unlock(&l->lock);
    buf_release(&out);
}

/* Loop thread. */
static void load_event(void *ctx, const struct gen_event *ev)
{
    struct load *l = ctx;
    struct err err = ERR_INIT;
    if (ev->type == GEN_EVENT_FAILED) {
        err_set(&err, (enum err_code)(ev->code > 0 && ev->code < E_N_CODES ? ev->code : E_INTERNAL),
                "%.*s", STR_ARG(ev->message));
        pthread_mutex_lock(&l->lock);
        fail_locked(l, &err);
        pthread_mutex_unlock(&l->lock);
    } else if (ev->type == GEN_EVENT_DONE && l->kind == LOAD_SILENT) {
        httpd_answer(l->r, 200, NULL, STR_LIT(""));
        tell_end(l, 200);
    } else if (ev->type == GEN_EVENT_DONE) {
        httpd_run_later(l->r, load_answer, l);
    } else {
        if (ev->type == GEN_EVENT_PROGRESS && l->kind == LOAD_STREAM)
            progress(l, ev);
        return;
    }
    httpd_request_unref(l->r);
}

static void load_quiet(void *ctx)
{
    struct load *l = ctx;
    struct buf out;
    buf_init(&out, 64);
    sse_put_comment(&out, STR_LIT("keep-alive"));
    pthread_mutex_lock(&l->lock);
    if (!l->ended)
        send_locked(l, &out);
    pthread_mutex_unlock(&l->lock);
    buf_release(&out);
}

void load_start(struct api *a, struct httpd_request *r, const char *model,
                const struct run_options *opt, enum load_kind kind)
{
    struct err err = ERR_INIT;
    struct api_call *c = api_call_of(r);
    struct load *l = mem_alloc(sizeof(*l));
    *l = (struct load){.api = a, .r = r, .kind = kind, .model = mem_dup(model, strlen(model))};
    pthread_mutex_init(&l->lock, NULL);
    c->job = l;
    c->job_free = load_free;
    if (kind == LOAD_STREAM)
        httpd_on_quiet(r, a->cfg.keep_alive_ms ? a->cfg.keep_alive_ms : KEEP_ALIVE_MS, load_quiet,
                       l);
    httpd_request_ref(r);
    if (runner_load(a->cfg.runner, l->model, opt, load_event, l, &err) < 0) {
        pthread_mutex_lock(&l->lock);
        fail_locked(l, &err);
        pthread_mutex_unlock(&l->lock);
        httpd_request_unref(r);
    }
}
