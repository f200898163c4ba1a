/* SPDX-License-Identifier: Apache-2.0 */
/* Worker processes: started when a model has something to do, fed, listened to, watched, ended and
 * reaped.  Loop thread.
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

#define READ_BYTES     (256u << 10)
#define OUT_HIGH_BYTES (1u << 20) /* no further request is put behind more than this */
#define OUT_MAX_BYTES  (OUT_HIGH_BYTES + LIMIT_MSG_BYTES + LIMIT_MSG_SMALL_BYTES)
#define STOP_GRACE_MS  3000u /* between SHUTDOWN and SIGKILL */
#define PING_MS        5000u
#define FIRST_PING_MS  100u
#define CLOSED_GRACE_MS                                                                            \
    500u /* between the socket's end and SIGKILL: it is exiting, and its status is wanted */

static void worker_violation(struct worker *w, const struct err *why);

/* --- bytes to the worker
 * --------------------------------------------------------------------------------------- */

/* The model's files travel with the first bytes of LOAD; afterwards they are the worker's alone. */
static ssize_t send_with_files(struct worker *w)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(LIMIT_MSG_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {w->out.data + w->out_sent, w->out.len - w->out_sent};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
    size_t bytes = w->files.n * sizeof(int);
    m.msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), w->files.fds, bytes);
    ssize_t n = sendmsg(w->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        model_files_close(&w->files);
    return n;
}

static void worker_flush(struct worker *w)
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
        loop_change_fd(w->watch, EPOLLIN | (is_left ? EPOLLOUT : 0u));
}

static int worker_put(struct worker *w, enum msg_type type, const void *payload, size_t n,
                      struct err *err)
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
static void worker_send_requests(struct worker *w)
{
    for (struct run_request *q = w->model->first, *next; q && w->state == WORKER_READY; q = next) {
        next = q->next;
        if (q->is_sent || q->kind == RUN_LOAD)
            continue;
        if (w->out.len - w->out_sent > OUT_HIGH_BYTES)
            break;
        struct err err = ERR_INIT;
        if (worker_put(w, request_types[q->kind], q->payload.data, q->payload.len, &err) < 0) {
            worker_violation(w, &err);
            return;
        }
        q->is_sent = true;
        w->model->queued_bytes -= q->payload.len;
        buf_release(&q->payload);
    }
    worker_flush(w);
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

static void loads_done(struct worker *w)
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
static uint64_t ping_interval_ms(const struct runner *r)
{
    uint64_t ms = (uint64_t)r->cfg.hang_timeout_s * 1000 / 4;
    return MIN_OF(MAX_OF(ms, 250u), PING_MS);
}

static int on_loaded(struct worker *w, struct str payload, struct err *err)
{
    struct msg_loaded m;
    struct arena a;
    arena_init(&a, LIMIT_MSG_SMALL_BYTES);
    int rc = msg_loaded_decode(payload, &a, &m, err);
    if (rc == 0) {
        w->state = WORKER_READY;
        w->was_loading = false;
        w->model->failure.code = 0;
        w->model->n_loads++;
        w->runner->stats.n_loads++;
        w->runner->stats.load_seconds += (double)(loop_now_ms() - w->started_ms) / 1000.0;
        w->loaded.weight_bytes = m.weight_bytes;
        w->loaded.kv_bytes = m.kv_bytes;
        w->loaded.scratch_bytes = m.scratch_bytes;
        w->loaded.n_params = m.n_params;
        w->loaded.n_ctx = m.n_ctx;
        w->loaded.has_chat_template = m.has_chat_template;
        w->loaded.at_unix = (int64_t)time(NULL);
        snprintf(w->loaded.arch, sizeof(w->loaded.arch), "%.*s", STR_ARG(m.arch));
        snprintf(w->loaded.quant, sizeof(w->loaded.quant), "%.*s", STR_ARG(m.quant));
        snprintf(w->loaded.fingerprint, sizeof(w->loaded.fingerprint), "fp_unhashed_%08x",
                 (unsigned)model_settings_hash(&w->model->settings));
        log_info("worker %d (%s): loaded, %s %s, context %u, weights %.1f MiB, cache %.1f MiB",
                 (int)w->child.pid, w->model->file.name, w->loaded.arch, w->loaded.quant, m.n_ctx,
                 (double)m.weight_bytes / 1048576.0, (double)m.kv_bytes / 1048576.0);
    }
    arena_release(&a);
    if (rc < 0)
        return rc;
    loop_timer_set(w->runner->loop, &w->timer, FIRST_PING_MS);
    loads_done(w);
    worker_send_requests(w);
    return 0;
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
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint64_t cookie = 0;
    uint32_t counts[4];
    get_u64(&c, &cookie);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        get_u32(&c, &counts[i]);
    if (c.bad || c.left || cookie != w->ping_cookie || w->ping_sent_ms == 0)
        return err_set(err, E_FORMAT, "PONG that answers no PING");
    w->ping_sent_ms = 0;
    w->loaded.blocks_used = counts[2];
    w->loaded.blocks_total = counts[3];
    return 0;
}

static int on_frame(struct worker *w, const struct frame *f, struct err *err)
{
    bool is_loading = w->state == WORKER_LOADING;
    if (is_loading !=
        (f->type == MSG_LOADED || f->type == MSG_LOAD_FAILED || f->type == MSG_PROGRESS))
        return err_set(err, E_FORMAT, "message %s came out of its phase", msg_name(f->type));
    switch (f->type) {
    case MSG_LOADED: return on_loaded(w, f->payload, err);
    case MSG_LOAD_FAILED: return on_load_failed(w, f->payload, err);
    case MSG_PROGRESS: return 0;
    case MSG_EVENT: return on_event(w, f->payload, err);
    case MSG_TOKENS: return on_tokens(w, f->payload, err);
    case MSG_TEXT: return on_text(w, f->payload, err);
    case MSG_PONG: return on_pong(w, f->payload, err);
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
    w->cause = *cause;
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

void model_fail_all(struct runner *r, struct model *m, const struct err *why)
{
    while (m->first)
        run_request_end_failed(r, m->first, why);
}

/* Those that the worker had; what still waits goes to the next one. */
static void model_fail_sent(struct runner *r, struct model *m, const struct err *why)
{
    for (;;) {
        struct run_request *q = m->first;
        while (q && !q->is_sent)
            q = q->next;
        if (!q)
            return;
        run_request_end_failed(r, q, why);
    }
}

static void worker_free(struct worker *w)
{
    struct worker **at = &w->runner->workers;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    loop_timer_cancel(&w->timer);
    loop_del_fd(w->watch);
    loop_del_fd(w->watch_end);
    log_pipe_close(&w->log);
    if (w->fd >= 0)
        close(w->fd);
    if (w->child.pidfd >= 0)
        close(w->child.pidfd);
    model_files_close(&w->files);
    frame_reader_release(&w->in);
    buf_release(&w->out);
    mem_free(w);
}

/* What ended w, as its clients are told. */
static void cause_of(const struct worker *w, const struct child_end *end, struct err *ret)
{
    char how[64];
    child_end_print(end, how, sizeof(how));
    if (w->cause.code) {
        *ret = w->cause;
        return;
    }
    if (w->was_loading)
        err_set(ret, E_GONE,
                "the worker process %s while loading model %s; the daemon's log may say why", how,
                w->model->file.name);
    else
        err_set(ret, E_GONE, "the worker process of model %s %s; the next request starts another",
                w->model->file.name, how);
    log_error("worker %d (%s): %s", (int)w->child.pid, w->model->file.name, how);
}

/* The process has ended: its last words, its requests' ends, and a new one if something still
 * waits. */
static void worker_reaped(struct worker *w, const struct child_end *end)
{
    struct runner *r = w->runner;
    struct model *m = w->model;
    struct err why = ERR_INIT;
    log_pipe_drain(&w->log);
    cause_of(w, end, &why);
    bool was_loading = w->was_loading;
    bool is_crash = w->cause.code == 0; /* nobody asked it to end */
    if (was_loading) {
        m->failure = why;
        r->stats.n_load_failures++;
    }
    if (is_crash) {
        m->n_crashes++;
        r->stats.n_crashes++;
    }
    m->worker = NULL;
    worker_free(w);
    if (was_loading)
        model_fail_all(r, m, &why); /* who tries again asks again: no loop of crashes */
    else
        model_fail_sent(r, m, &why);
    if (r->is_freeing && !r->workers)
        loop_stop(r->loop);
    else
        model_serve(r, m);
}

static void on_process_end(void *ctx, uint32_t events)
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

static void on_socket(void *ctx, uint32_t events)
{
    struct worker *w = ctx;
    if (events & EPOLLOUT) {
        worker_flush(w);
        if (w->state == WORKER_READY)
            worker_send_requests(w);
    }
    if (w->state == WORKER_ENDING || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ||
        worker_read(w) >= 0)
        return;
    struct err unknown = ERR_INIT; /* the exit status will tell */
    worker_end(w, &unknown, CLOSED_GRACE_MS);
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
    loop_timer_set(r->loop, &w->timer, ping_interval_ms(r));
}

static void on_timer(void *ctx)
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

/* --- the start of a worker
 * ------------------------------------------------------------------------------------- */

static const char *current_log_level(void)
{
    return log_enabled(LOG_LEVEL_DEBUG)  ? "debug"
           : log_enabled(LOG_LEVEL_INFO) ? "info"
           : log_enabled(LOG_LEVEL_WARN) ? "warn"
                                         : "error";
}

static int worker_put_load(struct worker *w, struct err *err)
{
    const struct runner_config *cfg = &w->runner->cfg;
    struct str names[LIMIT_MSG_FDS];
    for (uint32_t i = 0; i < w->files.n; i++)
        names[i] = str_from(w->files.paths[i]);
    const struct model_settings *set = &w->model->settings;
    const struct msg_load m = {
        .model_name = str_from(w->model->file.name),
        .n_fds = w->files.n,
        .file_names = names,
        .n_threads = set->has_threads ? set->threads : cfg->n_threads,
        .n_ctx = set->has_context_size ? set->context_size : cfg->n_ctx,
        .max_num_seqs = set->has_max_num_seqs ? set->max_num_seqs : cfg->max_num_seqs,
        .max_num_batched_tokens = set->has_max_num_batched_tokens ? set->max_num_batched_tokens
                                                                  : cfg->max_num_batched_tokens,
        .block_size = cfg->block_size,
        .kv_type = set->has_kv_cache_type ? set->kv_cache_type : cfg->kv_type,
        .kv_cache_bytes = set->has_kv_cache_memory ? set->kv_cache_memory : cfg->kv_cache_bytes,
        .cpu_level = str_from(w->runner->cpu_level),
        .chat_template = {set->chat_template, set->chat_template_len},
    };
    struct buf b;
    buf_init(&b, LIMIT_TEMPLATE_BYTES + LIMIT_MSG_SMALL_BYTES);
    int rc = msg_load_encode(&b, &m, err);
    if (rc == 0)
        rc = worker_put(w, MSG_LOAD, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

/* Starts the process; on success the descriptors are w's. */
static int worker_spawn(struct worker *w, const char *name, int worker_end_fd, int log_fd,
                        struct err *err)
{
    char memory[24];
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)w->runner->memory_bytes);
    const char *const argv[] = {"berth", "worker", name, current_log_level(), memory, NULL};
    const struct spawn_config cfg = {.argv = argv, .stderr_fd = log_fd, .frames_fd = worker_end_fd};
    int rc = spawn_self(&cfg, &w->child, err);
    if (rc < 0)
        w->child.pidfd = -1;
    w->log.pid = (int)w->child.pid;
    return rc;
}

static int worker_connect(struct worker *w, struct err *err)
{
    int pair[2], log[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return err_set_sys(err, E_IO, "socketpair for a worker");
    w->fd = pair[0];
    if (pipe2(log, O_CLOEXEC) < 0) {
        close(pair[1]);
        return err_set_sys(err, E_IO, "log pipe for a worker");
    }
    fcntl(log[0], F_SETFL, O_NONBLOCK); /* our end alone: a worker waits rather than lose a line */
    int rc = log_pipe_open(&w->log, w->runner->loop, log[0], w->model->file.name, err);
    if (rc == 0)
        rc = worker_spawn(w, w->model->file.name, pair[1], log[1], err);
    close(pair[1]);
    close(log[1]);
    return rc;
}

static int worker_watch(struct worker *w, struct err *err)
{
    struct loop *l = w->runner->loop;
    int rc = loop_add_fd(l, w->fd, EPOLLIN, on_socket, w, &w->watch, err);
    return rc < 0 ? rc
                  : loop_add_fd(l, w->child.pidfd, EPOLLIN, on_process_end, w, &w->watch_end, err);
}

static int worker_start(struct runner *r, struct model *m, struct err *err)
{
    struct worker *w = mem_alloc(sizeof(*w));
    *w = (struct worker){.runner = r,
                         .started_ms = loop_now_ms(),
                         .model = m,
                         .fd = -1,
                         .child = {.pidfd = -1},
                         .log = {.fd = -1},
                         .was_loading = true};
    w->timer = (struct loop_timer){.fn = on_timer, .ctx = w};
    frame_reader_init(&w->in, MSG_TO_DAEMON);
    buf_init(&w->out, OUT_MAX_BYTES);
    int rc = model_files_open(m->file.path, &w->files, err);
    if (rc == 0)
        rc = worker_put_load(w, err);
    if (rc == 0)
        rc = worker_connect(w, err);
    if (rc == 0)
        rc = worker_watch(w, err);
    if (rc < 0) {
        if (w->child.pidfd >= 0) {
            struct child_end end;
            child_kill(&w->child, SIGKILL);
            while (!child_reap(&w->child, &end))
                usleep(1000);
        }
        worker_free(w);
        return rc;
    }
    w->next = r->workers;
    r->workers = w;
    m->worker = w;
    loop_timer_set(r->loop, &w->timer, (uint64_t)r->cfg.load_timeout_s * 1000);
    worker_flush(w);
    log_info("worker %d (%s): started", (int)w->child.pid, m->file.name);
    return 0;
}

void model_serve(struct runner *r, struct model *m)
{
    struct err err = ERR_INIT;
    if (!m->first || r->is_stopping)
        return;
    if (m->worker) {
        if (m->worker->state == WORKER_READY) {
            loads_done(m->worker);
            worker_send_requests(m->worker);
        }
        return; /* LOADING: when it is loaded; ENDING: when it has ended */
    }
    if (worker_start(r, m, &err) < 0) {
        m->failure = err;
        r->stats.n_load_failures++;
        model_fail_all(r, m, &err);
    }
}
