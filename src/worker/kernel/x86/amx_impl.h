/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with quantised weights on tiles (tile.h): tokens are the left operand as they
 * lie, weights the right one in panels of 16 rows.  Included once, after amx_float_impl.h.
 *
 * A tile product is a block of 32 columns (or half of one), its exact integers are then scaled and
 * added as panel_impl.h does it: bit for bit as on every other level.  The vector units have more
 * to do than the tiles, and the way from one to the other is long and leads through memory: so
 * while a unit's integers are scaled the next one's are made, a block for a block. */

enum { UNIT_TOKENS = 16, UNIT_BLOCKS = QUANT_CHUNK / 256 };

/* n_tok rows of tokens, k_bytes of columns.  Tiles: 0 and 1 sums, 2 and 3 weights, 4 to 7 tokens.
 */
INLINED void tiles_begin(uint32_t n_tok, uint32_t k_bytes)
{
    _Alignas(64) struct tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++)
        if (i < 2)
            tile_shape(&c, i, n_tok, 64);
        else if (i < 4)
            tile_shape(&c, i, k_bytes / 4, 64);
        else
            tile_shape(&c, i, n_tok, k_bytes);
    TILES_CONFIG(&c);
}

/* For flags: scales of half blocks are in the weights, as fold_panel says. */
enum { W_FOLDED = 32, IN_TWO = W_HALF | W_FOLDED /* a block is two products */ };

/* 16 rows of a block whose weights times scales are 64 hi + lo. */
struct fold_block {
    int8_t hi[8][64];
    float d[16]; /* where panel_block has it */
    int8_t lo[8][64];
};
_Static_assert(offsetof(struct fold_block, d) == offsetof(struct panel_block, d), "panel_add");

INLINED size_t unit_block_bytes(const int flags)
{
    return flags & W_FOLDED ? sizeof(struct fold_block) : panel_block_bytes(flags);
}

/* A float lane of a chunk of one panel: its first block, and how many there are. */
struct unit {
    const char *w;
    uint32_t i, lane, n, panel; /* lane = panel_lanes[i] */
};

/* A unit's integers, by block, or by half block. */
struct unit_sums {
    _Alignas(64) int32_t s[2 * UNIT_BLOCKS][UNIT_TOKENS][16];
};

/* Of a chunk and up to 16 tokens. */
struct unit_tokens {
    const char *plain, *group; /* of the first token: bytes in order, struct act_q8 */
    size_t row_bytes;
    __m512 wait[3][2][UNIT_TOKENS]; /* sums that wait for their neighbour, of each panel */
};

INLINED void unit_lane(struct unit *u, uint32_t i, uint32_t n_blocks)
{
    u->i = i;
    u->lane = panel_lanes[i % 8];
    u->n = u->lane < n_blocks ? (n_blocks - u->lane + 7) / 8 : 0;
}

/* The same lane of the second panel, or the next lane of the first. */
INLINED struct unit unit_next(struct unit u, const struct panel_pair *p, const int flags)
{
    if (u.panel == 0 && p->n_rows > PANEL_ROWS) {
        u.panel = 1;
        u.w += p->one_bytes;
        return u;
    }
    u.w += u.n * unit_block_bytes(flags) - u.panel * p->one_bytes;
    u.panel = 0;
    unit_lane(&u, u.i + 1, p->n_blocks);
    return u;
}

/* Begins block g's products; a lane's tokens stay in tiles for the second panel where they fit. */
INLINED void unit_dot(const struct unit *u, const uint32_t g, const struct unit_tokens *x,
                      const int flags)
{
    const struct panel_block *w = (const struct panel_block *)(u->w + g * unit_block_bytes(flags));
    const char *xb = x->plain + 32 * u->lane + 256 * g;
#define DOT(SUM, WEIGHTS, TOKENS, q)                                                               \
    do {                                                                                           \
        TILE_LOAD(WEIGHTS, q, 64);                                                                 \
        TILE_ZERO(SUM);                                                                            \
        TILE_DOT_INT8(SUM, TOKENS, WEIGHTS);                                                       \
    } while (0)
#define BLOCK(SUM, WEIGHTS, TOKENS)                                                                \
    do {                                                                                           \
        if (u->panel == 0)                                                                         \
            TILE_LOAD(TOKENS, xb, x->row_bytes);                                                   \
        if (flags & W_FOLDED) {                                                                    \
            DOT(0, 2, TOKENS, ((const struct fold_block *)w)->hi);                                 \
            DOT(1, 3, TOKENS, ((const struct fold_block *)w)->lo);                                 \
        } else {                                                                                   \
            DOT(SUM, WEIGHTS, TOKENS, w->q);                                                       \
        }                                                                                          \
    } while (0)
    if (g >= u->n)
        return;
    if (flags & W_HALF) {
        TILE_LOAD(4, xb, x->row_bytes);
        DOT(0, 2, 4, w->q[0]);
        TILE_LOAD(5, xb + 16, x->row_bytes);
        DOT(1, 3, 5, w->q[4]);
        return;
    }
    switch (g) {
    case 0: BLOCK(0, 2, 4); break;
    case 1: BLOCK(1, 3, 5); break;
    case 2: BLOCK(0, 2, 6); break;
    default: BLOCK(1, 3, 7); break;
    }
#undef BLOCK
#undef DOT
}

INLINED void unit_store(const struct unit *u, const uint32_t g, struct unit_sums *to,
                        const int flags)
{
    if (g >= u->n)
        return;
    if (flags & IN_TWO) {
        TILE_STORE(0, to->s[2 * g], 64);
        TILE_STORE(1, to->s[2 * g + 1], 64);
    } else if (g % 2 == 0) {
        TILE_STORE(0, to->s[g], 64);
    } else {
        TILE_STORE(1, to->s[g], 64);
    }
}

/* Where T <= 16 tokens' scales lie that a unit takes, so that the processor's own addresses reach
 * them: every fourth token, and the step between tokens, once and three times. */
struct unit_scales {
    const char *token[UNIT_TOKENS / 4];
    size_t step, step3;
};

/* The compiler is to keep p as it is, in a register. */
#define KEEP(p) __asm__("" : "+r"(p))

INLINED struct unit_scales unit_scales(const struct unit *u, const struct unit_tokens *x,
                                       uint32_t t0, const uint32_t T)
{
    struct unit_scales s = {.step = x->row_bytes, .step3 = 3 * x->row_bytes};
    UNROLL
    for (uint32_t i = 0; i < (T + 3) / 4; i++) {
        s.token[i] = x->group + (t0 + 4 * i) * x->row_bytes + sizeof(float) * u->lane;
        KEEP(s.token[i]);
    }
    KEEP(s.step3);
    return s;
}

/* acc += block g, for T tokens from t0 on.  A block's d, ds and sum lie four bytes further than
 * those of the one before, so the scales' beginning stands for block 0. */
INLINED void unit_scale(const struct unit *u, const uint32_t g, const struct unit_scales *x,
                        const struct unit_sums *in, uint32_t t0, const uint32_t T,
                        __m512 acc[UNIT_TOKENS], const int flags)
{
    const struct panel_block *w = (const struct panel_block *)(u->w + g * unit_block_bytes(flags));
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        const char *at = x->token[t / 4] + g * sizeof(struct act_q8);
        at += t % 4 == 3 ? x->step3 : t % 4 * x->step;
        __m512i s0 = _mm512_load_si512(in->s[flags & IN_TWO ? 2 * g : g][t0 + t]);
        __m512i s1 = flags & IN_TWO ? _mm512_load_si512(in->s[2 * g + 1][t0 + t]) : s0;
        if (flags & W_FOLDED)
            s0 = _mm512_add_epi32(_mm512_slli_epi32(s0, 6), s1);
        acc[t] = panel_add(w, (const struct act_q8 *)at, 0, panel_float(w, s0, s1, flags), acc[t],
                           flags);
    }
}

/* The unit's sums meet their neighbours', or leave. */
INLINED void unit_end(const struct unit *u, struct unit_tokens *x, struct panel_pair *p,
                      uint32_t t0, const uint32_t T, float *y, __m512 acc[UNIT_TOKENS])
{
    uint32_t level = 0;
    for (; u->i >> level & 1; level++) {
        const __m512 *neighbour = x->wait[level][u->panel] + t0;
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            acc[t] = _mm512_add_ps(neighbour[t], acc[t]);
    }
    if (level < 3) {
        UNROLL
        for (uint32_t t = 0; t < T; t++)
            x->wait[level][u->panel][t0 + t] = acc[t];
        return;
    }
    const bool last = u->panel == 1 || p->n_rows <= PANEL_ROWS;
    const __mmask16 m = last ? panel_mask(p->n_rows) : (__mmask16)0xffff;
    const size_t ld_y = p->ld_y;
    const bool first = p->col0 == 0;
    y += t0 * ld_y + PANEL_ROWS * u->panel;
    UNROLL
    for (uint32_t t = 0; t < T; t++, y += ld_y)
        panel_out(y, m, acc[t], first);
}

/* Scales `u` for T tokens while the products of `next` (NULL: none) begin. */
INLINED void unit_pass(const struct unit *u, const struct unit *next, struct panel_pair *p,
                       struct unit_tokens *x, const struct unit_sums *in, struct unit_sums *out,
                       uint32_t t0, const uint32_t T, float *y, const int flags)
{
    const struct unit_scales scales = unit_scales(u, x, t0, T);
    __m512 acc[UNIT_TOKENS];
    KEEP(in);
    UNROLL
    for (uint32_t t = 0; t < T; t++)
        acc[t] = _mm512_setzero_ps();
    UNROLL
    for (uint32_t g = 0; g < UNIT_BLOCKS; g++) {
        if (g < u->n) {
            /* Once for a block and a few tokens, as panel_fetch_set counts. */
            for (uint32_t i = 0; i < T && u->panel == 0; i += PANEL_TOKENS)
                panel_fetch(p);
            unit_scale(u, g, &scales, in, t0, T, acc, flags);
        }
        if (!next)
            continue;
        if (flags & IN_TWO) {
            unit_dot(next, g, x, flags);
            unit_store(next, g, out, flags);
        } else { /* a product takes its time: another one is begun before it is stored */
            unit_dot(next, g, x, flags);
            if (g > 0)
                unit_store(next, g - 1, out, flags);
        }
    }
    unit_end(u, x, p, t0, T, y, acc);
    if (next && !(flags & IN_TWO))
        unit_store(next, UNIT_BLOCKS - 1, out, flags);
}

/* A chunk of the pair for n_tok <= 16 tokens, the first of them t0. */
INLINED void amx_quant_tile(struct panel_pair *p, const struct kern_act *act, uint32_t t0,
                            uint32_t n_tok, const int flags)
{
    struct unit_sums sums[2];
    struct unit_tokens x;
    const char *row = (const char *)act->rows + t0 * act->row_bytes;
    float *y = p->y + t0 * p->ld_y;
    x.plain = row + act_q8_plain_at(act->n_cols) + p->col0;
    x.group = row + p->col0 / 256 * sizeof(struct act_q8);
    x.row_bytes = act->row_bytes;
    struct unit u = {.w = p->panels};
    unit_lane(&u, 0, p->n_blocks);
    UNROLL
    for (uint32_t g = 0; g < UNIT_BLOCKS; g++) {
        unit_dot(&u, g, &x, flags);
        unit_store(&u, g, &sums[0], flags);
    }
    for (uint32_t turn = 0; u.i < 8; turn ^= 1) {
        const struct unit after = unit_next(u, p, flags), *next = after.i < 8 ? &after : NULL;
        uint32_t t = 0;
#define PASS(T)                                                                                    \
    do {                                                                                           \
        unit_pass(&u, next, p, &x, &sums[turn], &sums[turn ^ 1], t, T, y, flags);                  \
        next = NULL;                                                                               \
        t += T;                                                                                    \
    } while (0)
        if (n_tok == UNIT_TOKENS) {
            PASS(UNIT_TOKENS);
        } else {
            if (n_tok & 8)
                PASS(8);
            if (n_tok & 4)
                PASS(4);
            if (n_tok & 2)
                PASS(2);
            if (n_tok & 1)
                PASS(1);
        }
#undef PASS
        u = after;
    }
}

INLINED void amx_quant_tokens(struct panel_pair *p, const struct kern_act *x, const int flags)
{
    for (uint32_t t = 0, n; t < x->n_tok; t += n) {
        n = MIN_OF(x->n_tok - t, (uint32_t)UNIT_TOKENS);
        if (p->tile_rows != n)
            tiles_begin(p->tile_rows = n, flags & W_HALF ? 16 : 32);
        amx_quant_tile(p, x, t, n, flags);
    }
}

/* Four columns of 16 rows times their scales, as 64 hi + lo: |q| <= 32, scales are 8-bit.  even and
 * odd: scales for columns of those numbers, 0 at the others; less: 32 scales - 32. */
INLINED void fold_bytes(__m512i q, __m512i even, __m512i odd, __m512i less, int8_t hi[64],
                        int8_t lo[64])
{
    const __m512i by32 = _mm512_set1_epi8(32), low = _mm512_set1_epi16(0xff);
    q = _mm512_add_epi8(q, by32);
    const __m512i e = _mm512_sub_epi16(_mm512_maddubs_epi16(q, even), less); /* product + 32 */
    const __m512i o = _mm512_sub_epi16(_mm512_maddubs_epi16(q, odd), less);
    const __m512i he = _mm512_srai_epi16(e, 6), ho = _mm512_srai_epi16(o, 6);
    const __m512i odds = _mm512_slli_epi16(o, 8);
    _mm512_store_si512(hi,
                       _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, he, _mm512_slli_epi16(ho, 8)));
    const __m512i six = _mm512_ternarylogic_epi32(e, low, odds, 0xea); /* (e & low) | odds */
    _mm512_store_si512(lo, _mm512_sub_epi8(_mm512_and_si512(six, _mm512_set1_epi8(63)), by32));
}

/* A panel with scales of half blocks, those multiplied into the weights: one product of a block's
 * integers has 14 bits a weight, in two parts. */
INLINED void fold_panel(const char *panel, uint32_t n_blocks, struct fold_block *to)
{
    for (uint32_t b = 0; b < n_blocks; b++, to++) {
        const struct panel_block *w =
            (const struct panel_block *)(panel + b * panel_block_bytes(W_HALF));
        _mm512_store_ps(to->d, _mm512_load_ps(w->d));
        for (int h = 0; h < 2; h++) {
            const __m512i sc = _mm512_cvtps_epi32(_mm512_load_ps(w->sc[h]));
            const __m512i twice = _mm512_or_si512(_mm512_and_si512(sc, _mm512_set1_epi32(0xffff)),
                                                  _mm512_slli_epi32(sc, 16));
            const __m512i even = _mm512_and_si512(twice, _mm512_set1_epi16(0xff));
            const __m512i less =
                _mm512_sub_epi16(_mm512_slli_epi16(twice, 5), _mm512_set1_epi16(32));
            UNROLL
            for (int k = 4 * h; k < 4 * h + 4; k++)
                fold_bytes(_mm512_load_si512(w->q[k]), even, _mm512_slli_epi16(twice, 8), less,
                           to->hi[k], to->lo[k]);
        }
    }
}

/* One body for all types of a kind: what differs between them is over when panels are there. */
#define KIND(NAME, FLAGS)                                                                          \
    static __attribute__((noinline)) void NAME(struct panel_pair *p, const struct kern_act *x,     \
                                               const int flags)                                    \
    {                                                                                              \
        (void)flags;                                                                               \
        amx_quant_tokens(p, x, FLAGS);                                                             \
    }
KIND(amx_tokens_plain, 0)
KIND(amx_tokens_min, W_MIN)
KIND(amx_tokens_few_half, W_HALF)
KIND(amx_tokens_folded, W_FOLDED)
KIND(amx_tokens_half_min, W_HALF_MIN)
#undef KIND

/* Scaling two halves costs a token more than two products, once it is worth folding a panel. */
enum { FOLD_MIN_TOKENS = 96 };

static void amx_tokens_half(struct panel_pair *p, const struct kern_act *x, const int flags)
{
    _Alignas(64) struct fold_block folded[2][PANEL_BLOCKS];
    if (x->n_tok < FOLD_MIN_TOKENS) {
        amx_tokens_few_half(p, x, flags);
        return;
    }
    fold_panel(p->panels, p->n_blocks, folded[0]);
    if (p->n_rows > PANEL_ROWS)
        fold_panel(p->panels + p->one_bytes, p->n_blocks, folded[1]);
    struct panel_pair two = *p;
    two.panels = (const char *)folded;
    two.one_bytes = sizeof(folded[0]);
    amx_tokens_folded(&two, x, flags);
    p->ahead = two.ahead;
    p->tile_rows = two.tile_rows;
}

INLINED panel_fn amx_tokens(const int flags)
{
    return flags & W_HALF  ? flags & W_MIN ? amx_tokens_half_min : amx_tokens_half
           : flags & W_MIN ? amx_tokens_min
                           : amx_tokens_plain;
}
