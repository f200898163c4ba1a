/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of 256 weights of 16 rows from strips of the prepared layout (panels.h): a type's bytes of
 * four columns, and its scales.  Nothing has to be turned.  Included once by each panels_*.c, after
 * panel_impl.h. */
#include "worker/kernel/panels.h"

/* A group of a strip, of which n_blocks blocks of 32 columns exist.  The fields before the quants,
 * and the quants, of which `high` are the upper bits. */
struct strip_group {
    const char *at, *high, *q;
    uint32_t n_blocks;
};

/* Where a type's blocks of 32 columns, or the group where a block is one, have their fields. */
struct strip_type {
    uint32_t head, high, q; /* bytes of: scales and such; upper bits; quants */
    bool whole;             /* of 256 columns, not of each 32 */
};

INLINED struct strip_group strip_group_at(const char *at, uint32_t n_blocks,
                                          const struct strip_type t)
{
    struct strip_group g = {.at = at, .n_blocks = n_blocks};
    g.high = at + (t.whole ? t.head : (n_blocks * t.head + 63) / 64 * 64);
    g.q = g.high + t.high * (t.whole ? 1 : n_blocks);
    return g;
}

INLINED uint32_t strip_group_bytes(uint32_t n_blocks, const struct strip_type t)
{
    if (t.whole)
        return t.head + t.high + t.q;
    return (n_blocks * t.head + 63) / 64 * 64 + n_blocks * (t.high + t.q);
}

/* ---- quants: step k of block first + n ---- */

INLINED b64 strip_nibbles(const struct strip_group *g, uint32_t first, const uint32_t n UNUSED,
                          const uint32_t k, const int flags)
{
    return panel_bytes(b64_nibble(b64_load(g->q + 256 * first + 64 * (k % 4)), k / 4), flags);
}

/* Bits 4 k .. 4 k + 3 of an item, each as all bits of a byte. */
INLINED b64 fifth_of(b64 v, const uint32_t k)
{
    const int32_t at = (int32_t)(k / 2) * 0x01010101;
    const b64 in_lane = b64_table(
        (const int8_t *)(const int32_t[4]){at, at + 0x04040404, at + 0x08080808, at + 0x0c0c0c0c});
    return b64_test(b64_lut(v, in_lane), b64_set32(k % 2 ? 0x80402010 : 0x08040201));
}

INLINED b64 strip_fifth(const struct strip_group *g, uint32_t first, const uint32_t n UNUSED,
                        const uint32_t k, const int flags)
{
    const b64 low = b64_nibble(b64_load(g->q + 256 * first + 64 * (k % 4)), k / 4);
    return panel_bytes(b64_insert(low, fifth_of(b64_load(g->high + 64 * first), k), 16), flags);
}

INLINED b64 strip_bytes(const struct strip_group *g, uint32_t first, const uint32_t n UNUSED,
                        const uint32_t k, const int flags)
{
    return panel_bytes(b64_load(g->q + 512 * first + 64 * k), flags);
}

INLINED b64 strip_iq4(const struct strip_group *g, uint32_t first, const uint32_t n UNUSED,
                      const uint32_t k, const int flags)
{
    const b64 low = b64_nibble(b64_load(g->q + 256 * first + 64 * (k % 4)), k / 4);
    return panel_bytes(b64_lut(b64_table(iq4_values), low), flags);
}

INLINED b64 strip_mxfp4(const struct strip_group *g, uint32_t first, const uint32_t n UNUSED,
                        const uint32_t k, const int flags)
{
    const b64 low = b64_nibble(b64_load(g->q + 256 * first + 64 * (k % 4)), k / 4);
    return panel_bytes(b64_lut(b64_table(mxfp4_values), low), flags);
}

/* Chunks of 32 bytes: blocks 2 c (low nibbles) and 2 c + 1. */
INLINED b64 strip_q4_k(const struct strip_group *g, uint32_t first, const uint32_t n,
                       const uint32_t k, const int flags UNUSED)
{
    return b64_nibble(b64_load(g->q + 256 * (first + n / 2 * 2) + 64 * k), n % 2);
}

INLINED b64 strip_q5_k(const struct strip_group *g, uint32_t first, const uint32_t n,
                       const uint32_t k, const int flags)
{
    return with_bits(strip_q4_k(g, first, n, k, flags), b64_load(g->high + 64 * k), (int)n, 1);
}

/* See panel_load_q6_k. */
INLINED b64 strip_q6_k(const struct strip_group *g, uint32_t first, const uint32_t n,
                       const uint32_t k, const int flags)
{
    const b64 low = b64_nibble(b64_load(g->q + 256 * first + 512 * (n % 2) + 64 * k), n / 2);
    const b64 high = b64_load(g->high + 128 * first + 64 * k);
    return panel_bytes(with_bits(low, high, (int)(2 * n), 3), flags);
}

/* Bits 2 n of 32 bytes for four blocks. */
INLINED b64 strip_q2_k(const struct strip_group *g, uint32_t first UNUSED, const uint32_t n,
                       const uint32_t k, const int flags UNUSED)
{
    const b64 v = b64_load(g->q + 512 * (n / 4) + 64 * k);
    return b64_and(b64_srl(v, (int)(2 * (n % 4))), b64_set1(3));
}

INLINED b64 strip_q3_k(const struct strip_group *g, uint32_t first, const uint32_t n,
                       const uint32_t k, const int flags)
{
    const b64 h = b64_load(g->high + 64 * k);
    const b64 third = n < 2 ? b64_sll(h, 2 - (int)n) : b64_srl(h, (int)n - 2);
    return panel_bytes(b64_insert(strip_q2_k(g, first, n, k, flags), third, 4), flags);
}

/* ---- scales of the whole group, to their blocks' places ---- */

INLINED void strip_d(const struct strip_group *g, char *panel, const uint8_t *at, const int flags)
{
    for (uint32_t b = 0; b < g->n_blocks; b++)
        v16_store(panel_at(panel, at[b], flags)->d, v16_load_f16(g->at + 32 * b));
}

INLINED void strip_d_m(const struct strip_group *g, char *panel, const uint8_t *at, const int flags)
{
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        v16_store(panel_at(panel, at[b], flags)->d, v16_load_f16(g->at + 64 * b));
        v16_store(panel_at(panel, at[b], flags)->m, v16_load_f16(g->at + 64 * b + 32));
    }
}

/* f32_from_e8m0_half: of the two ways to say it the wrong one is always less. */
INLINED void strip_e8m0(const struct strip_group *g, char *panel, const uint8_t *at,
                        const int flags)
{
    const b64 one = b64_set32(1);
    for (uint32_t b = 0; b < g->n_blocks; b++) {
        const b64 e = b64_from_u8(g->at + 16 * b);
        const b64 normal = b64_sll32(b64_sub32(e, one), 23),
                  tiny = b64_sll32(b64_add32(e, one), 21);
        b64_store(panel_at(panel, at[b], flags)->d, b64_max32(normal, tiny));
    }
}

INLINED void strip_iq4_scales(const struct strip_group *g, char *panel, const uint8_t *at,
                              const int flags)
{
    const v16 d = v16_load_f16(g->at);
    const b64 high = b64_from_u16(g->at + 32), low = b64_load(g->at + 64);
    UNROLL
    for (int b = 0; b < 8; b++) {
        const b64 sc = b64_or(bits_of(low, 4 * b, 15), b64_sll32(bits_of(high, 2 * b, 3), 4));
        v16_store(panel_at(panel, at[b], flags)->d,
                  v16_mul(d, b64_float(b64_sub32(sc, b64_set32(32)))));
    }
}

/* k_scale_min, four to a register. */
INLINED void strip_k_scales(const struct strip_group *g, char *panel, const uint8_t *at,
                            const int flags)
{
    const v16 d = v16_load_f16(g->at), m = v16_sub(v16_set1(-0.0f), v16_load_f16(g->at + 32));
    const b64 h0 = b64_load(g->at + 64), h1 = b64_load(g->at + 128), h2 = b64_load(g->at + 192);
    const b64 low = b64_set1(15), high = b64_set1(0x30), six = b64_set1(63);
    const b64 sc[2] = {b64_and(h0, six), b64_or(b64_and(h2, low), b64_and(b64_srl32(h0, 2), high))};
    const b64 mn[2] = {b64_and(h1, six),
                       b64_or(b64_and(b64_srl32(h2, 4), low), b64_and(b64_srl32(h1, 2), high))};
    UNROLL
    for (int b = 0; b < 8; b++) {
        struct panel_block *to = panel_at(panel, at[b], flags);
        v16_store(to->d, v16_mul(d, b64_float_byte(sc[b / 4], b % 4)));
        v16_store(to->m, v16_mul(m, b64_float_byte(mn[b / 4], b % 4)));
    }
}

INLINED void strip_q6_scales(const struct strip_group *g, char *panel, const uint8_t *at,
                             const int flags)
{
    const v16 d = v16_load_f16(g->at);
    b64 sc[4];
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        sc[i] = b64_load(g->at + 64 + 64 * i);
    panel_half_scales(sc, panel, at, 8, flags);
    for (uint32_t b = 0; b < 8; b++)
        v16_store(panel_at(panel, at[b], flags)->d, d);
}

INLINED void strip_q2_scales(const struct strip_group *g, char *panel, const uint8_t *at,
                             const int flags)
{
    const v16 d = v16_load_f16(g->at), m = v16_sub(v16_set1(-0.0f), v16_load_f16(g->at + 32));
    b64 sc[4], mn[4];
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const b64 v = b64_load(g->at + 64 + 64 * i);
        sc[i] = b64_nibble(v, false);
        mn[i] = b64_nibble(v, true);
    }
    panel_half_scales(sc, panel, at, 8, flags);
    panel_half_mins(mn, panel, at, 8, flags);
    for (uint32_t b = 0; b < 8; b++) {
        v16_store(panel_at(panel, at[b], flags)->d, d);
        v16_store(panel_at(panel, at[b], flags)->m, m);
    }
}

/* q3k_scale, four to a register. */
INLINED void strip_q3_scales(const struct strip_group *g, char *panel, const uint8_t *at,
                             const int flags)
{
    const v16 d = v16_load_f16(g->at);
    b64 sc[4];
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const b64 low = b64_nibble(b64_load(g->at + 64 + 64 * (i % 2)), i / 2);
        const b64 high = b64_and(b64_srl32(b64_load(g->at + 192), (int)(2 * i)), b64_set1(3));
        sc[i] = b64_sub(b64_or(low, b64_sll32(high, 4)), b64_set1(32));
    }
    panel_half_scales(sc, panel, at, 8, flags);
    for (uint32_t b = 0; b < 8; b++)
        v16_store(panel_at(panel, at[b], flags)->d, d);
}

typedef void (*strip_scales_fn)(const struct strip_group *g, char *panel, const uint8_t *at,
                                const int flags);

/* Tokens from which a scratch pays: with registers of 64 bytes, of 32 (measured: docs/SPEED.md). */
#define FROM(zmm, ymm) (MOST_TOKENS == 8 ? (zmm) : (ymm))

/* X(dtype, kind of panels, tokens from which they pay, flags, bits of q, blocks taken together,
 *   quants, scales, fields: struct strip_type) */
#define STRIP_TYPES(X)                                                                             \
    X(Q4_0, offset4, 9, BY(8), 4, 1, strip_nibbles, strip_d, 32, 0, 256, false)                    \
    X(Q4_1, min4, 9, W_MIN, 4, 1, strip_nibbles, strip_d_m, 64, 0, 256, false)                     \
    X(Q5_0, offset5, FROM(9, 5), BY(16), 5, 1, strip_fifth, strip_d, 32, 64, 256, false)           \
    X(Q5_1, min5, FROM(9, 5), W_MIN, 5, 1, strip_fifth, strip_d_m, 64, 64, 256, false)             \
    X(Q8_0, bytes, 9, IS_SIGNED, 8, 1, strip_bytes, strip_d, 32, 0, 512, false)                    \
    X(Q2_K, half2, FROM(4, 3), W_HALF_MIN, 2, 8, strip_q2_k, strip_q2_scales, 320, 0, 1024, true)  \
    X(Q3_K, half3, FROM(5, 3), W_HALF | BY(4), 3, 8, strip_q3_k, strip_q3_scales, 256, 512, 1024,  \
      true)                                                                                        \
    X(Q4_K, min4, FROM(9, 5), W_MIN, 4, 2, strip_q4_k, strip_k_scales, 256, 0, 2048, true)         \
    X(Q5_K, min5, FROM(9, 3), W_MIN, 5, 8, strip_q5_k, strip_k_scales, 256, 512, 2048, true)       \
    X(Q6_K, half6, FROM(9, 5), W_HALF | BY(32), 6, 4, strip_q6_k, strip_q6_scales, 320, 1024,      \
      2048, true)                                                                                  \
    X(IQ4_NL, bytes, 9, IS_SIGNED, 8, 1, strip_iq4, strip_d, 32, 0, 256, false)                    \
    X(IQ4_XS, bytes, 9, IS_SIGNED, 8, 1, strip_iq4, strip_iq4_scales, 128, 0, 2048, true)          \
    X(MXFP4, bytes, 9, IS_SIGNED, 8, 1, strip_mxfp4, strip_e8m0, 16, 0, 256, false)
