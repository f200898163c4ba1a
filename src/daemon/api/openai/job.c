/* SPDX-License-Identifier: Apache-2.0 */
/* Implements job.h. */
#include "daemon/api/openai/job.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/api/info.h"
#include "daemon/api/openai/shape.h"
#include "daemon/api/openai/text_log.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/net/sse.h"

#define KEEP_ALIVE_MS   15000u
#define CHUNK_MAX_BYTES (16u << 20) /* one chunk: a delta of the worker is at most 1 MiB */

struct job_part {
    struct job *job;
    uint32_t index;
    atomic_ullong run_id; /* the runner's, 0 until known */
    uint32_t n_seen;      /* tokens of its deltas */
};

struct job {
    struct api *api;
    struct httpd_request *r;
    struct api_call *call; /* the job hangs on it */
    bool stream;
    uint32_t n; /* choices of each part */
    struct gen_params params;
    char *model;            /* owned */
    struct job_part *parts; /* owned, [n_parts] */
    uint32_t n_parts;
    atomic_bool gone;     /* the client has left */
    atomic_bool stopping; /* nothing that a part says matters any more */
    pthread_mutex_t lock; /* guards everything below */
    struct shape shape;
    struct text_log texts;
    struct shape_usage usage; /* of all parts */
    double queue_ms;          /* the slowest part's */
    uint64_t first_us;        /* when the first token came; 0: not yet */
    struct buf out;           /* one event's chunks */
    bool begun, ended;
    uint32_t n_done;
    uint32_t n_open; /* parts whose last event is to come, and who starts them */
    char digest[80];
    int status;        /* as the client sees it, or would have */
    uint32_t retry_in; /* of a broken model, seconds */
};

static void job_free(void *ctx)
{
    struct job *j = ctx;
    shape_release(&j->shape);
    text_log_end(&j->texts);
    buf_release(&j->out);
    pthread_mutex_destroy(&j->lock);
    mem_free(j->model);
    mem_free(j->parts);
    mem_free(j);
}

/* Either this or the thread that stores an id sees the other's write, so that one of them cancels.
 */
static void job_cancel(struct job *j)
{
    atomic_store(&j->stopping, true);
    for (uint32_t i = 0; i < j->n_parts; i++) {
        uint64_t id = atomic_load(&j->parts[i].run_id);
        if (id)
            runner_cancel(j->api->cfg.runner, id);
    }
}

static void job_gone(void *ctx)
{
    struct job *j = ctx;
    atomic_store(&j->gone, true);
    job_cancel(j);
}

/* Which bytes and which program answer. */
static void set_headers(struct job *j, const char *timing)
{
    httpd_set_header(j->r, "x-engine", "berth/" BERTH_VERSION);
    if (j->digest[0])
        httpd_set_header(j->r, "x-model-digest", j->digest);
    if (timing)
        httpd_set_header(j->r, "Server-Timing", timing);
}

static void stream_begin_locked(struct job *j, const char *timing)
{
    if (j->begun)
        return;
    j->begun = true;
    set_headers(j, timing);
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
        stream_begin_locked(j, NULL);
        sse_put_comment(&j->out, STR_LIT("keep-alive"));
        stream_flush_locked(j);
    }
    pthread_mutex_unlock(&j->lock);
}

static void fail_locked(struct job *j, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    if (err->code == E_BROKEN && j->retry_in)
        e.retry_after_s = j->retry_in;
    if (err->code == E_CONTEXT)
        snprintf(e.param, sizeof(e.param), "%s",
                 j->shape.dialect == API_CHAT ? "messages" : "prompt");
    else if (err->code == E_INVALID)
        api_param_of(err->msg, e.param);
    j->ended = true;
    j->status = e.status;
    j->call->code = e.code;
    if (j->begun) {
        buf_clear(&j->out);
        buf_append_str(&j->out, "data: ");
        api_error_put(&j->out, &e);
        buf_append_str(&j->out, "\n\n");
        stream_flush_locked(j);
        httpd_stream_end(j->r);
    } else {
        set_headers(j, NULL);
        api_error_answer(j->r, &e);
    }
    job_cancel(j);
}

/* Says which of several prompts it was. */
static void fail_part_locked(struct job *j, const struct job_part *p, struct err *err)
{
    char param[64];
    bool of_prompt = err->code == E_INVALID || err->code == E_CONTEXT;
    if (j->n_parts > 1 && of_prompt) {
        api_param_of(err->msg, param);
        if (err->code == E_CONTEXT || strcmp(param, "prompt") == 0)
            err_wrap(err, "prompt[%u]", p->index);
    }
    fail_locked(j, err);
}

static void answer_locked(struct job *j)
{
    char timing[128];
    struct err err = ERR_INIT;
    struct buf out;
    if (shape_status(&j->shape, &err) < 0) {
        fail_locked(j, &err);
        return;
    }
    buf_init(&out, 2 * (size_t)LIMIT_ANSWER_BYTES);
    shape_whole(&j->shape, &j->usage, &out);
    snprintf(timing, sizeof(timing), "queue;dur=%.1f, prefill;dur=%.1f, decode;dur=%.1f",
             j->queue_ms, j->usage.prefill_ms, j->usage.decode_ms);
    set_headers(j, timing);
    j->ended = true;
    j->status = 200;
    api_answer_json(j->r, 200, &out);
}

static void stream_end_locked(struct job *j)
{
    stream_begin_locked(j, NULL);
    if (j->shape.include_usage)
        shape_chunk_usage(&j->shape, &j->usage, &j->out);
    buf_append_str(&j->out, "data: [DONE]\n\n");
    stream_flush_locked(j);
    j->ended = true;
    j->status = 200;
    httpd_stream_end(j->r);
}

static void started_locked(struct job *j, struct job_part *p, const struct gen_event *ev)
{
    char timing[64];
    uint64_t waited_us = api_now_us() - j->call->started_us;
    if (!j->digest[0])
        snprintf(j->digest, sizeof(j->digest), "%s", ev->model_digest ? ev->model_digest : "");
    shape_begin(&j->shape, ev->fingerprint);
    if (!j->stream)
        return;
    snprintf(timing, sizeof(timing), "queue;dur=%.1f", (double)waited_us / 1000);
    stream_begin_locked(j, timing);
    for (uint32_t i = 0; i < j->n; i++)
        shape_chunk_role(&j->shape, p->index * j->n + i, &j->out);
}

static void delta_locked(struct job *j, uint32_t choice, const struct gen_event *ev)
{
    if (ev->n_tokens && !j->first_us)
        j->first_us = api_now_us();
    text_log_delta(&j->texts, choice, ev->text);
    if (j->stream)
        shape_chunk_delta(&j->shape, choice, ev, &j->out);
    else
        shape_collect(&j->shape, choice, ev);
}

static void done_locked(struct job *j, const struct gen_event *ev)
{
    struct err err = ERR_INIT;
    j->queue_ms = MAX_OF(j->queue_ms, ev->queue_ms);
    j->usage.prefill_ms = MAX_OF(j->usage.prefill_ms, ev->prefill_ms);
    j->usage.decode_ms = MAX_OF(j->usage.decode_ms, ev->decode_ms);
    if (ev->finish == GEN_FINISH_CANCEL || atomic_load(&j->gone)) {
        err_set(&err, E_CANCELED, "the request was canceled");
        fail_locked(j, &err);
    } else if (++j->n_done < j->n_parts) {
        return;
    } else if (j->stream) {
        stream_end_locked(j);
    } else {
        answer_locked(j);
    }
}

/* A choice that ended by cancel or error has no finish_reason to show: DONE or FAILED tells. */
static bool is_shown(const struct gen_event *ev)
{
    return ev->finish == GEN_FINISH_STOP || ev->finish == GEN_FINISH_LENGTH;
}

static void event_locked(struct job *j, struct job_part *p, const struct gen_event *ev)
{
    struct err err = ERR_INIT;
    uint32_t choice = p->index * j->n + ev->choice;
    bool of_choice = ev->type == GEN_EVENT_DELTA || ev->type == GEN_EVENT_CHOICE_DONE;
    if (of_choice && ev->choice >= j->n)
        return; /* a worker is not trusted */
    if (of_choice && j->stream)
        stream_begin_locked(j, NULL);
    switch (ev->type) {
    case GEN_EVENT_STARTED: started_locked(j, p, ev); break;
    case GEN_EVENT_DELTA: delta_locked(j, choice, ev); break;
    case GEN_EVENT_CHOICE_DONE:
        if (is_shown(ev) && j->stream)
            shape_chunk_finish(&j->shape, choice, ev->finish, &j->out);
        else if (is_shown(ev))
            j->shape.choices[choice].finish = ev->finish;
        break;
    case GEN_EVENT_DONE: done_locked(j, ev); break;
    case GEN_EVENT_FAILED:
        err_set(&err, (enum err_code)(ev->code > 0 && ev->code < E_N_CODES ? ev->code : E_INTERNAL),
                "%.*s", STR_ARG(ev->message));
        fail_part_locked(j, p, &err);
        break;
    case GEN_EVENT_PROGRESS: break;
    }
    if (j->stream && !j->ended)
        stream_flush_locked(j);
}

/* One of those who hold the job open lets go; the last one tells what became of it. */
static void close_locked(struct job *j)
{
    if (--j->n_open > 0)
        return;
    if (atomic_load(&j->gone)) {
        j->status = 499; /* as nginx logs it: the client closed the request */
        j->call->code = "cancelled";
    }
    uint64_t began = j->call->started_us;
    struct watch_record rec = {
        .model = j->model,
        .digest = j->digest,
        .fingerprint = j->shape.fingerprint,
        .params = &j->params,
        .n_prompts = j->n_parts,
        .n_prompt = j->usage.n_prompt,
        .n_cached = j->usage.n_cached,
        .n_generated = j->usage.n_generated,
        .queue_ms = j->queue_ms,
        .prefill_ms = j->usage.prefill_ms,
        .decode_ms = j->usage.decode_ms,
        .ttft_ms = j->first_us ? (double)(j->first_us - began) / 1000 : 0,
        .status = j->status,
        .stream = j->stream,
    };
    text_log_end(&j->texts);
    api_watch_end(j->call, &rec);
}

/* Also of parts whose answer nobody gets any more. */
static void count_locked(struct job *j, struct job_part *p, const struct gen_event *ev)
{
    switch (ev->type) {
    case GEN_EVENT_STARTED:
        j->usage.n_prompt += ev->n_prompt;
        j->usage.n_cached += ev->n_cached;
        break;
    case GEN_EVENT_DELTA: p->n_seen += ev->n_tokens; break;
    case GEN_EVENT_DONE: j->usage.n_generated += ev->n_generated; break;
    case GEN_EVENT_FAILED: j->usage.n_generated += p->n_seen; break;
    case GEN_EVENT_CHOICE_DONE:
    case GEN_EVENT_PROGRESS: break;
    }
}

static void job_event(void *ctx, const struct gen_event *ev)
{
    struct job_part *p = ctx;
    struct job *j = p->job;
    bool last = ev->type == GEN_EVENT_DONE || ev->type == GEN_EVENT_FAILED;
    pthread_mutex_lock(&j->lock);
    count_locked(j, p, ev);
    if (!j->ended)
        event_locked(j, p, ev);
    if (last)
        close_locked(j);
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
    struct job_part *parts = j ? mem_try_alloc(b->n_prompts, sizeof(*parts), err) : NULL;
    make_id(b->dialect, id);
    if (!parts || shape_init(&j->shape, b, id, (int64_t)time(NULL), err) < 0) {
        mem_free(parts);
        mem_free(j);
        return NULL;
    }
    j->api = a;
    j->r = r;
    j->call = api_call_of(r);
    j->stream = b->stream;
    j->n = b->req.params.n;
    j->params = b->req.params;
    j->model = mem_dup(b->model, strlen(b->model));
    j->parts = parts;
    j->n_parts = b->n_prompts;
    for (uint32_t i = 0; i < j->n_parts; i++)
        parts[i] = (struct job_part){.job = j, .index = i};
    buf_init(&j->out, CHUNK_MAX_BYTES);
    pthread_mutex_init(&j->lock, NULL);
    j->call->job = j;
    j->call->job_free = job_free;
    return j;
}

/* Asks the runner for one part; a refusal ends the job. */
static void part_start(struct job *j, struct job_part *p, struct gen_request *req,
                       const struct run_options *opt)
{
    struct err err = ERR_INIT;
    uint64_t id = 0;
    pthread_mutex_lock(&j->lock);
    j->n_open++;
    pthread_mutex_unlock(&j->lock);
    httpd_request_ref(j->r);
    if (j->call->key[0]) { /* who has another key must not learn from speed what was asked */
        const uint64_t whose[2] = {map_hash(j->call->key, strlen(j->call->key)), req->cache_salt};
        req->cache_salt = map_hash(whose, sizeof(whose));
    }
    int rc = runner_generate(j->api->cfg.runner, j->model, req, opt, job_event, p, &id, &err);
    if (rc == 0) {
        atomic_store(&p->run_id, id);
        if (atomic_load(&j->stopping))
            runner_cancel(j->api->cfg.runner, id);
        return;
    }
    uint32_t retry_in = rc == -E_BROKEN ? info_retry_in(j->api, j->model) : 0;
    pthread_mutex_lock(&j->lock);
    j->retry_in = retry_in;
    if (!j->ended)
        fail_part_locked(j, p, &err);
    close_locked(j);
    pthread_mutex_unlock(&j->lock);
    httpd_request_unref(j->r);
}

static void parts_start(struct job *j, struct api_body *b, const struct run_options *opt)
{
    struct err err = ERR_INIT;
    if (b->n_prompts == 1) {
        part_start(j, &j->parts[0], &b->req, opt);
        return;
    }
    for (uint32_t i = 0; i < b->n_prompts && !atomic_load(&j->stopping); i++) {
        struct gen_request one;
        if (api_body_request(b, i, &one, &err) == 0) {
            part_start(j, &j->parts[i], &one, opt);
            continue;
        }
        pthread_mutex_lock(&j->lock);
        if (!j->ended)
            fail_locked(j, &err);
        pthread_mutex_unlock(&j->lock);
    }
}

void job_start(struct api *a, struct httpd_request *r, struct api_body *b)
{
    struct err err = ERR_INIT;
    const struct run_options opt = {b->has_keep_alive, b->keep_alive_s,
                                    b->timeout_ms ? b->timeout_ms : a->cfg.request_timeout_ms};
    struct job *j = job_new(a, r, b, &err);
    if (!j) {
        struct api_error e;
        api_error_from(&e, &err);
        api_refuse_watched(r, b->model, &e);
        api_body_release(b);
        return;
    }
    text_log_begin(&j->texts, j->call, b);
    httpd_on_gone(r, job_gone, j);
    if (j->stream)
        httpd_on_quiet(r, a->cfg.keep_alive_ms ? a->cfg.keep_alive_ms : KEEP_ALIVE_MS, job_quiet,
                       j);
    httpd_request_ref(r);
    j->n_open = 1;
    parts_start(j, b, &opt);
    api_body_release(b);
    pthread_mutex_lock(&j->lock);
    close_locked(j);
    pthread_mutex_unlock(&j->lock);
    httpd_request_unref(r);
}
