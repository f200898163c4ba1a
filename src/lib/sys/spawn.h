/* SPDX-License-Identifier: Apache-2.0 */
/* Starting berth again in another role, and learning how a process ended.
 *
 * No shell, no search path: fork and exec of this very binary, with the descriptors, the
 * environment and the signal state that are stated here and nothing else. */
#ifndef LIB_SYS_SPAWN_H
#define LIB_SYS_SPAWN_H

#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct spawn_config {
    const char *const *argv; /* NULL-terminated; argv[0] is what ps shows */
    int stderr_fd;           /* becomes 2; 0 and 1 are /dev/null */
    int frames_fd;           /* becomes 3 */
};

struct child {
    pid_t pid;
    int pidfd; /* readable once it has ended; the caller closes it */
};

/* Starts /proc/self/exe, in its own process group, killed when the calling thread ends.  Everything
 * but the descriptors above is closed, all signals are at their defaults and unblocked.  Returns
 * once exec has worked. */
int spawn_self(const struct spawn_config *cfg, struct child *ret, struct err *err) MUST_USE;

/* How a process ended. */
struct child_end {
    bool was_killed; /* by a signal */
    int status;      /* exit status or signal number */
    bool has_core;
};
/* 1 and *ret when it has ended (and is reaped, once), 0 when it still runs. */
int child_reap(const struct child *c, struct child_end *ret);
void child_kill(const struct child *c, int signo);
/* "was killed by SIGSEGV", "exited with status 3". */
void child_end_print(const struct child_end *e, char *out, size_t n);

#endif
