/* SPDX-License-Identifier: Apache-2.0 */
/* Packed rows to float32 in plain C, for embedding lookups: (d sc) q, minus (dmin mn) where the
 * type has a min, each operation rounded in this order, as the formats' own reference does.  Any
 * thread; see kern.h. */
#include "worker/kernel/ref/ref.h"
#include "worker/kernel/unpack.h"

static inline void quant_dequant(const void *src, float *dst, uint32_t n, size_t group_bytes,
                                 unpack_fn unpack, bool has_min)
{
    for (uint32_t c = 0; c < n; c += 256) {
        uint32_t nb = MIN_OF(n - c, 256u) / 32;
        struct wgroup g;
        unpack((const char *)src + c / 256 * group_bytes, nb, &g);
        for (uint32_t i = 0; i < 32 * nb; i++) {
            float v = g.d[i / 32] * (float)g.sc[i / 16] * (float)g.q[i];
            dst[c + i] = has_min ? v + g.m[i / 32] * (float)g.mn[i / 16] : v;
        }
    }
}

#define X(TYPE, UNPACK, KIND)                                                                      \
    static void dequant_##TYPE(const void *src, float *dst, uint32_t n)                            \
    {                                                                                              \
        quant_dequant(src, dst, n, GROUP_BYTES_##TYPE, UNPACK, (KIND)&W_MIN);                      \
    }
QUANT_TYPES(X)
#undef X

static void dequant_F32(const void *src, float *dst, uint32_t n)
{
    memcpy(dst, src, sizeof(float) * (size_t)n);
}

static void dequant_F16(const void *src, float *dst, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * (size_t)i, sizeof(h));
        dst[i] = f32_from_f16(h);
    }
}

static void dequant_BF16(const void *src, float *dst, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * (size_t)i, sizeof(h));
        dst[i] = f32_from_bf16(h);
    }
}

void ref_dequant_fill(struct kern *k)
{
#define X(TYPE, ...) k->dequant[DTYPE_##TYPE] = dequant_##TYPE;
    QUANT_TYPES(X)
    FLOAT_TYPES(X)
#undef X
}
