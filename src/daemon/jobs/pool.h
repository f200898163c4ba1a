/* SPDX-License-Identifier: Apache-2.0 */
/* A few threads for work that blocks: transfers, disks.  Bounded in threads and in what waits for
 * one; the threads are made when there is something to do.  Any thread may call. */
#ifndef DAEMON_JOBS_POOL_H
#define DAEMON_JOBS_POOL_H

#include "lib/base/err.h"

struct pool;

struct pool *pool_new(uint32_t max_threads, uint32_t max_waiting) MUST_USE;
/* Runs what still waits, waits for all of it, frees.  NULL is fine. */
void pool_free(struct pool *p);
/* Runs fn(ctx) on a thread soon, in order of the calls.  E_BUSY: too much waits; fn is then not
 * called. */
int pool_run(struct pool *p, void (*fn)(void *ctx), void *ctx, struct err *err) MUST_USE;
/* What runs and what waits. */
void pool_count(struct pool *p, uint32_t *ret_running, uint32_t *ret_waiting);

#endif
