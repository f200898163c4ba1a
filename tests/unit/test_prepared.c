/* SPDX-License-Identifier: Apache-2.0 */
/* Prepared weights below the daemon: what is written, what is refused, and that nothing changes but
 * the speed. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "tests/support/engine_run.h"
#include "tests/support/gguf_build.h"
#include "tests/support/tiny_model.h"

enum { N_TOK = 40, HEADER_BYTES = 40 };

static const enum dtype quants[] = {DTYPE_Q8_0, DTYPE_Q4_0};

/* Next-token logits of the same tokens, with fd's weights or (-1) those of the file. */
static float *logits_of(const struct gguf *g, const char *level, int fd, uint32_t *ret_n)
{
    struct err err = ERR_INIT;
    const struct engine_config cfg = {.n_threads = 2, .cpu_level = level};
    struct engine *e = run_open(g, &cfg);
    int32_t tokens[N_TOK];
    const uint32_t n_vocab = engine_hparams(e)->n_vocab;
    float *out = mem_try_alloc((size_t)N_TOK * n_vocab, sizeof *out, &err);
    assert_non_null(out);
    if (fd >= 0 && engine_attach_prepared(e, WEIGHTS_OF_MODEL, fd, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(engine_is_prepared(e, WEIGHTS_OF_MODEL), fd >= 0);
    tiny_tokens(tokens, N_TOK, n_vocab);
    assert_int_equal(engine_logits(e, tokens, N_TOK, out, &err), 0);
    if (fd >= 0) /* twice is once too often */
        assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_MODEL, fd, &err), -E_INVALID);
    engine_free(e);
    *ret_n = N_TOK * n_vocab;
    return out;
}

static bool wants(const struct gguf *g, const char *level)
{
    const struct engine_config cfg = {.cpu_level = level};
    struct engine *e = run_open(g, &cfg);
    const bool ret = engine_prepared_bytes(e, WEIGHTS_OF_MODEL) > 0;
    engine_free(e);
    return ret;
}

static void check_same(const struct tiny_model *m, const char *level)
{
    struct gguf *g = tiny_model_open(m);
    uint32_t n, n_with;
    if (wants(g, level)) {
        const int fd = run_prepare(g, level);
        float *without = logits_of(g, level, -1, &n), *with = logits_of(g, level, fd, &n_with);
        assert_int_equal(n, n_with);
        if (memcmp(with, without, n * sizeof *with) != 0)
            fail_msg("%s, %s: other logits from prepared weights", m->name, level);
        mem_free(without);
        mem_free(with);
        close(fd);
    }
    gguf_close(g);
}

/* Fused tensors, experts, rows that are no multiple of 16, matrices that stay as they are. */
static void same_logits(void **state)
{
    const char *levels[16];
    const int n = kern_levels(levels);
    (void)state;
    for (uint32_t i = 0; i < n_tiny_models; i++) {
        for (size_t q = 0; q < ARRAY_LEN(quants); q++) {
            const struct tiny_model m = tiny_model_as(&tiny_models[i], quants[q]);
            for (int l = 0; l < n; l++)
                check_same(&m, levels[l]);
        }
    }
}

static struct gguf *a_model(enum dtype quant)
{
    const struct tiny_model m = tiny_model_as(tiny_model_find("llama"), quant);
    return tiny_model_open(&m);
}

static void same_bytes_every_time(void **state)
{
    struct buf text[2];
    struct gguf *g = a_model(DTYPE_Q8_0);
    (void)state;
    for (int i = 0; i < 2; i++) {
        const int fd = run_prepare(g, "ref");
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        buf_init(&text[i], 64u << 20);
        assert_int_equal(buf_reserve(&text[i], (size_t)st.st_size), 0);
        assert_int_equal(pread(fd, text[i].data, (size_t)st.st_size, 0), st.st_size);
        text[i].len = (size_t)st.st_size;
        close(fd);
    }
    assert_int_equal(text[0].len, text[1].len);
    assert_memory_equal(text[0].data, text[1].data, text[0].len);
    buf_release(&text[0]);
    buf_release(&text[1]);
    gguf_close(g);
}

/* Nothing to prepare: no file is written, and none is taken. */
static void nothing_to_do(void **state)
{
    struct err err = ERR_INIT;
    const struct engine_config cfg = {.cpu_level = "ref"};
    uint64_t n = 1;
    struct gguf *g = tiny_model_open(tiny_model_find("llama")), *other = a_model(DTYPE_Q8_0);
    struct engine *e = run_open(g, &cfg);
    int fd = build_fd("", 0);
    (void)state;
    assert_int_equal(engine_prepared_bytes(e, WEIGHTS_OF_MODEL), 0);
    assert_int_equal(engine_prepare(g, "ref", fd, NULL, NULL, &n, &err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    close(fd);
    fd = run_prepare(other, "ref");
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_MODEL, fd, &err), -E_FORMAT);
    close(fd);
    engine_free(e);
    gguf_close(other);
    gguf_close(g);
}

static void refused(struct engine *e, int fd, const char *why)
{
    struct err err = ERR_INIT;
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_MODEL, fd, &err), -E_FORMAT);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
    assert_false(engine_is_prepared(e, WEIGHTS_OF_MODEL));
}

static void damaged_files(void **state)
{
    struct err err = ERR_INIT;
    const struct engine_config cfg = {.cpu_level = "ref"};
    struct gguf *g = a_model(DTYPE_Q8_0);
    struct engine *e = run_open(g, &cfg);
    const int fd = run_prepare(g, "ref");
    const off_t n = (off_t)engine_prepared_bytes(e, WEIGHTS_OF_MODEL);
    (void)state;
    assert_int_equal(ftruncate(fd, n - 1), 0);
    refused(e, fd, "bytes");
    assert_int_equal(ftruncate(fd, 0), 0);
    refused(e, fd, "bytes");
    close(fd);
    const int whole = run_prepare(g, "ref");
    assert_int_equal(ftruncate(whole, n + 1), 0);
    refused(e, whole, "bytes");
    assert_int_equal(ftruncate(whole, n), 0);
    for (off_t i = 0; i < HEADER_BYTES; i++) { /* every byte of it counts */
        unsigned char c, wrong;
        assert_int_equal(pread(whole, &c, 1, i), 1);
        wrong = c ^ 0x40;
        assert_int_equal(pwrite(whole, &wrong, 1, i), 1);
        refused(e, whole, "prepared weights");
        assert_int_equal(pwrite(whole, &c, 1, i), 1);
    }
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    refused(e, pair[0], "bytes");
    close(pair[0]);
    close(pair[1]);
    if (engine_attach_prepared(e, WEIGHTS_OF_MODEL, whole, &err)) /* after all that */
        fail_msg("%s", err.msg);
    close(whole);
    engine_free(e);
    gguf_close(g);
}

/* Of the same shapes, with other weights or only other norms. */
static void other_models(void **state)
{
    const struct engine_config cfg = {.cpu_level = "ref"};
    const struct tiny_model m = tiny_model_as(tiny_model_find("llama"), DTYPE_Q8_0);
    struct buf file;
    struct gguf *g = tiny_model_open(&m), *other = NULL;
    struct err err = ERR_INIT;
    struct engine *e = run_open(g, &cfg);
    static const char *const names[] = {"output_norm.weight", "blk.0.attn_q.weight",
                                        "blk.1.ffn_up.weight"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        tiny_model_build(&m, &file);
        file.data[gguf_find_tensor(g, names[i])->offset] ^= 1;
        assert_int_equal(build_open_bytes(file.data, file.len, 0, &other, &err), 0);
        const int fd = run_prepare(other, "ref");
        refused(e, fd, "of another model");
        close(fd);
        gguf_close(other);
        buf_release(&file);
    }
    engine_free(e);
    gguf_close(g);
}

/* The file that it is given is full, or may not be written. */
static void no_room(void **state)
{
    struct err err = ERR_INIT;
    uint64_t n;
    struct gguf *g = a_model(DTYPE_Q4_0);
    int pair[2];
    (void)state;
    const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(full >= 0);
    assert_int_equal(engine_prepare(g, "ref", full, NULL, NULL, &n, &err), -E_IO);
    close(full);
    assert_int_equal(pipe(pair), 0);
    assert_int_equal(engine_prepare(g, "ref", pair[0], NULL, NULL, &n, &err), -E_IO);
    close(pair[0]);
    close(pair[1]);
    gguf_close(g);
}

static uint64_t last_done, last_total;
static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done > last_done || last_total == 0);
    assert_true(done <= total);
    last_done = done;
    last_total = total;
}

static void progress(void **state)
{
    struct err err = ERR_INIT;
    uint64_t n = 0;
    struct gguf *g = a_model(DTYPE_Q8_0);
    const int fd = build_fd("", 0);
    (void)state;
    assert_int_equal(engine_prepare(g, "ref", fd, on_progress, NULL, &n, &err), 0);
    assert_true(n > 0 && last_done == n && last_total == n);
    close(fd);
    gguf_close(g);
}

/* Answers under way when the weights are swapped: greedy and drawn, with and without guesses. */
static void swapped_in_the_middle(void **state)
{
    enum { N = 6, PROMPT = 30 };
    static int32_t prompts[N][PROMPT];
    static struct run want[N], got[N];
    const struct engine_config cfg = {
        .n_threads = 2, .cpu_level = "ref", .n_speculate = 3, .max_num_batched_tokens = 40};
    struct gguf *g = a_model(DTYPE_Q4_0);
    (void)state;
    for (uint32_t at = 0; at < 60; at += 7) {
        struct run *const sets[] = {want, got};
        for (int k = 0; k < 2; k++) {
            struct engine *e = run_open(g, &cfg);
            for (uint32_t i = 0; i < N; i++) {
                struct run *r = &sets[k][i];
                run_request(r, 1 + i, prompts[i], PROMPT, TINY_VOCAB);
                r->req.params.temperature = i % 2 ? 1.1f : 0;
                r->req.params.max_tokens = 60;
                r->submit_at_step = i * 5;
            }
            struct run_set s = {.e = e,
                                .runs = sets[k],
                                .n = N,
                                .validate = true,
                                .prepare = {k ? g : NULL},
                                .prepare_at = {at}};
            run_all(&s);
            assert_int_equal(engine_is_prepared(e, WEIGHTS_OF_MODEL), k == 1);
            engine_free(e);
        }
        for (uint32_t i = 0; i < N; i++) {
            assert_int_equal(want[i].choices[0].n, got[i].choices[0].n);
            assert_memory_equal(want[i].choices[0].tokens, got[i].choices[0].tokens,
                                want[i].choices[0].n * sizeof(int32_t));
            assert_memory_equal(want[i].choices[0].logprobs, got[i].choices[0].logprobs,
                                want[i].choices[0].n * sizeof(float));
        }
    }
    gguf_close(g);
}

enum { N_DRAFTED = 6, DRAFTED_PROMPT = 30 };
struct drafted {
    struct run runs[N_DRAFTED];
    struct engine_stats stats;
};

/* With a draft model; m and d: when the two are swapped, 0 before the first step, -1 never. */
static void run_drafted(const struct gguf *g, const struct gguf *draft, const char *level, int m,
                        int d, struct drafted *ret)
{
    static int32_t prompts[N_DRAFTED][DRAFTED_PROMPT];
    const struct engine_config cfg = {.n_threads = 2,
                                      .cpu_level = level,
                                      .draft = draft,
                                      .draft_always = true,
                                      .max_num_batched_tokens = 40};
    struct engine *e = run_open(g, &cfg);
    for (uint32_t i = 0; i < N_DRAFTED; i++) {
        struct run *r = &ret->runs[i];
        run_request(r, 1 + i, prompts[i], DRAFTED_PROMPT, TINY_VOCAB);
        r->req.params.temperature = i % 2 ? 1.1f : 0;
        r->req.params.max_tokens = 60;
        r->submit_at_step = i * 5;
    }
    struct run_set s = {.e = e,
                        .runs = ret->runs,
                        .n = N_DRAFTED,
                        .validate = true,
                        .prepare = {m >= 0 ? g : NULL, d >= 0 ? draft : NULL},
                        .prepare_at = {m >= 0 ? (uint32_t)m : 0, d >= 0 ? (uint32_t)d : 0}};
    run_all(&s);
    assert_int_equal(engine_is_prepared(e, WEIGHTS_OF_MODEL), m >= 0);
    assert_int_equal(engine_is_prepared(e, WEIGHTS_OF_DRAFT), d >= 0);
    engine_stats(e, &ret->stats);
    engine_free(e);
}

/* Answers, and guesses too: as many, and as many of them right, in as many steps. */
static void check_drafted(const struct drafted *want, const struct drafted *got)
{
    for (uint32_t i = 0; i < N_DRAFTED; i++) {
        const struct run_choice *a = &want->runs[i].choices[0], *b = &got->runs[i].choices[0];
        assert_int_equal(a->n, b->n);
        assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
        assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    }
    assert_memory_equal(&want->stats, &got->stats, sizeof want->stats);
}

/* A draft model's weights swapped under answers: before, with or after the model's, or alone. */
static void a_draft_swapped_in_the_middle(void **state)
{
    static const int at[][2] = {{-1, 0}, {-1, 7}, {-1, 20}, {0, 0}, {7, 7}, {4, 15}, {15, 4}};
    static struct drafted want, got;
    const char *levels[16];
    const int n_levels = kern_levels(levels);
#ifdef BERTH_SAN
    const int first = n_levels - 1; /* what is new here is not the level's */
#else
    const int first = 0;
#endif
    const struct tiny_model other = tiny_model_as(tiny_model_find("qwen3"), DTYPE_Q8_0);
    struct gguf *g = a_model(DTYPE_Q4_0), *draft = tiny_model_open(&other);
    (void)state;
    for (int l = first; l < n_levels; l++) {
        if (!wants(g, levels[l]) || !wants(draft, levels[l]))
            continue;
        for (int same = 0; same < 2; same++) { /* the model guesses for itself */
            const struct gguf *by = same ? g : draft;
            run_drafted(g, by, levels[l], -1, -1, &want);
            assert_true(want.stats.n_drafted > 0 && want.stats.n_accepted > 0);
            for (size_t i = 0; i < ARRAY_LEN(at); i++) {
                run_drafted(g, by, levels[l], at[i][0], at[i][1], &got);
                check_drafted(&want, &got);
            }
        }
    }
    gguf_close(draft);
    gguf_close(g);
}

/* One file serves a model in either role; it is checked in either. */
static void files_of_a_draft(void **state)
{
    struct err err = ERR_INIT;
    struct gguf *g = a_model(DTYPE_Q4_0), *draft = a_model(DTYPE_Q8_0);
    const int of_model = run_prepare(g, "ref"), of_draft = run_prepare(draft, "ref");
    const struct engine_config cfg = {.cpu_level = "ref", .draft = draft},
                               plain = {.cpu_level = "ref"};
    struct engine *e = run_open(g, &cfg), *alone = run_open(draft, &plain);
    (void)state;
    assert_int_equal(engine_prepared_bytes(e, WEIGHTS_OF_DRAFT),
                     engine_prepared_bytes(alone, WEIGHTS_OF_MODEL));
    assert_int_equal(engine_prepared_bytes(alone, WEIGHTS_OF_DRAFT), 0);
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_DRAFT, of_model, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "the draft model: prepared weights"));
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_MODEL, of_draft, &err), -E_FORMAT);
    assert_false(engine_is_prepared(e, WEIGHTS_OF_MODEL));
    assert_false(engine_is_prepared(e, WEIGHTS_OF_DRAFT));
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_DRAFT, of_draft, &err), 0);
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_DRAFT, of_draft, &err), -E_INVALID);
    assert_false(engine_is_prepared(e, WEIGHTS_OF_MODEL));
    assert_true(engine_is_prepared(e, WEIGHTS_OF_DRAFT));
    assert_int_equal(engine_attach_prepared(alone, WEIGHTS_OF_MODEL, of_draft, &err), 0);
    assert_int_equal(engine_attach_prepared(alone, WEIGHTS_OF_DRAFT, of_draft, &err), -E_INVALID);
    engine_free(alone);
    engine_free(e);
    close(of_model);
    close(of_draft);
    gguf_close(draft);
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_logits),      cmocka_unit_test(same_bytes_every_time),
        cmocka_unit_test(nothing_to_do),    cmocka_unit_test(damaged_files),
        cmocka_unit_test(other_models),     cmocka_unit_test(no_room),
        cmocka_unit_test(progress),         cmocka_unit_test(swapped_in_the_middle),
        cmocka_unit_test(files_of_a_draft), cmocka_unit_test(a_draft_swapped_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
