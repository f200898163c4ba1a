/* SPDX-License-Identifier: Apache-2.0 */
/* The compute threads of one worker.  Work comes in numbered pieces; which thread takes which piece
 * is left to chance, so a piece's result must depend on its number alone.  One caller at a time. */
#ifndef WORKER_KERNEL_TEAM_H
#define WORKER_KERNEL_TEAM_H

#include "lib/base/err.h"

struct team;

/* n_threads >= 1 counts the calling thread: team of 1 runs everything in team_run's caller. */
int team_new(uint32_t n_threads, struct team **ret_team, struct err *err) MUST_USE;
void team_free(struct team *t); /* NULL is fine; waits for the threads to end */
uint32_t team_size(const struct team *t);

/* Calls fn(ctx, piece, thread) once for every piece < n_pieces, thread < team_size, and returns
 * when all have returned.  Waiting threads spin briefly, then sleep. */
typedef void (*team_fn)(void *ctx, uint32_t piece, uint32_t thread);
void team_run(struct team *t, uint32_t n_pieces, team_fn fn, void *ctx);

#endif
