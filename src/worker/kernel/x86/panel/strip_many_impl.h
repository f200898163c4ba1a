/* SPDX-License-Identifier: Apache-2.0 */
/* Strips (panels.h) times many tokens: a chunk of columns is unpacked as panel_impl.h has it, and
 * all tokens pass over that.  Included once, after strip_unpack_impl.h; bit for bit quant_impl.h and
 * ref. */

/* What a type has for many tokens. */
struct strip_many {
    strip_unpack_fn unpack;
    panel_fn tokens;    /* its flags are not read: one body for a kind of panels */
    kern_matmul_fn few; /* fewer tokens, and rows before the first that begins a strip */
    size_t block_bytes; /* of a panel */
    size_t group_bytes, strip_bytes;
    uint32_t min_tokens;
};

/* Rows row0 to row1, row0 a strip's first. */
static void strip_matmul_many(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                              const struct kern_act *x, float *y, size_t ld_y,
                              const struct strip_many *m)
{
    _Alignas(64) char panels[PANELS * PANEL_BLOCKS * sizeof(struct panel_block)];
    struct panel_pair p = {
        .panels = panels, .one_bytes = PANEL_BLOCKS * m->block_bytes, .ld_y = ld_y};
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        const char *strip = (const char *)w->panels + r / PANELS_ROWS * m->strip_bytes;
        p.n_rows = MIN_OF(row1 - r, 1u * PANELS * PANEL_ROWS);
        p.y = y + (r - row0);
        const uint32_t n_strips = (p.n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
        const char *next = strip + n_strips * m->strip_bytes;
        const uint32_t n_next = r + p.n_rows < row1 ? n_strips : 0;
        for (uint32_t c = 0; c < w->n_cols; c += QUANT_CHUNK) {
            uint8_t at[PANEL_BLOCKS];
            p.col0 = c;
            p.n_blocks = MIN_OF(w->n_cols - c, (uint32_t)QUANT_CHUNK) / QK;
            panel_order(p.n_blocks, at);
            panel_fetch_set(&p, next, n_next * m->strip_bytes, w->n_cols, x->n_tok);
            for (uint32_t i = 0; i < n_strips; i++)
                m->unpack(strip + i * m->strip_bytes + c / 256 * m->group_bytes, p.n_blocks,
                          panels + i * p.one_bytes, at);
            m->tokens(&p, x, 0);
        }
    }
}

/* From the first row that begins a strip on, many tokens go their own way. */
static void strip_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                         const struct kern_act *x, float *y, size_t ld_y,
                         const struct strip_many *m)
{
    uint32_t begin = row1;
    if (x->n_tok >= m->min_tokens)
        begin = MIN_OF((row0 + PANELS_ROWS - 1) / PANELS_ROWS * PANELS_ROWS, row1);
    if (row0 < begin)
        m->few(w, row0, begin, x, y, ld_y);
    if (begin < row1)
        strip_matmul_many(w, begin, row1, x, y + (begin - row0), ld_y, m);
}

/* prepared_TYPE: kern.h's matmul_panels.  TOKENS: a panel_fn, from N_MIN tokens on; FEW: below. */
#define PREPARED(TYPE, TOKENS, N_MIN, FEW)                                                         \
    static void prepared_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,            \
                                const struct kern_act *x, float *y, size_t ld_y)                   \
    {                                                                                              \
        const struct strip_many many = {.unpack = strip_unpack_##TYPE,                             \
                                        .tokens = TOKENS,                                          \
                                        .few = FEW,                                                \
                                        .block_bytes = panel_block_bytes(STRIP_FLAGS_##TYPE),      \
                                        .group_bytes = STRIP_GROUP_##TYPE,                         \
                                        .strip_bytes =                                             \
                                            panels_strip_bytes(DTYPE_##TYPE, w->n_cols),           \
                                        .min_tokens = N_MIN};                                      \
        strip_matmul(w, row0, row1, x, y, ld_y, &many);                                            \
    }
