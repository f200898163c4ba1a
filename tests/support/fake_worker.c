/* SPDX-License-Identifier: Apache-2.0 */
/* Implements fake_worker.h.
 *
 * A worker that misbehaves as its model's name says, played by the test program itself, started
 * again as `berth worker NAME ...`; and a client of the runner that waits for what comes. */
#include "tests/support/fake_worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/ipc/frame.h"
#include "tests/support/cmocka_all.h"

void fake_heal_path(pid_t daemon, char ret[64])
{
    snprintf(ret, 64, "/tmp/berth-heal-%d", (int)daemon);
}

static void fake_send(enum msg_type type, const struct buf *payload)
{
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, LIMIT_MSG_BYTES);
    if (frame_write(&out, type, payload->data, payload->len, &err) < 0)
        _exit(90);
    for (size_t done = 0; done < out.len;) {
        ssize_t n = send(3, out.data + done, out.len - done, MSG_NOSIGNAL);
        if (n < 0)
            usleep(1000); /* the socket is not blocking */
        else
            done += (size_t)n;
    }
    buf_release(&out);
}

static void fake_event(const struct gen_event *e)
{
    struct buf b;
    struct err err = ERR_INIT;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    if (msg_event_encode(&b, e, &err) < 0)
        _exit(91);
    fake_send(MSG_EVENT, &b);
    buf_release(&b);
}

static void fake_loaded(void)
{
    struct buf b;
    struct err err = ERR_INIT;
    const struct msg_loaded m = {
        .n_ctx = 128, .n_vocab = 10, .arch = STR_LIT("fake"), .quant = STR_LIT("F32")};
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    if (msg_loaded_encode(&b, &m, &err) < 0)
        _exit(92);
    fake_send(MSG_LOADED, &b);
    buf_release(&b);
}

static void fake_load_failed(void)
{
    struct buf b;
    buf_init(&b, 1024);
    put_u32(&b, E_FORMAT);
    put_str(&b, STR_LIT("tensor 'x' lies past the end of the file"));
    fake_send(MSG_LOAD_FAILED, &b);
    buf_release(&b);
    _exit(0);
}

static void fake_garbage(void)
{
    char bytes[64];
    memset(bytes, 0x5A, sizeof(bytes));
    ssize_t n = send(3, bytes, sizeof(bytes), MSG_NOSIGNAL);
    (void)n;
    pause();
}

static void fake_progress(void)
{
    struct buf b;
    struct err err = ERR_INIT;
    const struct msg_progress m = {.what = STR_LIT("reading"), .done = 1, .total = 2};
    buf_init(&b, 1024);
    if (msg_progress_encode(&b, &m, &err) < 0)
        _exit(97);
    fake_send(MSG_PROGRESS, &b);
    buf_release(&b);
}

/* A model called big… wants 600 MiB, any other 100. */
static void fake_plan(const char *name)
{
    struct buf b;
    struct err err = ERR_INIT;
    uint64_t mib = strncmp(name, "big", 3) == 0 ? 600 : 100;
    const struct msg_plan m = {.weight_bytes = (mib / 2) << 20,
                               .kv_bytes = (mib / 2) << 20,
                               .block_bytes = 1 << 20,
                               .n_blocks = (uint32_t)mib / 2,
                               .block_size = 16,
                               .n_ctx = (uint32_t)mib,
                               .max_num_seqs = 8};
    buf_init(&b, 1024);
    if (msg_plan_encode(&b, &m, &err) < 0)
        _exit(96);
    fake_send(MSG_PLAN, &b);
    buf_release(&b);
}

static void fake_on_load(const char *name)
{
    if (strcmp(name, "unasked") == 0)
        fake_loaded();
    fake_progress();
    if (strcmp(name, "loadfail") == 0)
        fake_load_failed();
    if (strcmp(name, "loadcrash") == 0) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers handle it */
        raise(SIGSEGV);
    }
    if (strcmp(name, "loadexit") == 0)
        _exit(7);
    if (strcmp(name, "loadhang") == 0)
        pause();
    if (strcmp(name, "loadgarbage") == 0)
        fake_garbage();
    if (strcmp(name, "early") == 0)
        fake_event(&(struct gen_event){.type = GEN_EVENT_STARTED, .request_id = 1});
    fake_plan(name);
}

/* "moody" crashes until somebody makes the file that heals it. */
static bool is_moody(const char *name)
{
    char path[64];
    fake_heal_path(getppid(), path);
    return strcmp(name, "moody") == 0 && access(path, F_OK) != 0;
}

/* "pid-seed " as the answer, then the end that the name asks for. */
static void fake_generate(const char *name, uint64_t id, const struct gen_request *r)
{
    char text[64];
    snprintf(text, sizeof(text), "%d-%llu", (int)getpid(), (unsigned long long)r->params.seed);
    struct gen_event e = {
        .type = GEN_EVENT_STARTED, .request_id = id, .n_prompt = 3, .stop_index = -1};
    if (strcmp(name, "unknown") == 0)
        e.request_id = id + 1000;
    fake_event(&e);
    e.request_id = id;
    e.type = GEN_EVENT_DELTA;
    e.text = str_from(text);
    e.n_tokens = 1;
    if (strcmp(name, "badutf8") == 0)
        e.text = STR_LIT("\xFF");
    if (strcmp(name, "badchoice") == 0)
        e.choice = 1;
    fake_event(&e);
    if (strncmp(name, "crash", 5) == 0 || is_moody(name))
        abort();
    if (strcmp(name, "killme") == 0)
        raise(SIGKILL);
    if (strcmp(name, "garbage") == 0)
        fake_garbage();
    if (strcmp(name, "close") == 0) {
        close(3);
        pause();
    }
    if (strcmp(name, "hang") == 0)
        pause();
    if (strcmp(name, "nodone") == 0) { /* DONE before its choice */
        e.type = GEN_EVENT_DONE;
        fake_event(&e);
        pause();
    }
    if (strncmp(name, "slow", 4) == 0)
        return; /* until it is canceled */
    e.type = GEN_EVENT_CHOICE_DONE;
    e.finish = GEN_FINISH_LENGTH;
    e.n_generated = 1;
    fake_event(&e);
    e.type = GEN_EVENT_DONE;
    e.finish = GEN_FINISH_NONE;
    fake_event(&e);
    if (strcmp(name, "chatty") == 0) {
        e.type = GEN_EVENT_DELTA; /* after the last event */
        fake_event(&e);
    }
}

static void fake_on_frame(const char *name, const struct frame *f)
{
    struct err err = ERR_INIT;
    uint64_t id = 0;
    struct gen_request r;
    struct cursor c = {.p = f->payload.p, .left = f->payload.len};
    switch ((int)f->type) {
    case MSG_LOAD: fake_on_load(name); break;
    case MSG_ADMIT: fake_loaded(); break;
    case MSG_GENERATE:
        if (msg_generate_decode(f->payload, &id, &r, &err) < 0)
            _exit(93);
        fake_generate(name, id, &r);
        gen_request_release(&r);
        break;
    case MSG_TOKENIZE:
    case MSG_DETOKENIZE: {
        struct buf b;
        buf_init(&b, 64);
        get_u64(&c, &id);
        put_u64(&b, id);
        put_u32(&b, 1);
        if (f->type == MSG_TOKENIZE)
            put_u32(&b, 42);
        else
            buf_append(&b, "x", 1);
        fake_send(f->type == MSG_TOKENIZE ? MSG_TOKENS : MSG_TEXT, &b);
        buf_release(&b);
        break;
    }
    case MSG_CANCEL:
        get_u64(&c, &id);
        fake_event(&(struct gen_event){
            .type = GEN_EVENT_DONE, .request_id = id, .finish = GEN_FINISH_CANCEL});
        break;
    case MSG_PING: {
        struct buf b;
        buf_init(&b, 64);
        get_u64(&c, &id);
        const struct msg_pong m = {.cookie = strcmp(name, "badpong") == 0 ? id + 1 : id,
                                   .n_blocks_used = 3,
                                   .n_blocks = 9,
                                   .n_preemptions = 4};
        if (msg_pong_encode(&b, &m, &err) < 0)
            _exit(98);
        fake_send(MSG_PONG, &b);
        buf_release(&b);
        break;
    }
    case MSG_SHUTDOWN: _exit(0);
    default: _exit(94);
    }
}

int fake_worker(const char *name)
{
    static char bytes[65536];
    struct frame_reader in;
    struct err err = ERR_INIT;
    fprintf(stderr, "a line of \x1b[31mlog\n");
    frame_reader_init(&in, MSG_TO_WORKER);
    for (;;) {
        char control[CMSG_SPACE(64 * sizeof(int))];
        struct iovec iov = {bytes, sizeof(bytes)};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(3, &m, 0);
        if (n < 0) {
            usleep(1000);
            continue;
        }
        if (n == 0)
            return 0;
        struct frame f;
        int rc = frame_reader_feed(&in, bytes, (size_t)n, &err);
        while (rc == 0 && (rc = frame_reader_next(&in, &f, &err)) == 1) {
            fake_on_frame(name, &f);
            rc = 0;
        }
        if (rc < 0)
            _exit(95);
    }
}

void caller_on_event(void *ctx, const struct gen_event *e)
{
    struct caller *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->n_progress += e->type == GEN_EVENT_PROGRESS;
    if (e->type == GEN_EVENT_STARTED) {
        c->has_started = true;
        snprintf(c->digest, sizeof(c->digest), "%s", e->model_digest);
        snprintf(c->fingerprint, sizeof(c->fingerprint), "%s", e->fingerprint);
    }
    if (e->type == GEN_EVENT_DELTA)
        strncat(c->text, e->text.p, MIN_OF(e->text.len, sizeof(c->text) - 1 - strlen(c->text)));
    c->last = e->type;
    c->finish = e->finish;
    if (e->type == GEN_EVENT_FAILED)
        err_set(&c->err, (enum err_code)e->code, "%.*s", STR_ARG(e->message));
    c->is_over = c->is_over || e->type == GEN_EVENT_DONE || e->type == GEN_EVENT_FAILED;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void caller_init(struct caller *c)
{
    *c = (struct caller){.last = GEN_EVENT_STARTED};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

void caller_wait(struct caller *c, const bool *flag)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (!*flag && rc == 0)
        rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(rc, 0);
}
