/* SPDX-License-Identifier: Apache-2.0 */
/* Mixture of experts: softmax over all experts, the n_expert_used best, their weights made to sum
 * to 1 (Mixtral, granite).  Rows are ordered by expert, so that each expert's matrices are read
 * once for the whole batch; every token's outputs are then added in the order of its own choices.
 * Scheduler thread and the team's. */
#include <math.h>
#include <string.h>

#include "worker/engine/forward_impl.h"

#define ROWS_PER_PIECE 4u

struct moe_step {
    struct forward *f;
    const struct layer_weights *lw;
    uint32_t n_rows;
    bool has_shared;
    void (*fn)(const struct moe_step *s, uint32_t row);
};

static void run_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct moe_step *s = ctx;
    (void)thread;
    for (uint32_t r = piece * ROWS_PER_PIECE; r < MIN_OF((piece + 1) * ROWS_PER_PIECE, s->n_rows);
         r++)
        s->fn(s, r);
}

static void run(struct moe_step *s, uint32_t n_rows, void (*fn)(const struct moe_step *, uint32_t))
{
    s->n_rows = n_rows;
    s->fn = fn;
    team_run(s->f->team, (n_rows + ROWS_PER_PIECE - 1) / ROWS_PER_PIECE, run_piece, s);
}

/* The best experts of one row and their weights.  Comparisons are written so that NaN cannot leave
 * the range. */
static void choose(const struct moe_step *s, uint32_t row)
{
    struct forward *f = s->f;
    const uint32_t n = f->hp->n_expert, n_used = f->hp->n_expert_used;
    float *p = f->probs + (size_t)row * n, max = p[0], sum = 0;
    for (uint32_t e = 1; e < n; e++)
        max = p[e] > max ? p[e] : max;
    for (uint32_t e = 0; e < n; e++)
        sum += p[e] = expf(p[e] - max);
    uint32_t *experts = f->choice_expert + (size_t)row * n_used;
    float *weights = f->choice_weight + (size_t)row * n_used, total = 0;
    for (uint32_t j = 0; j < n_used; j++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < n; e++) {
            bool taken = false;
            for (uint32_t i = 0; i < j; i++)
                taken = taken || experts[i] == e;
            if (!taken && (best == UINT32_MAX || p[e] > p[best]))
                best = e;
        }
        experts[j] = best;
        weights[j] = p[best] / sum;
        total += weights[j];
    }
    total =
        total > 6.103515625e-5f ? total : 6.103515625e-5f; /* as llama.cpp: the smallest float16 */
    for (uint32_t j = 0; j < n_used; j++)
        weights[j] /= total;
}

/* Counting sort of (row, choice) pairs by expert: choice_row says where each one's rows lie. */
static void order_by_expert(struct forward *f, uint32_t n_rows)
{
    const uint32_t n = f->hp->n_expert, n_choice = n_rows * f->hp->n_expert_used;
    memset(f->expert_first, 0, (n + 1) * sizeof *f->expert_first);
    for (uint32_t i = 0; i < n_choice; i++)
        f->expert_first[f->choice_expert[i] + 1]++;
    for (uint32_t e = 0; e < n; e++)
        f->expert_first[e + 1] += f->expert_first[e];
    memcpy(f->expert_fill, f->expert_first, n * sizeof *f->expert_fill);
    for (uint32_t i = 0; i < n_choice; i++)
        f->choice_row[i] = f->expert_fill[f->choice_expert[i]]++;
}

static void gather(const struct moe_step *s, uint32_t row)
{
    struct forward *f = s->f;
    const unsigned formats = 1u << f->kern->act_for[s->lw->gate_exps.mat.type] |
                             1u << f->kern->act_for[s->lw->up_exps.mat.type];
    for (int i = 0; i < ACT_N; i++) {
        const size_t bytes = kern_act_row_bytes((enum act_format)i, f->hp->n_embd);
        for (uint32_t j = 0; formats & 1u << i && j < f->hp->n_expert_used; j++)
            memcpy(f->gathered.rows[i] + f->choice_row[row * f->hp->n_expert_used + j] * bytes,
                   f->in.rows[i] + row * bytes, bytes);
    }
}

static void activate(const struct moe_step *s, uint32_t row)
{
    struct forward *f = s->f;
    const uint32_t n_ff = s->lw->up_exps.mat.n_rows;
    const enum act_format format = f->kern->act_for[s->lw->down_exps.mat.type];
    float *g = f->gate + (size_t)row * n_ff, *u = f->up + (size_t)row * n_ff;
    if (f->w->arch->ffn == ARCH_FFN_GELU)
        f->kern->gelu_mul(g, u, g, n_ff);
    else
        f->kern->silu_mul(g, u, g, n_ff);
    f->kern->act_prepare[format](g, f->mid.rows[format] + row * kern_act_row_bytes(format, n_ff),
                                 n_ff);
}

static void activate_shared(const struct moe_step *s, uint32_t row)
{
    struct forward *f = s->f;
    const uint32_t n_ff = s->lw->up.mat.n_rows;
    const enum act_format format = f->kern->act_for[s->lw->down.mat.type];
    float *g = f->gate + (size_t)row * n_ff, *u = f->up + (size_t)row * n_ff;
    f->kern->silu_mul(g, u, g, n_ff);
    f->kern->act_prepare[format](g, f->mid.rows[format] + row * kern_act_row_bytes(format, n_ff),
                                 n_ff);
}

static void combine(const struct moe_step *s, uint32_t row)
{
    struct forward *f = s->f;
    const uint32_t n = f->hp->n_embd, n_used = f->hp->n_expert_used;
    float *t = f->t + (size_t)row * n;
    for (uint32_t j = 0; j < n_used; j++) {
        float *y = f->expert_out + (size_t)f->choice_row[row * n_used + j] * n;
        f->kern->scale(y, f->choice_weight[row * n_used + j], y, n);
        if (j == 0 && !s->has_shared)
            memcpy(t, y, n * sizeof *t);
        else
            f->kern->add(t, y, t, n);
    }
}

static void run_shared(struct moe_step *s, uint32_t n_rows)
{
    struct forward *f = s->f;
    const uint32_t n_ff = s->lw->up.mat.n_rows;
    const struct linear *in[2] = {&s->lw->gate, &s->lw->up}, *down[1] = {&s->lw->down};
    float *const out[2] = {f->gate, f->up};
    const size_t ld[2] = {n_ff, n_ff};
    matmul_run(f, 2, in, &f->in, n_rows, out, ld);
    run(s, n_rows, activate_shared);
    matmul_run(f, 1, down, &f->mid, n_rows, &f->t, &(size_t){f->hp->n_embd});
}

void moe_run(struct forward *f, const struct layer_weights *lw, uint32_t n_rows)
{
    struct moe_step s = {.f = f, .lw = lw, .has_shared = lw->up.mat.data != NULL};
    const struct linear *router[1] = {&lw->router};
    const struct experts *in[2] = {&lw->gate_exps, &lw->up_exps}, *down[1] = {&lw->down_exps};
    float *const out[2] = {f->gate, f->up};
    matmul_run(f, 1, router, &f->in, n_rows, &f->probs, &(size_t){f->hp->n_expert});
    run(&s, n_rows, choose);
    order_by_expert(f, n_rows);
    run(&s, n_rows, gather);
    matmul_run_experts(f, 2, in, &f->gathered, out);
    run(&s, n_rows * f->hp->n_expert_used, activate);
    matmul_run_experts(f, 1, down, &f->mid, &f->expert_out);
    if (s.has_shared)
        run_shared(&s, n_rows);
    run(&s, n_rows, combine);
}
