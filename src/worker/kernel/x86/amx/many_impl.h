/* SPDX-License-Identifier: Apache-2.0 */
/* Many tokens times weights on tiles (tile.h): tokens are the left operand as they lie, bfloat16 in
 * rows; weights the right one, made bfloat16 in tiles, a chunk of 64 rows at a time, while all
 * tokens of the call pass over it.  Included once, after panel_impl.h and tile.h.
 *
 * A tile of 16 tokens meets those of four panels of 16 rows: the second-level cache gives a core 35
 * to 40 bytes a cycle, the third 10, and the unit would take 64 of each operand.  So a chunk of 64
 * rows stays in the first level while all tokens pass, what tokens have of its columns in the
 * second while a call's rows do.  Sums wait between chunks beside each other, not in y, whose rows
 * are far apart (the same few sets of a cache); they are floats and lose nothing: in whatever
 * chunks, an element's sum is made 32 columns after the other. */

enum {
    TILE_K = 32, /* columns of a tile */
    TILE_BYTES = 1024,
    MANY_PANELS = 4,       /* of 16 rows, whose tiles lie beside each other */
    MANY_BYTES = 32 << 10, /* of weights in tiles */
    MANY_ROWS = 256,       /* and MANY_TOKENS: the sums that wait, 512 KiB */
    MANY_TOKENS = 512,
};

/* What is to be fetched into the second-level cache: n_rows times n_lines lines, row by row. */
struct tile_fetch {
    const char *at;
    ptrdiff_t skip; /* from the end of a row's lines to the next row's */
    uint32_t n_lines, line, left;
};

INLINED void fetch_set(struct tile_fetch *f, const char *rows, size_t row_bytes, uint32_t n_rows,
                       uint32_t n_bytes)
{
    f->at = rows;
    f->n_lines = (n_bytes + 63) / 64;
    f->line = f->n_lines;
    f->skip = (ptrdiff_t)row_bytes - 64 * (ptrdiff_t)f->n_lines;
    f->left = n_rows * f->n_lines;
}

INLINED void fetch_lines(struct tile_fetch *f, uint32_t n)
{
    for (n = MIN_OF(n, f->left), f->left -= n; n > 0; n--) {
        _mm_prefetch(f->at, _MM_HINT_T1);
        f->at += 64;
        if (--f->line == 0) {
            f->line = f->n_lines;
            f->at += f->skip;
        }
    }
}

/* Tiles: p the sums of panel p, 4 and 5 tokens, 6 and 7 weights. */
struct many {
    _Alignas(64) char w[MANY_BYTES]; /* [tile][panel][part][pair of columns][row]{2} */
    uint32_t n_tok;                  /* that tiles are configured for; 0: not yet */
    struct tile_fetch next, next_x;  /* weights and tokens: fetched while tiles pass, */
    uint32_t lines, lines_x;         /* so many lines a step */
    _Alignas(64) float sums[MANY_ROWS / 16 * MANY_TOKENS / 16][16][16]; /* [chunk][tokens][panel] */
};

INLINED void many_config(struct many *m, uint32_t n_tok)
{
    _Alignas(64) struct tile_config c = {.palette = 1};
    if (m->n_tok == n_tok)
        return;
    m->n_tok = n_tok;
    for (int i = 0; i < 8; i++)
        tile_shape(&c, i, i < 6 ? n_tok : 16, 64);
    TILES_CONFIG(&c);
}

/* Where the sums of 16 tokens and n_rows rows begin, and what is to be done with them. */
struct many_sums {
    float (*wait)[16][16]; /* by panel */
    float *y;              /* they go there after the last chunk */
    size_t ld_y;
    uint32_t n_rows;
    bool first, last;
};

#define MANY_SUMS(OP, p, panel_step, stride)                                                       \
    do {                                                                                           \
        OP(0, p, stride);                                                                          \
        if (n_panels > 1)                                                                          \
            OP(1, (p) + (panel_step), stride);                                                     \
        if (n_panels > 2)                                                                          \
            OP(2, (p) + 2 * (panel_step), stride);                                                 \
        if (n_panels > 3)                                                                          \
            OP(3, (p) + 3 * (panel_step), stride);                                                 \
    } while (0)
#define ZERO_SUM(n, p, stride) TILE_ZERO(n)

/* The share of step k of n_k in fetching y, to be written to. */
INLINED void many_fetch_y(const struct many_sums *s, uint32_t k, uint32_t n_k,
                          const uint32_t n_panels)
{
    for (uint32_t t = 16 * k / n_k; t < 16 * (k + 1) / n_k; t++)
        for (uint32_t p = 0; p < n_panels; p++)
            __builtin_prefetch(s->y + t * s->ld_y + 16 * p, 1);
}

/* After the last chunk; a panel of fewer rows by way of where its sums waited. */
INLINED void many_out(const struct many *m, const struct many_sums *s, const uint32_t n_panels)
{
    const uint32_t n = s->n_rows % 16;
    if (n == 0) {
        MANY_SUMS(TILE_STORE, s->y, 16, 4 * s->ld_y);
        return;
    }
    MANY_SUMS(TILE_STORE, s->wait, 1, 64);
    for (uint32_t p = 0; p < n_panels; p++) {
        const __mmask16 rows = p + 1 < n_panels ? 0xffff : (__mmask16)((1u << n) - 1);
        for (uint32_t t = 0; t < m->n_tok; t++)
            _mm512_mask_storeu_ps(s->y + t * s->ld_y + 16 * p, rows, _mm512_load_ps(s->wait[p][t]));
    }
}

/* x: the first token's first column of the chunk; n_k tiles of columns. */
INLINED void many_tile(struct many *m, uint32_t n_k, const char *x, size_t x_row_bytes,
                       const struct many_sums *s, const uint32_t n_parts, const uint32_t n_panels)
{
    const char *w = m->w;
#define STEP(X)                                                                                    \
    do {                                                                                           \
        TILE_LOAD(X, x, x_row_bytes);                                                              \
        UNROLL                                                                                     \
        for (uint32_t part = 0; part < n_parts; part++) {                                          \
            TILE_LOAD(6, w + part * TILE_BYTES, 64);                                               \
            TILE_DOT_BF16(0, X, 6);                                                                \
            if (n_panels > 1) {                                                                    \
                TILE_LOAD(7, w + (n_parts + part) * TILE_BYTES, 64);                               \
                TILE_DOT_BF16(1, X, 7);                                                            \
            }                                                                                      \
            if (n_panels > 2) {                                                                    \
                TILE_LOAD(6, w + (2 * n_parts + part) * TILE_BYTES, 64);                           \
                TILE_DOT_BF16(2, X, 6);                                                            \
            }                                                                                      \
            if (n_panels > 3) {                                                                    \
                TILE_LOAD(7, w + (3 * n_parts + part) * TILE_BYTES, 64);                           \
                TILE_DOT_BF16(3, X, 7);                                                            \
            }                                                                                      \
        }                                                                                          \
    } while (0)
    if (s->first)
        MANY_SUMS(ZERO_SUM, s->wait, 1, 64);
    else
        MANY_SUMS(TILE_LOAD, s->wait, 1, 64);
    for (uint32_t k = 0; k < n_k; k++, x += 64, w += MANY_PANELS * n_parts * TILE_BYTES) {
        fetch_lines(&m->next, m->lines);
        fetch_lines(&m->next_x, m->lines_x);
        if (s->last)
            many_fetch_y(s, k, n_k, n_panels);
        if (k % 2 == 0)
            STEP(4);
        else
            STEP(5);
    }
#undef STEP
    if (s->last)
        many_out(m, s, n_panels);
    else
        MANY_SUMS(TILE_STORE, s->wait, 1, 64);
}
#undef MANY_SUMS
#undef ZERO_SUM

/* n_tok tokens, whose columns of the chunk begin at x, over the chunk of s.n_rows rows. */
INLINED void many_tokens(struct many *m, const char *x, size_t x_row_bytes, uint32_t n_tok,
                         uint32_t n_k, struct many_sums s, const uint32_t n_parts)
{
    for (uint32_t t = 0; t < n_tok; t += 16) {
        many_config(m, MIN_OF(n_tok - t, 16u));
        switch ((s.n_rows + 15) / 16) {
        case 1: many_tile(m, n_k, x, x_row_bytes, &s, n_parts, 1); break;
        case 2: many_tile(m, n_k, x, x_row_bytes, &s, n_parts, 2); break;
        case 3: many_tile(m, n_k, x, x_row_bytes, &s, n_parts, 3); break;
        default: many_tile(m, n_k, x, x_row_bytes, &s, n_parts, 4); break;
        }
        x += 16 * x_row_bytes;
        s.wait += MANY_PANELS;
        s.y += 16 * s.ld_y;
    }
}

/* How weights lie: n_unit rows (1, or a strip's 16) to unit_bytes, group_bytes for 256 columns. */
struct tile_weights {
    const char *data;
    size_t unit_bytes, group_bytes;
    uint32_t n_unit;
};

/* Fetches what begins at `row` and column c, n_rows, up to column c1. */
INLINED void weights_fetch(struct tile_fetch *f, const struct tile_weights *w, uint32_t row,
                           uint32_t n_rows, uint32_t c, uint32_t c1)
{
    fetch_set(f, w->data + row / w->n_unit * w->unit_bytes + c / 256 * w->group_bytes,
              w->unit_bytes, (n_rows + w->n_unit - 1) / w->n_unit,
              (uint32_t)((c1 - c + 255) / 256 * w->group_bytes));
}

/* Columns c to c1 of n <= 64 rows from `row` on, to tiles: [tile of columns][panel][part], each
 * [pair of columns][row]{2}.  Rows past n and columns past the matrix's are anything finite or
 * zero. */
typedef void (*many_fill_fn)(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c,
                             uint32_t c1, char *to);

/* After rows r to r + n of this chunk, which `steps` tiles of columns will pass: what comes next is
 * fetched. */
INLINED void many_next(struct many *m, const struct kern_mat *w, const struct tile_weights *at,
                       uint32_t row0, uint32_t row1, uint32_t r, uint32_t c, uint32_t c1,
                       uint32_t steps)
{
    const uint32_t chunk = c1 - c;
    m->next.left = 0;
    if (r < row1)
        weights_fetch(&m->next, at, r, MIN_OF(row1 - r, 16u * MANY_PANELS), c, c1);
    else if (c1 < w->n_cols)
        weights_fetch(&m->next, at, row0, MIN_OF(row1 - row0, 16u * MANY_PANELS), c1,
                      MIN_OF(w->n_cols, c1 + chunk));
    m->lines = (m->next.left + steps - 1) / steps;
}

/* At most MANY_ROWS rows and MANY_TOKENS tokens; x and y: of the first. */
INLINED void many_block(struct many *m, const struct kern_mat *w, const struct tile_weights *at,
                        uint32_t row0, uint32_t row1, const char *x, size_t x_row_bytes,
                        uint32_t n_tok, float *y, size_t ld_y, many_fill_fn fill,
                        const uint32_t n_parts)
{
    const uint32_t chunk = MANY_BYTES / TILE_BYTES / MANY_PANELS / n_parts * TILE_K;
    const char *x0 = x;
    for (uint32_t c = 0, c1; c < w->n_cols; c = c1, x += 2 * (size_t)chunk) {
        c1 = MIN_OF(w->n_cols, c + chunk);
        const uint32_t n_k = (c1 - c + TILE_K - 1) / TILE_K, n_sets = (n_tok + 15) / 16;
        const uint32_t steps =
            (row1 - row0 + 16 * MANY_PANELS - 1) / (16 * MANY_PANELS) * n_sets * n_k;
        struct many_sums s = {
            .wait = m->sums, .y = y, .ld_y = ld_y, .first = c == 0, .last = c1 == w->n_cols};
        /* The tokens' next columns; after the last, the first, which the next call will want. */
        fetch_set(&m->next_x, c1 < w->n_cols ? x + 2 * (size_t)chunk : x0, x_row_bytes, n_tok,
                  2 * MIN_OF(c1 < w->n_cols ? w->n_cols - c1 : w->n_cols, chunk));
        m->lines_x = (m->next_x.left + steps - 1) / steps;
        for (uint32_t r = row0, n; r < row1; r += n) {
            n = MIN_OF(row1 - r, 16u * MANY_PANELS);
            s.n_rows = n;
            fill(w, r, n, c, c1, m->w);
            many_next(m, w, at, row0, row1, r + n, c, c1, n_sets * n_k);
            many_tokens(m, x, x_row_bytes, n_tok, n_k, s, n_parts);
            s.wait += MANY_PANELS * n_sets;
            s.y += n;
        }
    }
}

INLINED void many_run(const struct kern_mat *w, const struct tile_weights *at, uint32_t row0,
                      uint32_t row1, const struct kern_act *x, float *y, size_t ld_y,
                      many_fill_fn fill, const uint32_t n_parts)
{
    struct many m;
    m.n_tok = 0;
    for (uint32_t t = 0, n; t < x->n_tok; t += n) {
        n = MIN_OF(x->n_tok - t, (uint32_t)MANY_TOKENS);
        for (uint32_t r = row0, end; r < row1; r = end) {
            end = MIN_OF(r + MANY_ROWS, row1);
            many_block(&m, w, at, r, end, (const char *)x->rows + t * x->row_bytes, x->row_bytes, n,
                       y + t * ld_y + (r - row0), ld_y, fill, n_parts);
        }
    }
}
