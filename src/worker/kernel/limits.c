/* SPDX-License-Identifier: Apache-2.0 */
/* Implements limits.h: the memory bus, and the timing of x86/peak.c and arm/peak.c.  The best of
 * many short runs counts: what others on the machine take only makes a run slower. */
#include "worker/kernel/limits.h"

#include <string.h>
#include <sys/mman.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/sys/memory.h"
#include "worker/kernel/team.h"

#define READ_BYTES  (1ull << 30) /* past any cache */
#define RUN_BYTES   (64u << 20)  /* of one timed run: a few milliseconds, seldom interrupted */
#define PIECE_BYTES (1u << 20)
#define HUGE_BYTES  (2u << 20)
#define ROUNDS      6
#define PEAK_RUNS   24
#define PEAK_MS     2.0 /* of one timed run of a unit */

static double now_s(void)
{
    return 1e-9 * (double)clock_ns();
}

typedef uint64_t lane8 __attribute__((vector_size(64)));

struct reading {
    const char *data;
    bool prefetch;
    volatile uint64_t sink; /* so that nothing read is left out */
};

/* One line a step, in four sums that do not wait for each other. */
static void read_piece(void *ctx, uint32_t piece, uint32_t thread UNUSED)
{
    struct reading *r = ctx;
    const lane8 *p = (const lane8 *)(const void *)(r->data + (size_t)piece * PIECE_BYTES);
    lane8 s[4] = {{0}};
    for (size_t i = 0; i < PIECE_BYTES / sizeof(*p); i += 4) {
        if (r->prefetch) { /* past the end it does nothing */
            for (size_t j = 0; j < 4; j++)
                __builtin_prefetch(p + i + 32 + j);
        }
        for (size_t j = 0; j < 4; j++)
            s[j] += p[i + j];
    }
    s[0] += s[1] + s[2] + s[3];
    uint64_t sum = 0;
    for (int j = 0; j < 8; j++)
        sum += s[0][j];
    if (sum == 1)
        r->sink = sum;
}

/* Run by run through all of it, so that nothing read is still in a cache. */
static double read_bps(struct team *t, const char *data, uint64_t n_bytes)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint64_t from = 0; from < n_bytes; from += RUN_BYTES) {
            struct reading r = {.data = data + from, .prefetch = round % 2};
            double begun = now_s();
            team_run(t, RUN_BYTES / PIECE_BYTES, read_piece, &r);
            best = MIN_OF(best, now_s() - begun);
        }
    }
    return RUN_BYTES / best;
}

struct peaking {
    const struct limits_peak *peak;
    uint32_t rounds;
    double ops[64]; /* by piece: of one thread */
};

static void peak_piece(void *ctx, uint32_t piece, uint32_t thread UNUSED)
{
    struct peaking *p = ctx;
    p->ops[piece % ARRAY_LEN(p->ops)] = p->peak->run(p->rounds);
}

/* Rounds are doubled until a run is long enough to be timed. */
static double peak_ops(struct team *t, const struct limits_peak *peak)
{
    struct peaking p = {.peak = peak, .rounds = 1024};
    double best = 0, took = 0;
    for (int round = 0; round < PEAK_RUNS;) {
        double begun = now_s();
        team_run(t, team_size(t), peak_piece, &p);
        took = now_s() - begun;
        if (took * 1e3 < PEAK_MS && p.rounds < 1u << 30) {
            p.rounds *= 2;
            continue;
        }
        best = MAX_OF(best, p.ops[0] * team_size(t) / took);
        round++;
    }
    return best;
}

static int measure_bus(struct limits *l, struct team *all, struct team *one, struct err *err)
{
    uint64_t n = READ_BYTES, most = memory_limit_bytes() / 4;
    while (n > most && n > 2 * RUN_BYTES)
        n /= 2;
    char *data = mem_try_aligned(n, err);
    if (!data)
        return -err->code;
    /* Large pages: the bus is what counts here, not the walk through page tables. */
    uintptr_t from = ((uintptr_t)data + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    madvise((void *)from, (uintptr_t)data + n - from, MADV_HUGEPAGE);
    memset(data, 1, n); /* pages that are there */
    l->read_bytes = n;
    l->read_bps = read_bps(all, data, n);
    l->read_bps_one = read_bps(one, data, n / 2);
    mem_free(data);
    return 0;
}

int limits_measure(uint32_t n_threads, struct limits *ret, struct err *err)
{
    struct team *all = NULL, *one = NULL;
    *ret = (struct limits){.n_threads = n_threads};
    int rc = team_new(n_threads, &all, err);
    if (rc == 0)
        rc = team_new(1, &one, err);
    if (rc == 0)
        rc = measure_bus(ret, all, one, err);
    if (rc == 0) {
        ret->n_peaks = limits_peaks(ret->peaks);
        for (unsigned i = 0; i < ret->n_peaks; i++)
            ret->peaks[i].ops_per_second = peak_ops(all, &ret->peaks[i]);
    }
    team_free(one);
    team_free(all);
    return rc;
}

#if !defined(__x86_64__) && !defined(__aarch64__)
unsigned limits_peaks(struct limits_peak *ret UNUSED)
{
    return 0;
}
#endif
