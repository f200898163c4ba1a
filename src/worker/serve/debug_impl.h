/* SPDX-License-Identifier: Apache-2.0 */
/* Between debug.c and debug_model.c alone. */
#ifndef WORKER_SERVE_DEBUG_IMPL_H
#define WORKER_SERVE_DEBUG_IMPL_H

#include "lib/base/str.h"
#include "lib/sys/model_files.h"
#include "worker/serve/debug.h"

/* Opens a model's files; a format that is not read yet is refused by its name. */
int debug_open(const char *path, struct model_files *ret, struct err *err) MUST_USE;
/* Everything or an error. */
int debug_write(int fd, const void *data, size_t n, struct err *err) MUST_USE;
struct debug_ids {
    int32_t *ids; /* owned; mem_free */
    size_t n;
};
/* Ids separated by commas or white space; at least one. */
int debug_ids_read(struct str text, struct debug_ids *ret, struct err *err) MUST_USE;
/* logits, show and plan; shut_in applies the sandbox. */
int debug_model(const struct debug_request *r, int (*shut_in)(struct err *err),
                struct err *err) MUST_USE;

#endif
