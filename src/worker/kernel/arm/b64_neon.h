/* SPDX-License-Identifier: Apache-2.0 */
/* 64 bytes of weights as four NEON registers: what x86/panel/ is written in, as x86/b64_avx2.h says
 * it in two and b64_avx512.h in one.  Shifts keep to their bytes.  Only for arm/ files. */
#ifndef WORKER_KERNEL_ARM_B64_NEON_H
#define WORKER_KERNEL_ARM_B64_NEON_H

#include <arm_neon.h>

#include "worker/kernel/arm/v16_neon.h"
#include "worker/kernel/x86/x86.h"

typedef struct {
    uint8x16_t r[4];
} b64;

/* A register holds 4 of a panel's 16 rows: 16 of 32 registers are the sums of 4 tokens. */
enum { PANELS = 1 };
#define MOST_TOKENS 4

#define EACH(E)                                                                                    \
    {                                                                                              \
        {                                                                                          \
            E(0), E(1), E(2), E(3)                                                                 \
        }                                                                                          \
    }
#define S8(x)  vreinterpretq_s8_u8(x)
#define U16(x) vreinterpretq_u16_u8(x)
#define S16(x) vreinterpretq_s16_u8(x)
#define U32(x) vreinterpretq_u32_u8(x)
#define S32(x) vreinterpretq_s32_u8(x)

INLINED b64 b64_set1(int x)
{
    const uint8x16_t v = vdupq_n_u8((uint8_t)x);
    return (b64){{v, v, v, v}};
}

INLINED b64 b64_zero(void)
{
    return b64_set1(0);
}

/* 32 bits to all 16 lanes. */
INLINED b64 b64_set32(uint32_t x)
{
    const uint8x16_t v = vreinterpretq_u8_u32(vdupq_n_u32(x));
    return (b64){{v, v, v, v}};
}

/* 16 bytes four times. */
INLINED b64 b64_table(const int8_t t[16])
{
    const uint8x16_t v = vreinterpretq_u8_s8(vld1q_s8(t));
    return (b64){{v, v, v, v}};
}

INLINED b64 b64_load(const void *p)
{
    const uint8_t *u = p;
    return (b64){{vld1q_u8(u), vld1q_u8(u + 16), vld1q_u8(u + 32), vld1q_u8(u + 48)}};
}

INLINED void b64_store(void *p, b64 x)
{
    uint8_t *u = p;
    UNROLL
    for (int i = 0; i < 4; i++)
        vst1q_u8(u + 16 * i, x.r[i]);
}

/* 8 + 8 16-bit items as 32-bit ones. */
INLINED b64 b64_widen(uint16x8_t a, uint16x8_t b)
{
    return (b64){{vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(a))),
                  vreinterpretq_u8_u32(vmovl_high_u16(a)),
                  vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(b))),
                  vreinterpretq_u8_u32(vmovl_high_u16(b))}};
}

/* 16 unsigned bytes, or 16-bit items, as 32-bit ones. */
INLINED b64 b64_from_u8(const void *p)
{
    const uint8x16_t v = vld1q_u8(p);
    return b64_widen(vmovl_u8(vget_low_u8(v)), vmovl_high_u8(v));
}

INLINED b64 b64_from_u16(const void *p)
{
    return b64_widen(vld1q_u16(p), vld1q_u16((const uint16_t *)p + 8));
}

#define B64_OP2(name, EXPR)                                                                        \
    INLINED b64 name(b64 x, b64 y)                                                                 \
    {                                                                                              \
        return (b64)EACH(EXPR);                                                                    \
    }
#define E(i) vandq_u8(x.r[i], y.r[i])
B64_OP2(b64_and, E)
#undef E
#define E(i) vorrq_u8(x.r[i], y.r[i])
B64_OP2(b64_or, E)
#undef E
#define E(i) vsubq_u8(x.r[i], y.r[i])
B64_OP2(b64_sub, E)
#undef E
#define E(i) vqtbl1q_u8(x.r[i], y.r[i]) /* x: the table; indices of 16 and more give 0 */
B64_OP2(b64_lut, E)
#undef E
#define E(i) vreinterpretq_u8_u32(vaddq_u32(U32(x.r[i]), U32(y.r[i])))
B64_OP2(b64_add32, E)
#undef E
#define E(i) vreinterpretq_u8_u32(vsubq_u32(U32(x.r[i]), U32(y.r[i])))
B64_OP2(b64_sub32, E)
#undef E
#define E(i) vreinterpretq_u8_s32(vmaxq_s32(S32(x.r[i]), S32(y.r[i])))
B64_OP2(b64_max32, E)
#undef E
#define E(i) vtstq_u8(x.r[i], y.r[i]) /* bytes of ones where they share a bit */
B64_OP2(b64_test, E)
#undef E

/* Products of 16-bit items, added in pairs. */
#define E(i)                                                                                       \
    vreinterpretq_u8_s32(                                                                          \
        vpaddq_s32(vmull_s16(vget_low_s16(S16(x.r[i])), vget_low_s16(S16(y.r[i]))),                \
                   vmull_high_s16(S16(x.r[i]), S16(y.r[i]))))
B64_OP2(b64_madd16, E)
#undef E
#undef B64_OP2

#define B64_SHIFT(name, EXPR)                                                                      \
    INLINED b64 name(b64 x, int n)                                                                 \
    {                                                                                              \
        return (b64)EACH(EXPR);                                                                    \
    }
#define E(i) (x.r[i] >> vdupq_n_u8((uint8_t)n))
B64_SHIFT(b64_srl, E)
#undef E
#define E(i) (x.r[i] << vdupq_n_u8((uint8_t)n))
B64_SHIFT(b64_sll, E)
#undef E
#define E(i) vreinterpretq_u8_u32(U32(x.r[i]) >> vdupq_n_u32((uint32_t)n))
B64_SHIFT(b64_srl32, E)
#undef E
#define E(i) vreinterpretq_u8_u32(U32(x.r[i]) << vdupq_n_u32((uint32_t)n))
B64_SHIFT(b64_sll32, E)
#undef E
#undef B64_SHIFT

INLINED b64 b64_nibble(b64 v, bool high)
{
    return high ? b64_srl(v, 4) : b64_and(v, b64_set1(15));
}

/* x, whose bytes have no bit of mask set, and those bits of y. */
INLINED b64 b64_insert(b64 x, b64 y, int mask)
{
    const uint8x16_t m = vdupq_n_u8((uint8_t)mask);
#define E(i) vbslq_u8(m, y.r[i], x.r[i])
    return (b64)EACH(E);
#undef E
}

/* 16 integers as floats. */
INLINED v16 b64_float(b64 x)
{
#define E(i) vcvtq_f32_s32(S32(x.r[i]))
    return (v16)EACH(E);
#undef E
}

/* Byte n of an item in its place is 2^(8 n) times too large: the conversion takes that off. */
INLINED float32x4_t v4_float_byte(uint8x16_t v, int n)
{
    const uint32x4_t u = vandq_u32(U32(v), vdupq_n_u32(255u << 8 * n));
    switch (n) {
    case 0: return vcvtq_f32_u32(u);
    case 1: return vcvtq_n_f32_u32(u, 8);
    case 2: return vcvtq_n_f32_u32(u, 16);
    default: return vcvtq_n_f32_u32(u, 24);
    }
}

/* Byte n of each 32-bit item, unsigned; or signed, from the top of the item. */
INLINED v16 b64_float_byte(b64 v, int n)
{
#define E(i) v4_float_byte(v.r[i], n)
    return (v16)EACH(E);
#undef E
}

INLINED v16 b64_float_signed_byte(b64 v, int n)
{
    const b64 top = b64_and(b64_sll32(v, 24 - 8 * n), b64_set32(255u << 24));
#define E(i) vcvtq_n_f32_s32(S32(top.r[i]), 24)
    return (v16)EACH(E);
#undef E
}

#include "worker/kernel/x86/row_count_impl.h"

#undef EACH

#endif
