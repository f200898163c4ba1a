/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with BF16 and F16 weights on tiles (tile.h).  Included once, after
 * many_impl.h.
 *
 * Activations are rounded to bfloat16.  An F16 weight is the sum of two bfloat16, of its first
 * eight significant bits and of the other three: two products, nothing of the weight is lost.
 *
 * A sum is made in a tile over all columns, 32 at a time, the first part of the weights before the
 * second, in the instruction's order.  The instruction does not ask which operand is which, so a
 * token's bits are the same on both ways:
 *   few tokens: weights are the left operand as they lie in the file, tokens are turned;
 *   many: tokens are the left operand as they lie, weights are turned, 64 rows at a time. */

enum {
    FEW_W_BYTES = 32 << 10, /* weights that are not as the file has them */
    FEW_TOKENS = 32,
    FEW_X_BYTES = 128 << 10, /* turned tokens: in the second-level cache */
    FEW_AHEAD = 1024         /* bytes, in the rows that nothing was fetched for */
};

/* The columns of `part` of a tile that there are, as a mask. */
INLINED __mmask32 float_mask(uint32_t c, uint32_t n_cols)
{
    return n_cols - c >= TILE_K ? (__mmask32)~0u : (__mmask32)((1u << (n_cols - c)) - 1);
}

/* 32 halves as hi + lo.  An infinity has lo = 0. */
INLINED void f16_split(__m512i v, __m512i *ret_hi, __m512i *ret_lo)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000u), low = _mm512_set1_epi32(0xffff);
    const __m512i order = /* from pairs c, c + 16 */
        _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24,
                         22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512 f[2] = {_mm512_cvtph_ps(_mm512_castsi512_si256(v)),
                   _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1))};
    __m512i u[2], rest[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        u[i] = _mm512_castps_si512(f[i]);
        const __m512 hi = _mm512_castsi512_ps(_mm512_and_si512(u[i], top));
        rest[i] =
            _mm512_castps_si512(_mm512_maskz_sub_ps(_mm512_test_epi32_mask(u[i], low), f[i], hi));
    }
    /* (first >> 16) | (second & top) */
    const __m512i h = _mm512_ternarylogic_epi32(_mm512_srli_epi32(u[0], 16), u[1], top, 0xf8);
    const __m512i l = _mm512_ternarylogic_epi32(_mm512_srli_epi32(rest[0], 16), rest[1], top, 0xf8);
    *ret_hi = _mm512_permutexvar_epi16(order, h);
    *ret_lo = _mm512_permutexvar_epi16(order, l);
}

/* ---- few tokens ---- */

/* Tiles: 2 g + s the sums of rows' group g and tokens' set s, 4 and 5 weights, 6 and 7 tokens. */
struct few {
    _Alignas(64) char x[FEW_X_BYTES];      /* [tile of columns][set][pair of columns][token]{2} */
    _Alignas(64) char w[FEW_W_BYTES];      /* [tile][group][part][16][32]: where not the file's */
    _Alignas(64) float sums[2][2][16][16]; /* [group][set][row][token] */
    uint32_t n_set[2], n_group[2];         /* tokens, rows */
    uint32_t x_tile_bytes, set_at;         /* of x, and of the second set in it */
    struct tile_fetch next;
};

INLINED void few_config(const struct few *f)
{
    _Alignas(64) struct tile_config c = {.palette = 1};
    for (int i = 0; i < 2; i++) {
        for (int s = 0; s < 2 && f->n_group[i] && f->n_set[s]; s++)
            tile_shape(&c, 2 * i + s, f->n_group[i], 4 * f->n_set[s]);
        tile_shape(&c, 4, f->n_group[0], 64); /* both weights of F16 pass through each */
        tile_shape(&c, 5, f->n_group[f->n_group[1] ? 1 : 0], 64);
        if (f->n_set[i])
            tile_shape(&c, 6 + i, 16, 4 * f->n_set[i]);
    }
    TILES_CONFIG(&c);
}

/* Turns the tokens' columns c0 <= c < c1 while the first rows come. */
INLINED void few_turn(struct few *f, const struct kern_act *x, uint32_t c0, uint32_t c1)
{
    char *to = f->x;
    for (uint32_t c = c0; c < c1; c += TILE_K, to += f->x_tile_bytes) {
        fetch_lines(&f->next, 32);
        for (uint32_t s = 0; s < 2 && f->n_set[s]; s++) {
            const char *from = (const char *)x->rows + 16 * s * x->row_bytes + 2 * (size_t)c;
            const __mmask16 m = (__mmask16)(0xffffu >> (16 - f->n_set[s]));
            __m512i v[16], t[16];
            UNROLL
            for (uint32_t i = 0; i < 16; i++)
                v[i] = i < f->n_set[s] ? _mm512_load_si512(from + i * x->row_bytes)
                                       : _mm512_setzero_si512();
            transpose16(v, t);
            UNROLL
            for (uint32_t k = 0; k < 16; k++)
                _mm512_mask_storeu_epi32(to + s * f->set_at + 4 * k * f->n_set[s], m, t[k]);
        }
    }
}

/* The rows' columns c <= .. < c1 as tiles of their own, as many as f->w takes: the next c. */
INLINED uint32_t few_weights(struct few *f, const char *rows, size_t row_bytes, uint32_t c,
                             uint32_t c1, const uint32_t n_parts)
{
    const uint32_t n_rows = f->n_group[0] + f->n_group[1];
    const uint32_t end = MIN_OF(c1, c + FEW_W_BYTES / TILE_BYTES / 2 / n_parts * TILE_K);
    for (uint32_t r = 0; r < n_rows; r++) {
        char *to = f->w + r / 16 * n_parts * TILE_BYTES + r % 16 * 64;
        const char *from = rows + r * row_bytes;
        for (uint32_t i = c; i < end; i += TILE_K, to += 2 * n_parts * TILE_BYTES) {
            __m512i v = _mm512_maskz_loadu_epi16(float_mask(i, c1), from + 2 * (size_t)i), lo;
            if (n_parts == 2) {
                f16_split(v, &v, &lo);
                _mm512_store_si512(to + TILE_BYTES, lo);
            }
            _mm512_store_si512(to, v);
        }
    }
    return end;
}

/* One tile of columns.  w: group 0's first part, group 1's w_group further; second parts follow
 * after TILE_BYTES. */
INLINED void few_step(const struct few *f, const char *w, size_t w_row_bytes, size_t w_group,
                      const char *x, size_t x0_row, size_t x1_row, const uint32_t n_parts,
                      const bool both_sets, bool both_groups)
{
    TILE_LOAD(4, w, w_row_bytes);
    TILE_LOAD(6, x, x0_row);
    if (both_sets)
        TILE_LOAD(7, x + f->set_at, x1_row);
    TILE_DOT_BF16(0, 4, 6);
    if (both_sets)
        TILE_DOT_BF16(1, 4, 7);
    if (n_parts == 2) {
        TILE_LOAD(4, w + TILE_BYTES, w_row_bytes);
        TILE_DOT_BF16(0, 4, 6);
        if (both_sets)
            TILE_DOT_BF16(1, 4, 7);
    }
    if (!both_groups)
        return;
    TILE_LOAD(5, w + w_group, w_row_bytes);
    TILE_DOT_BF16(2, 5, 6);
    if (both_sets)
        TILE_DOT_BF16(3, 5, 7);
    if (n_parts == 2) {
        TILE_LOAD(5, w + w_group + TILE_BYTES, w_row_bytes);
        TILE_DOT_BF16(2, 5, 6);
        if (both_sets)
            TILE_DOT_BF16(3, 5, 7);
    }
}

/* Up to 32 rows times the columns c0 <= c < c1 of the tokens, onto the tiles. */
INLINED void few_columns(struct few *f, const char *rows, size_t row_bytes, bool cold,
                         const char *x, uint32_t c0, uint32_t c1, const uint32_t n_parts,
                         const bool both_sets)
{
    const size_t x0_row = 4 * f->n_set[0], x1_row = 4 * f->n_set[1];
    const bool both = f->n_group[1] != 0;
    const uint32_t x_step = f->x_tile_bytes;
    for (uint32_t c = c0, end; c < c1; c = end) {
        const bool own = n_parts == 2 || c1 - c < TILE_K;
        end = own ? few_weights(f, rows, row_bytes, c, c1, n_parts) : c1 / TILE_K * TILE_K;
        const char *w = own ? f->w : rows + 2 * (size_t)c;
        const size_t w_row = own ? 64 : row_bytes, w_step = own ? 2 * n_parts * TILE_BYTES : 64;
        const size_t w_group = own ? n_parts * TILE_BYTES : 16 * row_bytes;
        for (uint32_t i = c; i < end; i += TILE_K, w += w_step, x += x_step) {
            fetch_lines(&f->next, 32);
            for (uint32_t r = 0; cold && r < f->n_group[0] + f->n_group[1]; r++)
                _mm_prefetch(rows + r * row_bytes + 2 * (size_t)i + FEW_AHEAD, _MM_HINT_T1);
            few_step(f, w, w_row, w_group, x, x0_row, x1_row, n_parts, both_sets, both);
        }
    }
}

/* Between f->sums and y, whose rows are tokens. */
INLINED void few_sums_move(struct few *f, float *y, size_t ld_y, bool in)
{
    for (uint32_t g = 0; g < 2 && f->n_group[g]; g++) {
        const __mmask16 m = (__mmask16)(0xffffu >> (16 - f->n_group[g]));
        for (uint32_t s = 0; s < 2 && f->n_set[s]; s++) {
            float *at = y + 16 * s * ld_y + 16 * g;
            __m512i v[16], t[16];
            for (uint32_t i = 0; i < 16; i++)
                v[i] = !in               ? _mm512_load_si512(f->sums[g][s][i])
                       : i < f->n_set[s] ? _mm512_maskz_loadu_epi32(m, at + i * ld_y)
                                         : _mm512_setzero_si512();
            transpose16(v, t);
            for (uint32_t i = 0; i < 16; i++)
                if (in)
                    _mm512_store_si512(f->sums[g][s][i], t[i]);
                else if (i < f->n_set[s])
                    _mm512_mask_storeu_epi32(at + i * ld_y, m, t[i]);
        }
    }
}

#define FEW_SUMS(OP)                                                                               \
    do {                                                                                           \
        OP(0, f->sums[0][0], 64);                                                                  \
        if (both_sets)                                                                             \
            OP(1, f->sums[0][1], 64);                                                              \
        if (f->n_group[1])                                                                         \
            OP(2, f->sums[1][0], 64);                                                              \
        if (f->n_group[1] && both_sets)                                                            \
            OP(3, f->sums[1][1], 64);                                                              \
    } while (0)
#define ZERO_SUM(n, p, stride) TILE_ZERO(n)

/* Up to 32 rows; y becomes the products, or gains them. */
INLINED void few_rows(struct few *f, const char *rows, size_t row_bytes, bool cold, const char *x,
                      uint32_t c0, uint32_t c1, float *y, size_t ld_y, const uint32_t n_parts,
                      const bool both_sets)
{
    if (c0 == 0) {
        FEW_SUMS(ZERO_SUM);
    } else {
        few_sums_move(f, y, ld_y, true);
        FEW_SUMS(TILE_LOAD);
    }
    few_columns(f, rows, row_bytes, cold, x, c0, c1, n_parts, both_sets);
    FEW_SUMS(TILE_STORE);
    few_sums_move(f, y, ld_y, false);
}
#undef FEW_SUMS
#undef ZERO_SUM

/* At most FEW_TOKENS tokens. */
INLINED void float_few(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                       const struct kern_act *x, float *y, size_t ld_y, const uint32_t n_parts)
{
    struct few f;
    f.n_set[0] = MIN_OF(x->n_tok, 16u);
    f.n_set[1] = x->n_tok - f.n_set[0];
    f.n_group[0] = f.n_group[1] = 0;
    f.set_at = 64 * f.n_set[0];
    f.x_tile_bytes = 64 * x->n_tok;
    const uint32_t chunk = FEW_X_BYTES / 2 / x->n_tok / TILE_K * TILE_K;
    for (uint32_t c = 0, c1; c < w->n_cols; c = c1) {
        c1 = MIN_OF(w->n_cols, c + chunk);
        const char *rows = (const char *)w->data + row0 * w->row_bytes + 2 * (size_t)c;
        fetch_set(&f.next, rows, w->row_bytes, MIN_OF(row1 - row0, 32u), 2 * (c1 - c));
        const char *xt = (const char *)x->rows + 2 * (size_t)c;
        if (x->n_tok > 1) {
            few_turn(&f, x, c, c1);
            xt = f.x;
        } else { /* nothing to do meanwhile: the beginnings, then FEW_AHEAD further as it goes */
            fetch_set(&f.next, rows, w->row_bytes, MIN_OF(row1 - row0, 32u),
                      MIN_OF(2 * (c1 - c), (uint32_t)FEW_AHEAD));
            fetch_lines(&f.next, f.next.left);
        }
        for (uint32_t r = row0, n; r < row1; r += n) {
            n = MIN_OF(row1 - r, 32u);
            if (f.n_group[0] + f.n_group[1] != n) {
                f.n_group[0] = MIN_OF(n, 16u);
                f.n_group[1] = n - f.n_group[0];
                few_config(&f);
            }
            rows = (const char *)w->data + r * w->row_bytes;
            fetch_set(&f.next, rows + n * w->row_bytes + 2 * (size_t)c, w->row_bytes,
                      MIN_OF(row1 - r - n, 32u), 2 * (c1 - c));
            if (f.n_set[1])
                few_rows(&f, rows, w->row_bytes, false, xt, c, c1, y + (r - row0), ld_y, n_parts,
                         true);
            else
                few_rows(&f, rows, w->row_bytes, x->n_tok == 1 && r == row0, xt, c, c1,
                         y + (r - row0), ld_y, n_parts, false);
        }
    }
}

/* ---- many tokens ---- */

/* Up to 16 rows.  Columns past n_cols are zero, rows past n repeat the last. */
INLINED void many_unpack(const char *rows, size_t row_bytes, uint32_t n, uint32_t c0, uint32_t c1,
                         uint32_t n_cols, char *to, const uint32_t n_parts)
{
    for (uint32_t c = c0; c < c1; c += TILE_K, to += MANY_PANELS * n_parts * TILE_BYTES) {
        const __mmask32 m = float_mask(c, n_cols);
        __m512i v[16], lo[16], t[16];
        UNROLL
        for (uint32_t r = 0; r < 16; r++) {
            const char *p = rows + MIN_OF(r, n - 1) * row_bytes + 2 * (size_t)c;
            v[r] = _mm512_maskz_loadu_epi16(m, p);
            if (n_parts == 2)
                f16_split(v[r], &v[r], &lo[r]);
        }
        transpose16(v, t);
        UNROLL
        for (uint32_t k = 0; k < 16; k++)
            _mm512_store_si512(to + 64 * k, t[k]);
        if (n_parts != 2)
            continue;
        transpose16(lo, t);
        UNROLL
        for (uint32_t k = 0; k < 16; k++)
            _mm512_store_si512(to + TILE_BYTES + 64 * k, t[k]);
    }
}

INLINED void float_fill(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c, uint32_t c1,
                        char *to, const uint32_t n_parts)
{
    const char *rows = (const char *)w->data + row * w->row_bytes;
    for (uint32_t i = 0; 16 * i < n; i++)
        many_unpack(rows + 16 * i * w->row_bytes, w->row_bytes, MIN_OF(n - 16 * i, 16u), c, c1,
                    w->n_cols, to + i * n_parts * TILE_BYTES, n_parts);
}

#define X(TYPE, N_PARTS)                                                                           \
    static void fill_##TYPE(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c,        \
                            uint32_t c1, char *to)                                                 \
    {                                                                                              \
        float_fill(w, row, n, c, c1, to, N_PARTS);                                                 \
    }                                                                                              \
    static void amx_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                 \
                           const struct kern_act *x, float *y, size_t ld_y)                        \
    {                                                                                              \
        const struct tile_weights at = {w->data, w->row_bytes, 512, 1};                            \
        if (x->n_tok <= FEW_TOKENS)                                                                \
            float_few(w, row0, row1, x, y, ld_y, N_PARTS);                                         \
        else                                                                                       \
            many_run(w, &at, row0, row1, x, y, ld_y, fill_##TYPE, N_PARTS);                        \
        TILES_RELEASE();                                                                           \
    }
X(BF16, 1)
X(F16, 2)
#undef X
