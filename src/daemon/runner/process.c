/* SPDX-License-Identifier: Apache-2.0 */
/* Worker processes: fed, listened to, watched, ended and reaped.  start.c starts them.  Loop
 * thread.
 *
 * A worker's end is noticed by its pidfd.  Whatever else goes wrong first (a frame that breaks the
 * protocol, silence, the socket's end) only notes the cause and kills: requests are ended in one
 * place, worker_reaped. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/ipc/fds.h"
#include "lib/sys/memory.h"

#define READ_BYTES (256u << 10)
/* A worker has so many requests beyond those it runs at once that it never waits for us; the others
 * wait here, where its death does not touch them. */
#define SENT_AHEAD    16u
#define BUSY_PING_MS  2000u /* while it works, so that its figures are fresh */
#define PACE_MS       2u /* between reads of a worker that talks: at most so long, at least half */
#define PING_MS       5000u
#define FIRST_PING_MS 100u
#define STOP_GRACE_MS 3000u /* between SHUTDOWN and SIGKILL */
#define CLOSED_GRACE_MS                                                                            \
    500u /* between the socket's end and SIGKILL: it is exiting, and its status is wanted */

static void worker_violation(struct worker *w, const struct err *why);

/* --- bytes to the worker
 * --------------------------------------------------------------------------------------- */

/* The model's files travel with the first bytes of LOAD; afterwards they are the worker's alone. */
static ssize_t send_with_files(struct worker *w)
{
    ssize_t n = fds_send(w->fd, w->out.data + w->out_sent, w->out.len - w->out_sent, w->files.fds,
                         w->files.n);
    if (n > 0)
        model_files_close(&w->files);
    return n;
}

void worker_flush(struct worker *w)
{
    while (w->out_sent < w->out.len) {
        ssize_t n = w->files.n ? send_with_files(w)
                               : send(w->fd, w->out.data + w->out_sent, w->out.len - w->out_sent,
                                      MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* no room now, or it died: the pidfd tells */
        w->out_sent += (size_t)n;
    }
    bool is_left = w->out_sent < w->out.len;
    if (!is_left || w->out_sent > OUT_HIGH_BYTES) {
        buf_consume(&w->out, w->out_sent);
        w->out_sent = 0;
        if (!is_left && w->out.cap > OUT_HIGH_BYTES)
            buf_release(&w->out);
    }
    if (w->watch)
        loop_change_fd(w->watch, (w->pace.loop ? 0u : EPOLLIN) | (is_left ? EPOLLOUT : 0u));
}

int worker_put(struct worker *w, enum msg_type type, const void *payload, size_t n, struct err *err)
{
    int rc = frame_write(&w->out, type, payload, n, err);
    if (rc < 0)
        buf_clear(&w->out); /* out of memory: the channel is of no use any more */
    return rc;
}

static const enum msg_type request_types[] = {[RUN_GENERATE] = MSG_GENERATE,
                                              [RUN_TOKENIZE] = MSG_TOKENIZE,
                                              [RUN_DETOKENIZE] = MSG_DETOKENIZE};

/* Requests that wait, as far as the socket keeps up. */
void worker_send_requests(struct worker *w)
{
    uint32_t n_sent = 0;
    for (struct run_request *q = w->model->first, *next; q && w->state == WORKER_READY; q = next) {
        next = q->next;
        if (q->is_sent || q->kind == RUN_LOAD)
            continue;
        if (w->out.len - w->out_sent > OUT_HIGH_BYTES ||
            w->model->n_sent >= model_max_seqs(w->model) + SENT_AHEAD)
            break;
        struct err err = ERR_INIT;
        if (worker_put(w, request_types[q->kind], q->payload.data, q->payload.len, &err) < 0) {
            worker_violation(w, &err);
            return;
        }
        q->is_sent = true;
        w->model->n_sent++;
        n_sent++;
        w->model->queued_bytes -= q->payload.len;
        buf_release(&q->payload);
    }
    if (n_sent == 0)
        return;
    worker_flush(w);
    if (w->state == WORKER_READY && w->timer.due_ms > loop_now_ms() + BUSY_PING_MS)
        loop_timer_set(w->runner->loop, &w->timer, BUSY_PING_MS);
}

void worker_cancel(struct worker *w, uint64_t id)
{
    struct err err = ERR_INIT;
    if (w->state != WORKER_READY)
        return; /* its end answers */
    if (worker_put(w, MSG_CANCEL, &id, sizeof(id), &err) < 0)
        worker_violation(w, &err);
    else
        worker_flush(w);
}

/* --- frames from the worker
 * ------------------------------------------------------------------------------------ */

void worker_loads_done(struct worker *w)
{
    struct run_request *next;
    for (struct run_request *q = w->model->first; q; q = next) {
        next = q->next;
        if (q->kind != RUN_LOAD)
            continue;
        struct gen_event e = {.type = GEN_EVENT_DONE, .request_id = q->id, .stop_index = -1};
        run_request_end(w->runner, q, &e);
    }
}

/* Often enough to notice a hang in time, and that the figures a PONG brings are fresh. */
static uint64_t ping_interval_ms(const struct worker *w)
{
    uint64_t ms = MAX_OF((uint64_t)w->runner->cfg.hang_timeout_s * 1000 / 4, 250u);
    return MIN_OF(ms, w->model->n_sent ? BUSY_PING_MS : PING_MS);
}

static int on_loaded(struct worker *w, struct str payload, struct err *err)
{
    struct msg_loaded m;
    struct arena a;
    arena_init(&a, LIMIT_MSG_SMALL_BYTES);
    int rc = msg_loaded_decode(payload, &a, &m, err);
    if (rc == 0 && m.draft_refusal.len && !w->draft.is_common)
        rc = err_set(err, E_FORMAT, "message LOADED says it lacks what it may not lack");
    if (rc == 0) {
        w->state = WORKER_READY;
        w->was_loading = false;
        if (!w->model->is_broken)
            w->model->failure.code = 0;
        w->model->n_loads++;
        w->runner->stats.n_loads++;
        w->runner->stats.load_seconds += (double)(loop_now_ms() - w->started_ms) / 1000.0;
        w->loaded.weight_bytes = m.weight_bytes;
        w->loaded.kv_bytes = m.kv_bytes;
        w->loaded.scratch_bytes = m.scratch_bytes;
        w->loaded.draft_weight_bytes = m.draft_weight_bytes;
        if (m.draft_refusal.len)
            draft_refused(w, m.draft_refusal);
        w->loaded.n_params = m.n_params;
        w->loaded.n_ctx = m.n_ctx;
        w->loaded.has_chat_template = m.has_chat_template;
        w->loaded.at_unix = (int64_t)time(NULL);
        snprintf(w->loaded.arch, sizeof(w->loaded.arch), "%.*s", STR_ARG(m.arch));
        snprintf(w->loaded.quant, sizeof(w->loaded.quant), "%.*s", STR_ARG(m.quant));
        snprintf(w->loaded.cpu_level, sizeof(w->loaded.cpu_level), "%.*s", STR_ARG(m.cpu_level));
        log_info("worker %d (%s): loaded, %s %s, context %u, weights %.1f MiB, cache %.1f MiB",
                 (int)w->child.pid, w->model->file.name, w->loaded.arch, w->loaded.quant, m.n_ctx,
                 (double)m.weight_bytes / 1048576.0, (double)m.kv_bytes / 1048576.0);
    }
    arena_release(&a);
    if (rc < 0)
        return rc;
    loop_timer_set(w->runner->loop, &w->timer, FIRST_PING_MS);
    fingerprint_make(w);
    w->model->idle_since_ms = loop_now_ms();
    idle_update(w->model);
    model_serve(w->runner, w->model);
    if (w->state == WORKER_READY)
        prepare_loaded(w, m.prepared);
    return 0;
}

void worker_set_digest(struct worker *w, const char *digest)
{
    snprintf(w->digest, sizeof(w->digest), "%s", digest);
    memcpy(w->model->digest, w->digest, sizeof(w->digest));
    w->is_digest_awaited = false;
    if (w->state != WORKER_READY)
        return;
    fingerprint_make(w);
    model_serve(w->runner, w->model);
    prepare_next(w->runner);
}

static int on_plan(struct worker *w, struct str payload, struct err *err)
{
    if (w->has_plan)
        return err_set(err, E_FORMAT, "message PLAN came twice");
    int rc = msg_plan_decode(payload, &w->plan, err);
    w->has_plan = rc == 0;
    if (rc == 0)
        admission_plan(w);
    return rc;
}

void worker_admit(struct worker *w)
{
    struct err err = ERR_INIT;
    if (worker_put(w, MSG_ADMIT, NULL, 0, &err) < 0)
        worker_violation(w, &err);
    else
        worker_flush(w);
}

void worker_tell_progress(struct worker *w, const struct msg_progress *p)
{
    struct run_request *next;
    for (struct run_request *q = w->model->first; q; q = next) {
        next = q->next;
        struct gen_event e = {.type = GEN_EVENT_PROGRESS,
                              .request_id = q->id,
                              .text = p->what,
                              .done = p->done,
                              .total = p->total,
                              .stop_index = -1};
        if (q->kind == RUN_LOAD)
            q->fn(q->ctx, &e);
    }
}

static int on_progress(struct worker *w, struct str payload, struct err *err)
{
    struct msg_progress m;
    int rc = msg_progress_decode(payload, &m, err);
    if (rc == 0)
        worker_tell_progress(w, &m);
    return rc;
}

static int on_load_failed(struct worker *w, struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint32_t code = 0;
    struct str text = {0};
    if (!get_u32(&c, &code) || !get_str(&c, ERR_MSG_MAX, &text) || c.left || code == 0 ||
        code >= E_N_CODES)
        return err_set(err, E_FORMAT, "message LOAD_FAILED is malformed");
    struct err why = ERR_INIT;
    err_set(&why, (enum err_code)code, "%.*s", STR_ARG(text)); /* cleans it, too */
    worker_stop(w, &why);
    return 0;
}

static int on_event(struct worker *w, struct str payload, struct err *err)
{
    struct gen_event e;
    struct arena a;
    arena_init(&a, 4u * LIMIT_MSG_SMALL_BYTES);
    int rc = msg_event_decode(payload, &a, &e, err);
    if (rc == 0)
        rc = run_request_take_event(w->runner, &e, err);
    arena_release(&a);
    return rc;
}

/* TOKENS: u64 id, u32 count, ids. */
static int on_tokens(struct worker *w, struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint64_t id = 0;
    uint32_t n = 0;
    if (!get_u64(&c, &id) || !get_u32(&c, &n) || c.left != (uint64_t)n * sizeof(int32_t))
        return err_set(err, E_FORMAT, "message TOKENS is malformed");
    struct run_tokens answer = {.err = ERR_INIT, .n_tokens = n, .n_ctx = w->loaded.n_ctx};
    /* In a frame ids lie where they lie; their readers want them aligned. */
    int32_t *ids = mem_try_alloc(n, sizeof(*ids), &answer.err);
    if (ids && n)
        memcpy(ids, c.p, c.left);
    answer.tokens = ids;
    int rc = run_request_take_tokens(w->runner, id, RUN_TOKENIZE, &answer, err);
    mem_free(ids);
    return rc;
}

/* TEXT: u64 id, str text. */
static int on_text(struct worker *w, struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint64_t id = 0;
    struct run_tokens answer = {.err = ERR_INIT, .n_ctx = w->loaded.n_ctx};
    if (!get_u64(&c, &id) || !get_str(&c, LIMIT_MSG_BYTES, &answer.text) || c.left)
        return err_set(err, E_FORMAT, "message TEXT is malformed");
    return run_request_take_tokens(w->runner, id, RUN_DETOKENIZE, &answer, err);
}

static int on_pong(struct worker *w, struct str payload, struct err *err)
{
    struct msg_pong m;
    int rc = msg_pong_decode(payload, &m, err);
    if (rc < 0)
        return rc;
    if (m.cookie != w->ping_cookie || w->ping_sent_ms == 0)
        return err_set(err, E_FORMAT, "PONG that answers no PING");
    w->ping_sent_ms = 0;
    w->loaded.blocks_used = m.n_blocks_used;
    w->loaded.blocks_total = m.n_blocks;
    w->loaded.n_preemptions = m.n_preemptions;
    w->loaded.n_drafted = m.n_drafted;
    w->loaded.n_accepted = m.n_accepted;
    return 0;
}

static int on_frame(struct worker *w, const struct frame *f, struct err *err)
{
    bool is_loading = w->state == WORKER_LOADING;
    bool is_of_loading = f->type == MSG_LOADED || f->type == MSG_LOAD_FAILED ||
                         f->type == MSG_PROGRESS || f->type == MSG_PLAN;
    if (is_loading != is_of_loading || (f->type == MSG_LOADED && !w->is_admitted))
        return err_set(err, E_FORMAT, "message %s came out of its phase", msg_name(f->type));
    switch (f->type) {
    case MSG_LOADED: return on_loaded(w, f->payload, err);
    case MSG_LOAD_FAILED: return on_load_failed(w, f->payload, err);
    case MSG_PROGRESS: return on_progress(w, f->payload, err);
    case MSG_PLAN: return on_plan(w, f->payload, err);
    case MSG_EVENT: return on_event(w, f->payload, err);
    case MSG_TOKENS: return on_tokens(w, f->payload, err);
    case MSG_TEXT: return on_text(w, f->payload, err);
    case MSG_PONG: return on_pong(w, f->payload, err);
    case MSG_ATTACHED: return prepare_on_attached(w, f->payload, err);
    default:
        return err_set(err, E_FORMAT, "message %s answers nothing that was asked",
                       msg_name(f->type));
    }
}

/* Reads once; 1 while there may be more, 0 when not now, negative at the end of the stream. */
static int worker_read(struct worker *w)
{
    static _Thread_local char bytes[READ_BYTES];
    struct err err = ERR_INIT;
    ssize_t n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    int rc = frame_reader_feed(&w->in, bytes, (size_t)n, &err);
    struct frame f;
    while (rc == 0 && w->state != WORKER_ENDING && (rc = frame_reader_next(&w->in, &f, &err)) == 1)
        rc = on_frame(w, &f, &err);
    if (rc < 0)
        worker_violation(w, &err);
    return w->state == WORKER_ENDING ? 0 : 1;
}

/* --- the end of a worker
 * --------------------------------------------------------------------------------------- */

static void worker_end(struct worker *w, const struct err *cause, uint64_t kill_in_ms)
{
    if (w->state == WORKER_ENDING)
        return;
    w->state = WORKER_ENDING;
    w->is_waiting_room = false;
    w->cause = *cause;
    loop_timer_cancel(&w->pace);
    loop_timer_cancel(&w->model->idle);
    loop_del_fd(w->watch); /* nothing it says counts any more */
    w->watch = NULL;
    loop_timer_set(w->runner->loop, &w->timer, kill_in_ms);
    if (kill_in_ms == 0)
        child_kill(&w->child, SIGKILL);
}

static void worker_violation(struct worker *w, const struct err *why)
{
    struct err cause = *why;
    err_wrap(&cause, "the worker of model %s broke the protocol and was ended",
             w->model->file.name);
    cause.code = E_GONE;
    log_error("worker %d: %s", (int)w->child.pid, cause.msg);
    w->is_fault = true;
    worker_end(w, &cause, 0);
}

void worker_stop(struct worker *w, const struct err *cause)
{
    struct err err = ERR_INIT;
    if (w->state == WORKER_ENDING)
        return;
    if (worker_put(w, MSG_SHUTDOWN, NULL, 0, &err) == 0)
        worker_flush(w);
    worker_end(w, cause, STOP_GRACE_MS);
}

void worker_retire(struct worker *w, const struct err *cause)
{
    worker_stop(w, cause);
    w->was_loading = false;
}

void worker_free(struct worker *w)
{
    struct worker **at = &w->runner->workers;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    loop_timer_cancel(&w->timer);
    loop_timer_cancel(&w->pace);
    loop_del_fd(w->watch);
    loop_del_fd(w->watch_end);
    log_pipe_close(&w->log);
    if (w->fd >= 0)
        close(w->fd);
    if (w->child.pidfd >= 0)
        close(w->child.pidfd);
    model_files_close(&w->files);
    if (w->runner->cfg.store)
        store_model_close(w->runner->cfg.store, &w->opened);
    draft_close(w);
    frame_reader_release(&w->in);
    buf_release(&w->out);
    mem_free(w);
}

/* SIGKILL that was not ours, while the kernel counted one more of its own. */
static bool was_out_of_memory(const struct worker *w, const struct child_end *end)
{
    return end->was_killed && end->status == SIGKILL && memory_oom_kills() > w->oom_kills;
}

/* What ended w; true when its clients have yet to be told what to do about it. */
static bool cause_of(const struct worker *w, const struct child_end *end, struct err *ret)
{
    char how[64];
    child_end_print(end, how, sizeof(how));
    if (w->cause.code) {
        *ret = w->cause;
        return false;
    }
    bool was_memory = was_out_of_memory(w, end);
    const char *when = w->was_loading ? " while loading" : "";
    if (was_memory)
        err_set(
            ret, E_GONE,
            "the worker process of model %s was killed by the kernel%s, for memory had run out; "
            "--max-memory, --max-model-len and --max-num-seqs make berth take less",
            w->model->file.name, when);
    else if (w->was_loading)
        err_set(ret, E_GONE,
                "the worker process %s while loading model %s; the daemon's log may say why", how,
                w->model->file.name);
    else
        err_set(ret, E_GONE, "the worker process of model %s %s", w->model->file.name, how);
    log_error("worker %d (%s): %s", (int)w->child.pid, w->model->file.name, how);
    return !was_memory && !w->was_loading;
}

/* The process has ended: its last words, its requests' ends, and a new one if something still
 * waits. */
static void worker_reaped(struct worker *w, const struct child_end *end)
{
    struct runner *r = w->runner;
    struct model *m = w->model;
    struct err why = ERR_INIT, told = ERR_INIT;
    log_pipe_drain(&w->log);
    if (cause_of(w, end, &why))
        err_set(&told, why.code, "%s; the next request starts another", why.msg);
    else
        told = why;
    bool was_loading = w->was_loading, is_fault = w->is_fault || w->cause.code == 0;
    m->worker = NULL;
    worker_free(w);
    m->n_crashes += is_fault;
    r->stats.n_crashes += is_fault;
    if (was_loading) {
        m->failure = why;
        r->stats.n_load_failures++;
        model_fail_all(r, m, &why); /* who tries again asks again: no loop of crashes */
    } else {
        model_fail_sent(r, m, &told);
    }
    if (is_fault)
        supervise_fault(m, &why);
    admission_room_changed(r);
    if (r->is_freeing && !r->workers)
        loop_stop(r->loop);
    else
        model_serve(r, m);
}

void worker_on_process_end(void *ctx, uint32_t events)
{
    struct worker *w = ctx;
    struct child_end end;
    (void)events;
    if (!child_reap(&w->child, &end))
        return;
    /* What it managed to say still counts: a LOAD_FAILED, a last event. */
    while (w->state != WORKER_ENDING && worker_read(w) > 0)
        ;
    worker_reaped(w, &end);
}

static void socket_ended(struct worker *w)
{
    struct err unknown = ERR_INIT; /* the exit status will tell */
    worker_end(w, &unknown, CLOSED_GRACE_MS);
}

static uint32_t out_events(const struct worker *w)
{
    return w->out_sent < w->out.len ? EPOLLOUT : 0u;
}

/* A worker that answers sends a frame for every token.  After a read that brought something we
 * leave the socket alone for a moment, so that the next one brings many. */
void worker_on_socket(void *ctx, uint32_t events)
{
    struct worker *w = ctx;
    if (events & EPOLLOUT) {
        worker_flush(w);
        if (w->state == WORKER_READY)
            model_serve(w->runner, w->model);
    }
    if (w->state == WORKER_ENDING || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    int rc = worker_read(w);
    if (rc < 0)
        socket_ended(w);
    else if (rc > 0 && w->state == WORKER_READY && w->model->n_sent && !(events & EPOLLHUP)) {
        loop_change_fd(w->watch, out_events(w));
        loop_timer_set(w->runner->loop, &w->pace, PACE_MS);
    }
}

void worker_on_pace(void *ctx)
{
    struct worker *w = ctx;
    int rc = worker_read(w);
    if (w->state == WORKER_ENDING)
        return;
    if (rc < 0)
        socket_ended(w);
    else if (rc > 0)
        loop_timer_set(w->runner->loop, &w->pace, PACE_MS);
    else
        loop_change_fd(w->watch, EPOLLIN | out_events(w)); /* it is quiet again */
}

/* --- time
 * ------------------------------------------------------------------------------------------------------
 */

static void on_ping_due(struct worker *w)
{
    struct runner *r = w->runner;
    struct err err = ERR_INIT;
    uint64_t now = loop_now_ms(), limit_ms = (uint64_t)r->cfg.hang_timeout_s * 1000;
    if (w->ping_sent_ms && now - w->ping_sent_ms >= limit_ms) {
        err_set(&err, E_GONE,
                "the worker of model %s gave no sign of life for %u seconds and was ended",
                w->model->file.name, r->cfg.hang_timeout_s);
        log_error("worker %d: %s", (int)w->child.pid, err.msg);
        r->stats.n_hangs++;
        w->is_fault = true;
        worker_end(w, &err, 0);
        return;
    }
    if (w->ping_sent_ms == 0) {
        w->ping_cookie++;
        w->ping_sent_ms = now;
        if (worker_put(w, MSG_PING, &w->ping_cookie, sizeof(w->ping_cookie), &err) < 0) {
            worker_violation(w, &err);
            return;
        }
        worker_flush(w);
    }
    loop_timer_set(r->loop, &w->timer, ping_interval_ms(w));
}

void worker_on_timer(void *ctx)
{
    struct worker *w = ctx;
    struct err err = ERR_INIT;
    switch (w->state) {
    case WORKER_LOADING:
        err_set(&err, E_TIMEOUT, "model %s was not loaded within %u seconds (load-timeout)",
                w->model->file.name, w->runner->cfg.load_timeout_s);
        log_error("worker %d: %s", (int)w->child.pid, err.msg);
        worker_end(w, &err, 0);
        break;
    case WORKER_READY: on_ping_due(w); break;
    case WORKER_ENDING: child_kill(&w->child, SIGKILL); break;
    }
}
