/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of 256 weights of 16 rows straight into a panel, for types that are worth it: turned while
 * still packed, scales of 16 rows decoded at once.  Included by file_impl.h alone. */

/* The 16 rows of a panel at one group, of which n_blocks blocks of 32 exist. */
struct panel_rows {
    const char *row[PANEL_ROWS]; /* the last row again where there are fewer */
    const char *end;             /* of the matrix */
    uint32_t n_blocks;
};

/* d[i] = dword i of the 16 bytes at `offset` of each row. */
INLINED void panel_turn(const char *const row[PANEL_ROWS], size_t offset, b64 d[4])
{
    b64 z[4];
    UNROLL
    for (uint32_t q = 0; q < 4; q++)
        z[q] = b64_load4(row[q] + offset, row[q + 4] + offset, row[q + 8] + offset,
                         row[q + 12] + offset);
    b64 lo0 = b64_unpacklo32(z[0], z[1]), lo1 = b64_unpacklo32(z[2], z[3]);
    b64 hi0 = b64_unpackhi32(z[0], z[1]), hi1 = b64_unpackhi32(z[2], z[3]);
    d[0] = b64_unpacklo64(lo0, lo1);
    d[1] = b64_unpackhi64(lo0, lo1);
    d[2] = b64_unpacklo64(hi0, hi1);
    d[3] = b64_unpackhi64(hi0, hi1);
}

/* The same where each row's bytes come `stride` after those of the row before. */
INLINED void panel_turn_at(const void *first, const size_t stride, b64 d[4])
{
    const char *row[PANEL_ROWS];
    UNROLL
    for (uint32_t r = 0; r < PANEL_ROWS; r++)
        row[r] = (const char *)first + r * stride;
    panel_turn(row, 0, d);
}

/* t[4 L + j] = dword j of 16-byte lane L of each row. */
INLINED void panel_turn64(const char rows[PANEL_ROWS][64], b64 t[16])
{
#ifdef __AVX512F__
    b64 v[PANEL_ROWS];
    UNROLL
    for (uint32_t r = 0; r < PANEL_ROWS; r++)
        v[r] = b64_load(rows[r]);
    transpose16(v, t);
#else
    UNROLL
    for (uint32_t l = 0; l < 4; l++)
        panel_turn_at(rows[0] + 16 * l, sizeof(rows[0]), t + 4 * l);
#endif
}

/* d, dmin and the 12 bytes of Q4_K and Q5_K (k_scale_min), 16 rows at a time. */
INLINED void panel_k_scales(const struct panel_rows *p, char *panel, const uint8_t at[8],
                            const int flags)
{
    b64 h[4];
    panel_turn(p->row, 0, h);
    const v16 d = b64_f16_low(h[0]), dmin = b64_f16_low(b64_srl32(h[0], 16));
    UNROLL
    for (int b = 0; b < 8; b++) {
        const int s = 8 * (b % 4);
        b64 sc, mn;
        if (b < 4) {
            sc = bits_of(h[1], s, 63);
            mn = bits_of(h[2], s, 63);
        } else {
            sc = b64_or(bits_of(h[3], s, 15), b64_sll32(bits_of(h[1], s + 6, 3), 4));
            mn = b64_or(bits_of(h[3], s + 4, 15), b64_sll32(bits_of(h[2], s + 6, 3), 4));
        }
        struct panel_block *to = panel_at(panel, at[b], flags);
        v16_store(to->d, v16_mul(d, b64_float(sc)));
        v16_store(to->m, v16_mul(v16_sub(v16_set1(-0.0f), dmin), b64_float(mn)));
    }
}

/* Chunk c of 32 bytes holds blocks 2 c (low nibbles) and 2 c + 1; bit b of byte l of qh belongs to
 * element l of block b. */
INLINED void panel_load_q45_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                              const int flags, const size_t qs_at, const bool fifth)
{
    b64 t[4], high[8];
    panel_k_scales(p, panel, at, flags);
    if (fifth) {
        panel_turn(p->row, offsetof(struct block_q5_k, qh), high);
        panel_turn(p->row, offsetof(struct block_q5_k, qh) + 16, high + 4);
    }
    UNROLL
    for (uint32_t s = 0; s < 8; s++) {
        panel_turn(p->row, qs_at + 16 * s, t);
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t b = s / 2 * 2, k = s % 2 * 4 + i;
            UNROLL
            for (uint32_t n = 0; n < 2; n++) {
                b64 q = b64_nibble(t[i], n);
                if (fifth)
                    q = with_bits(q, high[k], (int)(b + n), 1);
                b64_store(panel_at(panel, at[b + n], flags)->q[k], q);
            }
        }
    }
}

INLINED void panel_load_q4_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                             const int flags)
{
    panel_load_q45_k(p, panel, at, flags, offsetof(struct block_q4_k, qs), false);
}

INLINED void panel_load_q5_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                             const int flags)
{
    panel_load_q45_k(p, panel, at, flags, offsetof(struct block_q5_k, qs), true);
}

/* Block b = 4 p + k: nibble k / 2 of ql[64 p + 32 (k % 2) + l], bits 2 k of qh[32 p + l]. */
INLINED void panel_load_q6_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                             const int flags)
{
    b64 high[4], t[4], sc[4];
    panel_turn(p->row, offsetof(struct block_q6_k, scales), sc);
    panel_half_scales(sc, panel, at, 8, flags);
    uint16_t half[PANEL_ROWS];
    for (uint32_t r = 0; r < PANEL_ROWS; r++)
        half[r] = get16(p->row[r] + offsetof(struct block_q6_k, d));
    const v16 d = v16_load_f16(half);
    for (uint32_t b = 0; b < 8; b++)
        v16_store(panel_at(panel, at[b], flags)->d, d);
    UNROLL
    for (uint32_t s = 0; s < 4; s++) { /* 16 of a half group's 32 columns */
        panel_turn(p->row, offsetof(struct block_q6_k, qh) + 16 * s, high);
        UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            panel_turn(p->row, offsetof(struct block_q6_k, ql) + s / 2 * 64 + 32 * odd + s % 2 * 16,
                       t);
            UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                UNROLL
                for (uint32_t n = 0; n < 2; n++) {
                    const uint32_t k = odd + 2 * n, b = s / 2 * 4 + k;
                    b64 q = with_bits(b64_nibble(t[i], n), high[i], (int)(2 * k), 3);
                    b64_store(panel_at(panel, at[b], flags)->q[s % 2 * 4 + i],
                              panel_bytes(q, flags));
                }
            }
        }
    }
}

/* A group of 16 rows, unpacked by load_impl.h and not yet turned. */
struct panel_group {
    _Alignas(64) char q[4][PANEL_ROWS][64];
    float d[PANEL_ROWS][8], m[PANEL_ROWS][8];
    char sc[PANEL_ROWS][16], mn[PANEL_ROWS][16];
};

INLINED void panel_group_load(const struct panel_rows *p, const size_t group_bytes, load_fn load,
                              struct panel_group *g, const int flags)
{
    for (uint32_t r = 0; r < PANEL_ROWS; r++) {
        struct wregs w;
        load_group(p->row[r], p->n_blocks, p->end, group_bytes, load, &w, flags);
        UNROLL
        for (int i = 0; i < 4; i++)
            b64_store(g->q[i][r], panel_bytes(w.q[i], flags));
        _mm256_store_ps(g->d[r], w.d);
        if (flags & W_MIN)
            _mm256_store_ps(g->m[r], w.m);
        if (flags & W_HALF)
            _mm_store_si128((__m128i *)g->sc[r], w.sc);
        if (flags & W_HALF && flags & W_MIN)
            _mm_store_si128((__m128i *)g->mn[r], w.mn);
    }
}

/* The generic way: row by row to registers, then turned. */
INLINED void panel_load_any(const struct panel_rows *p, char *panel, const uint8_t at[8],
                            const size_t group_bytes, load_fn load, const int flags)
{
    struct panel_group g;
    b64 t[4];
    panel_group_load(p, group_bytes, load, &g, flags);
    if (flags & W_HALF) {
        panel_turn_at(g.sc, sizeof(g.sc[0]), t);
        panel_half_scales(t, panel, at, p->n_blocks, flags);
    }
    if (flags & W_HALF && flags & W_MIN) {
        panel_turn_at(g.mn, sizeof(g.mn[0]), t);
        panel_half_mins(t, panel, at, p->n_blocks, flags);
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) { /* lanes: half 0 of i, of i + 4, half 1 of i, of i + 4 */
        b64 q[16];
        panel_turn64(g.q[i], q);
        UNROLL
        for (uint32_t second = 0; second < 2; second++) {
            if (i + 4 * second >= p->n_blocks)
                continue;
            struct panel_block *to = panel_at(panel, at[i + 4 * second], flags);
            UNROLL
            for (uint32_t k = 0; k < 8; k++)
                b64_store(to->q[k], q[8 * (k / 4) + 4 * second + k % 4]);
        }
    }
    for (uint32_t b = 0; b < p->n_blocks; b += 4) {
        panel_turn_at(&g.d[0][b], sizeof(g.d[0]), t);
        for (uint32_t i = 0; i < 4 && b + i < p->n_blocks; i++)
            b64_store(panel_at(panel, at[b + i], flags)->d, t[i]);
        if (!(flags & W_MIN))
            continue;
        panel_turn_at(&g.m[0][b], sizeof(g.m[0]), t);
        for (uint32_t i = 0; i < 4 && b + i < p->n_blocks; i++)
            b64_store(panel_at(panel, at[b + i], flags)->m, t[i]);
    }
}

typedef void (*panel_load_fn)(const struct panel_rows *p, char *panel, const uint8_t at[8],
                              const int flags);

#define PANEL_LOAD_Q4_K panel_load_q4_k
#define PANEL_LOAD_Q5_K panel_load_q5_k
#define PANEL_LOAD_Q6_K panel_load_q6_k
/* By way of load_impl.h: */
#define PANEL_LOAD_Q4_0   NULL
#define PANEL_LOAD_Q4_1   NULL
#define PANEL_LOAD_Q5_0   NULL
#define PANEL_LOAD_Q5_1   NULL
#define PANEL_LOAD_Q8_0   NULL
#define PANEL_LOAD_IQ4_NL NULL
#define PANEL_LOAD_Q2_K   NULL
#define PANEL_LOAD_Q3_K   NULL
#define PANEL_LOAD_IQ4_XS NULL
#define PANEL_LOAD_MXFP4  NULL
