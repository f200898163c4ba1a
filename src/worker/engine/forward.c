/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder: embedding, layers, output.  Shapes are row-major, one row a token.
 *
 * A layer is ten steps, each one call of the team; the steps that work token by token are small and
 * cut into pieces of a few rows, the matrix products into chunks of about 64 KB of weights. Nothing
 * here depends on how a step is cut: a piece writes only its own rows or columns. */
#include "worker/engine/forward.h"

#include <math.h>
#include <string.h>

#include "lib/base/mem.h"
#include "worker/engine/forward_impl.h"

/* ---- scratch memory ---- */

struct carver {
    char *base; /* NULL: only count */
    uint64_t used;
    bool overflow;
};

static void *carve(struct carver *c, uint64_t n, uint64_t item_bytes)
{
    uint64_t bytes, at = c->used;
    if (!size_mul(n, item_bytes, &bytes) || !size_add(bytes, 63, &bytes) ||
        !size_add(c->used, bytes / 64 * 64, &c->used)) {
        c->overflow = true;
        return NULL;
    }
    return c->base ? c->base + at : NULL;
}

static void carve_act(struct carver *c, struct act_rows *a, uint64_t n_rows, uint32_t n_cols)
{
    for (int i = 0; i < ACT_N; i++)
        a->rows[i] = carve(c, n_rows, kern_act_row_bytes((enum act_format)i, n_cols));
}

static void carve_all(struct forward *f, const struct forward_dims *d, struct carver *c)
{
    const struct hparams *hp = d->hp;
    const uint64_t n = d->max_tok, n_choice = n * hp->n_expert_used;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        const struct hparams_layer *l = &hp->layers[i];
        f->nq = MAX_OF(f->nq, l->n_head * hp->k_dim);
        f->nk = MAX_OF(f->nk, l->n_head_kv * hp->k_dim);
        f->nv = MAX_OF(f->nv, l->n_head_kv * hp->v_dim);
        f->na = MAX_OF(f->na, l->n_head * hp->v_dim);
    }
    const uint64_t n_mid = MAX_OF(n, n_choice);
    f->x = carve(c, n * hp->n_embd, sizeof(float));
    f->t = carve(c, n * hp->n_embd, sizeof(float));
    f->q = carve(c, n * f->nq, sizeof(float));
    f->k = carve(c, n * f->nk, sizeof(float));
    f->v = carve(c, n * f->nv, sizeof(float));
    f->att = carve(c, n * f->na, sizeof(float));
    f->gate = carve(c, n_mid * d->n_ff_max, sizeof(float));
    f->up = carve(c, n_mid * d->n_ff_max, sizeof(float));
    f->mid_row = carve(c, (uint64_t)d->n_threads * d->n_ff_max, sizeof(float));
    for (int i = 0; i < 2; i++)
        f->cos_sin[i] = carve(c, n * hp->n_rot, sizeof(float));
    f->attn_sizes = attention_measure(hp, d->n_threads, d->n_ctx);
    const struct attention_sizes *as = &f->attn_sizes;
    f->attn_scratch = carve(c, d->n_threads, as->scratch_floats * sizeof(float));
    f->attn_parts = carve(c, as->n_parts, as->part_floats * sizeof(float));
    f->attn_done = carve(c, as->n_rows, sizeof(*f->attn_done));
    f->attn_first = carve(c, n + 1, sizeof(*f->attn_first));
    carve_act(c, &f->in, n, MAX_OF(hp->n_embd, f->na));
    carve_act(c, &f->mid, n_mid, d->n_ff_max);
    if (hp->n_expert) {
        carve_act(c, &f->gathered, n_choice, hp->n_embd);
        f->probs = carve(c, n * hp->n_expert, sizeof(float));
        f->expert_out = carve(c, n_choice * hp->n_embd, sizeof(float));
        f->choice_weight = carve(c, n_choice, sizeof(float));
        f->choice_expert = carve(c, n_choice, sizeof(uint32_t));
        f->choice_row = carve(c, n_choice, sizeof(uint32_t));
        f->expert_first = carve(c, hp->n_expert + 1ull, sizeof(uint32_t));
        f->expert_fill = carve(c, hp->n_expert, sizeof(uint32_t));
    }
}

uint64_t forward_scratch_bytes(const struct forward_dims *d)
{
    struct forward f = {0};
    struct carver c = {0};
    carve_all(&f, d, &c);
    return c.overflow ? 0 : c.used;
}

/* ---- constants of the model ---- */

bool forward_is_sliding(const struct arch *a, const struct hparams *hp, uint32_t il)
{
    const uint32_t window = hp->n_swa ? hp->n_swa : a->swa_window;
    if (a->swa_period == 0 || window == 0)
        return false;
    if (hp->has_swa_pattern)
        return hp->layers[il].is_sliding;
    const uint32_t period = hp->swa_period ? hp->swa_period : a->swa_period;
    return (il + 1) % period != 0;
}

static float attention_scale(const struct arch *a, const struct hparams *hp)
{
    uint32_t width = hp->k_dim;
    if (a->attn_scale == ARCH_ATTN_SCALE_KEY && hp->attn_scale != 0)
        return hp->attn_scale;
    if ((a->attn_scale == ARCH_ATTN_SCALE_GEMMA2 && hp->n_layer == 46) ||
        (a->attn_scale == ARCH_ATTN_SCALE_GEMMA3 && hp->n_layer == 62))
        width = hp->n_embd / hp->layers[0].n_head;
    return 1.0f / sqrtf((float)width);
}

static void init_ropes(struct forward *f, uint32_t n_ctx)
{
    const struct hparams *hp = f->hp;
    const struct arch *a = f->w->arch;
    struct rope *full = &f->rope[0], *sliding = &f->rope[1];
    *full = (struct rope){.n_rot = hp->n_rot,
                          .base = hp->rope_base,
                          .factor = hp->rope_scaling == ROPE_SCALING_NONE ? 1.0f : hp->rope_factor,
                          .magnitude = hp->rope_attn_factor,
                          .yarn = hp->rope_scaling == ROPE_SCALING_YARN,
                          .ext_factor = hp->yarn_ext_factor < 0 ? 1.0f : hp->yarn_ext_factor,
                          .beta_fast = hp->yarn_beta_fast,
                          .beta_slow = hp->yarn_beta_slow,
                          .n_ctx_orig = (float)hp->n_ctx_orig};
    /* The choice is made once, by the declared context, so that a position's rotation never
     * changes. */
    full->divisors = n_ctx > hp->n_ctx_orig ? f->w->rope_long : f->w->rope_short;
    if (f->w->rope_freqs)
        full->divisors = f->w->rope_freqs;
    *sliding = *full;
    if (a->swa_rope_plain) {
        sliding->factor = sliding->magnitude = 1.0f;
        sliding->yarn = false;
    }
    if (hp->rope_base_swa > 0)
        sliding->base = hp->rope_base_swa;
    else if (a->swa_rope_base > 0)
        sliding->base = a->swa_rope_base;
    f->rope_on = !(a->rope_switch && hp->has_rope_finetuned && !hp->rope_finetuned);
}

static void init_scales(struct forward *f)
{
    const struct hparams *hp = f->hp;
    const struct arch *a = f->w->arch;
    f->attn_scale = attention_scale(a, hp);
    f->embed_scale = 1.0f;
    if (a->embed_sqrt)
        f->embed_scale = sqrtf((float)hp->n_embd);
    else if (a->embedding_scale && hp->embedding_scale != 0)
        f->embed_scale = hp->embedding_scale;
    f->residual_scale = a->residual_scale && hp->residual_scale != 0 ? hp->residual_scale : 1.0f;
    f->logit_scale = a->logit_scale && hp->logit_scale != 0 ? 1.0f / hp->logit_scale : 1.0f;
    f->attn_softcap = a->attn_softcap ? hp->attn_softcap : 0.0f;
    f->final_softcap = a->final_softcap ? hp->final_softcap : 0.0f;
}

int forward_init(struct forward *f, const struct forward_dims *d, const struct weights *w,
                 const struct kern *kern, struct team *team, struct kv *kv, uint32_t n_ctx,
                 struct err *err)
{
    *f = (struct forward){
        .hp = d->hp, .w = w, .kern = kern, .team = team, .kv = kv, .max_tok = d->max_tok};
    struct carver c = {.base = mem_try_lazy((size_t)forward_scratch_bytes(d), &f->scratch, err)};
    if (!c.base)
        return err_wrap(err, "memory for activations");
    carve_all(f, d, &c);
    init_ropes(f, n_ctx);
    init_scales(f);
    return 0;
}

void forward_release(struct forward *f)
{
    mem_free(f->scratch);
    *f = (struct forward){0};
}

/* ---- steps that work row by row ---- */

#define ROWS_PER_PIECE 4u

struct row_step {
    struct forward *f;
    const struct batch *b;
    void (*fn)(struct row_step *s, uint32_t row, uint32_t thread);
    const struct layer_weights *lw; /* of layer il; NULL past the last */
    uint32_t il, n_rows, width;
    unsigned formats; /* bit i: prepare act_format i */
};

static void run_row_piece(void *ctx, uint32_t piece, uint32_t thread)
{
    struct row_step *s = ctx;
    for (uint32_t r = piece * ROWS_PER_PIECE; r < MIN_OF((piece + 1) * ROWS_PER_PIECE, s->n_rows);
         r++)
        s->fn(s, r, thread);
}

static void run_rows(struct row_step *s)
{
    team_run(s->f->team, (s->n_rows + ROWS_PER_PIECE - 1) / ROWS_PER_PIECE, run_row_piece, s);
}

static void prepare_row(const struct forward *f, struct act_rows *dst, unsigned formats,
                        const float *src, uint32_t n, uint32_t row)
{
    for (int i = 0; i < ACT_N; i++)
        if (formats & 1u << i)
            f->kern->act_prepare[i](
                src, dst->rows[i] + row * kern_act_row_bytes((enum act_format)i, n), n);
}

static unsigned formats_of(const struct forward *f, const struct linear *l)
{
    return l->mat.data ? 1u << f->kern->act_for[l->mat.type] : 0;
}

static unsigned expert_formats(const struct forward *f, const struct experts *e)
{
    return e->mat.data ? 1u << f->kern->act_for[e->mat.type] : 0;
}

static unsigned qkv_formats(const struct forward *f, const struct layer_weights *lw)
{
    return formats_of(f, &lw->q) | formats_of(f, &lw->k) | formats_of(f, &lw->v);
}

static unsigned ffn_formats(const struct forward *f, const struct layer_weights *lw)
{
    return formats_of(f, &lw->gate) | formats_of(f, &lw->up) | formats_of(f, &lw->router) |
           expert_formats(f, &lw->gate_exps) | expert_formats(f, &lw->up_exps);
}

/* x -> (norm) -> prepared rows for the next product; uses row of t. */
static void norm_and_prepare(struct row_step *s, const float *norm, unsigned formats, uint32_t row)
{
    struct forward *f = s->f;
    const uint32_t n = f->hp->n_embd;
    const float *src = f->x + (size_t)row * n;
    if (norm) {
        f->kern->rms_norm(src, norm, f->hp->rms_eps, f->t + (size_t)row * n, n);
        src = f->t + (size_t)row * n;
    }
    prepare_row(f, &f->in, formats, src, n, row);
}

/* What comes after a layer's feed-forward, or after the embedding: the next layer's input, or the
 * output's. */
static void enter_next(struct row_step *s, uint32_t row)
{
    struct forward *f = s->f;
    if (s->lw)
        norm_and_prepare(s, s->lw->attn_norm, s->formats, row);
    else
        norm_and_prepare(s, f->w->output_norm, s->formats, row);
}

static void step_embed(struct row_step *s, uint32_t row, uint32_t thread UNUSED)
{
    struct forward *f = s->f;
    const struct kern_mat *e = &f->w->embed;
    const uint32_t n = f->hp->n_embd;
    float *x = f->x + (size_t)row * n;
    f->kern->dequant[e->type]((const char *)e->data + (size_t)s->b->tokens[row] * e->row_bytes, x,
                              n);
    if (f->embed_scale != 1.0f)
        f->kern->scale(x, f->embed_scale, x, n);
    for (int i = 0; i < (f->w->arch->swa_period ? 2 : 1); i++)
        rope_table(&f->rope[i], s->b->pos[row], f->cos_sin[i] + (size_t)row * f->hp->n_rot);
    enter_next(s, row);
}

static void norm_heads(const struct forward *f, float *x, const float *norm, uint32_t n_head)
{
    const uint32_t dim = f->hp->k_dim;
    if (f->w->arch->qk_norm == ARCH_QK_NORM_WIDTH)
        f->kern->rms_norm(x, norm, f->hp->rms_eps, x, n_head * dim);
    else if (f->w->arch->qk_norm == ARCH_QK_NORM_HEAD)
        for (uint32_t h = 0; h < n_head; h++)
            f->kern->rms_norm(x + (size_t)h * dim, norm, f->hp->rms_eps, x + (size_t)h * dim, dim);
}

/* Norms, rotates and stores one token's q, k and v. */
static void step_rope(struct row_step *s, uint32_t row, uint32_t thread UNUSED)
{
    struct forward *f = s->f;
    const struct hparams *hp = f->hp;
    const struct hparams_layer *hl = &hp->layers[s->il];
    const struct arch *a = f->w->arch;
    float *q = f->q + (size_t)row * f->nq, *k = f->k + (size_t)row * f->nk,
          *v = f->v + (size_t)row * f->nv;
    norm_heads(f, q, s->lw->q_norm, hl->n_head);
    norm_heads(f, k, s->lw->k_norm, hl->n_head_kv);
    if (f->rope_on && !(a->rope_skip_period && (s->il + 1) % a->rope_skip_period == 0)) {
        const float *cs = f->cos_sin[forward_is_sliding(a, hp, s->il)] + (size_t)row * hp->n_rot;
        void (*rotate)(float *, const float *, uint32_t) =
            a->rope == ARCH_ROPE_NEOX ? f->kern->rope_neox : f->kern->rope_norm;
        for (uint32_t h = 0; h < hl->n_head; h++)
            rotate(q + (size_t)h * hp->k_dim, cs, hp->n_rot);
        for (uint32_t h = 0; h < hl->n_head_kv; h++)
            rotate(k + (size_t)h * hp->k_dim, cs, hp->n_rot);
    }
    for (uint32_t h = 0; h < hl->n_head_kv; h++) {
        const uint32_t slot = s->b->slots[row], pos = s->b->pos[row];
        f->kern->kv_store_k[f->kv->type](k + (size_t)h * hp->k_dim,
                                         kv_k_group(f->kv, slot, s->il, h, pos),
                                         pos % f->kv->block_len % KV_LANES, hp->k_dim);
        f->kern->kv_store_v[f->kv->type](v + (size_t)h * hp->v_dim,
                                         kv_v_row(f->kv, slot, s->il, h, pos), hp->v_dim);
    }
}

static void step_prepare_att(struct row_step *s, uint32_t row, uint32_t thread UNUSED)
{
    struct forward *f = s->f;
    prepare_row(f, &f->in, s->formats, f->att + (size_t)row * f->na, s->width, row);
}

/* x += residual_scale * norm(t) */
static void add_residual(struct forward *f, const float *norm, uint32_t row)
{
    const uint32_t n = f->hp->n_embd;
    float *x = f->x + (size_t)row * n, *t = f->t + (size_t)row * n;
    if (norm)
        f->kern->rms_norm(t, norm, f->hp->rms_eps, t, n);
    if (f->residual_scale != 1.0f)
        f->kern->scale(t, f->residual_scale, t, n);
    f->kern->add(x, t, x, n);
}

static void step_after_attn(struct row_step *s, uint32_t row, uint32_t thread UNUSED)
{
    add_residual(s->f, s->lw->attn_post_norm, row);
    norm_and_prepare(s, s->lw->ffn_norm, s->formats, row);
}

/* The activation goes to a row of this thread's, which stays in its cache. */
static void step_ffn_act(struct row_step *s, uint32_t row, uint32_t thread)
{
    struct forward *f = s->f;
    const float *g = f->gate + (size_t)row * s->width, *u = f->up + (size_t)row * s->width;
    float *y = f->mid_row + (size_t)thread * s->width;
    if (f->w->arch->ffn == ARCH_FFN_GELU)
        f->kern->gelu_mul(g, u, y, s->width);
    else
        f->kern->silu_mul(g, u, y, s->width);
    prepare_row(f, &f->mid, s->formats, y, s->width, row);
}

/* Layer s->il ends; s->lw is the next one's. */
static void step_after_ffn(struct row_step *s, uint32_t row, uint32_t thread UNUSED)
{
    struct forward *f = s->f;
    add_residual(f, f->w->layers[s->il].ffn_post_norm, row);
    enter_next(s, row);
}

/* ---- the pass ---- */

/* Only the wanted rows go on: their attention results and residuals move to the front. */
static void keep_out_rows(struct forward *f, const struct batch *b)
{
    for (uint32_t i = 0; i < b->n_out; i++) {
        if (b->out[i] == i)
            continue;
        memcpy(f->att + (size_t)i * f->na, f->att + (size_t)b->out[i] * f->na,
               f->na * sizeof(float));
        memcpy(f->x + (size_t)i * f->hp->n_embd, f->x + (size_t)b->out[i] * f->hp->n_embd,
               f->hp->n_embd * sizeof(float));
    }
}

static void run_dense_ffn(struct forward *f, const struct layer_weights *lw, uint32_t n_rows)
{
    const uint32_t n_ff = lw->up.mat.n_rows;
    const struct linear *in[2] = {&lw->gate, &lw->up};
    float *const out[2] = {f->gate, f->up};
    const size_t ld[2] = {n_ff, n_ff};
    matmul_run(f, 2, in, &f->in, n_rows, out, ld);
    struct row_step s = {.f = f,
                         .fn = step_ffn_act,
                         .n_rows = n_rows,
                         .width = n_ff,
                         .formats = formats_of(f, &lw->down)};
    run_rows(&s);
    const struct linear *down[1] = {&lw->down};
    matmul_run(f, 1, down, &f->mid, n_rows, &f->t, &(size_t){f->hp->n_embd});
}

/* Attention of layer il over the whole batch, up to its residual; returns how many rows go on. */
static uint32_t run_attn_block(struct forward *f, const struct batch *b, uint32_t il)
{
    const struct layer_weights *lw = &f->w->layers[il];
    const bool last = il + 1 == f->hp->n_layer;
    const struct linear *qkv[3] = {&lw->q, &lw->k, &lw->v};
    float *const out[3] = {f->q, f->k, f->v};
    const size_t ld[3] = {f->nq, f->nk, f->nv};
    matmul_run(f, 3, qkv, &f->in, b->n_tok, out, ld);
    struct row_step s = {.f = f, .b = b, .fn = step_rope, .lw = lw, .il = il, .n_rows = b->n_tok};
    run_rows(&s);
    if (last && b->n_out == 0)
        return 0;
    attention_run(f, b, il);
    if (last) {
        keep_out_rows(f, b);
        s.n_rows = b->n_out;
    }
    s.fn = step_prepare_att;
    s.formats = formats_of(f, &lw->o);
    s.width = lw->o.mat.n_cols;
    run_rows(&s);
    const struct linear *o[1] = {&lw->o};
    matmul_run(f, 1, o, &f->in, s.n_rows, &f->t, &(size_t){f->hp->n_embd});
    s.fn = step_after_attn;
    s.formats = ffn_formats(f, lw);
    run_rows(&s);
    return s.n_rows;
}

void forward_run(struct forward *f, const struct batch *b)
{
    const struct weights *w = f->w;
    BUG_ON(b->n_tok == 0 || b->n_tok > f->max_tok || b->n_out > b->n_tok);
    struct row_step s = {.f = f,
                         .b = b,
                         .fn = step_embed,
                         .lw = &w->layers[0],
                         .n_rows = b->n_tok,
                         .formats = qkv_formats(f, &w->layers[0])};
    run_rows(&s);
    f->n_out = b->n_out;
    for (uint32_t il = 0; il < f->hp->n_layer; il++) {
        s.n_rows = run_attn_block(f, b, il);
        if (s.n_rows == 0)
            return;
        if (w->layers[il].router.mat.data)
            moe_run(f, &w->layers[il], s.n_rows);
        else
            run_dense_ffn(f, &w->layers[il], s.n_rows);
        const bool last = il + 1 == f->hp->n_layer;
        s.fn = step_after_ffn;
        s.il = il;
        s.lw = last ? NULL : &w->layers[il + 1];
        s.formats = last ? formats_of(f, &w->output) : qkv_formats(f, s.lw);
        run_rows(&s);
    }
}

void forward_logits(struct forward *f, uint32_t first, uint32_t n, float *out)
{
    BUG_ON(first + n > f->n_out);
    struct act_rows rows;
    for (int i = 0; i < ACT_N; i++)
        rows.rows[i] =
            f->in.rows[i] + first * kern_act_row_bytes((enum act_format)i, f->hp->n_embd);
    matmul_run_output(f, &rows, n, out);
}
