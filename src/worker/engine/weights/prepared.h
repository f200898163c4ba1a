/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in the layout that kernels like best (worker/kernel/panels.h): a file of their own,
 * written once, mapped from then on.  docs/STORE.md has its form.
 *
 * What it holds and where follows from the bound weights and the kernels alone: writer and reader
 * work it out alike, and nothing but a header is read from the file.  Its values are the model's,
 * bit for bit, so that answers under way may begin with the one layout and go on with the other.
 * Load time or between steps; one thread. */
#ifndef WORKER_ENGINE_WEIGHTS_PREPARED_H
#define WORKER_ENGINE_WEIGHTS_PREPARED_H

#include "worker/engine/weights/weights.h"

struct prepared_plan {
    uint64_t n_bytes;   /* of the whole file; 0: there is nothing that k's kernels want so */
    uint64_t check;     /* of the shapes, types and places, and of samples of the weights */
    size_t strip_bytes; /* the largest strip */
};
/* E_LIMIT for sizes that overflow. */
int prepared_plan_make(struct weights *w, const struct kern *k, struct prepared_plan *ret,
                       struct err *err) MUST_USE;

typedef void (*prepared_progress_fn)(void *ctx, uint64_t done, uint64_t total);
/* Writes all of it to fd, an empty file, in order, the header last; takes a buffer of a mebibyte,
 * or of one strip where that is more.  Not synced: who opened the file does that.  E_IO, E_NOMEM.
 */
int prepared_write(struct weights *w, const struct kern *k, const struct prepared_plan *p, int fd,
                   prepared_progress_fn fn, void *ctx, struct err *err) MUST_USE;

/* What some weights would have, and the file they have. */
struct prepared {
    struct prepared_plan plan;
    void *map; /* owned, of plan.n_bytes; NULL: none */
};
/* Maps fd (borrowed) and has w's matrices point into it.  E_FORMAT when it is not what p->plan
 * says: of another model, layout or length; E_INVALID when there is one already; E_IO.  On failure
 * p and w are as they were. */
int prepared_attach(struct prepared *p, struct weights *w, const struct kern *k, int fd,
                    struct err *err) MUST_USE;
/* w's matrices are those of the file again. */
void prepared_detach(struct prepared *p, struct weights *w);

#endif
