/* SPDX-License-Identifier: Apache-2.0 */
/* Implements bench.h. */
#include "worker/serve/bench.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "worker/kernel/kern.h"
#include "worker/kernel/limits.h"
#include "worker/kernel/team.h"
#include "worker/serve/debug_impl.h"

enum { COLS = 2048, ROWS = 2048, TOKENS = 512, PIECE_ROWS = 64, RUNS = 8, SLOW_RUNS = 3 };
#define BIG_BYTES     (512u << 20) /* weights past any cache: decoding reads them from memory */
#define RUN_BYTES     (64u << 20)  /* of them in one timed run */
#define OUT_MAX_BYTES (1u << 20)

static const enum dtype types[] = {
    DTYPE_F32,    DTYPE_F16,   DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q5_K,
    DTYPE_Q5_0,   DTYPE_Q5_1,  DTYPE_Q4_K, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_IQ4_NL,
    DTYPE_IQ4_XS, DTYPE_MXFP4, DTYPE_Q3_K, DTYPE_Q2_K,
};

static double now_s(void)
{
    return 1e-9 * (double)clock_ns();
}

static int print(struct buf *out, struct err *err)
{
    int rc = buf_status(out, "the figures", err);
    return rc < 0 ? rc : debug_write(STDOUT_FILENO, buf_str(out), out->len, err);
}

static const char *unit_of(const struct limits_peak *p)
{
    return strcmp(p->type, "int8") == 0 ? "GOP/s" : "GFLOP/s";
}

static void limits_text(const struct limits *l, struct buf *out)
{
    buf_printf(out, "%-14s %.1f GB/s read by %u thread%s, %.1f by one (%llu MiB)\n", "memory",
               l->read_bps * 1e-9, l->n_threads, l->n_threads == 1 ? "" : "s",
               l->read_bps_one * 1e-9, (unsigned long long)(l->read_bytes >> 20));
    for (unsigned i = 0; i < l->n_peaks; i++)
        buf_printf(out, "%-14s %.0f %s, factors %s\n", l->peaks[i].name,
                   l->peaks[i].ops_per_second * 1e-9, unit_of(&l->peaks[i]), l->peaks[i].type);
}

static void limits_json(const struct limits *l, struct buf *out)
{
    buf_printf(out,
               "{\"threads\": %u, \"read_bytes_per_second\": %.0f, "
               "\"read_bytes_per_second_one_thread\": %.0f, \"peaks\": [",
               l->n_threads, l->read_bps, l->read_bps_one);
    for (unsigned i = 0; i < l->n_peaks; i++)
        buf_printf(out, "%s{\"name\": \"%s\", \"type\": \"%s\", \"ops_per_second\": %.0f}",
                   i ? ", " : "", l->peaks[i].name, l->peaks[i].type, l->peaks[i].ops_per_second);
    buf_append_str(out, "]}");
}

int bench_limits(const struct bench_request *r, struct err *err)
{
    struct limits l;
    struct buf out;
    if (limits_measure(r->n_threads, &l, err) < 0)
        return -err->code;
    buf_init(&out, OUT_MAX_BYTES);
    if (r->as_json) {
        limits_json(&l, &out);
        buf_append_char(&out, '\n');
    } else {
        limits_text(&l, &out);
    }
    int rc = print(&out, err);
    buf_release(&out);
    return rc;
}

/* What the kernels work on. */
struct stage {
    struct kern kern;
    struct limits limits;
    struct team *team;
    char *data; /* BIG_BYTES that every type may read as weights */
    char *act;  /* TOKENS rows in the format of the type under test */
    float *src, *y;
};

static void stage_release(struct stage *s)
{
    team_free(s->team);
    mem_free(s->data);
    mem_free(s->act);
    mem_free(s->src);
    mem_free(s->y);
}

static int stage_init(struct stage *s, const struct bench_request *r, struct err *err)
{
    *s = (struct stage){.team = NULL};
    int rc = kern_init(&s->kern, r->cpu_level, err);
    if (rc == 0)
        rc = limits_measure(r->n_threads, &s->limits, err);
    if (rc == 0)
        rc = team_new(r->n_threads, &s->team, err);
    if (rc < 0)
        return rc;
    size_t row = MAX_OF(kern_act_row_bytes(ACT_F32, COLS), kern_act_row_bytes(ACT_Q8, COLS));
    s->data = mem_try_aligned(BIG_BYTES, err);
    s->act = s->data ? mem_try_aligned(TOKENS * row, err) : NULL;
    s->src = s->act ? mem_try_aligned(COLS * sizeof(float), err) : NULL;
    s->y = s->src ? mem_try_aligned(MAX_OF((size_t)TOKENS * ROWS, (size_t)8 * RUN_BYTES / 512) *
                                        sizeof(float),
                                    err)
                  : NULL;
    if (!s->y)
        return -err->code;
    for (size_t i = 0; i < BIG_BYTES; i++) /* small positive scales whatever the layout */
        s->data[i] = (char)(0x10 + i * 7 % 23);
    for (int i = 0; i < COLS; i++)
        s->src[i] = sinf((float)i);
    return 0;
}

/* One product, cut into pieces of rows. */
struct product {
    const struct stage *stage;
    struct kern_mat w;
    struct kern_act x;
};

static void product_piece(void *ctx, uint32_t piece, uint32_t thread UNUSED)
{
    const struct product *p = ctx;
    uint32_t row0 = piece * PIECE_ROWS, row1 = MIN_OF(row0 + PIECE_ROWS, p->w.n_rows);
    p->stage->kern.matmul[p->w.type](&p->w, row0, row1, &p->x, p->stage->y + row0, p->w.n_rows);
}

/* Seconds of the fastest of n runs; each takes other weights, stride bytes further on. */
static double product_s(const struct stage *s, const struct kern_mat *w, const struct kern_act *x,
                        int n, size_t stride)
{
    struct product p = {s, *w, *x};
    double best = 1e9;
    for (int run = 0; run < n; run++) {
        p.w.data = (const char *)w->data + (size_t)run * stride;
        double begun = now_s();
        team_run(s->team, (w->n_rows + PIECE_ROWS - 1) / PIECE_ROWS, product_piece, &p);
        best = fmin(best, now_s() - begun);
    }
    return best;
}

/* The best unit for a type's factors. */
static double peak_of(const struct limits *l, enum dtype type)
{
    const char *want = type == DTYPE_F32                         ? "f32"
                       : type == DTYPE_F16 || type == DTYPE_BF16 ? "bf16"
                                                                 : "int8";
    double best = 0, f32 = 0;
    for (unsigned i = 0; i < l->n_peaks; i++) {
        if (strcmp(l->peaks[i].type, want) == 0)
            best = fmax(best, l->peaks[i].ops_per_second);
        if (strcmp(l->peaks[i].type, "f32") == 0)
            f32 = fmax(f32, l->peaks[i].ops_per_second);
    }
    return fmax(best, f32);
}

struct figures {
    double decode_bps, batch_bps; /* weights a second with 1 and with 8 tokens */
    double prefill_ops;           /* operations a second with TOKENS */
};

static void measure(struct stage *s, enum dtype type, struct figures *ret)
{
    size_t row_bytes = dtype_row_bytes(dtype_info(type), COLS);
    enum act_format format = s->kern.act_for[type];
    size_t act_bytes = kern_act_row_bytes(format, COLS);
    for (size_t t = 0; t < TOKENS; t++)
        s->kern.act_prepare[format](s->src, s->act + t * act_bytes, COLS);
    struct kern_act x = {format, 1, COLS, act_bytes, s->act};
    struct kern_mat w = {.type = type, .n_cols = COLS, .row_bytes = row_bytes, .data = s->data};
    w.n_rows = (uint32_t)(RUN_BYTES / row_bytes);
    double big = (double)w.n_rows * (double)row_bytes;
    ret->decode_bps = big / product_s(s, &w, &x, RUNS, RUN_BYTES);
    x.n_tok = 8;
    ret->batch_bps = big / product_s(s, &w, &x, RUNS, RUN_BYTES);
    x.n_tok = TOKENS;
    w.n_rows = ROWS;
    ret->prefill_ops = 2.0 * ROWS * COLS * TOKENS / product_s(s, &w, &x, SLOW_RUNS, 0);
}

/* 4 query heads on each of a thread's key/value heads of 128, 1,024 positions: cache read a second.
 */
struct attention {
    const struct stage *stage;
    enum kv_type type;
    const char *data; /* of this run */
};
enum { POSITIONS = 1024, HEAD = 128, GROUP = 4, BLOCK = 32 };

static void attention_piece(void *ctx, uint32_t piece, uint32_t thread UNUSED)
{
    const struct attention *a = ctx;
    uint32_t table[POSITIONS / BLOCK];
    _Alignas(64) float scratch[ATTN_ROWS * (64 + HEAD + 2 * (HEAD + 32)) + 64 * HEAD + 64];
    float out[GROUP * HEAD];
    const size_t group = kern_kv_group_bytes(a->type, HEAD), row = kern_kv_row_bytes(a->type, HEAD),
                 half = POSITIONS * row;
    BUG_ON(kern_attn_scratch_floats(HEAD, HEAD) > ARRAY_LEN(scratch));
    for (uint32_t i = 0; i < ARRAY_LEN(table); i++)
        table[i] = i;
    const char *k = a->data + (size_t)piece * 2 * half;
    struct kern_attn job = {.q = a->stage->src,
                            .out = out,
                            .block_table = table,
                            .k = k,
                            .v = k + half,
                            .k_block_stride_bytes = BLOCK / KV_LANES * group,
                            .v_block_stride_bytes = BLOCK * row,
                            .k_group_stride_bytes = group,
                            .v_row_stride_bytes = row,
                            .n_group = GROUP,
                            .k_dim = HEAD,
                            .v_dim = HEAD,
                            .block_len = BLOCK,
                            .pos = POSITIONS - 1,
                            .n_pos = 1,
                            .scale = 0.1f,
                            .scratch = scratch};
    a->stage->kern.attn[a->type](&job);
}

static double attention_bps(const struct stage *s, enum kv_type type)
{
    struct attention a = {s, type, s->data};
    size_t bytes = 2ull * POSITIONS * HEAD * (type == KV_F32 ? 4u : 2u);
    uint32_t n = RUN_BYTES / (uint32_t)bytes;
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        a.data = s->data + (size_t)run * RUN_BYTES;
        double begun = now_s();
        team_run(s->team, n, attention_piece, &a);
        best = fmin(best, now_s() - begun);
    }
    return (double)n * (double)bytes / best;
}

static void put_type(const struct stage *s, enum dtype type, const struct figures *f, bool as_json,
                     struct buf *out)
{
    double bus = s->limits.read_bps, peak = peak_of(&s->limits, type);
    double share = peak > 0 ? f->prefill_ops / peak : 0;
    if (as_json)
        buf_printf(out,
                   "{\"type\": \"%s\", \"decode_bytes_per_second\": %.0f, \"share_of_memory_bus\": "
                   "%.4f, \"batch_8_bytes_per_second\": %.0f, \"prefill_ops_per_second\": %.0f, "
                   "\"share_of_matrix_peak\": %.4f}",
                   dtype_info(type)->name, f->decode_bps, f->decode_bps / bus, f->batch_bps,
                   f->prefill_ops, share);
    else
        buf_printf(out, "%-8s %9.1f %7.0f %% %11.1f %7.0f %% %11.0f %7.1f %%\n",
                   dtype_info(type)->name, f->decode_bps * 1e-9, f->decode_bps / bus * 100,
                   f->batch_bps * 1e-9, f->batch_bps / bus * 100, f->prefill_ops * 1e-9,
                   share * 100);
}

static void put_rest(const struct stage *s, bool as_json, struct buf *out)
{
    double f32 = attention_bps(s, KV_F32), f16 = attention_bps(s, KV_F16);
    if (as_json)
        buf_printf(out,
                   "], \"attention\": [{\"type\": \"F32\", \"bytes_per_second\": %.0f}, {\"type\": "
                   "\"F16\", \"bytes_per_second\": %.0f}]}\n",
                   f32, f16);
    else
        buf_printf(
            out,
            "\nattention over %d positions, %d query heads to a key head of %d: %.1f GB/s of "
            "a float32 cache, %.1f of float16\n",
            POSITIONS, GROUP, HEAD, f32 * 1e-9, f16 * 1e-9);
}

static void put_head(const struct stage *s, bool as_json, struct buf *out)
{
    if (as_json) {
        buf_printf(out, "{\"level\": \"%s\", \"machine\": ", s->kern.level);
        limits_json(&s->limits, out);
        buf_append_str(out, ", \"kernels\": [");
        return;
    }
    limits_text(&s->limits, out);
    buf_printf(out, "\nkernels: %s, %u thread%s\n", s->kern.level, s->limits.n_threads,
               s->limits.n_threads == 1 ? "" : "s");
    buf_printf(out, "%-8s %9s %9s %11s %9s %11s %9s\n", "WEIGHTS", "1 TOKEN", "OF BUS", "8 TOKENS",
               "OF BUS", "512 TOKENS", "OF PEAK");
    buf_printf(out, "%-8s %9s %9s %11s %9s %11s\n", "", "GB/s", "", "GB/s", "", "G(FL)OP/s");
}

int bench_kernels(const struct bench_request *r, struct err *err)
{
    struct stage s;
    struct buf out;
    bool is_first = true;
    buf_init(&out, OUT_MAX_BYTES);
    int rc = stage_init(&s, r, err);
    if (rc == 0)
        put_head(&s, r->as_json, &out);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(types); i++) {
        struct figures f;
        if (r->type && strcasecmp(r->type, dtype_info(types[i])->name) != 0)
            continue;
        measure(&s, types[i], &f);
        if (r->as_json && !is_first)
            buf_append_str(&out, ", ");
        put_type(&s, types[i], &f, r->as_json, &out);
        is_first = false;
        if (!r->as_json) { /* as it comes */
            rc = print(&out, err);
            buf_clear(&out);
        }
    }
    if (rc == 0 && is_first)
        rc = err_set(err, E_INVALID, "--type %s is no type of weights, such as Q4_K", r->type);
    if (rc == 0) {
        put_rest(&s, r->as_json, &out);
        rc = print(&out, err);
    }
    stage_release(&s);
    buf_release(&out);
    return rc;
}
