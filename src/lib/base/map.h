/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from byte strings to 32-bit numbers, for names: tensors, keys, tokens, models.
 *
 * Keys are borrowed: the caller keeps their bytes alive.  Hashed with SipHash-1-3 under a random
 * key of the process, so that chosen names cannot make it slow; nothing may depend on its order.
 * One thread at a time for writing. */
#ifndef LIB_BASE_MAP_H
#define LIB_BASE_MAP_H

#include "lib/base/err.h"
#include "lib/base/str.h"

#define MAP_NONE UINT32_MAX /* never a stored value */

struct map_slot {
    struct str key;
    uint32_t value;
    uint32_t hash;
};

struct map {
    struct map_slot *slots; /* owned; open addressing, power of two; key.p == NULL: empty */
    uint32_t cap, len;
};

void map_init(struct map *m);
void map_release(struct map *m);
/* Room for n_items in all without growing. */
int map_try_reserve(struct map *m, uint32_t n_items, struct err *err) MUST_USE;
/* Inserts or finds: *ret_old is the earlier value or MAP_NONE when key was new; an earlier value is
 * kept. value != MAP_NONE. */
int map_try_put(struct map *m, struct str key, uint32_t value, uint32_t *ret_old,
                struct err *err) MUST_USE;
/* The value, or MAP_NONE. */
uint32_t map_get(const struct map *m, struct str key);

/* SipHash-1-3 of the bytes under the process's random key (Aumasson and Bernstein, 2012). */
uint64_t map_hash(const void *p, size_t n);

#endif
