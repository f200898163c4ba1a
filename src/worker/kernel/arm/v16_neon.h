/* SPDX-License-Identifier: Apache-2.0 */
/* 16 float lanes as four NEON registers: what rows_impl.h, attn_impl.h and float_impl.h are written
 * in.  Gives the bits that x86/v16_avx2.h and v16_avx512.h give.  Only for arm/ files. */
#ifndef WORKER_KERNEL_ARM_V16_NEON_H
#define WORKER_KERNEL_ARM_V16_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "lib/base/compiler.h"

typedef struct {
    float32x4_t r[4]; /* lanes 0..3, 4..7, 8..11, 12..15 */
} v16;
typedef struct {
    int32x4_t r[4];
} v16i;
typedef float32x4_t v16_part; /* what one register holds of the lanes */
enum { PART_LANES = 4 };

#define EACH(EXPR)                                                                                 \
    {                                                                                              \
        {                                                                                          \
            EXPR(0), EXPR(1), EXPR(2), EXPR(3)                                                     \
        }                                                                                          \
    }

static inline v16 v16_set1(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (v16){{v, v, v, v}};
}

static inline v16 v16_zero(void)
{
    return v16_set1(0);
}

static inline v16 v16_load(const void *p)
{
    const float *f = p;
    return (v16){{vld1q_f32(f), vld1q_f32(f + 4), vld1q_f32(f + 8), vld1q_f32(f + 12)}};
}

/* The first n < 16 lanes; the others are zero and their memory is not touched. */
static inline v16 v16_load_n(const void *p, uint32_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof(float));
    return v16_load(t);
}

static inline void v16_store(void *p, v16 v)
{
    float *f = p;
    for (int i = 0; i < 4; i++)
        vst1q_f32(f + 4 * i, v.r[i]);
}

static inline void v16_store_n(void *p, uint32_t n, v16 v)
{
    float t[16];
    v16_store(t, v);
    memcpy(p, t, n * sizeof(float));
}

static inline float32x4_t v4_load_f16(const void *p, int i)
{
    uint16x4_t h;
    memcpy(&h, (const char *)p + 8 * i, sizeof(h));
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

static inline v16 v16_load_f16(const void *p)
{
    return (v16){{v4_load_f16(p, 0), v4_load_f16(p, 1), v4_load_f16(p, 2), v4_load_f16(p, 3)}};
}

static inline v16 v16_load_f16_n(const void *p, uint32_t n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof(*t));
    return v16_load_f16(t);
}

static inline float32x4_t v4_load_bf16(const void *p, int i)
{
    uint16x4_t h;
    memcpy(&h, (const char *)p + 8 * i, sizeof(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

static inline v16 v16_load_bf16(const void *p)
{
    return (v16){{v4_load_bf16(p, 0), v4_load_bf16(p, 1), v4_load_bf16(p, 2), v4_load_bf16(p, 3)}};
}

static inline v16 v16_load_bf16_n(const void *p, uint32_t n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof(*t));
    return v16_load_bf16(t);
}

static inline float v1_from_f16(uint16_t h)
{
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

static inline v16_part part_zero(void)
{
    return vdupq_n_f32(0);
}

static inline v16_part part_load(const void *p)
{
    return vld1q_f32(p);
}

static inline v16_part part_load_f16(const void *p)
{
    return v4_load_f16(p, 0);
}

static inline v16_part part_load_bf16(const void *p)
{
    return v4_load_bf16(p, 0);
}

static inline void part_store(void *p, v16_part v)
{
    vst1q_f32(p, v);
}

/* The same, and in a register from here on: not read from memory anew wherever it is used. */
static inline v16_part part_now(v16_part v)
{
    __asm__ volatile("" : "+w"(v));
    return v;
}

/* x * y + z, rounded once. */
static inline v16_part part_fma(v16_part x, v16_part y, v16_part z)
{
    return vfmaq_f32(z, x, y);
}

/* 16 signed bytes, as floats. */
static inline v16 v16_load_i8(const void *p)
{
    int8x16_t v = vld1q_s8(p);
    int16x8_t a = vmovl_s8(vget_low_s8(v)), b = vmovl_high_s8(v);
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_high_s16(a)),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), vcvtq_f32_s32(vmovl_high_s16(b))}};
}

/* To half precision, nearest even. */
static inline void v16_store_f16(void *p, v16 v)
{
    for (int i = 0; i < 4; i++) {
        float16x4_t h = vcvt_f16_f32(v.r[i]);
        memcpy((char *)p + 8 * i, &h, sizeof(h));
    }
}

static inline void v16_store_f16_n(void *p, uint32_t n, v16 v)
{
    uint16_t t[16];
    v16_store_f16(t, v);
    memcpy(p, t, n * sizeof(*t));
}

#define V16_OP2(name, op)                                                                          \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (v16){                                                                              \
            {op(x.r[0], y.r[0]), op(x.r[1], y.r[1]), op(x.r[2], y.r[2]), op(x.r[3], y.r[3])}};     \
    }

/* Of a NaN and y: y, as x86 has it. */
static inline float32x4_t v4_min(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}

static inline float32x4_t v4_max(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

V16_OP2(v16_add, vaddq_f32)
V16_OP2(v16_sub, vsubq_f32)
V16_OP2(v16_mul, vmulq_f32)
V16_OP2(v16_div, vdivq_f32)
V16_OP2(v16_min, v4_min)
V16_OP2(v16_max, v4_max)
#undef V16_OP2

/* x * y + z, rounded once. */
static inline v16 v16_fma(v16 x, v16 y, v16 z)
{
#define E(i) vfmaq_f32(z.r[i], x.r[i], y.r[i])
    return (v16)EACH(E);
#undef E
}

/* By one number for all lanes. */
static inline v16 v16_mul1(v16 x, float y)
{
#define E(i) vmulq_n_f32(x.r[i], y)
    return (v16)EACH(E);
#undef E
}

static inline v16 v16_fma1(v16 x, float y, v16 z)
{
#define E(i) vfmaq_n_f32(z.r[i], x.r[i], y)
    return (v16)EACH(E);
#undef E
}

/* z - x * y, rounded once. */
static inline v16 v16_fnma(v16 x, v16 y, v16 z)
{
#define E(i) vfmsq_f32(z.r[i], x.r[i], y.r[i])
    return (v16)EACH(E);
#undef E
}

static inline v16 v16_round(v16 x)
{
#define E(i) vrndnq_f32(x.r[i])
    return (v16)EACH(E);
#undef E
}

static inline v16i v16_to_int(v16 x)
{
#define E(i) vcvtnq_s32_f32(x.r[i])
    return (v16i)EACH(E);
#undef E
}

static inline float32x4_t v4_pow2(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* 2^n for n in -126 .. 127. */
static inline v16 v16_pow2(v16i n)
{
#define E(i) v4_pow2(n.r[i])
    return (v16)EACH(E);
#undef E
}

/* y * 2^n for integral n in -252 .. 254, in two steps so that neither power leaves the range. */
static inline float32x4_t v4_scale2(float32x4_t y, int32x4_t n)
{
    int32x4_t half = vshrq_n_s32(n, 1);
    return vmulq_f32(vmulq_f32(y, v4_pow2(half)), v4_pow2(vsubq_s32(n, half)));
}

static inline v16 v16_scale2(v16 y, v16 n)
{
    v16i k = v16_to_int(n);
#define E(i) v4_scale2(y.r[i], k.r[i])
    return (v16)EACH(E);
#undef E
}

/* The same for n >= -126 and y >= 0.5, where nothing is rounded. */
static inline v16 v16_scale_normal(v16 y, v16 n)
{
    return v16_scale2(y, n);
}

static inline v16 v16_abs(v16 x)
{
#define E(i) vabsq_f32(x.r[i])
    return (v16)EACH(E);
#undef E
}

/* |mag| with the sign of s. */
static inline v16 v16_copysign(v16 mag, v16 s)
{
#define E(i) vbslq_f32(vdupq_n_u32(0x80000000u), s.r[i], mag.r[i])
    return (v16)EACH(E);
#undef E
}

/* Per lane: x < y ? yes : no */
static inline v16 v16_if_less(v16 x, v16 y, v16 yes, v16 no)
{
#define E(i) vbslq_f32(vcltq_f32(x.r[i], y.r[i]), yes.r[i], no.r[i])
    return (v16)EACH(E);
#undef E
}

/* Lanes from n on become zero. */
static inline v16 v16_keep(v16 x, uint32_t n)
{
    float t[16], z[16] = {0};
    v16_store(t, x);
    memcpy(z, t, n * sizeof(float));
    return v16_load(z);
}

/* Bit i: lane i equals. */
static inline uint32_t v16_equal_mask(v16 x, v16 y)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    uint32_t mask = 0;
    for (int i = 0; i < 4; i++)
        mask |= vaddvq_u32(vandq_u32(vceqq_f32(x.r[i], y.r[i]), bits)) << 4 * i;
    return mask;
}

/* Bits of |x| as integers; the largest of them, of NaN too. */
static inline v16i v16_abs_bits(v16 x)
{
#define E(i) vreinterpretq_s32_f32(vabsq_f32(x.r[i]))
    return (v16i)EACH(E);
#undef E
}

static inline v16i v16i_max(v16i x, v16i y)
{
#define E(i) vmaxq_s32(x.r[i], y.r[i])
    return (v16i)EACH(E);
#undef E
}

static inline uint32_t v16i_fold_max(v16i v)
{
    return (uint32_t)vmaxvq_s32(vmaxq_s32(vmaxq_s32(v.r[0], v.r[1]), vmaxq_s32(v.r[2], v.r[3])));
}

/* Lane l takes in lane l + half, halving until one is left: ref's order. */
static inline float v4_fold(float32x4_t v)
{
    float32x2_t x = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
}

static inline float v16_fold(v16 v)
{
    return v4_fold(vaddq_f32(vaddq_f32(v.r[0], v.r[2]), vaddq_f32(v.r[1], v.r[3])));
}

/* v16_fold of four at x, to dst. */
static inline void v16_fold4(const float (*x)[16], float *dst)
{
    for (int i = 0; i < 4; i++)
        dst[i] = v16_fold(v16_load(x[i]));
}

static inline float v16_fold_max(v16 v)
{
    float t[4], top;
    vst1q_f32(t, v4_max(v4_max(v.r[0], v.r[2]), v4_max(v.r[1], v.r[3])));
    top = t[0];
    for (int i = 1; i < 4; i++)
        top = t[i] > top ? t[i] : top;
    return top;
}

static inline v16 v16_swap_pairs(v16 x)
{
#define E(i) vrev64q_f32(x.r[i])
    return (v16)EACH(E);
#undef E
}

static inline v16 v16_dup_even(v16 x)
{
#define E(i) vtrn1q_f32(x.r[i], x.r[i])
    return (v16)EACH(E);
#undef E
}

static inline v16 v16_dup_odd(v16 x)
{
#define E(i) vtrn2q_f32(x.r[i], x.r[i])
    return (v16)EACH(E);
#undef E
}

/* x - y in even lanes, x + y in odd ones. */
static inline v16 v16_subadd(v16 x, v16 y)
{
    const uint32x4_t even = {0x80000000u, 0, 0x80000000u, 0};
#define E(i)                                                                                       \
    vaddq_f32(x.r[i], vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(y.r[i]), even)))
    return (v16)EACH(E);
#undef E
}

/* The even and the odd elements of 32 in a row. */
static inline v16 v16_evens(v16 x, v16 y)
{
    return (v16){{vuzp1q_f32(x.r[0], x.r[1]), vuzp1q_f32(x.r[2], x.r[3]),
                  vuzp1q_f32(y.r[0], y.r[1]), vuzp1q_f32(y.r[2], y.r[3])}};
}

static inline v16 v16_odds(v16 x, v16 y)
{
    return (v16){{vuzp2q_f32(x.r[0], x.r[1]), vuzp2q_f32(x.r[2], x.r[3]),
                  vuzp2q_f32(y.r[0], y.r[1]), vuzp2q_f32(y.r[2], y.r[3])}};
}

/* 16 rounded values, -128 to 127, to their places in an act_q8; their sum. */
static inline int put_half(v16 x, v16 inv, int8_t *q)
{
    v16i n = v16_to_int(v16_mul(x, inv));
    int16x8_t a = vcombine_s16(vmovn_s32(n.r[0]), vmovn_s32(n.r[1]));
    int16x8_t b = vcombine_s16(vmovn_s32(n.r[2]), vmovn_s32(n.r[3]));
    int8_t bytes[16];
    vst1_s8(bytes, vmovn_s16(a));
    vst1_s8(bytes + 8, vmovn_s16(b));
    for (int j = 0; j < 4; j++)
        memcpy(q + 64 * j, bytes + 4 * j, 4);
    return vaddvq_s16(vaddq_s16(a, b));
}

#include "worker/kernel/x86/v16_common.h"

#undef EACH

#endif
