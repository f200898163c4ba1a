/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of strips (panels.h) to panels as panel_impl.h has them, for each type.  Included once,
 * after strip_impl.h. */

/* A chunk of one strip, columns c0 to c1, to a panel: strip_unpack_TYPE. */
typedef void (*strip_unpack_fn)(const char *chunk, uint32_t n_blocks, char *panel,
                                const uint8_t *at);

INLINED void strip_unpack(const char *chunk, uint32_t n_blocks, char *panel, const uint8_t *at,
                          const int flags, const uint32_t span, panel_get_fn get,
                          strip_scales_fn scales, const struct strip_type type)
{
    for (uint32_t done = 0; done < n_blocks; done += 8, at += 8) {
        const struct strip_group g = strip_group_at(chunk, MIN_OF(n_blocks - done, 8u), type);
        scales(&g, panel, at, flags);
        for (uint32_t b = 0; b < g.n_blocks; b += span) {
            UNROLL
            for (uint32_t n = 0; n < span; n++) {
                struct panel_block *to = panel_at(panel, at[b + n], flags);
                UNROLL
                for (uint32_t k = 0; k < 8; k++)
                    b64_store(to->q[k], get(&g, b, n, k, flags));
            }
        }
        chunk += strip_group_bytes(g.n_blocks, type);
    }
}

#define UNPACK(TYPE, FLAGS, BITS, SPAN, GET, SCALES, HEAD, HIGH, Q, WHOLE)                         \
    static __attribute__((noinline)) void strip_unpack_##TYPE(                                     \
        const char *chunk, uint32_t n_blocks, char *panel, const uint8_t *at)                      \
    {                                                                                              \
        strip_unpack(chunk, n_blocks, panel, at, FLAGS, SPAN, GET, SCALES,            \
                     (struct strip_type){HEAD, HIGH, Q, WHOLE});                                   \
    }                                                                                              \
    enum {                                                                                         \
        STRIP_GROUP_##TYPE = ((HEAD) + (HIGH) + (Q)) * ((WHOLE) ? 1 : 8),                          \
        STRIP_FLAGS_##TYPE = FLAGS                                                                 \
    };
#define X(TYPE, KIND, MIN_TOKENS, ...) UNPACK(TYPE, __VA_ARGS__)
STRIP_TYPES(X)
#undef X
#undef UNPACK
