/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of 64-bit keys, smallest first, for merging symbols: (priority << 32 | position).
 *
 * A radix heap (Ahuja, Mehlhorn, Orlin and Tarjan, 1990): keys never smaller than the last one taken live in buckets
 * by their highest differing bit, so that ten million of them are moved in long runs of memory.  The few keys that
 * are smaller (vocabularies in which a merge makes an earlier one possible) go to a plain binary heap beside it.
 * One thread at a time; owns its memory. */
#ifndef WORKER_TEXT_TOK_HEAP_H
#define WORKER_TEXT_TOK_HEAP_H

#include "lib/base/err.h"

struct tok_keys {
    uint64_t *v; /* owned */
    uint32_t n, cap;
};

struct tok_heap {
    struct tok_keys bucket[65]; /* by 64 - clz(key ^ last); 0: equal to last */
    struct tok_keys early;      /* binary heap of keys below last */
    uint64_t last, mask;        /* mask: bit i - 1 set when bucket i > 0 holds something */
};

void tok_heap_init(struct tok_heap *h);
void tok_heap_release(struct tok_heap *h);
/* Empties it, keeps the memory. */
void tok_heap_clear(struct tok_heap *h);
int tok_heap_push(struct tok_heap *h, uint64_t key, struct err *err) MUST_USE;
/* Takes the smallest key: 1 and *ret_key, 0 when empty, negative on E_NOMEM. */
int tok_heap_pop(struct tok_heap *h, uint64_t *ret_key, struct err *err) MUST_USE;

#endif
