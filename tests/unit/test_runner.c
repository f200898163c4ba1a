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
#include "tests/support/fake_worker.h"
#include "tests/support/fds.h"

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

/* The runner anew: so long may a load take, and so long a worker say nothing. */
static int begin(uint32_t load_s, uint32_t hang_s)
{
    struct err err = ERR_INIT;
    const struct runner_config cfg = {.models_dirs = dir,
                                      .load_timeout_s = load_s,
                                      .hang_timeout_s = hang_s,
                                      .max_waiting = 100,
                                      .keep_alive_s = RUN_FOREVER};
    if (runner)
        runner_free(runner);
    return runner_new(&cfg, &runner, &err);
}

/* Patient with what a busy machine does slowly; tests of patience begin anew. */
static int begin_patiently(void)
{
    return begin(60, 60);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        make_model(models[i]);
    return begin_patiently();
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

static int start(struct caller *c, const char *model, uint64_t *ret_id, struct err *err)
{
    struct gen_request r;
    caller_init(c);
    gen_request_init(&r);
    r.text = STR_LIT("Once");
    return runner_generate(runner, model, &r, NULL, caller_on_event, c, ret_id, err);
}

/* One request on model, to its end. */
static void ask(struct caller *c, const char *model)
{
    uint64_t id;
    struct err err = ERR_INIT;
    int rc = start(c, model, &id, &err);
    if (rc < 0)
        print_error("%s: %s\n", model, err.msg);
    assert_int_equal(rc, 0);
    caller_wait(c, &c->is_over);
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
    struct caller a, b;
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
    struct caller c;
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
    struct caller ok;
    check_gone("crash", "SIGABRT");
    check_gone("crash", "SIGABRT"); /* a fresh one, which crashes again */
    check_gone("killme", "SIGKILL");
    check_gone("close", "SIGKILL");
    ask(&ok, "ok");
    assert_int_equal(ok.last, GEN_EVENT_DONE);
    assert_int_equal(kill(atoi(ok.text), SIGKILL), 0);
    /* The kill may be noticed before the next request or during it; afterwards there is a new
     * process. */
    struct caller after;
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
    struct caller c;
    ask(&c, "chatty"); /* the answer was whole; what came after it ends the process alone */
    assert_int_equal(c.last, GEN_EVENT_DONE);
}

static void loads_that_fail_say_why(void **state)
{
    (void)state;
    struct caller c;
    ask(&c, "loadfail");
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_FORMAT);
    assert_string_equal(c.err.msg, "tensor 'x' lies past the end of the file");
    check_gone("loadcrash", "SIGSEGV while loading");
    check_gone("loadexit", "exited with status 7 while loading");
    assert_int_equal(begin(1, 60), 0);
    ask(&c, "loadhang");
    assert_int_equal(c.err.code, E_TIMEOUT);
    assert_int_equal(begin_patiently(), 0);
    ask(&c, "two");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    unload("two");
}

static void silence_ends_the_worker(void **state)
{
    (void)state;
    assert_int_equal(begin(60, 1), 0);
    check_gone("hang", "no sign of life");
    assert_int_equal(begin(60, 4), 0); /* pings each second */
    struct caller c;
    ask(&c, "badpong");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    usleep(1200000); /* its first PONG is wrong; the daemon must outlive that */
    ask(&c, "badpong");
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_int_equal(begin_patiently(), 0);
}

static void a_cancel_is_answered(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    uint64_t id;
    assert_int_equal(start(&c, "slow", &id, &err), 0);
    caller_wait(&c, &c.has_started);
    runner_cancel(runner, id);
    runner_cancel(runner, id);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_int_equal(c.finish, GEN_FINISH_CANCEL);
    runner_cancel(runner, id + 100); /* unknown: nothing */
    /* Before it was sent: the model is still loading. */
    unload("slow");
    assert_int_equal(start(&c, "loadhang", &id, &err), 0);
    runner_cancel(runner, id);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.finish, GEN_FINISH_CANCEL);
    unload("loadhang");
}

static void unload_ends_requests_with_gone(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    uint64_t id;
    bool was_loaded = true;
    assert_int_equal(runner_unload(runner, "slow", &was_loaded, &err), 0);
    assert_false(was_loaded);
    assert_int_equal(start(&c, "slow", &id, &err), 0);
    caller_wait(&c, &c.has_started);
    assert_int_equal(runner_unload(runner, "slow", &was_loaded, &err), 0);
    assert_true(was_loaded);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_UNLOADED);
}

static void names_that_are_not_known(void **state)
{
    (void)state;
    struct caller c;
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
    enum { N = 100 + 8 }; /* max_waiting, and those that the fake worker would run at once */
    static struct caller clients[N + 1];
    struct err err = ERR_INIT;
    uint64_t id;
    for (size_t i = 0; i < N; i++)
        assert_int_equal(start(&clients[i], "slow", &id, &err), 0);
    assert_int_equal(start(&clients[N], "slow", &id, &err), -E_BUSY);
    unload("slow");
    for (size_t i = 0; i < N; i++) {
        caller_wait(&clients[i], &clients[i].is_over);
        assert_int_equal(clients[i].err.code, E_UNLOADED);
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
    struct caller a, b;
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
    struct caller c;
    struct err err = ERR_INIT;
    caller_init(&c);
    assert_int_equal(runner_load(runner, "ok", NULL, caller_on_event, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    caller_init(&c);
    assert_int_equal(runner_load(runner, "ok", NULL, caller_on_event, &c, &err),
                     0); /* it is loaded */
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    caller_init(&c);
    assert_int_equal(runner_load(runner, "loadfail", NULL, caller_on_event, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_FORMAT);
    unload("ok");
}

static void no_descriptor_is_left_behind(void **state)
{
    (void)state;
    struct caller c;
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
    for (int i = 0; i < 1000 && fds_count() > before; i++)
        usleep(20000); /* the last ones are still being reaped */
    assert_true(fds_count() <=
                before); /* fewer, when earlier workers were still being reaped at first */
}

/* The nth allocation fails, wherever it is: the request ends one way or the other, and the next one
 * works. */
static void lack_of_memory_costs_a_request(void **state)
{
    (void)state;
    struct caller c;
    int n_failed = 0;
    for (long n = 0; n < 30; n++) {
        uint64_t id;
        struct err err = ERR_INIT;
        mem_fault_after(n);
        int rc = start(&c, "ok", &id, &err);
        if (rc == 0)
            caller_wait(&c, &c.is_over);
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
