/* SPDX-License-Identifier: Apache-2.0 */
/* Compiler attributes and the two assertions.  Everything else of the language is used plainly.
 *
 * BUG_ON is always compiled in and is for our own mistakes only: nothing that arrives from outside
 * (a file, a request, a frame, a flag) may reach one; such things end in an err (err.h). */
#ifndef LIB_BASE_COMPILER_H
#define LIB_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))
#define LIKELY(x)         __builtin_expect(!!(x), 1)
#define UNLIKELY(x)       __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

/* Prints where and what to standard error and aborts. */
NORETURN void bug_die(const char *file, int line, const char *cond);

#define BUG_ON(cond)                                                                               \
    do {                                                                                           \
        if (UNLIKELY(cond))                                                                        \
            bug_die(__FILE__, __LINE__, #cond);                                                    \
    } while (0)

#endif
