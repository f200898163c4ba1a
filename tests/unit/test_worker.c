/* SPDX-License-Identifier: Apache-2.0 */
/* The whole path below HTTP: daemon/runner and real workers on the model that ships.  This program,
 * started again as `berth worker ...`, is the worker. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/runner.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"
#include "lib/sys/spawn.h"
#include "tests/support/fds.h"
#include "worker/serve/worker.h"

#define MODEL "models/stories.gguf"

struct client {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf text[4];
    uint32_t n_deltas, n_logprobs, n_tokens, n_prompt, n_generated;
    enum gen_finish finish[4];
    int32_t stop_index[4];
    bool has_text, is_over, order_is_bad;
    enum gen_event_type last;
    enum gen_finish last_finish;
    struct err err;
};

static void take_delta(struct client *c, const struct gen_event *e)
{
    c->n_deltas++;
    c->n_tokens += e->n_tokens;
    buf_append(&c->text[e->choice], e->text.p, e->text.len);
    c->has_text = c->has_text || e->text.len;
    for (uint32_t i = 0; e->tokens && i < e->n_tokens; i++) {
        const struct gen_token *t = &e->tokens[i];
        c->n_logprobs++;
        c->order_is_bad = c->order_is_bad || t->logprob > 0 || t->n_top == 0 || t->bytes.len == 0 ||
                          t->top[0].logprob < t->logprob;
    }
}

static void on_event(void *ctx, const struct gen_event *e)
{
    struct client *c = ctx;
    pthread_mutex_lock(&c->lock);
    switch (e->type) {
    case GEN_EVENT_STARTED: c->n_prompt = e->n_prompt; break;
    case GEN_EVENT_DELTA: take_delta(c, e); break;
    case GEN_EVENT_CHOICE_DONE:
        c->finish[e->choice] = e->finish;
        c->stop_index[e->choice] = e->stop_index;
        break;
    case GEN_EVENT_DONE:
        c->n_generated = e->n_generated;
        c->last_finish = e->finish;
        break;
    case GEN_EVENT_PROGRESS: break;
    case GEN_EVENT_FAILED:
        err_set(&c->err, (enum err_code)e->code, "%.*s", STR_ARG(e->message));
        break;
    }
    c->last = e->type;
    c->is_over = e->type == GEN_EVENT_DONE || e->type == GEN_EVENT_FAILED;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void client_init(struct client *c)
{
    *c = (struct client){.last = GEN_EVENT_STARTED};
    for (size_t i = 0; i < ARRAY_LEN(c->text); i++)
        buf_init(&c->text[i], 64u << 20);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

static void client_release(struct client *c)
{
    for (size_t i = 0; i < ARRAY_LEN(c->text); i++)
        buf_release(&c->text[i]);
}

static void client_wait(struct client *c, const bool *flag)
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

static struct runner *runner;
static char dir[] = "/tmp/berth-worker-XXXXXX";

static void copy_cut(const char *name, double share)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s.gguf", dir, name);
    FILE *in = fopen(MODEL, "rb"), *out = fopen(path, "wb");
    assert_non_null(in);
    assert_non_null(out);
    static char bytes[4u << 20];
    size_t n = fread(bytes, 1, sizeof(bytes), in);
    assert_int_equal(fwrite(bytes, 1, (size_t)((double)n * share), out),
                     (size_t)((double)n * share));
    fclose(in);
    fclose(out);
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    if (!mkdtemp(dir))
        return -1;
    copy_cut("whole", 1);
    copy_cut("cut", 0.5);
    copy_cut("head", 0.001);
    copy_cut("empty", 0);
    char dirs[300];
    snprintf(dirs, sizeof(dirs), "models:%s", dir);
    const struct runner_config cfg = {.keep_alive_s = RUN_FOREVER,
                                      .models_dirs = dirs,
                                      .n_threads = 2,
                                      .n_ctx = 512,
                                      .max_num_seqs = 8};
    return runner_new(&cfg, &runner, &err);
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"whole", "cut", "head", "empty"};
    runner_free(runner);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s.gguf", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void request_init(struct gen_request *r, const char *prompt, uint32_t max_tokens)
{
    gen_request_init(r);
    r->text = str_from(prompt);
    r->params.temperature = 0;
    r->params.max_tokens = max_tokens;
}

static uint64_t start(struct client *c, const char *model, struct gen_request *r)
{
    uint64_t id = 0;
    struct err err = ERR_INIT;
    client_init(c);
    if (runner_generate(runner, model, r, NULL, on_event, c, &id, &err) < 0)
        fail_msg("%s", err.msg);
    return id;
}

static void ask(struct client *c, const char *model, struct gen_request *r)
{
    start(c, model, r);
    client_wait(c, &c->is_over);
    if (c->last == GEN_EVENT_FAILED)
        print_message("failed: %s\n", c->err.msg);
}

static int worker_pid(const char *model)
{
    struct model_list l;
    struct err err = ERR_INIT;
    int pid = 0;
    assert_int_equal(runner_list(runner, &l, &err), 0);
    for (size_t i = 0; i < l.n; i++) {
        if (strcmp(l.items[i].name, model) == 0 && l.items[i].state == MODEL_READY)
            pid = l.items[i].pid;
    }
    model_list_release(&l);
    return pid;
}

/* --- tests
 * -----------------------------------------------------------------------------------------------------
 */

static void a_story_is_told_and_told_again(void **state)
{
    (void)state;
    struct gen_request r;
    struct client a, b;
    request_init(&r, "Once upon a time", 40);
    ask(&a, "stories", &r);
    request_init(&r, "Once upon a time", 40);
    ask(&b, "stories", &r);
    assert_int_equal(a.last, GEN_EVENT_DONE);
    assert_int_equal(a.finish[0], GEN_FINISH_LENGTH);
    assert_int_equal(a.n_tokens, 40);
    assert_int_equal(a.n_generated, 40);
    assert_int_equal(a.n_prompt, 5);
    assert_int_equal(strncmp(buf_str(&a.text[0]), ", there was a little girl named Lily.", 37), 0);
    assert_string_equal(buf_str(&a.text[0]), buf_str(&b.text[0]));
    client_release(&a);
    client_release(&b);
}

static void stop_strings_choices_logprobs_and_echo(void **state)
{
    (void)state;
    static const struct str stops[] = {{"zebra", 5}, {"named L", 7}};
    struct gen_request r;
    struct client c;
    request_init(&r, "Once upon a time", 40);
    r.stops = stops;
    r.n_stops = 2;
    r.params.n = 2;
    r.params.echo = true;
    r.params.want_logprobs = true;
    r.params.top_logprobs = 3;
    ask(&c, "stories", &r);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(buf_str(&c.text[i]), "Once upon a time, there was a little girl ");
        assert_int_equal(c.finish[i], GEN_FINISH_STOP);
        assert_int_equal(c.stop_index[i], 1);
    }
    assert_int_equal(c.n_logprobs, c.n_tokens);
    assert_int_equal(c.n_tokens, c.n_generated);
    assert_false(c.order_is_bad);
    client_release(&c);
}

static void expect_failure(const char *model, struct gen_request *r, enum err_code code,
                           const char *part)
{
    struct client c;
    ask(&c, model, r);
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, code);
    assert_non_null(strstr(c.err.msg, part));
    client_release(&c);
}

static void bad_requests_fail_alone(void **state)
{
    (void)state;
    static const int32_t outside[] = {1, 512};
    struct gen_request r;
    request_init(&r, "x", 1);
    r.input = GEN_INPUT_TOKENS;
    r.tokens = outside;
    r.n_tokens = 2;
    expect_failure("stories", &r, E_INVALID, "prompt[1] is token 512");
    request_init(&r, "x", 1);
    r.stop_tokens = outside;
    r.n_stop_tokens = 2;
    expect_failure("stories", &r, E_INVALID, "stop_token_ids[1]");
    request_init(&r, "", 1);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[{\"role\": \"user\", \"content\": \"hi\"}]");
    expect_failure("stories", &r, E_UNSUPPORTED, "no chat template");
    request_init(&r, "", 1);
    r.params.add_special = false;
    expect_failure("stories", &r, E_INVALID, "prompt is empty");
    static char letters[200001];
    memset(letters, 'a', sizeof(letters) - 1);
    request_init(&r, letters, 1);
    expect_failure("stories", &r, E_CONTEXT, "512");
}

static void chat_goes_through_the_template(void **state)
{
    (void)state;
    struct gen_request r;
    struct client chat, text;
    request_init(&r, "", 20);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[{\"role\": \"user\", \"content\": \"Once upon a time\"}]");
    ask(&chat, "stories-chat", &r);
    assert_int_equal(chat.last, GEN_EVENT_DONE);
    request_init(&r, "Once upon a time", 20);
    ask(&text, "stories-chat", &r);
    assert_string_equal(buf_str(&chat.text[0]), buf_str(&text.text[0]));
    client_release(&chat);
    client_release(&text);
    request_init(&r, "", 20);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[{\"role\": ");
    expect_failure("stories-chat", &r, E_INVALID, "messages: not valid JSON");
    request_init(&r, "", 20);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("{}");
    expect_failure("stories-chat", &r, E_INVALID, "messages must be a JSON array");
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

/* A model is what it is; a template can be given, and a bad one costs chat alone. */
static void templates_can_be_given(void **state)
{
    (void)state;
    struct gen_request r;
    struct client c;
    struct err err = ERR_INIT;
    const char *given = "{% for m in messages %}{{ m.content }} a time{% endfor %}";
    assert_int_equal(set_template("whole", given, &err), 0);
    request_init(&r, "", 5);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[{\"role\": \"user\", \"content\": \"Once upon\"}]");
    ask(&c, "whole", &r);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_int_equal(strncmp(buf_str(&c.text[0]), ", there was", 11), 0);
    client_release(&c);
    assert_int_equal(set_template("whole", "{% for", &err), 0);
    request_init(&r, "", 5);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[]");
    expect_failure("whole", &r, E_FORMAT, "chat template cannot be used");
    request_init(&r, "Once upon a time", 5);
    ask(&c, "whole", &r);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    client_release(&c);
    assert_int_equal(set_template("whole",
                                  "{% for a in range(99999999) %}{% for b in "
                                  "range(99999999) %}x{% endfor %}{% endfor %}",
                                  &err),
                     0);
    request_init(&r, "", 5);
    r.input = GEN_INPUT_CHAT;
    r.messages_json = STR_LIT("[]");
    expect_failure("whole", &r, E_LIMIT, "");
    assert_int_equal(set_template("whole", "", &err), 0);
}

static void models_that_are_cut_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const names[] = {"cut", "head", "empty"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct gen_request r;
        struct client c;
        request_init(&r, "x", 1);
        ask(&c, names[i], &r);
        assert_int_equal(c.last, GEN_EVENT_FAILED);
        assert_int_equal(c.err.code, E_FORMAT);
        assert_non_null(strstr(c.err.msg, names[i]));
        client_release(&c);
    }
}

static void a_killed_worker_is_gone_and_the_next_request_works(void **state)
{
    (void)state;
    struct gen_request r;
    struct client c, next;
    request_init(&r, "Once upon a time", 400);
    r.params.ignore_eos = true;
    r.params.n = 4;
    start(&c, "whole", &r);
    client_wait(&c, &c.has_text);
    int pid = worker_pid("whole");
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_GONE);
    assert_non_null(strstr(c.err.msg, "SIGKILL"));
    request_init(&r, "Once upon a time", 5);
    ask(&next, "whole", &r);
    assert_int_equal(next.last, GEN_EVENT_DONE);
    client_release(&c);
    client_release(&next);
}

static void a_cancel_ends_an_answer_soon(void **state)
{
    (void)state;
    struct gen_request r;
    struct client c;
    request_init(&r, "Once upon a time", 0);
    r.params.ignore_eos = true;
    uint64_t id = start(&c, "stories", &r);
    client_wait(&c, &c.has_text);
    runner_cancel(runner, id);
    client_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_int_equal(c.last_finish, GEN_FINISH_CANCEL);
    assert_true(c.n_tokens < 500);
    client_release(&c);
}

static void many_at_once_answer_as_alone(void **state)
{
    (void)state;
    enum { N = 16 };
    static struct client c[N];
    struct gen_request r;
    struct client alone;
    for (int i = 0; i < N; i++) {
        request_init(&r, i % 2 ? "One day" : "Once upon a time", 20 + (uint32_t)i % 3);
        start(&c[i], "stories", &r);
    }
    for (int i = 0; i < N; i++)
        client_wait(&c[i], &c[i].is_over);
    for (int i = 0; i < 6; i++) {
        request_init(&r, i % 2 ? "One day" : "Once upon a time", 20 + (uint32_t)i % 3);
        ask(&alone, "stories", &r);
        for (int k = i; k < N; k += 6)
            assert_string_equal(buf_str(&c[k].text[0]), buf_str(&alone.text[0]));
        client_release(&alone);
    }
    for (int i = 0; i < N; i++)
        client_release(&c[i]);
}

static void fifty_loads_leave_nothing_behind(void **state)
{
    (void)state;
    struct gen_request r;
    struct client c;
    struct err err = ERR_INIT;
    bool was_loaded;
    size_t before = 0;
    for (int i = 0; i < 51; i++) {
        request_init(&r, "Once", 2);
        ask(&c, "whole", &r);
        assert_int_equal(c.last, GEN_EVENT_DONE);
        client_release(&c);
        assert_int_equal(runner_unload(runner, "whole", &was_loaded, &err), 0);
        assert_true(was_loaded);
        for (int k = 0; k < 1000 && before && fds_count() > before; k++)
            usleep(20000); /* the last one is still being reaped */
        if (i == 0) {
            usleep(500000);
            before = fds_count();
        }
        assert_true(fds_count() <= before);
    }
}

/* --- a worker against a hostile daemon
 * ------------------------------------------------------------------------- */

/* Starts a real worker, sends it bytes, and returns how it ended. */
static struct child_end worker_fed(const void *bytes, size_t n)
{
    const char *const argv[] = {"berth", "worker", "test", "error", "8000000000", NULL};
    int pair[2];
    struct child child;
    struct child_end end = {0};
    struct err err = ERR_INIT;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const struct spawn_config cfg = {.argv = argv, .stderr_fd = null, .frames_fd = pair[1]};
    assert_int_equal(spawn_self(&cfg, &child, &err), 0);
    close(pair[1]);
    close(null);
    for (size_t done = 0; done < n;) {
        ssize_t k = send(pair[0], (const char *)bytes + done, n - done, MSG_NOSIGNAL);
        if (k < 0)
            break;
        done += (size_t)k;
    }
    for (int i = 0; i < 3000 && child_reap(&child, &end) == 0; i++) {
        usleep(20000);
        if (i == 10)
            shutdown(pair[0], SHUT_WR); /* it waits for more: the daemon is gone */
    }
    close(pair[0]);
    close(child.pidfd);
    return end;
}

static void hostile_frames_end_the_worker(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct buf b;
    char garbage[1000];
    uint64_t zero = 0;
    memset(garbage, 'G', sizeof(garbage));
    struct child_end end = worker_fed(garbage, sizeof(garbage));
    assert_false(end.was_killed);
    assert_int_equal(end.status, 4);
    buf_init(&b, 1 << 20);
    assert_int_equal(frame_write(&b, MSG_GENERATE, garbage, sizeof(garbage), &err),
                     0); /* before LOAD */
    end = worker_fed(b.data, b.len);
    assert_false(end.was_killed);
    assert_int_equal(end.status, 4);
    buf_clear(&b);
    assert_int_equal(frame_write(&b, MSG_LOAD, garbage, sizeof(garbage), &err), 0);
    end = worker_fed(b.data, b.len);
    assert_int_equal(end.status, 4);
    buf_clear(&b); /* LOAD that names a file which did not come */
    const struct str name = STR_LIT("x");
    const struct msg_load load = {.n_fds = 1, .file_names = &name};
    struct buf payload;
    buf_init(&payload, 1 << 20);
    assert_int_equal(msg_load_encode(&payload, &load, &err), 0);
    assert_int_equal(frame_write(&b, MSG_LOAD, payload.data, payload.len, &err), 0);
    end = worker_fed(b.data, b.len);
    assert_int_equal(end.status, 4);
    buf_clear(&b);
    assert_int_equal(frame_write(&b, MSG_CANCEL, &zero, sizeof(zero), &err), 0);
    end = worker_fed(b.data, b.len);
    assert_int_equal(end.status, 4);
    end = worker_fed("", 0); /* a daemon that goes away */
    assert_false(end.was_killed);
    assert_int_equal(end.status, 0);
    buf_clear(&b);
    assert_int_equal(frame_write(&b, MSG_SHUTDOWN, NULL, 0, &err), 0);
    end = worker_fed(b.data, b.len);
    assert_false(end.was_killed);
    assert_int_equal(end.status, 0);
    buf_release(&payload);
    buf_release(&b);
}

/* A daemon that is killed leaves no worker behind. */
static void workers_die_with_the_daemon(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        struct runner *r;
        struct err err = ERR_INIT;
        struct client c;
        struct model_list l;
        struct gen_request q;
        const struct runner_config cfg = {.models_dirs = "models", .keep_alive_s = RUN_FOREVER};
        client_init(&c);
        request_init(&q, "Once", 2);
        uint64_t id;
        if (runner_new(&cfg, &r, &err) < 0 ||
            runner_generate(r, "stories", &q, NULL, on_event, &c, &id, &err) < 0)
            _exit(1);
        client_wait(&c, &c.is_over);
        if (runner_list(r, &l, &err) < 0)
            _exit(1);
        int pid = 0;
        for (size_t i = 0; i < l.n; i++)
            pid = l.items[i].pid ? l.items[i].pid : pid;
        ssize_t n = write(fds[1], &pid, sizeof(pid));
        (void)n;
        pause();
    }
    int pid = 0;
    close(fds[1]);
    assert_int_equal(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
    close(fds[0]);
    assert_true(pid > 0);
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(kill(daemon, SIGKILL), 0);
    assert_int_equal(waitpid(daemon, NULL, 0), daemon);
    /* Gone, or a zombie that waits for whoever adopted it. */
    bool is_gone = false;
    for (int i = 0; i < 3000 && !is_gone; i++) {
        char path[64], line[256] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        FILE *f = fopen(path, "r");
        if (f) {
            is_gone = !fgets(line, sizeof(line), f) || strstr(line, ") Z ");
            fclose(f);
        } else {
            is_gone = true;
        }
        usleep(20000);
    }
    assert_true(is_gone);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    /* By itself: it forks, which wants no other threads. */
    const struct CMUnitTest alone[] = {cmocka_unit_test(workers_die_with_the_daemon)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_story_is_told_and_told_again),
        cmocka_unit_test(stop_strings_choices_logprobs_and_echo),
        cmocka_unit_test(bad_requests_fail_alone),
        cmocka_unit_test(chat_goes_through_the_template),
        cmocka_unit_test(templates_can_be_given),
        cmocka_unit_test(models_that_are_cut_are_refused_with_a_reason),
        cmocka_unit_test(a_killed_worker_is_gone_and_the_next_request_works),
        cmocka_unit_test(a_cancel_ends_an_answer_soon),
        cmocka_unit_test(many_at_once_answer_as_alone),
        cmocka_unit_test(fifty_loads_leave_nothing_behind),
        cmocka_unit_test(hostile_frames_end_the_worker),
    };
    int n_failed = cmocka_run_group_tests_name("worker_alone", alone, NULL, NULL);
    return n_failed + cmocka_run_group_tests_name("worker", tests, setup, teardown);
}
