/* SPDX-License-Identifier: Apache-2.0 */
/* The table's products on tiles from the file's rows.  Included once, after float_impl.h and
 * quant_impl.h. */

#define X(TYPE, LOAD, FLAGS, Q_BITS)                                                               \
    static void row_panel_##TYPE(const struct kern_mat *w, uint32_t row, uint32_t n, uint32_t c,   \
                                 uint32_t n_blocks, char *panel)                                   \
    {                                                                                              \
        panel_unpack((const char *)w->data + row * w->row_bytes,                                   \
                     (const char *)w->data + w->n_rows * w->row_bytes, w->row_bytes, n, c,         \
                     c + QK * n_blocks, panel, quant_order, GROUP_BYTES_##TYPE, LOAD,              \
                     PANEL_LOAD_##TYPE, true, FLAGS);                                              \
    }                                                                                              \
    QUANT_ON_TILES(amx_##TYPE, row_panel_##TYPE, FLAGS,                                            \
                   {w->data, w->row_bytes, GROUP_BYTES_##TYPE, 1})
QUANT_LOADERS(X)
#undef X

static void amx_fill(struct kern *k)
{
#define X(TYPE, ...)                                                                               \
    k->matmul[DTYPE_##TYPE] = amx_##TYPE;                                                          \
    k->act_for[DTYPE_##TYPE] = ACT_BF16;
    QUANT_LOADERS(X)
#undef X
    k->matmul[DTYPE_BF16] = amx_BF16;
    k->matmul[DTYPE_F16] = amx_F16;
    k->act_for[DTYPE_BF16] = k->act_for[DTYPE_F16] = ACT_BF16;
    k->many_rows = 256;
}
