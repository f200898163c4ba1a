/* SPDX-License-Identifier: Apache-2.0 */
/* The table's products on tiles from the prepared layout (panels.h), whose dwords lie as tiles want
 * them: nothing is turned.  Included once, after strip_impl.h and amx_impl.h. */
#define STRIP_AS AS_SIGNED

#include "worker/kernel/x86/panel/strip_many_impl.h"

/* Below: vector instructions read a strip once for up to eight tokens, without a scratch.  By the
 * instructions' costs, not measured: docs/SPEED.md. */
enum { AMX_STRIP_TOKENS = 5 };

#define X(TYPE, ...)                                                                               \
    PREPARED(TYPE, amx_tokens(STRIP_FLAGS_##TYPE), AMX_STRIP_TOKENS,                               \
             panels_avx512vnni[DTYPE_##TYPE])                                                      \
    static void amx_strips_##TYPE(const struct kern_mat *w, uint32_t row0, uint32_t row1,          \
                                  const struct kern_act *x, float *y, size_t ld_y)                 \
    {                                                                                              \
        prepared_##TYPE(w, row0, row1, x, y, ld_y);                                                \
        if (x->n_tok >= AMX_STRIP_TOKENS)                                                          \
            TILES_RELEASE();                                                                       \
    }
STRIP_TYPES(X)
#undef X

static void amx_strips_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul_panels[DTYPE_##TYPE] = amx_strips_##TYPE;
    STRIP_TYPES(X)
#undef X
}
