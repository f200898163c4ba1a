/* SPDX-License-Identifier: Apache-2.0 */
/* How fast each kernel is on each level, beside what the memory gives: one thread, weights larger
 * than the caches. A program of its own, not a test: usage: bench_kernels [LEVEL-SUBSTRING
 * [SLOT-SUBSTRING]]
 *
 * Where there is AVX-512 with VNNI but no AMX, "amx-timed" are the AMX kernels on stand-ins
 * (tests/support/amx_timed.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/sys/cpu.h"
#include "worker/kernel/kern.h"
#include "worker/kernel/panels.h"

#include "tests/support/amx_timed.h"

enum { COLS = 2048, TOKENS = 64, BATCH = 8, PROMPT = 512, SMALL_ROWS = 256 };

static const size_t big_bytes = 192u << 20; /* past any cache */

/* Rows that take so many bytes: a multiple of 32, as all numbers of rows and of many tokens here;
 * amx_timed.h wants whole tiles. */
static uint32_t rows_of(size_t n_bytes, size_t row_bytes)
{
    return (uint32_t)(n_bytes / row_bytes / 32 * 32);
}

static const enum dtype types[] = {
    DTYPE_F32,  DTYPE_F16,    DTYPE_BF16,   DTYPE_Q4_0,  DTYPE_Q4_1, DTYPE_Q5_0,
    DTYPE_Q5_1, DTYPE_Q8_0,   DTYPE_Q2_K,   DTYPE_Q3_K,  DTYPE_Q4_K, DTYPE_Q5_K,
    DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4,
};

/* This thread's own time: what others on the machine take does not count (what they take of the
 * memory bus does). */
static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *alloc(size_t n)
{
    struct err err = ERR_INIT;
    void *p = mem_try_aligned(n, &err);
    if (!p)
        fprintf(stderr, "%s\n", err.msg);
    return p;
}

/* Reads everything, 64-bit adds in 8 chains and a prefetch: what one thread gets from memory. */
static double read_gb_s(const void *data, size_t n)
{
    const uint64_t *p = data;
    volatile uint64_t sink;
    double best = 1e9;
    for (int round = 0; round < 4; round++) {
        uint64_t s[8] = {0};
        double t = now_s();
        for (size_t i = 0; i + 8 <= n / 8; i += 8) {
            __builtin_prefetch(p + i + 192);
            for (int j = 0; j < 8; j++)
                s[j] += p[i + (size_t)j];
        }
        t = now_s() - t;
        sink = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
        (void)sink;
        best = fmin(best, t);
    }
    return (double)n / best * 1e-9;
}

/* Least time of a few calls, each over `rows` rows and n_tok tokens. */
static double matmul_s(const struct kern *k, const struct kern_mat *w, const struct kern_act *x,
                       float *y, int rounds)
{
    double best = 1e9;
    const kern_matmul_fn matmul = w->panels ? k->matmul_panels[w->type] : k->matmul[w->type];
    for (int round = 0; round < rounds; round++) {
        double t = now_s();
        matmul(w, 0, w->n_rows, x, y, w->n_rows);
        best = fmin(best, now_s() - t);
    }
    return best;
}

/* panels: from the prepared layout (the same bytes taken for strips). */
static void bench_matmul(const struct kern *k, enum dtype type, void *data, void *act,
                         const float *src, float *y, bool panels)
{
    const struct dtype_info *info = dtype_info(type);
    size_t row_bytes = dtype_row_bytes(info, COLS),
           act_bytes = kern_act_row_bytes(k->act_for[type], COLS);
    bool slow = strcmp(k->level, "ref") == 0;
    bool prompt = strncmp(k->level, "amx", 3) == 0;
    for (int t = 0; t < (prompt ? PROMPT : TOKENS); t++)
        k->act_prepare[k->act_for[type]](src, (char *)act + (size_t)t * act_bytes, COLS);
    struct kern_act x = {k->act_for[type], 1, COLS, act_bytes, act};
    struct kern_mat w = {type, 0, COLS, row_bytes, data, panels ? data : NULL};
    if (panels)
        row_bytes = panels_strip_bytes(type, COLS) / PANELS_ROWS;
    w.n_rows = rows_of(slow ? big_bytes / 16 : big_bytes, row_bytes);
    double decode = matmul_s(k, &w, &x, y, slow ? 1 : 3);
    double gb_s = (double)w.n_rows * (double)row_bytes / decode * 1e-9;
    x.n_tok = BATCH;
    double batch = matmul_s(k, &w, &x, y, slow ? 1 : 2);
    double batch_gb_s = (double)w.n_rows * (double)row_bytes / batch * 1e-9;
    x.n_tok = 1;
    w.n_rows = slow ? SMALL_ROWS / 8 : SMALL_ROWS; /* in cache: arithmetic only */
    double cached = matmul_s(k, &w, &x, y, slow ? 1 : 20);
    double cached_gb_s = (double)w.n_rows * (double)row_bytes / cached * 1e-9;
    x.n_tok = BATCH;
    double batch_cached = matmul_s(k, &w, &x, y, slow ? 1 : 10);
    double batch_cached_gb_s = (double)w.n_rows * (double)row_bytes / batch_cached * 1e-9;
    x.n_tok = TOKENS;
    double prefill = matmul_s(k, &w, &x, y, slow ? 1 : 5);
    double gflop_s = 2.0 * w.n_rows * COLS * TOKENS / prefill * 1e-9;
    printf(
        "%-11s %s %-7s  1 token %6.2f GB/s (in cache %6.2f)   %d tokens %6.2f (%6.2f)   %d tokens "
        "%7.1f GFLOP/s",
        k->level, panels ? "panels" : "matmul", info->name, gb_s, cached_gb_s, BATCH, batch_gb_s,
        batch_cached_gb_s, TOKENS, gflop_s);
    if (prompt) {
        x.n_tok = PROMPT;
        prefill = matmul_s(k, &w, &x, y, 5);
        printf("   %d tokens %7.1f GFLOP/s", PROMPT,
               2.0 * w.n_rows * COLS * PROMPT / prefill * 1e-9);
    }
    printf("\n");
}

/* Elements a second of one call over n elements. */
#define BENCH_ROW(name, n, call)                                                                   \
    do {                                                                                           \
        double best_ = 1e9;                                                                        \
        for (int round_ = 0; round_ < 5; round_++) {                                               \
            double t_ = now_s();                                                                   \
            for (int i_ = 0; i_ < 200; i_++)                                                       \
                call;                                                                              \
            best_ = fmin(best_, (now_s() - t_) / 200);                                             \
        }                                                                                          \
        printf("%-11s %-14s %8.3f elements/ns\n", k->level, name, (double)(n) / best_ * 1e-9);     \
    } while (0)

static void bench_rows(const struct kern *k, float *x, float *w, float *y, void *act)
{
    volatile uint32_t at;
    BENCH_ROW("act_prepare Q8", COLS, k->act_prepare[ACT_Q8](x, act, COLS));
    BENCH_ROW("rms_norm", COLS, k->rms_norm(x, w, 1e-5f, y, COLS));
    BENCH_ROW("layer_norm", COLS, k->layer_norm(x, w, w, 1e-5f, y, COLS));
    BENCH_ROW("add", COLS, k->add(x, w, y, COLS));
    BENCH_ROW("scale", COLS, k->scale(x, 0.5f, y, COLS));
    BENCH_ROW("softcap", COLS, k->softcap(x, 30, y, COLS));
    BENCH_ROW("silu_mul", COLS, k->silu_mul(x, w, y, COLS));
    BENCH_ROW("gelu_mul", COLS, k->gelu_mul(x, w, y, COLS));
    float cos_sin[128];
    for (int i = 0; i < 128; i += 2) { /* unit length: repeated turns must not end in subnormals */
        cos_sin[i] = cosf((float)i);
        cos_sin[i + 1] = sinf((float)i);
    }
    BENCH_ROW("rope_norm", 128, k->rope_norm(y, cos_sin, 128));
    BENCH_ROW("rope_neox", 128, k->rope_neox(y, cos_sin, 128));
    BENCH_ROW("kv_store F16", COLS, k->kv_store_v[KV_F16](x, act, COLS));
    BENCH_ROW("argmax", COLS, at = k->argmax(x, COLS));
    BENCH_ROW("dequant Q4_K", COLS, k->dequant[DTYPE_Q4_K](act, y, COLS));
    (void)at;
}

/* 1,024 positions, n_pos of 4 query heads on one key/value head of 128: cache bytes a second. */
static void bench_attn(const struct kern *k, const float *q, char *cache, float *out,
                       float *scratch, enum kv_type type, uint32_t n_pos)
{
    enum { POS = 1024, DIM = 128, BLOCK = 32 };
    uint32_t table[POS / BLOCK];
    const size_t group = kern_kv_group_bytes(type, DIM), row = kern_kv_row_bytes(type, DIM);
    for (uint32_t i = 0; i < POS / BLOCK; i++)
        table[i] = i;
    struct kern_attn a = {.q = q,
                          .out = out,
                          .q_stride = 4ul * DIM,
                          .out_stride = 4ul * DIM,
                          .block_table = table,
                          .k = cache,
                          .v = cache + POS / KV_LANES * group,
                          .k_block_stride_bytes = BLOCK / KV_LANES * group,
                          .v_block_stride_bytes = BLOCK * row,
                          .k_group_stride_bytes = group,
                          .v_row_stride_bytes = row,
                          .n_group = 4,
                          .k_dim = DIM,
                          .v_dim = DIM,
                          .block_len = BLOCK,
                          .pos = POS - n_pos,
                          .n_pos = n_pos,
                          .scale = 0.1f,
                          .scratch = scratch};
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        double t = now_s();
        k->attn[type](&a);
        best = fmin(best, now_s() - t);
    }
    printf("%-11s attn %-4s x %u    %6.2f GB/s of cache, %6.1f GFLOP/s\n", k->level,
           kv_type_name(type), n_pos, 2.0 * POS * (double)row / best * 1e-9,
           4.0 * POS * DIM * 4 * n_pos / best * 1e-9);
}

/* The machine's levels, and what stands in for AMX where it has none. */
static int bench_levels(const char *names[17])
{
    int n = kern_levels(names);
#if defined(__x86_64__)
    if (amx_timed_fill && cpu_has(CPU_AVX512VNNI) && !cpu_has(CPU_AMX_BF16))
        names[n++] = "amx-timed";
#endif
    return n;
}

static int level_init(struct kern *k, const char *level)
{
    struct err err = ERR_INIT;
    const bool timed = strcmp(level, "amx-timed") == 0;
    if (kern_init(k, timed ? NULL : level, &err) != 0)
        return -1;
    if (timed)
        amx_timed_fill(k);
    return 0;
}

int main(int argc, char **argv)
{
    const char *names[17], *level = argc > 1 ? argv[1] : "", *slot = argc > 2 ? argv[2] : "";
    int n_levels = bench_levels(names);
    unsigned char *data = alloc(big_bytes);
    void *act = alloc(PROMPT * kern_act_row_bytes(ACT_F32, COLS));
    float *x = alloc(4 * COLS), *w = alloc(4 * COLS), *y = alloc(big_bytes / 8);
    if (!data || !act || !x || !w || !y)
        return 1;
    for (size_t i = 0; i < big_bytes; i++) /* small positive scales whatever the layout */
        data[i] = (unsigned char)(0x10 + i * 7 % 23);
    for (int i = 0; i < COLS; i++) {
        x[i] = sinf((float)i);
        w[i] = cosf((float)i);
    }
    printf("memory read, one thread: %.2f GB/s\n", read_gb_s(data, big_bytes));
    for (int l = 0; l < n_levels; l++) {
        struct kern k;
        if (!strstr(names[l], level) || level_init(&k, names[l]) != 0)
            continue;
        for (size_t t = 0; t < ARRAY_LEN(types); t++)
            if (strstr(dtype_info(types[t])->name, slot)) {
                bench_matmul(&k, types[t], data, act, x, y, false);
                if (k.matmul_panels[types[t]])
                    bench_matmul(&k, types[t], data, act, x, y, true);
            }
        if (*slot && strcmp(slot, "rows") != 0)
            continue;
        bench_rows(&k, x, w, y, act);
        for (int t = 0; t < KV_N; t++)
            for (uint32_t n_pos = 1; n_pos <= 8; n_pos += 7)
                bench_attn(&k, w, (char *)data, y, y + 65536, (enum kv_type)t, n_pos);
    }
    return 0;
}
