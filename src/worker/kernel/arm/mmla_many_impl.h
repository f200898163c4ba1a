/* SPDX-License-Identifier: Apache-2.0 */
/* Strips (panels.h) times many tokens by SMMLA, in the order that mmla_impl.h wants.  Included
 * once, by panels_i8mm.c, after x86/panel/strip_unpack_impl.h.  Bit for bit the other ways and ref.
 */

enum {
    MMLA_TOKENS = 64,    /* whose activations are brought into order for all rows of a call */
    MMLA_MIN_TOKENS = 8, /* fewer go by SDOT */
    MMLA_GROUPS = QUANT_CHUNK / 256
};

/* a[i], b[i], ...: dwords of four items to two registers of two. */
INLINED int64x2_t dwords_low(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s64_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

INLINED int64x2_t dwords_high(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s64_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

/* A panel as strip_unpack leaves it, to its order, n blocks in place. */
INLINED void mmla_turn(char *panel, uint32_t n, const int flags)
{
    const int8x16_t offset = vdupq_n_s8((int8_t)OFFSET(flags));
    for (uint32_t b = 0; b < n; b++, panel += panel_block_bytes(flags)) {
        int8_t *q = (int8_t *)panel;
        UNROLL
        for (uint32_t m = 0; m < 4; m++, q += 128) {
            int8x16_t v[8];
            UNROLL
            for (uint32_t i = 0; i < 8; i++)
                v[i] = vsubq_s8(vld1q_s8(q + 16 * i), offset);
            UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                vst1q_s64((int64_t *)(void *)(q + 32 * i), dwords_low(v[i], v[i + 4]));
                vst1q_s64((int64_t *)(void *)(q + 32 * i + 16), dwords_high(v[i], v[i + 4]));
            }
        }
    }
}

/* Columns 8 m .. 8 m + 7 of each block of a group, two blocks to a register. */
INLINED void columns_of(const struct act_q8 *x, const uint32_t m, int64x2_t to[4])
{
    const int8_t *q = x->q + 128 * (m % 2) + 32 * (m / 2);
    UNROLL
    for (uint32_t g = 0; g < 2; g++) {
        const int8x16_t a = vld1q_s8(q + 16 * g), b = vld1q_s8(q + 64 + 16 * g);
        to[2 * g] = dwords_low(a, b);
        to[2 * g + 1] = dwords_high(a, b);
    }
}

/* A group of two tokens to its order. */
static void mmla_pair(const struct act_q8 *x0, const struct act_q8 *x1, struct act_q8 *to0,
                      struct act_q8 *to1)
{
    memcpy(to0, x0, offsetof(struct act_q8, q));
    memcpy(to1, x1, offsetof(struct act_q8, q));
    UNROLL
    for (uint32_t m = 0; m < 4; m++) {
        int64x2_t a[4], b[4];
        columns_of(x0, m, a);
        columns_of(x1, m, b);
        int8_t *q = (m < 2 ? to0 : to1)->q + 16 * (m % 2);
        UNROLL
        for (uint32_t i = 0; i < 4; i++, q += 64) {
            vst1q_s64((int64_t *)(void *)q, vzip1q_s64(a[i], b[i]));
            vst1q_s64((int64_t *)(void *)(q + 32), vzip2q_s64(a[i], b[i]));
        }
    }
}

/* Of one token. */
static void mmla_single(const struct act_q8 *x, struct act_q8 *to)
{
    memcpy(to, x, offsetof(struct act_q8, q));
    for (uint32_t m = 0; m < 4; m++) {
        int64x2_t a[4];
        columns_of(x, m, a);
        for (uint32_t i = 0; i < 4; i++) {
            vst1_s64((int64_t *)(void *)(to->q + 64 * i + 8 * m), vget_low_s64(a[i]));
            vst1_s64((int64_t *)(void *)(to->q + 64 * i + 32 + 8 * m), vget_high_s64(a[i]));
        }
    }
}

/* Up to QUANT_CHUNK columns from col0 on of x's tokens. */
static void mmla_tokens(const struct kern_act *x, uint32_t col0,
                        struct act_q8 to[MMLA_TOKENS][MMLA_GROUPS])
{
    const uint32_t groups = (MIN_OF(x->n_cols - col0, (uint32_t)QUANT_CHUNK) + 255) / 256;
    for (uint32_t t = 0; t < x->n_tok; t += 2) {
        const char *row = (const char *)x->rows + t * x->row_bytes;
        const struct act_q8 *x0 = (const struct act_q8 *)row + col0 / 256;
        const struct act_q8 *x1 = (const struct act_q8 *)(row + x->row_bytes) + col0 / 256;
        for (uint32_t g = 0; g < groups; g++)
            if (t + 1 < x->n_tok)
                mmla_pair(x0 + g, x1 + g, &to[t][g], &to[t + 1][g]);
            else
                mmla_single(x0 + g, &to[t][g]);
    }
}

/* What a type has for it. */
struct mmla_type {
    enum dtype type;
    int flags;
    strip_unpack_fn unpack;
    size_t group_bytes;
};

/* One body for all types whose panels look the same. */
#define X(NAME, FLAGS)                                                                             \
    static                                                                                         \
        __attribute__((noinline)) void mmla_##NAME(struct panel_pair *p, const struct kern_act *x) \
    {                                                                                              \
        panel_tokens(p, x, FLAGS);                                                                 \
    }
X(plain, W_PLAIN)
X(min, W_MIN)
X(half, W_HALF)
X(half_min, W_HALF_MIN)
#undef X

/* What is unpacked next, fetched while tokens pass. */
INLINED void mmla_fetch(struct panel_pair *p, const char *next, size_t n_bytes, uint32_t n_tok)
{
    const uint32_t steps = p->n_blocks * ((n_tok + PANEL_TOKENS - 1) / PANEL_TOKENS);
    p->ahead = next;
    p->ahead_end = next + n_bytes;
    p->lines = (uint32_t)((n_bytes / 64 + steps) / steps);
}

/* A chunk of columns of rows row0 (a strip's first) to row1 times up to MMLA_TOKENS tokens. */
INLINED void mmla_chunk(const struct kern_mat *w, uint32_t row0, uint32_t row1, uint32_t col0,
                        const struct kern_act *x, float *y, size_t ld_y, const struct mmla_type *m)
{
    static void (*const tokens[])(struct panel_pair *, const struct kern_act *) = {
        mmla_plain, mmla_min, mmla_half, mmla_half_min};
    _Alignas(64) char panel[PANEL_BLOCKS * sizeof(struct panel_block)];
    const size_t strip_bytes = panels_strip_bytes(m->type, w->n_cols);
    struct panel_pair p = {.panels = panel, .ld_y = ld_y, .col0 = col0};
    uint8_t at[PANEL_BLOCKS];
    p.n_blocks = MIN_OF(w->n_cols - col0, (uint32_t)QUANT_CHUNK) / QK;
    panel_order(p.n_blocks, at);
    for (uint32_t r = row0; r < row1; r += p.n_rows) {
        const char *chunk =
            (const char *)w->panels + r / PANELS_ROWS * strip_bytes + col0 / 256 * m->group_bytes;
        p.n_rows = MIN_OF(row1 - r, (uint32_t)PANELS_ROWS);
        p.y = y + (r - row0);
        mmla_fetch(&p, chunk + strip_bytes, m->group_bytes * p.n_blocks / 8, x->n_tok);
        m->unpack(chunk, p.n_blocks, panel, at);
        mmla_turn(panel, p.n_blocks, m->flags);
        tokens[m->flags & W_HALF_MIN](&p, x);
    }
}

static void mmla_rows(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                      const struct kern_act *x, float *y, size_t ld_y, const struct mmla_type *m)
{
    _Alignas(64) struct act_q8 rows[MMLA_TOKENS][MMLA_GROUPS];
    for (uint32_t t = 0; t < x->n_tok; t += MMLA_TOKENS) {
        struct kern_act part = *x;
        part.rows = (const char *)x->rows + t * x->row_bytes;
        part.n_tok = MIN_OF(x->n_tok - t, (uint32_t)MMLA_TOKENS);
        for (uint32_t c = 0; c < w->n_cols; c += QUANT_CHUNK) {
            mmla_tokens(&part, c, rows);
            struct kern_act turned = part;
            turned.row_bytes = sizeof(rows[0]);
            /* As if what is before column c was there, too. */
            turned.rows = (const void *)((uintptr_t)rows - c / 256 * sizeof(struct act_q8));
            mmla_chunk(w, row0, row1, c, &turned, y + t * ld_y, ld_y, m);
        }
    }
}

/* From the first row that begins a strip on, many tokens go by SMMLA. */
static void mmla_matmul(const struct kern_mat *w, uint32_t row0, uint32_t row1,
                        const struct kern_act *x, float *y, size_t ld_y, const struct mmla_type *m)
{
    uint32_t begin = row1;
    if (x->n_tok >= MMLA_MIN_TOKENS)
        begin = MIN_OF((row0 + PANELS_ROWS - 1) / PANELS_ROWS * PANELS_ROWS, row1);
    if (row0 < begin)
        panels_dotprod(m->type)(w, row0, begin, x, y, ld_y);
    if (begin < row1)
        mmla_rows(w, begin, row1, x, y + (begin - row0), ld_y, m);
}

#define X(TYPE, KIND, MIN_TOKENS, FLAGS, ...)                                                      \
    static void mmla_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,                \
                            const struct kern_act *x, float *y, size_t ld_y)                       \
    {                                                                                              \
        static const struct mmla_type m = {DTYPE_##TYPE, FLAGS, strip_unpack_##TYPE,               \
                                           STRIP_GROUP_##TYPE};                                    \
        mmla_matmul(w, row0, row1, x, y, ld_y, &m);                                                \
    }
STRIP_TYPES(X)
#undef X
