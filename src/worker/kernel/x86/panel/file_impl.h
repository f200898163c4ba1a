/* SPDX-License-Identifier: Apache-2.0 */
/* Panels from the file's own rows, and products of many tokens with them.  Included once by each
 * quant_*.c, after load_impl.h and panel_impl.h. */
#include "worker/kernel/x86/panel/turn_impl.h"

/* Columns c0 <= c < c1 of n rows (1 .. 16) to a panel; the rows after them repeat the last. */
INLINED void panel_unpack(const char *rows, const char *end, size_t row_bytes, uint32_t n,
                          uint32_t c0, uint32_t c1, char *panel, const uint8_t *at,
                          const size_t group_bytes, load_fn load, panel_load_fn panel_load,
                          bool cold, const int flags)
{
    for (uint32_t c = c0; c < c1; c += 256, at += 8) {
        struct panel_rows p = {.end = end, .n_blocks = MIN_OF(c1 - c, 256u) / QK};
        for (uint32_t r = 0; r < PANEL_ROWS; r++)
            p.row[r] = rows + MIN_OF(r, n - 1) * row_bytes + c / 256 * group_bytes;
        for (uint32_t r = 0; cold && r < PANEL_ROWS; r++)
            for (size_t o = 0; o < group_bytes; o += 64)
                FETCH_NEAR(p.row[r] + group_bytes + o);
        if (panel_load)
            panel_load(&p, panel, at, flags);
        else
            panel_load_any(&p, panel, at, group_bytes, load, flags);
    }
}

INLINED void panel_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                          const struct kern_act *x, float *y, size_t ld_y, const size_t group_bytes,
                          load_fn load, panel_load_fn panel_load, const int flags, panel_fn tokens)
{
    _Alignas(64) char panels[PANELS * PANEL_BLOCKS * sizeof(struct panel_block)];
    struct panel_pair p = {
        .panels = panels, .one_bytes = PANEL_BLOCKS * panel_block_bytes(flags), .ld_y = ld_y};
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        p.n_rows = MIN_OF(row1 - r, 1u * PANELS * PANEL_ROWS);
        p.y = y + (r - row0);
        const char *next = (const char *)w->data + (r + p.n_rows) * w->row_bytes;
        const uint32_t n_next = MIN_OF(row1 - r - p.n_rows, 1u * PANELS * PANEL_ROWS);
        for (uint32_t c = 0, c1; c < w->n_cols; c = c1) {
            uint8_t at[PANEL_BLOCKS];
            c1 = MIN_OF(w->n_cols, c + QUANT_CHUNK);
            p.col0 = c;
            p.n_blocks = (c1 - c) / QK;
            panel_order(p.n_blocks, at);
            panel_fetch_set(&p, next, n_next * w->row_bytes, w->n_cols, x->n_tok);
            for (uint32_t i = 0; i * PANEL_ROWS < p.n_rows; i++)
                panel_unpack((const char *)w->data + (r + i * PANEL_ROWS) * w->row_bytes,
                             (const char *)w->data + w->n_rows * w->row_bytes, w->row_bytes,
                             MIN_OF(p.n_rows - i * PANEL_ROWS, (uint32_t)PANEL_ROWS), c, c1,
                             panels + i * p.one_bytes, at, group_bytes, load, panel_load, r == row0,
                             flags);
            tokens(&p, x, flags);
        }
    }
}
