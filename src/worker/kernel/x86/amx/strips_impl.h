/* SPDX-License-Identifier: Apache-2.0 */
/* The table's products on tiles from the prepared layout (panels.h), whose dwords lie as tiles want
 * them: nothing is turned.  Included once, after strip_unpack_impl.h and quant_impl.h. */

#define X(TYPE, ...)                                                                               \
    static void strip_panel_##TYPE(const struct kern_mat *w, uint32_t row, uint32_t n UNUSED,      \
                                   uint32_t c, uint32_t n_blocks, char *panel)                     \
    {                                                                                              \
        const char *strip = (const char *)w->panels +                                              \
                            row / PANELS_ROWS * panels_strip_bytes(DTYPE_##TYPE, w->n_cols);       \
        strip_unpack_##TYPE(strip + c / 256 * STRIP_GROUP_##TYPE, n_blocks, panel, quant_order);   \
    }                                                                                              \
    QUANT_ON_TILES(                                                                                \
        amx_strips_##TYPE, strip_panel_##TYPE, STRIP_FLAGS_##TYPE,                                 \
        {w->panels, panels_strip_bytes(DTYPE_##TYPE, w->n_cols), STRIP_GROUP_##TYPE, PANELS_ROWS})
STRIP_TYPES(X)
#undef X

static void amx_strips_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul_panels[DTYPE_##TYPE] = amx_strips_##TYPE;
    STRIP_TYPES(X)
#undef X
}
