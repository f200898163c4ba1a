/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels of quantised weights say of a type, and unaligned reads.  Included once by each file
 * of panels or rows, x86's and Arm's. */

/* What a type has besides d: compile-time constants.  Those of weight_kind, and: */
enum {
    IS_SIGNED = 4, /* q is; else it is unsigned, and too large by OFFSET */
#define OFFSET(flags)  ((flags) >> 8 & 255)
#define BY(offset)     ((offset) << 8)
#define BITS_OF(flags) ((flags) >> 16)
#define WITH_BITS(n)   ((n) << 16)
};

INLINED uint16_t get16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINED uint32_t get32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINED uint64_t get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}
