/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors beside bytes on a Unix socket (unix(7), SCM_RIGHTS).  Any thread; no state. */
#ifndef LIB_IPC_FDS_H
#define LIB_IPC_FDS_H

#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/base/limits.h"

/* Bytes, as send without waiting has it; with the first of them all n_fds (at most LIMIT_MSG_FDS)
 * descriptors, which stay the caller's. */
ssize_t fds_send(int socket, const void *bytes, size_t n_bytes, const int *fds, uint32_t n_fds);

/* Bytes, as recv with `flags` has it; what came beside them is added to fds[*n_fds], the caller's.
 * For what is no descriptor, or more than fit, -1 with errno EPROTO, and err says which. */
ssize_t fds_recv(int socket, void *bytes, size_t cap, int flags, int fds[LIMIT_MSG_FDS],
                 uint32_t *n_fds, struct err *err);

#endif
