/* SPDX-License-Identifier: Apache-2.0 */
/* Between facts.c and facts_folder.c alone. */
#ifndef WORKER_MODEL_FACTS_IMPL_H
#define WORKER_MODEL_FACTS_IMPL_H

#include "worker/model/facts.h"

struct facts {
    const char *format, *quantization;
    struct str architecture;
    uint64_t n_params, n_bytes, context_size;
};

bool facts_has_ending(const char *s, const char *ending); /* whatever its case */
/* Also E_INVALID for what is no regular file. */
int facts_size(const struct facts_file *f, uint64_t *ret, struct err *err) MUST_USE;
/* Appends a member of "metadata"; one that is too large is left away. */
void facts_put_pair(struct buf *metadata, struct str key, struct str value);
void facts_put(const struct facts *f, const struct buf *metadata, struct buf *out);
int facts_read_folder(const struct facts_file *files, uint32_t n, struct buf *out,
                      struct err *err) MUST_USE;

#endif
