/* SPDX-License-Identifier: Apache-2.0 */
/* What both forms of b64 make of their own operations, and what NEON has better ones for
 * (arm/b64_neon.h).  Included by b64_avx2.h and b64_avx512.h alone. */

/* The low or high half of each byte. */
INLINED b64 b64_nibble(b64 v, bool high)
{
    return b64_and(high ? b64_srl(v, 4) : v, b64_set1(15));
}

/* x, whose bytes have no bit of mask set, and those bits of y. */
INLINED b64 b64_insert(b64 x, b64 y, int mask)
{
    return b64_or(x, b64_and(y, b64_set1(mask)));
}

/* Bytes of ones where x has the one bit that the byte of `bit` has. */
INLINED b64 b64_test(b64 x, b64 bit)
{
    return b64_equal(b64_and(x, bit), bit);
}

/* Byte n of each 32-bit item, unsigned. */
INLINED v16 b64_float_byte(b64 v, int n)
{
    return b64_float(b64_and(b64_srl32(v, 8 * n), b64_set32(255)));
}
