/* SPDX-License-Identifier: Apache-2.0 */
/* SDOT with one operand's lane against all lanes of the other: included by panels_dotprod.c. */

/* Four bytes in lane 0; what is in the others does not matter. */
typedef int8x16_t act4;

INLINED act4 act4_load(const int8_t *x)
{
    act4 v;
    __asm__ volatile("ldr %s0, %1" : "=w"(v) : "m"(*(const int8_t(*)[4])x));
    return v;
}

/* acc[l] += the products of the four bytes of lane l of w with x.  Asm, so that it is done here: a
 * compiler that is free to finishes one token's sums after the other, with all weights of a block
 * waiting in memory, and so do loads that it has seen before. */
INLINED int32x4_t dot4_by(int32x4_t acc, int8x16_t w, act4 x)
{
    __asm__ volatile("sdot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
}
