/* SPDX-License-Identifier: Apache-2.0 */
/* The engine alone, without daemon and protocol: how fast one model reads prompts and decodes.
 *
 * bench_engine MODEL.gguf [threads=N] [level=NAME] [kv=f32|f16|...] [guess=N] [draft=FILE]
 *              [prepared[=FILE]] [agree] [always] [CASE...]
 *
 * CASE: pp512 reads one prompt of 512 tokens; tg32@1024x8 has 8 sequences with 1024 tokens each
 * decode 32 tokens.  Prints one line a case: tokens a second and milliseconds a step.
 *
 * prepared: computes from weights in the kernels' own layout, which it writes to FILE where that is
 * missing, else to a file of no name in the current folder.
 *
 * agree: all answers are one token, whatever the weights, so that a draft is always right.
 *
 * always: a draft guesses even where that is slower. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "worker/engine/engine.h"

enum { MAX_SEQS = 64 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct count {
    uint32_t n_tokens, n_done;
};

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct count *c = ctx;
    c->n_tokens += ev->type == ENGINE_TOKEN;
    c->n_done += ev->type == ENGINE_CHOICE_DONE;
}

static bool agree, is_prepared;
static const char *prepared_path;
static uint64_t next_id, rng_state = 88172645463325252ull;

static int32_t random_token(uint32_t n_vocab)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (int32_t)(rng_state % n_vocab);
}

static void submit(struct engine *e, uint32_t n_prompt, uint32_t n_answer)
{
    struct err err = ERR_INIT;
    struct engine_request r = {.id = ++next_id, .n_prompt = n_prompt};
    int32_t *prompt = mem_alloc(n_prompt * sizeof(*prompt));
    for (uint32_t i = 0; i < n_prompt; i++)
        prompt[i] = random_token(engine_hparams(e)->n_vocab);
    r.prompt = prompt;
    gen_params_init(&r.params);
    r.params.temperature = 0;
    r.params.has_seed = true;
    r.params.max_tokens = n_answer;
    static const struct gen_logit_bias one = {.token = 7, .bias = 100};
    if (agree) {
        r.logit_bias = &one;
        r.n_logit_bias = 1;
    }
    if (engine_submit(e, &r, &err)) {
        fprintf(stderr, "bench_engine: %s\n", err.msg);
        exit(1);
    }
    mem_free(prompt);
}

static void run_case(struct engine *e, const char *name)
{
    unsigned n = 0, ctx = 1, seqs = 1;
    struct count c = {0, 0};
    if (sscanf(name, "pp%u", &n) == 1) {
        submit(e, n, 1);
        const double begun = now_s();
        while (engine_step(e, on_event, &c))
            ;
        const double took = now_s() - begun;
        printf("%-16s %9.1f tokens/s %10.2f ms\n", name, n / took, took * 1e3);
    } else if (sscanf(name, "tg%u@%ux%u", &n, &ctx, &seqs) >= 1 && seqs <= MAX_SEQS) {
        for (unsigned i = 0; i < seqs; i++)
            submit(e, ctx, n + 1);
        while (c.n_tokens < seqs)
            engine_step(e, on_event, &c);
        const uint32_t before = c.n_tokens;
        uint32_t steps = 0;
        const double begun = now_s();
        for (; c.n_done < seqs; steps++)
            engine_step(e, on_event, &c);
        const double took = now_s() - begun;
        struct engine_stats st;
        engine_stats(e, &st);
        printf("%-16s %9.1f tokens/s %10.2f ms a step", name, (c.n_tokens - before) / took,
               took * 1e3 / steps);
        if (st.n_drafted) /* of all cases so far */
            printf(", %.0f %% of the guesses came true",
                   100.0 * (double)st.n_accepted / (double)st.n_drafted);
        printf("\n");
    } else {
        fprintf(stderr, "bench_engine: '%s' is no case\n", name);
        exit(2);
    }
    fflush(stdout);
}

static void must(int rc, const struct err *err)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench_engine: %s\n", err->msg);
    exit(1);
}

/* Prepares g, the engine's model or draft model, if need be, and attaches; path NULL: not kept. */
static void prepare(struct engine *e, enum weights_of of, const struct gguf *g, const char *level,
                    const char *path)
{
    struct err err = ERR_INIT;
    struct stat st = {0};
    uint64_t n_bytes = 0;
    const int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644)
                        : open(".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        must(err_set_sys(&err, E_IO, "%s", path ? path : "."), &err);
    if (st.st_size == 0) {
        const double begun = now_s();
        must(engine_prepare(g, level, fd, NULL, NULL, &n_bytes, &err), &err);
        printf("%-16s %9.1f MB %17.2f ms\n", "prepare", (double)n_bytes / 1e6,
               (now_s() - begun) * 1e3);
    }
    if (engine_prepared_bytes(e, of)) {
        const double begun = now_s();
        must(engine_attach_prepared(e, of, fd, &err), &err);
        printf("%-16s %9s %20.2f ms\n", "attach", "", (now_s() - begun) * 1e3);
    }
    close(fd);
}

static bool read_option(struct engine_config *cfg, const char *arg)
{
    if (strncmp(arg, "threads=", 8) == 0) {
        cfg->n_threads = (uint32_t)strtoul(arg + 8, NULL, 10);
    } else if (strncmp(arg, "level=", 6) == 0) {
        cfg->cpu_level = arg + 6;
    } else if (strncmp(arg, "guess=", 6) == 0) {
        cfg->n_speculate = (uint32_t)strtoul(arg + 6, NULL, 10);
    } else if (strcmp(arg, "always") == 0) {
        cfg->draft_always = true;
    } else if (strcmp(arg, "agree") == 0) {
        agree = true;
    } else if (strcmp(arg, "prepared") == 0) {
        is_prepared = true;
    } else if (strncmp(arg, "prepared=", 9) == 0) {
        is_prepared = true;
        prepared_path = arg + 9;
    } else if (strncmp(arg, "draft=", 6) == 0) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL; /* open until the end */
        if (gguf_open_path(arg + 6, 0, &g, &err)) {
            fprintf(stderr, "bench_engine: %s\n", err.msg);
            exit(1);
        }
        cfg->draft = g;
    } else if (strncmp(arg, "kv=", 3) == 0) {
        for (int i = 0; i < KV_N; i++)
            if (strcmp(kv_type_name((enum kv_type)i), arg + 3) == 0)
                cfg->kv_type = (enum kv_type)i;
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct engine *e = NULL;
    struct engine_config cfg = {.n_threads = 2,
                                .n_ctx = 8192,
                                .max_num_seqs = MAX_SEQS,
                                .kv_type = KV_F16,
                                .kv_cache_bytes = 2ull << 30,
                                .no_prefix_cache = true};
    int i = 2;
    if (argc < 2) {
        printf("bench_engine: no model named, nothing measured\n");
        return 0;
    }
    while (i < argc && read_option(&cfg, argv[i]))
        i++;
    const double begun = now_s();
    if (gguf_open_path(argv[1], 0, &g, &err) || engine_new(g, &cfg, &e, &err)) {
        fprintf(stderr, "bench_engine: %s\n", err.msg);
        return 1;
    }
    printf("%-16s %9s %20.2f ms\n", "open", "", (now_s() - begun) * 1e3);
    if (is_prepared)
        prepare(e, WEIGHTS_OF_MODEL, g, cfg.cpu_level, prepared_path);
    if (is_prepared && cfg.draft)
        prepare(e, WEIGHTS_OF_DRAFT, cfg.draft, cfg.cpu_level, NULL);
    for (; i < argc; i++)
        run_case(e, argv[i]);
    engine_free(e);
    gguf_close(g);
    return 0;
}
