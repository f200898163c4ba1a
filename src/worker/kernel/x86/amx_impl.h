/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with quantised weights on tiles (tile.h): tokens are the left operand as they
 * lie, weights the right one in panels of 16 rows.  Included once, after amx_float_impl.h.
 *
 * A tile product is a block of 32 columns (or half of one), its exact integers are then scaled and
 * added as panel_impl.h does it: bit for bit as on every other level. */

/* Tiles: 0 to 3 sums, 4 and 5 tokens, 6 and 7 weights. */
enum { TILE_TOKENS_N = 16 };

/* n_tok rows of tokens, k_bytes of columns. */
INLINED void tiles_begin(uint32_t n_tok, uint32_t k_bytes TILES_PARAM)
{
    _Alignas(64) struct tile_config c = {.palette = 1};
    for (int i = 0; i < 4; i++)
        tile_shape(&c, i, n_tok, 64);
    for (int i = 4; i < 6; i++)
        tile_shape(&c, i, n_tok, k_bytes);
    for (int i = 6; i < 8; i++)
        tile_shape(&c, i, k_bytes / 4, 64);
    TILES_CONFIG(&c);
}

/* Integers of one float lane of a chunk: up to 4 blocks, halves, panels, tokens, rows. */
struct lane_sums {
    _Alignas(64) int32_t s[QUANT_CHUNK / 256][2][2][TILE_TOKENS_N][16];
};

/* x: the tokens' bytes of the lane's first block.  w: that block of panel 0. */
INLINED void amx_lane_dots(const char *w, size_t one_bytes, const char *x, size_t x_row_bytes,
                           uint32_t n, bool both, struct lane_sums *to, const int flags TILES_PARAM)
{
    const int n_half = flags & W_HALF ? 2 : 1;
    for (uint32_t g = 0; g < n; g++, w += panel_block_bytes(flags), x += 256) {
        const struct panel_block *w0 = (const struct panel_block *)w;
        const struct panel_block *w1 = (const struct panel_block *)(w + one_bytes);
        for (int h = 0; h < n_half; h++) {
            TILE_LOAD(4, x + 16 * h, x_row_bytes);
            TILE_LOAD(6, w0->q[4 * h], 64);
            TILE_ZERO(0);
            TILE_DOT_INT8(0, 4, 6);
            TILE_STORE(0, to->s[g][h][0], 64);
            if (!both)
                continue;
            TILE_LOAD(7, w1->q[4 * h], 64);
            TILE_ZERO(1);
            TILE_DOT_INT8(1, 4, 7);
            TILE_STORE(1, to->s[g][h][1], 64);
        }
    }
}

/* What the lane's n blocks add up to for token t and panel r. */
INLINED __m512 amx_lane_sum(const char *w, const struct act_q8 *x, uint32_t lane, uint32_t n,
                            const struct lane_sums *in, uint32_t t, int r, const int flags)
{
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t g = 0; g < n; g++, w += panel_block_bytes(flags), x++) {
        const struct panel_block *wb = (const struct panel_block *)w;
        __m512i s0 = _mm512_load_si512(in->s[g][0][r][t]);
        __m512i s1 = flags & W_HALF ? _mm512_load_si512(in->s[g][1][r][t]) : s0;
        acc = panel_add(wb, x, lane, panel_float(wb, s0, s1, flags), acc, flags);
    }
    return acc;
}

/* A chunk of the pair for n_tok <= 16 tokens, the first of them t0. */
INLINED void amx_quant_tile(struct panel_pair *p, const struct kern_act *x, uint32_t t0,
                            uint32_t n_tok, const int flags TILES_PARAM)
{
    struct lane_sums sums;
    __m512 wait[3][2][TILE_TOKENS_N];
    const int n_panels = p->n_rows > PANEL_ROWS ? 2 : 1;
    const char *row = (const char *)x->rows + t0 * x->row_bytes, *w = p->panels;
    const char *plain = row + act_q8_plain_at(x->n_cols) + p->col0;
    const char *group = row + p->col0 / 256 * sizeof(struct act_q8);
    for (uint32_t i = 0, n; i < 8; i++, w += n * panel_block_bytes(flags)) {
        const uint32_t lane = panel_lanes[i];
        n = lane < p->n_blocks ? (p->n_blocks - lane + 7) / 8 : 0;
        amx_lane_dots(w, p->one_bytes, plain + 32 * lane, x->row_bytes, n, n_panels == 2, &sums,
                      flags TILES_ARG);
        for (uint32_t t = 0; t < n_tok; t++) {
            if (t % PANEL_TOKENS < n)
                panel_fetch(p); /* once for a block and a few tokens, as panel_fetch_set counts */
            for (int r = 0; r < n_panels; r++) {
                const struct act_q8 *xt = (const struct act_q8 *)(group + t * x->row_bytes);
                __m512 acc =
                    amx_lane_sum(w + (size_t)r * p->one_bytes, xt, lane, n, &sums, t, r, flags);
                uint32_t level = 0;
                for (; i >> level & 1; level++)
                    acc = _mm512_add_ps(wait[level][r][t], acc);
                if (level < 3) {
                    wait[level][r][t] = acc;
                    continue;
                }
                const __mmask16 m = r + 1 == n_panels ? panel_mask(p->n_rows) : (__mmask16)0xffff;
                panel_out(p->y + (t0 + t) * p->ld_y + 16 * r, m, acc, p->col0 == 0);
            }
        }
    }
}

INLINED void amx_quant_tokens(struct panel_pair *p, const struct kern_act *x, const int flags)
{
    TILES_LOCAL;
    const uint32_t k_bytes = flags & W_HALF ? 16 : 32;
    uint32_t t = 0, rest = x->n_tok % TILE_TOKENS_N;
    if (x->n_tok >= TILE_TOKENS_N)
        tiles_begin(TILE_TOKENS_N, k_bytes TILES_ARG);
    for (; t + TILE_TOKENS_N <= x->n_tok; t += TILE_TOKENS_N)
        amx_quant_tile(p, x, t, TILE_TOKENS_N, flags TILES_ARG);
    if (rest) {
        tiles_begin(rest, k_bytes TILES_ARG);
        amx_quant_tile(p, x, t, rest, flags TILES_ARG);
    }
    TILES_RELEASE();
}

/* The table. */

enum { AMX_MIN_TOKENS = 4 }; /* below: row by row */

#define X(TYPE, LOAD, FLAGS, Q_BITS)                                                               \
    static void amx_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                 \
                           const struct kern_act *x, float *y, size_t ld_y)                        \
    {                                                                                              \
        if (x->n_tok < AMX_MIN_TOKENS)                                                             \
            matmul_##TYPE(w, row0, row1, x, y, ld_y);                                              \
        else                                                                                       \
            panel_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, PANEL_LOAD_##TYPE,   \
                         (FLAGS) | AS_SIGNED, amx_quant_tokens);                                   \
    }
QUANT_LOADERS(X)
#undef X

static void amx_fill(struct kern *k)
{
    quant_fill(k);
#define X(TYPE, ...)                                                                               \
    k->matmul[DTYPE_##TYPE] = amx_##TYPE;                                                          \
    k->act_for[DTYPE_##TYPE] = ACT_Q8_PLAIN;
    QUANT_LOADERS(X)
#undef X
    k->matmul[DTYPE_BF16] = amx_BF16;
    k->matmul[DTYPE_F16] = amx_F16;
    k->act_for[DTYPE_BF16] = k->act_for[DTYPE_F16] = ACT_BF16;
}
