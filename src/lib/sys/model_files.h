/* SPDX-License-Identifier: Apache-2.0 */
/* The files of one model, opened by path and not read: the file itself or, for a name that ends in
 * -00001-of-000NN.gguf, every shard beside it, in order.  What opens them need not be what parses
 * them: the daemon hands the descriptors to a worker, `berth debug` shuts itself in first.  Any
 * thread. */
#ifndef LIB_SYS_MODEL_FILES_H
#define LIB_SYS_MODEL_FILES_H

#include "lib/base/err.h"

struct model_files {
    uint32_t n;
    int *fds;     /* [n], read-only, close-on-exec; owned */
    char **paths; /* [n], owned */
};

/* E_NOTFOUND or E_IO naming the file (a missing shard by its number), E_INVALID for what is not a
 * regular file, E_LIMIT for more shards than LIMIT_MSG_FDS. */
int model_files_open(const char *path, struct model_files *ret, struct err *err) MUST_USE;
void model_files_close(struct model_files *f); /* an all-zero one is fine */

#endif
