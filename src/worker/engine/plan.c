/* SPDX-License-Identifier: Apache-2.0 */
/* Implements plan.h: defaults, sums, refusals. */
#include "worker/engine/plan.h"

#include <inttypes.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/engine/sampler.h"
#include "worker/engine/sched.h"

/* Ranges of what may be declared. */
#define MAX_THREADS 1024u
#define MAX_SEQS    4096u
#define MAX_BATCH   65536u
#define MAX_BLOCK   4096u
/* Heads times their width, and experts: far above any model, and no product of two of them
 * overflows 64 bits. */
#define MAX_HEADS_WIDTH (1u << 24)
#define MAX_EXPERTS     4096u
/* Guesses of a draft model that one step checks: eight answers' default. */
#define DRAFT_ROWS 32u

static uint64_t machine_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
}

/* The metadata as far as the engine's own arithmetic relies on it. */
static int check_model(const struct hparams *hp, struct err *err)
{
    if (hp->n_expert > MAX_EXPERTS || hp->n_expert_used > hp->n_expert ||
        (hp->n_expert && hp->n_expert_used == 0))
        return err_set(
            err, E_FORMAT,
            "the model uses %u of %u experts; at most %u can be, and at least 1 must be used",
            hp->n_expert_used, hp->n_expert, MAX_EXPERTS);
    if (hp->n_rot % 2 || hp->n_rot > hp->k_dim)
        return err_set(err, E_FORMAT,
                       "rope.dimension_count is %u; it must be even and at most the head's %u",
                       hp->n_rot, hp->k_dim);
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        const struct hparams_layer *l = &hp->layers[i];
        if (l->n_head == 0 || l->n_head_kv == 0 || l->n_head % l->n_head_kv || l->n_ff == 0)
            return err_set(err, E_FORMAT,
                           "layer %u has %u heads, %u key heads and a feed-forward width of %u; "
                           "none may be 0 and heads "
                           "must be a multiple of key heads",
                           i, l->n_head, l->n_head_kv, l->n_ff);
        if ((uint64_t)l->n_head * MAX_OF(hp->k_dim, hp->v_dim) > MAX_HEADS_WIDTH ||
            l->n_ff > LIMIT_MODEL_WIDTH)
            return err_set(
                err, E_LIMIT,
                "layer %u has %u heads of %u and a feed-forward width of %u; heads in all are "
                "limited to %u, the feed-forward to %u",
                i, l->n_head, MAX_OF(hp->k_dim, hp->v_dim), l->n_ff, MAX_HEADS_WIDTH,
                LIMIT_MODEL_WIDTH);
    }
    return 0;
}

static int check_range(const char *what, uint32_t value, uint32_t max, struct err *err)
{
    if (value <= max)
        return 0;
    return err_set(err, E_INVALID, "%s is %u; at most %u is possible", what, value, max);
}

static int check_kv_type(const struct hparams *hp, enum kv_type type, struct err *err)
{
    if (type != KV_Q8_0 || (hp->k_dim % 32 == 0 && hp->v_dim % 32 == 0))
        return 0;
    return err_set(err, E_UNSUPPORTED,
                   "a q8_0 cache holds heads of multiples of 32 and this model's are %u and %u "
                   "wide; use kv-cache-type f16",
                   hp->k_dim, hp->v_dim);
}

static int fill_config(const struct hparams *hp, const struct engine_config *cfg,
                       struct engine_config *c, struct err *err)
{
    *c = *cfg;
    c->n_threads = c->n_threads ? c->n_threads : 1;
    c->max_num_seqs = c->max_num_seqs ? c->max_num_seqs : ENGINE_DEFAULT_SEQS;
    c->max_num_batched_tokens =
        c->max_num_batched_tokens ? c->max_num_batched_tokens : ENGINE_DEFAULT_BATCH;
    c->block_size = c->block_size ? c->block_size : ENGINE_DEFAULT_BLOCK;
    c->pace_ns = c->pace_ns ? c->pace_ns : ENGINE_DEFAULT_PACE;
    if (c->n_ctx == 0)
        c->n_ctx = hp->n_ctx_train && hp->n_ctx_train < ENGINE_DEFAULT_CTX ? hp->n_ctx_train
                                                                           : ENGINE_DEFAULT_CTX;
    c->memory_limit_bytes = c->memory_limit_bytes ? c->memory_limit_bytes : machine_bytes();
    if (c->draft && c->n_speculate == 0)
        c->n_speculate = ENGINE_DEFAULT_DRAFT;
    int r = check_range("the number of threads", c->n_threads, MAX_THREADS, err);
    if (r == 0)
        r = check_range("max-num-seqs", c->max_num_seqs, MAX_SEQS, err);
    if (r == 0)
        r = check_range("max-num-batched-tokens", c->max_num_batched_tokens, MAX_BATCH, err);
    if (r == 0)
        r = check_range("the cache's block size", c->block_size, MAX_BLOCK, err);
    if (r == 0)
        r = check_range("the context length", c->n_ctx, LIMIT_MODEL_CONTEXT, err);
    if (r == 0 && c->n_ctx < 2)
        r = err_set(err, E_INVALID, "the context length is %u; at least 2 is needed", c->n_ctx);
    if (r == 0 && c->kv_type >= KV_N)
        r = err_set(err, E_INVALID,
                    "the cache's type is unknown; it can be f32, f16, bf16 or q8_0");
    if (r == 0)
        r = check_kv_type(hp, c->kv_type, err);
    if (r == 0 && c->block_size % KV_LANES)
        r = err_set(err, E_INVALID,
                    "the cache's block size is %u; it must be a multiple of %d, such as %u",
                    c->block_size, KV_LANES, (c->block_size / KV_LANES + 1) * KV_LANES);
    if (r == 0)
        r = check_range("speculative-num-tokens", c->n_speculate, ENGINE_MAX_DRAFT, err);
    if (r == 0 && c->max_num_batched_tokens < c->max_num_seqs)
        r = err_set(err, E_INVALID,
                    "max-num-batched-tokens (%u) is below max-num-seqs (%u); every sequence needs "
                    "one token a step: raise the one or lower the other",
                    c->max_num_batched_tokens, c->max_num_seqs);
    return r;
}

/* Blocks for n_ctx x max_num_seqs, or as many as kv_cache_bytes hold; at least one whole context.
 */
static int plan_cache(const struct hparams *hp, struct engine_plan *p, struct err *err)
{
    const struct engine_config *c = &p->config;
    const uint64_t per_seq = ((uint64_t)c->n_ctx + c->block_size - 1) / c->block_size;
    uint64_t n = per_seq * c->max_num_seqs;
    p->block_bytes = kv_block_bytes(hp, c->kv_type, c->block_size);
    if (p->block_bytes == 0 || !size_add(p->block_bytes, p->draft_block_bytes, &p->block_bytes))
        return err_set(err, E_NOMEM, "the size of the key/value cache overflows 64 bits");
    if (c->kv_cache_bytes)
        n = MIN_OF(c->kv_cache_bytes / p->block_bytes, n);
    if (n < per_seq)
        return err_set(err, E_NOMEM,
                       "a key/value cache of %" PRIu64 " bytes holds %" PRIu64
                       " tokens, fewer than the context of %u, "
                       "which needs %" PRIu64 " bytes; raise the cache's size or lower the context",
                       c->kv_cache_bytes, n * c->block_size, c->n_ctx, per_seq * p->block_bytes);
    if (n > UINT32_MAX)
        return err_set(
            err, E_LIMIT,
            "the key/value cache would have %" PRIu64 " blocks; lower context or sequences", n);
    p->n_blocks = (uint32_t)n;
    if (!size_mul(n, p->block_bytes, &p->kv_bytes))
        return err_set(err, E_NOMEM, "the size of the key/value cache overflows 64 bits");
    return 0;
}

uint32_t plan_out_rows(const struct engine_config *c)
{
    if (c->draft)
        return c->max_num_seqs + DRAFT_ROWS;
    return c->max_num_seqs + (c->n_speculate ? ENGINE_MAX_DRAFT : 0);
}

int plan_draft(const struct gguf *g, const struct hparams *hp, uint32_t n_vocab,
               const struct engine_config *c, struct plan_draft *ret, struct err *err)
{
    struct weights_sizes w;
    const struct arch *arch;
    int r = arch_find(hp->arch, &arch, err);
    if (r == 0)
        r = check_model(hp, err);
    if (r == 0)
        r = check_kv_type(hp, c->kv_type, err);
    if (r == 0)
        r = weights_measure(g, hp, &w, err);
    if (r)
        return r;
    *ret = (struct plan_draft){
        .dims = {.hp = hp,
                 .max_tok = ENGINE_PROMPT_BESIDE + PLAN_DRAFT_STEP * c->max_num_seqs,
                 .n_ff_max = w.n_ff_max,
                 .n_threads = c->n_threads,
                 .n_ctx = c->n_ctx},
        .weight_bytes = w.n_bytes,
        .block_bytes = kv_block_bytes(hp, c->kv_type, c->block_size),
    };
    const uint64_t forward = forward_scratch_bytes(&ret->dims),
                   arrays = (uint64_t)ret->dims.max_tok * 4 * sizeof(uint32_t) +
                            (uint64_t)c->max_num_seqs * (sizeof(struct seq *) + sizeof(uint32_t)),
                   logits = (uint64_t)c->max_num_seqs * hp->n_vocab * sizeof(float),
                   padded = (uint64_t)c->n_threads * n_vocab * sizeof(float);
    if (forward == 0 || ret->block_bytes == 0 ||
        !size_add(forward, w.small_bytes + arrays + logits + padded, &ret->scratch_bytes))
        return err_set(err, E_NOMEM, "the size of the draft model's memory overflows 64 bits");
    return 0;
}

/* Of the file that p->config names; ret is all zeros when it names none. */
static int measure_draft(struct engine_plan *p, uint32_t n_vocab, struct plan_draft *ret,
                         struct err *err)
{
    struct hparams hp;
    *ret = (struct plan_draft){0};
    if (!p->config.draft)
        return 0;
    int r = hparams_from_gguf(p->config.draft, &hp, err);
    if (r == 0) {
        r = plan_draft(p->config.draft, &hp, n_vocab, &p->config, ret, err);
        hparams_release(&hp);
    }
    if (r)
        return err_wrap(err, "the draft model");
    p->draft_weight_bytes = ret->weight_bytes;
    p->draft_block_bytes = ret->block_bytes;
    return 0;
}

static int plan_scratch(const struct hparams *hp, const struct forward_dims *d,
                        uint64_t small_bytes, uint64_t draft_bytes, struct engine_plan *p,
                        struct err *err)
{
    const struct engine_config *c = &p->config;
    const uint64_t n_caches = c->draft ? 2 : 1;
    const uint64_t per_seq = ((uint64_t)c->n_ctx + c->block_size - 1) / c->block_size;
    const uint64_t parts[] = {
        forward_scratch_bytes(d),
        small_bytes,
        (uint64_t)plan_out_rows(c) * hp->n_vocab * sizeof(float), /* logits */
        c->n_threads * sampler_bytes(hp->n_vocab),
        sched_bytes(c->max_num_seqs, c->max_num_batched_tokens),
        n_caches * ((uint64_t)p->n_blocks * 2 * sizeof(uint32_t) +
                    per_seq * c->max_num_seqs * sizeof(uint32_t)), /* tables */
        c->no_prefix_cache ? 0 : n_caches * prefix_bytes(p->n_blocks, c->block_size),
        draft_bytes,
    };
    p->scratch_bytes = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (!size_add(p->scratch_bytes, parts[i], &p->scratch_bytes) || parts[0] == 0)
            return err_set(err, E_NOMEM, "the size of the activations overflows 64 bits");
    return 0;
}

int plan_make(const struct gguf *g, const struct hparams *hp, const struct engine_config *cfg,
              struct engine_plan *ret, struct forward_dims *ret_dims, struct err *err)
{
    struct engine_plan p = {0};
    struct weights_sizes w;
    struct plan_draft draft;
    const struct arch *arch;
    int r = arch_find(hp->arch, &arch, err);
    if (r == 0)
        r = check_model(hp, err);
    if (r == 0)
        r = fill_config(hp, cfg, &p.config, err);
    if (r == 0)
        r = weights_measure(g, hp, &w, err);
    if (r == 0)
        r = measure_draft(&p, hp->n_vocab, &draft, err);
    if (r == 0)
        r = plan_cache(hp, &p, err);
    if (r)
        return r;
    p.n_params = w.n_params;
    *ret_dims = (struct forward_dims){.hp = hp,
                                      .max_tok = p.config.max_num_batched_tokens,
                                      .n_ff_max = w.n_ff_max,
                                      .n_threads = p.config.n_threads,
                                      .n_ctx = p.config.n_ctx};
    r = plan_scratch(hp, ret_dims, w.small_bytes, draft.scratch_bytes, &p, err);
    if (r)
        return r;
    if (!size_add(w.n_bytes, draft.weight_bytes, &p.weight_bytes) ||
        !size_add(p.weight_bytes, p.kv_bytes, &p.total_bytes) ||
        !size_add(p.total_bytes, p.scratch_bytes, &p.total_bytes))
        return err_set(err, E_NOMEM, "the size of the model in memory overflows 64 bits");
    if (p.total_bytes > p.config.memory_limit_bytes)
        return err_set(err, E_NOMEM,
                       "weights %" PRIu64 " + key/value cache %" PRIu64 " + activations %" PRIu64
                       " = %" PRIu64 " bytes, more than the memory limit of %" PRIu64
                       "; lower max-model-len (%u), max-num-seqs (%u) or kv-cache-memory, or use a "
                       "smaller quantisation",
                       p.weight_bytes, p.kv_bytes, p.scratch_bytes, p.total_bytes,
                       p.config.memory_limit_bytes, p.config.n_ctx, p.config.max_num_seqs);
    *ret = p;
    return 0;
}

int engine_plan(const struct gguf *g, const struct engine_config *cfg, struct engine_plan *ret,
                struct err *err)
{
    struct hparams hp;
    struct forward_dims dims;
    int r = hparams_from_gguf(g, &hp, err);
    if (r)
        return r;
    r = plan_make(g, &hp, cfg, ret, &dims, err);
    hparams_release(&hp);
    return r;
}

void engine_plan_print(const struct engine_plan *p, struct buf *out)
{
    const struct engine_config *c = &p->config;
    buf_printf(out, "parameters          %16" PRIu64 "\n", p->n_params);
    buf_printf(out, "threads             %16" PRIu32 "\n", c->n_threads);
    buf_printf(out, "context             %16" PRIu32 " tokens a sequence\n", c->n_ctx);
    buf_printf(out, "sequences           %16" PRIu32 " at once\n", c->max_num_seqs);
    buf_printf(out, "batch               %16" PRIu32 " tokens a step\n", c->max_num_batched_tokens);
    buf_printf(out, "cache type          %16s\n", kv_type_name(c->kv_type));
    buf_printf(out, "cache block         %16" PRIu32 " tokens, %" PRIu64 " bytes\n", c->block_size,
               p->block_bytes);
    buf_printf(out, "cache blocks        %16" PRIu32 "\n", p->n_blocks);
    buf_printf(out, "weights             %16" PRIu64 " bytes, mapped\n", p->weight_bytes);
    if (c->draft)
        buf_printf(out,
                   "draft model         %16" PRIu64 " bytes of the weights, %" PRIu64
                   " of each block, %" PRIu32 " guesses\n",
                   p->draft_weight_bytes, p->draft_block_bytes, c->n_speculate);
    buf_printf(out, "key/value cache     %16" PRIu64 " bytes\n", p->kv_bytes);
    buf_printf(out, "activations         %16" PRIu64 " bytes\n", p->scratch_bytes);
    buf_printf(out, "total               %16" PRIu64 " bytes\n", p->total_bytes);
    buf_printf(out, "limit               %16" PRIu64 " bytes\n", c->memory_limit_bytes);
}
