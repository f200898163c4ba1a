/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: the only callers of malloc and friends.
 *
 * mem_alloc and mem_dup are for small internal things whose size we chose; they end the process
 * when memory is out.  A size that comes from outside (a file, a request) goes through the mem_try_
 * functions, which check the product for overflow and fail with E_NOMEM.  Tests make the nth try_
 * call fail (mem_fault_after).
 *
 * Any thread. */
#ifndef LIB_BASE_MEM_H
#define LIB_BASE_MEM_H

#include "lib/base/err.h"

/* Zeroed; never NULL.  For n == 0 a unique freeable pointer. */
void *mem_alloc(size_t n_bytes) MUST_USE;
/* A NUL-terminated copy of len bytes of s; owned by the caller. */
char *mem_dup(const char *s, size_t len) MUST_USE;

/* Zeroed array of n items; NULL and err on overflow or lack of memory. */
void *mem_try_alloc(size_t n, size_t item_bytes, struct err *err) MUST_USE;
/* As realloc for an array; on failure the old block is intact and NULL is returned.  New bytes are
 * not zeroed. */
void *mem_try_resize(void *p, size_t n, size_t item_bytes, struct err *err) MUST_USE;
/* 64-byte aligned, zeroed; freed with mem_free. */
void *mem_try_aligned(size_t n_bytes, struct err *err) MUST_USE;
/* The same for much memory of which little may ever be used: a page costs memory once it is
 * touched. *ret_mem is what mem_free takes. */
void *mem_try_lazy(size_t n_bytes, void **ret_mem, struct err *err) MUST_USE;

void mem_free(void *p); /* NULL is fine */

/* Tests: the (n+1)th mem_try_ call from now on fails once; n < 0 turns it off.  Not for use outside
 * tests. */
void mem_fault_after(long n);

/* The guard of the token loop: while armed on this thread, every mem_ allocation is a BUG (debug
 * builds and tests; a no-op with NDEBUG). */
void mem_guard_arm(bool on);

/* Checked arithmetic for sizes from outside: false on overflow, *ret untouched. */
static inline bool size_add(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}
static inline bool size_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

#endif
