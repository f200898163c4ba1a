/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of 256 quantised weights from the file into NEON registers; included once by each
 * quant_*.c, through quant_impl.h.  unpack.h says the same in plain C, and is what the tests hold
 * this to. */
#include <string.h>

#include "worker/kernel/arm/arm.h"
#include "worker/kernel/unpack.h"
#include "worker/kernel/x86/x86.h"

/* 256 weights: w = d (q) + m; scales and mins per block are within d and m, those per half block
 * apart. */
struct wregs {
    int8x16_t q[16]; /* half blocks in order */
    float d[8], m[8];
    int16_t sc[16], mn[16];
};

INLINED float half1(uint16_t bits)
{
    __fp16 h;
    memcpy(&h, &bits, sizeof(h));
    return (float)h;
}

INLINED int8x16_t s8(uint8x16_t v)
{
    return vreinterpretq_s8_u8(v);
}

INLINED void widen16(int8x16_t v, int16_t to[16])
{
    vst1q_s16(to, vmovl_s8(vget_low_s8(v)));
    vst1q_s16(to + 8, vmovl_high_s8(v));
}

INLINED uint8x16_t srl(uint8x16_t v, const int n)
{
    return v >> vdupq_n_u8((uint8_t)n);
}

INLINED uint8x16_t bits(uint8x16_t v, const int n, const uint8_t mask)
{
    return vandq_u8(srl(v, n), vdupq_n_u8(mask));
}

/* q, and the bits of mask that v has from n on, brought up to `up`, where q has none. */
INLINED uint8x16_t insert(uint8x16_t q, uint8x16_t v, const int n, const uint8_t mask, const int up)
{
    v = n < up ? v << vdupq_n_u8((uint8_t)(up - n)) : srl(v, n - up);
    return vbslq_u8(vdupq_n_u8((uint8_t)(mask << up)), v, q);
}

INLINED int8x16_t less(uint8x16_t v, const int offset)
{
    return vsubq_s8(s8(v), vdupq_n_s8((int8_t)offset));
}

/* 16 where the bit of h is set, else 0; h: 16 bits, the lowest for the first byte. */
INLINED uint8x16_t fifth_bits(uint32_t h)
{
    const uint8x8_t bit = {1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t v = vcombine_u8(vdup_n_u8((uint8_t)h), vdup_n_u8((uint8_t)(h >> 8)));
    return vandq_u8(vtstq_u8(v, vcombine_u8(bit, bit)), vdupq_n_u8(16));
}

/* Blocks of 32 in nibbles: the low ones are the first half. */
INLINED void load_nibbles(const uint8_t *qs, uint32_t qh, const bool fifth, const int offset,
                          int8x16_t q[2])
{
    uint8x16_t v = vld1q_u8(qs), low = vandq_u8(v, vdupq_n_u8(15)), high = srl(v, 4);
    if (fifth) {
        low = vorrq_u8(low, fifth_bits(qh));
        high = vorrq_u8(high, fifth_bits(qh >> 16));
    }
    q[0] = less(low, offset);
    q[1] = less(high, offset);
}

INLINED void load_table(const uint8_t *qs, const int8_t *table, int8x16_t q[2])
{
    uint8x16_t v = vld1q_u8(qs);
    int8x16_t t = vld1q_s8(table);
    q[0] = vqtbl1q_s8(t, vandq_u8(v, vdupq_n_u8(15)));
    q[1] = vqtbl1q_s8(t, srl(v, 4));
}

INLINED void load_q4_0(const void *src, struct wregs *w)
{
    const struct block_q4_0 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        load_nibbles(b[i].qs, 0, false, 8, w->q + 2 * i);
    }
}

INLINED void load_q4_1(const void *src, struct wregs *w)
{
    const struct block_q4_1 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        w->m[i] = half1(b[i].m);
        load_nibbles(b[i].qs, 0, false, 0, w->q + 2 * i);
    }
}

INLINED void load_q5_0(const void *src, struct wregs *w)
{
    const struct block_q5_0 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        load_nibbles(b[i].qs, b[i].qh, true, 16, w->q + 2 * i);
    }
}

INLINED void load_q5_1(const void *src, struct wregs *w)
{
    const struct block_q5_1 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        w->m[i] = half1(b[i].m);
        load_nibbles(b[i].qs, b[i].qh, true, 0, w->q + 2 * i);
    }
}

INLINED void load_q8_0(const void *src, struct wregs *w)
{
    const struct block_q8_0 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        w->q[2 * i] = vld1q_s8(b[i].qs);
        w->q[2 * i + 1] = vld1q_s8(b[i].qs + 16);
    }
}

INLINED void load_iq4_nl(const void *src, struct wregs *w)
{
    const struct block_q4_0 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = half1(b[i].d);
        load_table(b[i].qs, iq4_values, w->q + 2 * i);
    }
}

INLINED void load_mxfp4(const void *src, struct wregs *w)
{
    const struct block_mxfp4 *b = src;
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = f32_from_e8m0_half(b[i].e);
        load_table(b[i].qs, mxfp4_values, w->q + 2 * i);
    }
}

INLINED void load_iq4_xs(const void *src, struct wregs *w)
{
    const struct block_iq4_xs *b = src;
    float d = half1(b->d);
    UNROLL
    for (int i = 0; i < 8; i++) {
        int low = b->scales_l[i / 2] >> 4 * (i & 1) & 15, high = b->scales_h >> 2 * i & 3;
        w->d[i] = d * (float)((low | high << 4) - 32);
        load_table(b->qs + 16 * i, iq4_values, w->q + 2 * i);
    }
}

/* 8 bytes as floats, times d. */
INLINED void scaled8(uint64_t bytes, float d, float to[8])
{
    const uint16x8_t v = vmovl_u8(vcreate_u8(bytes));
    vst1q_f32(to, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(v))), d));
    vst1q_f32(to + 4, vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(v)), d));
}

/* The 12 bytes of 8 scales and mins (k_scale_min), times d and -dmin. */
INLINED void load_k_scales(const uint8_t s[12], uint16_t d, uint16_t dmin, struct wregs *w)
{
    uint32_t v[3];
    memcpy(v, s, sizeof(v));
    const uint64_t sc = (v[2] & 0x0f0f0f0f) | (v[0] >> 2 & 0x30303030); /* numbers 4 to 7 */
    const uint64_t mn = (v[2] >> 4 & 0x0f0f0f0f) | (v[1] >> 2 & 0x30303030);
    scaled8((v[0] & 0x3f3f3f3f) | sc << 32, half1(d), w->d);
    scaled8((v[1] & 0x3f3f3f3f) | mn << 32, -half1(dmin), w->m);
}

INLINED void load_q4_k(const void *src, struct wregs *w)
{
    const struct block_q4_k *b = src;
    load_k_scales(b->scales, b->d, b->dmin, w);
    UNROLL
    for (int k = 0; k < 4; k++) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint8x16_t v = vld1q_u8(b->qs + 32 * k + 16 * h);
            w->q[4 * k + h] = s8(vandq_u8(v, vdupq_n_u8(15)));
            w->q[4 * k + 2 + h] = s8(srl(v, 4));
        }
    }
}

INLINED void load_q5_k(const void *src, struct wregs *w)
{
    const struct block_q5_k *b = src;
    load_k_scales(b->scales, b->d, b->dmin, w);
    UNROLL
    for (int k = 0; k < 4; k++) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint8x16_t v = vld1q_u8(b->qs + 32 * k + 16 * h), fifth = vld1q_u8(b->qh + 16 * h);
            uint8x16_t low = vandq_u8(v, vdupq_n_u8(15)), high = srl(v, 4);
            w->q[4 * k + h] = s8(insert(low, fifth, 2 * k, 1, 4));
            w->q[4 * k + 2 + h] = s8(insert(high, fifth, 2 * k + 1, 1, 4));
        }
    }
}

INLINED void load_q2_k(const void *src, struct wregs *w)
{
    const struct block_q2_k *b = src;
    float d = half1(b->d), m = -half1(b->dmin);
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = d;
        w->m[i] = m;
        UNROLL
        for (int h = 0; h < 2; h++)
            w->q[2 * i + h] = s8(bits(vld1q_u8(b->qs + 32 * (i / 4) + 16 * h), 2 * (i & 3), 3));
    }
    const uint8x16_t scales = vld1q_u8(b->scales);
    widen16(s8(vandq_u8(scales, vdupq_n_u8(15))), w->sc);
    widen16(s8(srl(scales, 4)), w->mn);
}

INLINED void load_q3_k(const void *src, struct wregs *w)
{
    const struct block_q3_k *b = src;
    float d = half1(b->d);
    UNROLL
    for (int i = 0; i < 8; i++) {
        w->d[i] = d;
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint8x16_t low = bits(vld1q_u8(b->qs + 32 * (i / 4) + 16 * h), 2 * (i & 3), 3);
            w->q[2 * i + h] = less(insert(low, vld1q_u8(b->hmask + 16 * h), i, 1, 2), 4);
        }
    }
    UNROLL
    for (int h = 0; h < 16; h++)
        w->sc[h] = (int16_t)q3k_scale(b->scales, h);
}

INLINED void load_q6_k(const void *src, struct wregs *w)
{
    const struct block_q6_k *b = src;
    float d = half1(b->d);
    UNROLL
    for (int i = 0; i < 8; i++) {
        const uint8_t *ql = b->ql + 64 * (i / 4) + 32 * (i & 1), *qh = b->qh + 32 * (i / 4);
        w->d[i] = d;
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint8x16_t low = bits(vld1q_u8(ql + 16 * h), i & 2 ? 4 : 0, 15);
            w->q[2 * i + h] = less(insert(low, vld1q_u8(qh + 16 * h), 2 * (i & 3), 3, 4), 32);
        }
    }
    widen16(vld1q_s8(b->scales), w->sc);
}

typedef void (*load_fn)(const void *src, struct wregs *w);

/* X(TYPE, loader, weight_kind) */
#define QUANT_LOADERS(X)                                                                           \
    X(Q4_0, load_q4_0, W_PLAIN)                                                                    \
    X(Q4_1, load_q4_1, W_MIN)                                                                      \
    X(Q5_0, load_q5_0, W_PLAIN)                                                                    \
    X(Q5_1, load_q5_1, W_MIN)                                                                      \
    X(Q8_0, load_q8_0, W_PLAIN)                                                                    \
    X(Q2_K, load_q2_k, W_HALF_MIN)                                                                 \
    X(Q3_K, load_q3_k, W_HALF)                                                                     \
    X(Q4_K, load_q4_k, W_MIN)                                                                      \
    X(Q5_K, load_q5_k, W_MIN)                                                                      \
    X(Q6_K, load_q6_k, W_HALF)                                                                     \
    X(IQ4_NL, load_iq4_nl, W_PLAIN)                                                                \
    X(IQ4_XS, load_iq4_xs, W_PLAIN)                                                                \
    X(MXFP4, load_mxfp4, W_PLAIN)

/* The group of a row that begins at column c, missing blocks filled up with zeros in `last`. */
INLINED const char *group_at(const char *row, uint32_t c, uint32_t n_cols, const size_t group_bytes,
                             char *last, size_t last_bytes)
{
    const char *p = row + c / 256 * group_bytes;
    if (LIKELY(n_cols - c >= 256))
        return p;
    memset(last, 0, last_bytes);
    memcpy(last, p, (n_cols - c) / 32 * (group_bytes / 8));
    return last;
}
