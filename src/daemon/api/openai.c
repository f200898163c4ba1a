/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/completions and /v1/chat/completions: from a request to a running generation and back.
 *
 * A job hangs on its HTTP request and dies with it.  The runner's loop thread holds a reference
 * until the last event; the job's lock orders its events against keep-alives, which come from a
 * thread of httpd. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/api/api_impl.h"
#include "daemon/api/shape.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/net/sse.h"

#define KEEP_ALIVE_MS   15000u
#define CHUNK_MAX_BYTES (16u << 20) /* one chunk: a delta of the worker is at most 1 MiB */

struct job {
    struct api *api;
    struct httpd_request *r; /* the job hangs on its call */
    bool stream;
    atomic_ullong run_id; /* the runner's, 0 until known */
    atomic_bool gone;     /* the client has left */
    pthread_mutex_t lock; /* guards everything below */
    struct shape shape;
    struct shape_usage usage;
    struct buf out; /* one event's chunks */
    bool begun, ended;
};

static void job_free(void *ctx)
{
    struct job *j = ctx;
    shape_release(&j->shape);
    buf_release(&j->out);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}

/* Either this or the thread that stores the id sees the other's write, so that one of them cancels.
 */
static void job_gone(void *ctx)
{
    struct job *j = ctx;
    atomic_store(&j->gone, true);
    uint64_t id = atomic_load(&j->run_id);
    if (id)
        runner_cancel(j->api->cfg.runner, id);
}

static void stream_begin_locked(struct job *j)
{
    if (j->begun)
        return;
    j->begun = true;
    httpd_set_header(j->r, "Cache-Control", "no-cache");
    httpd_set_header(j->r, "X-Accel-Buffering", "no");
    httpd_stream_begin(j->r, 200, "text/event-stream; charset=utf-8");
}

/* Sends what out holds; a client that cannot take it is one that has left. */
static void stream_flush_locked(struct job *j)
{
    int rc = j->out.failed ? -j->out.failed : 0;
    if (rc == 0 && j->out.len > 0)
        rc = httpd_stream_write(j->r, (struct str){j->out.data, j->out.len});
    if (rc == -E_LIMIT)
        log_warn("a client reads its stream too slowly and is dropped");
    if (rc < 0 && !atomic_load(&j->gone))
        job_gone(j);
    buf_clear(&j->out);
}

static void job_quiet(void *ctx)
{
    struct job *j = ctx;
    pthread_mutex_lock(&j->lock);
    if (!j->ended) {
        stream_begin_locked(j);
        sse_put_comment(&j->out, STR_LIT("keep-alive"));
        stream_flush_locked(j);
    }
    pthread_mutex_unlock(&j->lock);
}

static void fail_locked(struct job *j, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    j->ended = true;
    if (j->begun) {
        buf_clear(&j->out);
        buf_append_str(&j->out, "data: ");
        api_error_put(&j->out, &e);
        buf_append_str(&j->out, "\n\n");
        stream_flush_locked(j);
        httpd_stream_end(j->r);
    } else {
        api_error_answer(j->r, &e);
    }
}

static void set_timing(struct job *j, const struct gen_event *ev)
{
    char text[128];
    snprintf(text, sizeof(text), "queue;dur=%.1f, prefill;dur=%.1f, decode;dur=%.1f", ev->queue_ms,
             ev->prefill_ms, ev->decode_ms);
    httpd_set_header(j->r, "Server-Timing", text);
}

static void done_locked(struct job *j, const struct gen_event *ev)
{
    struct err err = ERR_INIT;
    j->usage = (struct shape_usage){ev->n_prompt, ev->n_cached, ev->n_generated};
    if (ev->finish == GEN_FINISH_CANCEL || atomic_load(&j->gone)) {
        err_set(&err, E_CANCELED, "the request was canceled");
        fail_locked(j, &err);
        return;
    }
    if (j->stream) {
        stream_begin_locked(j);
        if (j->shape.include_usage)
            shape_chunk_usage(&j->shape, &j->usage, &j->out);
        buf_append_str(&j->out, "data: [DONE]\n\n");
        stream_flush_locked(j);
        j->ended = true;
        httpd_stream_end(j->r);
        return;
    }
    if (shape_status(&j->shape, &err) < 0) {
        fail_locked(j, &err);
        return;
    }
    struct buf out;
    buf_init(&out, 2 * (size_t)LIMIT_ANSWER_BYTES);
    shape_whole(&j->shape, &j->usage, &out);
    set_timing(j, ev);
    j->ended = true;
    api_answer_json(j->r, 200, &out);
}

static void stream_event_locked(struct job *j, const struct gen_event *ev)
{
    switch (ev->type) {
    case GEN_EVENT_STARTED:
        stream_begin_locked(j);
        for (uint32_t i = 0; i < j->shape.n; i++)
            shape_chunk_role(&j->shape, i, &j->out);
        break;
    case GEN_EVENT_DELTA:
        stream_begin_locked(j);
        shape_chunk_delta(&j->shape, ev, &j->out);
        break;
    case GEN_EVENT_CHOICE_DONE:
        stream_begin_locked(j);
        shape_chunk_finish(&j->shape, ev->choice, ev->finish, &j->out);
        break;
    case GEN_EVENT_DONE:
    case GEN_EVENT_FAILED:
    case GEN_EVENT_PROGRESS: break;
    }
    stream_flush_locked(j);
}

/* What a worker may not say: it is not trusted. */
static bool event_is_sound(const struct job *j, const struct gen_event *ev)
{
    bool of_choice = ev->type == GEN_EVENT_DELTA || ev->type == GEN_EVENT_CHOICE_DONE;
    return !of_choice || ev->choice < j->shape.n;
}

/* A choice that ended by cancel or error has no finish_reason to show: DONE or FAILED tells. */
static bool is_shown(const struct gen_event *ev)
{
    return ev->type != GEN_EVENT_CHOICE_DONE || ev->finish == GEN_FINISH_STOP ||
           ev->finish == GEN_FINISH_LENGTH;
}

static void job_event(void *ctx, const struct gen_event *ev)
{
    struct job *j = ctx;
    struct err err = ERR_INIT;
    bool last = ev->type == GEN_EVENT_DONE || ev->type == GEN_EVENT_FAILED;
    pthread_mutex_lock(&j->lock);
    if (j->ended || !event_is_sound(j, ev)) {
        /* nothing more to say */
    } else if (ev->type == GEN_EVENT_FAILED) {
        err_set(&err, (enum err_code)(ev->code > 0 && ev->code < E_N_CODES ? ev->code : E_INTERNAL),
                "%.*s", STR_ARG(ev->message));
        fail_locked(j, &err);
    } else if (ev->type == GEN_EVENT_DONE) {
        done_locked(j, ev);
    } else if (is_shown(ev)) {
        if (j->stream)
            stream_event_locked(j, ev);
        else if (ev->type == GEN_EVENT_DELTA)
            shape_collect(&j->shape, ev);
        else if (ev->type == GEN_EVENT_CHOICE_DONE)
            j->shape.choices[ev->choice].finish = ev->finish;
    }
    pthread_mutex_unlock(&j->lock);
    if (last)
        httpd_request_unref(j->r);
}

static void make_id(enum api_dialect dialect, char out[48])
{
    unsigned char bytes[12] = {0};
    ssize_t got = getrandom(bytes, sizeof(bytes), 0);
    (void)got; /* 12 bytes never come short (getrandom(2)) */
    int n = snprintf(out, 48, "%s", dialect == API_CHAT ? "chatcmpl-" : "cmpl-");
    for (size_t i = 0; i < sizeof(bytes); i++)
        n += snprintf(out + n, 48 - (size_t)n, "%02x", bytes[i]);
}

/* NULL and err, or a job hung on r. */
static struct job *job_new(struct api *a, struct httpd_request *r, const struct api_body *b,
                           struct err *err)
{
    char id[48];
    struct job *j = mem_try_alloc(1, sizeof(*j), err);
    if (!j)
        return NULL;
    make_id(b->dialect, id);
    if (shape_init(&j->shape, b, id, (int64_t)time(NULL), a->fingerprint, err) < 0) {
        mem_free(j);
        return NULL;
    }
    j->api = a;
    j->r = r;
    j->stream = b->stream;
    buf_init(&j->out, CHUNK_MAX_BYTES);
    pthread_mutex_init(&j->lock, NULL);
    struct api_call *call = api_call_of(r);
    call->job = j;
    call->job_free = job_free;
    return j;
}

static void generate(struct api *a, struct httpd_request *r, enum api_dialect dialect)
{
    struct api_body body;
    struct api_error e;
    struct err err = ERR_INIT;
    if (api_body_parse(&body, dialect, httpd_body(r), &e) < 0) {
        api_error_answer(r, &e);
        return;
    }
    httpd_body_release(r);
    struct job *j = job_new(a, r, &body, &err);
    if (!j) {
        api_error_from(&e, &err);
        api_error_answer(r, &e);
        api_body_release(&body);
        return;
    }
    httpd_on_gone(r, job_gone, j);
    if (j->stream)
        httpd_on_quiet(r, a->cfg.keep_alive_ms ? a->cfg.keep_alive_ms : KEEP_ALIVE_MS, job_quiet,
                       j);
    /* The model's name dies with the request, which runner_generate takes. */
    char *model = mem_dup(body.model, strlen(body.model));
    httpd_request_ref(r);
    uint64_t id = 0;
    int rc = runner_generate(a->cfg.runner, model, &body.req, NULL, job_event, j, &id, &err);
    mem_free(model);
    if (rc < 0) {
        pthread_mutex_lock(&j->lock);
        fail_locked(j, &err);
        pthread_mutex_unlock(&j->lock);
        httpd_request_unref(r);
        return;
    }
    atomic_store(&j->run_id, id);
    if (atomic_load(&j->gone))
        runner_cancel(a->cfg.runner, id);
}

void handle_completions(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    generate(a, r, API_COMPLETION);
}

void handle_chat_completions(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    generate(a, r, API_CHAT);
}
