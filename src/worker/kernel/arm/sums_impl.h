/* SPDX-License-Identifier: Apache-2.0 */
/* A block of 32 columns of panels times tokens with NEON, four rows to a register.  Weights are
 * bytes, unsigned ones too large by OFFSET; scales of half blocks are floats.  Included by
 * x86/panel/panel_impl.h alone. */

INLINED b64 panel_bytes(b64 q, const int flags UNUSED)
{
    return q;
}

/* The scales of the two halves of a block, bytes n and n + 1 of 16 items. */
INLINED void panel_scales_store(struct panel_block *to, b64 v, const int n, const int flags UNUSED)
{
    v16_store(to->sc[0], b64_float_signed_byte(v, n));
    v16_store(to->sc[1], b64_float_signed_byte(v, n + 1));
}

/* 1.5 x 2^23 as an integer and a float: an integer i of less than 2^22, added to the one, is i more
 * than the other.  A conversion takes one of a processor's units, and long. */
enum { SUM_BITS = 0x4b400000 };
#define SUM_ZERO 12582912.0f

INLINED float32x4_t dots_float(int32x4_t s)
{
    return vsubq_f32(vreinterpretq_f32_s32(s), vdupq_n_f32(SUM_ZERO));
}

#ifdef SUMS_BY_MMLA
#include "worker/kernel/arm/mmla_impl.h"
#else
#include "worker/kernel/arm/dots_impl.h"
#endif
