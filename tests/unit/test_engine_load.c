/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: plans and their refusals, models that lack or misshape a tensor, allocation failures. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/support/gguf_build.h"
#include "tests/support/tiny_model.h"
#include "worker/engine/arch.h"
#include "worker/engine/engine.h"

static struct gguf *open_tiny(const char *name)
{
    return tiny_model_open(tiny_model_find(name));
}

static void check_refused(const struct gguf *g, struct engine_config cfg, int code,
                          const char *says)
{
    struct engine_plan p;
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(engine_plan(g, &cfg, &p, &err), -code);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_int_equal(engine_new(g, &cfg, &e, &err), -code);
    assert_null(e);
}

static void test_plan_defaults(void **state)
{
    struct gguf *g = open_tiny("llama");
    struct engine_plan p;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(engine_plan(g, &(struct engine_config){0}, &p, &err), 0);
    assert_int_equal(p.config.n_ctx, TINY_CTX);
    assert_int_equal(p.config.n_threads, 1);
    assert_int_equal(p.config.max_num_seqs, ENGINE_DEFAULT_SEQS);
    assert_int_equal(p.config.max_num_batched_tokens, ENGINE_DEFAULT_BATCH);
    assert_int_equal(p.config.block_size, ENGINE_DEFAULT_BLOCK);
    assert_true(p.config.memory_limit_bytes > 1 << 20);
    /* 2 layers x 2 heads x (8 of keys, 8 of values in 16 places) x 4 bytes x 16 positions */
    assert_int_equal(p.block_bytes, 2 * 2 * (8 + 16) * 4 * 16);
    assert_int_equal(p.n_blocks, TINY_CTX / 16 * ENGINE_DEFAULT_SEQS);
    assert_int_equal(p.kv_bytes, p.n_blocks * p.block_bytes);
    assert_int_equal(p.total_bytes, p.weight_bytes + p.kv_bytes + p.scratch_bytes);
    uint64_t n = 0;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++)
        n += gguf_tensor_at(g, i)->n_bytes;
    assert_int_equal(p.weight_bytes, n);
    assert_int_equal(p.n_params, n / 4); /* all F32 */
    gguf_close(g);
}

static void test_plan_needs_no_tensor_data(void **state)
{
    struct buf file;
    struct gguf *g;
    struct engine_plan p;
    struct err err = ERR_INIT;
    (void)state;
    tiny_model_build(tiny_model_find("granite-moe"), &file);
    assert_int_equal(build_open_bytes(file.data, file.len, GGUF_HEADER_ONLY, &g, &err), 0);
    assert_int_equal(engine_plan(g, &(struct engine_config){.kv_type = KV_F16}, &p, &err), 0);
    struct buf text;
    buf_init(&text, 4096);
    engine_plan_print(&p, &text);
    assert_non_null(strstr(buf_str(&text), "key/value cache"));
    assert_non_null(strstr(buf_str(&text), "total"));
    buf_release(&text);
    gguf_close(g);
    buf_release(&file);
}

static void test_plan_refusals(void **state)
{
    struct gguf *g = open_tiny("llama");
    struct engine_plan p;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(engine_plan(g, &(struct engine_config){0}, &p, &err), 0);
    char sum[32];
    snprintf(sum, sizeof sum, "%llu", (unsigned long long)p.total_bytes);
    check_refused(g, (struct engine_config){.memory_limit_bytes = p.total_bytes - 1}, E_NOMEM, sum);
    assert_int_equal(
        engine_plan(g, &(struct engine_config){.memory_limit_bytes = p.total_bytes}, &p, &err), 0);
    check_refused(g, (struct engine_config){.kv_cache_bytes = p.block_bytes * (TINY_CTX / 16 - 1)},
                  E_NOMEM, "256");
    check_refused(g, (struct engine_config){.n_ctx = 1}, E_INVALID, "context");
    check_refused(g, (struct engine_config){.n_ctx = UINT32_MAX}, E_INVALID, "context");
    check_refused(g, (struct engine_config){.n_threads = UINT32_MAX}, E_INVALID, "threads");
    check_refused(g, (struct engine_config){.max_num_seqs = UINT32_MAX}, E_INVALID, "max-num-seqs");
    check_refused(g, (struct engine_config){.max_num_batched_tokens = UINT32_MAX}, E_INVALID,
                  "batched");
    check_refused(g, (struct engine_config){.max_num_batched_tokens = 3}, E_INVALID,
                  "max-num-seqs");
    check_refused(g, (struct engine_config){.block_size = UINT32_MAX}, E_INVALID, "block");
    check_refused(g, (struct engine_config){.kv_type = (enum kv_type)9}, E_INVALID, "type");
    check_refused(g,
                  (struct engine_config){
                      .n_ctx = 1 << 24, .max_num_seqs = 4096, .max_num_batched_tokens = 65536},
                  E_LIMIT, "");
    struct engine *e = NULL;
    assert_int_equal(engine_new(g, &(struct engine_config){.cpu_level = "abacus"}, &e, &err),
                     -E_INVALID);
    gguf_close(g);
}

static void test_unknown_architecture(void **state)
{
    const struct arch *a;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(arch_find("mamba", &a, &err), -E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "mamba"));
    assert_non_null(strstr(err.msg, "llama"));
    assert_non_null(strstr(err.msg, "olmo2"));
}

/* Replaces the one occurrence of a name in the file's tables by another of the same length. */
static void rename_in(struct buf *file, const char *from, const char *to)
{
    char *p = memmem(file->data, file->len, from, strlen(from));
    assert_non_null(p);
    memcpy(p, to, strlen(to));
}

static void check_load_fails(struct buf *file, int code, const char *says)
{
    struct gguf *g;
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(build_open_bytes(file->data, file->len, 0, &g, &err), 0);
    assert_int_equal(engine_new(g, &(struct engine_config){0}, &e, &err), -code);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
    gguf_close(g);
    buf_release(file);
}

static void test_missing_tensors(void **state)
{
    static const struct {
        const char *model, *tensor;
    } cases[] = {{"llama", "token_embd.weight"},
                 {"llama", "output_norm.weight"},
                 {"llama", "blk.1.attn_k.weight"},
                 {"llama", "blk.0.ffn_norm.weight"},
                 {"llama", "blk.1.ffn_down.weight"},
                 {"qwen3", "blk.0.attn_q_norm.weight"},
                 {"gemma2", "blk.3.post_ffw_norm.weight"},
                 {"llama-moe", "blk.1.ffn_up_exps.weight"},
                 {"llama-moe", "blk.1.ffn_gate_inp.weight"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf file;
        char other[64];
        tiny_model_build(tiny_model_find(cases[i].model), &file);
        snprintf(other, sizeof other, "%s", cases[i].tensor);
        other[strlen(other) - 1] = '_';
        rename_in(&file, cases[i].tensor, other);
        check_load_fails(&file, E_FORMAT, cases[i].tensor);
    }
}

/* Widths in the metadata that are not the tensors'. */
static void test_misshapen_tensors(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        const char *says;
    } cases[] = {{"llama.embedding_length", 40, "token_embd.weight"},
                 {"llama.feed_forward_length", 47, "ffn_"},
                 {"llama.attention.head_count", 8, "attn_q.weight"},
                 {"llama.attention.head_count_kv", 4, "attn_k.weight"},
                 {"llama.attention.value_length", 4, "attn_v.weight"},
                 {"llama.rope.dimension_count", 4, "rope_freqs.weight"},
                 {"llama.block_count", 3, "blk.2."},
                 {"llama.expert_count", 1, ""}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf file;
        tiny_model_build(tiny_model_find("llama"), &file);
        char *p = memmem(file.data, file.len, cases[i].key, strlen(cases[i].key));
        while (p && p[strlen(cases[i].key)] != (char)GGUF_U32) /* another key with this start */
            p = memmem(p + 1, file.len - (size_t)(p + 1 - file.data), cases[i].key,
                       strlen(cases[i].key));
        assert_non_null(p);
        memcpy(p + strlen(cases[i].key) + 4, &cases[i].value, 4);
        check_load_fails(&file, E_FORMAT, cases[i].says);
    }
}

/* A draft model is part of every sum, and refused for its own faults by name. */
static void test_draft_plans(void **state)
{
    struct gguf *g = open_tiny("llama"), *draft = open_tiny("qwen3");
    struct engine_plan alone, own, p;
    struct err err = ERR_INIT;
    struct engine_config cfg = {.kv_type = KV_F16};
    (void)state;
    assert_int_equal(engine_plan(g, &cfg, &alone, &err), 0);
    assert_int_equal(engine_plan(draft, &cfg, &own, &err), 0);
    cfg.draft = draft;
    assert_int_equal(engine_plan(g, &cfg, &p, &err), 0);
    assert_int_equal(p.config.n_speculate, ENGINE_DEFAULT_DRAFT);
    assert_int_equal(p.draft_weight_bytes, own.weight_bytes);
    assert_int_equal(p.draft_block_bytes, own.block_bytes);
    assert_int_equal(p.weight_bytes, alone.weight_bytes + own.weight_bytes);
    assert_int_equal(p.block_bytes, alone.block_bytes + own.block_bytes);
    assert_int_equal(p.n_blocks, alone.n_blocks);
    assert_int_equal(p.kv_bytes, p.n_blocks * p.block_bytes);
    assert_true(p.scratch_bytes > alone.scratch_bytes);
    assert_int_equal(p.n_params, alone.n_params);
    cfg.memory_limit_bytes = p.total_bytes - 1;
    check_refused(g, cfg, E_NOMEM, "memory limit");
    cfg.memory_limit_bytes = p.total_bytes;
    assert_int_equal(engine_plan(g, &cfg, &p, &err), 0);
    cfg = (struct engine_config){.kv_cache_bytes = p.block_bytes * (TINY_CTX / 16),
                                 .kv_type = KV_F16};
    assert_int_equal(engine_plan(g, &cfg, &p, &err), 0); /* enough for both: */
    cfg.draft = draft;
    assert_int_equal(engine_plan(g, &cfg, &p, &err), 0);
    cfg.kv_cache_bytes -= 1;
    check_refused(g, cfg, E_NOMEM, "fewer than the context");
    struct gguf_build b;
    build_init(&b);
    build_kv_str(&b, "general.architecture", "mamba");
    gguf_close(draft);
    assert_int_equal(build_open(&b, GGUF_HEADER_ONLY, &draft, &err), 0);
    check_refused(g, (struct engine_config){.draft = draft}, E_FORMAT, "the draft model");
    build_release(&b);
    gguf_close(draft);
    gguf_close(g);
}

static void test_allocation_failures(void **state)
{
    static const char *const names[] = {"llama", "granite-moe"};
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(names); m++) {
        struct gguf *g = open_tiny(names[m]);
        struct engine *e = NULL;
        struct err err = ERR_INIT;
        int r = -1;
        long n;
        const struct engine_config cfg = {.n_threads = 2, .draft = m ? g : NULL};
        for (n = 0; r; n++) {
            mem_fault_after(n);
            r = engine_new(g, &cfg, &e, &err);
            mem_fault_after(-1);
            assert_true(r == 0 || r == -E_NOMEM);
            assert_true(n < 400);
        }
        assert_true(n > (m ? 40 : 20));
        engine_free(e);
        gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_defaults),   cmocka_unit_test(test_plan_needs_no_tensor_data),
        cmocka_unit_test(test_plan_refusals),   cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_missing_tensors), cmocka_unit_test(test_misshapen_tensors),
        cmocka_unit_test(test_draft_plans),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
