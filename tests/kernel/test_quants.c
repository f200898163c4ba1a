/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights read as gguf-py reads them (tests/data/quants), and the conversions between float
 * and half. */
#include <float.h>

#include "tests/kernel/kernel_test.h"
#include "worker/kernel/blocks.h"

enum { N = 1024 };

static size_t read_vectors(const char *name, unsigned char *buf, size_t max)
{
    char path[128];
    snprintf(path, sizeof(path), "tests/data/quants/%s.bin", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s: run from the repository's root", path);
    size_t n = fread(buf, 1, max, f);
    fclose(f);
    return n;
}

static void golden_rows(const struct kern *k, const struct kern *ref UNUSED)
{
    static unsigned char buf[16 * N];
    for (size_t i = 1; i < ARRAY_LEN(all_weights); i++) { /* F32 needs no vectors */
        enum dtype type = all_weights[i];
        const struct dtype_info *info = dtype_info(type);
        size_t packed = dtype_row_bytes(info, N);
        float want[N];
        assert_int_equal(read_vectors(info->name, buf, sizeof(buf)), packed + sizeof(want));
        memcpy(want, buf + packed, sizeof(want));
        struct guarded out, in;
        float *y = guarded_new(&out, sizeof(want), 4);
        memcpy(guarded_new(&in, packed, 1), buf, packed);
        k->dequant[type](in.base + GUARD + 1, y, N);
        for (int e = 0; e < N; e++)
            if (f32_bits(y[e]) != f32_bits(want[e]) && (y[e] != 0 || want[e] != 0))
                fail_msg("%s %s element %d: %a, not %a", k->level, info->name, e, (double)y[e],
                         (double)want[e]);
        guarded_free(&out);
        guarded_free(&in);
    }
}

static void rows_read_as_the_format_says(void **state)
{
    (void)state;
    for_levels(golden_rows);
}

static void random_rows(const struct kern *k, const struct kern *ref UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        enum dtype type = all_weights[i];
        const struct dtype_info *info = dtype_info(type);
        for (uint32_t blocks = 1; blocks < 40; blocks += 1 + blocks / 4) {
            uint32_t n = blocks * info->block_elements;
            struct guarded in, a, b;
            void *src = guarded_new(&in, dtype_row_bytes(info, n), 3);
            float *y = guarded_new(&a, 4 * (size_t)n, 4);
            float *want = guarded_new(&b, 4 * (size_t)n, 0);
            weights_random(type, src, dtype_row_bytes(info, n));
            k->dequant[type](src, y, n);
            ref->dequant[type](src, want, n);
            assert_memory_equal(y, want, 4 * (size_t)n);
            guarded_free(&in);
            guarded_free(&a);
            guarded_free(&b);
        }
    }
}

static void rows_of_any_length_match_ref(void **state)
{
    (void)state;
    for_levels(random_rows);
}

static void every_half_survives_the_way_to_float_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f32_from_f16((uint16_t)h);
        uint32_t e = h >> 10 & 31, m = h & 1023;
        if (e == 31 && m) {
            assert_true(isnan(f));
            assert_int_equal(f16_from_f32(f), h | 0x200);
            continue;
        }
        double want = e == 31 ? INFINITY : e ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24);
        assert_true((double)f == (h & 0x8000 ? -want : want));
        assert_int_equal(f16_from_f32(f), h);
    }
}

/* Between two neighbouring halves: the middle goes to the even one, anything else to the nearer. */
static void floats_round_to_the_nearest_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float lo = f32_from_f16((uint16_t)h), hi = f32_from_f16((uint16_t)(h + 1)),
              mid = (lo + hi) / 2;
        assert_int_equal(f16_from_f32(mid), h + (h & 1));
        assert_int_equal(f16_from_f32(nextafterf(mid, 0)), h);
        assert_int_equal(f16_from_f32(-nextafterf(mid, 1e6f)), (h + 1) | 0x8000);
    }
    assert_int_equal(f16_from_f32(65519.996f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(3e38f), 0x7c00);
    assert_int_equal(f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(f16_from_f32(1e-40f), 0);
}

static void unknown_levels_are_refused_by_name(void **state)
{
    (void)state;
    struct kern k;
    struct err err = ERR_INIT;
    assert_int_equal(kern_init(&k, "avx9000", &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "avx9000"));
    assert_non_null(strstr(err.msg, "ref"));
    assert_int_equal(kern_init(&k, "", &err), -E_INVALID);
    const char *names[16];
    int n = kern_levels(names);
    assert_true(n >= 1);
    assert_int_equal(kern_init(&k, NULL, &err), 0);
    assert_string_equal(k.level, names[n - 1]);
    assert_int_equal(kern_init(&k, names[0], &err), 0);
    assert_string_equal(k.level, "ref");
}

static void slots(const struct kern *k, const struct kern *ref UNUSED)
{
    for (uint32_t t = 0; t < DTYPE_N; t++) {
        bool is_weight = dtype_info(t)->name && dtype_info(t)->is_weight;
        assert_int_equal(k->matmul[t] != NULL, is_weight);
        assert_int_equal(k->dequant[t] != NULL, is_weight);
        if (is_weight)
            assert_true(dtype_info(t)->block_elements > 1
                            ? k->act_for[t] == (has_tiles(k) ? ACT_BF16 : ACT_Q8)
                        : t == DTYPE_BF16 || t == DTYPE_F16
                            ? k->act_for[t] == ACT_F32 || k->act_for[t] == ACT_BF16
                            : k->act_for[t] == ACT_F32);
    }
    for (int format = 0; format < ACT_N; format++)
        assert_non_null(k->act_prepare[format]);
    assert_true(k->rms_norm && k->layer_norm && k->add && k->scale && k->softcap && k->silu_mul &&
                k->gelu_mul && k->rope_norm && k->rope_neox);
    for (int t = 0; t < KV_N; t++)
        assert_true(k->kv_store_k[t] && k->kv_store_v[t] && k->attn[t] && k->attn_part[t]);
    assert_true(k->attn_join && k->argmax);
}

static void every_slot_is_filled(void **state)
{
    (void)state;
    for_levels(slots);
    assert_int_equal(kern_act_row_bytes(ACT_Q8, 32), 448);
    assert_int_equal(kern_act_row_bytes(ACT_Q8, 256), 448);
    assert_int_equal(kern_act_row_bytes(ACT_Q8, 288), 896);
    assert_int_equal(kern_act_row_bytes(ACT_F32, 1), 64);
    assert_int_equal(kern_act_row_bytes(ACT_F32, 16), 64);
    assert_int_equal(kern_act_row_bytes(ACT_BF16, 32), 64);
    assert_int_equal(kern_act_row_bytes(ACT_BF16, 33), 192); /* an odd number of lines */
    assert_int_equal(kern_act_row_bytes(ACT_BF16, 96), 192);
}

/* Activations as bfloat16: every kind of float, then zeros up to a multiple of 32. */
static void bf16_rows(const struct kern *k, const struct kern *ref UNUSED)
{
    static const float odd[] = {0,
                                -0.0f,
                                INFINITY,
                                -INFINITY,
                                NAN,
                                1e-40f,
                                -1e-45f,
                                3e38f,
                                FLT_MAX,
                                -FLT_MAX,
                                1 + 0x1p-8f,
                                1 + 0x3p-8f,
                                1 + 0x1.000002p-8f,
                                1 + 0x1.fffffep-9f,
                                FLT_MIN};
    for (uint32_t n = 1; n <= 545; n += n < 67 ? 1 : 239) {
        struct guarded in, out;
        float *x = guarded_new(&in, 4 * (size_t)n, 4);
        const size_t bytes = kern_act_row_bytes(ACT_BF16, n);
        uint16_t *y = guarded_new(&out, bytes, 0);
        fill_random(x, n, 1);
        for (uint32_t i = 0; i < n; i += 1 + rng() % 3)
            x[i] = odd[rng() % ARRAY_LEN(odd)];
        k->act_prepare[ACT_BF16](x, y, n);
        for (uint32_t i = 0; i < (n + 31) / 32 * 32; i++)
            assert_int_equal(y[i], i < n ? bf16_from_f32(x[i]) : 0);
        guarded_free(&in);
        guarded_free(&out);
    }
}

static void activations_round_to_the_nearest_bfloat16(void **state)
{
    (void)state;
    for_levels(bf16_rows);
    assert_int_equal(bf16_from_f32(1 + 0x1p-8f), 0x3f80); /* ties to even */
    assert_int_equal(bf16_from_f32(1 + 0x3p-8f), 0x3f82);
    assert_int_equal(bf16_from_f32(1 + 0x1.02p-8f), 0x3f81);
    assert_int_equal(bf16_from_f32(FLT_MAX), 0x7f80);
    assert_true(isnan(f32_from_bf16(bf16_from_f32(NAN))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_read_as_the_format_says),
        cmocka_unit_test(rows_of_any_length_match_ref),
        cmocka_unit_test(every_half_survives_the_way_to_float_and_back),
        cmocka_unit_test(floats_round_to_the_nearest_half),
        cmocka_unit_test(unknown_levels_are_refused_by_name),
        cmocka_unit_test(every_slot_is_filled),
        cmocka_unit_test(activations_round_to_the_nearest_bfloat16),
    };
    return cmocka_run_group_tests_name("quants", tests, NULL, NULL);
}
