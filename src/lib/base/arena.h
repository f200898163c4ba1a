/* SPDX-License-Identifier: Apache-2.0 */
/* An arena: many small allocations that die together.  Owns its chunks; born with a maximum.  One
 * thread at a time. */
#ifndef LIB_BASE_ARENA_H
#define LIB_BASE_ARENA_H

#include "lib/base/err.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used_bytes;          /* handed out, all chunks */
    size_t max_bytes;
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_release(struct arena *a); /* frees everything; the arena may be used again */

/* Zeroed, 16-byte aligned, valid until arena_release.  NULL past the maximum or out of memory, with
 * err filled: for sizes that follow from input. */
void *arena_try_alloc(struct arena *a, size_t n_bytes, struct err *err) MUST_USE;
/* A NUL-terminated copy. */
char *arena_try_dup(struct arena *a, const char *s, size_t len, struct err *err) MUST_USE;

#endif
