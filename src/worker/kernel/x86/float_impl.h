/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with F32, F16 and BF16 weights in v16; included once by float_avx2.c,
 * float_avx512.c and float_neon.c, which say how many registers hold sums where there are many
 * tokens (FLOAT_SUMS), how many rows pass together for one token (ONE_ROWS), what a tile is where
 * there are few (FEW_ROWS x FEW_TOKENS), and from how many on they are many (MANY_FROM).
 *
 * One sum of 16 lanes per output: column c adds to lane c % 16 by a fused multiply-add, in
 * ascending order, a last part vector filled up with zeros; then the lanes fold.  Lanes do not meet
 * before, so that a register's part of them may run ahead of the others, and sums may rest in
 * memory between chunks of columns: no value changes.
 *
 * One token or few: tiles of whole rows, weights converted as they are read, the next rows fetched
 * meanwhile.  Many: rows x columns as fit the first-level cache are converted to float32 once, and
 * all tokens pass over them, one part of the lanes after the other, a register a sum. */
#include "worker/kernel/x86/x86.h"
#include "worker/kernel/unpack.h"

/* The same pointer, about which the compiler knows nothing: an address of its own in a register. */
#define OPAQUE(p)                                                                                  \
    ({                                                                                             \
        const char *p_ = (p);                                                                      \
        __asm__("" : "+r"(p_));                                                                    \
        p_;                                                                                        \
    })

typedef v16 (*load_fn)(const void *);
typedef v16 (*load_n_fn)(const void *, uint32_t);
typedef v16_part (*load_part_fn)(const void *);

enum {
    PARTS = 16 / PART_LANES,
    TILE_ROWS = 4,
    TILE_TOKENS = FLOAT_SUMS / TILE_ROWS, /* where there are many */
    MAX_TILE_TOKENS = 6,
    MANY_CHUNK = 512, /* columns that are converted at once, */
    MANY_ROWS = 8,    /* and rows: 16 KiB */
    MANY_TOKENS = 64, /* whose sums rest in memory: 32 KiB */
    CACHE_LINE = 64,
    PREFETCH_BYTES = 8192, /* how far on memory is fetched, at least */
};

/* The weights of a product, and the loads of their type; constant where this is inlined. */
struct floats {
    const struct kern_mat *mat;
    size_t item_bytes;
    load_fn load;
    load_n_fn load_n;
    load_part_fn load_part;
};

INLINED const char *row_at(const struct kern_mat *w, uint32_t r)
{
    return (const char *)w->data + r * w->row_bytes;
}

/* ---- tiles ---- */

/* One step of a tile: of column c, and the PART_LANES - 1 after it, of R rows and T tokens. */
INLINED void step(v16_part acc[TILE_ROWS][MAX_TILE_TOKENS], const char *const *w, size_t item_bytes,
                  load_part_fn load, const char *const *x, size_t c, const uint32_t R,
                  const uint32_t T)
{
    v16_part v[MAX_TILE_TOKENS];
    if (T < R) {
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            v[t] = part_now(part_load(x[t] + c * sizeof(float)));
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            const v16_part wv = part_now(load(w[r] + c * item_bytes));
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[r][t] = part_fma(wv, v[t], acc[r][t]);
        }
    } else {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            v[r] = part_now(load(w[r] + c * item_bytes));
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            const v16_part xv = part_now(part_load(x[t] + c * sizeof(float)));
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                acc[r][t] = part_fma(v[r], xv, acc[r][t]);
        }
    }
}

/* n columns (a multiple of 16) of R rows times T tokens add to sums[T][R][16], a part of the lanes
 * after the other.  R and T are constants where this is inlined. */
INLINED void tile(const char *const *rows, size_t item_bytes, load_part_fn load, const char *x,
                  size_t x_row_bytes, uint32_t n, const uint32_t R, const uint32_t T, float *sums)
{
    for (uint32_t lane = 0; lane < 16; lane += PART_LANES) {
        v16_part acc[TILE_ROWS][MAX_TILE_TOKENS];
        const char *w[TILE_ROWS], *xs[MAX_TILE_TOKENS];
        size_t c = 0;
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            w[r] = OPAQUE(rows[r] + lane * item_bytes);
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            xs[t] = OPAQUE(x + t * x_row_bytes + lane * sizeof(float));
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                acc[r][t] = part_load(sums + (t * R + r) * 16 + lane);
        }
        for (; c < n; c += 16)
            step(acc, w, item_bytes, load, xs, c, R, T);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                part_store(sums + (t * R + r) * 16 + lane, acc[r][t]);
        }
    }
}

/* The last columns of rows, fewer than 16, and zeros. */
INLINED void tail_of(float (*dst)[16], const char *x, size_t x_row_bytes, uint32_t n_rows,
                     uint32_t n)
{
    for (uint32_t i = 0; i < n_rows; i++)
        v16_store(dst[i], v16_load_n(x + i * x_row_bytes, n));
}

/* ---- one token, or few ---- */

/* While column c of R rows passes: memory in its order, PREFETCH_BYTES ahead; of long rows what the
 * next R read, row by row. */
INLINED void fetch_next(const struct floats *f, const char *const *w, size_t c, const uint32_t R)
{
    const size_t tile_bytes = R * f->mat->row_bytes;
    if (R > 1 && tile_bytes >= 2 * PREFETCH_BYTES) {
        if (c * f->item_bytes % CACHE_LINE)
            return;
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            __builtin_prefetch(w[r] + c * f->item_bytes + tile_bytes, 0, 3);
    } else {
        UNROLL
        for (uint32_t i = 0; i < R * 16 * f->item_bytes; i += CACHE_LINE)
            __builtin_prefetch(w[0] + R * c * f->item_bytes + PREFETCH_BYTES + i, 0, 3);
    }
}

/* R rows times T tokens from x, whole rows at once; with `fetch`, what comes after is fetched
 * meanwhile.  R and T are constants where this is inlined. */
INLINED void whole(const struct floats *f, const char *rows, const char *x, size_t x_row_bytes,
                   const uint32_t R, const uint32_t T, const bool fetch, float *y, size_t ld_y)
{
    const uint32_t n_cols = f->mat->n_cols;
    const size_t row_bytes = f->mat->row_bytes;
    v16_part acc[PARTS][TILE_ROWS][MAX_TILE_TOKENS];
    const char *w[TILE_ROWS], *xs[MAX_TILE_TOKENS];
    size_t c = 0;
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        w[r] = OPAQUE(rows + r * row_bytes);
        UNROLL
        for (uint32_t i = 0; i < PARTS * T; i++)
            acc[i / T][r][i % T] = part_zero();
    }
    UNROLL
    for (uint32_t t = 0; t < T; t++)
        xs[t] = OPAQUE(x + t * x_row_bytes);
    for (; c + 16 <= n_cols; c += 16) {
        if (fetch)
            fetch_next(f, w, c, R);
        UNROLL
        for (uint32_t i = 0; i < PARTS; i++)
            step(acc[i], w, f->item_bytes, f->load_part, xs, c + i * PART_LANES, R, T);
    }
    UNROLL
    for (uint32_t r = 0; r < R; r++) {
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            float sum[16];
            UNROLL
            for (uint32_t i = 0; i < PARTS; i++)
                part_store(sum + i * PART_LANES, acc[i][r][t]);
            if (c < n_cols)
                v16_store(sum, v16_fma(f->load_n(w[r] + c * f->item_bytes, n_cols - (uint32_t)c),
                                       v16_load_n(xs[t] + c * sizeof(float), n_cols - (uint32_t)c),
                                       v16_load(sum)));
            y[t * ld_y + r] = v16_fold(v16_load(sum));
        }
    }
}

/* FEW_ROWS rows at a time, then the rest one by one. */
INLINED void few(const struct floats *f, uint32_t row0, uint32_t row1, const struct kern_act *x,
                 float *y, size_t ld_y)
{
    const uint32_t n_tiles = (x->n_tok + FEW_TOKENS - 1) / FEW_TOKENS;
#define WHOLE(R, T)                                                                                \
    whole(f, row_at(f->mat, r), (const char *)x->rows + t * x->row_bytes, x->row_bytes, R, T,      \
          i == 0, y + t * ld_y + (r - row0), ld_y)
    uint32_t r = row0;
    for (; r + FEW_ROWS <= row1; r += FEW_ROWS) {
        for (uint32_t i = 0; i < n_tiles; i++) {
            const uint32_t t = x->n_tok * i / n_tiles, T = x->n_tok * (i + 1) / n_tiles - t;
            switch (T) {
            case 4: WHOLE(FEW_ROWS, MIN_OF(4, (uint32_t)FEW_TOKENS)); break;
            case 3: WHOLE(FEW_ROWS, MIN_OF(3, (uint32_t)FEW_TOKENS)); break;
            case 2: WHOLE(FEW_ROWS, 2); break;
            default: WHOLE(FEW_ROWS, 1); break;
            }
        }
    }
    for (; r < row1; r++)
        for (uint32_t t = 0, i = 0; t < x->n_tok; t++, i++)
            WHOLE(1, 1);
#undef WHOLE
}

/* One token: ONE_ROWS rows at a time. */
INLINED void one(const struct floats *f, uint32_t row0, uint32_t row1, const struct kern_act *x,
                 float *y)
{
    uint32_t r = row0;
    for (; r + ONE_ROWS <= row1; r += ONE_ROWS)
        whole(f, row_at(f->mat, r), x->rows, x->row_bytes, ONE_ROWS, 1, true, y + (r - row0), 1);
    for (; r < row1; r++)
        whole(f, row_at(f->mat, r), x->rows, x->row_bytes, 1, 1, true, y + (r - row0), 1);
}

/* ---- many tokens ---- */

/* One piece of work: rows x columns converted to float32, tokens, their sums. */
struct many {
    float w[MANY_ROWS][MANY_CHUNK] __attribute__((aligned(64)));
    float sums[MANY_ROWS / TILE_ROWS][MANY_TOKENS][TILE_ROWS][16];
    const char *x;
    size_t x_row_bytes;
    uint32_t n_rows, n_tok, n_cols; /* n_cols: of this chunk */
    const char *next;               /* weights to fetch meanwhile: n_rows x next_bytes */
    size_t next_row_bytes;
    uint32_t next_bytes; /* of a row */
};

INLINED void many_tile(struct many *m, uint32_t g, uint32_t t, const uint32_t T)
{
    const uint32_t full = m->n_cols / 16 * 16, rest = m->n_cols - full;
    const char *w[TILE_ROWS], *x = m->x + t * m->x_row_bytes;
    float *sums = m->sums[g][t][0];
    UNROLL
    for (uint32_t r = 0; r < TILE_ROWS; r++)
        w[r] = (const char *)m->w[g * TILE_ROWS + r];
    tile(w, sizeof(float), part_load, x, m->x_row_bytes, full, TILE_ROWS, T, sums);
    if (rest) {
        float xt[MAX_TILE_TOKENS][16];
        tail_of(xt, x + full * sizeof(float), m->x_row_bytes, T, rest);
        for (uint32_t r = 0; r < TILE_ROWS; r++)
            w[r] += full * sizeof(float);
        tile(w, sizeof(float), part_load, (const char *)xt, sizeof(xt[0]), 16, TILE_ROWS, T, sums);
    }
}

static void many_chunk(struct many *m)
{
    const uint32_t n_groups = (m->n_rows + TILE_ROWS - 1) / TILE_ROWS,
                   n_tiles = (m->n_tok + TILE_TOKENS - 1) / TILE_TOKENS,
                   share = (m->n_rows + n_tiles * n_groups - 1) / (n_tiles * n_groups);
    uint32_t fetched = 0;
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t t = m->n_tok * i / n_tiles, T = m->n_tok * (i + 1) / n_tiles - t;
        for (uint32_t g = 0; g < n_groups; g++) {
            for (uint32_t end = MIN_OF(fetched + share, m->n_rows); fetched < end; fetched++)
                for (uint32_t at = 0; at < m->next_bytes; at += CACHE_LINE)
                    __builtin_prefetch(m->next + fetched * m->next_row_bytes + at, 0, 2);
            switch (T) {
#if FLOAT_SUMS == 24
            case 6: many_tile(m, g, t, 6); break;
            case 5: many_tile(m, g, t, 5); break;
            case 4: many_tile(m, g, t, 4); break;
#endif
            case 3: many_tile(m, g, t, 3); break;
            case 2: many_tile(m, g, t, 2); break;
            default: many_tile(m, g, t, 1); break;
            }
        }
    }
}

/* Rows from row0 and columns from c on, as many as m says; zeros fill up 16 columns and a tile's
 * rows. */
INLINED void many_convert(struct many *m, const struct floats *f, uint32_t row0, uint32_t c)
{
    const uint32_t n = m->n_cols;
    for (uint32_t r = 0; r < m->n_rows; r++) {
        const char *w = OPAQUE(row_at(f->mat, row0 + r) + c * f->item_bytes);
        float *dst = m->w[r];
        uint32_t i = 0;
        for (; i + 32 <= n; i += 32, w += 32 * f->item_bytes) {
            v16_store(dst + i, f->load(w));
            v16_store(dst + i + 16, f->load(w + 16 * f->item_bytes));
        }
        for (; i + 16 <= n; i += 16, w += 16 * f->item_bytes)
            v16_store(dst + i, f->load(w));
        if (i < n)
            v16_store(dst + i, f->load_n(w, n - i));
    }
    for (uint32_t r = m->n_rows; r % TILE_ROWS; r++)
        memset(m->w[r], 0, sizeof(m->w[r]));
}

static void many_fold(const struct many *m, float *y, size_t ld_y)
{
    for (uint32_t r = 0; r < m->n_rows; r += TILE_ROWS) {
        const uint32_t n = MIN_OF(m->n_rows - r, (uint32_t)TILE_ROWS);
        for (uint32_t t = 0; t < m->n_tok; t++) {
            const float(*sums)[16] = m->sums[r / TILE_ROWS][t];
            if (n == TILE_ROWS)
                v16_fold4(sums, y + t * ld_y + r);
            else
                for (uint32_t i = 0; i < n; i++)
                    y[t * ld_y + r + i] = v16_fold(v16_load(sums[i]));
        }
    }
}

INLINED void many(const struct floats *f, uint32_t row0, uint32_t row1, const struct kern_act *x,
                  float *y, size_t ld_y)
{
    const struct kern_mat *mat = f->mat;
    const uint32_t n_blocks = (x->n_tok + MANY_TOKENS - 1) / MANY_TOKENS;
    struct many m;
    for (uint32_t r0 = row0; r0 < row1; r0 += m.n_rows) {
        m.n_rows = MIN_OF(row1 - r0, (uint32_t)MANY_ROWS);
        for (uint32_t b = 0; b < n_blocks; b++) {
            const uint32_t t0 = x->n_tok * b / n_blocks;
            m.n_tok = x->n_tok * (b + 1) / n_blocks - t0;
            m.x_row_bytes = x->row_bytes;
            m.next_row_bytes = mat->row_bytes;
            for (uint32_t g = 0; g * TILE_ROWS < m.n_rows; g++)
                memset(m.sums[g], 0, m.n_tok * sizeof(m.sums[g][0]));
            for (uint32_t c = 0; c < mat->n_cols; c += MANY_CHUNK) {
                m.n_cols = MIN_OF(mat->n_cols - c, (uint32_t)MANY_CHUNK);
                m.x = (const char *)x->rows + t0 * x->row_bytes + c * sizeof(float);
                const bool last = c + MANY_CHUNK >= mat->n_cols;
                m.next = last ? row_at(mat, r0 + (b + 1 == n_blocks) * MANY_ROWS)
                              : row_at(mat, r0) + (c + MANY_CHUNK) * f->item_bytes;
                m.next_bytes = (uint32_t)(MANY_CHUNK * f->item_bytes);
                many_convert(&m, f, r0, c);
                many_chunk(&m);
            }
            many_fold(&m, y + t0 * ld_y + (r0 - row0), ld_y);
        }
    }
}

#define FLOATS(TYPE, ITEM_BYTES, LOAD)                                                             \
    static void matmul_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,              \
                              const struct kern_act *x, float *y, size_t ld_y)                     \
    {                                                                                              \
        const struct floats f = {w, ITEM_BYTES, v16_##LOAD, v16_##LOAD##_n, part_##LOAD};          \
        if (x->n_tok == 1)                                                                         \
            one(&f, row0, row1, x, y);                                                             \
        else if (x->n_tok < MANY_FROM)                                                             \
            few(&f, row0, row1, x, y, ld_y);                                                       \
        else                                                                                       \
            many(&f, row0, row1, x, y, ld_y);                                                      \
    }
FLOATS(F32, 4, load)
FLOATS(F16, 2, load_f16)
FLOATS(BF16, 2, load_bf16)
#undef FLOATS

static void dequant_F16(const void *src, float *dst, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store(dst + i, v16_load_f16((const char *)src + 2 * (size_t)i));
    if (i < n)
        v16_store_n(dst + i, n - i, v16_load_f16_n((const char *)src + 2 * (size_t)i, n - i));
}

static void float_fill(struct kern *k)
{
    k->matmul[DTYPE_F32] = matmul_F32;
    k->matmul[DTYPE_F16] = matmul_F16;
    k->matmul[DTYPE_BF16] = matmul_BF16;
    k->dequant[DTYPE_F16] = dequant_F16;
}
