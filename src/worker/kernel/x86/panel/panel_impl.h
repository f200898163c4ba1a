/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of many tokens with quantised weights: panels of 16 rows.  Included once by each
 * quant_*.c and panels_*.c of 16 lanes, x86's and Arm's, after quant_common.h.  Bit for bit quant_impl.h and ref.
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

#if defined(__aarch64__)
#include "worker/kernel/arm/sums_impl.h"
#elif defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include "worker/kernel/x86/panel/vnni_impl.h"
#else
#include "worker/kernel/x86/panel/madd_impl.h"
#endif

INLINED struct panel_block *panel_at(char *panel, uint32_t place, const int flags)
{
    return (struct panel_block *)(panel + place * panel_block_bytes(flags));
}

/* Scales of half blocks: byte s % 4 of dword s / 4 is half s. */
INLINED void panel_half_scales(const b64 d[4], char *panel, const uint8_t at[8], uint32_t nb,
                               const int flags)
{
    UNROLL
    for (uint32_t b = 0; b < 8; b++) {
        if (b < nb)
            panel_scales_store(panel_at(panel, at[b], flags), d[b / 2], 2 * (int)(b % 2), flags);
    }
}

/* Mins of half blocks, likewise; they are not negative. */
INLINED void panel_half_mins(const b64 d[4], char *panel, const uint8_t at[8], uint32_t nb,
                             const int flags)
{
    UNROLL
    for (uint32_t b = 0; b < 8; b++) {
        const b64 v = b % 2 ? b64_srl32(d[b / 2], 16) : d[b / 2];
        const b64 odd = b64_sll32(b64_and(v, b64_set32(0xff00)), 8);
        if (b < nb)
            b64_store(panel_at(panel, at[b], flags)->mn, b64_or(b64_and(v, b64_set32(0xff)), odd));
    }
}

INLINED b64 bits_of(b64 v, int shift, uint32_t mask)
{
    return b64_and(b64_srl32(v, shift), b64_set32(mask));
}

/* q, whose bytes are less than 16, and of v two bits from `shift` on (shift < 8) as bits 4 and 5, or
 * one as bit 4: mask 3 or 1. */
INLINED b64 with_bits(b64 q, b64 v, int shift, int mask)
{
    return b64_insert(q, shift < 4 ? b64_sll(v, 4 - shift) : b64_srl(v, shift - 4), mask << 4);
}

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
        FETCH_FAR(p->ahead);
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

/* acc + D dx I + M: unpack.h. */
INLINED v16 panel_add(const struct panel_block *w, const struct act_q8 *x, uint32_t b, v16 f,
                      v16 acc, const int flags)
{
    acc = v16_fma(f, v16_mul1(v16_load(w->d), x->d[b]), acc);
    if (!(flags & W_MIN))
        return acc;
    if (!(flags & W_HALF))
        return v16_fma1(v16_load(w->m), x->ds[b], acc);
    const b64 sums = b64_madd16(b64_load(w->mn), b64_set32(get32(&x->sum[2 * b])));
    return v16_fma(v16_load(w->m), v16_mul1(b64_float(sums), x->d[b]), acc);
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
