/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do at most, measured: bytes read from memory a second, and operations a
 * second of every unit that multiplies.  No kernel can be faster; `berth bench` states speeds as
 * shares of these.  Any thread, a few seconds. */
#ifndef WORKER_KERNEL_LIMITS_H
#define WORKER_KERNEL_LIMITS_H

#include "lib/base/err.h"

enum { LIMITS_MAX_PEAKS = 12 };

/* One unit: n independent chains of its instruction, no memory touched.  An operation is a
 * multiplication or an addition. */
struct limits_peak {
    const char *name; /* "AVX-512 VNNI" */
    const char *type; /* of the factors: "f32", "bf16", "int8" */
    /* Runs `rounds` rounds; returns the operations done. */
    double (*run)(uint32_t rounds);
    double ops_per_second; /* of all threads */
};

struct limits {
    uint32_t n_threads;
    double read_bps, read_bps_one; /* bytes a second: all threads, one thread */
    uint64_t read_bytes;           /* how much memory was read through */
    unsigned n_peaks;
    struct limits_peak peaks[LIMITS_MAX_PEAKS];
};

/* n_threads: as many as a worker would have.  E_NOMEM. */
int limits_measure(uint32_t n_threads, struct limits *ret, struct err *err) MUST_USE;

/* Per architecture (x86/peak.c, arm/peak.c): the units that this machine has, at most
 * LIMITS_MAX_PEAKS; how many. */
unsigned limits_peaks(struct limits_peak *ret);

#endif
