/* SPDX-License-Identifier: Apache-2.0 */
/* What watches the daemon asks: probes, metrics, the log. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_impl.h"
#include "daemon/watch/watch.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define ALIVE_LIMIT_MS    1000u
#define METRICS_MAX_BYTES (64u << 20)
#define METRICS_TYPE      "text/plain; version=0.0.4; charset=utf-8"

/* {"status":…} or, with why, {"status":…,"reason":…}; never kept by a proxy. */
static void answer_probe(struct httpd_request *r, int status, const char *word, const char *why)
{
    struct buf out;
    buf_init(&out, 16 * ERR_MSG_MAX);
    buf_printf(&out, "{\"status\":\"%s\"", word);
    if (why) {
        buf_append_str(&out, ",\"reason\":");
        json_put_str(&out, str_from(why));
    }
    buf_append_char(&out, '}');
    httpd_set_header(r, "Cache-Control", "no-store");
    if (status == 503)
        httpd_set_header(r, "Retry-After", "1");
    api_answer_json(r, status, &out);
}

void handle_livez(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    if (runner_is_alive(a->cfg.runner, ALIVE_LIMIT_MS))
        answer_probe(r, 200, "ok", NULL);
    else
        answer_probe(r, 503, "stuck", "the runner's thread has not answered for a second");
}

/* Whether a request that came now would be answered; why not. */
static bool is_ready(struct api *a, char *ret_why, size_t size)
{
    if (atomic_load(&a->is_draining)) {
        snprintf(ret_why, size, "the daemon is stopping: it ends running answers and takes no new");
        return false;
    }
    if (!runner_is_alive(a->cfg.runner, ALIVE_LIMIT_MS)) {
        snprintf(ret_why, size, "the runner's thread has not answered for a second");
        return false;
    }
    return runner_is_ready(a->cfg.runner, ret_why, size) &&
           runner_has_room(a->cfg.runner, ret_why, size);
}

void handle_readyz(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    char why[ERR_MSG_MAX];
    if (is_ready(a, why, sizeof(why)))
        answer_probe(r, 200, "ok", NULL);
    else
        answer_probe(r, 503, "unavailable", why);
}

/* The same in the words of llama.cpp's server, whose clients wait for "ok". */
void handle_health(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    char why[ERR_MSG_MAX];
    struct buf out;
    if (is_ready(a, why, sizeof(why))) {
        answer_probe(r, 200, "ok", NULL);
        return;
    }
    buf_init(&out, 16 * ERR_MSG_MAX);
    buf_append_str(&out, "{\"error\":{\"code\":503,\"message\":");
    json_put_str(&out, str_from(why));
    buf_append_str(&out, ",\"type\":\"unavailable_error\"}}");
    httpd_set_header(r, "Cache-Control", "no-store");
    httpd_set_header(r, "Retry-After", "1");
    api_answer_json(r, 503, &out);
}

static void answer_metrics(struct api *a, struct httpd_request *r, bool with_vllm)
{
    struct buf out;
    struct err err = ERR_INIT;
    if (!a->cfg.watch) {
        api_answer_status(r, 404, "this daemon counts nothing");
        return;
    }
    buf_init(&out, METRICS_MAX_BYTES);
    struct watch_jobs jobs;
    jobs_count(a->jobs, &jobs.n_running, &jobs.n_waiting);
    if (watch_metrics(a->cfg.watch, a->cfg.runner, atomic_load(&a->httpd), a->cfg.store, &jobs,
                      with_vllm, &out, &err) < 0) {
        struct api_error e;
        api_error_from(&e, &err);
        api_error_answer(r, &e);
    } else {
        httpd_answer_buf(r, 200, METRICS_TYPE, &out);
    }
    buf_release(&out);
}

void handle_metrics(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    answer_metrics(a, r, false);
}

void handle_metrics_vllm(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    answer_metrics(a, r, true);
}

/* --- GET /logs --- */

#define LOGS_TYPE      "text/plain; charset=utf-8"
#define LOGS_LINES     1000u
#define LOGS_LINES_MAX 1000000u
#define FOLLOW_MS      200u /* how often it is looked for new lines */
#define FOLLOW_PIECE   (256u << 10)
#define FOLLOWERS_MAX  32u

/* One client that follows the log.  Hangs on its request; only httpd's threads touch it, one at a
 * time, so whoever logs neither waits for it nor knows of it. */
struct follow {
    struct api *api;
    struct httpd_request *r;
    uint64_t pos; /* in the log */
};

static void follow_free(void *ctx)
{
    struct follow *f = ctx;
    atomic_fetch_sub(&f->api->n_followers, 1);
    mem_free(f);
}

/* Sends what is new.  A client too slow for that is dropped by httpd. */
static void follow_pump(void *ctx)
{
    struct follow *f = ctx;
    struct buf out;
    bool is_last = atomic_load(&f->api->is_draining); /* a follower would hold up the stop */
    buf_init(&out, FOLLOW_PIECE + 128);
    uint64_t missed = watch_log_read(f->api->cfg.watch, &f->pos, FOLLOW_PIECE, &out);
    if (missed) {
        char text[96];
        snprintf(text, sizeof(text), "(%llu bytes of the log are left out here)\n",
                 (unsigned long long)missed);
        httpd_stream_write(f->r, str_from(text));
    }
    if (out.len)
        httpd_stream_write(f->r, (struct str){out.data, out.len});
    buf_release(&out);
    if (is_last)
        httpd_stream_end(f->r);
}

static void follow_begin(struct api *a, struct httpd_request *r, uint64_t pos)
{
    struct api_call *call = api_call_of(r);
    if (atomic_fetch_add(&a->n_followers, 1) >= FOLLOWERS_MAX) {
        atomic_fetch_sub(&a->n_followers, 1);
        api_answer_status(r, 503, "the log has as many followers as it may have: try again later");
        return;
    }
    struct follow *f = mem_alloc(sizeof(*f));
    *f = (struct follow){a, r, pos};
    call->job = f;
    call->job_free = follow_free;
    httpd_set_header(r, "Cache-Control", "no-store");
    httpd_set_header(r, "X-Accel-Buffering", "no");
    httpd_stream_begin(r, 200, LOGS_TYPE);
    httpd_on_quiet(r, FOLLOW_MS, follow_pump, f);
    follow_pump(f);
}

/* A switch of the query: absent is off; false and the request is answered for what is neither. */
static bool query_switch(struct httpd_request *r, const char *name, bool *ret)
{
    const char *v = httpd_query_value(r, name);
    *ret = v && (strcmp(v, "true") == 0 || strcmp(v, "1") == 0 || *v == '\0');
    if (!v || *ret || strcmp(v, "false") == 0 || strcmp(v, "0") == 0)
        return true;
    api_answer_status(r, 400, "'follow' is true or false");
    return false;
}

static bool query_lines(struct httpd_request *r, uint32_t *ret)
{
    const char *v = httpd_query_value(r, "lines");
    uint32_t n = 0;
    *ret = LOGS_LINES;
    if (!v)
        return true;
    const char *s = v;
    while (*s >= '0' && *s <= '9' && n <= LOGS_LINES_MAX)
        n = 10 * n + (uint32_t)(*s++ - '0');
    *ret = n;
    if (s > v && !*s && n <= LOGS_LINES_MAX)
        return true;
    api_answer_status(r, 400,
                      "'lines' is how many of the last lines to begin with, at most 1000000");
    return false;
}

void handle_logs(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    bool follow;
    uint32_t lines;
    struct buf out;
    if (!query_switch(r, "follow", &follow) || !query_lines(r, &lines))
        return;
    if (!a->cfg.watch) {
        api_answer_status(r, 404, "this daemon keeps no log");
        return;
    }
    uint64_t pos = watch_log_tail(a->cfg.watch, lines);
    if (follow && strcmp(httpd_method(r), "HEAD") != 0) {
        follow_begin(a, r, pos);
        return;
    }
    buf_init(&out, FOLLOW_PIECE);
    watch_log_read(a->cfg.watch, &pos, FOLLOW_PIECE, &out);
    httpd_set_header(r, "Cache-Control", "no-store");
    httpd_answer_buf(r, 200, LOGS_TYPE, &out);
    buf_release(&out);
}
