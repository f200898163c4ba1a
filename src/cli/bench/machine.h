/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do at most, and what one token of a model asks of it: so that a speed is
 * also a share of what is possible.  Main thread. */
#ifndef CLI_BENCH_MACHINE_H
#define CLI_BENCH_MACHINE_H

#include <jansson.h>

#include "lib/base/err.h"

/* Measured by `berth bench limits`, a process of its own. */
struct machine {
    bool is_known;
    json_t *limits;         /* its JSON, owned */
    double read_bps;        /* bytes a second from memory, all threads */
    double int8, bf16, f32; /* operations a second of the best unit for each; 0: none */
};

/* Of a dense or a mixture-of-experts model: products of matrices alone. */
struct work {
    bool is_known;
    double step_bytes;     /* weights read for one step of decoding, whatever the batch */
    double kv_bytes;       /* of cache for one position (float16) */
    double prefill_flop;   /* for one token of a prompt */
    double peak;           /* operations a second of the unit that suits its weights */
    const char *peak_name; /* "int8", "bf16" or "f32" */
};

int machine_measure(struct machine *m, struct err *err) MUST_USE;
void machine_release(struct machine *m);
/* file: what `berth debug show` prints. */
void work_of(const json_t *file, const struct machine *m, struct work *ret);

#endif
