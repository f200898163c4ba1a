/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with quantised weights on tiles (tile.h): weights are made bfloat16, scales and
 * all, tokens are rounded to it, and the unit adds up.  Included once, after panel_impl.h and
 * many_impl.h.
 *
 * Int8 tiles leave each block's integers to be scaled by the vector units, token by token, through
 * memory: they were tried and had a quarter of the speed (docs/SPEED.md).  A weight made bfloat16
 * costs the vector units 5/64 of a cycle, once for all tokens:
 *
 *   u   the panel's unsigned byte: q + 128, or q where the type has mins
 *   x = 32768 + u      by putting u into that float's mantissa
 *   w = x D + C        D = d sc, C = m - (32768 + 128 or 0) D, both times UNBIAS
 *
 * and w's upper half is the bfloat16.  What is cut off is half of the last place in the mean,
 * which UNBIAS gives back.  An element's sum is made 32 columns after the other in the
 * instruction's order, as BF16 weights' is: for whatever number of tokens, from rows or from
 * strips. */

/* 1 + 2^-8 / the mean of a mantissa whose logarithm is as likely anywhere, 1 / ln 2. */
#define UNBIAS 1.0027076f

enum {
    QUANT_GROUP = 256,  /* columns made a panel at a time */
    QUANT_FEW = 32,     /* tokens that pass with a block of weights as soon as it is made */
    QUANT_AHEAD = 8192, /* bytes, as strip_few_impl.h has it */
};

/* One of four bytes of each lane times d, plus c. */
INLINED __m512 quant_weight(__m512i v, const int byte, __m512 d, __m512 c)
{
    const __m512i base = _mm512_set1_epi32(0x47000000); /* 32768.0f: bits 8 .. 15 are its ones */
    const __m512i to_ones = _mm512_broadcast_i32x4(
        _mm_set_epi32((byte + 12) << 8, (byte + 8) << 8, (byte + 4) << 8, byte << 8));
    const __m512i x = byte == 1
                          ? _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(0xff00), base, 0xea)
                          : _mm512_mask_shuffle_epi8(base, 0x2222222222222222ull, v, to_ones);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(x), d, c);
}

/* The upper halves of two columns' weights. */
INLINED __m512i quant_pair(__m512 first, __m512 second)
{
    const __m512i down = _mm512_broadcast_i32x4(_mm_set_epi32(0x0f0e, 0x0b0a, 0x0706, 0x0302));
    return _mm512_mask_shuffle_epi8(_mm512_castps_si512(second), 0x3333333333333333ull,
                                    _mm512_castps_si512(first), down);
}

/* d and c of the halves of a block. */
INLINED void quant_scales(const struct panel_block *w, __m512 d[2], __m512 c[2], const int flags)
{
    const __m512 unbias = _mm512_set1_ps(UNBIAS), whole = _mm512_load_ps(w->d);
    const __m512 base = _mm512_set1_ps(flags & W_MIN ? 32768 : 32768 + 128);
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m512 m = flags & W_MIN ? _mm512_load_ps(w->m) : _mm512_setzero_ps();
        if (flags & W_MIN && flags & W_HALF) {
            const __m512i mn = _mm512_load_si512(w->mn);
            m = _mm512_mul_ps(
                m, _mm512_cvtepi32_ps(_mm512_srai_epi32(h ? mn : _mm512_slli_epi32(mn, 16), 16)));
        }
        d[h] = flags & W_HALF ? _mm512_mul_ps(whole, _mm512_load_ps(w->sc[h])) : whole;
        d[h] = _mm512_mul_ps(d[h], unbias);
        c[h] = _mm512_fnmadd_ps(base, d[h], _mm512_mul_ps(m, unbias));
    }
}

/* A block of 32 columns to a tile: [pair of columns][row]{2}. */
INLINED void quant_tile(const struct panel_block *w, char *to, const int flags)
{
    __m512 d[2], c[2];
    quant_scales(w, d, c, flags);
    UNROLL
    for (int k = 0; k < 8; k++) {
        const __m512i v = _mm512_load_si512(w->q[k]);
        const int h = k / 4;
        const __m512 f0 = quant_weight(v, 0, d[h], c[h]), f1 = quant_weight(v, 1, d[h], c[h]);
        const __m512 f2 = quant_weight(v, 2, d[h], c[h]), f3 = quant_weight(v, 3, d[h], c[h]);
        _mm512_store_si512(to + 128 * k, quant_pair(f0, f1));
        _mm512_store_si512(to + 128 * k + 64, quant_pair(f2, f3));
    }
}

/* How a type's weights become panels of up to 256 columns, their blocks in order: n rows (1 .. 16)
 * from `row` on, of n_blocks blocks of the group that begins at column c. */
typedef void (*quant_panel_fn)(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c,
                               uint32_t n_blocks, char *panel);

static const uint8_t quant_order[QUANT_GROUP / QK] = {0, 1, 2, 3, 4, 5, 6, 7};

/* ---- few tokens ---- */

/* Tiles: 0 and 1 the sums of two sets of tokens; weights and tokens of blocks of even numbers in 2
 * and 4, 5, of odd ones in 3 and 6, 7. */
struct quant_few {
    _Alignas(64) char w[2][TILE_BYTES];
    _Alignas(64) float sums[QUANT_FEW * PANEL_ROWS + PANEL_ROWS]; /* [token][row] */
    const char *ahead;                                            /* what is to be fetched */
    uint32_t lines;                                               /* of it with each block */
    uint32_t n_tok; /* that tiles are configured for; 0: not yet */
};

INLINED void quant_few_config(struct quant_few *f, uint32_t n_tok)
{
    const uint32_t set[2] = {MIN_OF(n_tok, 16u), n_tok > 16 ? n_tok - 16 : 0};
    _Alignas(64) struct tile_config c = {.palette = 1};
    if (f->n_tok == n_tok)
        return;
    f->n_tok = n_tok;
    for (int i = 0; i < 2; i++) {
        tile_shape(&c, 2 + i, 16, 64);
        if (set[i]) {
            tile_shape(&c, i, set[i], 64);
            tile_shape(&c, 4 + i, set[i], 64);
            tile_shape(&c, 6 + i, set[i], 64);
        }
    }
    TILES_CONFIG(&c);
}

/* Multiplies block b, of whose columns the first token's begin at x. */
INLINED void quant_few_dot(const struct quant_few *f, uint32_t b, const char *x, size_t x_row,
                           const bool both)
{
#define DOT(W, X0, X1)                                                                             \
    do {                                                                                           \
        TILE_LOAD(W, f->w[W - 2], 64);                                                             \
        TILE_LOAD(X0, x, x_row);                                                                   \
        TILE_DOT_BF16(0, X0, W);                                                                   \
        if (both) {                                                                                \
            TILE_LOAD(X1, x + 16 * x_row, x_row);                                                  \
            TILE_DOT_BF16(1, X1, W);                                                               \
        }                                                                                          \
    } while (0)
    if (b % 2 == 0)
        DOT(2, 4, 5);
    else
        DOT(3, 6, 7);
#undef DOT
}

/* A panel's blocks, one multiplied while the next is made.  x: the first token's columns of it. */
INLINED void quant_few_panel(struct quant_few *f, const char *panel, uint32_t n_blocks,
                             const char *x, size_t x_row, const bool both, const int flags)
{
    for (uint32_t b = 0; b < n_blocks; b++, x += 64) {
        for (uint32_t i = 0; i < f->lines; i++, f->ahead += 64)
            _mm_prefetch(f->ahead, _MM_HINT_T0);
        quant_tile((const struct panel_block *)panel, f->w[b % 2], flags);
        panel += panel_block_bytes(flags);
        if (b > 0)
            quant_few_dot(f, b - 1, x - 64, x_row, both);
    }
    quant_few_dot(f, n_blocks - 1, x - 64, x_row, both);
}

typedef void (*quant_few_fn)(struct quant_few *f, const char *panel, uint32_t n_blocks,
                             const char *x, size_t x_row);
typedef void (*quant_many_fn)(const char *panel, uint32_t n_blocks, char *to);

/* What is done with the panels of a kind: one body for all its types. */
struct quant_kind {
    quant_few_fn few[2]; /* one set of tokens, two */
    quant_many_fn many;
};

#define KINDS(X)                                                                                   \
    X(plain, 0)                                                                                    \
    X(min, W_MIN)                                                                                  \
    X(half, W_HALF)                                                                                \
    X(half_min, W_HALF_MIN)
#define X(NAME, FLAGS)                                                                             \
    static __attribute__((noinline)) void few_one_##NAME(                                          \
        struct quant_few *f, const char *panel, uint32_t n_blocks, const char *x, size_t x_row)    \
    {                                                                                              \
        quant_few_panel(f, panel, n_blocks, x, x_row, false, FLAGS);                               \
    }                                                                                              \
    static __attribute__((noinline)) void few_two_##NAME(                                          \
        struct quant_few *f, const char *panel, uint32_t n_blocks, const char *x, size_t x_row)    \
    {                                                                                              \
        quant_few_panel(f, panel, n_blocks, x, x_row, true, FLAGS);                                \
    }                                                                                              \
    static                                                                                         \
        __attribute__((noinline)) void many_##NAME(const char *panel, uint32_t n_blocks, char *to) \
    {                                                                                              \
        for (uint32_t b = 0; b < n_blocks; b++, to += MANY_PANELS * TILE_BYTES) {                  \
            quant_tile((const struct panel_block *)panel, to, FLAGS);                              \
            panel += panel_block_bytes(FLAGS);                                                     \
        }                                                                                          \
    }                                                                                              \
    static const struct quant_kind kind_##NAME = {{few_one_##NAME, few_two_##NAME}, many_##NAME};
KINDS(X)
#undef X
#undef KINDS

INLINED const struct quant_kind *quant_kind(const int flags)
{
    return flags & W_HALF  ? flags & W_MIN ? &kind_half_min : &kind_half
           : flags & W_MIN ? &kind_min
                           : &kind_plain;
}

/* All that products with a type need to know. */
struct quant_tiles {
    quant_panel_fn panel;
    const struct quant_kind *kind;
    struct tile_weights at;
};

/* Sums of rows base + lo to base + hi to y, where base + lo begins. */
INLINED void quant_few_out(const struct quant_few *f, uint32_t lo, uint32_t hi, uint32_t n_tok,
                           float *y, size_t ld_y)
{
    const __mmask16 m = (__mmask16)(0xffffu >> (16 - (hi - lo)));
    for (uint32_t t = 0; t < n_tok; t++)
        _mm512_mask_storeu_ps(y + t * ld_y, m, _mm512_loadu_ps(f->sums + 16 * t + lo));
}

/* Up to QUANT_FEW tokens from x on; rows row0 to row1 in units of 16 that begin at multiples of
 * q->at.n_unit rows. */
INLINED void quant_few_tokens(struct quant_few *f, const struct quant_tiles *q,
                              const struct kern_mat *w, uint32_t row0, uint32_t row1, const char *x,
                              size_t x_row, uint32_t n_tok, float *y, size_t ld_y)
{
    _Alignas(64) char panel[QUANT_GROUP / QK * sizeof(struct panel_block)];
    const quant_few_fn few = q->kind->few[n_tok > 16];
    const uint32_t n_groups = (w->n_cols + QUANT_GROUP - 1) / QUANT_GROUP;
    quant_few_config(f, n_tok);
    for (uint32_t r = row0, base, end; r < row1; r = end) {
        base = r - r % q->at.n_unit;
        end = MIN_OF(base + PANEL_ROWS, row1);
        TILE_ZERO(0);
        if (n_tok > 16)
            TILE_ZERO(1);
        f->ahead = q->at.data + base / q->at.n_unit * q->at.unit_bytes + QUANT_AHEAD;
        for (uint32_t g = 0; g < n_groups; g++) {
            const uint32_t c = g * QUANT_GROUP,
                           n_blocks = MIN_OF(w->n_cols - c, (uint32_t)QUANT_GROUP) / QK;
            q->panel(w, base, end - base, c, n_blocks, panel);
            few(f, panel, n_blocks, x + 2 * (size_t)c, x_row);
        }
        TILE_STORE(0, f->sums, 64);
        if (n_tok > 16)
            TILE_STORE(1, f->sums + 256, 64);
        quant_few_out(f, r - base, end - base, n_tok, y + (r - row0), ld_y);
    }
}

INLINED void quant_few_rows(const struct quant_tiles *q, const struct kern_mat *w, uint32_t row0,
                            uint32_t row1, const struct kern_act *x, float *y, size_t ld_y)
{
    struct quant_few f;
    f.n_tok = 0;
    f.lines = q->at.n_unit == 1 ? 0 : (uint32_t)((q->at.group_bytes + 511) / 512);
    for (uint32_t t = 0, n; t < x->n_tok; t += n) {
        n = MIN_OF(x->n_tok - t, (uint32_t)QUANT_FEW);
        quant_few_tokens(&f, q, w, row0, row1, (const char *)x->rows + t * x->row_bytes,
                         x->row_bytes, n, y + t * ld_y, ld_y);
    }
}

/* ---- many tokens ---- */

INLINED void quant_fill(const struct quant_tiles *q, const struct kern_mat *w, uint32_t row,
                        uint32_t n, uint32_t c, uint32_t c1, char *to)
{
    _Alignas(64) char panel[QUANT_GROUP / QK * sizeof(struct panel_block)];
    for (; c < c1; c += QUANT_GROUP, to += QUANT_GROUP / TILE_K * MANY_PANELS * TILE_BYTES) {
        const uint32_t n_blocks = MIN_OF(c1 - c, (uint32_t)QUANT_GROUP) / QK;
        for (uint32_t i = 0; i * PANEL_ROWS < n; i++) {
            q->panel(w, row + i * PANEL_ROWS, MIN_OF(n - i * PANEL_ROWS, (uint32_t)PANEL_ROWS), c,
                     n_blocks, panel);
            q->kind->many(panel, n_blocks, to + i * TILE_BYTES);
        }
    }
}

/* Rows row0 to row1; where strips are, many tokens go their own way from the first that begins one
 * on. */
INLINED void quant_matmul(const struct quant_tiles *q, const struct kern_mat *w, uint32_t row0,
                          uint32_t row1, const struct kern_act *x, float *y, size_t ld_y,
                          many_fill_fn fill)
{
    uint32_t begin = row1;
    if (x->n_tok > QUANT_FEW)
        begin = MIN_OF((row0 + q->at.n_unit - 1) / q->at.n_unit * q->at.n_unit, row1);
    if (row0 < begin)
        quant_few_rows(q, w, row0, begin, x, y, ld_y);
    if (begin < row1)
        many_run(w, &q->at, begin, row1, x, y + (begin - row0), ld_y, fill, 1);
    TILES_RELEASE();
}

/* NAME: kern.h's product of a type; PANEL: its quant_panel_fn; AT: struct tile_weights. */
#define QUANT_ON_TILES(NAME, PANEL, FLAGS, ...)                                                    \
    static void fill_##NAME(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c,        \
                            uint32_t c1, char *to)                                                 \
    {                                                                                              \
        const struct quant_tiles q = {PANEL, quant_kind(FLAGS), __VA_ARGS__};                      \
        quant_fill(&q, w, row, n, c, c1, to);                                                      \
    }                                                                                              \
    static void NAME(const struct kern_mat *w, uint32_t row0, uint32_t row1,                       \
                     const struct kern_act *x, float *y, size_t ld_y)                              \
    {                                                                                              \
        const struct quant_tiles q = {PANEL, quant_kind(FLAGS), __VA_ARGS__};                      \
        quant_matmul(&q, w, row0, row1, x, y, ld_y, fill_##NAME);                                  \
    }
