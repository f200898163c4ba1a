/* SPDX-License-Identifier: Apache-2.0 */
/* Gives up, in the calling process and for good, whatever reading a hostile file does not need.
 *
 * Called with one thread running, after the last file was opened and before the first byte of a
 * model is read. What stays possible: compute, threads, memory up to the limit, reading and mapping
 * descriptors that are open or arrive by message, writing to those that are open.  What does not:
 * opening or naming files, sockets, new processes, executable memory, signals and tracing.  A
 * forbidden call kills the process (SIGSYS), but for a few that libraries make as harmless probes,
 * which fail with EACCES, ENOTTY or ENOSYS.
 *
 * Layers: no_new_privs and no capabilities, resource limits, Landlock (no file system, no network),
 * seccomp (system calls by name).  What the kernel does not have is reported, not fatal.  Sanitizer
 * builds (BERTH_SAN) need files and fork for themselves: there only sockets and exec are refused,
 * with EPERM, and the report says so. */
#ifndef LIB_SYS_SANDBOX_H
#define LIB_SYS_SANDBOX_H

#include "lib/base/err.h"

enum sandbox_profile {
    SANDBOX_WORKER,  /* also: no byte may be written to any file, few descriptors */
    SANDBOX_PREPARE, /* as a worker, but the file that came for writing may grow */
    SANDBOX_DEBUG    /* `berth debug`: files opened for output may grow */
};

struct sandbox_report {
    bool has_landlock, has_seccomp;
    int landlock_abi;
    char text[192]; /* one line for logs: what holds, and what the kernel could not give */
};

/* memory_bytes: limit of private writable memory (RLIMIT_DATA), 0: none.  E_INTERNAL when the
 * kernel refuses what it has; then nothing may be parsed. */
int sandbox_apply_self(enum sandbox_profile profile, uint64_t memory_bytes,
                       struct sandbox_report *ret, struct err *err) MUST_USE;

/* No file may grow past max_bytes from now on. */
int sandbox_limit_files(uint64_t max_bytes, struct err *err) MUST_USE;

/* Lowers the limit of private writable memory once what is needed is known.  Never raises it. */
void sandbox_limit_memory(uint64_t memory_bytes);

#endif
