/* SPDX-License-Identifier: Apache-2.0 */
/* Long work of one kind, one piece after the other on a thread of its own, that ends unfinished
 * when it is called off. */
#ifndef DAEMON_JOBS_BACKGROUND_H
#define DAEMON_JOBS_BACKGROUND_H

#include <stdatomic.h>

#include "daemon/jobs/pool.h"

struct background {
    struct pool *pool;         /* owned; what runs in it looks at is_called_off */
    atomic_bool is_called_off; /* any thread */
};

void background_init(struct background *b, uint32_t max_waiting);
/* Any thread: what runs ends soon, unfinished. */
void background_call_off(struct background *b);
/* The same, and waits for that; what it posts to a loop is on its way then.  Twice is fine. */
void background_end(struct background *b);

#endif
