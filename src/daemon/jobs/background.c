/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of one thread, and a flag. */
#include "daemon/jobs/background.h"

void background_init(struct background *b, uint32_t max_waiting)
{
    b->pool = pool_new(1, max_waiting);
    atomic_init(&b->is_called_off, false);
}

void background_call_off(struct background *b)
{
    atomic_store(&b->is_called_off, true);
}

void background_end(struct background *b)
{
    background_call_off(b);
    pool_free(b->pool);
    b->pool = NULL;
}
