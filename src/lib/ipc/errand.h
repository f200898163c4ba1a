/* SPDX-License-Identifier: Apache-2.0 */
/* A worker for one question: this program again (spawn.h), one frame to it with descriptors beside
 * it, its answer, its end.  What it answers is bounded and checked like anything a stranger says.
 * Any thread; the calls block. */
#ifndef LIB_IPC_ERRAND_H
#define LIB_IPC_ERRAND_H

#include <stdatomic.h>

#include "lib/ipc/frame.h"
#include "lib/sys/spawn.h"

struct errand {
    const char *what;             /* "reading the model": for messages */
    uint32_t timeout_ms;          /* of the whole */
    const atomic_bool *is_called; /* off: E_CANCELED soon after it becomes true; NULL: never */
    /* errand_start fills in: */
    int fd;
    struct child child;
    uint64_t deadline_ms;
    struct frame_reader in;
};

/* argv as spawn_self has it; its standard error is the caller's. */
int errand_start(struct errand *e, const char *const *argv, struct err *err) MUST_USE;
/* out, a whole frame, with n (at least 1) descriptors beside its first bytes. */
int errand_send(struct errand *e, const struct buf *out, const int *fds, uint32_t n,
                struct err *err) MUST_USE;
/* The next frame: 1; 0 when the worker has closed its end.  E_TIMEOUT, E_CANCELED, E_FORMAT. */
int errand_read(struct errand *e, struct frame *ret, struct err *err) MUST_USE;
/* A LOAD_FAILED, as its own error. */
int errand_refusal(struct str payload, struct err *err);
/* Waits for its end, which comes by itself after a success (0) or E_GONE, and is brought about
 * after any other rc.  Returns rc; E_GONE says then how it ended. */
int errand_finish(struct errand *e, int rc, struct err *err);

#endif
