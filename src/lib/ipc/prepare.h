/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a model in its kernels' own layout, written by a short-lived worker: the caller
 * opens the files, and the worker may write to the last of them alone, no further than agreed.
 * Any thread; the call blocks. */
#ifndef LIB_IPC_PREPARE_H
#define LIB_IPC_PREPARE_H

#include <stdatomic.h>

#include "lib/base/err.h"

#define PREPARE_TIMEOUT_MS (24u * 3600 * 1000) /* a crowded machine, a large model, a slow disk */
/* Of its private memory: what reading a model's header takes, and a mebibyte. */
#define PREPARE_MEMORY_BYTES (1ull << 30)

struct prepare_request {
    const int *fds;           /* [n]: the model's files */
    const char *const *names; /* [n], for messages */
    uint32_t n;
    int out_fd;            /* an empty file */
    uint64_t n_bytes;      /* what it becomes: what LOADED said */
    const char *cpu_level; /* as in LOAD; "": best */
    const atomic_bool *is_called_off;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};
/* E_CANCELED; E_GONE when the worker died, with how; whatever it says, with its sentence; E_IO has
 * sys ENOSPC where the disk is full.  The file
 * is whole when it returns 0, and not synced. */
int prepare_run(const struct prepare_request *q, struct err *err) MUST_USE;

#endif
