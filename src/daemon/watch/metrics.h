/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: counters and histograms that live here, and a sheet on which a scrape puts them together
 * with what others tell, to be written in Prometheus's text format 0.0.4.
 *
 * Shared by daemon/watch only.  A `struct metrics` may be used by any thread: one short lock, taken
 * a few times a request and never per token; a scrape copies under it and writes without it, so
 * that a histogram's sum and buckets always belong together.  A sheet belongs to one thread. */
#ifndef DAEMON_WATCH_METRICS_H
#define DAEMON_WATCH_METRICS_H

#include <pthread.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/map.h"

enum metric_id {
#define METRIC(id, name, set, type, labels, buckets, help) METRIC_##id,
#include "daemon/watch/metrics.def"
#undef METRIC
    METRIC_N
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum metric_set { METRIC_OWN, METRIC_VLLM };

#define METRIC_MAX_LABELS  5
#define METRIC_MAX_BUCKETS 16
#define METRIC_MAX_SERIES  4096u /* further ones are counted as "other" in every label */
#define METRIC_VALUE_BYTES 512u  /* a longer label's value loses its end */

struct metric_hist {
    uint64_t counts[METRIC_MAX_BUCKETS]; /* of each bucket alone */
    uint64_t n;                          /* of all, those beyond the last bound included */
    double sum;
};

struct metric_series {
    enum metric_id id;
    char *key;     /* owned: the id's byte pair, then the labels' values, each with its NUL */
    int64_t value; /* COUNTER, GAUGE */
    struct metric_hist *hist; /* owned; HISTOGRAM */
};

struct metrics {
    pthread_mutex_t lock; /* guards everything below */
    struct map map;       /* key to index */
    struct metric_series *series;
    size_t n, cap;
};

void metrics_init(struct metrics *m);
void metrics_release(struct metrics *m);
/* labels: as many values as the row has labels, in its order; NULL for none. */
void metrics_add(struct metrics *m, enum metric_id id, const char *const *labels, int64_t delta);
/* Of a histogram, in the unit of its name. */
void metrics_observe(struct metrics *m, enum metric_id id, const char *const *labels, double value);

struct metric_sample {
    struct metric_sample *next;
    const char *labels[METRIC_MAX_LABELS];
    double value;
    const struct metric_hist *hist;
};
struct metric_sheet {
    struct arena arena;
    struct metric_sample *first[METRIC_N], **last[METRIC_N];
    struct err err; /* of the first failure; metric_sheet_write returns it */
};
void metric_sheet_init(struct metric_sheet *s);
void metric_sheet_release(struct metric_sheet *s);
/* One sample; labels are copied. */
void metric_sheet_put(struct metric_sheet *s, enum metric_id id, const char *const *labels,
                      double value);
/* Everything that m counts; as other rows too, which have the same labels. */
void metric_sheet_collect(struct metric_sheet *s, struct metrics *m);
/* The samples of from, again under to. */
void metric_sheet_alias(struct metric_sheet *s, enum metric_id from, enum metric_id to);
/* Every row of the sets up to `set`; one without labels and samples is 0. */
int metric_sheet_write(struct metric_sheet *s, enum metric_set set, struct buf *out,
                       struct err *err) MUST_USE;

#endif
