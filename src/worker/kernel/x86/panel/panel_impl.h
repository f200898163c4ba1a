/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of many tokens with quantised weights: panels of 16 rows.  Included once by each
 * quant_*.c whose registers hold 16 lanes, after load_impl.h.  Bit for bit quant_impl.h and ref.
 *
 * One 32-bit lane per weight row: a register holds 4 consecutive columns of 16 rows, and an
 * activation's 4 bytes are broadcast against it, so that a product needs no step across lanes, and
 * scales are plain vectors.  Rows are brought into that form, a chunk of QUANT_CHUNK columns of two
 * panels at a time, in a scratch on the stack that stays in the first-level cache while all tokens
 * of the call pass over it.  ref's 8 float lanes are taken one after the other: blocks b, b + 8,
 * ... of a chunk, then the next; the sums meet as ref folds them. */

enum {
    PANEL_ROWS = 16,
    PANEL_BLOCKS = QUANT_CHUNK / QK,
    PANEL_TOKENS = 4 /* of a tile over panels in the scratch */
};

/* 16 rows of a block of 32 columns, bytes (+ 128 unless the type has mins) and floats. */
struct panel_block {
    uint8_t q[8][64]; /* [k]: columns 4 k .. 4 k + 3 of each row */
    float d[16], m[16];
    union { /* of half blocks */
        float sc[2][16];
        int16_t sc_pairs[2][16][2]; /* each twice */
    };
    int16_t mn[16][2]; /* likewise */
};

/* Where the sizes differ by type: what of panel_block it uses. */
INLINED size_t panel_block_bytes(const int flags)
{
    return flags & W_HALF  ? sizeof(struct panel_block)
           : flags & W_MIN ? offsetof(struct panel_block, sc)
                           : offsetof(struct panel_block, m);
}

/* The float lanes in an order in which neighbours meet: ((0 4)(2 6)) ((1 5)(3 7)). */
static const uint8_t panel_lanes[8] = {0, 4, 2, 6, 1, 5, 3, 7};

/* ret_at[b]: the place of block b of nb. */
INLINED void panel_order(uint32_t nb, uint8_t ret_at[PANEL_BLOCKS])
{
    uint8_t n = 0;
    for (uint32_t i = 0; i < 8; i++)
        for (uint32_t b = panel_lanes[i]; b < nb; b += 8)
            ret_at[b] = n++;
}

/* The 4 bytes of step k of block b, against every row. */
INLINED b64 panel_act(const struct act_q8 *x, uint32_t b, uint32_t k)
{
    return b64_set32(get32(x->q + 64 * (k % 4) + 32 * (k / 4) + 4 * b));
}

/* A block of a panel where a product takes it from: its scales, and its bytes beside them or, where
 * there is a get, still packed. */
struct panel_src {
    const struct panel_block *w;
    const struct strip_group *group; /* block `first` + n of it: strip_impl.h */
    uint32_t first, n;
};

typedef b64 (*panel_get_fn)(const struct strip_group *group, uint32_t first, const uint32_t n,
                            const uint32_t k, const int flags);

/* Step k: columns 4 k .. 4 k + 3 of each row. */
INLINED b64 panel_q(const struct panel_src *s, const uint32_t k, panel_get_fn get, const int flags)
{
    return get ? get(s->group, s->first, s->n, k, flags) : b64_load(s->w->q[k]);
}

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include "worker/kernel/x86/panel/vnni_impl.h"
#else
#include "worker/kernel/x86/panel/madd_impl.h"
#endif

#include "worker/kernel/x86/panel/turn_impl.h"

/* A chunk of up to 32 rows, unpacked, and where it goes. */
struct panel_pair {
    const char *panels; /* the second one_bytes after the first */
    size_t one_bytes;
    uint32_t n_rows, n_blocks, col0;
    float *y; /* gains the products, or becomes them where col0 is 0 */
    size_t ld_y;
    /* What will be unpacked next, fetched while tokens pass, `lines` for every block. */
    const char *ahead, *ahead_end;
    uint32_t lines;
};

INLINED void panel_fetch(struct panel_pair *p)
{
    if (p->ahead >= p->ahead_end)
        return;
    for (uint32_t i = 0; i < p->lines; i++, p->ahead += 64)
        _mm_prefetch(p->ahead, _MM_HINT_T1);
}

/* While this chunk of n_cols columns passes, its share of the n_bytes from next on. */
INLINED void panel_fetch_set(struct panel_pair *p, const char *next, size_t n_bytes,
                             uint32_t n_cols, uint32_t n_tok)
{
    const uint32_t n_chunks = (n_cols + QUANT_CHUNK - 1) / QUANT_CHUNK;
    const size_t part = (n_bytes + n_chunks - 1) / n_chunks;
    const uint32_t tiles = MIN_OF((n_tok + PANEL_TOKENS - 1) / PANEL_TOKENS, 8u);
    const uint32_t steps = p->n_blocks * tiles;
    p->ahead = next + p->col0 / QUANT_CHUNK * part;
    p->ahead_end = p->ahead + part;
    p->lines = (uint32_t)((part / 64 + steps) / steps);
}

/* Columns c0 <= c < c1 of n rows (1 .. 16) to a panel; the rows after them repeat the last. */
INLINED void panel_unpack(const char *rows, const char *end, size_t row_bytes, uint32_t n,
                          uint32_t c0, uint32_t c1, char *panel, const uint8_t *at,
                          const size_t group_bytes, load_fn load, panel_load_fn panel_load,
                          bool cold, const int flags)
{
    for (uint32_t c = c0; c < c1; c += 256, at += 8) {
        struct panel_rows p = {.end = end, .n_blocks = MIN_OF(c1 - c, 256u) / QK};
        for (uint32_t r = 0; r < PANEL_ROWS; r++)
            p.row[r] = rows + MIN_OF(r, n - 1) * row_bytes + c / 256 * group_bytes;
        for (uint32_t r = 0; cold && r < PANEL_ROWS; r++)
            for (size_t o = 0; o < group_bytes; o += 64)
                _mm_prefetch(p.row[r] + group_bytes + o, _MM_HINT_T0);
        if (panel_load)
            panel_load(&p, panel, at, flags);
        else
            panel_load_any(&p, panel, at, group_bytes, load, flags);
    }
}

/* acc + D dx I + M: unpack.h. */
INLINED v16 panel_add(const struct panel_block *w, const struct act_q8 *x, uint32_t b, v16 f,
                      v16 acc, const int flags)
{
    const v16 dx = v16_set1(x->d[b]);
    acc = v16_fma(f, v16_mul(v16_load(w->d), dx), acc);
    if (!(flags & W_MIN))
        return acc;
    v16 ms = v16_set1(x->ds[b]);
    if (flags & W_HALF) {
        b64 sums = b64_set32(get32(&x->sum[2 * b]));
        ms = v16_mul(dx, b64_float(b64_madd16(b64_load(w->mn), sums)));
    }
    return v16_fma(v16_load(w->m), ms, acc);
}

/* acc += what a block adds. */
INLINED void panel_step(const struct panel_src w[], const struct act_q8 *const x[], uint32_t b,
                        const uint32_t R, const uint32_t T, v16 acc[PANELS][MOST_TOKENS],
                        panel_get_fn get, const int flags)
{
    v16 f[PANELS][MOST_TOKENS];
    panel_sums(w, x, b, R, T, f, get, flags);
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            acc[r][t] = panel_add(w[r].w, x[t], b, f[r][t], acc[r][t], flags);
    }
}

/* Of the last panel's lanes those that are rows. */
INLINED row_mask panel_mask(uint32_t n_rows)
{
    return row_mask_of((n_rows - 1) % PANEL_ROWS + 1);
}

INLINED void panel_out(float *y, row_mask m, v16 sum, bool first)
{
    rows_store(y, m, v16_add(first ? v16_zero() : rows_load(y, m), sum));
}

/* R panels times tokens t0 to t0 + T. */
INLINED void panel_tile(struct panel_pair *p, const struct kern_act *x, uint32_t t0,
                        const uint32_t R, const uint32_t T, const int flags)
{
    const size_t stride = panel_block_bytes(flags);
    const char *x0 = (const char *)x->rows + t0 * x->row_bytes;
    const char *group = x0 + p->col0 / 256 * sizeof(struct act_q8), *panels = p->panels;
    v16 wait[3][PANELS][MOST_TOKENS], acc[PANELS][MOST_TOKENS];
    for (uint32_t i = 0; i < 8; i++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[r][t] = v16_zero();
        }
        const char *xg = group;
        for (uint32_t b = panel_lanes[i]; b < p->n_blocks; b += 8) {
            struct panel_src w[PANELS];
            const struct act_q8 *xt[MOST_TOKENS];
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                w[r].w = (const struct panel_block *)(panels + r * p->one_bytes);
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                xt[t] = (const struct act_q8 *)(xg + t * x->row_bytes);
            panel_fetch(p);
            panel_step(w, xt, panel_lanes[i], R, T, acc, NULL, flags);
            panels += stride;
            xg += sizeof(struct act_q8);
        }
        for (uint32_t level = 0;; level++) { /* as carries run: a sum waits for its neighbour */
            const bool meets = i >> level & 1;
            UNROLL
            for (uint32_t r = 0; r < R; r++) {
                UNROLL
                for (uint32_t t = 0; t < T; t++)
                    if (meets)
                        acc[r][t] = v16_add(wait[level][r][t], acc[r][t]);
                    else if (level < 3)
                        wait[level][r][t] = acc[r][t];
            }
            if (!meets)
                break;
        }
    }
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            const row_mask m = r + 1 == R ? panel_mask(p->n_rows) : row_mask_of(PANEL_ROWS);
            panel_out(p->y + (t0 + t) * p->ld_y + 16 * r, m, acc[r][t], p->col0 == 0);
        }
    }
}

/* All tokens over it. */
INLINED void panel_tokens(struct panel_pair *p, const struct kern_act *x, const int flags)
{
#define TILES(R)                                                                                   \
    do {                                                                                           \
        for (; t + 4 <= x->n_tok; t += 4)                                                          \
            panel_tile(p, x, t, R, 4, flags);                                                      \
        for (; t + 2 <= x->n_tok; t += 2)                                                          \
            panel_tile(p, x, t, R, 2, flags);                                                      \
        for (; t < x->n_tok; t++)                                                                  \
            panel_tile(p, x, t, R, 1, flags);                                                      \
    } while (0)
    uint32_t t = 0;
    if (PANELS == 2 && p->n_rows > PANEL_ROWS)
        TILES(PANELS);
    else
        TILES(1);
#undef TILES
}

typedef void (*panel_fn)(struct panel_pair *p, const struct kern_act *x, const int flags);

INLINED void panel_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, panel_load_fn panel_load, const int flags, panel_fn tokens)
{
    _Alignas(64) char panels[PANELS * PANEL_BLOCKS * sizeof(struct panel_block)];
    struct panel_pair p = {
        .panels = panels, .one_bytes = PANEL_BLOCKS * panel_block_bytes(flags), .ld_y = ld_y};
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        p.n_rows = MIN_OF(row1 - r, 1u * PANELS * PANEL_ROWS);
        p.y = y + (r - row0);
        const char *next = (const char *)w->data + (r + p.n_rows) * w->row_bytes;
        const uint32_t n_next = MIN_OF(row1 - r - p.n_rows, 1u * PANELS * PANEL_ROWS);
        for (uint32_t c = 0, c1; c < w->n_cols; c = c1) {
            uint8_t at[PANEL_BLOCKS];
            c1 = MIN_OF(w->n_cols, c + QUANT_CHUNK);
            p.col0 = c;
            p.n_blocks = (c1 - c) / QK;
            panel_order(p.n_blocks, at);
            panel_fetch_set(&p, next, n_next * w->row_bytes, w->n_cols, x->n_tok);
            for (uint32_t i = 0; i * PANEL_ROWS < p.n_rows; i++)
                panel_unpack((const char *)w->data + (r + i * PANEL_ROWS) * w->row_bytes,
                             (const char *)w->data + w->n_rows * w->row_bytes, w->row_bytes,
                             MIN_OF(p.n_rows - i * PANEL_ROWS, (uint32_t)PANEL_ROWS), c, c1,
                             panels + i * p.one_bytes, at, group_bytes, load, panel_load, r == row0,
                             flags);
            tokens(&p, x, flags);
        }
    }
}
