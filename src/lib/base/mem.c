/* SPDX-License-Identifier: Apache-2.0 */
/* Implements mem.h on the C library's allocator. */
#include "lib/base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fault_countdown = -1;
static _Thread_local bool guard_armed;

void mem_fault_after(long n)
{
    atomic_store(&fault_countdown, n);
}

void mem_guard_arm(bool on)
{
#ifndef NDEBUG
    guard_armed = on;
#else
    (void)on;
#endif
}

/* No single block is larger; what asks for more is refused without asking the allocator. */
#define MEM_MAX_BYTES (1ull << 39)

static bool size_is_sane(size_t n, size_t item_bytes, uint64_t *ret_bytes)
{
    return size_mul(n ? n : 1, item_bytes ? item_bytes : 1, ret_bytes) &&
           *ret_bytes <= MEM_MAX_BYTES;
}

static bool fault_due(void)
{
    if (LIKELY(atomic_load_explicit(&fault_countdown, memory_order_relaxed) < 0))
        return false;
    return atomic_fetch_sub(&fault_countdown, 1) == 0;
}

void *mem_alloc(size_t n_bytes)
{
    BUG_ON(guard_armed);
    void *p = calloc(1, n_bytes ? n_bytes : 1);
    if (!p) {
        fprintf(stderr, "berth: out of memory for %zu bytes\n", n_bytes);
        abort();
    }
    return p;
}

char *mem_dup(const char *s, size_t len)
{
    char *p = mem_alloc(len + 1);
    if (len)
        memcpy(p, s, len);
    return p;
}

void *mem_try_alloc(size_t n, size_t item_bytes, struct err *err)
{
    BUG_ON(guard_armed);
    uint64_t bytes;
    void *p = size_is_sane(n, item_bytes, &bytes) && !fault_due() ? calloc(1, (size_t)bytes) : NULL;
    if (!p)
        err_set(err, E_NOMEM, "out of memory for %zu items of %zu bytes", n, item_bytes);
    return p;
}

void *mem_try_resize(void *p, size_t n, size_t item_bytes, struct err *err)
{
    BUG_ON(guard_armed);
    uint64_t bytes;
    void *q = NULL;
    if (size_is_sane(n, item_bytes, &bytes) && !fault_due())
        q = realloc(p, (size_t)bytes);
    if (!q)
        err_set(err, E_NOMEM, "out of memory for %zu items of %zu bytes", n, item_bytes);
    return q;
}

void *mem_try_aligned(size_t n_bytes, struct err *err)
{
    BUG_ON(guard_armed);
    void *p = NULL;
    if (n_bytes > MEM_MAX_BYTES || fault_due() ||
        posix_memalign(&p, 64, (n_bytes + 63) / 64 * 64 + (n_bytes == 0) * 64)) {
        err_set(err, E_NOMEM, "out of memory for %zu bytes", n_bytes);
        return NULL;
    }
    memset(p, 0, n_bytes);
    return p;
}

void *mem_try_lazy(size_t n_bytes, void **ret_mem, struct err *err)
{
    *ret_mem = mem_try_alloc(n_bytes < MEM_MAX_BYTES ? n_bytes + 64 : SIZE_MAX, 1, err);
    return *ret_mem ? (void *)(((uintptr_t)*ret_mem + 63) & ~(uintptr_t)63) : NULL;
}

void mem_free(void *p)
{
    free(p);
}
