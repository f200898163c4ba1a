/* SPDX-License-Identifier: Apache-2.0 */
/* worker/model: hyper-parameters: defaults, 0 as unset, per-layer arrays, every integer width,
 * limits by name. */
#include "tests/support/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "lib/base/limits.h"
#include "tests/support/gguf_build.h"
#include "worker/model/hparams.h"

static void read_ok(struct gguf_build *b, struct hparams *ret)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    assert_int_equal(build_open(b, 0, &g, &err), 0);
    if (hparams_from_gguf(g, ret, &err) != 0)
        fail_msg("%s", err.msg);
    gguf_close(g);
    build_release(b);
}

static void refused(struct gguf_build *b, int code, const char *says)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct hparams h = {.n_layer = 77};
    assert_int_equal(build_open(b, 0, &g, &err), 0);
    int rc = hparams_from_gguf(g, &h, &err);
    if (rc != -code || !strstr(err.msg, says))
        fail_msg("%d instead of %d '%s': %s", rc, -code, says, err.msg);
    assert_int_equal(h.n_layer, 77);
    gguf_close(g);
    build_release(b);
}

static void the_least_file_gets_the_defaults(void **state)
{
    (void)state;
    struct gguf_build b;
    struct hparams h;
    build_init(&b);
    build_llama(&b);
    read_ok(&b, &h);
    assert_string_equal(h.arch, "llama");
    assert_int_equal(h.n_layer, 2);
    assert_int_equal(h.n_vocab, 4);
    assert_int_equal(h.layers[1].n_head, 4);
    assert_int_equal(h.layers[1].n_head_kv, 4);
    assert_int_equal(h.layers[1].n_ff, 96);
    assert_int_equal(h.k_dim, 16);
    assert_int_equal(h.v_dim, 16);
    assert_int_equal(h.n_rot, 16);
    assert_int_equal(h.n_rot_swa, 16);
    assert_int_equal(h.n_ctx_orig, 128);
    assert_true(h.rms_eps == 1e-5f && h.norm_eps == 0);
    assert_true(h.rope_base == 10000 && h.rope_base_swa == 0);
    assert_true(h.rope_scaling == ROPE_SCALING_NONE && h.rope_factor == 1 &&
                h.rope_attn_factor == 1);
    assert_true(h.yarn_ext_factor == -1 && h.yarn_attn_factor == 1 && h.yarn_beta_fast == 32 &&
                h.yarn_beta_slow == 1);
    assert_false(h.has_rope_finetuned || h.has_swa_pattern || h.has_expert_weights_norm);
    assert_true(h.is_causal);
    assert_int_equal(h.n_swa + h.swa_period + h.n_expert + h.n_expert_used, 0);
    hparams_release(&h);
}

/* The keys that may be absent; a file that carries them all with 0 means the same as one without.
 */
static void zero_means_unset(void **state)
{
    (void)state;
    static const char *const ints[] = {
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
        "rope.dimension_count_swa",
        "rope.scaling.original_context_length",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "vocab_size",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
        "expert_shared_feed_forward_length",
        "attention.temperature_length",
    };
    static const char *const floats[] = {
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.scaling.factor",
        "rope.scaling.attn_factor",
        "rope.scale_linear",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "attention.scale",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "embedding_scale",
        "residual_scale",
        "logit_scale",
        "attention.layer_norm_epsilon",
    };
    struct gguf_build a, b;
    struct hparams x, y;
    char key[128];
    build_init(&a);
    build_llama(&a);
    build_init(&b);
    build_llama(&b);
    for (size_t i = 0; i < ARRAY_LEN(ints); i++) {
        snprintf(key, sizeof(key), "llama.%s", ints[i]);
        build_kv_u32(&b, key, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(floats); i++) {
        snprintf(key, sizeof(key), "llama.%s", floats[i]);
        build_kv_f32(&b, key, 0);
    }
    build_kv_str(&b, "llama.rope.scaling.type", "");
    read_ok(&a, &x);
    read_ok(&b, &y);
    assert_memory_equal(x.layers, y.layers, 2 * sizeof(*x.layers));
    hparams_release(&x);
    hparams_release(&y);
    assert_memory_equal(&x, &y, sizeof(x)); /* both were zeroed before they were filled */
}

static void every_integer_width_serves(void **state)
{
    (void)state;
    static const enum gguf_type types[] = {GGUF_U8,  GGUF_I8,  GGUF_U16, GGUF_I16,
                                           GGUF_U32, GGUF_I32, GGUF_U64, GGUF_I64};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct gguf_build b;
        struct hparams h;
        build_init(&b);
        build_llama(&b);
        build_kv_int(&b, "llama.attention.head_count_kv", types[i], 2);
        build_kv_array(&b, "llama.attention.sliding_window_pattern", types[i], 2);
        for (uint64_t k = 0; k < 2; k++) {
            static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 8, 8};
            assert_int_equal(buf_append(&b.values, &k, bytes[i]), 0);
        }
        read_ok(&b, &h);
        assert_int_equal(h.layers[0].n_head_kv, 2);
        assert_true(h.has_swa_pattern && !h.layers[0].is_sliding && h.layers[1].is_sliding);
        hparams_release(&h);
    }
}

static void per_layer_arrays(void **state)
{
    (void)state;
    struct gguf_build b;
    struct hparams h;
    build_init(&b);
    build_kv_str(&b, "general.architecture", "x-1.y_2");
    build_kv_u32(&b, "x-1.y_2.block_count", 2);
    build_kv_u32(&b, "x-1.y_2.embedding_length", 64);
    build_kv_u32(&b, "x-1.y_2.context_length", 128);
    build_kv_u32(&b, "x-1.y_2.vocab_size", 9);
    build_kv_array(&b, "x-1.y_2.attention.head_count", GGUF_I32, 2);
    build_u64(&b.values, 4 | 8ull << 32);
    build_kv_array(&b, "x-1.y_2.attention.head_count_kv", GGUF_U32, 2);
    build_u64(&b.values, 2 | 1ull << 32);
    build_kv_array(&b, "x-1.y_2.feed_forward_length", GGUF_U32, 2);
    build_u64(&b.values, 96 | 128ull << 32);
    build_kv_array(&b, "x-1.y_2.attention.sliding_window_pattern", GGUF_BOOL, 2);
    assert_int_equal(buf_append(&b.values, "\1\0", 2), 0);
    build_kv_f32(&b, "x-1.y_2.attention.layer_norm_epsilon", 1e-6f);
    read_ok(&b, &h);
    assert_int_equal(h.n_vocab, 9);
    assert_int_equal(h.layers[1].n_head, 8);
    assert_int_equal(h.layers[0].n_head_kv, 2);
    assert_int_equal(h.layers[1].n_head_kv, 1);
    assert_int_equal(h.layers[1].n_ff, 128);
    assert_true(h.layers[0].is_sliding && !h.layers[1].is_sliding);
    assert_int_equal(h.k_dim, 16);
    hparams_release(&h);
}

static void scaling_and_windows(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float factor;
        enum rope_scaling want;
        float want_factor;
    } cases[] = {
        {"linear", 8, ROPE_SCALING_LINEAR, 8},     {"linear", 1, ROPE_SCALING_NONE, 1},
        {"none", 8, ROPE_SCALING_NONE, 1},         {"yarn", 4, ROPE_SCALING_YARN, 4},
        {"longrope", 1, ROPE_SCALING_LONGROPE, 1},
    };
    struct gguf_build b;
    struct hparams h;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        build_init(&b);
        build_llama(&b);
        build_kv_str(&b, "llama.rope.scaling.type", cases[i].type);
        build_kv_f32(&b, "llama.rope.scaling.factor", cases[i].factor);
        build_kv_bool(&b, "llama.rope.scaling.finetuned", false);
        build_kv_u32(&b, "llama.attention.sliding_window_pattern", 6);
        build_kv_u32(&b, "llama.attention.sliding_window", 512);
        read_ok(&b, &h);
        assert_int_equal(h.rope_scaling, cases[i].want);
        assert_true(h.rope_factor == cases[i].want_factor);
        assert_true(h.has_rope_finetuned && !h.rope_finetuned);
        assert_true(h.swa_period == 6 && !h.has_swa_pattern && h.n_swa == 512);
        hparams_release(&h);
    }
    build_init(&b);
    build_llama(&b);
    build_kv_f32(&b, "llama.rope.scale_linear", 2);
    read_ok(&b, &h);
    assert_true(h.rope_scaling == ROPE_SCALING_LINEAR && h.rope_factor == 2);
    hparams_release(&h);
}

/* One key that build_llama does not write, and what is said about it. */
static void bad_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        enum gguf_type type;
        int64_t value; /* or, for floats, millionths */
        int code;
        const char *says;
    } cases[] = {
        {"attention.head_count_kv", GGUF_U32, 3, E_FORMAT,
         "'llama.attention.head_count_kv' is 3 for layer 0, which does"},
        {"attention.head_count_kv", GGUF_I32, -1, E_FORMAT,
         "'llama.attention.head_count_kv' is -1"},
        {"attention.key_length", GGUF_U32, 1 << 20, E_LIMIT,
         "layer 0 has 4 heads of 1048576 elements"},
        {"attention.value_length", GGUF_U64, 1ll << 40, E_LIMIT,
         "'llama.attention.value_length' is 1099511627776"},
        {"rope.dimension_count", GGUF_U32, 17, E_FORMAT,
         "'llama.rope.dimension_count' is 17; it must be even"},
        {"rope.dimension_count", GGUF_U32, 18, E_FORMAT, "at most the head's width 16"},
        {"rope.scaling.factor", GGUF_F32, -1000000, E_FORMAT,
         "'llama.rope.scaling.factor' is -1; it cannot be negative"},
        {"rope.freq_base", GGUF_U32, 10000, E_FORMAT,
         "'llama.rope.freq_base' is of type u32; a float is needed"},
        {"expert_used_count", GGUF_U32, 2, E_FORMAT,
         "'llama.expert_used_count' is 2; between 1 and all of the 0"},
        {"expert_count", GGUF_U32, 8, E_FORMAT,
         "'llama.expert_used_count' is 0; between 1 and all of the 8"},
        {"expert_count", GGUF_U32, 100000, E_LIMIT,
         "'llama.expert_count' is 100000; berth's limit is 4096"},
        {"vocab_size", GGUF_U32, 1 << 30, E_LIMIT, "'llama.vocab_size' is 1073741824"},
        {"rope.scaling.finetuned", GGUF_U32, 1, E_FORMAT,
         "'llama.rope.scaling.finetuned' is of type u32; a bool"},
    };
    struct gguf_build b;
    char key[128];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        build_init(&b);
        build_llama(&b);
        snprintf(key, sizeof(key), "llama.%s", cases[i].key);
        if (cases[i].type == GGUF_F32)
            build_kv_f32(&b, key, (float)cases[i].value / 1e6f);
        else
            build_kv_int(&b, key, cases[i].type, cases[i].value);
        refused(&b, cases[i].code, cases[i].says);
    }
    build_init(&b);
    build_llama(&b);
    build_kv_f32(&b, "llama.attention.scale", NAN);
    refused(&b, E_FORMAT, "'llama.attention.scale' is not a finite number");
    build_init(&b);
    build_llama(&b);
    build_kv_str(&b, "llama.rope.scaling.type", "su");
    refused(&b, E_UNSUPPORTED,
            "'llama.rope.scaling.type' is 'su'; none, linear, yarn and longrope are known");
    build_init(&b);
    build_llama(&b);
    build_kv_array(&b, "llama.attention.head_count_kv", GGUF_U32, 1);
    build_u32(&b.values, 4);
    refused(&b, E_FORMAT,
            "'llama.attention.head_count_kv' is an array of 1 items; one number for each of the 2 "
            "layers");
    build_init(&b);
    build_llama(&b);
    build_kv_array(&b, "llama.attention.head_count_kv", GGUF_U32, 2);
    build_u64(&b.values, 4);
    refused(&b, E_UNSUPPORTED,
            "'llama.attention.head_count_kv' is 0 for layer 1: layers without attention");
    build_init(&b);
    build_llama(&b);
    build_kv_array(&b, "llama.attention.sliding_window_pattern", GGUF_F32, 2);
    build_u64(&b.values, 4);
    refused(&b, E_FORMAT,
            "'llama.attention.sliding_window_pattern' is an array of 2 items; one number");
}

/* llama's keys with key left out or, where value is not negative, changed to it. */
static void build_changed(struct gguf_build *b, const char *key, int64_t value)
{
    static const char *const keys[] = {"llama.block_count",          "llama.embedding_length",
                                       "llama.context_length",       "llama.feed_forward_length",
                                       "llama.attention.head_count", "llama.vocab_size"};
    static const uint32_t values[] = {2, 64, 128, 96, 4, 4};
    build_init(b);
    if (strcmp(key, "general.architecture") != 0)
        build_kv_str(b, "general.architecture", "llama");
    if (strcmp(key, "epsilon") != 0)
        build_kv_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcmp(key, keys[i]) != 0)
            build_kv_u32(b, keys[i], values[i]);
        else if (value >= 0)
            build_kv_int(b, key, GGUF_U64, value);
    }
}

static void needed_keys_are_needed(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int64_t value;
        int code;
        const char *says;
    } cases[] = {
        {"llama.block_count", -1, E_FORMAT,
         "'llama.block_count' is missing; it must be at least 1"},
        {"llama.block_count", 0, E_FORMAT, "'llama.block_count' is 0; it must be at least 1"},
        {"llama.block_count", 1000000000, E_LIMIT,
         "'llama.block_count' is 1000000000; berth's limit is 1024"},
        {"llama.block_count", 4294967297, E_LIMIT, "'llama.block_count' is 4294967297"},
        {"llama.embedding_length", -1, E_FORMAT, "'llama.embedding_length' is missing"},
        {"llama.embedding_length", 66, E_FORMAT,
         "the embedding of 66 cannot be shared out among 4 heads"},
        {"llama.context_length", 0, E_FORMAT, "'llama.context_length' is 0"},
        {"llama.context_length", 1ll << 32, E_LIMIT, "'llama.context_length' is 4294967296"},
        {"llama.feed_forward_length", -1, E_FORMAT, "'llama.feed_forward_length' is missing or 0"},
        {"llama.attention.head_count", -1, E_FORMAT, "'llama.attention.head_count' is missing"},
        {"llama.attention.head_count", 0, E_FORMAT, "'llama.attention.head_count' is 0"},
        {"llama.attention.head_count", 1000000, E_LIMIT, "'llama.attention.head_count' is 1000000"},
        {"llama.vocab_size", -1, E_FORMAT, "the file has no vocabulary"},
        {"general.architecture", -1, E_FORMAT, "'general.architecture' is missing"},
        {"epsilon", -1, E_FORMAT, "'llama.attention.layer_norm_rms_epsilon' are both missing"},
    };
    struct gguf_build b;
    struct hparams h;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        build_changed(&b, cases[i].key, cases[i].value);
        refused(&b, cases[i].code, cases[i].says);
    }
    build_changed(&b, "llama.vocab_size", -1);
    build_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (const uint64_t[]){64, 11});
    read_ok(&b, &h);
    assert_int_equal(h.n_vocab, 11); /* the embedding's rows, for want of anything better */
    hparams_release(&h);
    build_changed(&b, "general.architecture", -1);
    build_kv_str(&b, "general.architecture", "../llama");
    refused(&b, E_FORMAT, "'general.architecture' is '../llama', which is no architecture's name");
    build_changed(&b, "", -1);
    build_kv_str(&b, "general.type", "adapter");
    refused(&b, E_UNSUPPORTED, "general.type 'adapter'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_file_gets_the_defaults),
        cmocka_unit_test(zero_means_unset),
        cmocka_unit_test(every_integer_width_serves),
        cmocka_unit_test(per_layer_arrays),
        cmocka_unit_test(scaling_and_windows),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(needed_keys_are_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
