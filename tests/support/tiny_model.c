/* SPDX-License-Identifier: Apache-2.0 */
/* Implements tiny_model.h.  Any change of the bytes makes the goldens in tests/data/archs wrong. */
#include "tests/support/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/gguf_build.h"
#include "worker/kernel/blocks.h"

const struct tiny_model tiny_models[] = {
    {.name = "llama",
     .arch = "llama",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .o_bias = true,
     .qkv_bias = true,
     .rope_freqs = true},
    {.name = "llama-linear",
     .arch = "llama",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 1,
     .head_dim = 8,
     .tied = true,
     .rope_type = "linear"},
    {.name = "llama-yarn",
     .arch = "llama",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .rope_type = "yarn"},
    {.name = "llama-moe",
     .arch = "llama",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .n_expert = 6},
    {.name = "qwen2",
     .arch = "qwen2",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .qkv_bias = true,
     .tied = true},
    {.name = "qwen3",
     .arch = "qwen3",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 16,
     .qk_norm_head = true},
    {.name = "gemma2",
     .arch = "gemma2",
     .n_layer = 4,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 16,
     .n_swa = 8,
     .post_norm = true,
     .tied = true,
     .softcaps = true},
    {.name = "gemma3",
     .arch = "gemma3",
     .n_layer = 7,
     .n_head = 4,
     .n_head_kv = 1,
     .head_dim = 16,
     .n_swa = 8,
     .post_norm = true,
     .tied = true,
     .qk_norm_head = true,
     .rope_type = "linear"},
    {.name = "phi3",
     .arch = "phi3",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .n_rot = 6,
     .fused = true,
     .longrope = true,
     .n_swa = 8,
     .rope_type = "longrope"},
    {.name = "granite",
     .arch = "granite",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .scales = true,
     .tied = true},
    {.name = "granite-moe",
     .arch = "granite",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .scales = true,
     .n_expert = 5,
     .n_ff_shared = 24},
    {.name = "smollm3",
     .arch = "smollm3",
     .n_layer = 5,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .tied = true},
    {.name = "olmo2",
     .arch = "olmo2",
     .n_layer = 2,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 8,
     .no_pre_norm = true,
     .post_norm = true,
     .qk_norm_width = true},
    {.name = "olmo2-window",
     .arch = "olmo2",
     .n_layer = 5,
     .n_head = 4,
     .n_head_kv = 4,
     .head_dim = 8,
     .no_pre_norm = true,
     .post_norm = true,
     .qk_norm_width = true,
     .n_swa = 8,
     .rope_type = "yarn"},
};
const uint32_t n_tiny_models = ARRAY_LEN(tiny_models);

#define N_EXPERT_USED 2u
#define MAX_TENSORS   160

enum fill { FILL_MATRIX, FILL_NORM, FILL_BIAS, FILL_FACTOR };

struct maker {
    const struct tiny_model *m;
    struct gguf_build b;
    struct {
        uint64_t offset, n, n_in;
        enum fill fill;
        enum dtype type;
    } parts[MAX_TENSORS];
    uint32_t n_parts;
};

static const char *key(const struct maker *k, const char *name)
{
    static char full[128];
    snprintf(full, sizeof full, "%s.%s", k->m->arch, name);
    return full;
}

static void tensor(struct maker *k, int layer, const char *name, enum fill fill, uint64_t d0,
                   uint64_t d1, uint64_t d2)
{
    char full[96];
    const uint64_t dims[3] = {d0, d1, d2};
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    BUG_ON(k->n_parts == MAX_TENSORS);
    k->parts[k->n_parts].offset = k->b.data_bytes;
    k->parts[k->n_parts].n = d0 * d1 * d2;
    k->parts[k->n_parts].n_in = d0;
    const enum dtype type = fill == FILL_MATRIX && d0 % dtype_info(k->m->quant)->block_elements == 0
                                ? k->m->quant
                                : DTYPE_F32;
    k->parts[k->n_parts].type = type;
    k->parts[k->n_parts++].fill = fill;
    build_tensor(&k->b, full, type, d2 > 1 ? 3 : d1 > 1 ? 2 : 1, dims);
}

static void matrix(struct maker *k, int layer, const char *name, uint32_t n_in, uint32_t n_out)
{
    tensor(k, layer, name, FILL_MATRIX, n_in, n_out, 1);
}

static void vector(struct maker *k, int layer, const char *name, enum fill fill, uint32_t n)
{
    tensor(k, layer, name, fill, n, 1, 1);
}

static void attention(struct maker *k, int il)
{
    const struct tiny_model *m = k->m;
    const uint32_t nq = m->n_head * m->head_dim, nk = m->n_head_kv * m->head_dim;
    if (m->fused) {
        matrix(k, il, "attn_qkv.weight", TINY_EMBD, nq + 2 * nk);
    } else {
        matrix(k, il, "attn_q.weight", TINY_EMBD, nq);
        matrix(k, il, "attn_k.weight", TINY_EMBD, nk);
        matrix(k, il, "attn_v.weight", TINY_EMBD, nk);
    }
    if (m->qkv_bias) {
        vector(k, il, "attn_q.bias", FILL_BIAS, nq);
        vector(k, il, "attn_k.bias", FILL_BIAS, nk);
        vector(k, il, "attn_v.bias", FILL_BIAS, nk);
    }
    matrix(k, il, "attn_output.weight", nq, TINY_EMBD);
    if (m->o_bias)
        vector(k, il, "attn_output.bias", FILL_BIAS, TINY_EMBD);
    if (m->qk_norm_head || m->qk_norm_width) {
        vector(k, il, "attn_q_norm.weight", FILL_NORM, m->qk_norm_width ? nq : m->head_dim);
        vector(k, il, "attn_k_norm.weight", FILL_NORM, m->qk_norm_width ? nk : m->head_dim);
    }
}

static void feed_forward(struct maker *k, int il)
{
    const struct tiny_model *m = k->m;
    if (m->n_expert) {
        matrix(k, il, "ffn_gate_inp.weight", TINY_EMBD, m->n_expert);
        tensor(k, il, "ffn_gate_exps.weight", FILL_MATRIX, TINY_EMBD, TINY_FF, m->n_expert);
        tensor(k, il, "ffn_down_exps.weight", FILL_MATRIX, TINY_FF, TINY_EMBD, m->n_expert);
        tensor(k, il, "ffn_up_exps.weight", FILL_MATRIX, TINY_EMBD, TINY_FF, m->n_expert);
    } else {
        if (!m->fused)
            matrix(k, il, "ffn_gate.weight", TINY_EMBD, TINY_FF);
        matrix(k, il, "ffn_down.weight", TINY_FF, TINY_EMBD);
        matrix(k, il, "ffn_up.weight", TINY_EMBD, m->fused ? 2 * TINY_FF : TINY_FF);
    }
    if (m->n_ff_shared) {
        matrix(k, il, "ffn_gate_shexp.weight", TINY_EMBD, m->n_ff_shared);
        matrix(k, il, "ffn_down_shexp.weight", m->n_ff_shared, TINY_EMBD);
        matrix(k, il, "ffn_up_shexp.weight", TINY_EMBD, m->n_ff_shared);
    }
}

static void tensors(struct maker *k)
{
    const struct tiny_model *m = k->m;
    const uint32_t n_rot = m->n_rot ? m->n_rot : m->head_dim;
    matrix(k, -1, "token_embd.weight", TINY_EMBD, TINY_VOCAB);
    vector(k, -1, "output_norm.weight", FILL_NORM, TINY_EMBD);
    if (!m->tied)
        matrix(k, -1, "output.weight", TINY_EMBD, TINY_VOCAB);
    if (m->rope_freqs)
        vector(k, -1, "rope_freqs.weight", FILL_FACTOR, n_rot / 2);
    if (m->longrope) {
        vector(k, -1, "rope_factors_long.weight", FILL_FACTOR, n_rot / 2);
        vector(k, -1, "rope_factors_short.weight", FILL_FACTOR, n_rot / 2);
    }
    for (int il = 0; il < (int)m->n_layer; il++) {
        if (!m->no_pre_norm)
            vector(k, il, "attn_norm.weight", FILL_NORM, TINY_EMBD);
        attention(k, il);
        if (m->post_norm)
            vector(k, il, "post_attention_norm.weight", FILL_NORM, TINY_EMBD);
        if (!m->no_pre_norm)
            vector(k, il, "ffn_norm.weight", FILL_NORM, TINY_EMBD);
        feed_forward(k, il);
        if (m->post_norm)
            vector(k, il, "post_ffw_norm.weight", FILL_NORM, TINY_EMBD);
    }
}

static void vocabulary(struct maker *k)
{
    build_kv_str(&k->b, "tokenizer.ggml.model", "test");
    build_kv_array(&k->b, "tokenizer.ggml.tokens", GGUF_STRING, TINY_VOCAB);
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        char name[16];
        snprintf(name, sizeof name, "tok_%u", i);
        build_bytes(&k->b.values, name);
    }
}

/* Optional keys stand in the file even where they are unset (0), as in files that tools dump whole.
 */
static void values(struct maker *k)
{
    const struct tiny_model *m = k->m;
    struct gguf_build *b = &k->b;
    build_kv_str(b, "general.architecture", m->arch);
    build_kv_u32(b, key(k, "block_count"), m->n_layer);
    build_kv_u32(b, key(k, "embedding_length"), TINY_EMBD);
    build_kv_u32(b, key(k, "context_length"), TINY_CTX);
    build_kv_u32(b, key(k, "feed_forward_length"), TINY_FF);
    build_kv_u32(b, key(k, "attention.head_count"), m->n_head);
    build_kv_u32(b, key(k, "attention.head_count_kv"), m->n_head_kv);
    build_kv_u32(b, key(k, "attention.key_length"), m->head_dim);
    build_kv_u32(b, key(k, "attention.value_length"), m->head_dim);
    build_kv_f32(b, key(k, "attention.layer_norm_rms_epsilon"), 1e-5f);
    build_kv_u32(b, key(k, "attention.sliding_window"), m->n_swa);
    build_kv_u32(b, key(k, "rope.dimension_count"), m->n_rot ? m->n_rot : m->head_dim);
    build_kv_f32(b, key(k, "rope.freq_base"), 1000.0f);
    build_kv_str(b, key(k, "rope.scaling.type"), m->rope_type ? m->rope_type : "linear");
    build_kv_f32(b, key(k, "rope.scaling.factor"), m->rope_type ? 4.0f : 0.0f);
    build_kv_f32(b, key(k, "rope.scaling.attn_factor"), m->longrope ? 1.25f : 1.0f);
    build_kv_u32(b, key(k, "rope.scaling.original_context_length"), m->rope_type ? 16 : TINY_CTX);
    build_kv_u32(b, key(k, "expert_count"), m->n_expert);
    build_kv_u32(b, key(k, "expert_used_count"), m->n_expert ? N_EXPERT_USED : 0);
    build_kv_u32(b, key(k, "expert_shared_feed_forward_length"), m->n_ff_shared);
    build_kv_f32(b, key(k, "attn_logit_softcapping"), m->softcaps ? 5.0f : 0.0f);
    build_kv_f32(b, key(k, "final_logit_softcapping"), m->softcaps ? 3.0f : 0.0f);
    build_kv_f32(b, key(k, "logit_scale"), m->scales ? 3.0f : 0.0f);
    build_kv_f32(b, key(k, "residual_scale"), m->scales ? 0.5f : 0.0f);
    build_kv_f32(b, key(k, "embedding_scale"), m->scales ? 6.0f : 0.0f);
    build_kv_f32(b, key(k, "attention.scale"), m->scales ? 0.2f : 0.0f);
    vocabulary(k);
}

/* Uniform in [-1, 1), 24 bits (splitmix64, Steele et al. 2014). */
static float uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (float)((double)(z >> 40) * 0x1p-23 - 1.0);
}

/* Blocks of a float16 scale and bytes, which may be any. */
static void fill_blocks(char *data, enum dtype type, uint64_t n, uint64_t n_in, uint64_t *state)
{
    const struct dtype_info *t = dtype_info(type);
    for (uint64_t b = 0; b < n / t->block_elements; b++, data += t->block_bytes) {
        const float largest = (float)(3.0 / sqrt((double)n_in)) * (1.5f + 0.5f * uniform(state));
        const uint16_t d = f16_from_f32(largest / (type == DTYPE_Q8_0 ? 254 : 16));
        memcpy(data, &d, sizeof d);
        for (uint32_t i = sizeof d; i < t->block_bytes; i++)
            data[i] = (char)(127 * uniform(state));
    }
}

static void fill(const struct maker *k, char *data)
{
    uint64_t state = 1;
    for (uint32_t p = 0; p < k->n_parts; p++) {
        if (k->parts[p].type != DTYPE_F32) {
            fill_blocks(data + k->parts[p].offset, k->parts[p].type, k->parts[p].n,
                        k->parts[p].n_in, &state);
            continue;
        }
        float *x = (float *)(data + k->parts[p].offset);
        for (uint64_t i = 0; i < k->parts[p].n; i++) {
            const float u = uniform(&state);
            switch (k->parts[p].fill) {
            case FILL_MATRIX: x[i] = u * (float)(3.0 / sqrt((double)k->parts[p].n_in)); break;
            case FILL_NORM: x[i] = 1.0f + 0.25f * u; break;
            case FILL_BIAS: x[i] = 0.5f * u; break;
            case FILL_FACTOR: x[i] = 2.5f + 1.5f * u; break;
            }
        }
    }
}

struct tiny_model tiny_model_as(const struct tiny_model *m, enum dtype quant)
{
    struct tiny_model as = *m;
    as.quant = quant;
    return as;
}

const struct tiny_model *tiny_model_find(const char *name)
{
    for (uint32_t i = 0; i < n_tiny_models; i++)
        if (strcmp(tiny_models[i].name, name) == 0)
            return &tiny_models[i];
    return NULL;
}

void tiny_model_build(const struct tiny_model *m, struct buf *out)
{
    static struct maker k;
    k = (struct maker){.m = m};
    build_init(&k.b);
    values(&k);
    tensors(&k);
    build_file(&k.b, out);
    fill(&k, out->data + (out->len - k.b.data_bytes));
    build_release(&k.b);
}

struct gguf *tiny_model_open(const struct tiny_model *m)
{
    struct buf file;
    struct gguf *g = NULL;
    struct err err = ERR_INIT;
    tiny_model_build(m, &file);
    int r = build_open_bytes(buf_str(&file), file.len, 0, &g, &err);
    if (r)
        fprintf(stderr, "tiny model %s: %s\n", m->name, err.msg);
    BUG_ON(r);
    buf_release(&file);
    return g;
}

void tiny_tokens(int32_t *tokens, uint32_t n, uint32_t n_vocab)
{
    uint32_t s = 11;
    for (uint32_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((s >> 8) % n_vocab);
    }
}
