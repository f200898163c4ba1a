/* SPDX-License-Identifier: Apache-2.0 */
/* Binding of tensors to their places; see weights.h.  Load time only, one thread. */
#include "worker/engine/weights/weights.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

struct binder {
    const struct gguf *g;
    const struct hparams *hp;
    const struct kern *kern;
    struct weights *w;
    struct err *err;
};

#define NAME_MAX_BYTES 96

/* "blk.3.attn_q.weight"; layer < 0: no prefix. */
static void tensor_name(char name[NAME_MAX_BYTES], int layer, const char *stem, const char *suffix)
{
    if (layer < 0)
        snprintf(name, NAME_MAX_BYTES, "%s.%s", stem, suffix);
    else
        snprintf(name, NAME_MAX_BYTES, "blk.%d.%s.%s", layer, stem, suffix);
}

static const struct gguf_tensor *find(struct binder *b, int layer, const char *stem,
                                      const char *suffix)
{
    char name[NAME_MAX_BYTES];
    tensor_name(name, layer, stem, suffix);
    return gguf_find_tensor(b->g, name);
}

static int missing(struct binder *b, int layer, const char *stem, const char *suffix)
{
    char name[NAME_MAX_BYTES];
    tensor_name(name, layer, stem, suffix);
    return err_set(b->err, E_FORMAT, "tensor '%s' is missing; a model of architecture %s needs it",
                   name, b->hp->arch);
}

static int check_shape(struct binder *b, const struct gguf_tensor *t, uint64_t d0, uint64_t d1,
                       uint64_t d2)
{
    if (t->dims[0] == d0 && t->dims[1] == d1 && t->dims[2] == d2 && t->dims[3] == 1)
        return 0;
    return err_set(b->err, E_FORMAT,
                   "tensor '%.*s' has shape [%llu, %llu, %llu, %llu]; the model's metadata ask for "
                   "[%llu, %llu, %llu, 1]",
                   STR_ARG(t->name), (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                   (unsigned long long)t->dims[2], (unsigned long long)t->dims[3],
                   (unsigned long long)d0, (unsigned long long)d1, (unsigned long long)d2);
}

static int check_weight_type(struct binder *b, const struct gguf_tensor *t)
{
    if (dtype_info(t->type)->is_weight && b->kern->matmul[t->type])
        return 0;
    const char *name = dtype_info(t->type)->name;
    return err_set(b->err, E_UNSUPPORTED,
                   "tensor '%.*s' is of type %s, which no weight matrix can have", STR_ARG(t->name),
                   name ? name : "?");
}

/* A vector of n elements as float32 in w->small; *ret NULL when it is absent and optional. */
static int bind_vector(struct binder *b, int layer, const char *stem, const char *suffix,
                       uint64_t n, bool required, const float **ret)
{
    struct err *err = b->err;
    const struct gguf_tensor *t = find(b, layer, stem, suffix);
    *ret = NULL;
    if (!t)
        return required ? missing(b, layer, stem, suffix) : 0;
    int r = check_shape(b, t, n, 1, 1);
    if (r)
        return r;
    if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16)
        return err_set(
            err, E_UNSUPPORTED, "tensor '%.*s' is of type %s; a vector must be F32, F16 or BF16",
            STR_ARG(t->name), dtype_info(t->type)->name ? dtype_info(t->type)->name : "?");
    BUG_ON(n > b->w->cap_small - b->w->n_small);
    float *dst = b->w->small + b->w->n_small;
    if (t->type == DTYPE_F32)
        memcpy(dst, t->data, (size_t)n * sizeof *dst);
    else
        b->kern->dequant[t->type](t->data, dst, (uint32_t)n);
    b->w->n_small += (size_t)n;
    *ret = dst;
    return 0;
}

static int bind_scale(struct binder *b, int layer, const char *stem, bool heeded, float *ret)
{
    const float *s = NULL;
    *ret = 1.0f;
    int r = heeded ? bind_vector(b, layer, stem, "scale", 1, false, &s) : 0;
    if (r == 0 && s)
        *ret = s[0];
    return r;
}

static struct kern_mat mat_of(const struct gguf_tensor *t, uint32_t n_cols, uint32_t n_rows)
{
    return (struct kern_mat){.type = t->type,
                             .n_rows = n_rows,
                             .n_cols = n_cols,
                             .row_bytes = (size_t)dtype_row_bytes(dtype_info(t->type), n_cols),
                             .data = t->data};
}

/* Rows row0 .. row0 + n_rows of m as a matrix of its own. */
static struct kern_mat mat_rows(const struct kern_mat *m, uint32_t row0, uint32_t n_rows)
{
    struct kern_mat v = *m;
    v.n_rows = n_rows;
    v.data = (const char *)m->data + (size_t)row0 * m->row_bytes;
    return v;
}

/* STEM.weight [n_in, n_out] with an optional STEM.bias and, where heeded, STEM.scale.  scale_last:
 * the factor also multiplies the bias. */
static int bind_linear(struct binder *b, int layer, const char *stem, uint32_t n_in, uint32_t n_out,
                       bool required, bool with_scale, bool scale_last, struct linear *ret)
{
    *ret = (struct linear){.scale = 1.0f};
    const struct gguf_tensor *t = find(b, layer, stem, "weight");
    if (!t)
        return required ? missing(b, layer, stem, "weight") : 0;
    const float *bias;
    int r = check_shape(b, t, n_in, n_out, 1);
    if (r == 0)
        r = check_weight_type(b, t);
    if (r == 0)
        r = bind_vector(b, layer, stem, "bias", n_out, false, &bias);
    if (r == 0)
        r = bind_scale(b, layer, stem, with_scale, &ret->scale);
    if (r)
        return r;
    ret->mat = mat_of(t, n_in, n_out);
    if (bias && scale_last && ret->scale != 1.0f) {
        float *own = b->w->small + (bias - b->w->small);
        for (uint32_t i = 0; i < n_out; i++)
            own[i] *= ret->scale;
    }
    ret->bias = bias;
    return 0;
}

static int bind_experts(struct binder *b, int layer, const char *stem, uint32_t n_in,
                        uint32_t n_out, bool with_scale, struct experts *ret)
{
    const struct gguf_tensor *t = find(b, layer, stem, "weight");
    if (!t)
        return missing(b, layer, stem, "weight");
    int r = check_shape(b, t, n_in, n_out, b->hp->n_expert);
    if (r == 0)
        r = check_weight_type(b, t);
    if (r)
        return r;
    ret->mat = mat_of(t, n_in, n_out);
    ret->stride_bytes = ret->mat.row_bytes * n_out;
    ret->n = b->hp->n_expert;
    ret->scales = NULL;
    return with_scale ? bind_vector(b, layer, stem, "scale", b->hp->n_expert, false, &ret->scales)
                      : 0;
}

/* q, k and v: three tensors, or one whose rows are q, then k, then v. */
static int bind_qkv(struct binder *b, int il, struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    const struct hparams_layer *hl = &hp->layers[il];
    const bool scaled = b->w->arch->tensor_scales & ARCH_SCALE_QKV;
    const uint32_t nq = hl->n_head * hp->k_dim, nk = hl->n_head_kv * hp->k_dim,
                   nv = hl->n_head_kv * hp->v_dim;
    int r;
    if (find(b, il, "attn_qkv", "weight")) {
        struct linear all;
        r = bind_linear(b, il, "attn_qkv", hp->n_embd, nq + nk + nv, true, scaled, false, &all);
        if (r)
            return r;
        lw->q = lw->k = lw->v = all;
        lw->q.mat = mat_rows(&all.mat, 0, nq);
        lw->k.mat = mat_rows(&all.mat, nq, nk);
        lw->v.mat = mat_rows(&all.mat, nq + nk, nv);
        if (all.bias) {
            lw->k.bias = all.bias + nq;
            lw->v.bias = all.bias + nq + nk;
        }
    } else {
        r = bind_linear(b, il, "attn_q", hp->n_embd, nq, true, scaled, false, &lw->q);
        if (r == 0)
            r = bind_linear(b, il, "attn_k", hp->n_embd, nk, true, scaled, false, &lw->k);
        if (r == 0)
            r = bind_linear(b, il, "attn_v", hp->n_embd, nv, true, scaled, false, &lw->v);
    }
    return r;
}

static int bind_norms(struct binder *b, int il, struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    const struct hparams_layer *hl = &hp->layers[il];
    const struct arch *a = b->w->arch;
    int r = 0;
    if (a->pre_norm) {
        r = bind_vector(b, il, "attn_norm", "weight", hp->n_embd, true, &lw->attn_norm);
        if (r == 0)
            r = bind_vector(b, il, "ffn_norm", "weight", hp->n_embd, true, &lw->ffn_norm);
    }
    if (r == 0 && a->post_norm) {
        r = bind_vector(b, il, "post_attention_norm", "weight", hp->n_embd, true,
                        &lw->attn_post_norm);
        if (r == 0)
            r = bind_vector(b, il, "post_ffw_norm", "weight", hp->n_embd, true, &lw->ffn_post_norm);
    }
    if (r == 0 && a->qk_norm != ARCH_QK_NORM_NONE) {
        const bool whole = a->qk_norm == ARCH_QK_NORM_WIDTH;
        r = bind_vector(b, il, "attn_q_norm", "weight", (whole ? hl->n_head : 1ull) * hp->k_dim,
                        true, &lw->q_norm);
        if (r == 0)
            r = bind_vector(b, il, "attn_k_norm", "weight",
                            (whole ? hl->n_head_kv : 1ull) * hp->k_dim, true, &lw->k_norm);
    }
    return r;
}

static int bind_dense_ffn(struct binder *b, int il, struct layer_weights *lw)
{
    const uint32_t n_embd = b->hp->n_embd, n_ff = b->hp->layers[il].n_ff;
    const bool scaled = b->w->arch->tensor_scales & ARCH_SCALE_FFN;
    int r = bind_linear(b, il, "ffn_gate", n_embd, n_ff, false, scaled, true, &lw->gate);
    if (r)
        return r;
    if (lw->gate.mat.data) {
        r = bind_linear(b, il, "ffn_up", n_embd, n_ff, true, scaled, true, &lw->up);
    } else { /* one tensor: the gate's rows, then the others */
        struct linear all;
        r = bind_linear(b, il, "ffn_up", n_embd, 2 * n_ff, true, scaled, true, &all);
        if (r)
            return r;
        lw->gate = lw->up = all;
        lw->gate.mat = mat_rows(&all.mat, 0, n_ff);
        lw->up.mat = mat_rows(&all.mat, n_ff, n_ff);
        if (all.bias)
            lw->up.bias = all.bias + n_ff;
    }
    return r ? r : bind_linear(b, il, "ffn_down", n_ff, n_embd, true, scaled, true, &lw->down);
}

static int bind_moe_ffn(struct binder *b, int il, struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    const uint32_t n_embd = hp->n_embd, n_ff = hp->layers[il].n_ff;
    const bool exps = b->w->arch->tensor_scales & ARCH_SCALE_EXPERTS;
    const bool shared = b->w->arch->tensor_scales & ARCH_SCALE_SHARED;
    int r =
        bind_linear(b, il, "ffn_gate_inp", n_embd, hp->n_expert, true, false, false, &lw->router);
    if (r == 0)
        r = bind_experts(b, il, "ffn_gate_exps", n_embd, n_ff, exps, &lw->gate_exps);
    if (r == 0)
        r = bind_experts(b, il, "ffn_up_exps", n_embd, n_ff, exps, &lw->up_exps);
    if (r == 0)
        r = bind_experts(b, il, "ffn_down_exps", n_ff, n_embd, exps, &lw->down_exps);
    const struct gguf_tensor *t = r ? NULL : find(b, il, "ffn_up_shexp", "weight");
    if (!t)
        return r;
    if (t->dims[1] < 1 || t->dims[1] > LIMIT_MODEL_WIDTH)
        return err_set(b->err, E_FORMAT, "tensor '%.*s' has %llu rows; 1 to %u are allowed",
                       STR_ARG(t->name), (unsigned long long)t->dims[1], LIMIT_MODEL_WIDTH);
    const uint32_t n_sh = (uint32_t)t->dims[1];
    r = bind_linear(b, il, "ffn_gate_shexp", n_embd, n_sh, true, shared, true, &lw->gate);
    if (r == 0)
        r = bind_linear(b, il, "ffn_up_shexp", n_embd, n_sh, true, shared, true, &lw->up);
    return r ? r
             : bind_linear(b, il, "ffn_down_shexp", n_sh, n_embd, true, shared, true, &lw->down);
}

static int bind_layer(struct binder *b, int il, struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    int r = bind_norms(b, il, lw);
    if (r == 0)
        r = bind_qkv(b, il, lw);
    if (r == 0)
        r = bind_linear(b, il, "attn_output", hp->layers[il].n_head * hp->v_dim, hp->n_embd, true,
                        b->w->arch->tensor_scales & ARCH_SCALE_O, false, &lw->o);
    if (r)
        return r;
    return hp->n_expert ? bind_moe_ffn(b, il, lw) : bind_dense_ffn(b, il, lw);
}

static int bind_global(struct binder *b)
{
    const struct hparams *hp = b->hp;
    struct weights *w = b->w;
    struct linear embed;
    int r = bind_linear(b, -1, "token_embd", hp->n_embd, hp->n_vocab, true, false, false, &embed);
    if (r == 0)
        r = bind_vector(b, -1, "output_norm", "weight", hp->n_embd, true, &w->output_norm);
    if (r == 0)
        r = bind_linear(b, -1, "output", hp->n_embd, hp->n_vocab, false, false, false, &w->output);
    if (r)
        return r;
    w->embed = embed.mat;
    if (!w->output.mat.data) { /* tied */
        w->output.mat = w->embed;
        r = bind_vector(b, -1, "output", "bias", hp->n_vocab, false, &w->output.bias);
    }
    if (r || !w->arch->rope_factors)
        return r;
    const uint32_t n = hp->n_rot / 2;
    r = bind_vector(b, -1, "rope_freqs", "weight", n, false, &w->rope_freqs);
    if (r == 0)
        r = bind_vector(b, -1, "rope_factors_long", "weight", n, false, &w->rope_long);
    return r ? r : bind_vector(b, -1, "rope_factors_short", "weight", n, false, &w->rope_short);
}

static bool is_small(const struct gguf_tensor *t)
{
    return t->dims[1] == 1 && t->dims[2] == 1 && t->dims[3] == 1;
}

int weights_measure(const struct gguf *g, const struct hparams *hp, struct weights_sizes *ret,
                    struct err *err)
{
    struct weights_sizes s = {0};
    for (uint32_t i = 0; i < hp->n_layer; i++)
        s.n_ff_max = MAX_OF(s.n_ff_max, hp->layers[i].n_ff);
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        uint64_t n = 1;
        bool ok = true;
        for (uint32_t d = 0; d < 4; d++)
            ok = ok && size_mul(n, t->dims[d], &n);
        ok = ok && size_add(s.n_params, n, &s.n_params) &&
             size_add(s.n_bytes, t->n_bytes, &s.n_bytes);
        if (ok && is_small(t))
            ok = size_mul(n, sizeof(float), &n) && size_add(s.small_bytes, n, &s.small_bytes);
        if (!ok)
            return err_set(err, E_LIMIT, "the sizes of the model's tensors overflow 64 bits");
        if (str_has_suffix(t->name, STR_LIT(".ffn_up_shexp.weight")) &&
            t->dims[1] <= LIMIT_MODEL_WIDTH)
            s.n_ff_max = MAX_OF(s.n_ff_max, (uint32_t)t->dims[1]);
    }
    *ret = s;
    return 0;
}

int weights_bind(const struct gguf *g, const struct hparams *hp, const struct arch *arch,
                 const struct kern *k, struct weights *ret, struct err *err)
{
    struct weights_sizes sizes;
    struct binder b = {.g = g, .hp = hp, .kern = k, .w = ret, .err = err};
    int r = weights_measure(g, hp, &sizes, err);
    if (r)
        return r;
    if (hp->n_expert && !arch->has_experts)
        return err_set(err, E_UNSUPPORTED,
                       "a model of architecture %s with experts (expert_count %u) is not supported",
                       arch->name, hp->n_expert);
    *ret = (struct weights){.arch = arch,
                            .n_layer = hp->n_layer,
                            .cap_small = (size_t)(sizes.small_bytes / sizeof(float))};
    ret->small = mem_try_alloc(ret->cap_small, sizeof *ret->small, err);
    ret->layers = ret->small ? mem_try_alloc(hp->n_layer, sizeof *ret->layers, err) : NULL;
    r = ret->layers ? bind_global(&b) : -err->code;
    for (uint32_t i = 0; r == 0 && i < hp->n_layer; i++)
        r = bind_layer(&b, (int)i, &ret->layers[i]);
    if (r)
        weights_release(ret);
    return r;
}

void weights_release(struct weights *w)
{
    mem_free(w->small);
    mem_free(w->layers);
    *w = (struct weights){0};
}

void weights_each(struct weights *w, weights_mat_fn fn, void *ctx)
{
    fn(ctx, &w->output.mat, 1, 0, NULL);
    for (uint32_t i = 0; i < w->n_layer; i++) {
        struct layer_weights *l = &w->layers[i];
        struct linear *const single[] = {&l->q,    &l->k,  &l->v,    &l->o,
                                         &l->gate, &l->up, &l->down, &l->router};
        struct experts *const several[] = {&l->gate_exps, &l->up_exps, &l->down_exps};
        for (size_t j = 0; j < ARRAY_LEN(single); j++)
            if (single[j]->mat.data)
                fn(ctx, &single[j]->mat, 1, 0, NULL);
        for (size_t j = 0; j < ARRAY_LEN(several); j++)
            if (several[j]->mat.data)
                fn(ctx, &several[j]->mat, several[j]->n, several[j]->stride_bytes,
                   &several[j]->panels_stride_bytes);
    }
}
