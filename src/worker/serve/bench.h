/* SPDX-License-Identifier: Apache-2.0 */
/* `berth bench limits` and `berth bench kernels`: what the machine can do, and what the engine's
 * kernels make of it, on all compute threads.  Run in the calling process like `berth debug`, but
 * for the sandbox: no file is read.  Results go to standard output.  Main thread. */
#ifndef WORKER_SERVE_BENCH_H
#define WORKER_SERVE_BENCH_H

#include "lib/base/err.h"

struct bench_request { /* borrows everything */
    uint32_t n_threads;
    const char *cpu_level; /* NULL: the best there is */
    const char *type;      /* kernels: of weights, "Q4_K"; NULL: all */
    bool as_json;
};

/* Each a few seconds.  E_NOMEM, E_INVALID (level or type), E_IO. */
int bench_limits(const struct bench_request *r, struct err *err) MUST_USE;
int bench_kernels(const struct bench_request *r, struct err *err) MUST_USE;

#endif
