/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights to one common integer form, a group of 256 elements at a time: what all levels of
 * the matrix product and the row lookup start from.  Plain C, inlined into its users, so that each
 * file keeps to its own instruction set.  Any bytes are a valid block.  Private to worker/kernel.
 */
#ifndef WORKER_KERNEL_UNPACK_H
#define WORKER_KERNEL_UNPACK_H

#include "worker/kernel/blocks.h"
#include "worker/kernel/dtype.h"

/* 8 blocks of 32 weights.  Element i of block b, with h = 2 b + i / 16:
 *     w = d[b] * sc[h] * q[32 b + i] + m[b] * mn[h]
 * The product with a group of activations takes the same shape.  By kind of type, lane b of the
 * accumulator gains first D dx I, then with mins M, each by one fused multiply-add, where
 *     scales per block:       D = d sc  (exact),  I = q . x,                      M = (m mn) (dx
 * sum x) scales per half block:  D = d,              I = sum_h sc[h] (q . x)_h,      M = m (dx
 * (sum_h mn[h] (sum x)_h)) and all products but the last of each are rounded; the integers are
 * below 2^24 and so exact. */
/* The float lanes fold every so many columns: what lets a kernel work through a long row in parts.
 */
enum { QUANT_CHUNK = 1024 };

enum weight_kind {
    W_PLAIN = 0,
    W_MIN = 1,  /* has m, mn */
    W_HALF = 2, /* scales per half block */
    W_HALF_MIN = 3
};

struct wgroup {
    float d[8], m[8];
    int16_t sc[16], mn[16];
    int8_t q[256];
};

/* src: the group's first block, of which nb (1..8) blocks of 32 exist; the rest of *g stays
 * untouched.  K types come as whole groups. */
typedef void (*unpack_fn)(const void *src, uint32_t nb, struct wgroup *g);

static inline void unpack_ones(uint32_t nb, struct wgroup *g)
{
    for (uint32_t h = 0; h < 2 * nb; h++)
        g->sc[h] = g->mn[h] = 1;
}

/* 16 bytes hold elements j (low nibble) and j + 16 (high); bits of qh above them; then the offset
 * comes off. */
static inline void unpack_nibbles(const uint8_t qs[16], uint32_t qh, int offset, int8_t q[32])
{
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((qs[j] & 15) + (int)((qh >> j & 1) << 4) - offset);
        q[j + 16] = (int8_t)((qs[j] >> 4) + (int)((qh >> (j + 16) & 1) << 4) - offset);
    }
}

static inline void unpack_table(const uint8_t qs[16], const int8_t table[16], int8_t q[32])
{
    for (int j = 0; j < 16; j++) {
        q[j] = table[qs[j] & 15];
        q[j + 16] = table[qs[j] >> 4];
    }
}

static inline void unpack_q4_0(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q4_0 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        unpack_nibbles(w[b].qs, 0, 8, g->q + 32 * b);
    }
}

static inline void unpack_q4_1(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q4_1 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        g->m[b] = f32_from_f16(w[b].m);
        unpack_nibbles(w[b].qs, 0, 0, g->q + 32 * b);
    }
}

static inline void unpack_q5_0(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q5_0 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        unpack_nibbles(w[b].qs, w[b].qh, 16, g->q + 32 * b);
    }
}

static inline void unpack_q5_1(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q5_1 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        g->m[b] = f32_from_f16(w[b].m);
        unpack_nibbles(w[b].qs, w[b].qh, 0, g->q + 32 * b);
    }
}

static inline void unpack_q8_0(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q8_0 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        memcpy(g->q + 32 * b, w[b].qs, 32);
    }
}

static inline void unpack_iq4_nl(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_q4_0 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_f16(w[b].d);
        unpack_table(w[b].qs, iq4_values, g->q + 32 * b);
    }
}

static inline void unpack_mxfp4(const void *src, uint32_t nb, struct wgroup *g)
{
    const struct block_mxfp4 *w = src;
    unpack_ones(nb, g);
    for (uint32_t b = 0; b < nb; b++) {
        g->d[b] = f32_from_e8m0_half(w[b].e);
        unpack_table(w[b].qs, mxfp4_values, g->q + 32 * b);
    }
}

static inline void unpack_iq4_xs(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_iq4_xs *w = src;
    float d = f32_from_f16(w->d);
    for (int b = 0; b < 8; b++) {
        int low = w->scales_l[b / 2] >> 4 * (b & 1) & 15, high = w->scales_h >> 2 * b & 3;
        g->d[b] = d;
        g->sc[2 * b] = g->sc[2 * b + 1] = (int16_t)((low | high << 4) - 32);
        unpack_table(w->qs + 16 * b, iq4_values, g->q + 32 * b);
    }
}

static inline void unpack_k_scales(const uint8_t s[12], uint16_t d, uint16_t dmin, struct wgroup *g)
{
    float fd = f32_from_f16(d), fm = -f32_from_f16(dmin);
    for (int b = 0; b < 8; b++) {
        uint8_t sc, mn;
        k_scale_min(s, b, &sc, &mn);
        g->d[b] = fd;
        g->m[b] = fm;
        g->sc[2 * b] = g->sc[2 * b + 1] = sc;
        g->mn[2 * b] = g->mn[2 * b + 1] = mn;
    }
}

static inline void unpack_q4_k(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_q4_k *w = src;
    unpack_k_scales(w->scales, w->d, w->dmin, g);
    for (int k = 0; k < 4; k++) {
        for (int l = 0; l < 32; l++) {
            g->q[64 * k + l] = w->qs[32 * k + l] & 15;
            g->q[64 * k + 32 + l] = w->qs[32 * k + l] >> 4;
        }
    }
}

static inline void unpack_q5_k(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_q5_k *w = src;
    unpack_k_scales(w->scales, w->d, w->dmin, g);
    for (int k = 0; k < 4; k++) {
        for (int l = 0; l < 32; l++) {
            int high = w->qh[l] >> 2 * k;
            g->q[64 * k + l] = (int8_t)((w->qs[32 * k + l] & 15) | (high & 1) << 4);
            g->q[64 * k + 32 + l] = (int8_t)(w->qs[32 * k + l] >> 4 | (high & 2) << 3);
        }
    }
}

static inline void unpack_q2_k(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_q2_k *w = src;
    float d = f32_from_f16(w->d), m = -f32_from_f16(w->dmin);
    for (int b = 0; b < 8; b++) {
        g->d[b] = d;
        g->m[b] = m;
        for (int l = 0; l < 32; l++)
            g->q[32 * b + l] = w->qs[32 * (b / 4) + l] >> 2 * (b & 3) & 3;
    }
    for (int h = 0; h < 16; h++) {
        g->sc[h] = w->scales[h] & 15;
        g->mn[h] = w->scales[h] >> 4;
    }
}

static inline void unpack_q3_k(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_q3_k *w = src;
    float d = f32_from_f16(w->d);
    for (int b = 0; b < 8; b++) {
        g->d[b] = d;
        for (int l = 0; l < 32; l++) {
            int low = w->qs[32 * (b / 4) + l] >> 2 * (b & 3) & 3;
            g->q[32 * b + l] = (int8_t)(low + ((w->hmask[l] >> b & 1) << 2) - 4);
        }
    }
    for (int h = 0; h < 16; h++)
        g->sc[h] = (int16_t)q3k_scale(w->scales, h);
}

static inline void unpack_q6_k(const void *src, uint32_t nb UNUSED, struct wgroup *g)
{
    const struct block_q6_k *w = src;
    float d = f32_from_f16(w->d);
    for (int b = 0; b < 8; b++) {
        const uint8_t *ql = w->ql + 64 * (b / 4) + 32 * (b & 1), *qh = w->qh + 32 * (b / 4);
        int low_shift = b & 2 ? 4 : 0, high_shift = 2 * (b & 3);
        g->d[b] = d;
        for (int l = 0; l < 32; l++) {
            int q = (ql[l] >> low_shift & 15) | (qh[l] >> high_shift & 3) << 4;
            g->q[32 * b + l] = (int8_t)(q - 32);
        }
    }
    for (int h = 0; h < 16; h++)
        g->sc[h] = w->scales[h];
}

/* Bytes of a full group of 256. */
enum {
    GROUP_BYTES_Q4_0 = 8 * sizeof(struct block_q4_0),
    GROUP_BYTES_Q4_1 = 8 * sizeof(struct block_q4_1),
    GROUP_BYTES_Q5_0 = 8 * sizeof(struct block_q5_0),
    GROUP_BYTES_Q5_1 = 8 * sizeof(struct block_q5_1),
    GROUP_BYTES_Q8_0 = 8 * sizeof(struct block_q8_0),
    GROUP_BYTES_Q2_K = sizeof(struct block_q2_k),
    GROUP_BYTES_Q3_K = sizeof(struct block_q3_k),
    GROUP_BYTES_Q4_K = sizeof(struct block_q4_k),
    GROUP_BYTES_Q5_K = sizeof(struct block_q5_k),
    GROUP_BYTES_Q6_K = sizeof(struct block_q6_k),
    GROUP_BYTES_IQ4_NL = 8 * sizeof(struct block_q4_0),
    GROUP_BYTES_IQ4_XS = sizeof(struct block_iq4_xs),
    GROUP_BYTES_MXFP4 = 8 * sizeof(struct block_mxfp4),
};

/* X(dtype): the plain types.  X(dtype, unpacker, weight_kind): every quantised type. */
#define FLOAT_TYPES(X) X(F32) X(F16) X(BF16)
#define QUANT_TYPES(X)                                                                             \
    X(Q4_0, unpack_q4_0, W_PLAIN)                                                                  \
    X(Q4_1, unpack_q4_1, W_MIN)                                                                    \
    X(Q5_0, unpack_q5_0, W_PLAIN)                                                                  \
    X(Q5_1, unpack_q5_1, W_MIN)                                                                    \
    X(Q8_0, unpack_q8_0, W_PLAIN)                                                                  \
    X(Q2_K, unpack_q2_k, W_HALF_MIN)                                                               \
    X(Q3_K, unpack_q3_k, W_HALF)                                                                   \
    X(Q4_K, unpack_q4_k, W_MIN)                                                                    \
    X(Q5_K, unpack_q5_k, W_MIN)                                                                    \
    X(Q6_K, unpack_q6_k, W_HALF)                                                                   \
    X(IQ4_NL, unpack_iq4_nl, W_PLAIN)                                                              \
    X(IQ4_XS, unpack_iq4_xs, W_PLAIN)                                                              \
    X(MXFP4, unpack_mxfp4, W_PLAIN)

#endif
