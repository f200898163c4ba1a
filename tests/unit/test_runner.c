/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/runner against workers that misbehave: this program, started again as `berth worker NAME
 * ...`, plays them.  The model's name says how. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/runner.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"
#include "tests/support/fds.h"

/* --- the fake worker
 * ------------------------------------------------------------------------------------------- */

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

static void fake_on_load(const char *name)
{
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
    fake_loaded();
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
    if (strcmp(name, "crash") == 0)
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
    if (strcmp(name, "slow") == 0)
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
    case MSG_GENERATE:
        if (msg_generate_decode(f->payload, &id, &r, &err) < 0)
            _exit(93);
        fake_generate(name, id, &r);
        gen_request_release(&r);
        break;
    case MSG_CANCEL:
        get_u64(&c, &id);
        fake_event(&(struct gen_event){
            .type = GEN_EVENT_DONE, .request_id = id, .finish = GEN_FINISH_CANCEL});
        break;
    case MSG_PING: {
        struct buf b;
        buf_init(&b, 64);
        get_u64(&c, &id);
        put_u64(&b, strcmp(name, "badpong") == 0 ? id + 1 : id);
        put_u64(&b, 0);
        put_u64(&b, 0);
        fake_send(MSG_PONG, &b);
        buf_release(&b);
        break;
    }
    case MSG_SHUTDOWN: _exit(0);
    default: _exit(94);
    }
}

static int fake_worker(const char *name)
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

/* --- a client
 * --------------------------------------------------------------------------------------------------
 */

struct client {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[256];
    bool has_started, is_over;
    enum gen_event_type last;
    enum gen_finish finish;
    struct err err;
};

static void on_event(void *ctx, const struct gen_event *e)
{
    struct client *c = ctx;
    pthread_mutex_lock(&c->lock);
    if (e->type == GEN_EVENT_STARTED)
        c->has_started = true;
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

static void client_init(struct client *c)
{
    *c = (struct client){.last = GEN_EVENT_STARTED};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

/* Fails the test after 20 seconds. */
static void client_wait(struct client *c, const bool *flag)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (!*flag && rc == 0)
        rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(rc, 0);
}

static char dir[] = "/tmp/berth-runner-XXXXXX";
static struct runner *runner;

static void make_model(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s.gguf", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static const char *const models[] = {
    "ok",
    "loadfail",
    "loadcrash",
    "loadexit",
    "loadhang",
    "loadgarbage",
    "early",
    "unknown",
    "badutf8",
    "badchoice",
    "crash",
    "killme",
    "garbage",
    "close",
    "hang",
    "nodone",
    "slow",
    "chatty",
    "badpong",
    "two-00001-of-00002",
    "two-00002-of-00002",
};

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    if (!mkdtemp(dir))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        make_model(models[i]);
    const struct runner_config cfg = {.models_dirs = dir, .load_timeout_s = 1, .hang_timeout_s = 1};
    return runner_new(&cfg, &runner, &err);
}

static int teardown(void **state)
{
    (void)state;
    char cmd[256];
    runner_free(runner);
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        snprintf(cmd, sizeof(cmd), "%s/%s.gguf", dir, models[i]);
        unlink(cmd);
    }
    return rmdir(dir);
}

static int start(struct client *c, const char *model, uint64_t *ret_id, struct err *err)
{
    struct gen_request r;
    client_init(c);
    gen_request_init(&r);
    r.text = STR_LIT("Once");
    return runner_generate(runner, model, &r, NULL, on_event, c, ret_id, err);
}

/* One request on model, to its end. */
static void ask(struct client *c, const char *model)
{
    uint64_t id;
    struct err err = ERR_INIT;
    int rc = start(c, model, &id, &err);
    if (rc < 0)
        print_error("%s: %s\n", model, err.msg);
    assert_int_equal(rc, 0);
    client_wait(c, &c->is_over);
}

static void unload(const char *model)
{
    bool was_loaded;
    struct err err = ERR_INIT;
    assert_int_equal(runner_unload(runner, model, &was_loaded, &err), 0);
}

/* --- tests
 * -----------------------------------------------------------------------------------------------------
 */

static void a_good_worker_serves_and_stays(void **state)
{
    (void)state;
    struct client a, b;
    ask(&a, "ok");
    ask(&b, "ok");
    assert_int_equal(a.last, GEN_EVENT_DONE);
    assert_int_equal(b.last, GEN_EVENT_DONE);
    /* One process; a seed of its own each. */
    assert_int_equal(strncmp(a.text, b.text, strcspn(a.text, "-")), 0);
    assert_string_not_equal(a.text, b.text);
    struct model_list l;
    struct err err = ERR_INIT;
    assert_int_equal(runner_list(runner, &l, &err), 0);
    assert_int_equal(l.n, ARRAY_LEN(models) - 1); /* the two shards are one model */
    for (size_t i = 0; i < l.n; i++) {
        bool is_ok = strcmp(l.items[i].name, "ok") == 0;
        assert_int_equal(l.items[i].state, is_ok ? MODEL_READY : MODEL_IDLE);
        if (is_ok) {
            assert_int_equal(l.items[i].pid, atoi(a.text));
            assert_int_equal(l.items[i].n_requests, 2);
            assert_string_equal(l.items[i].arch, "fake");
        }
        assert_true(i == 0 || strcmp(l.items[i - 1].name, l.items[i].name) < 0);
    }
    model_list_release(&l);
    unload("ok");
}

static void check_gone(const char *model, const char *part)
{
    struct client c;
    ask(&c, model);
    if (c.last != GEN_EVENT_FAILED || c.err.code != E_GONE || !strstr(c.err.msg, part))
        print_error("%s: code %d, '%s'\n", model, c.err.code, c.err.msg);
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_GONE);
    assert_non_null(strstr(c.err.msg, part));
}

static void death_midstream_ends_requests_and_the_next_works(void **state)
{
    (void)state;
    struct client ok;
    check_gone("crash", "SIGABRT");
    check_gone("crash", "SIGABRT"); /* a fresh one, which crashes again */
    check_gone("killme", "SIGKILL");
    check_gone("close", "SIGKILL");
    ask(&ok, "ok");
    assert_int_equal(ok.last, GEN_EVENT_DONE);
    assert_int_equal(kill(atoi(ok.text), SIGKILL), 0);
    /* The kill may be noticed before the next request or during it; afterwards there is a new
     * process. */
    struct client after;
    for (int i = 0; i < 100; i++) {
        ask(&after, "ok");
        if (after.last == GEN_EVENT_DONE && atoi(after.text) != atoi(ok.text))
            break;
        usleep(20000);
    }
    assert_int_equal(after.last, GEN_EVENT_DONE);
    assert_int_not_equal(atoi(after.text), atoi(ok.text));
}

static void a_broken_protocol_ends_the_worker(void **state)
{
    (void)state;
    check_gone("garbage", "broke the protocol");
    check_gone("unknown", "does not have");
    check_gone("badutf8", "broke the protocol");
    check_gone("badchoice", "order of events");
    check_gone("nodone", "order of events");
    check_gone("loadgarbage", "broke the protocol");
    check_gone("early", "out of its phase");
    struct client c;
    ask(&c, "chatty"); /* the answer was whole; what came after it ends the process alone */
    assert_int_equal(c.last, GEN_EVENT_DONE);
}

static void loads_that_fail_say_why(void **state)
{
    (void)state;
    struct client c;
    ask(&c, "loadfail");
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_FORMAT);
    assert_string_equal(c.err.msg, "tensor 'x' lies past the end of the file");
    check_gone("loadcrash", "SIGSEGV while loading");
    check_gone("loadexit", "exited with status 7 while loading");
    ask(&c, "loadhang");
    assert_int_equal(c.err.code, E_TIMEOUT);
    ask(&c, "two");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    unload("two");
}

static void silence_ends_the_worker(void **state)
{
    (void)state;
    check_gone("hang", "no sign of life");
    struct client c;
    ask(&c, "badpong");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    usleep(600000); /* its first PONG is wrong; the daemon must outlive that */
    ask(&c, "badpong");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    unload("badpong");
}

static void a_cancel_is_answered(void **state)
{
    (void)state;
    struct client c;
    struct err err = ERR_INIT;
    uint64_t id;
    assert_int_equal(start(&c, "slow", &id, &err), 0);
    client_wait(&c, &c.has_started);
    runner_cancel(runner, id);
    runner_cancel(runner, id);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_int_equal(c.finish, GEN_FINISH_CANCEL);
    runner_cancel(runner, id + 100); /* unknown: nothing */
    /* Before it was sent: the model is still loading. */
    unload("slow");
    assert_int_equal(start(&c, "loadhang", &id, &err), 0);
    runner_cancel(runner, id);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.finish, GEN_FINISH_CANCEL);
    unload("loadhang");
}

static void unload_ends_requests_with_gone(void **state)
{
    (void)state;
    struct client c;
    struct err err = ERR_INIT;
    uint64_t id;
    bool was_loaded = true;
    assert_int_equal(runner_unload(runner, "slow", &was_loaded, &err), 0);
    assert_false(was_loaded);
    assert_int_equal(start(&c, "slow", &id, &err), 0);
    client_wait(&c, &c.has_started);
    assert_int_equal(runner_unload(runner, "slow", &was_loaded, &err), 0);
    assert_true(was_loaded);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_GONE);
}

static void names_that_are_not_known(void **state)
{
    (void)state;
    struct client c;
    struct err err = ERR_INIT;
    uint64_t id;
    assert_int_equal(start(&c, "chaty", &id, &err), -E_NOTFOUND);
    assert_non_null(strstr(err.msg, "did you mean chatty?"));
    assert_int_equal(start(&c, "zzzzzzzzzz", &id, &err), -E_NOTFOUND);
    assert_non_null(strstr(err.msg, "berth list"));
    /* A file that comes later is found without anyone telling. */
    assert_int_equal(start(&c, "late", &id, &err), -E_NOTFOUND);
    make_model("late");
    ask(&c, "late");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    ask(&c, "late.gguf");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    unload("late");
    char path[256], name[LIMIT_MODEL_NAME_BYTES + 1];
    snprintf(path, sizeof(path), "%s/late.gguf", dir);
    unlink(path);
    /* By path. */
    assert_int_equal(runner_register(runner, path, NULL, name, &err), -E_NOTFOUND);
    assert_int_equal(runner_register(runner, "late.gguf", NULL, name, &err), -E_INVALID);
    assert_int_equal(runner_register(runner, "/dev/zero", NULL, name, &err), -E_INVALID);
    snprintf(path, sizeof(path), "%s/ok.gguf", dir);
    assert_int_equal(runner_register(runner, path, NULL, name, &err), 0);
    assert_string_equal(name, "ok");
    assert_int_equal(runner_register(runner, path, "other", name, &err), 0);
    assert_string_equal(name, "other");
    assert_int_equal(runner_register(runner, path, "slow", name, &err), -E_EXISTS);
    assert_int_equal(runner_register(runner, path, "", name, &err), -E_INVALID);
    static const char *const unsafe[] = {"a\nb",           "a\x1b[31m",     "a\x7f", "a\xc2\x9bm",
                                         "a\xe2\x80\xaex", "\xef\xbb\xbfx", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(unsafe); i++)
        assert_int_equal(runner_register(runner, path, unsafe[i], name, &err), -E_INVALID);
}

static void special_files_are_refused(void **state)
{
    (void)state;
    char path[256], name[LIMIT_MODEL_NAME_BYTES + 1];
    struct err err = ERR_INIT;
    snprintf(path, sizeof(path), "%s/pipe.gguf", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(runner_register(runner, path, NULL, name, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "not a regular file"));
    unlink(path);
}

static void a_full_queue_is_busy(void **state)
{
    (void)state;
    static struct client clients[LIMIT_REQUESTS_QUEUED + 1];
    struct err err = ERR_INIT;
    uint64_t id;
    for (size_t i = 0; i < LIMIT_REQUESTS_QUEUED; i++)
        assert_int_equal(start(&clients[i], "slow", &id, &err), 0);
    assert_int_equal(start(&clients[LIMIT_REQUESTS_QUEUED], "slow", &id, &err), -E_BUSY);
    unload("slow");
    for (size_t i = 0; i < LIMIT_REQUESTS_QUEUED; i++) {
        client_wait(&clients[i], &clients[i].is_over);
        assert_int_equal(clients[i].err.code, E_GONE);
    }
}

static int set_template(const char *model, const char *text, struct err *err)
{
    struct model_settings s;
    model_settings_init(&s);
    if (text[0]) {
        s.chat_template = mem_dup(text, strlen(text));
        s.chat_template_len = strlen(text);
    }
    int rc = runner_settings_set(runner, model, &s, false, err);
    model_settings_release(&s);
    return rc;
}

static void a_new_template_unloads(void **state)
{
    (void)state;
    struct client a, b;
    struct err err = ERR_INIT;
    ask(&a, "ok");
    assert_int_equal(set_template("ok", "{{ messages }}", &err), 0);
    ask(&b, "ok");
    assert_int_not_equal(atoi(a.text), atoi(b.text));
    assert_int_equal(set_template("ok", "{{ messages }}", &err), 0);
    ask(&a, "ok"); /* the same again: stays loaded */
    assert_int_equal(atoi(a.text), atoi(b.text));
    assert_int_equal(set_template("nosuch", "x", &err), -E_NOTFOUND);
    unload("ok");
}

static void loading_alone(void **state)
{
    (void)state;
    struct client c;
    struct err err = ERR_INIT;
    client_init(&c);
    assert_int_equal(runner_load(runner, "ok", NULL, on_event, &c, &err), 0);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    client_init(&c);
    assert_int_equal(runner_load(runner, "ok", NULL, on_event, &c, &err), 0); /* it is loaded */
    client_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    client_init(&c);
    assert_int_equal(runner_load(runner, "loadfail", NULL, on_event, &c, &err), 0);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_FORMAT);
    unload("ok");
}

static void no_descriptor_is_left_behind(void **state)
{
    (void)state;
    struct client c;
    ask(&c, "ok");
    unload("ok");
    ask(&c, "loadfail");
    size_t before = fds_count();
    for (int i = 0; i < 25; i++) {
        ask(&c, "ok");
        assert_int_equal(c.last, GEN_EVENT_DONE);
        unload("ok");
        ask(&c, "loadfail");
    }
    for (int i = 0; i < 100 && fds_count() > before; i++)
        usleep(20000); /* the last ones are still being reaped */
    assert_true(fds_count() <=
                before); /* fewer, when earlier workers were still being reaped at first */
}

/* The nth allocation fails, wherever it is: the request ends one way or the other, and the next one
 * works. */
static void lack_of_memory_costs_a_request(void **state)
{
    (void)state;
    struct client c;
    int n_failed = 0;
    for (long n = 0; n < 30; n++) {
        uint64_t id;
        struct err err = ERR_INIT;
        mem_fault_after(n);
        int rc = start(&c, "ok", &id, &err);
        if (rc == 0)
            client_wait(&c, &c.is_over);
        mem_fault_after(-1);
        n_failed += rc < 0 || c.last == GEN_EVENT_FAILED;
        ask(&c, "ok");
        if (c.last == GEN_EVENT_FAILED) /* its worker's end was just being noticed */
            ask(&c, "ok");
        assert_int_equal(c.last, GEN_EVENT_DONE);
        if (n % 3 == 0)
            unload("ok");
    }
    assert_true(n_failed > 0);
    unload("ok");
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "worker") == 0)
        return fake_worker(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_worker_serves_and_stays),
        cmocka_unit_test(death_midstream_ends_requests_and_the_next_works),
        cmocka_unit_test(a_broken_protocol_ends_the_worker),
        cmocka_unit_test(loads_that_fail_say_why),
        cmocka_unit_test(silence_ends_the_worker),
        cmocka_unit_test(a_cancel_is_answered),
        cmocka_unit_test(unload_ends_requests_with_gone),
        cmocka_unit_test(names_that_are_not_known),
        cmocka_unit_test(special_files_are_refused),
        cmocka_unit_test(a_full_queue_is_busy),
        cmocka_unit_test(a_new_template_unloads),
        cmocka_unit_test(loading_alone),
        cmocka_unit_test(lack_of_memory_costs_a_request),
        cmocka_unit_test(no_descriptor_is_left_behind),
    };
    return cmocka_run_group_tests_name("runner", tests, setup, teardown);
}
