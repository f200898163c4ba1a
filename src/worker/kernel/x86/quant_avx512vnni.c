/* SPDX-License-Identifier: Apache-2.0 */
/* Products with quantised weights, with AVX-512 and VNNI: few tokens row by row, more by panels.
 * Any thread; see kern.h. */
#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/quant_impl.h"

#include "worker/kernel/x86/panel_impl.h"

enum { PANEL_MIN_TOKENS = 4 };

#define X(TYPE, LOAD, FLAGS, Q_BITS)                                                               \
    static void many_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                \
                            const struct kern_act *x, float *y, size_t ld_y)                       \
    {                                                                                              \
        if (x->n_tok < PANEL_MIN_TOKENS)                                                           \
            matmul_##TYPE(w, row0, row1, x, y, ld_y);                                              \
        else                                                                                       \
            panel_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, PANEL_LOAD_##TYPE,   \
                         FLAGS, panel_tokens);                                                     \
    }
QUANT_LOADERS(X)
#undef X

void quant_avx512vnni_fill(struct kern *k)
{
    quant_fill(k);
#define X(TYPE, ...) k->matmul[DTYPE_##TYPE] = many_##TYPE;
    QUANT_LOADERS(X)
#undef X
}
