/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of 256 weights of 16 rows straight into a panel, for types that are worth it: turned while
 * still packed, scales of 16 rows decoded at once.  Included by panel_impl.h alone. */

/* The rows of a panel at one group; the rows after n repeat the last. */
struct panel_rows {
    const char *at;
    size_t row_bytes;
    uint32_t n;
};

INLINED const char *panel_row(const struct panel_rows *p, uint32_t r)
{
    return p->at + MIN_OF(r, p->n - 1) * p->row_bytes;
}

/* t[4 L + j] = dword j of 16-byte lane L of the 64 bytes at `offset` of each row. */
INLINED void panel_turn64(const struct panel_rows *p, size_t offset, __m512i t[16])
{
    __m512i v[16];
    UNROLL
    for (uint32_t r = 0; r < 16; r++)
        v[r] = _mm512_loadu_si512(panel_row(p, r) + offset);
    transpose16(v, t);
}

/* d[i] = dword i of each of the 16. */
INLINED void turn_dwords(const __m128i x[16], __m512i d[4])
{
    __m512i z[4];
    UNROLL
    for (int q = 0; q < 4; q++) {
        z[q] = _mm512_inserti32x4(_mm512_castsi128_si512(x[q]), x[q + 4], 1);
        z[q] = _mm512_inserti32x4(_mm512_inserti32x4(z[q], x[q + 8], 2), x[q + 12], 3);
    }
    __m512i lo0 = _mm512_unpacklo_epi32(z[0], z[1]), lo1 = _mm512_unpacklo_epi32(z[2], z[3]);
    __m512i hi0 = _mm512_unpackhi_epi32(z[0], z[1]), hi1 = _mm512_unpackhi_epi32(z[2], z[3]);
    d[0] = _mm512_unpacklo_epi64(lo0, lo1);
    d[1] = _mm512_unpackhi_epi64(lo0, lo1);
    d[2] = _mm512_unpacklo_epi64(hi0, hi1);
    d[3] = _mm512_unpackhi_epi64(hi0, hi1);
}

/* The 16 bytes at `offset` of each row, likewise. */
INLINED void panel_turn16(const struct panel_rows *p, size_t offset, __m512i d[4])
{
    __m128i x[16];
    UNROLL
    for (uint32_t r = 0; r < 16; r++)
        x[r] = _mm_loadu_si128((const __m128i *)(panel_row(p, r) + offset));
    turn_dwords(x, d);
}

INLINED __m512i bits_of(__m512i v, unsigned shift, int mask)
{
    return _mm512_and_si512(_mm512_srli_epi32(v, shift), _mm512_set1_epi32(mask));
}

INLINED __m512i nibbles_of(__m512i v, bool high)
{
    return _mm512_and_si512(high ? _mm512_srli_epi16(v, 4) : v, _mm512_set1_epi8(15));
}

/* Two bits of each byte from `shift` on (shift < 8), as bits 4 and 5; or one, as bit 4. */
INLINED __m512i bits_to_4(__m512i v, int shift, int mask)
{
    v = shift < 4 ? _mm512_slli_epi16(v, (unsigned)(4 - shift))
                  : _mm512_srli_epi16(v, (unsigned)(shift - 4));
    return _mm512_and_si512(v, _mm512_set1_epi8((char)(mask << 4)));
}

/* d, dmin and the 12 bytes of Q4_K and Q5_K (k_scale_min), 16 rows at a time. */
INLINED void panel_k_scales(const struct panel_rows *p, char *panel, const uint8_t at[8],
                            const size_t stride)
{
    __m512i h[4];
    panel_turn16(p, 0, h);
    const __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(h[0]));
    const __m512 dmin = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(h[0], 16)));
    const __m512 m = _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0f));
    UNROLL
    for (unsigned b = 0; b < 8; b++) {
        const unsigned s = 8 * (b % 4);
        __m512i sc, mn;
        if (b < 4) {
            sc = bits_of(h[1], s, 63);
            mn = bits_of(h[2], s, 63);
        } else {
            sc = _mm512_or_si512(bits_of(h[3], s, 15),
                                 _mm512_slli_epi32(bits_of(h[1], s + 6, 3), 4));
            mn = _mm512_or_si512(bits_of(h[3], s + 4, 15),
                                 _mm512_slli_epi32(bits_of(h[2], s + 6, 3), 4));
        }
        struct panel_block *to = (struct panel_block *)(panel + at[b] * stride);
        _mm512_store_ps(to->d, _mm512_mul_ps(d, _mm512_cvtepi32_ps(sc)));
        _mm512_store_ps(to->m, _mm512_mul_ps(m, _mm512_cvtepi32_ps(mn)));
    }
}

/* Chunk k of 32 bytes holds blocks 2 k (low nibbles) and 2 k + 1; bit b of byte l of qh belongs to
 * element l of block b. */
INLINED void panel_load_q45_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                              const int flags, const size_t qs_at, const bool fifth)
{
    const size_t stride = panel_block_bytes(flags);
    __m512i t[16], high[8];
    panel_k_scales(p, panel, at, stride);
    if (fifth) {
        __m512i a[4], b[4];
        panel_turn16(p, offsetof(struct block_q5_k, qh), a);
        panel_turn16(p, offsetof(struct block_q5_k, qh) + 16, b);
        UNROLL
        for (int i = 0; i < 4; i++) {
            high[i] = a[i];
            high[4 + i] = b[i];
        }
    }
    UNROLL
    for (uint32_t s = 0; s < 2; s++) {
        panel_turn64(p, qs_at + 64 * s, t);
        UNROLL
        for (uint32_t i = 0; i < 16; i++) {
            const uint32_t b = 4 * s + i / 8 * 2, k = i % 8;
            UNROLL
            for (uint32_t n = 0; n < 2; n++) {
                __m512i q = nibbles_of(t[i], n);
                if (fifth)
                    q = _mm512_or_si512(q, bits_to_4(high[k], (int)(b + n), 1));
                _mm512_store_si512(((struct panel_block *)(panel + at[b + n] * stride))->q[k], q);
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

/* Scales of half blocks: byte s % 4 of dword s / 4 is half s. */
INLINED void panel_half_scales(const __m512i d[4], char *panel, const uint8_t at[8], uint32_t nb,
                               const size_t stride)
{
    UNROLL
    for (uint32_t s = 0; s < 16; s++) {
        if (s / 2 >= nb)
            break;
        __m512i v = _mm512_srai_epi32(_mm512_slli_epi32(d[s / 4], 24 - 8 * (s % 4)), 24);
        struct panel_block *to = (struct panel_block *)(panel + at[s / 2] * stride);
        _mm512_store_ps(to->sc[s % 2], _mm512_cvtepi32_ps(v));
    }
}

/* Block b = 4 p + k: nibble k / 2 of ql[64 p + 32 (k % 2) + l], bits 2 k of qh[32 p + l]. */
INLINED void panel_load_q6_k(const struct panel_rows *p, char *panel, const uint8_t at[8],
                             const int flags)
{
    const size_t stride = panel_block_bytes(flags);
    __m512i high[16], t[16], sc[4];
    panel_turn16(p, offsetof(struct block_q6_k, scales), sc);
    panel_half_scales(sc, panel, at, 8, stride);
    uint16_t half[16];
    for (uint32_t r = 0; r < 16; r++)
        half[r] = get16(panel_row(p, r) + offsetof(struct block_q6_k, d));
    const __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)half));
    for (uint32_t b = 0; b < 8; b++)
        _mm512_store_ps(((struct panel_block *)(panel + at[b] * stride))->d, d);
    panel_turn64(p, offsetof(struct block_q6_k, qh), high);
    UNROLL
    for (uint32_t half_group = 0; half_group < 2; half_group++) {
        panel_turn64(p, offsetof(struct block_q6_k, ql) + 64 * half_group, t);
        UNROLL
        for (uint32_t i = 0; i < 16; i++) {
            UNROLL
            for (uint32_t n = 0; n < 2; n++) {
                const uint32_t k = i / 8 + 2 * n, b = 4 * half_group + k;
                __m512i h = bits_to_4(high[8 * half_group + i % 8], (int)(2 * k), 3);
                __m512i q = _mm512_or_si512(nibbles_of(t[i], n), h);
                _mm512_store_si512(((struct panel_block *)(panel + at[b] * stride))->q[i % 8],
                                   panel_bytes(q, flags));
            }
        }
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
#define PANEL_LOAD_Q2_K   NULL
#define PANEL_LOAD_Q3_K   NULL
#define PANEL_LOAD_IQ4_NL NULL
#define PANEL_LOAD_IQ4_XS NULL
#define PANEL_LOAD_MXFP4  NULL
