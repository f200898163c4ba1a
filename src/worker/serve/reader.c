/* SPDX-License-Identifier: Apache-2.0 */
/* The reader: frames from the daemon to queues, and bytes of the outbox to the socket.  Main
 * thread.  See serve.h.
 *
 * Any violation of docs/PROTOCOL-ipc.md ends the worker: the daemon is not to be reasoned with.
 * When the daemon is gone the process ends at once: nobody is left to answer, and the kernel frees
 * better than we do. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/ipc/fds.h"
#include "worker/serve/serve.h"

#define READ_BYTES (256u << 10)

struct reader {
    struct serve *s;
    struct frame_reader frames;
    char *bytes; /* [READ_BYTES] */
    bool is_ending;
};

static struct cursor payload_cursor(const struct frame *f)
{
    return (struct cursor){.p = f->payload.p, .left = f->payload.len};
}

static int payload_check(const struct cursor *c, const char *what, struct err *err)
{
    if (c->bad || c->left)
        return err_set(err, E_FORMAT, "message %s has the wrong length", what);
    return 0;
}

static int on_load(struct serve *s, const struct frame *f, struct err *err)
{
    struct load_job *job = &s->load;
    arena_init(&job->arena, 2u * LIMIT_TEMPLATE_BYTES + 2u * LIMIT_MSG_SMALL_BYTES);
    /* The views of the message outlive the frame. */
    const char *copy = arena_try_dup(&job->arena, f->payload.p, f->payload.len, err);
    if (!copy)
        return -err->code;
    int rc = msg_load_decode((struct str){copy, f->payload.len}, &job->arena, &job->msg, err);
    if (rc < 0)
        return rc;
    uint32_t n_fds = job->msg.n_fds;
    for (int i = 0; i < WEIGHTS_N; i++)
        n_fds += job->msg.has_prepared[i];
    if (job->msg.n_fds == 0 || n_fds != job->n_fds)
        return err_set(err, E_FORMAT, "LOAD names %u files and %u came", job->msg.n_fds,
                       job->n_fds);
    pthread_mutex_lock(&s->lock);
    s->phase = SERVE_LOADING;
    s->has_load = true;
    pthread_cond_signal(&s->for_scheduler);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int refuse(struct serve *s, uint64_t id, const struct err *why, struct err *err)
{
    struct gen_event e = {.type = GEN_EVENT_FAILED,
                          .request_id = id,
                          .code = why->code,
                          .message = str_from(why->msg)};
    int rc = outbox_put_event(&s->out, &e, false, err);
    outbox_flush(&s->out);
    return rc;
}

/* Hands r to intake, or refuses it; takes r. */
static int enqueue(struct serve *s, struct job *r, struct err *err)
{
    struct err why = ERR_INIT;
    pthread_mutex_lock(&s->lock);
    bool is_known = jobs_find(s, r->id);
    if (!is_known && (s->n_requests >= LIMIT_REQUESTS_QUEUED ||
                      r->n_bytes > LIMIT_REQUESTS_QUEUED_BYTES -
                                       MIN_OF(s->queued_bytes, LIMIT_REQUESTS_QUEUED_BYTES)))
        err_set(&why, E_BUSY, "the model's queue is full: %u requests of %zu bytes", s->n_requests,
                s->queued_bytes);
    if (!is_known && !why.code) {
        jobs_add(s, r);
        job_queue_push(&s->to_intake, r);
        pthread_cond_signal(&s->for_intake);
        r = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    if (!r)
        return 0;
    uint64_t id = r->id;
    job_free(r);
    if (is_known)
        return err_set(err, E_FORMAT, "request %llu came twice", (unsigned long long)id);
    return refuse(s, id, &why, err);
}

static int on_generate(struct serve *s, const struct frame *f, struct err *err)
{
    uint64_t id;
    struct gen_request gen;
    struct err why = ERR_INIT;
    int rc = msg_generate_decode(f->payload, &id, &gen, &why);
    if (rc == -E_NOMEM && f->payload.len >= sizeof(id)) {
        memcpy(&id, f->payload.p, sizeof(id));
        return refuse(s, id, &why, err);
    }
    if (rc < 0) {
        *err = why;
        return rc;
    }
    if (!gen.params.has_seed)
        rc = err_set(&why, E_INVALID, "request has no seed");
    else
        rc = gen_request_check(&gen, &why);
    if (rc < 0) {
        gen_request_release(&gen);
        return refuse(s, id, &why, err);
    }
    struct job *r = job_new(id, JOB_GENERATE);
    gen_request_release(&r->gen);
    r->gen = gen;
    r->n_bytes = f->payload.len;
    return enqueue(s, r, err);
}

static int on_tokenize(struct serve *s, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    uint64_t id;
    uint32_t flags;
    struct str text;
    bool ok = get_u64(&c, &id) && get_u32(&c, &flags) && get_str(&c, LIMIT_TEXT_BYTES, &text);
    if (!ok || c.left)
        return err_set(err, E_FORMAT, "message TOKENIZE is malformed");
    struct job *r = job_new(id, JOB_TOKENIZE);
    r->n_bytes = f->payload.len;
    r->flags = flags;
    r->text.len = text.len;
    r->text.p = arena_try_dup(&r->arena, text.p, text.len, err);
    if (!r->text.p) {
        job_free(r);
        return -err->code;
    }
    return enqueue(s, r, err);
}

static int on_detokenize(struct serve *s, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    uint64_t id;
    uint32_t n;
    bool ok = get_u64(&c, &id) && get_u32(&c, &n);
    if (!ok || c.left != (uint64_t)n * sizeof(int32_t))
        return err_set(err, E_FORMAT, "message DETOKENIZE is malformed");
    struct job *r = job_new(id, JOB_DETOKENIZE);
    r->n_bytes = f->payload.len;
    r->n_ids = n;
    r->ids = (const int32_t *)arena_try_dup(&r->arena, c.p, c.left, err);
    if (!r->ids) {
        job_free(r);
        return -err->code;
    }
    return enqueue(s, r, err);
}

static int on_cancel(struct serve *s, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    uint64_t id = 0;
    get_u64(&c, &id);
    int rc = payload_check(&c, "CANCEL", err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    struct job *r = jobs_find(s, id);
    if (r) { /* else its last event is already on its way */
        r->is_canceled = true;
        s->has_cancel = true;
        pthread_cond_signal(&s->for_scheduler);
    }
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int on_ping(struct serve *s, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    uint64_t cookie = 0;
    get_u64(&c, &cookie);
    int rc = payload_check(&c, "PING", err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    if (s->n_pings == SERVE_PINGS)
        rc = err_set(err, E_LIMIT, "more than %u PINGs at once", SERVE_PINGS);
    else
        s->pings[s->n_pings++] = cookie;
    pthread_cond_signal(&s->for_scheduler);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int on_shutdown(struct reader *rd, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    rd->is_ending = true;
    return payload_check(&c, "SHUTDOWN", err);
}

static int on_admit(struct serve *s, const struct frame *f, struct err *err)
{
    if (f->payload.len)
        return err_set(err, E_FORMAT, "message ADMIT has the wrong length");
    pthread_mutex_lock(&s->lock);
    bool is_due = s->phase == SERVE_LOADING && s->is_planned && !s->is_admitted;
    s->is_admitted = true;
    pthread_cond_signal(&s->for_scheduler);
    pthread_mutex_unlock(&s->lock);
    return is_due ? 0 : err_set(err, E_FORMAT, "message ADMIT came out of its phase");
}

/* Carried out between two steps. */
static int on_attach(struct serve *s, const struct frame *f, struct err *err)
{
    struct cursor c = payload_cursor(f);
    uint8_t of = 0;
    if (get_u8(&c, &of) && of >= WEIGHTS_N)
        return err_set(err, E_FORMAT, "message ATTACH names weights %u", of);
    int rc = payload_check(&c, "ATTACH", err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    bool is_due = s->attach_fd >= 0 && !s->has_attach;
    s->has_attach = is_due;
    s->attach_of = (enum weights_of)of;
    pthread_cond_signal(&s->for_scheduler);
    pthread_mutex_unlock(&s->lock);
    return is_due ? 0 : err_set(err, E_FORMAT, "message ATTACH came without its file");
}

static enum serve_phase phase_of(struct serve *s)
{
    pthread_mutex_lock(&s->lock);
    enum serve_phase phase = s->phase;
    pthread_mutex_unlock(&s->lock);
    return phase;
}

static int on_frame(struct reader *rd, const struct frame *f, struct err *err)
{
    struct serve *s = rd->s;
    enum serve_phase phase = phase_of(s);
    if (f->type == MSG_SHUTDOWN)
        return on_shutdown(rd, f, err);
    if (f->type == MSG_ADMIT)
        return on_admit(s, f, err);
    if ((f->type == MSG_LOAD) != (phase == SERVE_FRESH) || phase == SERVE_LOADING)
        return err_set(err, E_FORMAT, "message %s came out of its phase", msg_name(f->type));
    switch (f->type) {
    case MSG_LOAD: return on_load(s, f, err);
    case MSG_GENERATE: return on_generate(s, f, err);
    case MSG_CANCEL: return on_cancel(s, f, err);
    case MSG_TOKENIZE: return on_tokenize(s, f, err);
    case MSG_DETOKENIZE: return on_detokenize(s, f, err);
    case MSG_PING: return on_ping(s, f, err);
    case MSG_ATTACH: return on_attach(s, f, err);
    default: return err_set(err, E_INTERNAL, "message %s has no handler", msg_name(f->type));
    }
}

/* The one of an ATTACH, which follows. */
static int take_attach_fd(struct serve *s, const int *fds, size_t n, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool is_welcome = s->phase == SERVE_READY && s->attach_fd < 0 && n == 1;
    if (is_welcome)
        s->attach_fd = fds[0];
    pthread_mutex_unlock(&s->lock);
    return is_welcome ? 0 : err_set(err, E_FORMAT, "descriptors that nothing asked for");
}

/* Descriptors are welcome until LOAD, which must name every one, and one at a time with ATTACH. */
static int take_fds(struct serve *s, const int *fds, uint32_t n, struct err *err)
{
    if (phase_of(s) != SERVE_FRESH)
        return take_attach_fd(s, fds, n, err);
    if (n > LIMIT_MSG_FDS - s->load.n_fds)
        return err_set(err, E_FORMAT, "descriptors that nothing asked for");
    memcpy(s->load.fds + s->load.n_fds, fds, n * sizeof(int));
    s->load.n_fds += n;
    return 0;
}

static int read_frames(struct reader *rd, struct err *err)
{
    int fds[LIMIT_MSG_FDS];
    uint32_t n_fds = 0;
    ssize_t n = fds_recv(rd->s->out.fd, rd->bytes, READ_BYTES, MSG_DONTWAIT, fds, &n_fds, err);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0 && errno == EPROTO)
        return -err->code;
    if (n <= 0)
        _exit(0);
    int rc = n_fds ? take_fds(rd->s, fds, n_fds, err) : 0;
    if (rc == 0)
        rc = frame_reader_feed(&rd->frames, rd->bytes, (size_t)n, err);
    while (rc == 0 && !rd->is_ending) {
        struct frame f;
        int got = frame_reader_next(&rd->frames, &f, err);
        if (got <= 0)
            return got;
        rc = on_frame(rd, &f, err);
    }
    return rc;
}

static void drain_wake(int fd)
{
    uint64_t n;
    ssize_t got = read(fd, &n, sizeof(n));
    (void)got;
}

static bool is_over(struct serve *s)
{
    pthread_mutex_lock(&s->lock);
    bool over = s->is_over;
    pthread_mutex_unlock(&s->lock);
    return over;
}

/* One wait and what it brought. */
static int reader_turn(struct reader *rd, struct err *err)
{
    struct outbox *o = &rd->s->out;
    bool is_full;
    bool is_pending = outbox_is_pending(o, &is_full);
    struct pollfd fds[2] = {
        {.fd = o->fd, .events = (short)((is_full ? 0 : POLLIN) | (is_pending ? POLLOUT : 0))},
        {.fd = o->wake_fd, .events = POLLIN},
    };
    if (poll(fds, 2, -1) < 0 && errno != EINTR)
        return err_set_sys(err, E_INTERNAL, "poll");
    if (fds[1].revents)
        drain_wake(o->wake_fd);
    if (fds[0].revents & POLLOUT)
        outbox_flush(o);
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
        return read_frames(rd, err);
    return 0;
}

int reader_run(struct serve *s, struct err *err)
{
    struct reader rd = {.s = s};
    frame_reader_init(&rd.frames, MSG_TO_WORKER);
    rd.bytes = mem_alloc(READ_BYTES);
    int rc = 0;
    bool is_full;
    while (rc == 0 && !rd.is_ending && !(is_over(s) && !outbox_is_pending(&s->out, &is_full)))
        rc = reader_turn(&rd, err);
    frame_reader_release(&rd.frames);
    mem_free(rd.bytes);
    return rc;
}
