/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that work on one row, with AVX-512; activations go to int8 by whole groups of 8 blocks.
 * Any thread; see kern.h. */
#include "worker/kernel/x86/v16_avx512.h"

#include "worker/kernel/x86/rows_impl.h"

/* The largest |x| of each of 8 blocks, as bits, in the blocks' order. */
static inline __m256i block_tops(const float *x)
{
    __m512i m[8], four[2];
    for (int b = 0; b < 8; b++)
        m[b] =
            v16i_max(v16_abs_bits(v16_load(x + 32 * b)), v16_abs_bits(v16_load(x + 32 * b + 16)));
    for (int i = 0; i < 2; i++) { /* blocks 4 i to 4 i + 3, in the dwords of each 128 bits */
        const __m512i *q = m + 4 * i;
        __m512i ab = v16i_max(_mm512_unpacklo_epi32(q[0], q[1]), _mm512_unpackhi_epi32(q[0], q[1])),
                cd = v16i_max(_mm512_unpacklo_epi32(q[2], q[3]), _mm512_unpackhi_epi32(q[2], q[3]));
        four[i] = v16i_max(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    }
    __m256i lo = v8i_max(four[0]), hi = v8i_max(four[1]);
    return _mm256_max_epi32(_mm256_permute2x128_si256(lo, hi, 0x20),
                            _mm256_permute2x128_si256(lo, hi, 0x31));
}

/* Half h (0 or 1) of 4 blocks from x on: 128 bits j have elements 4 j .. 4 j + 3 of each. */
static inline __m512i put_halves(const float *x, const float *inv, int h)
{
    __m512i w[4];
    for (int b = 0; b < 4; b++)
        w[b] = v16_to_int(v16_mul(v16_load(x + 32 * b + 16 * h), v16_set1(inv[b])));
    return _mm512_packs_epi16(_mm512_packs_epi32(w[0], w[1]), _mm512_packs_epi32(w[2], w[3]));
}

/* The bytes to g->q; returns their sums, block b's half h in lane 8 h + b. */
static inline __m512i put_group(const float *x, const float *inv, struct act_q8 *g)
{
    const __m512i one8 = _mm512_set1_epi8(1), one16 = _mm512_set1_epi16(1);
    __m512i a = put_halves(x, inv, 0), b = put_halves(x + 128, inv + 4, 0),
            c = put_halves(x, inv, 1), d = put_halves(x + 128, inv + 4, 1), q[4],
            sum = _mm512_setzero_si512();
    __m512i ab_lo = _mm512_shuffle_i32x4(a, b, 0x44), ab_hi = _mm512_shuffle_i32x4(a, b, 0xee),
            cd_lo = _mm512_shuffle_i32x4(c, d, 0x44), cd_hi = _mm512_shuffle_i32x4(c, d, 0xee);
    q[0] = _mm512_shuffle_i32x4(ab_lo, cd_lo, 0x88);
    q[1] = _mm512_shuffle_i32x4(ab_lo, cd_lo, 0xdd);
    q[2] = _mm512_shuffle_i32x4(ab_hi, cd_hi, 0x88);
    q[3] = _mm512_shuffle_i32x4(ab_hi, cd_hi, 0xdd);
    for (int j = 0; j < 4; j++) {
        _mm512_storeu_si512(g->q + 64 * j, q[j]);
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(one8, q[j]), one16));
    }
    return sum;
}

/* 256 columns as act_q8_block makes them, block by block. */
static void act_q8_group(const float *x, struct act_q8 *g)
{
    const __m256i tops = block_tops(x);
    if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(tops, _mm256_set1_epi32(0x7f7fffff)))) {
        for (uint32_t b = 0; b < 8; b++) /* an infinity or what is not a number */
            act_q8_block(x + 32 * b, g, b);
        return;
    }
    const __m256 top = _mm256_castsi256_ps(tops), most = _mm256_set1_ps(127.0f);
    const __mmask8 some = _mm256_cmp_ps_mask(top, _mm256_set1_ps(1e-30f), _CMP_GE_OQ);
    const __m256 d = _mm256_maskz_div_ps(some, top, most);
    float inv[8];
    _mm256_storeu_ps(inv, _mm256_maskz_div_ps(some, most, top));
    const __m512i sum = put_group(x, inv, g),
                  in_order = _mm512_permutexvar_epi32(
                      _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15), sum),
                  none = _mm512_setzero_si512();
    const __m256i both =
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    _mm256_storeu_ps(g->d, d);
    _mm256_storeu_ps(g->ds, _mm256_mul_ps(d, _mm256_cvtepi32_ps(both)));
    _mm256_storeu_si256((__m256i *)g->off,
                        _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(both, 7)));
    _mm512_storeu_si512(g->off_half, _mm512_sub_epi32(none, _mm512_slli_epi32(in_order, 7)));
    _mm256_storeu_si256((__m256i *)g->sum, _mm512_cvtepi32_epi16(in_order));
}

static void act_q8_groups(const float *src, void *dst, uint32_t n)
{
    struct act_q8 *g = dst;
    for (uint32_t i = 0; i < n / 256; i++)
        act_q8_group(src + 256 * (size_t)i, g + i);
    if (n % 256)
        act_q8(src + n / 256 * 256, g + n / 256, n % 256);
}

void rows_avx512_fill(struct kern *k)
{
    rows_fill(k);
    k->act_prepare[ACT_Q8] = act_q8_groups;
}
