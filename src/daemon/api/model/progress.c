/* SPDX-License-Identifier: Apache-2.0 */
/* Progress of a job as lines of JSON, in three shapes.  The watcher belongs to the request and is
 * freed with it; its calls come on the job's thread, which holds the job's lock meanwhile, so that
 * the request cannot go under it. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/model/model_api.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define LINE_MAX_BYTES  65536u
#define EVERY_MS        100u
#define HELD_MAX_BYTES  65536u
#define UNSENT_MAX      65536u /* a client that has so much to read is not told of progress */
#define SPEED_WINDOW_MS 2000u

struct progress {
    struct api *api;
    struct httpd_request *r;
    struct job *job;
    enum progress_shape shape;
    bool is_push, begun, ended;
    struct buf held; /* lines of warnings that came before anything else; see on_event */
    uint64_t told_ms;
    /* speed: from a point of time at most two windows ago */
    uint64_t at_ms[2], at_bytes[2];
};

static void progress_free(void *ctx)
{
    struct progress *p = ctx;
    if (p->job)
        job_unwatch(p->job, p);
    buf_release(&p->held);
    mem_free(p);
}

enum progress_shape progress_shape_of(const struct httpd_request *r)
{
    const char *accept = httpd_header(r, "Accept");
    return accept && strcmp(accept, "application/json") == 0 ? PROGRESS_JSON : PROGRESS_TEXT;
}

static const char *type_name(enum job_event_type t)
{
    static const char *const names[] = {[JOB_PROGRESS] = "progress",
                                        [JOB_WARNING] = "warning",
                                        [JOB_SUCCESS] = "success",
                                        [JOB_ERROR] = "error"};
    return names[t];
}

/* As Go's html.EscapeString. */
static void put_escaped(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        const char *as = s.p[i] == '<'    ? "&lt;"
                         : s.p[i] == '>'  ? "&gt;"
                         : s.p[i] == '&'  ? "&amp;"
                         : s.p[i] == '"'  ? "&#34;"
                         : s.p[i] == '\'' ? "&#39;"
                                          : NULL;
        if (as)
            buf_append_str(out, as);
        else
            buf_append_char(out, s.p[i]);
    }
}

static void put_speed(struct progress *p, const struct job_event *e, uint64_t now, struct buf *out)
{
    if (!p->at_ms[0]) {
        p->at_ms[0] = p->at_ms[1] = now;
        p->at_bytes[0] = p->at_bytes[1] = e->done_bytes;
    }
    if (now - p->at_ms[1] >= SPEED_WINDOW_MS) {
        p->at_ms[0] = p->at_ms[1];
        p->at_bytes[0] = p->at_bytes[1];
        p->at_ms[1] = now;
        p->at_bytes[1] = e->done_bytes;
    }
    uint64_t gone_ms = now - p->at_ms[0];
    if (gone_ms < 200 || e->done_bytes <= p->at_bytes[0])
        return;
    uint64_t speed = (e->done_bytes - p->at_bytes[0]) * 1000 / gone_ms;
    buf_printf(out, ",\"speed\":%llu", (unsigned long long)speed);
    if (speed && e->total_bytes >= e->done_bytes)
        buf_printf(out, ",\"eta_s\":%llu",
                   (unsigned long long)((e->total_bytes - e->done_bytes) / speed));
}

static void put_own(struct progress *p, const struct job_event *e, uint64_t now, struct buf *out)
{
    const struct {
        const char *name, *text;
    } texts[] = {{"id", e->id}, {"name", e->name}};
    buf_printf(out, ",\"done\":%llu", (unsigned long long)e->done_bytes);
    if (e->type == JOB_PROGRESS)
        put_speed(p, e, now, out);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i].text || !texts[i].text[0])
            continue;
        buf_printf(out, ",\"%s\":", texts[i].name);
        json_put_str(out, str_from(texts[i].text));
    }
    if (e->type == JOB_ERROR && e->why)
        buf_printf(out, ",\"code\":\"%s\"", err_code_name(e->why->code));
    buf_append_str(out, e->extra ? e->extra : "");
}

static void put_message(const struct progress *p, const struct job_event *e, struct buf *out)
{
    char text[ERR_MSG_MAX + 64];
    bool has_layer = e->layer && e->layer[0];
    if (e->message)
        snprintf(text, sizeof(text), "%s%s",
                 e->type == JOB_ERROR && p->shape != PROGRESS_OWN ? "Error: " : "", e->message);
    else
        snprintf(text, sizeof(text), "%s: %.2f MB", p->is_push ? "Uploaded" : "Downloaded",
                 (double)(has_layer ? e->layer_done : e->done_bytes) / (1 << 20));
    json_put_str(out, str_from(text));
}

static void put_line(struct progress *p, const struct job_event *e, uint64_t now, struct buf *out)
{
    bool is_progress = e->type == JOB_PROGRESS;
    bool has_layer = is_progress && e->layer && e->layer[0];
    buf_printf(out, "{\"type\":\"%s\",\"message\":", type_name(e->type));
    put_message(p, e, out);
    buf_printf(out, ",\"total\":%llu,\"layer\":{",
               (unsigned long long)(is_progress || p->shape == PROGRESS_OWN ? e->total_bytes : 0));
    if (has_layer) {
        buf_append_str(out, "\"id\":");
        json_put_str(out, str_from(e->layer));
        buf_append_char(out, ',');
    }
    buf_printf(out, "\"size\":%llu,\"current\":%llu},\"mode\":\"%s\"",
               (unsigned long long)(has_layer ? e->layer_bytes : 0),
               (unsigned long long)(has_layer ? e->layer_done : 0), p->is_push ? "push" : "pull");
    if (p->shape == PROGRESS_OWN)
        put_own(p, e, now, out);
    buf_append_char(out, '}');
}

/* Not each step is worth a line; a layer's end is. */
static bool is_worth(const struct progress *p, const struct job_event *e, uint64_t now)
{
    if (e->type != JOB_PROGRESS)
        return true;
    if (p->begun && httpd_stream_unsent(p->r) > UNSENT_MAX)
        return false;
    bool is_end = e->layer_bytes && e->layer_done == e->layer_bytes;
    return e->message || is_end || now - p->told_ms >= EVERY_MS;
}

static void add_line(struct progress *p, const struct job_event *e, uint64_t now, struct buf *out)
{
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    put_line(p, e, now, &line);
    if (line.failed)
        buf_clear(&line);
    else
        buf_append_char(&line, '\n');
    if (p->shape == PROGRESS_TEXT)
        put_escaped(out, (struct str){line.data, line.len});
    else
        buf_append(out, line.data, line.len);
    buf_release(&line);
}

static void send_line(struct progress *p, const struct job_event *e, uint64_t now)
{
    struct buf text;
    buf_init(&text, 6 * LINE_MAX_BYTES + HELD_MAX_BYTES);
    buf_append(&text, p->held.data, p->held.len);
    buf_clear(&p->held);
    add_line(p, e, now, &text);
    if (!p->begun) {
        httpd_set_header(p->r, "Cache-Control", "no-cache");
        httpd_set_header(p->r, "X-Accel-Buffering", "no");
        httpd_stream_begin(p->r, 200,
                           p->shape == PROGRESS_TEXT ? "text/plain; charset=utf-8" : API_JSON);
    }
    p->begun = true;
    int rc = text.failed ? 0 : httpd_stream_write(p->r, (struct str){text.data, text.len});
    (void)rc; /* who has left is seen by the server */
    buf_release(&text);
}

/* What is tried again before a byte has moved may still fail, which a status says best; our own
 * command line reads the last line, and a person waits before it. */
static bool is_held(struct progress *p, const struct job_event *e)
{
    return !p->begun && e->type == JOB_WARNING && p->shape != PROGRESS_OWN &&
           p->held.len < HELD_MAX_BYTES / 2;
}

static void on_event(void *ctx, const struct job_event *e)
{
    struct progress *p = ctx;
    uint64_t now = api_now_us() / 1000;
    if (p->ended || !is_worth(p, e, now))
        return;
    if (is_held(p, e)) {
        add_line(p, e, now, &p->held);
        return;
    }
    p->told_ms = now;
    if (e->type == JOB_ERROR && !p->begun) {
        p->ended = true;
        model_fail(p->r, e->why);
        return;
    }
    send_line(p, e, now);
    if (e->type == JOB_SUCCESS || e->type == JOB_ERROR) {
        p->ended = true;
        httpd_stream_end(p->r);
    }
}

void progress_start(struct api *a, struct httpd_request *r, enum progress_shape shape, bool is_push,
                    struct job_start *s)
{
    struct api_call *c = api_call_of(r);
    struct err err = ERR_INIT;
    struct progress *p = mem_alloc(sizeof(*p));
    *p = (struct progress){.api = a, .r = r, .shape = shape, .is_push = is_push};
    buf_init(&p->held, HELD_MAX_BYTES);
    s->watch = on_event;
    s->watcher = p;
    c->job = p;
    c->job_free = progress_free;
    if (jobs_start(a->jobs, s, &p->job, &err) < 0)
        model_fail(r, &err);
}
