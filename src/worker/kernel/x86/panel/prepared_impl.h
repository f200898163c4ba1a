/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with weights in the prepared layout (panels.h).  Included once by each
 * panels_*.c, after strip_impl.h.  Bit for bit quant_impl.h, panel_impl.h and ref.
 *
 * Few tokens: straight from the strip, a pass for up to PANEL_TOKENS of them; weights are unpacked
 * in registers, ref's 8 float lanes are kept in memory side by side.  Many tokens: a chunk of
 * columns is unpacked as panel_impl.h has it, and all tokens pass over that. */
#include "worker/kernel/panels.h"

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

#define STRIP_FETCH(from, n_bytes, hint)                                                           \
    do {                                                                                           \
        UNROLL                                                                                     \
        for (uint32_t o_ = 0; o_ < (n_bytes); o_ += 64)                                            \
            _mm_prefetch((from) + o_, hint);                                                       \
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
                        STRIP_FETCH(at + STRIP_AHEAD_BYTES, share, _MM_HINT_T0);
                    else if (far)
                        STRIP_FETCH(at + p->ahead, share, _MM_HINT_T1);
                    if (!once && T > 1)
                        STRIP_FETCH(at + STRIP_NEAR_BYTES, share, _MM_HINT_T0);
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

/* ---- many tokens ---- */

/* A chunk of one strip, columns c0 to c1, to a panel: strip_unpack_TYPE. */
typedef void (*strip_unpack_fn)(const char *chunk, uint32_t n_blocks, char *panel,
                                const uint8_t *at);

INLINED void strip_unpack(const char *chunk, uint32_t n_blocks, char *panel, const uint8_t *at,
                          const int flags, const uint32_t span, panel_get_fn get,
                          strip_scales_fn scales, const struct strip_type type)
{
    for (uint32_t done = 0; done < n_blocks; done += 8, at += 8) {
        const struct strip_group g = strip_group_at(chunk, MIN_OF(n_blocks - done, 8u), type);
        scales(&g, panel, at, flags);
        for (uint32_t b = 0; b < g.n_blocks; b += span) {
            UNROLL
            for (uint32_t n = 0; n < span; n++) {
                struct panel_block *to = panel_at(panel, at[b + n], flags);
                UNROLL
                for (uint32_t k = 0; k < 8; k++)
                    b64_store(to->q[k], get(&g, b, n, k, flags));
            }
        }
        chunk += strip_group_bytes(g.n_blocks, type);
    }
}

/* What a type has for many tokens. */
struct strip_many {
    strip_unpack_fn unpack;
    void (*tokens)(struct panel_pair *p, const struct kern_act *x);
    size_t block_bytes; /* of a panel */
    size_t group_bytes, strip_bytes;
    uint32_t min_tokens;
};

/* Rows row0 to row1, row0 a strip's first. */
static void strip_matmul_many(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                              const struct kern_act *x, float *y, size_t ld_y,
                              const struct strip_many *m)
{
    _Alignas(64) char panels[PANELS * PANEL_BLOCKS * sizeof(struct panel_block)];
    struct panel_pair p = {
        .panels = panels, .one_bytes = PANEL_BLOCKS * m->block_bytes, .ld_y = ld_y};
    const uint32_t n_chunks = (w->n_cols + QUANT_CHUNK - 1) / QUANT_CHUNK;
    const uint32_t tiles = MIN_OF((x->n_tok + PANEL_TOKENS - 1) / PANEL_TOKENS, 8u);
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        const char *strip = (const char *)w->panels + r / PANELS_ROWS * m->strip_bytes;
        p.n_rows = MIN_OF(row1 - r, 1u * PANELS * PANEL_ROWS);
        p.y = y + (r - row0);
        const uint32_t n_strips = (p.n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
        const char *next = strip + n_strips * m->strip_bytes; /* read or not: fetched meanwhile */
        for (uint32_t c = 0; c < w->n_cols; c += QUANT_CHUNK) {
            uint8_t at[PANEL_BLOCKS];
            p.col0 = c;
            p.n_blocks = MIN_OF(w->n_cols - c, (uint32_t)QUANT_CHUNK) / QK;
            panel_order(p.n_blocks, at);
            const size_t part = (n_strips * m->strip_bytes + n_chunks - 1) / n_chunks;
            p.ahead = next + c / QUANT_CHUNK * part;
            p.ahead_end = p.ahead + (r + p.n_rows < row1 ? part : 0);
            p.lines = (uint32_t)((part / 64 + p.n_blocks * tiles) / (p.n_blocks * tiles));
            for (uint32_t i = 0; i < n_strips; i++)
                m->unpack(strip + i * m->strip_bytes + c / 256 * m->group_bytes, p.n_blocks,
                          panels + i * p.one_bytes, at);
            m->tokens(&p, x);
        }
    }
}

/* One body for all types whose panels look the same. */
#define KINDS(X)                                                                                   \
    X(offset4, BY(8) | WITH_BITS(4))                                                               \
    X(offset5, BY(16) | WITH_BITS(5))                                                              \
    X(bytes, IS_SIGNED | WITH_BITS(8))                                                             \
    X(min4, W_MIN | WITH_BITS(4))                                                                  \
    X(min5, W_MIN | WITH_BITS(5))                                                                  \
    X(half2, W_HALF_MIN | WITH_BITS(2))                                                            \
    X(half3, W_HALF | BY(4) | WITH_BITS(3))                                                        \
    X(half6, W_HALF | BY(32) | WITH_BITS(6))
#define X(NAME, FLAGS)                                                                             \
    static __attribute__((noinline)) void strips_##NAME(struct panel_pair *p,                      \
                                                        const struct kern_act *x)                  \
    {                                                                                              \
        panel_tokens(p, x, FLAGS);                                                                 \
    }
KINDS(X)
#undef X
#undef KINDS

/* ---- the table ---- */

/* From the first row that begins a strip on, many tokens go their own way. */
static void strip_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                         const struct kern_act *x, float *y, size_t ld_y,
                         const struct strip_many *m, const strip_tile_fn tiles[STRIP_TILES])
{
    uint32_t begin = row1;
    if (x->n_tok >= m->min_tokens)
        begin = MIN_OF((row0 + PANELS_ROWS - 1) / PANELS_ROWS * PANELS_ROWS, row1);
    if (row0 < begin)
        strip_matmul_few(w, row0, begin, x, y, ld_y, m->strip_bytes, tiles);
    if (begin < row1)
        strip_matmul_many(w, begin, row1, x, y + (begin - row0), ld_y, m);
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
#define UNPACK(TYPE, FLAGS, BITS, SPAN, GET, SCALES, HEAD, HIGH, Q, WHOLE)                         \
    static __attribute__((noinline)) void strip_unpack_##TYPE(                                     \
        const char *chunk, uint32_t n_blocks, char *panel, const uint8_t *at)                      \
    {                                                                                              \
        strip_unpack(chunk, n_blocks, panel, at, FLAGS, SPAN, GET, SCALES,                         \
                     (struct strip_type){HEAD, HIGH, Q, WHOLE});                                   \
    }                                                                                              \
    enum {                                                                                         \
        STRIP_GROUP_##TYPE = ((HEAD) + (HIGH) + (Q)) * ((WHOLE) ? 1 : 8),                          \
        STRIP_FLAGS_##TYPE = FLAGS                                                                 \
    };
#define X(TYPE, KIND, MIN_TOKENS, ...)                                                             \
    TILE(TYPE, 1, __VA_ARGS__)                                                                     \
    TILE(TYPE, 2, __VA_ARGS__)                                                                     \
    TILE(TYPE, 4, __VA_ARGS__)                                                                     \
    TILE_OF_8(TYPE, __VA_ARGS__)                                                                   \
    UNPACK(TYPE, __VA_ARGS__)                                                                      \
    static void prepared_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,            \
                                const struct kern_act *x, float *y, size_t ld_y)                   \
    {                                                                                              \
        const struct strip_many many = {.unpack = strip_unpack_##TYPE,                             \
                                        .tokens = strips_##KIND,                                   \
                                        .block_bytes = panel_block_bytes(STRIP_FLAGS_##TYPE),      \
                                        .group_bytes = STRIP_GROUP_##TYPE,                         \
                                        .strip_bytes =                                             \
                                            panels_strip_bytes(DTYPE_##TYPE, w->n_cols),           \
                                        .min_tokens = MIN_TOKENS};                                 \
        const strip_tile_fn tiles[STRIP_TILES] = {strip_##TYPE##_1, strip_##TYPE##_2,              \
                                                  strip_##TYPE##_4 NAME_OF_8(TYPE)};               \
        strip_matmul(w, row0, row1, x, y, ld_y, &many, tiles);                                     \
    }
STRIP_TYPES(X)
#undef X
#undef UNPACK
#undef TILE_OF_8
#undef NAME_OF_8
#undef TILE

static void prepared_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul_panels[DTYPE_##TYPE] = prepared_##TYPE;
    STRIP_TYPES(X)
#undef X
}
