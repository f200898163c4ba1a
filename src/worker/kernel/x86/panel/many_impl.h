/* SPDX-License-Identifier: Apache-2.0 */
/* Few tokens row by row (quant_impl.h), more by panels (panel_impl.h); included after both, once by
 * each quant_*.c that has panels and no tiles. */

enum { PANEL_MIN_TOKENS = 4 };

#define X(TYPE, LOAD, FLAGS, BITS)                                                                 \
    static void many_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                \
                            const struct kern_act *x, float *y, size_t ld_y)                       \
    {                                                                                              \
        if (x->n_tok < PANEL_MIN_TOKENS)                                                           \
            matmul_##TYPE(w, row0, row1, x, y, ld_y);                                              \
        else                                                                                       \
            panel_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, PANEL_LOAD_##TYPE,   \
                         (FLAGS) | WITH_BITS(BITS), panel_tokens);                                 \
    }
QUANT_LOADERS(X)
#undef X

static void quant_panel_fill(struct kern *k)
{
    quant_fill(k);
#define X(TYPE, ...) k->matmul[DTYPE_##TYPE] = many_##TYPE;
    QUANT_LOADERS(X)
#undef X
}
