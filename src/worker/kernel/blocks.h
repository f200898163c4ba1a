/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts of the quantised weight blocks as they lie in a GGUF file, the value tables some of them
 * index, and the conversions between float32 and its halves.  Little-endian machines only.  Any
 * thread; private to worker/kernel.
 *
 * All structs are packed: weights are mmap'd and may start at any byte. */
#ifndef WORKER_KERNEL_BLOCKS_H
#define WORKER_KERNEL_BLOCKS_H

#include <string.h>

#include "lib/base/compiler.h"

#define PACKED __attribute__((packed))

enum { QK = 32, QK_K = 256 };

struct PACKED block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
struct PACKED block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
struct PACKED block_q5_0 {
    uint16_t d;
    uint32_t qh;
    uint8_t qs[16];
};
struct PACKED block_q5_1 {
    uint16_t d, m;
    uint32_t qh;
    uint8_t qs[16];
};
struct PACKED block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
struct PACKED block_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
};
struct PACKED block_iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};
struct PACKED block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};
struct PACKED block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
struct PACKED block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};
struct PACKED block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
struct PACKED block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

/* What the 4 bits of IQ4_NL and IQ4_XS stand for, and of MXFP4 (E2M1, doubled). */
static const int8_t iq4_values[16] UNUSED = {-127, -104, -83, -65, -49, -35, -22, -10,
                                             1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t mxfp4_values[16] UNUSED = {0, 1,  2,  3,  4,  6,  8,  12,
                                               0, -1, -2, -3, -4, -6, -8, -12};

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

/* Exact: every IEEE half is a float. */
static inline float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31, m = h & 0x3ffu;
    if (e == 31) /* a signalling NaN comes out quiet, as the hardware does it */
        return f32_from_bits(sign | 0x7f800000u | (m ? 0x400000u | m << 13 : 0));
    if (e == 0) { /* m * 2^-24, exact in float arithmetic */
        float v = (float)m * 0x1p-24f;
        return sign ? -v : v;
    }
    return f32_from_bits(sign | (e + 112) << 23 | m << 13);
}

/* Round to nearest, ties to even; past 65520 infinity; NaN stays NaN (quiet). */
static inline uint16_t f16_from_f32(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x47800000u) /* 2^16 and up */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* below 2^-14: the float adder rounds at bit 2^-24 */
        float v = f32_from_bits(a) + 0.5f;
        return (uint16_t)(sign | (f32_bits(v) - 0x3f000000u));
    }
    a += 0xfffu + ((a >> 13) & 1); /* a carry may run into the exponent, up to infinity: right */
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

static inline float f32_from_bf16(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

/* Round to nearest, ties to even; NaN stays NaN (quiet). */
static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* 2^(e - 128): half of the E8M0 scale, because mxfp4_values are doubled. */
static inline float f32_from_e8m0_half(uint8_t e)
{
    return f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* Scale and min number j of the 8 in the 12 bytes of Q4_K and Q5_K. */
static inline void k_scale_min(const uint8_t s[12], int j, uint8_t *ret_scale, uint8_t *ret_min)
{
    if (j < 4) {
        *ret_scale = s[j] & 63;
        *ret_min = s[j + 4] & 63;
    } else {
        *ret_scale = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *ret_min = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

/* Scale number j of the 16 in the 12 bytes of Q3_K: -32 .. 31. */
static inline int q3k_scale(const uint8_t s[12], int j)
{
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    int high = (s[8 + (j & 3)] >> (2 * (j >> 2))) & 3;
    return (low | high << 4) - 32;
}

#endif
