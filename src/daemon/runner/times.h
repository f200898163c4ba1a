/* SPDX-License-Identifier: Apache-2.0 */
/* How long the runner waits for what.  Constants, but for tests, which have no minutes to spend. */
#ifndef DAEMON_RUNNER_TIMES_H
#define DAEMON_RUNNER_TIMES_H

#include <stdint.h>

struct runner;

struct runner_times {
    uint64_t backoff_ms, backoff_max_ms; /* before the second restart in a row, doubling up to */
    uint64_t window_ms;                  /* so many crashes as CRASHES_TO_BREAK within it break */
    uint64_t open_ms, open_max_ms;       /* how long a broken model is refused, doubling up to */
    uint64_t load_grace_ms;              /* a model that was loaded and not asked stays so long */
};
#define RUNNER_TIMES_DEFAULT                                                                       \
    {                                                                                              \
        1000, 30000, 60000, 30000, 600000, 10000                                                   \
    }

/* Before the first request. */
void runner_set_times(struct runner *r, const struct runner_times *t);

#endif
