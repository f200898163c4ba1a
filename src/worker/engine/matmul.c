/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products over the team: cut into chunks of rows, several products of one input in one
 * call.  Scheduler thread; pieces run on the team's. */
#include "worker/engine/forward_impl.h"

/* A piece's weights stay in a core's second-level cache while all rows of the batch pass by; where
 * there are several, kernels fetch the piece's next weights meanwhile, and larger ones pay.  Few
 * rows read weights once, and each piece begins with what no prefetcher has seen: their pieces are
 * as long as still leaves a few for every thread. */
#define CHUNK_BYTES       65536u
#define CHUNK_BYTES_MANY  131072u
#define CHUNK_BYTES_FEW   1048576u
#define PIECES_PER_THREAD 2u
#define MANY_ROWS         4u
#define MANY_TOKENS       64u
#define MAX_PRODUCTS      3

struct product {
    struct kern_mat mat;
    const float *bias;
    float scale;
    float *out;
    size_t ld;
    uint32_t chunk_rows, n_chunks;
    size_t expert_stride, expert_panels_stride; /* experts only */
    const float *expert_scales;
    float last_scale, softcap; /* logits only: 1 and 0 elsewhere */
};

struct matmul_step {
    struct forward *f;
    const struct act_rows *x;
    uint32_t n_rows;
    uint32_t n;
    struct product p[MAX_PRODUCTS];
    uint32_t n_chunks; /* of all products */
};

static size_t chunk_bytes(const struct product *p, uint32_t n_rows, uint32_t n_threads)
{
    if (n_rows >= MANY_ROWS)
        return CHUNK_BYTES_MANY;
    const size_t share = p->mat.row_bytes * p->mat.n_rows / n_threads / PIECES_PER_THREAD;
    return MIN_OF(MAX_OF(share, (size_t)CHUNK_BYTES), (size_t)CHUNK_BYTES_FEW);
}

/* As many rows as kernels want for many tokens, if that leaves a few pieces for every thread. */
static uint32_t many_rows(const struct forward *f, const struct product *p, uint32_t n_rows)
{
    const uint32_t share = p->mat.n_rows / team_size(f->team) / PIECES_PER_THREAD;
    return n_rows < MANY_TOKENS ? 0 : MIN_OF(f->kern->many_rows, share);
}

static void cut(const struct forward *f, struct product *p, uint32_t n_rows)
{
    const size_t bytes = chunk_bytes(p, n_rows, team_size(f->team));
    const uint32_t rows =
        MAX_OF((uint32_t)(bytes / MAX_OF(p->mat.row_bytes, (size_t)1)), many_rows(f, p, n_rows));
    p->chunk_rows = MAX_OF((rows + KERN_ROW_STEP / 2) / KERN_ROW_STEP, 1u) * KERN_ROW_STEP;
    p->n_chunks = (p->mat.n_rows + p->chunk_rows - 1) / p->chunk_rows;
}

/* Scales, bias and soft cap of one row of a chunk. */
static void finish_row(const struct forward *f, const struct product *p, float scale, float *y,
                       uint32_t row0, uint32_t n)
{
    if (scale != 1.0f)
        f->kern->scale(y, scale, y, n);
    if (p->bias)
        f->kern->add(y, p->bias + row0, y, n);
    if (p->last_scale != 1.0f)
        f->kern->scale(y, p->last_scale, y, n);
    if (p->softcap > 0)
        f->kern->softcap(y, p->softcap, y, n);
}

static void run_chunk(struct forward *f, const struct product *p, const struct kern_act *x,
                      const struct kern_mat *mat, float scale, float *out, uint32_t chunk)
{
    const uint32_t row0 = chunk * p->chunk_rows, row1 = MIN_OF(row0 + p->chunk_rows, mat->n_rows);
    const kern_matmul_fn fn =
        mat->panels ? f->kern->matmul_panels[mat->type] : f->kern->matmul[mat->type];
    fn(mat, row0, row1, x, out + row0, p->ld);
    if (scale != 1.0f || p->bias || p->last_scale != 1.0f || p->softcap > 0)
        for (uint32_t t = 0; t < x->n_tok; t++)
            finish_row(f, p, scale, out + t * p->ld + row0, row0, row1 - row0);
}

static struct kern_act act_view(const struct forward *f, const struct act_rows *x,
                                const struct kern_mat *mat, uint32_t first, uint32_t n)
{
    const enum act_format format = f->kern->act_for[mat->type];
    const size_t row_bytes = kern_act_row_bytes(format, mat->n_cols);
    return (struct kern_act){.format = format,
                             .n_tok = n,
                             .n_cols = mat->n_cols,
                             .row_bytes = row_bytes,
                             .rows = x->rows[format] + first * row_bytes};
}

static const struct product *product_of(const struct matmul_step *s, uint32_t *chunk)
{
    const struct product *p = s->p;
    while (*chunk >= p->n_chunks)
        *chunk -= (p++)->n_chunks;
    return p;
}

static void run_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct matmul_step *s = ctx;
    (void)thread;
    const struct product *p = product_of(s, &piece);
    const struct kern_act x = act_view(s->f, s->x, &p->mat, 0, s->n_rows);
    run_chunk(s->f, p, &x, &p->mat, p->scale, p->out, piece);
}

void matmul_run(struct forward *f, uint32_t n, const struct linear *const *in,
                const struct act_rows *x, uint32_t n_rows, float *const *out, const size_t *ld)
{
    struct matmul_step s = {.f = f, .x = x, .n_rows = n_rows, .n = n};
    BUG_ON(n > MAX_PRODUCTS);
    for (uint32_t i = 0; i < n; i++) {
        s.p[i] = (struct product){.mat = in[i]->mat,
                                  .bias = in[i]->bias,
                                  .scale = in[i]->scale,
                                  .out = out[i],
                                  .ld = ld[i],
                                  .last_scale = 1};
        cut(f, &s.p[i], n_rows);
        s.n_chunks += s.p[i].n_chunks;
    }
    team_run(f->team, s.n_chunks, run_piece, &s);
}

void matmul_run_output(struct forward *f, const struct act_rows *x, uint32_t n_rows, float *out)
{
    const struct linear *l = &f->w->output;
    struct matmul_step s = {.f = f, .x = x, .n_rows = n_rows, .n = 1};
    s.p[0] = (struct product){.mat = l->mat,
                              .bias = l->bias,
                              .scale = l->scale,
                              .out = out,
                              .ld = f->hp->n_vocab,
                              .last_scale = f->logit_scale,
                              .softcap = f->final_softcap};
    cut(f, &s.p[0], n_rows);
    team_run(f->team, s.p[0].n_chunks, run_piece, &s);
}

static void run_expert_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct matmul_step *s = ctx;
    struct forward *f = s->f;
    const uint32_t expert = piece / s->n_chunks, first = f->expert_first[expert];
    uint32_t chunk = piece % s->n_chunks;
    (void)thread;
    if (f->expert_first[expert + 1] == first)
        return;
    const struct product *p = product_of(s, &chunk);
    struct kern_mat mat = p->mat;
    mat.data = (const char *)mat.data + expert * p->expert_stride;
    if (mat.panels)
        mat.panels = (const char *)mat.panels + expert * p->expert_panels_stride;
    const struct kern_act x = act_view(f, s->x, &mat, first, f->expert_first[expert + 1] - first);
    run_chunk(f, p, &x, &mat, p->expert_scales ? p->expert_scales[expert] : 1.0f,
              p->out + first * p->ld, chunk);
}

void matmul_run_experts(struct forward *f, uint32_t n, const struct experts *const *in,
                        const struct act_rows *x, float *const *out)
{
    struct matmul_step s = {.f = f, .x = x, .n = n};
    BUG_ON(n > MAX_PRODUCTS);
    for (uint32_t i = 0; i < n; i++) {
        s.p[i] = (struct product){.mat = in[i]->mat,
                                  .out = out[i],
                                  .ld = in[i]->mat.n_rows,
                                  .expert_stride = in[i]->stride_bytes,
                                  .expert_panels_stride = in[i]->panels_stride_bytes,
                                  .expert_scales = in[i]->scales,
                                  .last_scale = 1};
        cut(f, &s.p[i], 1);
        s.n_chunks += s.p[i].n_chunks;
    }
    team_run(f->team, f->hp->n_expert * s.n_chunks, run_expert_piece, &s);
}
