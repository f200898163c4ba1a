/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/watch, lib/sys/log_file, lib/base/log: what lines look like whatever they quote, files
 * that stay within their bound, the ring, what is counted under which labels, audit lines. */
#include "tests/support/cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/watch/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/sys/file.h"
#include "lib/sys/log_file.h"

/* --- lib/base/log --- */

static void take_line(void *ctx, const char *line, size_t len)
{
    buf_clear(ctx);
    buf_append(ctx, line, len);
}

static const struct log_field hostile[] = {
    LOG_TEXT("request_id", "a b\"c\\d"),
    LOG_TEXT("model", "\xff\xc2\x9b\x1b[31m\n\xe2\x82\xac"),
    LOG_TEXT("absent", NULL),
    LOG_TEXT("empty", ""),
    LOG_NUMBER("n", 12),
    LOG_NUMBER("ms", 1.5),
    LOG_NUMBER("huge", 1e300),
};

static void lines_hold_whatever_they_quote(void **state)
{
    (void)state;
    struct buf got;
    buf_init(&got, LOG_LINE_BYTES);
    log_set_sink(take_line, &got);
    log_init(LOG_LEVEL_INFO, false, "test");
    log_write_fields(LOG_LEVEL_INFO, hostile, ARRAY_LEN(hostile), "said \"%s\"", "x\r\ny\x7f");
    const char *text = strstr(buf_str(&got), " info test: ");
    assert_non_null(text);
    assert_string_equal(text, " info test: said \"x\\x0d\\x0ay\\x7f\" request_id=\"a b\\\"c\\\\d\" "
                              "model=?\\x9b\\x1b[31m\\x0a\xe2\x82\xac n=12 ms=1.500 huge=0\n");
    log_debug("not at this level");
    assert_non_null(strstr(buf_str(&got), "said"));

    log_init(LOG_LEVEL_INFO, true, "test");
    log_write_fields(LOG_LEVEL_INFO, hostile, ARRAY_LEN(hostile), "said \"%s\"", "x\r\ny\x7f");
    json_t *v = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse((struct str){got.data, got.len}, &v, &err), 0);
    assert_string_equal(json_string_value(json_object_get(v, "msg")), "said \"x\r\ny\x7f\"");
    assert_string_equal(json_string_value(json_object_get(v, "request_id")), "a b\"c\\d");
    assert_string_equal(json_string_value(json_object_get(v, "model")),
                        "?\xc2\x9b\x1b[31m\n\xe2\x82\xac");
    assert_null(json_object_get(v, "absent"));
    assert_null(json_object_get(v, "empty"));
    assert_int_equal(json_number_value(json_object_get(v, "n")), 12);
    json_decref(v);
    log_set_sink(NULL, NULL);
    buf_release(&got);
}

static void long_lines_are_cut_and_still_whole(void **state)
{
    (void)state;
    char *bad = mem_alloc(5000), *euro = mem_alloc(5000);
    memset(bad, '\x01', 4999);
    for (size_t i = 0; i + 3 < 5000; i += 3)
        memcpy(euro + i, "\xe2\x82\xac", 3);
    const char *texts[] = {bad, euro};
    struct buf got;
    buf_init(&got, LOG_LINE_BYTES);
    log_set_sink(take_line, &got);
    for (int json = 0; json < 2; json++) {
        for (size_t i = 0; i < 2; i++) {
            struct log_field fields[] = {LOG_TEXT("long", texts[i]), LOG_NUMBER("n", 7)};
            log_init(LOG_LEVEL_INFO, json, "test");
            log_write_fields(LOG_LEVEL_INFO, fields, 2, "%s", texts[i]);
            assert_true(got.len <= LOG_LINE_BYTES && got.data[got.len - 1] == '\n');
            assert_ptr_equal(memchr(got.data, '\n', got.len), got.data + got.len - 1);
            json_t *v = NULL;
            struct err err = ERR_INIT;
            if (!json)
                continue;
            assert_int_equal(json_parse((struct str){got.data, got.len}, &v, &err), 0);
            assert_int_equal(json_number_value(json_object_get(v, "n")), 7);
            assert_true(strlen(json_string_value(json_object_get(v, "msg"))) > 200);
            json_decref(v);
        }
    }
    log_set_sink(NULL, NULL);
    buf_release(&got);
    mem_free(bad);
    mem_free(euro);
}

/* --- lib/sys/log_file --- */

struct dir {
    char path[64], file[96];
};

static struct dir dir_make(void)
{
    struct dir d = {.path = "/tmp/berth-watch-XXXXXX"};
    assert_non_null(mkdtemp(d.path));
    snprintf(d.file, sizeof(d.file), "%s/log", d.path);
    return d;
}

/* Number of entries, and bytes of the largest; the folder goes too when remove is true. */
static size_t dir_look(const char *path, size_t *ret_largest, bool remove)
{
    DIR *dir = opendir(path);
    size_t n = 0;
    struct dirent *e;
    *ret_largest = 0;
    while (dir && (e = readdir(dir))) {
        char name[400];
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        assert_int_equal(stat(name, &st), 0);
        *ret_largest = MAX_OF(*ret_largest, (size_t)st.st_size);
        n++;
        if (remove && unlink(name) < 0)
            assert_int_equal(rmdir(name), 0);
    }
    if (dir)
        closedir(dir);
    if (remove)
        assert_int_equal(rmdir(path), 0);
    return n;
}

static char *slurp(const char *path)
{
    struct buf b;
    struct err err = ERR_INIT;
    assert_int_equal(file_read_all(path, 64 << 20, &b, &err), 0);
    char *s = mem_dup(buf_str(&b), b.len);
    buf_release(&b);
    return s;
}

static int n_troubles;
static char trouble[ERR_MSG_MAX];
static void note_trouble(void *ctx, const struct err *why)
{
    (void)ctx;
    n_troubles++;
    snprintf(trouble, sizeof(trouble), "%s", why->msg);
}

static struct log_file *open_log(const char *path, uint64_t max, uint32_t n, bool is_private)
{
    struct log_file *f = NULL;
    struct err err = ERR_INIT;
    const struct log_file_config cfg = {path, max, n, is_private, note_trouble, NULL};
    n_troubles = 0;
    assert_int_equal(log_file_open(&cfg, &f, &err), 0);
    return f;
}

static void put_numbers(struct log_file *f, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char line[64];
        log_file_write(f, line,
                       (size_t)snprintf(line, sizeof(line), "line %06u of this test\n", i));
    }
}

static void full_files_move_on_and_nothing_is_lost(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct log_file *f = open_log(d.file, 1000, 3, false);
    put_numbers(f, 0, 105); /* 25 bytes each, 40 to a file */
    size_t largest;
    assert_int_equal(dir_look(d.path, &largest, false), 3);
    assert_true(largest <= 1000);
    char names[3][128];
    struct buf all;
    buf_init(&all, 1 << 20);
    for (int i = 2; i >= 0; i--) {
        snprintf(names[i], sizeof(names[i]), i ? "%s.%d" : "%s", d.file, i);
        char *text = slurp(names[i]);
        buf_append_str(&all, text);
        mem_free(text);
    }
    char line[64];
    const char *s = buf_str(&all);
    for (unsigned i = 0; i < 105; i++, s += strlen(line)) {
        snprintf(line, sizeof(line), "line %06u of this test\n", i);
        assert_memory_equal(s, line, strlen(line));
    }
    assert_string_equal(s, "");
    put_numbers(f, 105, 2000); /* further ones push the oldest out */
    assert_int_equal(dir_look(d.path, &largest, false), 3);
    assert_true(largest <= 1000);
    assert_int_equal(log_file_dropped(f), 0);
    log_file_close(f);
    f = open_log(d.file, 1000, 1, false); /* one file: what is full goes */
    put_numbers(f, 0, 100);
    char *text = slurp(d.file);
    assert_non_null(strstr(text, "line 000099"));
    assert_true(strlen(text) <= 1000);
    mem_free(text);
    log_file_close(f);
    buf_release(&all);
    dir_look(d.path, &largest, true);
}

static void private_files_are_private(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct stat st;
    size_t n;
    umask(0);
    struct log_file *f = open_log(d.file, 1000, 2, false);
    assert_int_equal(stat(d.file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    log_file_close(f);
    assert_int_equal(chmod(d.file, 0666), 0);
    f = open_log(d.file, 1000, 2, true);
    put_numbers(f, 0, 50);
    char older[128];
    snprintf(older, sizeof(older), "%s.1", d.file);
    assert_int_equal(stat(d.file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(older, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    log_file_close(f);
    umask(022);
    dir_look(d.path, &n, true);
}

/* Test plan, case 57: the bound holds, lines are dropped and counted, it is told once, and goes on
 * as soon as it can. */
static void what_cannot_be_written_is_dropped_and_counted(void **state)
{
    (void)state;
    struct dir d = dir_make();
    char older[128], inside[160];
    size_t largest;
    struct log_file *f = open_log(d.file, 1000, 2, false);
    snprintf(older, sizeof(older), "%s.1", d.file);
    snprintf(inside, sizeof(inside), "%s/x", older);
    assert_int_equal(mkdir(older, 0700), 0); /* no file can get this name */
    int fd = open(inside, O_CREAT | O_WRONLY, 0600);
    close(fd);
    put_numbers(f, 0, 100);
    assert_int_equal(log_file_dropped(f), 100 - 40);
    assert_int_equal(n_troubles, 1);
    assert_non_null(strstr(trouble, d.file));
    unlink(inside);
    assert_int_equal(rmdir(older), 0);
    struct timespec ts = {1, 100000000};
    nanosleep(&ts, NULL); /* it is tried again once a second */
    put_numbers(f, 100, 110);
    assert_int_equal(log_file_dropped(f), 100 - 40);
    char *text = slurp(d.file);
    assert_int_equal(strncmp(text, "line 000100", 11), 0);
    mem_free(text);
    log_file_close(f);

    f = open_log("/dev/full", 1000, 2, false); /* a full disk */
    put_numbers(f, 0, 10);
    assert_int_equal(log_file_dropped(f), 10);
    assert_int_equal(n_troubles, 1);
    assert_non_null(strstr(trouble, "No space left"));
    log_file_close(f);
    dir_look(d.path, &largest, true);

    struct err err = ERR_INIT;
    assert_int_equal(
        log_file_open(&(struct log_file_config){.path = d.file, .n_files = 1}, &f, &err),
        -E_IO); /* its folder is gone */
    assert_int_equal(log_file_open(&(struct log_file_config){.path = "/", .n_files = 1}, &f, &err),
                     -E_IO);
}

static void half_a_line_is_taken_back(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct rlimit old, few = {0};
    size_t n;
    struct log_file *f = open_log(d.file, 1 << 20, 2, false);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    few = old;
    few.rlim_cur = 25 * 3 + 10; /* as a disk that fills up in the middle of the fourth line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    put_numbers(f, 0, 6);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(log_file_dropped(f), 3);
    put_numbers(f, 6, 8);
    char *text = slurp(d.file);
    assert_string_equal(text, "line 000000 of this test\nline 000001 of this test\n"
                              "line 000002 of this test\nline 000006 of this test\n"
                              "line 000007 of this test\n");
    mem_free(text);
    log_file_close(f);
    dir_look(d.path, &n, true);
}

static void a_removed_or_moved_file_is_made_again(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct err err = ERR_INIT;
    char moved[128];
    size_t n;
    struct log_file *f = open_log(d.file, 1000, 2, false);
    put_numbers(f, 0, 1);
    snprintf(moved, sizeof(moved), "%s/elsewhere", d.path);
    assert_int_equal(rename(d.file, moved), 0);
    assert_int_equal(log_file_reopen(f, &err), 0);
    put_numbers(f, 1, 2);
    char *text = slurp(d.file);
    assert_string_equal(text, "line 000001 of this test\n");
    mem_free(text);
    assert_int_equal(unlink(d.file), 0);
    struct timespec ts = {1, 100000000};
    nanosleep(&ts, NULL);
    put_numbers(f, 2, 3);
    text = slurp(d.file);
    assert_string_equal(text, "line 000002 of this test\n");
    mem_free(text);
    log_file_close(f);
    dir_look(d.path, &n, true);
}

struct writer {
    struct log_file *file;
    unsigned id;
};
static void *write_many(void *ctx)
{
    struct writer *w = ctx;
    for (unsigned i = 0; i < 2000; i++) {
        char line[64];
        log_file_write(w->file, line,
                       (size_t)snprintf(line, sizeof(line), "thread %u says %04u\n", w->id, i));
    }
    return NULL;
}

static void threads_write_and_files_move(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct log_file *f = open_log(d.file, 65536, 10, false);
    struct writer writers[4];
    pthread_t threads[4];
    size_t largest, lines = 0;
    for (unsigned i = 0; i < 4; i++) {
        writers[i] = (struct writer){f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    log_file_close(f);
    size_t n = dir_look(d.path, &largest, false);
    assert_true(n > 1 && largest <= 65536);
    for (size_t i = 0; i < n; i++) {
        char name[128];
        snprintf(name, sizeof(name), i ? "%s.%zu" : "%s", d.file, i);
        char *text = slurp(name);
        for (const char *s = text; *s; s = strchr(s, '\n') + 1, lines++)
            assert_int_equal(strcspn(s, "\n"), strlen("thread 0 says 0000"));
        mem_free(text);
    }
    assert_int_equal(lines, 8000);
    dir_look(d.path, &largest, true);
}

/* --- the ring --- */

static struct watch *watch_make(const struct watch_config *cfg)
{
    struct watch *w = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(watch_new(cfg, &w, &err), 0);
    return w;
}

static char *read_tail(struct watch *w, uint32_t n_lines)
{
    struct buf out;
    uint64_t pos = watch_log_tail(w, n_lines);
    buf_init(&out, 1 << 20);
    assert_int_equal(watch_log_read(w, &pos, 1 << 20, &out), 0);
    char *s = mem_dup(buf_str(&out), out.len);
    buf_release(&out);
    return s;
}

static void the_ring_has_the_last_lines_whole(void **state)
{
    (void)state;
    struct dir d = dir_make();
    size_t n;
    log_init(LOG_LEVEL_INFO, false, "test");
    struct watch *w = watch_make(&(struct watch_config){.log_path = d.file});
    uint64_t early = watch_log_tail(w, 0);
    char *s = read_tail(w, 10);
    assert_string_equal(s, "");
    mem_free(s);
    for (int i = 0; i < 20000; i++)
        log_info("number %d", i);
    s = read_tail(w, 2);
    assert_non_null(strstr(s, "number 19998\n"));
    assert_null(strstr(s, "number 19997\n"));
    assert_string_equal(s + strlen(s) - strlen("number 19999\n"), "number 19999\n");
    mem_free(s);
    s = read_tail(w, 1000000);
    assert_true(strlen(s) <= LOGS_RING_BYTES && strlen(s) > LOGS_RING_BYTES - 100);
    assert_int_equal(strncmp(s, "20", 2), 0); /* begins with a line's time */
    mem_free(s);
    s = read_tail(w, 0);
    assert_string_equal(s, "");
    mem_free(s);
    /* A reader that was overtaken learns how much it missed, and goes on at a whole line. */
    struct buf out;
    buf_init(&out, 100);
    assert_true(watch_log_read(w, &early, 100, &out) > 500000);
    assert_int_equal(out.len, 100);
    assert_int_equal(strncmp(out.data, "20", 2), 0);
    buf_release(&out);
    watch_free(w);
    dir_look(d.path, &n, true);
}

/* --- metrics --- */

static char *write_sheet(struct metrics *m, enum metric_set set)
{
    struct metric_sheet s;
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, 64 << 20);
    metric_sheet_init(&s);
    if (m)
        metric_sheet_collect(&s, m);
    metric_sheet_alias(&s, METRIC_ttft_seconds, METRIC_vllm_ttft);
    assert_int_equal(metric_sheet_write(&s, set, &out, &err), 0);
    metric_sheet_release(&s);
    char *text = mem_dup(buf_str(&out), out.len);
    buf_release(&out);
    return text;
}

static void labels_are_escaped_and_histograms_add_up(void **state)
{
    (void)state;
    struct metrics m;
    metrics_init(&m);
    const char *labels[] = {"a\"b\\c\nd", "chat", "200", ""};
    metrics_add(&m, METRIC_requests, labels, 2);
    metrics_add(&m, METRIC_requests, labels, 3);
    const char *model = "x";
    const double seen[] = {0.005, 0.0051, 0, 299, 1e6};
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        metrics_observe(&m, METRIC_ttft_seconds, &model, seen[i]);
    metrics_observe(&m, METRIC_ttft_seconds, &model, -1);        /* a clock that jumped */
    metrics_observe(&m, METRIC_ttft_seconds, &model, 0.0 / 0.0); /* is no time */
    char *s = write_sheet(&m, METRIC_VLLM);
    static const char *const wanted[] = {
        "\nberth_requests_total{model=\"a\\\"b\\\\c\\nd\",api=\"chat\",code=\"200\",reason=\"\"} "
        "5\n",
        "\nberth_time_to_first_token_seconds_bucket{model=\"x\",le=\"0.005\"} 2\n",
        "\nberth_time_to_first_token_seconds_bucket{model=\"x\",le=\"0.01\"} 3\n",
        "\nberth_time_to_first_token_seconds_bucket{model=\"x\",le=\"300\"} 4\n",
        "\nberth_time_to_first_token_seconds_bucket{model=\"x\",le=\"+Inf\"} 5\n",
        "\nberth_time_to_first_token_seconds_sum{model=\"x\"} 1000299.0101\n",
        "\nvllm:time_to_first_token_seconds_count{model_name=\"x\"} 5\n",
        "\n# TYPE berth_worker_crashes_total counter\nberth_worker_crashes_total 0\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (!strstr(s, wanted[i]))
            fail_msg("not there: %s in\n%s", wanted[i], s);
    }
    mem_free(s);
    s = write_sheet(&m, METRIC_OWN);
    assert_null(strstr(s, "vllm:"));
    mem_free(s);
    metrics_release(&m);
}

static void series_are_bounded(void **state)
{
    (void)state;
    struct metrics m;
    metrics_init(&m);
    for (unsigned i = 0; i < METRIC_MAX_SERIES + 500; i++) {
        char name[32];
        snprintf(name, sizeof(name), "m%u", i);
        const char *label = name;
        metrics_add(&m, METRIC_prompt_tokens, &label, 1);
    }
    assert_int_equal(m.n, METRIC_MAX_SERIES + 1);
    char *s = write_sheet(&m, METRIC_OWN);
    assert_non_null(strstr(s, "\nberth_prompt_tokens_total{model=\"other\"} 500\n"));
    mem_free(s);
    metrics_release(&m);
}

static struct watch_record record(const char *model, int status, const char *code, uint32_t n)
{
    static struct gen_params params;
    gen_params_init(&params);
    params.has_seed = true;
    params.seed = INT64_MAX; /* more than a double holds */
    params.temperature = 0.7f;
    return (struct watch_record){.request_id = "req_1",
                                 .api = "completions",
                                 .model = model,
                                 .digest = n ? "sha256:00" : NULL,
                                 .fingerprint = "fp_0",
                                 .params = &params,
                                 .n_prompts = 1,
                                 .n_prompt = n,
                                 .n_generated = n,
                                 .queue_ms = 1,
                                 .decode_ms = 100,
                                 .ttft_ms = n ? 20 : 0,
                                 .total_ms = 120.5,
                                 .status = status,
                                 .code = code};
}

static void one_request(struct watch *w, struct watch_record rec)
{
    watch_begin(w, rec.api);
    watch_request(w, &rec);
}

static void models_in_labels_are_those_that_exist(void **state)
{
    (void)state;
    struct dir d = dir_make();
    size_t n;
    log_init(LOG_LEVEL_INFO, false, "test");
    struct watch *w = watch_make(&(struct watch_config){.log_path = d.file});
    one_request(w, record("sk-secret", 404, "model_not_found", 0));
    one_request(w, record("sk-other", 400, "invalid_value", 0));
    one_request(w, record("good", 200, "", 5));
    one_request(w, record("good", 400, "invalid_value", 0));
    one_request(w, record("sick", 500, "worker_crashed", 0));
    one_request(w, record("good", 499, "cancelled", 3));
    one_request(w, record(NULL, 400, "missing", 0));
    watch_denied(w, "origin");
    watch_answer(w, "req_2", "/v1/models", 200, 0.1);
    char *s = write_sheet(&w->metrics, METRIC_OWN);
    static const char *const wanted[] = {
        "berth_requests_in_flight{api=\"completions\"} 0\n",
        "{model=\"other\",api=\"completions\",code=\"404\",reason=\"model_not_found\"} 1\n",
        "{model=\"good\",api=\"completions\",code=\"200\",reason=\"\"} 1\n",
        "{model=\"good\",api=\"completions\",code=\"400\",reason=\"invalid_value\"} 1\n",
        "{model=\"good\",api=\"completions\",code=\"499\",reason=\"cancelled\"} 1\n",
        "{model=\"sick\",api=\"completions\",code=\"500\",reason=\"worker_crashed\"} 1\n",
        "berth_requests_cancelled_total{model=\"good\"} 1\n",
        "berth_generated_tokens_total{model=\"good\"} 8\n",
        "berth_request_seconds_count{model=\"good\"} 1\n",
        "berth_time_per_output_token_seconds_sum{model=\"good\"} 0.075", /* 0.1/4 + 0.1/2 */
        "berth_policy_denied_total{rule=\"origin\"} 1\n",
        "berth_http_answers_total{route=\"/v1/models\",code=\"200\"} 1\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (!strstr(s, wanted[i]))
            fail_msg("not there: %s in\n%s", wanted[i], s);
    }
    assert_null(strstr(s, "sk-"));
    mem_free(s);
    for (unsigned i = 0; i < 2 * WATCH_MAX_MODELS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "m%u", i);
        one_request(w, record(name, 200, "", 1));
    }
    assert_int_equal(w->n_names, WATCH_MAX_MODELS);
    watch_free(w);
    dir_look(d.path, &n, true);
}

/* --- audit --- */

static void audit_lines_say_everything_but_the_prompt(void **state)
{
    (void)state;
    struct dir d = dir_make();
    char path[128];
    struct stat st;
    struct err err = ERR_INIT;
    size_t n;
    snprintf(path, sizeof(path), "%s/audit", d.path);
    log_init(LOG_LEVEL_ERROR, false, "test");
    struct watch *w = watch_make(&(struct watch_config){.audit_path = path, .log_path = d.file});
    one_request(w, record("a\nb\"\xff", 200, "", 5));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char moved[160];
    snprintf(moved, sizeof(moved), "%s.old", path);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(watch_reopen(w, &err), 0);
    one_request(w, record("b", 404, "model_not_found", 0));
    char *text = slurp(moved);
    json_t *v = NULL;
    assert_int_equal(json_parse(str_from(text), &v, &err), 0);
    mem_free(text);
    const json_t *p = json_object_get(v, "params");
    assert_string_equal(json_string_value(json_object_get(v, "model")), "a\nb\"\xef\xbf\xbd");
    assert_int_equal(json_number_value(json_object_get(v, "generated_tokens")), 5);
    assert_string_equal(json_string_value(json_object_get(v, "model_digest")), "sha256:00");
    assert_true(json_number_value(json_object_get(p, "temperature")) == 0.7);
    json_decref(v);
    text = slurp(path);
    assert_non_null(strstr(text, "\"code\":\"model_not_found\""));
    assert_non_null(strstr(text, "\"seed\":9223372036854775807"));
    assert_int_equal(strcspn(text, "\n"), strlen(text) - 1);
    mem_free(text);
    assert_int_equal(atomic_load(&w->audit.n_dropped), 0);
    /* The disk is full: the request ends as ever, the loss is counted and told once. */
    struct rlimit old, none;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    assert_int_equal(stat(path, &st), 0);
    none.rlim_cur = (rlim_t)st.st_size + 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    one_request(w, record("b", 200, "", 1));
    one_request(w, record("b", 200, "", 1));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(atomic_load(&w->audit.n_dropped), 2);
    one_request(w, record("c", 200, "", 1));
    text = slurp(path);
    assert_int_equal(text[st.st_size], '{');
    assert_non_null(strstr(text + st.st_size, "\"model\":\"c\""));
    mem_free(text);
    text = read_tail(w, 100);
    const char *told = strstr(text, "audit lines are being lost");
    assert_non_null(told);
    assert_null(strstr(told + 1, "audit lines are being lost"));
    mem_free(text);
    watch_free(w);
    dir_look(d.path, &n, true);
    assert_int_equal(watch_new(&(struct watch_config){.audit_path = "/dev/null"}, &w, &err),
                     -E_INVALID);
}

static void prompts_go_to_a_private_file_or_nowhere(void **state)
{
    (void)state;
    struct dir d = dir_make();
    struct stat st;
    struct err err = ERR_INIT;
    size_t n;
    struct watch *w = NULL;
    assert_int_equal(watch_new(&(struct watch_config){.log_prompts = true}, &w, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "log-file"));
    const struct watch_config cfg = {.log_path = d.file, .log_prompts = true};
    log_init(LOG_LEVEL_INFO, false, "test");
    w = watch_make(&cfg); /* not at debug level: nothing */
    assert_false(watch_wants_text(w));
    watch_text(w, "req_1", "prompt", STR_LIT("tell me"));
    watch_free(w);
    char *text = slurp(d.file);
    assert_null(strstr(text, "tell me"));
    assert_non_null(strstr(text, "not debug"));
    mem_free(text);
    char *prompt = mem_alloc(100000);
    memset(prompt, 'p', 99999);
    for (int json = 0; json < 2; json++) {
        log_init(LOG_LEVEL_DEBUG, json, "test");
        w = watch_make(&cfg);
        assert_true(watch_wants_text(w));
        watch_text(w, "req_1", "prompt", STR_LIT("tell\nme"));
        watch_text(w, "req_1", "answer", str_from(prompt));
        assert_int_equal(stat(d.file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        text = read_tail(w, 100);
        assert_null(strstr(text, "tell"));
        assert_non_null(strstr(text, "log-prompts is on"));
        mem_free(text);
        watch_free(w);
        text = slurp(d.file);
        assert_non_null(strstr(text, "tell\\nme"));
        assert_true(strlen(text) < 40000); /* the long one was cut */
        assert_non_null(strstr(text, json ? "\"bytes\":99999" : "bytes=99999"));
        mem_free(text);
    }
    mem_free(prompt);
    log_init(LOG_LEVEL_WARN, false, "berth");
    dir_look(d.path, &n, true);
}

/* --- standard error that nobody reads --- */

static void a_stuck_pipe_stops_nobody(void **state)
{
    (void)state;
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    log_init(LOG_LEVEL_INFO, false, "test");
    struct watch *w = watch_make(&(struct watch_config){.audit_path = NULL});
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    for (int i = 0; i < 5000; i++) /* a pipe holds 64 KiB */
        log_info("number %d", i);
    assert_true(logs_dropped(&w->logs) > 1000);
    char bytes[4096];
    for (int i = 0; i < 8; i++)
        assert_true(read(fds[0], bytes, sizeof(bytes)) > 0);
    uint64_t dropped = logs_dropped(&w->logs);
    log_info("again");
    assert_int_equal(logs_dropped(&w->logs), dropped);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    watch_free(w);
    log_init(LOG_LEVEL_WARN, false, "berth");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_hold_whatever_they_quote),
        cmocka_unit_test(long_lines_are_cut_and_still_whole),
        cmocka_unit_test(full_files_move_on_and_nothing_is_lost),
        cmocka_unit_test(private_files_are_private),
        cmocka_unit_test(what_cannot_be_written_is_dropped_and_counted),
        cmocka_unit_test(half_a_line_is_taken_back),
        cmocka_unit_test(a_removed_or_moved_file_is_made_again),
        cmocka_unit_test(threads_write_and_files_move),
        cmocka_unit_test(the_ring_has_the_last_lines_whole),
        cmocka_unit_test(labels_are_escaped_and_histograms_add_up),
        cmocka_unit_test(series_are_bounded),
        cmocka_unit_test(models_in_labels_are_those_that_exist),
        cmocka_unit_test(audit_lines_say_everything_but_the_prompt),
        cmocka_unit_test(prompts_go_to_a_private_file_or_nowhere),
        cmocka_unit_test(a_stuck_pipe_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
