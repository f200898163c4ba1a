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
    PANEL_TOKENS = 4 /* of a tile */
};

/* 16 rows of a block of 32 columns, bytes (+ 128 unless the type has mins) and floats. */
struct panel_block {
    uint8_t q[8][64]; /* [k]: columns 4 k .. 4 k + 3 of each row */
    float d[16], m[16];
    float sc[2][16];   /* of half blocks */
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

/* t[4 L + j] = dword j of 128-bit lane L of each of v[0..16). */
INLINED void transpose16(const __m512i v[16], __m512i t[16])
{
    __m512i a[4][4]; /* [four rows][j], each 128-bit lane by itself */
    UNROLL
    for (int s = 0; s < 4; s++) {
        const __m512i *r = v + 4 * s;
        __m512i lo0 = _mm512_unpacklo_epi32(r[0], r[1]), hi0 = _mm512_unpackhi_epi32(r[0], r[1]);
        __m512i lo1 = _mm512_unpacklo_epi32(r[2], r[3]), hi1 = _mm512_unpackhi_epi32(r[2], r[3]);
        a[s][0] = _mm512_unpacklo_epi64(lo0, lo1);
        a[s][1] = _mm512_unpackhi_epi64(lo0, lo1);
        a[s][2] = _mm512_unpacklo_epi64(hi0, hi1);
        a[s][3] = _mm512_unpackhi_epi64(hi0, hi1);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i p = _mm512_shuffle_i32x4(a[0][j], a[1][j], 0x88);
        __m512i q = _mm512_shuffle_i32x4(a[2][j], a[3][j], 0x88);
        __m512i r = _mm512_shuffle_i32x4(a[0][j], a[1][j], 0xdd);
        __m512i s = _mm512_shuffle_i32x4(a[2][j], a[3][j], 0xdd);
        t[0 + j] = _mm512_shuffle_i32x4(p, q, 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(r, s, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(p, q, 0xdd);
        t[12 + j] = _mm512_shuffle_i32x4(r, s, 0xdd);
    }
}

/* Row r's 8 floats go to lane r of 8 vectors. */
INLINED void transpose_floats(const __m256 v[16], __m512 t[8])
{
    __m512 w[8], a[8];
    UNROLL
    for (int r = 0; r < 8; r++) /* rows r, r + 8 */
        w[r] = _mm512_insertf32x8(_mm512_castps256_ps512(v[r]), v[r + 8], 1);
    UNROLL
    for (int s = 0; s < 2; s++) {
        const __m512 *r = w + 4 * s;
        __m512d lo0 = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
        __m512d hi0 = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
        __m512d lo1 = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
        __m512d hi1 = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
        a[4 * s + 0] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo0, lo1));
        a[4 * s + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo0, lo1));
        a[4 * s + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(hi0, hi1));
        a[4 * s + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(hi0, hi1));
    }
    const __m512i first =
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    const __m512i second =
        _mm512_setr_epi32(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    UNROLL
    for (int j = 0; j < 4; j++) {
        t[j] = _mm512_permutex2var_ps(a[j], first, a[4 + j]);
        t[4 + j] = _mm512_permutex2var_ps(a[j], second, a[4 + j]);
    }
}

/* For flags: panels hold w itself, not w + 128. */
enum { AS_SIGNED = 16 };

/* w + 128 as unsigned bytes; where there are mins, w as it is. */
INLINED __m512i panel_bytes(__m512i q, const int flags)
{
    if (flags & W_MIN)
        return q;
    if (flags & AS_SIGNED)
        return OFFSET(flags) ? _mm512_sub_epi8(q, _mm512_set1_epi8(OFFSET(flags))) : q;
    if (flags & IS_SIGNED)
        return _mm512_xor_si512(q, _mm512_set1_epi8(-128));
    return _mm512_add_epi8(q, _mm512_set1_epi8((char)(128 - OFFSET(flags))));
}

/* A group of 16 rows, unpacked and not yet turned. */
struct panel_group {
    __m512i q[4][16];
    __m256 d[16], m[16];
    __m128i sc[16], mn[16];
};

#include "worker/kernel/x86/panel_load_impl.h"

/* The first nb blocks of *g to their places. */
INLINED void panel_group_store(const struct panel_group *g, uint32_t nb, char *panel,
                               const uint8_t *at, const int flags)
{
    const size_t stride = panel_block_bytes(flags);
    __m512 d[8], m[8];
    transpose_floats(g->d, d);
    if (flags & W_MIN)
        transpose_floats(g->m, m);
    if (flags & W_HALF) {
        __m512i sc[4];
        turn_dwords(g->sc, sc);
        panel_half_scales(sc, panel, at, nb, stride);
    }
    for (uint32_t b = 0; flags & W_HALF && flags & W_MIN && b < nb; b++)
        for (uint32_t r = 0; r < 16; r++)
            for (uint32_t h = 0; h < 2; h++)
                ((struct panel_block *)(panel + at[b] * stride))->mn[r][h] =
                    ((const int8_t *)&g->mn[r])[2 * b + h];
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        __m512i t[16];
        transpose16(g->q[i], t);
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t b = i + 4 * half;
            if (b >= nb)
                continue;
            struct panel_block *to = (struct panel_block *)(panel + at[b] * stride);
            UNROLL
            for (uint32_t k = 0; k < 8;
                 k++) /* lanes: half 0 of i, of i + 4, half 1 of i, of i + 4 */
                _mm512_store_si512(to->q[k], t[8 * (k / 4) + 4 * half + k % 4]);
            _mm512_store_ps(to->d, d[b]);
            if (flags & W_MIN)
                _mm512_store_ps(to->m, m[b]);
        }
    }
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
        _mm_prefetch(p->ahead, _MM_HINT_T1);
}

/* While this chunk passes, its share of the panels from `row` on. */
INLINED void panel_fetch_set(struct panel_pair *p, const struct kern_mat *w, uint32_t row,
                             uint32_t row1, uint32_t n_tok)
{
    const uint32_t n_chunks = (w->n_cols + QUANT_CHUNK - 1) / QUANT_CHUNK;
    const uint32_t n_rows = MIN_OF(row1 - row, 2u * PANEL_ROWS);
    const size_t part = (n_rows * w->row_bytes + n_chunks - 1) / n_chunks;
    const uint32_t tiles = MIN_OF((n_tok + PANEL_TOKENS - 1) / PANEL_TOKENS, 8u);
    const uint32_t steps = p->n_blocks * tiles;
    p->ahead = (const char *)w->data + row * w->row_bytes + p->col0 / QUANT_CHUNK * part;
    p->ahead_end = p->ahead + part;
    p->lines = (uint32_t)((part / 64 + steps) / steps);
}

/* The generic way: row by row to registers, then turned. */
INLINED void panel_group_load(const struct panel_rows *p, uint32_t c, uint32_t n_cols,
                              const size_t group_bytes, load_fn load, struct panel_group *g,
                              const int flags)
{
    char last[8 * sizeof(struct block_q8_0)];
    for (uint32_t r = 0; r < PANEL_ROWS; r++) {
        const char *group = panel_row(p, r);
        struct wregs w;
        if (UNLIKELY(n_cols - c < 256)) {
            memset(last, 0, sizeof(last));
            memcpy(last, group, (n_cols - c) / QK * (group_bytes / 8));
            group = last;
        }
        load(group, &w);
        UNROLL
        for (int i = 0; i < 4; i++)
            g->q[i][r] = panel_bytes(w.q[i], flags);
        g->d[r] = w.d;
        if (flags & W_MIN)
            g->m[r] = w.m;
        if (flags & W_HALF)
            g->sc[r] = w.sc;
        if (flags & W_HALF && flags & W_MIN)
            g->mn[r] = w.mn;
    }
}

/* Columns c0 <= c < c1 of n rows (1 .. 16) to a panel; the rows after them repeat the last. */
INLINED void panel_unpack(const char *rows, size_t row_bytes, uint32_t n, uint32_t c0, uint32_t c1,
                          uint32_t n_cols, char *panel, const uint8_t *at, const size_t group_bytes,
                          load_fn load, panel_load_fn panel_load, bool cold, const int flags)
{
    for (uint32_t c = c0; c < c1; c += 256, at += 8) {
        const struct panel_rows p = {rows + c / 256 * group_bytes, row_bytes, n};
        for (uint32_t r = 0; cold && r < PANEL_ROWS; r++)
            for (size_t o = 0; o < group_bytes; o += 64)
                _mm_prefetch(p.at + r * row_bytes + group_bytes + o, _MM_HINT_T0);
        if (panel_load) {
            panel_load(&p, panel, at, flags);
            continue;
        }
        _Alignas(64) struct panel_group g;
        panel_group_load(&p, c, n_cols, group_bytes, load, &g, flags);
        panel_group_store(&g, MIN_OF(c1 - c, 256u) / QK, panel, at, flags);
    }
}

INLINED __m512i bcast(const void *p)
{
    return _mm512_set1_epi32((int)get32(p));
}

/* Sums of products of R panels' block with T tokens' block b of 8. */
INLINED void panel_dots(const struct panel_block *const w[2], const struct act_q8 *const x[],
                        uint32_t b, const uint32_t k0, const uint32_t k1, const uint32_t R,
                        const uint32_t T, __m512i s[2][PANEL_TOKENS])
{
    UNROLL
    for (uint32_t k = k0; k < k1; k++) {
        __m512i wk[2];
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            wk[r] = _mm512_load_si512(w[r]->q[k]);
        UNROLL
        for (uint32_t t = 0; t < T; t++) {
            __m512i xk = bcast(x[t]->q + 64 * (k % 4) + 32 * (k / 4) + 4 * b);
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                s[r][t] = _mm512_dpbusd_epi32(s[r][t], wk[r], xk);
        }
    }
}

/* The integers of a block, its halves apart where they have scales, to one float. */
INLINED __m512 panel_float(const struct panel_block *w, __m512i s0, __m512i s1, const int flags)
{
    if (!(flags & W_HALF))
        return _mm512_cvtepi32_ps(s0);
    __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(s0), _mm512_load_ps(w->sc[0]));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(s1), _mm512_load_ps(w->sc[1]), f);
}

/* acc + D dx I + M: unpack.h. */
INLINED __m512 panel_add(const struct panel_block *w, const struct act_q8 *x, uint32_t b, __m512 f,
                         __m512 acc, const int flags)
{
    const __m512 dx = _mm512_set1_ps(x->d[b]);
    acc = _mm512_fmadd_ps(f, _mm512_mul_ps(_mm512_load_ps(w->d), dx), acc);
    if (!(flags & W_MIN))
        return acc;
    __m512 ms = _mm512_set1_ps(x->ds[b]);
    if (flags & W_HALF) {
        __m512i sums = bcast(&x->sum[2 * b]);
        __m512i mn = _mm512_load_si512(w->mn);
        ms = _mm512_mul_ps(dx, _mm512_cvtepi32_ps(_mm512_madd_epi16(mn, sums)));
    }
    return _mm512_fmadd_ps(_mm512_load_ps(w->m), ms, acc);
}

/* Where the sums of a block begin: its 128 per weight taken back. */
INLINED __m512i panel_begin(const int32_t *off, const int flags)
{
    return flags & W_MIN ? _mm512_setzero_si512() : bcast(off);
}

/* acc += what a block adds. */
INLINED void panel_step(const struct panel_block *const w[2], const struct act_q8 *const x[],
                        uint32_t b, const uint32_t R, const uint32_t T, __m512 acc[2][PANEL_TOKENS],
                        const int flags)
{
    __m512i s0[2][PANEL_TOKENS], s1[2][PANEL_TOKENS];
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            s0[r][t] = panel_begin(flags & W_HALF ? &x[t]->off_half[2 * b] : &x[t]->off[b], flags);
            s1[r][t] = panel_begin(&x[t]->off_half[2 * b + 1], flags);
        }
    }
    panel_dots(w, x, b, 0, flags & W_HALF ? 4 : 8, R, T, s0);
    if (flags & W_HALF)
        panel_dots(w, x, b, 4, 8, R, T, s1);
    UNROLL
    for (uint32_t t = 0; t < T; t++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++)
            acc[r][t] = panel_add(w[r], x[t], b, panel_float(w[r], s0[r][t], s1[r][t], flags),
                                  acc[r][t], flags);
    }
}

INLINED void panel_out(float *y, __mmask16 mask, __m512 sum, bool first)
{
    __m512 before = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, y);
    _mm512_mask_storeu_ps(y, mask, _mm512_add_ps(before, sum));
}

/* Of the last panel's lanes those that are rows. */
INLINED __mmask16 panel_mask(uint32_t n_rows)
{
    return (__mmask16)(0xffffu >> (15 - (n_rows - 1) % PANEL_ROWS));
}

/* R panels times tokens t0 to t0 + T. */
INLINED void panel_tile(struct panel_pair *p, const struct kern_act *x, uint32_t t0,
                        const uint32_t R, const uint32_t T, const int flags)
{
    const size_t stride = panel_block_bytes(flags);
    const char *x0 = (const char *)x->rows + t0 * x->row_bytes;
    const char *group = x0 + p->col0 / 256 * sizeof(struct act_q8), *panels = p->panels;
    __m512 wait[3][2][PANEL_TOKENS], acc[2][PANEL_TOKENS];
    for (uint32_t i = 0; i < 8; i++) {
        UNROLL
        for (uint32_t r = 0; r < R; r++) {
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                acc[r][t] = _mm512_setzero_ps();
        }
        const char *xg = group;
        for (uint32_t b = panel_lanes[i]; b < p->n_blocks; b += 8) {
            const struct panel_block *w[2];
            const struct act_q8 *xt[PANEL_TOKENS];
            UNROLL
            for (uint32_t r = 0; r < R; r++)
                w[r] = (const struct panel_block *)(panels + r * p->one_bytes);
            UNROLL
            for (uint32_t t = 0; t < T; t++)
                xt[t] = (const struct act_q8 *)(xg + t * x->row_bytes);
            panel_fetch(p);
            panel_step(w, xt, panel_lanes[i], R, T, acc, flags);
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
                        acc[r][t] = _mm512_add_ps(wait[level][r][t], acc[r][t]);
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
            const __mmask16 m = r + 1 == R ? panel_mask(p->n_rows) : (__mmask16)0xffff;
            panel_out(p->y + (t0 + t) * p->ld_y + 16 * r, m, acc[r][t], p->col0 == 0);
        }
    }
}

/* All tokens over it. */
INLINED void panel_tokens(struct panel_pair *p, const struct kern_act *x, const int flags)
{
#define TILE(R, T) panel_tile(p, x, t, R, T, flags)
    uint32_t t = 0;
    if (p->n_rows > PANEL_ROWS) {
        for (; t + 4 <= x->n_tok; t += 4)
            TILE(2, 4);
        for (; t + 2 <= x->n_tok; t += 2)
            TILE(2, 2);
        for (; t < x->n_tok; t++)
            TILE(2, 1);
    } else {
        for (; t + 4 <= x->n_tok; t += 4)
            TILE(1, 4);
        for (; t < x->n_tok; t++)
            TILE(1, 1);
    }
#undef TILE
}

typedef void (*panel_fn)(struct panel_pair *p, const struct kern_act *x, const int flags);

INLINED void panel_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, panel_load_fn panel_load, const int flags, panel_fn tokens)
{
    _Alignas(64) char panels[2 * PANEL_BLOCKS * sizeof(struct panel_block)];
    struct panel_pair p = {
        .panels = panels, .one_bytes = PANEL_BLOCKS * panel_block_bytes(flags), .ld_y = ld_y};
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        p.n_rows = MIN_OF(row1 - r, 2u * PANEL_ROWS);
        p.y = y + (r - row0);
        for (uint32_t c = 0, c1; c < w->n_cols; c = c1) {
            uint8_t at[PANEL_BLOCKS];
            c1 = MIN_OF(w->n_cols, c + QUANT_CHUNK);
            p.col0 = c;
            p.n_blocks = (c1 - c) / QK;
            panel_order(p.n_blocks, at);
            panel_fetch_set(&p, w, r + p.n_rows, row1, x->n_tok);
            for (uint32_t i = 0; i * PANEL_ROWS < p.n_rows; i++)
                panel_unpack((const char *)w->data + (r + i * PANEL_ROWS) * w->row_bytes,
                             w->row_bytes, MIN_OF(p.n_rows - i * PANEL_ROWS, (uint32_t)PANEL_ROWS),
                             c, c1, w->n_cols, panels + i * p.one_bytes, at, group_bytes, load,
                             panel_load, r == row0, flags);
            tokens(&p, x, flags);
        }
    }
}
