/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that work on one row: on every level against ref (bit for bit where no exponential
 * takes part) and against arithmetic in double, for odd sizes, extreme values, outputs between
 * guard bytes, in place. */
#include "tests/kernel/kernel_test.h"
#include "worker/kernel/blocks.h"

static const uint32_t sizes[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 48, 64, 65, 576, 2048, 2049};
enum { MAX_N = 2049 };

/* What rows may hold: ordinary, tiny, huge, zeros, all of one sign, subnormal. */
static float a_value(int kind, uint32_t i)
{
    switch (kind) {
    case 0: return frand(-4, 4);
    case 1: return frand(-1, 1) * 1e-30f;
    case 2: return frand(-1, 1) * 1e15f;
    case 3: return 0;
    case 4: return i % 7 ? frand(0, 100) : -0.0f;
    case 5: return frand(-1, 1) * 1e-39f;
    case 6: return frand(-100, 100);
    default: return i % 5 == 0 ? 1e30f : frand(-1e-3f, 1e-3f);
    }
}
enum { KINDS = 8 };

static void fill_kind(float *x, uint32_t n, int kind)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = a_value(kind, i);
}

static void expect_bits(const struct kern *k, const char *slot, const float *y, const float *want,
                        uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (f32_bits(y[i]) != f32_bits(want[i]) && !(isnan(y[i]) && isnan(want[i])))
            fail_msg("%s %s, %u elements, number %u: %a, ref %a", k->level, slot, n, i,
                     (double)y[i], (double)want[i]);
}

static void expect_close(const struct kern *k, const char *slot, const float *y, const double *want,
                         uint32_t n, double rel, double abs_tol)
{
    for (uint32_t i = 0; i < n; i++)
        if (!close_to(y[i], want[i], rel, abs_tol))
            fail_msg("%s %s, %u elements, number %u: %a, exactly %a", k->level, slot, n, i,
                     (double)y[i], want[i]);
}

/* One row in, one out, for every size and kind; each body gets x, w (ordinary), b (ordinary), y,
 * want. */
struct io {
    struct guarded gx, gw, gb, gy, gz;
    float *x, *w, *b, *y, *want;
    uint32_t n;
};

static void io_init(struct io *io, uint32_t n, int kind)
{
    io->n = n;
    io->x = guarded_new(&io->gx, 4 * (size_t)n, 4);
    io->w = guarded_new(&io->gw, 4 * (size_t)n, 8);
    io->b = guarded_new(&io->gb, 4 * (size_t)n, 0);
    io->y = guarded_new(&io->gy, 4 * (size_t)n, 12);
    io->want = guarded_new(&io->gz, 4 * (size_t)n, 0);
    fill_kind(io->x, n, kind);
    fill_kind(io->w, n, 0);
    fill_kind(io->b, n, 0);
}

static void io_release(struct io *io)
{
    guarded_free(&io->gx);
    guarded_free(&io->gw);
    guarded_free(&io->gb);
    guarded_free(&io->gy);
    guarded_free(&io->gz);
}

static void exact_slots(const struct kern *k, const struct kern *ref, struct io *io)
{
    uint32_t n = io->n;
#define SAME(slot, ...)                                                                            \
    do {                                                                                           \
        ref->slot(__VA_ARGS__, io->want, n);                                                       \
        k->slot(__VA_ARGS__, io->y, n);                                                            \
        expect_bits(k, #slot, io->y, io->want, n);                                                 \
    } while (0)
    SAME(add, io->x, io->w);
    SAME(scale, io->x, 0.3f);
    SAME(rms_norm, io->x, io->w, 1e-5f);
    SAME(rms_norm, io->x, NULL, 1e-6f);
    SAME(layer_norm, io->x, io->w, io->b, 1e-5f);
    SAME(layer_norm, io->x, NULL, NULL, 1e-5f);
#undef SAME
    memcpy(io->y, io->x, 4 * (size_t)n); /* in place */
    ref->rms_norm(io->x, io->w, 1e-5f, io->want, n);
    k->rms_norm(io->y, io->w, 1e-5f, io->y, n);
    expect_bits(k, "rms_norm in place", io->y, io->want, n);
}

static void exact_sizes(const struct kern *k, const struct kern *ref)
{
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct io io;
            io_init(&io, sizes[s], kind);
            exact_slots(k, ref, &io);
            io_release(&io);
        }
}

static void norms_and_sums_match_ref_bit_for_bit(void **state)
{
    (void)state;
    for_levels(exact_sizes);
}

static void norm_values(const struct kern *k, const struct kern *ref UNUSED)
{
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct io io;
        double want[MAX_N], sum = 0, mean = 0, var = 0;
        io_init(&io, sizes[s], 0);
        for (uint32_t i = 0; i < io.n; i++) {
            sum += (double)io.x[i] * io.x[i];
            mean += (double)io.x[i] / io.n;
        }
        for (uint32_t i = 0; i < io.n; i++) {
            var += (io.x[i] - mean) * (io.x[i] - mean) / io.n;
            want[i] = io.x[i] / sqrt(sum / io.n + 1e-5) * io.w[i];
        }
        k->rms_norm(io.x, io.w, 1e-5f, io.y, io.n);
        expect_close(k, "rms_norm", io.y, want, io.n, 1e-6, 0);
        for (uint32_t i = 0; i < io.n; i++)
            want[i] = (io.x[i] - mean) / sqrt(var + 1e-3) * io.w[i] + io.b[i];
        k->layer_norm(io.x, io.w, io.b, 1e-3f, io.y, io.n);
        expect_close(k, "layer_norm", io.y, want, io.n, 0, io.n < 3 ? 1e-4 : 1e-5);
        io_release(&io);
    }
}

static void norms_match_arithmetic(void **state)
{
    (void)state;
    for_levels(norm_values);
}

/* Relative error of a few units in the last place over the whole range, against double. */
static void curve_slots(const struct kern *k, struct io *io)
{
    static double want[MAX_N];
    uint32_t n = io->n;
    for (uint32_t i = 0; i < n; i++)
        want[i] = io->x[i] / (1 + exp(-(double)io->x[i])) * io->w[i];
    k->silu_mul(io->x, io->w, io->y, n);
    expect_close(k, "silu_mul", io->y, want, n, 5e-7, 1e-35); /* past exp 88.7 it is 0 */
    for (uint32_t i = 0; i < n; i++) {
        double x = io->x[i], u = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        want[i] = x / (1 + exp(-2 * u)) * io->w[i];
    }
    k->gelu_mul(io->x, io->w, io->y, n);
    /* the exponent of exp, up to 88, carries float's rounding into a relative error of 88 * 2^-23
     */
    for (uint32_t i = 0; i < n; i++) {
        double x = io->x[i], u2 = 2 * sqrt(2 / M_PI) * fabs(x + 0.044715 * x * x * x);
        if (!close_to(io->y[i], want[i], 5e-7 + 3e-7 * fmin(u2, 90), 1e-35))
            fail_msg("%s gelu_mul(%a): %a, exactly %a", k->level, x, (double)io->y[i], want[i]);
    }
    float cap = 30;
    for (uint32_t i = 0; i < n; i++)
        want[i] = cap * tanh((double)io->x[i] / cap);
    k->softcap(io->x, cap, io->y, n);
    expect_close(k, "softcap", io->y, want, n, 4e-7, 1e-38);
}

static void curve_sizes(const struct kern *k, const struct kern *ref UNUSED)
{
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct io io;
            io_init(&io, sizes[s], kind);
            curve_slots(k, &io);
            io_release(&io);
        }
    struct io io; /* a fine grid over where things happen */
    for (float from = -110; from < 110; from += 2) {
        io_init(&io, MAX_N, 0);
        for (uint32_t i = 0; i < MAX_N; i++)
            io.x[i] = from + 2.0f * (float)i / MAX_N;
        curve_slots(k, &io);
        io_release(&io);
    }
}

static void curves_match_arithmetic(void **state)
{
    (void)state;
    for_levels(curve_sizes);
}

static void odd_curves(const struct kern *k, const struct kern *ref)
{
    float x[8] = {INFINITY, -INFINITY, NAN, 0.0f, -0.0f, 3e38f, -3e38f, 1e-45f}, ones[8], y[8],
          want[8];
    for (int i = 0; i < 8; i++)
        ones[i] = 1;
    for (int slot = 0; slot < 3; slot++) {
        for (int which = 0; which < 2; which++) {
            const struct kern *t = which ? k : ref;
            float *out = which ? y : want;
            if (slot == 0)
                t->silu_mul(x, ones, out, 8);
            else if (slot == 1)
                t->gelu_mul(x, ones, out, 8);
            else
                t->softcap(x, 30, out, 8);
        }
        for (int i = 0; i < 8; i++)
            if (!close_to(y[i], want[i], 3e-7, 1e-37))
                fail_msg("%s slot %d of %a: %a, ref %a", k->level, slot, (double)x[i], (double)y[i],
                         (double)want[i]);
    }
}

static void curves_take_infinities_and_nan(void **state)
{
    (void)state;
    for_levels(odd_curves);
}

static void block_values(const struct kern *k, const float *x, uint32_t n, struct io *io)
{
    float maxima[MAX_N / KERN_ROW_BLOCK + 1], sums[MAX_N / KERN_ROW_BLOCK + 1], max = -INFINITY;
    assert_true(k->block_max(x, n, maxima));
    for (uint32_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    k->exp_blocks(x, max, 0.7f, io->y, sums, n);
    for (uint32_t b = 0; b * KERN_ROW_BLOCK < n; b++) {
        float largest = -INFINITY;
        double sum = 0;
        for (uint32_t i = b * KERN_ROW_BLOCK; i < n && i < (b + 1) * KERN_ROW_BLOCK; i++) {
            const float u = (x[i] - max) / 0.7f;
            largest = fmaxf(largest, x[i]);
            if (!(u < -87.0f ? io->y[i] == 0 : close_to(io->y[i], exp((double)u), 3e-7, 0)))
                fail_msg("%s exp_blocks(%a): %a, exactly %a", k->level, (double)u, (double)io->y[i],
                         exp((double)u));
            sum += (double)io->y[i];
        }
        assert_true(maxima[b] == largest);
        assert_true(close_to(sums[b], sum, 1e-6, 0));
    }
    k->exp_blocks(x, max, 0.7f, io->w, sums, n / 2); /* whatever comes after it */
    assert_memory_equal(io->w, io->y, n / 2 * sizeof(float));
}

static void block_sizes(const struct kern *k, const struct kern *ref UNUSED)
{
    static const uint32_t more[] = {127, 128, 129, 143, 144, 145, 255, 256, 257};
    for (size_t s = 0; s < ARRAY_LEN(sizes) + ARRAY_LEN(more); s++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct io io;
            io_init(&io, s < ARRAY_LEN(sizes) ? sizes[s] : more[s - ARRAY_LEN(sizes)], kind);
            block_values(k, io.x, io.n, &io);
            io.x[rng() % io.n] = -INFINITY;
            if (io.n > 1)
                block_values(k, io.x, io.n, &io);
            static const float bad[] = {NAN, INFINITY};
            for (int i = 0; i < 20; i++) {
                float *odd = &io.x[i < 2 ? io.n - 1 : rng() % io.n], was = *odd;
                *odd = bad[i % 2];
                float maxima[MAX_N / KERN_ROW_BLOCK + 1];
                assert_false(k->block_max(io.x, io.n, maxima));
                *odd = was;
            }
            io_release(&io);
        }
}

static void blocks_of_long_rows(void **state)
{
    (void)state;
    for_levels(block_sizes);
}

static void rope_sizes(const struct kern *k, const struct kern *ref)
{
    for (uint32_t n_rot = 2; n_rot <= 260; n_rot += n_rot < 70 ? 2 : 38) {
        float cs[320], x[320], *y;
        struct guarded gy, gw;
        float *want = guarded_new(&gw, 4 * 320, 0);
        fill_random(x, 320, 1);
        for (uint32_t i = 0; i < n_rot; i += 2) {
            cs[i] = cosf((float)i);
            cs[i + 1] = sinf((float)i);
        }
        y = guarded_new(&gy, 4 * 320, 4);
        for (int neox = 0; neox < 2; neox++) {
            memcpy(y, x, 4 * 320);
            memcpy(want, x, 4 * 320);
            (neox ? k->rope_neox : k->rope_norm)(y, cs, n_rot);
            (neox ? ref->rope_neox : ref->rope_norm)(want, cs, n_rot);
            expect_bits(k, neox ? "rope_neox" : "rope_norm", y, want, 320);
            for (uint32_t i = 0; i < n_rot / 2; i++) {
                uint32_t a = neox ? i : 2 * i, b = neox ? i + n_rot / 2 : 2 * i + 1;
                double c = cs[2 * i], s = cs[2 * i + 1];
                assert_true(close_to(y[a], x[a] * c - x[b] * s, 0, 1e-6));
                assert_true(close_to(y[b], x[a] * s + x[b] * c, 0, 1e-6));
            }
            assert_memory_equal(y + n_rot, x + n_rot, 4 * (320 - n_rot));
        }
        guarded_free(&gy);
        guarded_free(&gw);
    }
}

static void rope_rotates_pairs(void **state)
{
    (void)state;
    for_levels(rope_sizes);
}

static void store_sizes(const struct kern *k, const struct kern *ref)
{
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        uint32_t n = sizes[s];
        for (int kind = 0; kind <= KINDS; kind++) {
            float x[MAX_N], wide[MAX_N];
            struct guarded g16;
            uint16_t want[MAX_N], *y = guarded_new(&g16, 2 * (size_t)n, 2);
            fill_kind(x, n, kind);
            if (kind == KINDS) /* any bits: NaN, halves' subnormals, ties */
                for (uint32_t i = 0; i < n; i++)
                    x[i] = i % 3 ? f32_from_bits(rng())
                                 : f32_from_f16((uint16_t)rng()) * (1 + 0x1p-11f);
            k->kv_store_v[KV_F16](x, y, n);
            ref->kv_store_v[KV_F16](x, want, n);
            assert_memory_equal(y, want, 2 * (size_t)n);
            k->dequant[DTYPE_F16](y, wide, n);
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(f32_bits(wide[i]), f32_bits(f32_from_f16(want[i])));
            guarded_free(&g16);
        }
    }
}

static void cache_rows_round_to_nearest_even(void **state)
{
    (void)state;
    for_levels(store_sizes);
}

static void act_sizes(const struct kern *k, const struct kern *ref)
{
    for (uint32_t n = 32; n <= 1024; n += n < 320 ? 32 : 352) {
        for (int kind = 0; kind <= KINDS; kind++) {
            float x[1024];
            size_t bytes = kern_act_row_bytes(ACT_Q8, n);
            struct guarded gy, gw;
            struct act_q8 *y = guarded_new(&gy, bytes, 0), *want = guarded_new(&gw, bytes, 0);
            fill_kind(x, n, kind);
            if (kind == KINDS) {
                x[rng() % n] = NAN;
                x[rng() % n] = -INFINITY;
            }
            k->act_prepare[ACT_Q8](x, y, n);
            ref->act_prepare[ACT_Q8](x, want, n);
            assert_memory_equal(y, want, bytes);
            for (uint32_t c = 0; c < n; c++) {
                const struct act_q8 *g = want + c / 256;
                float d = g->d[c % 256 / 32];
                if (!isnan(d))
                    assert_true(close_to((double)d * g->q[act_q8_at(c)], x[c], 0,
                                         0.5001 * (double)d + 1e-30));
            }
            guarded_free(&gy);
            guarded_free(&gw);
        }
    }
}

static void activations_round_to_the_nearest_of_255(void **state)
{
    (void)state;
    for_levels(act_sizes);
}

static void act_halves(const struct kern *k, const struct kern *ref UNUSED)
{
    float x[32] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
    _Alignas(64) struct act_q8 g;
    k->act_prepare[ACT_Q8](x, &g, 32);
    const int want[6] = {127, 0, 2, 2, 0, -2};
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(g.q[act_q8_at(i)], want[i]);
    assert_true(g.d[0] == 1.0f);
    assert_int_equal(g.sum[0], 127 + 2 + 2 - 2);
    assert_int_equal(g.sum[1], 0);
}

static void activations_round_ties_to_even(void **state)
{
    (void)state;
    for_levels(act_halves);
}

static void argmax_sizes(const struct kern *k, const struct kern *ref)
{
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        uint32_t n = sizes[s];
        for (int round = 0; round < 20; round++) {
            struct guarded g;
            float *x = guarded_new(&g, 4 * (size_t)n, 4);
            for (uint32_t i = 0; i < n; i++)
                x[i] = round < 10 ? frand(-1, 1) : (float)(int)(rng() % 5) - 9; /* ties */
            if (round % 3 == 1)
                x[rng() % n] = NAN;
            if (round % 7 == 2)
                x[rng() % n] = INFINITY;
            for (uint32_t i = 0; i < n && round == 19; i++)
                x[i] = i % 2 ? NAN : -INFINITY;
            assert_int_equal(k->argmax(x, n), ref->argmax(x, n));
            guarded_free(&g);
        }
    }
    float x[40] = {0};
    x[21] = x[38] = 5;
    assert_int_equal(k->argmax(x, 40), 21);
}

static void argmax_is_the_first_of_equals(void **state)
{
    (void)state;
    for_levels(argmax_sizes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_and_sums_match_ref_bit_for_bit),
        cmocka_unit_test(norms_match_arithmetic),
        cmocka_unit_test(curves_match_arithmetic),
        cmocka_unit_test(curves_take_infinities_and_nan),
        cmocka_unit_test(blocks_of_long_rows),
        cmocka_unit_test(rope_rotates_pairs),
        cmocka_unit_test(cache_rows_round_to_nearest_even),
        cmocka_unit_test(activations_round_to_the_nearest_of_255),
        cmocka_unit_test(activations_round_ties_to_even),
        cmocka_unit_test(argmax_is_the_first_of_equals),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
