/* SPDX-License-Identifier: Apache-2.0 */
/* Logits against other implementations: llama.cpp for a tiny model of every architecture, llama2.c
 * for stories260K, and llama.cpp's greedy answers to 20 prompts.  `test_logits --write DIR` writes
 * the tiny models for making goldens anew (tests/data/archs/SOURCE.txt). */
#include "tests/support/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/gguf_build.h"
#include "tests/support/tiny_model.h"
#include "worker/engine/engine.h"

#define N_TOKENS 40

/* The stored positions of each tiny model's 40. */
static const uint32_t stored[] = {0, 1, 5, 11, 23, 39};

static struct engine *open_engine(const struct gguf *g, struct engine_config cfg)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    int r = engine_new(g, &cfg, &e, &err);
    if (r)
        print_error("%s\n", err.msg);
    assert_int_equal(r, 0);
    return e;
}

static double relative_l2(const float *got, const float *want, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    return sqrt(diff / norm);
}

static void check_arch(const struct tiny_model *m, struct engine_config cfg)
{
    char path[128];
    struct buf want;
    struct err err = ERR_INIT;
    int32_t tokens[N_TOKENS];
    static float got[N_TOKENS][TINY_VOCAB];
    /* llama.cpp looks GELU up in a table of float16. */
    const double limit = strncmp(m->arch, "gemma", 5) == 0 ? 2e-3 : 2e-5;
    snprintf(path, sizeof path, "tests/data/archs/%s.f32", m->name);
    build_read(path, &want);
    assert_int_equal(want.len, ARRAY_LEN(stored) * TINY_VOCAB * sizeof(float));
    tiny_tokens(tokens, N_TOKENS, TINY_VOCAB);
    struct gguf *g = tiny_model_open(m);
    struct engine *e = open_engine(g, cfg);
    assert_int_equal(engine_logits(e, tokens, N_TOKENS, got[0], &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(stored); i++) {
        const double d =
            relative_l2(got[stored[i]], (const float *)want.data + i * TINY_VOCAB, TINY_VOCAB);
        if (!(d < limit))
            print_error("%s, position %u: relative L2 %g\n", m->name, stored[i], d);
        assert_true(d < limit);
    }
    engine_free(e);
    gguf_close(g);
    buf_release(&want);
}

static void test_architectures(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < n_tiny_models; i++)
        check_arch(&tiny_models[i], (struct engine_config){0});
}

/* Every kernel level, and odd ways to cut the work. */
static void test_architectures_by_level(void **state)
{
    const char *names[16];
    (void)state;
    const int n = kern_levels(names);
    for (int l = 0; l < n; l++)
        for (uint32_t i = 0; i < n_tiny_models; i++)
            check_arch(&tiny_models[i], (struct engine_config){.cpu_level = names[l],
                                                               .n_threads = 3,
                                                               .max_num_seqs = 1,
                                                               .max_num_batched_tokens = 7,
                                                               .block_size = 16});
}

/* ---- stories260K ---- */

/* A text file as a string; release out. */
static void read_text(const char *path, struct buf *out)
{
    build_read(path, out);
    assert_int_equal(buf_append_char(out, '\0'), 0);
}

#define STORIES_VOCAB 512

static void test_stories_logits(void **state)
{
    struct gguf *g;
    struct err err = ERR_INIT;
    struct buf text, want;
    (void)state;
    assert_int_equal(gguf_open_path("models/stories.gguf", 0, &g, &err), 0);
    struct engine *e = open_engine(g, (struct engine_config){.n_threads = 2});
    read_text("tests/data/stories/fed.txt", &text);
    build_read("tests/data/stories/logits.f32", &want);
    const float *row = (const float *)want.data;
    static float got[64 * STORIES_VOCAB];
    size_t n_prompts = 0;
    char *save, *line = strtok_r(text.data, "\n", &save);
    for (; line; line = strtok_r(NULL, "\n", &save), n_prompts++) {
        int32_t tokens[64];
        char *p = line;
        for (int i = 0; i < 64; i++)
            tokens[i] = (int32_t)strtol(p, &p, 10);
        assert_int_equal(engine_logits(e, tokens, 64, got, &err), 0);
        for (int i = 0; i < 64; i += 9, row += STORIES_VOCAB)
            for (int j = 0; j < STORIES_VOCAB; j++)
                assert_float_equal(got[i * STORIES_VOCAB + j], row[j], 1e-4);
    }
    assert_int_equal(n_prompts, 6);
    assert_int_equal((const char *)row - want.data, want.len);
    buf_release(&text);
    buf_release(&want);
    engine_free(e);
    gguf_close(g);
}

struct answer {
    int32_t tokens[64];
    uint32_t n;
};

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct answer *a = ctx;
    if (ev->type == ENGINE_TOKEN)
        a[ev->request_id].tokens[a[ev->request_id].n++] = ev->token;
}

static uint32_t read_ids(char **p, int32_t *ids, uint32_t max)
{
    uint32_t n = 0;
    while (n < max) {
        char *end;
        const long v = strtol(*p, &end, 10);
        if (end == *p)
            break;
        ids[n++] = (int32_t)v;
        *p = end;
    }
    return n;
}

/* All 20 at once through the scheduler. */
static void test_stories_greedy(void **state)
{
    struct gguf *g;
    struct err err = ERR_INIT;
    struct buf text;
    static struct answer got[20];
    static int32_t want[20][64];
    uint32_t n = 0;
    (void)state;
    assert_int_equal(gguf_open_path("models/stories.gguf", 0, &g, &err), 0);
    struct engine *e = open_engine(g, (struct engine_config){.n_threads = 2});
    read_text("tests/data/stories/greedy.txt", &text);
    char *save, *line = strtok_r(text.data, "\n", &save);
    for (; line; line = strtok_r(NULL, "\n", &save), n++) {
        int32_t prompt[64];
        struct engine_request r = {.id = n, .prompt = prompt};
        gen_params_init(&r.params);
        r.params.temperature = 0;
        r.params.max_tokens = 64;
        r.n_prompt = read_ids(&line, prompt, 64);
        line += strspn(line, " |");
        assert_int_equal(read_ids(&line, want[n], 64), 64);
        assert_int_equal(engine_submit(e, &r, &err), 0);
    }
    assert_int_equal(n, 20);
    while (engine_step(e, on_event, got))
        ;
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(got[i].n, 64);
        assert_memory_equal(got[i].tokens, want[i], sizeof want[i]);
    }
    buf_release(&text);
    engine_free(e);
    gguf_close(g);
}

static int write_models(const char *dir)
{
    for (uint32_t i = 0; i < n_tiny_models; i++) {
        char path[512];
        struct buf file;
        snprintf(path, sizeof path, "%s/%s.gguf", dir, tiny_models[i].name);
        tiny_model_build(&tiny_models[i], &file);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(file.data, 1, file.len, f) != file.len || fclose(f))
            return 1;
        buf_release(&file);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_models(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_architectures_by_level),
        cmocka_unit_test(test_stories_logits),
        cmocka_unit_test(test_stories_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
