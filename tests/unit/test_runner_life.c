/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/runner's care of several models: how long they stay, who makes room, what becomes of those
 * that crash, what is remembered.  Workers are played by this program (fake_worker.h). */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/runner/digest.h"
#include "daemon/runner/runner.h"
#include "daemon/runner/times.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/sys/file.h"
#include "tests/support/fake_worker.h"

#define MIB (1ull << 20)

static char dir[] = "/tmp/berth-life-XXXXXX";
static char state_dir[64];

static const char *const models[] = {"a1",    "a2",    "a3",        "slow1",    "slow2",  "big",
                                     "crash", "moody", "loadcrash", "loadfail", "unasked"};

static void path_of(const char *folder, const char *name, const char *suffix, char ret[256])
{
    snprintf(ret, 256, "%s/%s%s", folder, name, suffix);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        char path[256];
        path_of(dir, models[i], ".gguf", path);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0 || write(fd, models[i], strlen(models[i])) < 0)
            return -1;
        close(fd);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char path[256];
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        path_of(dir, models[i], ".gguf", path);
        unlink(path);
    }
    path_of(state_dir, "models", ".json", path);
    unlink(path);
    path_of(state_dir, "digests", ".json", path);
    unlink(path);
    rmdir(state_dir);
    return rmdir(dir);
}

static struct runner *begin(struct runner_config cfg)
{
    struct runner *r;
    struct err err = ERR_INIT;
    const struct runner_times times = {20, 100, 60000, 400, 2000, 50};
    cfg.models_dirs = dir;
    cfg.load_timeout_s = cfg.hang_timeout_s = 20;
    if (cfg.max_memory_bytes == 0)
        cfg.max_memory_bytes = 1000 * MIB;
    int rc = runner_new(&cfg, &r, &err);
    if (rc < 0)
        print_error("%s\n", err.msg);
    assert_int_equal(rc, 0);
    runner_set_times(r, &times);
    return r;
}

static int start(struct runner *r, struct caller *c, const char *model,
                 const struct run_options *opt, uint64_t *ret_id, struct err *err)
{
    struct gen_request q;
    caller_init(c);
    gen_request_init(&q);
    q.text = STR_LIT("Once");
    return runner_generate(r, model, &q, opt, caller_on_event, c, ret_id, err);
}

static void ask_with(struct runner *r, struct caller *c, const char *model,
                     const struct run_options *opt)
{
    uint64_t id;
    struct err err = ERR_INIT;
    int rc = start(r, c, model, opt, &id, &err);
    if (rc < 0) {
        caller_init(c);
        c->last = GEN_EVENT_FAILED;
        c->err = err;
        return;
    }
    caller_wait(c, &c->is_over);
}

static void ask(struct runner *r, struct caller *c, const char *model)
{
    ask_with(r, c, model, NULL);
}

static void must_answer(struct runner *r, const char *model)
{
    struct caller c;
    ask(r, &c, model);
    if (c.last != GEN_EVENT_DONE)
        print_error("%s: %s\n", model, c.err.msg);
    assert_int_equal(c.last, GEN_EVENT_DONE);
}

/* The model as the list has it; its owned parts are gone. */
static struct model_info look(struct runner *r, const char *model)
{
    struct model_list l;
    struct model_info ret = {0};
    struct err err = ERR_INIT;
    assert_int_equal(runner_list(r, &l, &err), 0);
    for (size_t i = 0; i < l.n; i++) {
        if (strcmp(l.items[i].name, model) == 0)
            ret = l.items[i];
    }
    model_list_release(&l);
    return ret;
}

static struct runner_stats stats_of(struct runner *r)
{
    struct runner_stats s;
    struct err err = ERR_INIT;
    assert_int_equal(runner_stats(r, &s, &err), 0);
    return s;
}

static void wait_state(struct runner *r, const char *model, enum model_state wanted)
{
    for (int i = 0; i < 1000 && look(r, model).state != wanted; i++)
        usleep(10000);
    assert_int_equal(look(r, model).state, wanted);
}

/* --- staying */

static void an_idle_model_leaves_when_its_time_is_over(void **state)
{
    (void)state;
    struct caller c;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    const struct run_options at_once = {.has_keep_alive = true, .keep_alive_s = 0};
    const struct run_options soon = {.has_keep_alive = true, .keep_alive_s = 1};
    must_answer(r, "a1");
    assert_true(look(r, "a1").expires_in_s == RUN_FOREVER);
    ask_with(r, &c, "a1", &soon);
    assert_true(look(r, "a1").expires_in_s <= 1 || look(r, "a1").state == MODEL_IDLE);
    wait_state(r, "a1", MODEL_IDLE);
    ask_with(r, &c, "a2", &at_once);
    wait_state(r, "a2", MODEL_IDLE);
    assert_int_equal(stats_of(r).n_idle_unloads, 2);
    /* A pinned one stays, whatever a request says. */
    struct model_settings s;
    struct err err = ERR_INIT;
    model_settings_init(&s);
    s.pinned = true;
    assert_int_equal(runner_settings_set(r, "a3", &s, false, &err), 0);
    ask_with(r, &c, "a3", &at_once);
    usleep(100000);
    assert_int_equal(look(r, "a3").state, MODEL_READY);
    runner_free(r);
}

static void a_load_alone_stays_for_a_moment(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    struct runner *r = begin((struct runner_config){.keep_alive_s = 0});
    caller_init(&c);
    assert_int_equal(runner_load(r, "a1", NULL, caller_on_event, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_true(c.n_progress > 0);
    wait_state(r, "a1", MODEL_IDLE);
    runner_free(r);
}

/* --- room */

static void the_longest_unused_makes_room(void **state)
{
    (void)state;
    struct runner *r =
        begin((struct runner_config){.keep_alive_s = RUN_FOREVER, .max_memory_bytes = 250 * MIB});
    must_answer(r, "a1");
    usleep(3000);
    must_answer(r, "a2");
    usleep(3000);
    must_answer(r, "a1"); /* now a2 is the older one */
    usleep(3000);
    must_answer(r, "a3");
    assert_int_equal(look(r, "a1").state, MODEL_READY);
    assert_int_equal(look(r, "a2").state, MODEL_IDLE);
    assert_int_equal(look(r, "a3").state, MODEL_READY);
    struct runner_stats s = stats_of(r);
    assert_int_equal(s.n_evictions, 1);
    assert_int_equal(s.planned_bytes, 200 * MIB);
    assert_int_equal(s.max_memory_bytes, 250 * MIB);
    runner_free(r);
}

static void what_does_not_fit_is_refused_with_the_sum(void **state)
{
    (void)state;
    struct caller c, busy;
    struct err err = ERR_INIT;
    uint64_t id;
    struct runner *r =
        begin((struct runner_config){.keep_alive_s = RUN_FOREVER, .max_memory_bytes = 650 * MIB});
    assert_int_equal(start(r, &busy, "slow1", NULL, &id, &err), 0);
    caller_wait(&busy, &busy.has_started);
    ask(r, &c, "big"); /* 600 beside 100 that are in use */
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_NOMEM);
    assert_non_null(strstr(c.err.msg, "takes 600.0 MiB (weights 300.0 MiB, cache 300.0 MiB"));
    assert_non_null(strstr(c.err.msg, "slow1 100.0 MiB (busy)"));
    /* 250 MiB are left for the cache: 250 blocks of 16 for 8 sequences. */
    assert_non_null(strstr(c.err.msg, "--max-model-len 496 (now 600) would fit"));
    assert_non_null(strstr(c.err.msg, "raise --max-memory to 700.0 MiB"));
    assert_int_equal(stats_of(r).n_refused_memory, 1);
    assert_int_equal(look(r, "slow1").n_running, 1); /* nothing was ended for it */
    assert_int_equal(look(r, "big").state, MODEL_FAILED);
    runner_cancel(r, id);
    caller_wait(&busy, &busy.is_over);
    must_answer(r, "big"); /* now slow1 is idle, and goes */
    assert_int_equal(look(r, "slow1").state, MODEL_IDLE);
    runner_free(r);
}

static void so_many_models_and_no_more(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    struct model_settings s;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER, .max_loaded = 1});
    must_answer(r, "a1");
    must_answer(r, "a2");
    assert_int_equal(look(r, "a1").state, MODEL_IDLE);
    assert_int_equal(stats_of(r).n_loaded, 1);
    model_settings_init(&s);
    s.pinned = true;
    assert_int_equal(runner_settings_set(r, "a2", &s, false, &err), 0);
    ask(r, &c, "a3");
    assert_int_equal(c.err.code, E_NOMEM);
    assert_non_null(strstr(c.err.msg, "--max-loaded 1"));
    assert_non_null(strstr(c.err.msg, "a2 100.0 MiB (pinned)"));
    runner_free(r);
}

static void a_worker_that_does_not_ask_is_ended(void **state)
{
    (void)state;
    struct caller c;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    ask(r, &c, "unasked");
    assert_int_equal(c.err.code, E_GONE);
    assert_non_null(strstr(c.err.msg, "out of its phase"));
    runner_free(r);
}

/* --- crashes */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void three_crashes(struct runner *r)
{
    struct caller c;
    for (int i = 0; i < 3; i++) {
        ask(r, &c, "moody");
        assert_int_equal(c.err.code, E_GONE);
        assert_non_null(strstr(c.err.msg, "the next request starts another"));
    }
    wait_state(r, "moody", MODEL_BROKEN);
}

static void crashes_break_a_model(void **state)
{
    (void)state;
    struct caller c;
    char why[256];
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    const struct runner_times long_broken = {20, 100, 60000, 60000, 60000, 50};
    runner_set_times(r, &long_broken);
    three_crashes(r);
    struct model_info m = look(r, "moody");
    assert_int_equal(m.n_crashes, 3);
    assert_in_range(m.retry_in_s, 1, 60);
    assert_non_null(strstr(m.failure, "SIGABRT"));
    ask(r, &c, "moody");
    assert_int_equal(c.err.code, E_BROKEN);
    assert_non_null(strstr(c.err.msg, "SIGABRT"));
    assert_null(strstr(c.err.msg, "the next request starts another"));
    assert_int_equal(look(r, "moody").n_crashes, 3);   /* nothing was started for it */
    assert_true(runner_is_ready(r, why, sizeof(why))); /* it is not pinned */
    runner_free(r);
}

/* Asks until the model is tried again; returns when that one began. */
static uint64_t ask_until_tried(struct runner *r, struct caller *c)
{
    uint64_t begun = 0;
    for (int i = 0; i < 4000; i++) {
        begun = now_ms();
        ask(r, c, "moody");
        if (c->err.code != E_BROKEN)
            break;
        usleep(5000);
    }
    return begun;
}

static void an_answer_mends_a_broken_model(void **state)
{
    (void)state;
    struct caller c;
    char heal[64];
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    fake_heal_path(getpid(), heal);
    uint64_t start = now_ms();
    three_crashes(r);
    uint64_t trial = ask_until_tried(r, &c);
    assert_int_equal(c.err.code, E_GONE); /* the trial fails: refused for twice as long */
    assert_true(now_ms() - start >= 400);
    for (int i = 0; i < 1000 && look(r, "moody").n_crashes < 4; i++)
        usleep(10000);
    close(open(heal, O_WRONLY | O_CREAT, 0600));
    ask_until_tried(r, &c);
    assert_int_equal(c.last, GEN_EVENT_DONE);
    assert_true(now_ms() - trial >= 800);
    assert_int_equal(look(r, "moody").state, MODEL_READY);
    assert_int_equal(look(r, "moody").retry_in_s, 0);
    must_answer(r, "moody");
    unlink(heal);
    runner_free(r);
}

static void unloading_forgives(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    bool was_loaded;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    for (int i = 0; i < 3; i++) {
        ask(r, &c, "loadcrash");
        assert_int_equal(c.err.code, E_GONE);
        assert_non_null(strstr(c.err.msg, "SIGSEGV while loading"));
    }
    ask(r, &c, "loadcrash");
    assert_int_equal(c.err.code, E_BROKEN);
    assert_int_equal(runner_unload(r, "loadcrash", &was_loaded, &err), 0);
    ask(r, &c, "loadcrash");
    assert_int_equal(c.err.code, E_GONE);
    for (int i = 0; i < 5; i++) { /* a reason is no crash */
        ask(r, &c, "loadfail");
        assert_int_equal(c.err.code, E_FORMAT);
    }
    assert_int_equal(look(r, "loadfail").state, MODEL_FAILED);
    assert_int_equal(look(r, "loadfail").n_crashes, 0);
    runner_free(r);
}

/* Those that wait are not touched by the death of a worker that did not have them. */
static void what_waits_outlives_a_crash(void **state)
{
    (void)state;
    enum { N = 40 }; /* 8 at once, 16 sent ahead */
    static struct caller clients[N];
    struct err err = ERR_INIT;
    uint64_t ids[N];
    uint32_t n_gone = 0;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    for (int i = 0; i < N; i++)
        assert_int_equal(start(r, &clients[i], "slow1", NULL, &ids[i], &err), 0);
    caller_wait(&clients[0], &clients[0].has_started);
    int pid = look(r, "slow1").pid;
    kill(pid, SIGKILL);
    caller_wait(&clients[N - 1], &clients[N - 1].has_started);
    assert_int_not_equal(look(r, "slow1").pid, pid);
    assert_int_equal(stats_of(r).n_crashes, 1);
    runner_free(r);
    for (int i = 0; i < N; i++) {
        assert_true(clients[i].is_over);
        n_gone += clients[i].err.code == E_GONE; /* the others: E_STOPPING */
    }
    assert_int_equal(n_gone, 24);
}

/* --- time and end */

static void a_deadline_ends_a_request(void **state)
{
    (void)state;
    struct caller c, d;
    struct err err = ERR_INIT;
    uint64_t id;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    const struct run_options opt = {.deadline_ms = 100};
    ask_with(r, &c, "slow1", &opt);
    assert_int_equal(c.last, GEN_EVENT_FAILED);
    assert_int_equal(c.err.code, E_TIMEOUT);
    /* The worker was told: it has nothing left to run. */
    for (int i = 0; i < 500 && look(r, "slow1").n_running; i++)
        usleep(10000);
    assert_int_equal(look(r, "slow1").n_running, 0);
    assert_int_equal(start(r, &d, "slow1", NULL, &id, &err), 0);
    caller_wait(&d, &d.has_started);
    runner_free(r);
}

static void stopping_answers_everybody(void **state)
{
    (void)state;
    struct caller a, b, c;
    struct err err = ERR_INIT;
    char why[256];
    uint64_t id;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    assert_true(runner_is_alive(r, 5000));
    assert_true(runner_is_ready(r, why, sizeof(why)));
    assert_int_equal(start(r, &a, "slow1", NULL, &id, &err), 0);
    caller_wait(&a, &a.has_started);
    assert_int_equal(start(r, &b, "slow2", NULL, &id, &err), 0);
    runner_stop(r);
    assert_true(a.is_over && b.is_over);
    assert_int_equal(a.err.code, E_STOPPING);
    assert_int_equal(start(r, &c, "a1", NULL, &id, &err), -E_STOPPING);
    assert_false(runner_is_ready(r, why, sizeof(why)));
    assert_true(stats_of(r).is_stopping);
    assert_true(runner_is_alive(r, 5000));
    runner_free(r);
}

/* --- tokens */

static void on_tokens(void *ctx, const struct run_tokens *t)
{
    struct caller *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->err = t->err;
    snprintf(c->text, sizeof(c->text), "%.*s%d/%u", STR_ARG(t->text),
             t->n_tokens ? t->tokens[0] : -1, t->n_ctx);
    c->is_over = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void tokens_and_back(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    const int32_t ids[] = {1, 2};
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    caller_init(&c);
    assert_int_equal(runner_tokenize(r, "a1", STR_LIT("hi"), true, false, on_tokens, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_string_equal(c.text, "42/128");
    caller_init(&c);
    assert_int_equal(runner_detokenize(r, "a1", ids, 2, on_tokens, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_string_equal(c.text, "x-1/128");
    caller_init(&c);
    assert_int_equal(
        runner_tokenize(r, "loadfail", STR_LIT("hi"), true, false, on_tokens, &c, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_FORMAT);
    assert_int_equal(runner_detokenize(r, "nosuch", ids, 2, on_tokens, &c, &err), -E_NOTFOUND);
    runner_free(r);
}

/* --- what is remembered */

static void settings_outlive_the_daemon(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct model_settings s;
    char path[256];
    struct runner_config cfg = {.keep_alive_s = RUN_FOREVER, .state_dir = state_dir};
    struct runner *r = begin(cfg);
    model_settings_init(&s);
    s.has_context_size = s.has_temperature = s.pinned = true;
    s.context_size = 77;
    s.temperature = 0.7f;
    assert_int_equal(runner_settings_set(r, "a1.gguf", &s, false, &err), 0);
    runner_free(r);
    r = begin(cfg);
    assert_int_equal(runner_settings_get(r, "a1", &s, &err), 0);
    assert_true(s.has_context_size && s.has_temperature && s.pinned);
    assert_int_equal(s.context_size, 77);
    assert_true(s.temperature == 0.7f);
    model_settings_release(&s);
    runner_free(r);
    /* A broken file is refused and left alone. */
    path_of(state_dir, "models", ".json", path);
    static const char broken[] = "{\"models\": {\"a1\": {\"contxt\": 1}}}";
    assert_int_equal(file_write_whole(path, broken, strlen(broken), &err), 0);
    cfg.models_dirs = dir;
    assert_int_equal(runner_new(&cfg, &r, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "models.json"));
    assert_non_null(strstr(err.msg, "contxt"));
    struct buf text;
    assert_int_equal(file_read_all(path, 4096, &text, &err), 0);
    assert_string_equal(text.data, broken);
    buf_release(&text);
    unlink(path);
}

static void busy_models_may_keep_their_settings(void **state)
{
    (void)state;
    struct caller c;
    struct err err = ERR_INIT;
    struct model_settings s;
    uint64_t id;
    struct runner *r = begin((struct runner_config){.keep_alive_s = RUN_FOREVER});
    assert_int_equal(start(r, &c, "slow1", NULL, &id, &err), 0);
    caller_wait(&c, &c.has_started);
    model_settings_init(&s);
    s.has_max_tokens = true; /* takes no new worker */
    s.max_tokens = 3;
    assert_int_equal(runner_settings_set(r, "slow1", &s, true, &err), 0);
    s.has_context_size = true;
    s.context_size = 64;
    assert_int_equal(runner_settings_set(r, "slow1", &s, true, &err), -E_BUSY);
    assert_int_equal(runner_settings_get(r, "slow1", &s, &err), 0);
    assert_false(s.has_context_size);
    s.has_context_size = true;
    s.context_size = 64;
    assert_int_equal(runner_settings_set(r, "slow1", &s, false, &err), 0);
    caller_wait(&c, &c.is_over);
    assert_int_equal(c.err.code, E_UNLOADED);
    runner_free(r);
}

/* SHA-256 of "a1", from sha256sum(1). */
#define A1_DIGEST "sha256:f55ff16f66f43360266b95db6f8fec01d76031054306ae4a4b380598f6cfd114"

static void answers_name_their_bytes(void **state)
{
    (void)state;
    struct caller c, d;
    struct err err = ERR_INIT;
    char path[256];
    struct runner_config cfg = {.keep_alive_s = RUN_FOREVER, .state_dir = state_dir};
    struct runner *r = begin(cfg);
    ask(r, &c, "a1");
    assert_string_equal(c.digest, A1_DIGEST);
    assert_memory_equal(c.fingerprint, "fp_f55ff16f66f4_", 16);
    assert_string_equal(look(r, "a1").digest, A1_DIGEST);
    ask(r, &d, "a2");
    assert_string_not_equal(d.digest, c.digest);
    struct model_settings s;
    model_settings_init(&s);
    s.has_temperature = true;
    assert_int_equal(runner_settings_set(r, "a1", &s, false, &err), 0);
    ask(r, &d, "a1");
    assert_string_equal(d.digest, c.digest);
    assert_string_not_equal(d.fingerprint, c.fingerprint);
    runner_free(r);
    /* Remembered: what the cache says is believed while the file is the same one. */
    path_of(state_dir, "digests", ".json", path);
    struct buf text;
    assert_int_equal(file_read_all(path, 65536, &text, &err), 0);
    char *at = strstr(text.data, "f55ff16f66f4");
    assert_non_null(at);
    memcpy(at, "aaaaaaaaaaaa", 12);
    assert_int_equal(file_write_whole(path, text.data, text.len, &err), 0);
    buf_release(&text);
    r = begin(cfg);
    ask(r, &d, "a1");
    assert_memory_equal(d.digest, "sha256:aaaaaaaaaaaa", 19);
    runner_free(r);
    /* Damaged: begun anew. */
    assert_int_equal(file_write_whole(path, "{", 1, &err), 0);
    r = begin(cfg);
    ask(r, &d, "a1");
    assert_string_equal(d.digest, A1_DIGEST);
    runner_free(r);
}

static void note_digest(void *ctx, uint64_t id, const char *digest)
{
    (void)digest;
    atomic_store((_Atomic uint64_t *)ctx, id + (digest[0] ? 100 : 0));
}

/* Between the opening of a file and its hashing a pipe took its place: no digest, and no thread
 * that waits for somebody to write into it, for the daemon's end would wait with it. */
static void a_pipe_in_a_file_s_place_holds_up_nobody(void **state)
{
    (void)state;
    char file[256], fifo[256], digest[DIGEST_BYTES], *path = fifo;
    bool is_small;
    _Atomic uint64_t told = 0;
    path_of(dir, "a1", ".gguf", file);
    path_of(dir, "pipe", ".gguf", fifo);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int fd = open(file, O_RDONLY);
    assert_true(fd >= 0);
    struct model_files files = {.n = 1, .fds = &fd, .paths = &path};
    struct digests *d = digests_open(NULL);
    assert_int_equal(digests_get(d, &files, 7, note_digest, (void *)&told, digest, &is_small), 0);
    for (int i = 0; i < 2000 && atomic_load(&told) == 0; i++)
        usleep(10000);
    uint64_t said = atomic_load(&told);
    int writer = open(fifo, O_WRONLY | O_NONBLOCK); /* lets go who waits */
    digests_close(d);
    if (writer >= 0)
        close(writer);
    close(fd);
    unlink(fifo);
    assert_int_equal(said, 7);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "worker") == 0)
        return fake_worker(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_model_leaves_when_its_time_is_over),
        cmocka_unit_test(a_load_alone_stays_for_a_moment),
        cmocka_unit_test(the_longest_unused_makes_room),
        cmocka_unit_test(what_does_not_fit_is_refused_with_the_sum),
        cmocka_unit_test(so_many_models_and_no_more),
        cmocka_unit_test(a_worker_that_does_not_ask_is_ended),
        cmocka_unit_test(crashes_break_a_model),
        cmocka_unit_test(an_answer_mends_a_broken_model),
        cmocka_unit_test(unloading_forgives),
        cmocka_unit_test(what_waits_outlives_a_crash),
        cmocka_unit_test(a_deadline_ends_a_request),
        cmocka_unit_test(stopping_answers_everybody),
        cmocka_unit_test(tokens_and_back),
        cmocka_unit_test(settings_outlive_the_daemon),
        cmocka_unit_test(busy_models_may_keep_their_settings),
        cmocka_unit_test(answers_name_their_bytes),
        cmocka_unit_test(a_pipe_in_a_file_s_place_holds_up_nobody),
    };
    return cmocka_run_group_tests_name("runner_life", tests, setup, teardown);
}
