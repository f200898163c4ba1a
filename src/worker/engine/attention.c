/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of one layer over a batch, cut for the team.  Scheduler thread; pieces run on the
 * team's.
 *
 * Usually a piece is a few consecutive positions of one sequence and one key/value head.  When that
 * leaves threads without work (few sequences with long texts), a piece is one range of one
 * position's cache, and whoever ends a position's last range joins them: nothing waits.  Both ways
 * give the same bits, see kern.h. */
#include <stdatomic.h>

#include "worker/engine/forward_impl.h"

/* Positions times key/value heads a thread below which ranges are pieces, and how many of those. */
#define SPLIT_BELOW 4u
#define MAX_PARTS   2048u

struct attn_step {
    struct forward *f;
    const struct batch *b;
    uint32_t il, n_kv, n_group;
    uint32_t window; /* 0: none */
    uint32_t n_blocks;
};

/* ---- memory ---- */

static uint32_t max_group(const struct hparams *hp)
{
    uint32_t n = 1;
    for (uint32_t i = 0; i < hp->n_layer; i++)
        n = MAX_OF(n, hp->layers[i].n_head / hp->layers[i].n_head_kv);
    return n;
}

struct attention_sizes attention_measure(const struct hparams *hp, uint32_t n_threads,
                                         uint32_t n_ctx)
{
    const uint64_t n_ranges = n_ctx / ATTN_RANGE + 2ull;
    const bool splits = n_threads > 1 && n_ctx > ATTN_RANGE;
    const uint64_t n_rows = splits ? (uint64_t)SPLIT_BELOW * n_threads : 0;
    const uint64_t n_parts = MIN_OF(n_rows * n_ranges, (uint64_t)MAX_PARTS);
    return (struct attention_sizes){
        .scratch_floats =
            (kern_attn_scratch_floats(hp->k_dim, hp->v_dim) + 15) / 16 * 16, /* whole lines */
        .n_parts = n_parts,
        .part_floats = (uint64_t)kern_attn_part_floats(hp->v_dim) * max_group(hp),
        .n_rows = n_rows,
    };
}

/* ---- one call ---- */

static void fill(const struct attn_step *s, uint32_t row, uint32_t n, uint32_t h, uint32_t thread,
                 struct kern_attn *a)
{
    const struct forward *f = s->f;
    const struct hparams *hp = f->hp;
    *a = (struct kern_attn){
        .q = f->q + (size_t)row * f->nq + (size_t)h * s->n_group * hp->k_dim,
        .out = f->att + (size_t)row * f->na + (size_t)h * s->n_group * hp->v_dim,
        .q_stride = f->nq,
        .out_stride = f->na,
        .n_group = s->n_group,
        .k_dim = hp->k_dim,
        .v_dim = hp->v_dim,
        .pos = s->b->pos[row],
        .n_pos = n,
        .window = s->window,
        .scale = f->attn_scale,
        .softcap = f->attn_softcap,
        .scratch = f->attn_scratch + thread * f->attn_sizes.scratch_floats,
    };
    kv_fill_attn(f->kv, s->b->slots[row], s->il, h, a);
}

/* ---- pieces of whole positions ---- */

/* Consecutive positions of one sequence, as many as a call takes.  Their first rows to
 * f->attn_first; one past the last block, n_tok. */
static void cut_blocks(struct attn_step *s)
{
    const struct batch *b = s->b;
    const uint32_t most = MAX_OF((uint32_t)ATTN_ROWS / s->n_group, 1u);
    uint32_t *first = s->f->attn_first;
    s->n_blocks = 0;
    for (uint32_t i = 0; i < b->n_tok; i++)
        if (i == 0 || b->slots[i] != b->slots[i - 1] || b->pos[i] != b->pos[i - 1] + 1 ||
            i - first[s->n_blocks - 1] == most)
            first[s->n_blocks++] = i;
    first[s->n_blocks] = b->n_tok;
}

/* The last blocks, which look furthest back, first. */
static void run_block(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct attn_step *s = ctx;
    struct forward *f = s->f;
    const uint32_t block = s->n_blocks - 1 - piece / s->n_kv, row = f->attn_first[block];
    struct kern_attn a;
    fill(s, row, f->attn_first[block + 1] - row, piece % s->n_kv, thread, &a);
    f->kern->attn[f->kv->type](&a);
}

/* ---- pieces of ranges ---- */

/* Where each row's parts begin, to f->attn_first; how many there are in all, or 0 when whole
 * positions will do. */
static uint32_t cut_ranges(const struct attn_step *s)
{
    const struct batch *b = s->b;
    struct forward *f = s->f;
    uint64_t n = 0;
    uint32_t range;
    if ((uint64_t)b->n_tok * s->n_kv >= f->attn_sizes.n_rows)
        return 0;
    for (uint32_t i = 0; i < b->n_tok; i++) {
        f->attn_first[i] = (uint32_t)n;
        n += (uint64_t)s->n_kv * kern_attn_ranges(b->pos[i], s->window, &range);
        if (n > f->attn_sizes.n_parts)
            return 0;
    }
    f->attn_first[b->n_tok] = (uint32_t)n;
    return n > (uint64_t)b->n_tok * s->n_kv ? (uint32_t)n : 0;
}

static void run_range(void *ctx, uint32_t piece, uint32_t thread)
{
    const struct attn_step *s = ctx;
    struct forward *f = s->f;
    uint32_t row = 0, range;
    while (f->attn_first[row + 1] <= piece)
        row++;
    const uint32_t n = kern_attn_ranges(s->b->pos[row], s->window, &range),
                   h = (piece - f->attn_first[row]) / n, i = (piece - f->attn_first[row]) % n;
    const size_t part = kern_attn_part_floats(f->hp->v_dim) * s->n_group;
    float *parts = f->attn_parts + (f->attn_first[row] + h * n) * part;
    struct kern_attn a;
    fill(s, row, 1, h, thread, &a);
    f->kern->attn_part[f->kv->type](&a, range + i, parts + i * part);
    if (atomic_fetch_add_explicit(&f->attn_done[row * s->n_kv + h], 1, memory_order_acq_rel) ==
        n - 1)
        f->kern->attn_join(&a, n, parts);
}

void attention_run(struct forward *f, const struct batch *b, uint32_t il)
{
    const struct hparams_layer *hl = &f->hp->layers[il];
    struct attn_step s = {
        .f = f, .b = b, .il = il, .n_kv = hl->n_head_kv, .n_group = hl->n_head / hl->n_head_kv};
    if (forward_is_sliding(f->w->arch, f->hp, il))
        s.window = f->hp->n_swa ? f->hp->n_swa : f->w->arch->swa_window;
    const uint32_t n_ranges = cut_ranges(&s);
    if (n_ranges) {
        for (uint32_t i = 0; i < b->n_tok * s.n_kv; i++)
            atomic_store_explicit(&f->attn_done[i], 0, memory_order_relaxed);
        team_run(f->team, n_ranges, run_range, &s);
        return;
    }
    cut_blocks(&s);
    team_run(f->team, s.n_blocks * s.n_kv, run_block, &s);
}
