/* SPDX-License-Identifier: Apache-2.0 */
/* The table's products on tiles from the file's rows.  Included once, after quant_impl.h,
 * amx_float_impl.h and amx_impl.h. */

enum { AMX_MIN_TOKENS = 2 }; /* below: row by row */

#define X(TYPE, LOAD, FLAGS, Q_BITS)                                                               \
    static void amx_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                 \
                           const struct kern_act *x, float *y, size_t ld_y)                        \
    {                                                                                              \
        if (x->n_tok < AMX_MIN_TOKENS) {                                                           \
            matmul_##TYPE(w, row0, row1, x, y, ld_y);                                              \
        } else {                                                                                   \
            panel_matmul(w, row0, row1, x, y, ld_y, GROUP_BYTES_##TYPE, LOAD, PANEL_LOAD_##TYPE,   \
                         (FLAGS) | AS_SIGNED, amx_tokens(FLAGS));                                  \
            TILES_RELEASE();                                                                       \
        }                                                                                          \
    }
QUANT_LOADERS(X)
#undef X

static void amx_fill(struct kern *k)
{
    quant_fill(k);
#define X(TYPE, ...)                                                                               \
    k->matmul[DTYPE_##TYPE] = amx_##TYPE;                                                          \
    k->act_for[DTYPE_##TYPE] = ACT_Q8_PLAIN;
    QUANT_LOADERS(X)
#undef X
    k->matmul[DTYPE_BF16] = amx_BF16;
    k->matmul[DTYPE_F16] = amx_F16;
    k->act_for[DTYPE_BF16] = k->act_for[DTYPE_F16] = ACT_BF16;
}
