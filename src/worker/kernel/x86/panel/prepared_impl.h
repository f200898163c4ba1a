/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products with weights in the prepared layout (panels.h), by vector instructions.  Included
 * once by each panels_*.c of the vector levels, after strip_impl.h. */
#include "worker/kernel/x86/panel/strip_few_impl.h"

#include "worker/kernel/x86/panel/strip_unpack_impl.h"

#include "worker/kernel/x86/panel/strip_many_impl.h"

/* One body for all types whose panels look the same. */
#define KINDS(X)                                                                                   \
    X(offset4, BY(8) | WITH_BITS(4))                                                               \
    X(offset5, BY(16) | WITH_BITS(5))                                                              \
    X(bytes, IS_SIGNED | WITH_BITS(8))                                                             \
    X(min4, W_MIN | WITH_BITS(4))                                                                  \
    X(min5, W_MIN | WITH_BITS(5))                                                                  \
    X(half2, W_HALF_MIN | WITH_BITS(2))                                                            \
    X(half3, W_HALF | BY(4) | WITH_BITS(3))                                                        \
    X(half6, W_HALF | BY(32) | WITH_BITS(6))
#define X(NAME, FLAGS)                                                                             \
    static __attribute__((noinline)) void strips_##NAME(                                           \
        struct panel_pair *p, const struct kern_act *x, const int flags UNUSED)                    \
    {                                                                                              \
        panel_tokens(p, x, FLAGS);                                                                 \
    }
KINDS(X)
#undef X
#undef KINDS

#define X(TYPE, KIND, MIN_TOKENS, ...) PREPARED(TYPE, strips_##KIND, MIN_TOKENS, few_##TYPE)
STRIP_TYPES(X)
#undef X

static void prepared_fill(struct kern *k)
{
#define X(TYPE, ...) k->matmul_panels[DTYPE_##TYPE] = prepared_##TYPE;
    STRIP_TYPES(X)
#undef X
}
