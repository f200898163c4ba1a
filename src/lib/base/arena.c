/* SPDX-License-Identifier: Apache-2.0 */
/* Implements arena.h: chunks of 4 KiB doubling to 1 MiB, or as large as one item needs,
 * bump-allocated. */
#include "lib/base/arena.h"

#include <string.h>

#include "lib/base/mem.h"

#define CHUNK_MIN_BYTES (4u << 10)
#define CHUNK_MAX_BYTES (1u << 20)

struct arena_chunk {
    struct arena_chunk *next;
    size_t cap, len;
    _Alignas(16) char bytes[];
};

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max_bytes = max_bytes};
}

void arena_release(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *next = a->chunks->next;
        mem_free(a->chunks);
        a->chunks = next;
    }
    arena_init(a, a->max_bytes);
}

static struct arena_chunk *chunk_add(struct arena *a, size_t n, struct err *err)
{
    size_t cap = a->chunks ? a->chunks->cap * 2 : CHUNK_MIN_BYTES;
    if (cap > CHUNK_MAX_BYTES)
        cap = CHUNK_MAX_BYTES;
    if (cap < n)
        cap = n;
    struct arena_chunk *c = mem_try_alloc(1, sizeof(*c) + cap, err);
    if (!c)
        return NULL;
    c->cap = cap;
    c->next = a->chunks;
    a->chunks = c;
    return c;
}

void *arena_try_alloc(struct arena *a, size_t n_bytes, struct err *err)
{
    if (n_bytes > a->max_bytes - a->used_bytes || n_bytes > SIZE_MAX / 2) {
        err_set(err, E_LIMIT, "needs more than %zu bytes of memory", a->max_bytes);
        return NULL;
    }
    size_t n = (n_bytes + 15) & ~(size_t)15;
    struct arena_chunk *c = a->chunks;
    if (!c || n > c->cap - c->len) {
        c = chunk_add(a, n, err);
        if (!c)
            return NULL;
    }
    void *p = c->bytes + c->len;
    c->len += n;
    a->used_bytes += MIN_OF(n, a->max_bytes - a->used_bytes);
    return p;
}

char *arena_try_dup(struct arena *a, const char *s, size_t len, struct err *err)
{
    char *p = arena_try_alloc(a, len + 1, err);
    if (p && len)
        memcpy(p, s, len);
    return p;
}
