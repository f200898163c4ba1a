/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of every weight type on every level: against arithmetic in double, against ref
 * (bit for bit for quantised weights), and the static contract: no value depends on the batch, the
 * split of rows or the address. */
#include "tests/kernel/kernel_test.h"
#include "worker/kernel/blocks.h"

/* Rows: two panels and a part of one, for kernels that take them so. */
enum { ROWS = 41, LD = 45, MAX_TOK = 100 };

/* One random problem and ref's answer. */
struct problem {
    enum dtype type;
    uint32_t n_cols, n_tok;
    struct guarded data;
    struct kern_mat w;
    struct kern_act x;
    void *act;
    float *src; /* [n_tok][n_cols] */
    float want[MAX_TOK * LD];
};

/* Activations as they will be after k rounds them, so that ref sees the same. */
static void round_as(const struct kern *k, enum dtype type, float *x, size_t n)
{
    if (k->act_for[type] == ACT_BF16)
        for (size_t i = 0; i < n; i++)
            x[i] = f32_from_bf16(bf16_from_f32(x[i]));
}

static void act_init(struct problem *p, const struct kern *k, struct kern_act *x, void **ret_act)
{
    struct err err = ERR_INIT;
    const enum act_format format = k->act_for[p->type];
    const size_t bytes = kern_act_row_bytes(format, p->n_cols);
    if (!*ret_act)
        *ret_act = mem_try_aligned(bytes * p->n_tok, &err);
    assert_non_null(*ret_act);
    for (uint32_t t = 0; t < p->n_tok; t++)
        k->act_prepare[format](p->src + (size_t)t * p->n_cols, (char *)*ret_act + t * bytes,
                               p->n_cols);
    *x = (struct kern_act){format, p->n_tok, p->n_cols, bytes, *ret_act};
}

/* Anew after p->src changed, too. */
static void problem_solve(struct problem *p, const struct kern *k, const struct kern *ref)
{
    struct kern_act x;
    void *act = NULL;
    round_as(k, p->type, p->src, (size_t)p->n_cols * p->n_tok);
    act_init(p, ref, &x, &act);
    ref->matmul[p->type](&p->w, 0, ROWS, &x, p->want, LD);
    mem_free(act);
    act_init(p, k, &p->x, &p->act);
}

static void problem_init(struct problem *p, const struct kern *k, const struct kern *ref,
                         enum dtype type, uint32_t n_cols, uint32_t n_tok, float scale,
                         bool garbage)
{
    struct err err = ERR_INIT;
    const struct dtype_info *info = dtype_info(type);
    size_t row_bytes = dtype_row_bytes(info, n_cols);
    p->type = type;
    p->n_cols = n_cols;
    p->n_tok = n_tok;
    void *data = guarded_new(&p->data, ROWS * row_bytes, info->block_elements == 1 ? 0 : 1);
    weights_random(type, data, ROWS * row_bytes);
    if (garbage)
        for (size_t i = 0; i < ROWS * row_bytes; i++)
            ((unsigned char *)data)[i] = (unsigned char)(i < 2 * row_bytes ? 0xff : rng());
    p->w = (struct kern_mat){type, ROWS, n_cols, row_bytes, data, NULL};
    p->src = mem_try_aligned(sizeof(float) * n_cols * n_tok, &err);
    fill_random(p->src, (size_t)n_cols * n_tok, scale);
    p->act = NULL;
    problem_solve(p, k, ref);
}

static void problem_release(struct problem *p)
{
    guarded_free(&p->data);
    mem_free(p->src);
    mem_free(p->act);
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* x as the product sees it: after rounding to 8 bits, if it is. */
static double act_value(const struct problem *p, uint32_t t, uint32_t c)
{
    const char *row = (const char *)p->x.rows + t * p->x.row_bytes;
    if (p->x.format == ACT_F32)
        return ((const float *)row)[c];
    if (p->x.format == ACT_BF16)
        return f32_from_bf16(((const uint16_t *)row)[c]);
    const struct act_q8 *g = (const struct act_q8 *)row + c / 256;
    return (double)g->d[c % 256 / 32] * g->q[act_q8_at(c)];
}

/* sum_c w x and sum_c |w x| in double. */
static double exact(const struct problem *p, const float *w, uint32_t t, double *ret_abs)
{
    double sum = 0, abs_sum = 0;
    for (uint32_t c = 0; c < p->n_cols; c++) {
        double v = w[c] * act_value(p, t, c);
        sum += v;
        abs_sum += fabs(v);
    }
    *ret_abs = abs_sum;
    return sum;
}

/* Where a type has mins, terms larger than the sum cancel. */
static const double cancel = 8;

static void check_value(const struct kern *k, const struct problem *p, uint32_t r, uint32_t t,
                        float y, double sum, double abs_sum)
{
    float want = p->want[t * LD + r];
    const char *name = dtype_info(p->type)->name;
    bool same_bits = dtype_info(p->type)->block_elements > 1;
    if (!close_to(y, sum, 0, cancel * 2e-7 * abs_sum + 1e-30))
        fail_msg("%s %s %u columns, row %u token %u: %a, exactly %a", k->level, name, p->n_cols, r,
                 t, (double)y, sum);
    if (same_bits ? !same(y, want) : !close_to(y, want, 0, 2e-7 * abs_sum + 1e-37))
        fail_msg("%s %s %u columns, row %u token %u: %a, ref %a", k->level, name, p->n_cols, r, t,
                 (double)y, (double)want);
}

static void check_all(const struct kern *k, const struct kern *ref, const struct problem *p)
{
    struct guarded out;
    struct err err = ERR_INIT;
    float *y = guarded_new(&out, sizeof(float) * (LD * (p->n_tok - 1) + ROWS), 4);
    float *w = mem_try_aligned(sizeof(float) * p->n_cols, &err);
    k->matmul[p->type](&p->w, 0, ROWS, &p->x, y, LD);
    for (uint32_t r = 0; r < ROWS; r++) {
        ref->dequant[p->type]((const char *)p->w.data + r * p->w.row_bytes, w, p->n_cols);
        for (uint32_t t = 0; t < p->n_tok; t++) {
            double abs_sum, sum = exact(p, w, t, &abs_sum);
            check_value(k, p, r, t, y[t * LD + r], sum, abs_sum);
        }
    }
    for (uint32_t t = 0; t + 1 < p->n_tok; t++) /* between the rows of y nothing is written */
        for (uint32_t r = ROWS; r < LD; r++) {
            uint32_t u;
            memcpy(&u, &y[t * LD + r], 4);
            assert_int_equal(u, GUARD_BYTE * 0x01010101u);
        }
    mem_free(w);
    guarded_free(&out);
}

static const uint32_t float_cols[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 576, 2048};
static const uint32_t quant_cols[] = {32, 64, 96, 224, 256, 288, 576, 1056, 2048, 2400};

/* The i-th width to try for a type, 0 when there are no more. */
static uint32_t width(enum dtype type, size_t i)
{
    switch (dtype_info(type)->block_elements) {
    case 1: return i < ARRAY_LEN(float_cols) ? float_cols[i] : 0;
    case 32: return i < ARRAY_LEN(quant_cols) ? quant_cols[i] : 0;
    default: return i < 4 ? (uint32_t[]){256, 512, 1280, 2048}[i] : 0;
    }
}

static void all_types(const struct kern *k, const struct kern *ref)
{
    static const uint32_t toks[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        for (size_t c = 0; width(all_weights[i], c); c++) {
            static struct problem p;
            problem_init(&p, k, ref, all_weights[i], width(all_weights[i], c),
                         toks[(i + c) % ARRAY_LEN(toks)], 1, false);
            check_all(k, ref, &p);
            problem_release(&p);
        }
    }
}

static void products_match_arithmetic_and_ref(void **state)
{
    (void)state;
    for_levels(all_types);
}

/* One call for all against every token alone and every cut of the rows: the same bytes. */
static void cuts(const struct kern *k, const struct kern *ref)
{
    const bool trapped = strcmp(k->level, "amx-trapped") == 0; /* each instruction a signal */
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD], part[MAX_TOK * LD];
        enum dtype type = all_weights[i];
        problem_init(&p, k, ref, type, dtype_info(type)->block_elements == 1 ? 83 : 512, MAX_TOK, 1,
                     false);
        k->matmul[type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t r0 = 0; r0 < ROWS; r0 += 3) {
            for (uint32_t r1 = r0 + 1; r1 <= ROWS; r1 += trapped ? 19 : 5) {
                uint32_t t0 = rng() % MAX_TOK, n = 1 + rng() % (MAX_TOK - t0);
                struct kern_act x = p.x;
                x.rows = (const char *)x.rows + t0 * x.row_bytes;
                x.n_tok = n;
                k->matmul[type](&p.w, r0, r1, &x, part, LD);
                for (uint32_t t = 0; t < n; t++)
                    if (memcmp(part + t * LD, y + (t0 + t) * LD + r0, 4 * (r1 - r0)) != 0)
                        fail_msg(
                            "%s %s: rows %u to %u, token %u in a batch of %u differ from the whole",
                            k->level, dtype_info(type)->name, r0, r1, t0 + t, n);
            }
        }
        problem_release(&p);
    }
}

static void values_do_not_depend_on_batch_or_rows(void **state)
{
    (void)state;
    for_levels(cuts);
}

/* The value of row r for token t, written out: column c adds to lane c % 16 by a fused
 * multiply-add, in ascending order; then lane l takes in lane l + half. */
static float in_order(const float *w, const float *x, uint32_t n_cols)
{
    float lane[16] = {0};
    for (uint32_t c = 0; c < n_cols; c++)
        lane[c % 16] = fmaf(w[c], x[c], lane[c % 16]);
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static void check_order(const struct kern *k, const struct problem *p, uint32_t r0, uint32_t r1)
{
    static float y[MAX_TOK * LD];
    struct err err = ERR_INIT;
    float *w = mem_try_aligned(sizeof(float) * p->n_cols, &err);
    k->matmul[p->type](&p->w, r0, r1, &p->x, y, LD);
    for (uint32_t r = r0; r < r1; r++) {
        k->dequant[p->type]((const char *)p->w.data + r * p->w.row_bytes, w, p->n_cols);
        for (uint32_t t = 0; t < p->n_tok; t++) {
            const float want = in_order(w, p->src + (size_t)t * p->n_cols, p->n_cols);
            if (!same(y[t * LD + (r - r0)], want))
                fail_msg("%s %s %u columns, rows %u to %u of %u tokens: row %u token %u is %a, in "
                         "order %a",
                         k->level, dtype_info(p->type)->name, p->n_cols, r0, r1, p->n_tok, r, t,
                         (double)y[t * LD + (r - r0)], (double)want);
        }
    }
    mem_free(w);
}

/* Float weights with activations in float32, bit for bit: every remainder of columns, every size of
 * a tile, rows cut anywhere, several chunks of columns and blocks of tokens. */
static void orders(const struct kern *k, const struct kern *ref)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const uint32_t toks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 64, 65, 100},
                          wide[] = {495, 512, 528, 1040, 1601};
    if (strcmp(k->level, "ref") == 0)
        return; /* its products are rounded before they are added */
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (k->act_for[types[i]] != ACT_F32)
            continue;
        for (uint32_t c = 1; c <= 33 + ARRAY_LEN(wide); c++) {
            for (size_t t = 0; t < ARRAY_LEN(toks); t++) {
                static struct problem p;
                if (c <= 33 && toks[t] > 9 && c % 8 > 1)
                    continue;
                problem_init(&p, k, ref, types[i], c <= 33 ? c : wide[c - 34], toks[t], 1, false);
                const uint32_t r0 = rng() % ROWS;
                check_order(k, &p, 0, ROWS);
                check_order(k, &p, r0, r0 + 1 + rng() % (ROWS - r0));
                problem_release(&p);
            }
        }
    }
}

static void float_weights_add_up_in_order(void **state)
{
    (void)state;
    for_levels(orders);
}

/* Rows too wide for what kernels keep of them at once: batches of several sizes, the same bytes. */
static void wide(const struct kern *k, const struct kern *ref)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0};
    static const uint32_t toks[] = {33, 32, 31, 17, 16, 15, 3, 1};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD], part[MAX_TOK * LD];
        problem_init(&p, k, ref, types[i], types[i] == DTYPE_Q4_0 ? 4512 : 4499, MAX_TOK, 1, false);
        k->matmul[types[i]](&p.w, 0, ROWS, &p.x, y, LD);
        for (size_t n = 0; n < ARRAY_LEN(toks); n++) {
            const uint32_t t0 = rng() % (MAX_TOK - toks[n] + 1);
            struct kern_act x = p.x;
            x.rows = (const char *)x.rows + t0 * x.row_bytes;
            x.n_tok = toks[n];
            k->matmul[types[i]](&p.w, 0, ROWS, &x, part, LD);
            for (uint32_t t = 0; t < toks[n]; t++)
                if (memcmp(part + t * LD, y + (t0 + t) * LD, 4 * ROWS) != 0)
                    fail_msg("%s %s: %u columns, token %u in a batch of %u differs from the whole",
                             k->level, dtype_info(types[i])->name, p.n_cols, t0 + t, toks[n]);
        }
        problem_release(&p);
    }
}

static void wide_rows_do_not_depend_on_batch(void **state)
{
    (void)state;
    for_levels(wide);
}

/* Each of the 65,536 halves, subnormal and infinite ones too, times 1. */
static void halves(const struct kern *k, const struct kern *ref)
{
    enum { N = 1 << 16, TOKS = 33 };
    struct err err = ERR_INIT;
    const enum act_format format = k->act_for[DTYPE_F16];
    const size_t act_bytes = kern_act_row_bytes(format, 1);
    uint16_t *w = mem_try_alloc(N, sizeof(*w), &err);
    char *act = mem_try_aligned(TOKS * act_bytes, &err);
    float *y = mem_try_aligned((size_t)TOKS * N * sizeof(*y), &err);
    for (uint32_t i = 0; i < N; i++)
        w[i] = (uint16_t)i;
    for (uint32_t t = 0; t < TOKS; t++)
        k->act_prepare[format](&(float){1}, act + t * act_bytes, 1);
    const struct kern_mat mat = {DTYPE_F16, N, 1, sizeof(*w), w, NULL};
    struct kern_act x = {format, TOKS, 1, act_bytes, act};
    (void)ref;
    for (; x.n_tok > 0; x.n_tok -= TOKS / 2) { /* 33, 17, 1 */
        k->matmul[DTYPE_F16](&mat, 0, N, &x, y, N);
        for (uint32_t i = 0; i < x.n_tok * N; i++) {
            const float want = f32_from_f16((uint16_t)(i % N));
            if (y[i] != want && !(isnan(y[i]) && isnan(want)))
                fail_msg("%s, %u tokens: half %#x is %a, not %a", k->level, x.n_tok, i % N,
                         (double)y[i], (double)want);
        }
        if (x.n_tok == 1)
            break;
    }
    mem_free(w);
    mem_free(act);
    mem_free(y);
}

static void every_half_is_itself(void **state)
{
    (void)state;
    for_levels(halves);
}

/* Bytes that no quantiser writes: infinite and NaN scales, largest integers. */
static void garbage(const struct kern *k, const struct kern *ref)
{
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        for (int round = 0; round < 8; round++) {
            /* A part of a group at the end of a row, if there may be: what follows is the next. */
            const bool part = round % 2 && dtype_info(all_weights[i])->block_elements == 32;
            const uint32_t n_tok = round < 4 ? 5 : 2;
            static struct problem p;
            static float y[MAX_TOK * LD];
            enum dtype type = all_weights[i];
            problem_init(&p, k, ref, type, part ? 480 : 512, n_tok,
                         (float[]){1, 1e30f, 1e-35f, 0}[round % 4], true);
            k->matmul[type](&p.w, 0, ROWS, &p.x, y, LD);
            for (uint32_t t = 0; t < n_tok && dtype_info(type)->block_elements > 1; t++)
                for (uint32_t r = 0; r < ROWS; r++)
                    if (!same(y[t * LD + r], p.want[t * LD + r]))
                        fail_msg("%s %s row %u token %u: %a, ref %a", k->level,
                                 dtype_info(type)->name, r, t, (double)y[t * LD + r],
                                 (double)p.want[t * LD + r]);
            problem_release(&p);
        }
    }
}

static void any_bytes_are_weights(void **state)
{
    (void)state;
    for_levels(garbage);
}

/* Largest products of one sign: no 16-bit step may saturate, no integer may leave 2^24. */
static void extremes(const struct kern *k, const struct kern *ref)
{
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        enum dtype type = all_weights[i];
        if (ref->act_for[type] != ACT_Q8)
            continue;
        for (int fill = 1; fill <= WEIGHTS_EXTREMES; fill++) {
            static struct problem p;
            problem_init(&p, k, ref, type, 512, 3, 1, false);
            weights_extreme(type, p.data.base + GUARD + p.data.off, p.data.n, fill);
            for (uint32_t c = 0; c < 512; c++) { /* all +127, all -127, signs alternating */
                p.src[c] = 1;
                p.src[512 + c] = -1;
                p.src[1024 + c] = c % 2 ? 1 : -1;
            }
            problem_solve(&p, k, ref);
            check_all(k, ref, &p);
            problem_release(&p);
        }
    }
}

static void extremes_are_exact(void **state)
{
    (void)state;
    for_levels(extremes);
}

/* Where AMX is not there, the tests above have run its instructions by way of the handler. */
static void tile_instructions_were_run(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (has_trapped())
        assert_true(amx_trapped_count() > 1000);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_arithmetic_and_ref),
        cmocka_unit_test(values_do_not_depend_on_batch_or_rows),
        cmocka_unit_test(float_weights_add_up_in_order),
        cmocka_unit_test(wide_rows_do_not_depend_on_batch),
        cmocka_unit_test(every_half_is_itself),
        cmocka_unit_test(any_bytes_are_weights),
        cmocka_unit_test(extremes_are_exact),
        cmocka_unit_test(tile_instructions_were_run),
    };
    return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}
