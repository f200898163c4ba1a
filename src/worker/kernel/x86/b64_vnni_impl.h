/* SPDX-License-Identifier: Apache-2.0 */
/* A row's 256 weights times activation bytes by vpdpbusd (b64_dot); included by b64_avx2.h and
 * b64_avx512.h where the file's flags have it. */
/* Signed weights gain 128, which the caller takes back by the sums of x. */
enum { SIGNED_OFFSET = 128 };

/* Weights ready to be multiplied. */
struct dotw {
    b64 q[4];
};

INLINED void dotw_set(struct dotw *w, const b64 q[4], bool is_signed)
{
    UNROLL
    for (int j = 0; j < 4; j++)
        w->q[j] = is_signed ? b64_xor(q[j], b64_set1(-128)) : q[j];
}

/* Sums of the 16 half blocks. */
INLINED b64 dot_halves(const struct dotw *w, const int8_t *x, const int q_bits UNUSED)
{
    b64 s = b64_zero();
    UNROLL
    for (int j = 0; j < 4; j++)
        s = b64_dot(s, w->q[j], b64_load(x + 64 * j));
    return s;
}

/* Sums of the 8 blocks. */
INLINED __m256i dot_blocks(const struct dotw *w, const int8_t *x, const int q_bits)
{
    return b64_fold(dot_halves(w, x, q_bits));
}
