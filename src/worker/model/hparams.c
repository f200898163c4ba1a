/* SPDX-License-Identifier: Apache-2.0 */
/* Hyper-parameters out of GGUF metadata.  Reads every key as ARCH.key with ARCH from
 * general.architecture, holds each to its limit and to the others, and knows no architecture: what
 * an absent key means for one is the engine's. Defaults: the GGUF specification's.  Any thread. */
#include "worker/model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

/* One file being read, so that each key is one short line below. */
struct keys {
    const struct gguf *g;
    const char *arch;
    char full[160];
    struct err *err;
    int rc; /* the first failure; later reads do nothing */
};

static const char *key_full(struct keys *k, const char *key)
{
    snprintf(k->full, sizeof(k->full), "%s.%s", k->arch, key);
    return k->full;
}

/* An integer, 0 when absent. */
static uint32_t key_u32(struct keys *k, const char *key, uint32_t max)
{
    uint64_t v = 0;
    if (k->rc < 0)
        return 0;
    k->rc = gguf_get_u64(k->g, key_full(k, key), 0, UINT64_MAX, 0, &v, k->err);
    if (k->rc == 0 && v > max)
        k->rc = err_set(k->err, E_LIMIT, "metadata key '%s' is %llu; berth's limit is %u", k->full,
                        (unsigned long long)v, max);
    return k->rc == 0 ? (uint32_t)v : 0;
}

/* As key_u32, and it must be there and not 0. */
static uint32_t key_needed(struct keys *k, const char *key, uint32_t max)
{
    uint32_t v = key_u32(k, key, max);
    if (k->rc == 0 && v == 0)
        k->rc = err_set(k->err, E_FORMAT, "metadata key '%s' is %s; it must be at least 1", k->full,
                        gguf_find(k->g, k->full) ? "0" : "missing");
    return v;
}

/* A finite float; dflt when absent or 0. */
static float key_f32(struct keys *k, const char *key, float dflt)
{
    float v = 0;
    if (k->rc < 0)
        return dflt;
    k->rc = gguf_get_f32(k->g, key_full(k, key), 0, &v, k->err);
    if (k->rc == 0 && !isfinite(v))
        k->rc = err_set(k->err, E_FORMAT, "metadata key '%s' is not a finite number", k->full);
    return k->rc == 0 && v != 0 ? v : dflt;
}

/* As key_f32, and not negative. */
static float key_f32_positive(struct keys *k, const char *key, float dflt)
{
    float v = key_f32(k, key, dflt);
    if (k->rc == 0 && v < 0)
        k->rc = err_set(k->err, E_FORMAT, "metadata key '%s' is %g; it cannot be negative", k->full,
                        (double)v);
    return v;
}

static bool key_bool(struct keys *k, const char *key, bool dflt, bool *ret_there)
{
    bool v = dflt;
    if (k->rc < 0)
        return dflt;
    *ret_there = gguf_find(k->g, key_full(k, key)) != NULL;
    k->rc = gguf_get_bool(k->g, k->full, dflt, &v, k->err);
    return v;
}

static bool is_count_type(enum gguf_type t)
{
    return t != GGUF_F32 && t != GGUF_F64 && t != GGUF_STRING && t != GGUF_ARRAY;
}

/* The array under key, or NULL when the key is absent or a scalar.  An array has at least n_layer
 * whole numbers. */
static const struct gguf_value *key_array(struct keys *k, const char *key, uint32_t n_layer)
{
    const struct gguf_value *v = k->rc < 0 ? NULL : gguf_find(k->g, key_full(k, key));
    if (!v || v->type != GGUF_ARRAY)
        return NULL;
    if (is_count_type(v->item_type) && v->n_items >= n_layer)
        return v;
    k->rc = err_set(k->err, E_FORMAT,
                    "metadata key '%s' is an array of %llu items; one number for each of the %u "
                    "layers is needed",
                    k->full, (unsigned long long)v->n_items, n_layer);
    return NULL;
}

/* Item i of a per-layer array, or the scalar all layers share. */
static uint32_t layer_item(struct keys *k, const struct gguf_value *array, uint32_t scalar,
                           uint32_t i, uint32_t max)
{
    if (!array || k->rc < 0)
        return scalar;
    uint64_t v = gguf_item_u64(array, i);
    if (v <= max)
        return (uint32_t)v;
    k->rc =
        err_set(k->err, E_LIMIT, "metadata key '%.*s' is %lld for layer %u; berth's limit is %u",
                (int)MIN_OF(array->key.len, 100u), array->key.p, (long long)v, i, max);
    return 0;
}

/* ---- the parts ---- */

int hparams_arch(const struct gguf *g, char ret[HPARAMS_ARCH_BYTES], struct err *err)
{
    struct str arch, type;
    int rc = gguf_get_str(g, "general.type", STR_LIT("model"), &type, err);
    if (rc == 0)
        rc = gguf_get_str(g, "general.architecture", STR_LIT(""), &arch, err);
    if (rc < 0)
        return rc;
    if (str_is(type, "adapter") || str_is(type, "mmproj") || str_is(type, "imatrix"))
        return err_set(err, E_UNSUPPORTED,
                       "the file is of general.type '%.*s', not a language model", STR_ARG(type));
    if (arch.len == 0)
        return err_set(err, E_FORMAT,
                       "metadata key 'general.architecture' is missing: the file does not say what "
                       "kind of model it is");
    bool is_plain = arch.len < HPARAMS_ARCH_BYTES;
    for (size_t i = 0; is_plain && i < arch.len; i++) {
        char c = arch.p[i];
        is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   c == '_' || c == '-' || c == '.';
    }
    if (!is_plain)
        return err_set(
            err, E_FORMAT,
            "metadata key 'general.architecture' is '%.*s', which is no architecture's name",
            (int)MIN_OF(arch.len, 100u), arch.p);
    memcpy(ret, arch.p, arch.len);
    ret[arch.len] = '\0';
    return 0;
}

/* As many as the tokenizer has, else what the file says, else the rows of the embedding. */
static void vocab_get(struct keys *k, struct hparams *h)
{
    const struct gguf_value *tokens = gguf_find(k->g, "tokenizer.ggml.tokens");
    const struct gguf_tensor *embd = gguf_find_tensor(k->g, "token_embd.weight");
    uint64_t n = tokens && tokens->type == GGUF_ARRAY ? tokens->n_items : 0;
    uint32_t said = key_u32(k, "vocab_size", LIMIT_MODEL_VOCAB);
    if (n == 0)
        n = said;
    if (n == 0 && embd)
        n = embd->dims[1];
    if (k->rc < 0)
        return;
    if (n == 0)
        k->rc = err_set(k->err, E_FORMAT,
                        "the file has no vocabulary: metadata keys 'tokenizer.ggml.tokens' and "
                        "'%s' are missing",
                        k->full);
    else if (n > LIMIT_MODEL_VOCAB)
        k->rc = err_set(k->err, E_LIMIT, "the vocabulary has %llu tokens; berth's limit is %u",
                        (unsigned long long)n, LIMIT_MODEL_VOCAB);
    else
        h->n_vocab = (uint32_t)n;
}

static void layer_check(struct keys *k, const struct hparams_layer *l, uint32_t i)
{
    if (k->rc < 0)
        return;
    if (l->n_head == 0)
        k->rc =
            err_set(k->err, E_FORMAT, "metadata key '%s' is 0 for layer %u; it must be at least 1",
                    key_full(k, "attention.head_count"), i);
    else if (l->n_head_kv == 0)
        k->rc = err_set(k->err, E_UNSUPPORTED,
                        "metadata key '%s' is 0 for layer %u: layers without attention are not "
                        "supported",
                        key_full(k, "attention.head_count_kv"), i);
    else if (l->n_head % l->n_head_kv)
        k->rc = err_set(k->err, E_FORMAT,
                        "metadata key '%s' is %u for layer %u, which does not divide its %u heads",
                        key_full(k, "attention.head_count_kv"), l->n_head_kv, i, l->n_head);
}

static void layers_get(struct keys *k, struct hparams *h)
{
    const char *const head = "attention.head_count", *const kv = "attention.head_count_kv";
    const struct gguf_value *heads = key_array(k, head, h->n_layer);
    const struct gguf_value *kvs = key_array(k, kv, h->n_layer);
    const struct gguf_value *ffs = key_array(k, "feed_forward_length", h->n_layer);
    uint32_t n_head = heads ? 0 : key_needed(k, head, LIMIT_MODEL_HEADS);
    uint32_t n_kv = kvs ? 0 : key_u32(k, kv, LIMIT_MODEL_HEADS);
    uint32_t n_ff = ffs ? 0 : key_u32(k, "feed_forward_length", LIMIT_MODEL_WIDTH);
    if (k->rc < 0)
        return;
    h->layers = mem_try_alloc(h->n_layer, sizeof(*h->layers), k->err);
    if (!h->layers) {
        k->rc = -k->err->code;
        return;
    }
    for (uint32_t i = 0; k->rc == 0 && i < h->n_layer; i++) {
        struct hparams_layer *l = &h->layers[i];
        l->n_head = layer_item(k, heads, n_head, i, LIMIT_MODEL_HEADS);
        l->n_head_kv = layer_item(k, kvs, n_kv ? n_kv : l->n_head, i, LIMIT_MODEL_HEADS);
        l->n_ff = layer_item(k, ffs, n_ff, i, LIMIT_MODEL_WIDTH);
        layer_check(k, l, i);
    }
    if (k->rc == 0 && !ffs && n_ff == 0 && h->n_expert == 0)
        k->rc =
            err_set(k->err, E_FORMAT, "metadata key '%s' is missing or 0; it must be at least 1",
                    key_full(k, "feed_forward_length"));
}

/* The width of one head from its key, else what remains of the embedding for each. */
static uint32_t head_width(struct keys *k, const struct hparams *h, const char *key)
{
    uint32_t dim = key_u32(k, key, LIMIT_MODEL_WIDTH);
    if (k->rc < 0)
        return 0;
    uint32_t n_head = h->layers[0].n_head;
    if (dim == 0 && h->n_embd % n_head)
        k->rc =
            err_set(k->err, E_FORMAT,
                    "metadata key '%s' is missing, and the embedding of %u cannot be shared out "
                    "among %u heads",
                    k->full, h->n_embd, n_head);
    else if (dim == 0)
        dim = h->n_embd / n_head;
    for (uint32_t i = 0; k->rc == 0 && i < h->n_layer; i++) {
        if ((uint64_t)h->layers[i].n_head * dim > LIMIT_MODEL_WIDTH)
            k->rc =
                err_set(k->err, E_LIMIT,
                        "layer %u has %u heads of %u elements ('%s'); berth's limit is %u in all",
                        i, h->layers[i].n_head, dim, key_full(k, key), LIMIT_MODEL_WIDTH);
    }
    return dim;
}

static uint32_t rope_width(struct keys *k, const char *key, uint32_t k_dim, uint32_t dflt)
{
    uint32_t n = key_u32(k, key, LIMIT_MODEL_WIDTH);
    if (k->rc < 0)
        return 0;
    if (n == 0)
        n = dflt;
    if (n % 2 || n > k_dim)
        k->rc = err_set(k->err, E_FORMAT,
                        "metadata key '%s' is %u; it must be even and at most the head's width %u",
                        k->full, n, k_dim);
    return n;
}

static void scaling_type_get(struct keys *k, struct hparams *h)
{
    struct str type;
    if (k->rc < 0)
        return;
    k->rc = gguf_get_str(k->g, key_full(k, "rope.scaling.type"), STR_LIT("linear"), &type, k->err);
    if (k->rc < 0)
        return;
    if (type.len == 0 || str_is(type, "linear"))
        h->rope_scaling = h->rope_factor != 1 ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE;
    else if (str_is(type, "yarn"))
        h->rope_scaling = ROPE_SCALING_YARN;
    else if (str_is(type, "longrope"))
        h->rope_scaling = ROPE_SCALING_LONGROPE;
    else if (!str_is(type, "none"))
        k->rc = err_set(k->err, E_UNSUPPORTED,
                        "metadata key '%s' is '%.*s'; none, linear, yarn and longrope are known",
                        k->full, (int)MIN_OF(type.len, 100u), type.p);
    else
        h->rope_factor = 1;
}

static void rope_get(struct keys *k, struct hparams *h)
{
    h->n_rot = rope_width(k, "rope.dimension_count", h->k_dim, h->k_dim);
    h->n_rot_swa = rope_width(k, "rope.dimension_count_swa", h->k_dim, h->n_rot);
    h->rope_base = key_f32_positive(k, "rope.freq_base", 10000);
    h->rope_base_swa = key_f32_positive(k, "rope.freq_base_swa", 0);
    /* rope.scale_linear is what files said before rope.scaling.factor. */
    h->rope_factor =
        key_f32_positive(k, "rope.scaling.factor", key_f32_positive(k, "rope.scale_linear", 1));
    h->rope_attn_factor = key_f32_positive(k, "rope.scaling.attn_factor", 1);
    h->yarn_ext_factor = key_f32(k, "rope.scaling.yarn_ext_factor", -1);
    h->yarn_attn_factor = key_f32_positive(k, "rope.scaling.yarn_attn_factor", 1);
    h->yarn_beta_fast = key_f32_positive(k, "rope.scaling.yarn_beta_fast", 32);
    h->yarn_beta_slow = key_f32_positive(k, "rope.scaling.yarn_beta_slow", 1);
    h->yarn_log_multiplier = key_f32(k, "rope.scaling.yarn_log_multiplier", 0);
    h->n_ctx_orig = key_u32(k, "rope.scaling.original_context_length", LIMIT_MODEL_CONTEXT);
    if (h->n_ctx_orig == 0)
        h->n_ctx_orig = h->n_ctx_train;
    h->rope_finetuned = key_bool(k, "rope.scaling.finetuned", false, &h->has_rope_finetuned);
    scaling_type_get(k, h);
}

static void window_get(struct keys *k, struct hparams *h)
{
    const char *const pattern = "attention.sliding_window_pattern";
    h->n_swa = key_u32(k, "attention.sliding_window", UINT32_MAX);
    const struct gguf_value *array = key_array(k, pattern, h->n_layer);
    if (!array) {
        h->swa_period = key_u32(k, pattern, LIMIT_MODEL_LAYERS);
        return;
    }
    h->has_swa_pattern = true;
    for (uint32_t i = 0; i < h->n_layer; i++)
        h->layers[i].is_sliding = gguf_item_u64(array, i) != 0;
}

static void attention_get(struct keys *k, struct hparams *h)
{
    bool is_there;
    h->rms_eps = key_f32_positive(k, "attention.layer_norm_rms_epsilon", 0);
    is_there = gguf_find(k->g, k->full) != NULL;
    h->norm_eps = key_f32_positive(k, "attention.layer_norm_epsilon", 0);
    if (k->rc == 0 && !is_there && !gguf_find(k->g, k->full))
        k->rc = err_set(k->err, E_FORMAT,
                        "metadata keys '%s' and '%s.attention.layer_norm_rms_epsilon' are both "
                        "missing; one is needed",
                        k->full, k->arch);
    h->attn_scale = key_f32(k, "attention.scale", 0);
    h->attn_softcap = key_f32_positive(k, "attn_logit_softcapping", 0);
    h->final_softcap = key_f32_positive(k, "final_logit_softcapping", 0);
    h->clamp_kqv = key_f32_positive(k, "attention.clamp_kqv", 0);
    h->attn_temp_length = key_u32(k, "attention.temperature_length", LIMIT_MODEL_CONTEXT);
    h->attn_temp_scale = key_f32(k, "attention.temperature_scale", 0);
    h->is_causal = key_bool(k, "attention.causal", true, &is_there);
    h->embedding_scale = key_f32(k, "embedding_scale", 0);
    h->residual_scale = key_f32(k, "residual_scale", 0);
    h->logit_scale = key_f32(k, "logit_scale", 0);
}

static void experts_get(struct keys *k, struct hparams *h)
{
    h->n_expert = key_u32(k, "expert_count", LIMIT_MODEL_EXPERTS);
    h->n_expert_used = key_u32(k, "expert_used_count", LIMIT_MODEL_EXPERTS);
    if (k->rc == 0 && (h->n_expert_used > h->n_expert || (h->n_expert && h->n_expert_used == 0)))
        k->rc = err_set(k->err, E_FORMAT,
                        "metadata key '%s' is %u; between 1 and all of the %u experts can be used",
                        k->full, h->n_expert_used, h->n_expert);
    h->n_ff_expert = key_u32(k, "expert_feed_forward_length", LIMIT_MODEL_WIDTH);
    h->n_ff_shared = key_u32(k, "expert_shared_feed_forward_length", LIMIT_MODEL_WIDTH);
    h->n_expert_shared = key_u32(k, "expert_shared_count", LIMIT_MODEL_EXPERTS);
    h->n_layer_dense = key_u32(k, "leading_dense_block_count", LIMIT_MODEL_LAYERS);
    h->expert_gating = key_u32(k, "expert_gating_func", UINT32_MAX);
    h->expert_weights_scale = key_f32(k, "expert_weights_scale", 0);
    h->expert_weights_norm = key_bool(k, "expert_weights_norm", false, &h->has_expert_weights_norm);
}

int hparams_from_gguf(const struct gguf *g, struct hparams *ret, struct err *err)
{
    struct hparams h = {0};
    struct keys k = {.g = g, .arch = h.arch, .err = err};
    k.rc = hparams_arch(g, h.arch, err);
    h.n_layer = key_needed(&k, "block_count", LIMIT_MODEL_LAYERS);
    h.n_embd = key_needed(&k, "embedding_length", LIMIT_MODEL_WIDTH);
    h.n_ctx_train = key_needed(&k, "context_length", LIMIT_MODEL_CONTEXT);
    vocab_get(&k, &h);
    experts_get(&k, &h);
    layers_get(&k, &h);
    h.k_dim = head_width(&k, &h, "attention.key_length");
    h.v_dim = head_width(&k, &h, "attention.value_length");
    rope_get(&k, &h);
    window_get(&k, &h);
    attention_get(&k, &h);
    if (k.rc < 0) {
        hparams_release(&h);
        return k.rc;
    }
    *ret = h;
    return 0;
}

void hparams_release(struct hparams *h)
{
    mem_free(h->layers);
    h->layers = NULL;
}
