/* SPDX-License-Identifier: Apache-2.0 */
/* The prepared layout of weights (panels.h): the file's bytes come back from it whatever they are,
 * and products from it are those from the file's rows bit for bit on every level, for every number
 * of tokens and cut of rows, from strips that end where memory does.  What is right is ref's
 * answer, or, where weights are bfloat16 in tiles, the same level's from rows. */
#include "tests/kernel/kernel_test.h"

#include <sys/mman.h>
#include <unistd.h>

#include "worker/kernel/panels.h"

static const uint32_t widths[] = {32, 64, 96, 224, 256, 288, 576, 1056, 2048, 2400, 8192};

static bool has_width(enum dtype type, uint32_t n_cols)
{
    return n_cols % dtype_info(type)->block_elements == 0;
}

/* ---- the layout ---- */

static void type_and_shape_decide(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < DTYPE_N; type++) {
        const struct dtype_info *info = dtype_info(type);
        const bool quant = info->is_weight && info->block_elements > 1;
        for (uint32_t n_cols = 1; n_cols <= 1056; n_cols++) {
            const size_t n = panels_strip_bytes((enum dtype)type, n_cols);
            if (!quant || n_cols % info->block_elements) {
                assert_int_equal(n, 0);
                continue;
            }
            const size_t in_file = PANELS_ROWS * (size_t)dtype_row_bytes(info, n_cols);
            assert_int_equal(n % 64, 0);
            assert_true(n >= in_file && n <= in_file + in_file / 50 + 128);
        }
    }
    assert_int_equal(panels_strip_bytes(DTYPE_N, 256), 0);
}

/* What panels.h says, of the type most used: a dword of all rows in 64 bytes. */
static void q4_k_lies_as_documented(void **state)
{
    (void)state;
    unsigned char rows[PANELS_ROWS][2 * 144], strip[2 * 2304];
    for (size_t i = 0; i < sizeof(rows); i++)
        ((unsigned char *)rows)[i] = (unsigned char)rng();
    assert_int_equal(panels_strip_bytes(DTYPE_Q4_K, 512), sizeof(strip));
    panels_write(DTYPE_Q4_K, rows, sizeof(rows[0]), PANELS_ROWS, 512, strip);
    for (size_t r = 0; r < PANELS_ROWS; r++)
        for (size_t g = 0; g < 2; g++) {
            const unsigned char *block = rows[r] + 144 * g, *group = strip + 2304 * g;
            assert_memory_equal(block, group + 2 * r, 2);          /* d */
            assert_memory_equal(block + 2, group + 32 + 2 * r, 2); /* dmin */
            for (size_t i = 0; i < 3 + 32; i++)                    /* scales, qs */
                assert_memory_equal(block + 4 + 4 * i, group + 64 + 64 * i + 4 * r, 4);
        }
}

static void write_and_back(enum dtype type, uint32_t n_rows, uint32_t n_cols)
{
    const size_t row_bytes = (size_t)dtype_row_bytes(dtype_info(type), n_cols),
                 apart = row_bytes + 3, strip_bytes = panels_strip_bytes(type, n_cols);
    struct guarded from, to, back;
    unsigned char *rows = guarded_new(&from, n_rows * apart, 1),
                  *strips = guarded_new(&to, (n_rows + 15) / 16 * strip_bytes, 0);
    for (size_t i = 0; i < n_rows * apart; i++)
        rows[i] = (unsigned char)rng();
    for (uint32_t r = 0; r < n_rows; r += PANELS_ROWS)
        panels_write(type, rows + r * apart, apart, MIN_OF(n_rows - r, (uint32_t)PANELS_ROWS),
                     n_cols, strips + r / PANELS_ROWS * strip_bytes);
    for (uint32_t r = 0; r < n_rows; r++) {
        unsigned char *row = guarded_new(&back, row_bytes, 2);
        panels_row(type, strips + r / PANELS_ROWS * strip_bytes, r % PANELS_ROWS, n_cols, row);
        if (memcmp(row, rows + r * apart, row_bytes) != 0)
            fail_msg("%s: row %u of %u, %u columns came back otherwise", dtype_info(type)->name, r,
                     n_rows, n_cols);
        guarded_free(&back);
    }
    guarded_free(&from);
    guarded_free(&to);
}

static void rows_come_back(void **state)
{
    (void)state;
    static const uint32_t n_rows[] = {1, 5, 16, 17, 100};
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++)
        for (size_t c = 0; c < ARRAY_LEN(widths); c++)
            for (size_t r = 0; r < ARRAY_LEN(n_rows); r++)
                if (panels_strip_bytes(all_weights[i], widths[c]))
                    write_and_back(all_weights[i], n_rows[r], widths[c]);
}

/* Rows that are not there are zeros, and so is what fields are filled up with. */
static void every_byte_is_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        const enum dtype type = all_weights[i];
        const uint32_t n_cols = has_width(type, 288) ? 288 : 512;
        const size_t n = panels_strip_bytes(type, n_cols);
        unsigned char row[512 * 4], a[16384], b[16384];
        for (size_t j = 0; j < sizeof(row); j++)
            row[j] = (unsigned char)rng();
        assert_true(n <= sizeof(a));
        memset(a, 0, sizeof(a));
        memset(b, 0xff, sizeof(b));
        if (n > 0) {
            panels_write(type, row, 0, 1, n_cols, a);
            panels_write(type, row, 0, 1, n_cols, b);
        }
        assert_memory_equal(a, b, n);
    }
}

/* ---- products ---- */

enum { ROWS = 41, LD = 45, MAX_TOK = 100 };

struct problem {
    struct kern_mat w;
    struct guarded data, out;
    char *map; /* pages, the last of which cannot be touched; strips end before it */
    size_t map_bytes;
    uint32_t n_tok;    /* <= MAX_TOK */
    float *src, *want; /* [n_tok][n_cols], [n_tok][LD] */
    void *act;
    struct kern_act x;
};

static void problem_panels(struct problem *p)
{
    const size_t strip = panels_strip_bytes(p->w.type, p->w.n_cols), n = strip * ((ROWS + 15) / 16),
                 page = (size_t)sysconf(_SC_PAGESIZE);
    p->map_bytes = (n + page - 1) / page * page + page;
    p->map = mmap(NULL, p->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p->map != MAP_FAILED);
    assert_int_equal(mprotect(p->map + p->map_bytes - page, page, PROT_NONE), 0);
    char *at = p->map + p->map_bytes - page - n;
    p->w.panels = at;
    for (uint32_t r = 0; r < ROWS; r += PANELS_ROWS, at += strip)
        panels_write(p->w.type, (const char *)p->w.data + r * p->w.row_bytes, p->w.row_bytes,
                     MIN_OF(ROWS - r, (uint32_t)PANELS_ROWS), p->w.n_cols, at);
}

/* The level whose product of the rows is the right one.  What traps do, emulation does as well. */
static const struct kern *right_level(const struct kern *k, const struct kern *ref)
{
#if defined(__x86_64__)
    static struct kern emulated;
    if (is_trapped(k)) {
        level_init(&emulated, "avx512vnni");
        amx_emulated_fill(&emulated);
        return &emulated;
    }
#endif
    return has_tiles(k) ? k : ref;
}

static void problem_act(struct problem *p, const struct kern *k, const struct kern *ref)
{
    struct err err = ERR_INIT;
    const struct kern *const of[] = {right_level(k, ref), k};
    for (int i = 0; i < 2; i++) { /* the right answer first */
        const enum act_format format = of[i]->act_for[p->w.type];
        const size_t bytes = kern_act_row_bytes(format, p->w.n_cols);
        mem_free(p->act);
        p->act = mem_try_aligned(bytes * p->n_tok, &err);
        assert_non_null(p->act);
        for (uint32_t t = 0; t < p->n_tok; t++)
            of[i]->act_prepare[format](p->src + (size_t)t * p->w.n_cols, (char *)p->act + t * bytes,
                                       p->w.n_cols);
        p->x = (struct kern_act){format, p->n_tok, p->w.n_cols, bytes, p->act};
        if (i == 0)
            of[i]->matmul[p->w.type](&p->w, 0, ROWS, &p->x, p->want, LD);
    }
}

static void problem_init(struct problem *p, const struct kern *k, const struct kern *ref,
                         enum dtype type, uint32_t n_cols, uint32_t n_tok, int fill)
{
    struct err err = ERR_INIT;
    const size_t row_bytes = (size_t)dtype_row_bytes(dtype_info(type), n_cols);
    unsigned char *data = guarded_new(&p->data, ROWS * row_bytes, 1);
    p->act = NULL;
    p->n_tok = n_tok;
    p->w = (struct kern_mat){type, ROWS, n_cols, row_bytes, data, NULL};
    weights_random(type, data, ROWS * row_bytes);
    if (fill < 0) /* any bytes are weights: infinite and NaN scales */
        for (size_t i = 0; i < ROWS * row_bytes; i++)
            data[i] = (unsigned char)(i < 2 * row_bytes ? 0xff : rng());
    else if (fill > 0)
        weights_extreme(type, data, ROWS * row_bytes, fill);
    problem_panels(p);
    p->src = mem_try_aligned(sizeof(float) * n_cols * n_tok, &err);
    p->want = mem_try_aligned(sizeof(float) * LD * n_tok, &err);
    fill_random(p->src, (size_t)n_cols * n_tok, 1);
    for (uint32_t c = 0; fill > 0 && c < n_cols; c++) { /* all +127, -127, signs in turn */
        p->src[c] = p->src[5 * n_cols + c] = 1;
        p->src[n_cols + c] = p->src[4 * n_cols + c] = -1;
        p->src[2 * n_cols + c] = c % 2 ? 1 : -1;
    }
    problem_act(p, k, ref);
}

static void problem_release(struct problem *p)
{
    guarded_free(&p->data);
    munmap(p->map, p->map_bytes);
    mem_free(p->src);
    mem_free(p->want);
    mem_free(p->act);
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* Rows r0 to r1 of tokens t0 to t0 + n, and nothing else is written. */
static void check(const struct kern *k, const struct problem *p, uint32_t r0, uint32_t r1,
                  uint32_t t0, uint32_t n)
{
    struct guarded out;
    struct kern_act x = p->x;
    x.rows = (const char *)x.rows + t0 * x.row_bytes;
    x.n_tok = n;
    float *y = guarded_new(&out, sizeof(float) * (LD * (n - 1) + r1 - r0), 4);
    k->matmul_panels[p->w.type](&p->w, r0, r1, &x, y, LD);
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t r = r0; r < r1; r++)
            if (!same(y[t * LD + r - r0], p->want[(t0 + t) * LD + r]))
                fail_msg("%s %s %u columns, rows %u to %u, row %u token %u of %u: %a, not %a",
                         k->level, dtype_info(p->w.type)->name, p->w.n_cols, r0, r1, r, t, n,
                         (double)y[t * LD + r - r0], (double)p->want[(t0 + t) * LD + r]);
        for (uint32_t r = r1 - r0; r < LD && t + 1 < n; r++) {
            uint32_t u;
            memcpy(&u, &y[t * LD + r], 4);
            assert_int_equal(u, GUARD_BYTE * 0x01010101u);
        }
    }
    guarded_free(&out);
}

/* Numbers of tokens to try, 0 after the last: for tiles either side of 16 and 32. */
static const uint32_t *tokens_of(const struct kern *k)
{
    static const uint32_t any[] = {1, 2, 3, 4, 5, 7, 8, 9, 17, 64, 97, 0},
                          tiles[] = {1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 40, 64, 100, 0};
    return has_tiles(k) ? tiles : any;
}

static uint32_t most_tokens(uint32_t n_cols)
{
    return n_cols < 1056 ? MAX_TOK : n_cols < 8192 ? 64 : 8;
}

/* The data is not looked at, only the panels. */
static void products(const struct kern *k, const struct kern *ref)
{
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++)
        for (size_t c = 0; c < ARRAY_LEN(widths); c++) {
            const enum dtype type = all_weights[i];
            const uint32_t most = most_tokens(widths[c]);
            struct problem p;
            if (!k->matmul_panels[type] || !has_width(type, widths[c]))
                continue;
            problem_init(&p, k, ref, type, widths[c], most, 0);
            p.w.data = NULL;
            for (const uint32_t *n = tokens_of(k); *n && *n <= most; n++)
                check(k, &p, 0, ROWS, rng() % (most - *n + 1), *n);
            problem_release(&p);
        }
}

static void products_are_those_of_the_rows(void **state)
{
    (void)state;
    for_levels(products);
}

/* A few tokens in a cut of any rows; where there are tiles any number of them. */
static void cuts(const struct kern *k, const struct kern *ref)
{
    const uint32_t *const toks = tokens_of(k), n_toks = has_tiles(k) ? 14 : 8;
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++) {
        const enum dtype type = all_weights[i];
        struct problem p;
        if (!k->matmul_panels[type])
            continue;
        problem_init(&p, k, ref, type, has_width(type, 544) ? 544 : 512, MAX_TOK, 0);
        for (uint32_t r0 = 0; r0 < ROWS; r0 += 3)
            for (uint32_t r1 = r0 + 1; r1 <= ROWS; r1 += is_trapped(k) ? 16 : 5) {
                const uint32_t n = toks[rng() % n_toks];
                check(k, &p, r0, r1, rng() % (MAX_TOK - n + 1), n);
            }
        problem_release(&p);
    }
}

static void any_cut_gives_the_same(void **state)
{
    (void)state;
    for_levels(cuts);
}

static void worst(const struct kern *k, const struct kern *ref)
{
    for (size_t i = 0; i < ARRAY_LEN(all_weights); i++)
        for (int fill = -2; fill <= WEIGHTS_EXTREMES; fill++) {
            const enum dtype type = all_weights[i];
            struct problem p;
            if (!k->matmul_panels[type])
                continue;
            problem_init(&p, k, ref, type, fill % 2 && has_width(type, 480) ? 480 : 512, 6, fill);
            for (uint32_t n = 1; n <= 6; n++)
                check(k, &p, 0, ROWS, 0, n);
            problem_release(&p);
        }
}

static void worst_cases_are_exact(void **state)
{
    (void)state;
    for_levels(worst);
}

/* So that all of the way is tested everywhere, and taken. */
static void has_all(const struct kern *k, const struct kern *ref UNUSED)
{
    for (uint32_t type = 0; type < DTYPE_N; type++)
        assert_int_equal(k->matmul_panels[type] != NULL,
                         panels_strip_bytes((enum dtype)type, 1024) != 0);
}

static void every_level_has_all(void **state)
{
    (void)state;
    for_levels(has_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_and_shape_decide),  cmocka_unit_test(q4_k_lies_as_documented),
        cmocka_unit_test(rows_come_back),         cmocka_unit_test(every_byte_is_written),
        cmocka_unit_test(every_level_has_all),    cmocka_unit_test(products_are_those_of_the_rows),
        cmocka_unit_test(any_cut_gives_the_same), cmocka_unit_test(worst_cases_are_exact),
    };
    return cmocka_run_group_tests_name("panels", tests, NULL, NULL);
}
