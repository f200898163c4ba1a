/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of every weight type on every level: against arithmetic in double, against ref
 * (bit for bit for quantised weights; in tiles, the model of tile_model.h instead), and the static
 * contract: no value depends on the batch, the split of rows or the address. */
#include "tests/kernel/kernel_test.h"
#include "tests/kernel/tile_model.h"
#include "worker/kernel/blocks.h"

/* Rows: two panels and a part of one, for kernels that take them so. */
enum { ROWS = 41, LD = 45, MAX_TOK = 100 };

/* Whether a level makes weights of a type bfloat16 that are not. */
static bool in_tiles(const struct kern *k, enum dtype type)
{
    const bool tiles = has_tiles(k) && dtype_info(type)->block_elements > 1;
    if (tiles)
        assert_int_equal(k->act_for[type], ACT_BF16);
    return tiles;
}

/* One random problem and its answer, by ref or by the model of tiles. */
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
    act_init(p, k, &p->x, &p->act);
    if (in_tiles(k, p->type)) {
        tile_matmul(&p->w, &p->x, p->want, LD);
        return;
    }
    act_init(p, ref, &x, &act);
    ref->matmul[p->type](&p->w, 0, ROWS, &x, p->want, LD);
    mem_free(act);
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

/* x as the product sees it: after rounding, if it is. */
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

/* A product of a row in double: sum_c w x, sum_c |w x|, and sum_c |slack x| if there is any. */
struct exact {
    double sum, abs, slack;
};

static struct exact exact(const struct problem *p, const float *w, const double *slack, uint32_t t)
{
    struct exact e = {0, 0, 0};
    for (uint32_t c = 0; c < p->n_cols; c++) {
        const double x = act_value(p, t, c), v = w[c] * x;
        e.sum += v;
        e.abs += fabs(v);
        e.slack += slack ? slack[c] * fabs(x) : 0;
    }
    return e;
}

/* Where a type has mins, terms larger than the sum cancel. */
static const double cancel = 8;

/* Tiles: what weights lose, all to the same side, and the order of the sum.  The machine's own unit
 * is held to the manual's order within rounding, not by the bit. */
static void check_tiled(const struct kern *k, const struct problem *p, uint32_t r, uint32_t t,
                        float y, const struct exact *e)
{
    const float want = p->want[t * LD + r];
    const double by_order = tile_sum_tolerance(p->n_cols, 1.01 * e->abs + e->slack);
    const bool bits = strcmp(k->level, "amx") != 0;
    if (!close_to(y, e->sum, 0, TILE_REL * e->abs + e->slack + by_order))
        fail_msg("%s %s %u columns, row %u token %u: %a, exactly %a", k->level,
                 dtype_info(p->type)->name, p->n_cols, r, t, (double)y, e->sum);
    if (bits ? !same(y, want) : !close_to(y, want, 0, 2 * by_order))
        fail_msg("%s %s %u columns, row %u token %u of %u: %a, the model %a", k->level,
                 dtype_info(p->type)->name, p->n_cols, r, t, p->n_tok, (double)y, (double)want);
}

static void check_value(const struct kern *k, const struct problem *p, uint32_t r, uint32_t t,
                        float y, const struct exact *e)
{
    float want = p->want[t * LD + r];
    const char *name = dtype_info(p->type)->name;
    bool same_bits = dtype_info(p->type)->block_elements > 1;
    if (!close_to(y, e->sum, 0, cancel * 2e-7 * e->abs + 1e-30))
        fail_msg("%s %s %u columns, row %u token %u: %a, exactly %a", k->level, name, p->n_cols, r,
                 t, (double)y, e->sum);
    if (same_bits ? !same(y, want) : !close_to(y, want, 0, 2e-7 * e->abs + 1e-37))
        fail_msg("%s %s %u columns, row %u token %u: %a, ref %a", k->level, name, p->n_cols, r, t,
                 (double)y, (double)want);
}

/* Between the rows of y nothing is written. */
static void check_gaps(const float *y, uint32_t n_rows, uint32_t n_tok)
{
    for (uint32_t t = 0; t + 1 < n_tok; t++)
        for (uint32_t r = n_rows; r < LD; r++) {
            uint32_t u;
            memcpy(&u, &y[t * LD + r], 4);
            assert_int_equal(u, GUARD_BYTE * 0x01010101u);
        }
}

static void check_all(const struct kern *k, const struct kern *ref, const struct problem *p)
{
    struct guarded out;
    struct err err = ERR_INIT;
    float *y = guarded_new(&out, sizeof(float) * (LD * (p->n_tok - 1) + ROWS), 4);
    float *w = mem_try_aligned(sizeof(float) * p->n_cols, &err), *tiles = NULL;
    double *slack = NULL;
    if (in_tiles(k, p->type)) {
        tiles = mem_try_aligned(sizeof(float) * p->n_cols, &err);
        slack = mem_try_aligned(sizeof(double) * p->n_cols, &err);
    }
    k->matmul[p->type](&p->w, 0, ROWS, &p->x, y, LD);
    for (uint32_t r = 0; r < ROWS; r++) {
        const char *row = (const char *)p->w.data + r * p->w.row_bytes;
        ref->dequant[p->type](row, w, p->n_cols);
        if (slack)
            tile_weights(p->type, row, p->n_cols, tiles, slack);
        for (uint32_t t = 0; t < p->n_tok; t++) {
            const struct exact e = exact(p, w, slack, t);
            (slack ? check_tiled : check_value)(k, p, r, t, y[t * LD + r], &e);
        }
    }
    check_gaps(y, ROWS, p->n_tok);
    mem_free(w);
    mem_free(tiles);
    mem_free(slack);
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
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD], part[MAX_TOK * LD];
        enum dtype type = all_weights[i];
        problem_init(&p, k, ref, type, dtype_info(type)->block_elements == 1 ? 83 : 512, MAX_TOK, 1,
                     false);
        k->matmul[type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t r0 = 0; r0 < ROWS; r0 += 3) {
            for (uint32_t r1 = r0 + 1; r1 <= ROWS; r1 += is_trapped(k) ? 19 : 5) {
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
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q6_K};
    static const uint32_t cols[] = {4499, 4499, 4499, 4512, 4608};
    static const uint32_t toks[] = {64, 40, 33, 32, 31, 17, 16, 15, 3, 2, 1};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD], part[MAX_TOK * LD];
        problem_init(&p, k, ref, types[i], cols[i], MAX_TOK, 1, false);
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

/* In tiles it is left open whether a sum is infinite or NaN. */
static bool same_garbage(const struct kern *k, float y, float want)
{
    return same(y, want) || (has_tiles(k) && !isfinite(y) && !isfinite(want));
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
                    if (!same_garbage(k, y[t * LD + r], p.want[t * LD + r]))
                        fail_msg("%s %s row %u token %u: %a, not %a", k->level,
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

/* ---- tiles: quantised weights as bfloat16 ---- */

static void problem_act(struct problem *p, const struct kern *k)
{
    mem_free(p->act);
    p->act = NULL;
    act_init(p, k, &p->x, &p->act);
}

/* What becomes of weights whose sizes add up to `sizes`: sums over all of them. */
struct loss {
    double sizes, shift, squares, square_errors;
};

/* Mean and root mean square.  A cut takes between 0 and 2^-7 of [1, 2), and R gives back the mean:
 * what is left is 1 or 2 x 10^-4, by how first bits happen to be spread; without R it were 26.  The
 * root mean square of a cut's error is 2^-7 / sqrt(12) of [1, 2), of a value 0.0016 to 0.002. */
static void check_loss(const struct kern *k, enum dtype type, const struct loss *l)
{
    const double mean = l->shift / l->sizes, rms = sqrt(l->square_errors / l->squares);
    if (!(fabs(mean) <= 5e-4 && rms <= 0.0025))
        fail_msg("%s %s: weights are larger by %g of themselves in the mean, rms %g", k->level,
                 dtype_info(type)->name, mean, rms);
}

static void check_weight(const struct kern *k, const struct problem *p, uint32_t r, uint32_t c,
                         double y, double w, float model, double slack)
{
    if (!(fabs(y - w) <= TILE_REL * fabs(w) + slack) || y != model)
        fail_msg("%s %s: row %u column %u is %a, %a in tiles, by the model %a", k->level,
                 dtype_info(p->type)->name, r, c, w, y, (double)model);
}

/* Tokens that are 1 in one column and else 0 read the weights out: sums with zeros are exact. */
static void weights(const struct kern *k, const struct kern *ref)
{
    enum { COLS = 256, TOKS = 64 };
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[TOKS * LD], w[COLS], model[COLS];
        static double slack[COLS];
        struct loss loss = {0};
        if (!in_tiles(k, all_weights[i]))
            continue;
        problem_init(&p, k, ref, all_weights[i], COLS, TOKS, 1, false);
        for (uint32_t c0 = 0; c0 < COLS; c0 += TOKS) {
            for (uint32_t t = 0; t < TOKS; t++)
                for (uint32_t c = 0; c < COLS; c++)
                    p.src[t * COLS + c] = c == c0 + t;
            problem_act(&p, k);
            k->matmul[p.type](&p.w, 0, ROWS, &p.x, y, LD);
            for (uint32_t r = 0; r < ROWS; r++) {
                const char *row = (const char *)p.w.data + r * p.w.row_bytes;
                ref->dequant[p.type](row, w, COLS);
                tile_weights(p.type, row, COLS, model, slack);
                for (uint32_t t = 0, c = c0; t < TOKS; t++, c++) {
                    const double got = y[t * LD + r], error = got - w[c];
                    check_weight(k, &p, r, c, got, w[c], model[c], slack[c]);
                    loss.sizes += fabsf(w[c]);
                    loss.shift += w[c] < 0 ? -error : error;
                    loss.squares += (double)w[c] * w[c];
                    loss.square_errors += error * error;
                }
            }
        }
        check_loss(k, p.type, &loss);
        problem_release(&p);
    }
}

static void tiles_have_each_weight_to_8_bits(void **state)
{
    (void)state;
    for_levels(weights);
}

/* Long rows.  Tokens of noise: errors of either sign do not add up.  Token r the signs of row r:
 * all of a weight's products have one sign, and all errors that weights share would be seen. */
static void long_rows(const struct kern *k, const struct kern *ref)
{
    enum { COLS = 2048 };
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[ROWS * LD], w[ROWS][COLS];
        struct loss loss = {0};
        if (!in_tiles(k, all_weights[i]))
            continue;
        problem_init(&p, k, ref, all_weights[i], COLS, ROWS, 1, false);
        for (uint32_t r = 0; r < ROWS; r++)
            ref->dequant[p.type]((const char *)p.w.data + r * p.w.row_bytes, w[r], COLS);
        k->matmul[p.type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t t = 0; t < ROWS; t++) {
                const double sum = exact(&p, w[r], NULL, t).sum, error = y[t * LD + r] - sum;
                loss.squares += sum * sum;
                loss.square_errors += error * error;
            }
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t c = 0; c < COLS; c++)
                p.src[r * COLS + c] = w[r][c] < 0 ? -1 : 1;
        problem_act(&p, k);
        k->matmul[p.type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t r = 0; r < ROWS; r++) {
            const double sum = exact(&p, w[r], NULL, r).sum;
            loss.sizes += sum;
            loss.shift += y[r * LD + r] - sum;
        }
        check_loss(k, p.type, &loss);
        problem_release(&p);
    }
}

static void tiles_err_to_neither_side(void **state)
{
    (void)state;
    for_levels(long_rows);
}

/* Rows r0 to r1 of the n tokens from t0 on have the bits they have among all, y. */
static void check_part(const struct kern *k, const struct problem *p, const float *y, uint32_t r0,
                       uint32_t r1, uint32_t t0, uint32_t n)
{
    struct guarded out;
    struct kern_act x = p->x;
    x.rows = (const char *)x.rows + t0 * x.row_bytes;
    x.n_tok = n;
    float *part = guarded_new(&out, sizeof(float) * (LD * (n - 1) + r1 - r0), 4);
    k->matmul[p->type](&p->w, r0, r1, &x, part, LD);
    for (uint32_t t = 0; t < n; t++)
        if (memcmp(part + t * LD, y + (t0 + t) * LD + r0, 4 * (r1 - r0)) != 0)
            fail_msg("%s %s: rows %u to %u, token %u in a batch of %u differ from the whole",
                     k->level, dtype_info(p->type)->name, r0, r1, t0 + t, n);
    check_gaps(part, r1 - r0, n);
    guarded_free(&out);
}

/* Either side of every size of a tile, and of the columns that are unpacked at a time. */
static void tile_shapes(const struct kern *k, const struct kern *ref)
{
    static const uint32_t toks[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 40, 64, 100};
    static const uint8_t rows[][2] = {{0, 1},  {5, 20}, {7, 23},  {11, 28}, {2, 35}, {0, 32},
                                      {3, 34}, {8, 41}, {32, 41}, {40, 41}, {0, 41}};
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD];
        const enum dtype type = all_weights[i];
        const uint32_t block = dtype_info(type)->block_elements;
        if (!has_tiles(k) || k->act_for[type] != ACT_BF16)
            continue;
        problem_init(&p, k, ref, type,
                     block == 1    ? 545
                     : block == 32 ? 544
                                   : 768,
                     MAX_TOK, 1, false);
        k->matmul[type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t n = 0; n < ARRAY_LEN(toks); n++)
            for (size_t r = (n + i) % 4; r < ARRAY_LEN(rows); r += is_trapped(k) ? 8 : 4)
                check_part(k, &p, y, rows[r][0], rows[r][1], rng() % (MAX_TOK - toks[n] + 1),
                           toks[n]);
        problem_release(&p);
    }
}

static void tiles_of_any_shape_give_the_same(void **state)
{
    (void)state;
    for_levels(tile_shapes);
}

/* More rows and tokens than have their sums beside each other at a time, more columns than pass at
 * a time: each token has what it has alone. */
static void many_at_once(const struct kern *k, const struct kern *ref)
{
    enum { N_ROWS = 290, N_COLS = 1056, N_TOK = 520 };
    static const uint32_t tokens[] = {0, 31, 32, 511, 512, N_TOK - 1};
    static float y[N_TOK * N_ROWS], one[N_ROWS];
    (void)ref;
    if (!has_tiles(k) || is_trapped(k))
        return;
    const size_t row_bytes = dtype_row_bytes(dtype_info(DTYPE_Q8_0), N_COLS),
                 act_bytes = kern_act_row_bytes(ACT_BF16, N_COLS);
    struct guarded w_mem, x_mem;
    unsigned char *w = guarded_new(&w_mem, N_ROWS * row_bytes, 0);
    char *x = guarded_new(&x_mem, N_TOK * act_bytes, 0);
    for (size_t i = 0; i < N_ROWS * row_bytes; i++)
        w[i] = (unsigned char)(i % 34 == 1 ? 0x20 : rng()); /* scales from 2^-7 to 2^-6 */
    for (uint32_t t = 0; t < N_TOK; t++) {
        float src[N_COLS];
        fill_random(src, N_COLS, 1);
        k->act_prepare[ACT_BF16](src, x + t * act_bytes, N_COLS);
    }
    const struct kern_mat mat = {DTYPE_Q8_0, N_ROWS, N_COLS, row_bytes, w, NULL};
    struct kern_act act = {ACT_BF16, N_TOK, N_COLS, act_bytes, x};
    k->matmul[DTYPE_Q8_0](&mat, 0, N_ROWS, &act, y, N_ROWS);
    act.n_tok = 1;
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        act.rows = x + tokens[i] * act_bytes;
        k->matmul[DTYPE_Q8_0](&mat, 0, N_ROWS, &act, one, N_ROWS);
        for (uint32_t r = 0; r < N_ROWS; r++)
            if (!same(one[r], y[tokens[i] * N_ROWS + r]))
                fail_msg("%s: row %u of token %u alone is %a, among %d %a", k->level, r, tokens[i],
                         (double)one[r], N_TOK, (double)y[tokens[i] * N_ROWS + r]);
    }
    guarded_free(&w_mem);
    guarded_free(&x_mem);
}

static void tiles_of_many_rows_and_tokens_give_the_same(void **state)
{
    (void)state;
    for_levels(many_at_once);
}

/* Of every row and token but the bad ones, y is still what it was; the bad ones' are not numbers.
 */
static void check_others(const struct kern *k, const struct problem *p, const float *y,
                         const bool bad_row[ROWS], const bool bad_token[MAX_TOK])
{
    struct guarded out;
    float *now = guarded_new(&out, sizeof(float) * (LD * (p->n_tok - 1) + ROWS), 4);
    k->matmul[p->type](&p->w, 0, ROWS, &p->x, now, LD);
    for (uint32_t t = 0; t < p->n_tok; t++)
        for (uint32_t r = 0; r < ROWS; r++)
            if (bad_row[r] || bad_token[t] ? isfinite(now[t * LD + r])
                                           : !same(now[t * LD + r], y[t * LD + r]))
                fail_msg("%s %s, bad rows or tokens: row %u token %u of %u is %a, was %a", k->level,
                         dtype_info(p->type)->name, r, t, p->n_tok, (double)now[t * LD + r],
                         (double)y[t * LD + r]);
    check_gaps(now, ROWS, p->n_tok);
    guarded_free(&out);
}

/* Scales that are infinite or NaN, and so MXFP4's largest, which is neither, but whose weights are.
 */
static void spoil_row(struct problem *p, uint32_t r, uint16_t scale)
{
    unsigned char *row = p->data.base + GUARD + p->data.off + r * p->w.row_bytes;
    const size_t block = dtype_info(p->type)->block_bytes;
    for (unsigned char *b = row; b < row + p->w.row_bytes; b += block) {
        memset(b, 0xff, block);
        for (size_t i = 0; i < block && p->type != DTYPE_MXFP4; i++)
            b[i] = (unsigned char)(scale >> 8 * (i % 2));
    }
}

static void hostile(const struct kern *k, const struct kern *ref)
{
    static const uint32_t toks[] = {33, 3, 1};
    for (size_t i = 0; i < 3 * ARRAY_LEN(all_weights); i++) {
        static struct problem p;
        static float y[MAX_TOK * LD];
        bool bad_row[ROWS] = {false}, bad_token[MAX_TOK] = {false};
        const uint32_t n_tok = toks[i % 3];
        if (!in_tiles(k, all_weights[i / 3]))
            continue;
        problem_init(&p, k, ref, all_weights[i / 3], 512, n_tok, 1, false);
        k->matmul[p.type](&p.w, 0, ROWS, &p.x, y, LD);
        for (uint32_t t = 0; t < n_tok && n_tok > 1; t += 15) {
            p.src[t * 512 + rng() % 512] = t == 15 ? INFINITY : NAN;
            bad_token[t] = true;
        }
        problem_act(&p, k);
        check_others(k, &p, y, bad_row, bad_token);
        for (uint32_t r = 0; r < ROWS; r += 10) {
            spoil_row(&p, r, r % 20 ? 0x7c00 : 0x7eff);
            bad_row[r] = true;
        }
        check_others(k, &p, y, bad_row, bad_token);
        problem_release(&p);
    }
}

static void bad_rows_and_tokens_spoil_no_others(void **state)
{
    (void)state;
    for_levels(hostile);
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
        cmocka_unit_test(tiles_have_each_weight_to_8_bits),
        cmocka_unit_test(tiles_err_to_neither_side),
        cmocka_unit_test(tiles_of_any_shape_give_the_same),
        cmocka_unit_test(tiles_of_many_rows_and_tokens_give_the_same),
        cmocka_unit_test(bad_rows_and_tokens_spoil_no_others),
        cmocka_unit_test(tile_instructions_were_run),
    };
    return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}
