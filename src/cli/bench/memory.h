/* SPDX-License-Identifier: Apache-2.0 */
/* What processes of this machine hold in memory, read in /proc.  Of another machine's, or of
 * another user's, nothing is known.  Any thread. */
#ifndef CLI_BENCH_MEMORY_H
#define CLI_BENCH_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

#include "lib/base/compiler.h"

struct bench_memory {
    uint64_t rss_bytes;     /* resident, pages of mapped files included */
    uint64_t private_bytes; /* written by it and held by it alone: what it costs to have it */
};

/* False: not known. */
bool bench_memory_of(pid_t pid, struct bench_memory *ret);
/* The process that listens on this TCP port of this machine; 0: none, or not to be seen. */
pid_t bench_listener(uint32_t port);

#endif
