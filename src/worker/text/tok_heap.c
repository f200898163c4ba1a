/* SPDX-License-Identifier: Apache-2.0 */
/* Implements tok_heap.h. */
#include "worker/text/tok_heap.h"

#include <string.h>

#include "lib/base/mem.h"

void tok_heap_init(struct tok_heap *h)
{
    memset(h, 0, sizeof(*h));
}

void tok_heap_release(struct tok_heap *h)
{
    for (unsigned i = 0; i < ARRAY_LEN(h->bucket); i++)
        mem_free(h->bucket[i].v);
    mem_free(h->early.v);
    memset(h, 0, sizeof(*h));
}

void tok_heap_clear(struct tok_heap *h)
{
    for (unsigned i = 0; i < ARRAY_LEN(h->bucket); i++)
        h->bucket[i].n = 0;
    h->early.n = 0;
    h->last = h->mask = 0;
}

static int keys_append(struct tok_keys *k, uint64_t key, struct err *err)
{
    if (UNLIKELY(k->n == k->cap)) {
        const uint32_t cap = k->cap ? k->cap * 2 : 32;
        if (cap < k->cap)
            return err_set(err, E_LIMIT, "the text has too many symbols to merge");
        void *p = mem_try_resize(k->v, cap, sizeof(*k->v), err);
        if (!p)
            return -E_NOMEM;
        k->v = p;
        k->cap = cap;
    }
    k->v[k->n++] = key;
    return 0;
}

static int early_push(struct tok_keys *k, uint64_t key, struct err *err)
{
    int rc = keys_append(k, key, err);
    if (rc < 0)
        return rc;
    uint32_t i = k->n - 1;
    while (i > 0 && k->v[(i - 1) / 2] > key) {
        k->v[i] = k->v[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    k->v[i] = key;
    return 0;
}

static uint64_t early_pop(struct tok_keys *k)
{
    const uint64_t top = k->v[0], key = k->v[--k->n];
    uint32_t i = 0;
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= k->n)
            break;
        if (c + 1 < k->n && k->v[c + 1] < k->v[c])
            c++;
        if (k->v[c] >= key)
            break;
        k->v[i] = k->v[c];
        i = c;
    }
    k->v[i] = key;
    return top;
}

static int bucket_push(struct tok_heap *h, uint64_t key, struct err *err)
{
    const unsigned i = key == h->last ? 0 : 64u - (unsigned)__builtin_clzll(key ^ h->last);
    if (i)
        h->mask |= 1ull << (i - 1);
    return keys_append(&h->bucket[i], key, err);
}

int tok_heap_push(struct tok_heap *h, uint64_t key, struct err *err)
{
    return LIKELY(key >= h->last) ? bucket_push(h, key, err) : early_push(&h->early, key, err);
}

/* Moves the first bucket that holds something down, around its smallest key. */
static int refill(struct tok_heap *h, struct err *err)
{
    const unsigned i = (unsigned)__builtin_ctzll(h->mask) + 1;
    struct tok_keys *k = &h->bucket[i];
    uint64_t least = k->v[0];
    for (uint32_t j = 1; j < k->n; j++)
        least = MIN_OF(least, k->v[j]);
    h->last = least;
    for (uint32_t j = 0; j < k->n; j++) {
        int rc = bucket_push(h, k->v[j], err); /* always to a bucket below i */
        if (rc < 0)
            return rc;
    }
    k->n = 0;
    h->mask &= ~(1ull << (i - 1));
    return 0;
}

int tok_heap_pop(struct tok_heap *h, uint64_t *ret_key, struct err *err)
{
    if (h->early.n) { /* all of them are below last, and so below everything in the buckets */
        *ret_key = early_pop(&h->early);
        return 1;
    }
    if (h->bucket[0].n == 0) {
        if (h->mask == 0)
            return 0;
        int rc = refill(h, err);
        if (rc < 0)
            return rc;
    }
    h->bucket[0].n--;
    *ret_key = h->last;
    return 1;
}
