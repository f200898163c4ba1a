/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows of a panel there are, where registers have no masks: the first n of 16; their floats.
 * Included by b64_avx2.h and arm/b64_neon.h alone. */
typedef uint32_t row_mask;

INLINED row_mask row_mask_of(uint32_t n)
{
    return n;
}

INLINED v16 rows_load(const float *y, row_mask n)
{
    return LIKELY(n == 16) ? v16_load(y) : v16_load_n(y, n);
}

INLINED void rows_store(float *y, row_mask n, v16 v)
{
    if (LIKELY(n == 16))
        v16_store(y, v);
    else
        v16_store_n(y, n, v);
}
