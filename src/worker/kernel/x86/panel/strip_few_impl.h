/* SPDX-License-Identifier: Apache-2.0 */
/* Strips (panels.h) times few tokens, straight from the strip: a pass for up to MOST_TOKENS of
 * them; weights are unpacked in registers, ref's 8 float lanes are kept in memory side by side.
 * Included once, after strip_impl.h; bit for bit quant_impl.h and ref.  Has few_TYPE of each type:
 * kern_matmul_fn, for any rows and any number of tokens. */

/* What a pass reads and where its sums go. */
struct strip_pass {
    const char *strip;
    const char *x[MOST_TOKENS]; /* the tokens' activations; of a tile's last ones the same again */
    uint32_t n_cols;
    uint32_t pass, n_pass;
    size_t ahead; /* where there are several passes: from a strip's bytes to those fetched */
    v16 sum[MOST_TOKENS];
};

/* Ahead of the weights in use, further than the processor looks by itself.  One pass reads memory
 * in order: into the first-level cache.  Of several each fetches its share of the next strip into
 * the second-level cache, and from there what it needs soon into the first.  Past the end it does
 * nothing. */
enum { STRIP_AHEAD_BYTES = 8192, STRIP_NEAR_BYTES = 1024 };

#define STRIP_FETCH(from, n_bytes, FETCH)                                                          \
    do {                                                                                           \
        UNROLL                                                                                     \
        for (uint32_t o_ = 0; o_ < (n_bytes); o_ += 64)                                            \
            FETCH((from) + o_);                                                                    \
    } while (0)

/* Lane l takes in lane l + half, halving until one is left. */
INLINED v16 lanes_fold(const v16 l[8][PANELS][MOST_TOKENS], const uint32_t t)
{
#define MEET(a, b) v16_add(l[a][0][t], l[b][0][t])
    return v16_add(v16_add(MEET(0, 4), MEET(2, 6)), v16_add(MEET(1, 5), MEET(3, 7)));
#undef MEET
}

static const uint8_t in_order[8] = {0, 1, 2, 3, 4, 5, 6, 7};

/* A strip times T tokens; `span` blocks are unrolled, so that where their bits lie is constant. */
INLINED void strip_tile(struct strip_pass *p, const uint32_t T, const int flags,
                        const uint32_t span, panel_get_fn get, strip_scales_fn scales,
                        const struct strip_type type)
{
    _Alignas(64) char blocks[8 * sizeof(struct panel_block)];
    const char *strip = p->strip;
    size_t x_at = 0;
    const uint32_t share = strip_group_bytes(8, type) / 8;
    const bool once = p->n_pass == 1;
    uint32_t turn = 0; /* every n_pass-th group's lines are fetched in each pass */
    UNROLL
    for (uint32_t t = 0; t < T; t++)
        p->sum[t] = v16_zero();
    for (uint32_t c = 0, end; c < p->n_cols; c = end) {
        v16 acc[8][PANELS][MOST_TOKENS];
        for (uint32_t b = 0; b < 8; b++) {
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[b][0][t] = v16_zero();
        }
        end = MIN_OF(p->n_cols, c + QUANT_CHUNK);
        for (; c < end; c += 256, x_at += sizeof(struct act_q8)) {
            const uint32_t n_blocks = MIN_OF(p->n_cols - c, 256u) / QK;
            const struct strip_group g = strip_group_at(strip, n_blocks, type);
            const struct act_q8 *xt[MOST_TOKENS];
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                xt[t] = (const struct act_q8 *)(p->x[t] + x_at);
            scales(&g, blocks, in_order, flags);
            const bool far = turn == p->pass;
            turn = turn + 1 < p->n_pass ? turn + 1 : 0;
            for (uint32_t b = 0; b < n_blocks; b += span) {
                UNROLL
                for (uint32_t n = 0; n < span; n++) {
                    const char *at = strip + (b + n) * share;
                    if (once)
                        STRIP_FETCH(at + STRIP_AHEAD_BYTES, share, FETCH_NEAR);
                    else if (far)
                        STRIP_FETCH(at + p->ahead, share, FETCH_FAR);
                    if (!once && T > 1)
                        STRIP_FETCH(at + STRIP_NEAR_BYTES, share, FETCH_NEAR);
                    const struct panel_src w[PANELS] = {
                        {.w = panel_at(blocks, b + n, flags), .group = &g, .first = b, .n = n}};
                    panel_step(w, xt, b + n, 1, T, acc[b + n], get, flags);
                }
            }
            strip += strip_group_bytes(n_blocks, type);
        }
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            p->sum[t] = v16_add(p->sum[t], lanes_fold(acc, t));
    }
}

typedef void (*strip_tile_fn)(struct strip_pass *p);

/* Rows lo <= r < hi of a strip to y[0..hi - lo). */
INLINED void strip_out(float *y, uint32_t lo, uint32_t hi, v16 sum)
{
    if (LIKELY(lo == 0)) {
        rows_store(y, row_mask_of(hi), sum);
        return;
    }
    float all[PANELS_ROWS];
    v16_store(all, sum);
    memcpy(y, all + lo, (hi - lo) * sizeof(*y));
}

/* Tiles of 1, 2, 4 (and 8) tokens. */
enum { STRIP_TILES = MOST_TOKENS == 8 ? 4 : 3 };

static void strip_matmul_few(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                             const struct kern_act *x, float *y, size_t ld_y, size_t strip_bytes,
                             const strip_tile_fn tiles[STRIP_TILES])
{
    struct strip_pass p = {.n_cols = w->n_cols,
                           .ahead = strip_bytes,
                           .n_pass = (x->n_tok + MOST_TOKENS - 1) / MOST_TOKENS};
    for (uint32_t r = row0, lo, hi; r < row1; r += hi - lo) {
        lo = r % PANELS_ROWS;
        hi = MIN_OF(lo + (row1 - r), (uint32_t)PANELS_ROWS);
        p.strip = (const char *)w->panels + r / PANELS_ROWS * strip_bytes;
        p.pass = 0;
        for (uint32_t t = 0, n; t < x->n_tok; t += n, p.pass++) {
            n = MIN_OF(x->n_tok - t, (uint32_t)MOST_TOKENS);
            for (uint32_t i = 0; i < MOST_TOKENS; i++)
                p.x[i] = (const char *)x->rows + (t + MIN_OF(i, n - 1)) * x->row_bytes;
            tiles[n > 4 ? STRIP_TILES - 1 : n > 2 ? 2 : n - 1](&p);
            for (uint32_t i = 0; i < n; i++)
                strip_out(y + (t + i) * ld_y + (r - row0), lo, hi, p.sum[i]);
        }
    }
}

#define TILE(TYPE, T, FLAGS, BITS, SPAN, GET, SCALES, HEAD, HIGH, Q, WHOLE)                        \
    static __attribute__((noinline)) void strip_##TYPE##_##T(struct strip_pass *p)                 \
    {                                                                                              \
        strip_tile(p, T, (FLAGS) | WITH_BITS(BITS), SPAN, GET, SCALES,                             \
                   (struct strip_type){HEAD, HIGH, Q, WHOLE});                                     \
    }
#if MOST_TOKENS == 8
#define TILE_OF_8(TYPE, ...) TILE(TYPE, 8, __VA_ARGS__)
#define NAME_OF_8(TYPE)      , strip_##TYPE##_8
#else
#define TILE_OF_8(TYPE, ...)
#define NAME_OF_8(TYPE)
#endif
#define X(TYPE, KIND, MIN_TOKENS, ...)                                                             \
    TILE(TYPE, 1, __VA_ARGS__)                                                                     \
    TILE(TYPE, 2, __VA_ARGS__)                                                                     \
    TILE(TYPE, 4, __VA_ARGS__)                                                                     \
    TILE_OF_8(TYPE, __VA_ARGS__)                                                                   \
    static void few_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                 \
                           const struct kern_act *x, float *y, size_t ld_y)                        \
    {                                                                                              \
        const strip_tile_fn tiles[STRIP_TILES] = {strip_##TYPE##_1, strip_##TYPE##_2,              \
                                                  strip_##TYPE##_4 NAME_OF_8(TYPE)};               \
        strip_matmul_few(w, row0, row1, x, y, ld_y, panels_strip_bytes(DTYPE_##TYPE, w->n_cols),   \
                         tiles);                                                                   \
    }
STRIP_TYPES(X)
#undef X
#undef TILE_OF_8
#undef NAME_OF_8
#undef TILE
