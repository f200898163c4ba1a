/* SPDX-License-Identifier: Apache-2.0 */
/* One line of a terminal that tells how a level goes, on standard error: redrawn while it runs,
 * erased at its end.  Nothing where standard error is no terminal.  Main thread. */
#ifndef CLI_BENCH_LIVE_H
#define CLI_BENCH_LIVE_H

#include "cli/bench/load.h"

enum { LIVE_HISTORY = 24 };

struct live {
    bool is_on;
    const char *name; /* of the server; NULL: there is but one */
    uint32_t concurrency, n_prompts;
    uint64_t duration_s;
    uint64_t seen; /* pieces at the last look */
    double seen_ms;
    double rates[LIVE_HISTORY]; /* pieces a second, the latest last */
    unsigned n_rates;
};

void live_begin(struct live *l, bool is_wanted, const char *name, const struct load *load);
/* load.on_tick; ctx: the struct live. */
void live_tick(void *ctx, const struct load_progress *p);
void live_end(struct live *l);

#endif
