/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of daemon/watch: what its files share. */
#ifndef DAEMON_WATCH_INTERNAL_H
#define DAEMON_WATCH_INTERNAL_H

#include <stdatomic.h>

#include "daemon/watch/metrics.h"
#include "daemon/watch/watch.h"

#define WATCH_MAX_MODELS 128u /* names in labels; further models are "other" */

/* The audit log: one line a write, appended; a line that cannot be written is counted, not kept. */
struct audit {
    pthread_mutex_t lock;
    int fd;     /* -1: there is none */
    char *path; /* owned */
    atomic_ullong n_dropped;
    bool has_told; /* the last line failed, and the log has it */
};
int audit_open(struct audit *a, const char *path, struct err *err) MUST_USE;
int audit_reopen(struct audit *a, struct err *err) MUST_USE;
void audit_close(struct audit *a);
void audit_write(struct audit *a, const struct watch_record *rec);
void audit_change(struct audit *a, const struct watch_change *c);

/* The daemon's log: a ring of its last lines, and a file or standard error.  logs.c */
struct logs {
    pthread_mutex_t ring_lock; /* guards the three below */
    char *ring;                /* owned, LOGS_RING_BYTES; byte n of the log is at n modulo that */
    uint64_t begin, end;       /* what the ring has: whole lines */
    struct log_file *file;     /* owned; NULL: standard error */
    bool has_prompts;
    pthread_mutex_t stderr_lock; /* guards the one below */
    bool is_stalled;             /* standard error did not take the last line */
    atomic_ullong n_dropped;     /* lines that standard error did not take */
};
#define LOGS_RING_BYTES (256u << 10)
int logs_open(struct logs *l, const struct watch_config *cfg, struct err *err) MUST_USE;
void logs_close(struct logs *l);
uint64_t logs_dropped(struct logs *l);

struct watch {
    struct metrics metrics;
    struct logs logs;
    int64_t started_ms; /* since 1970 */
    struct audit audit;
    pthread_mutex_t names_lock; /* guards the two below */
    char *names[WATCH_MAX_MODELS];
    size_t n_names;
};

/* The label of a model: its name when berth knows it, else "other".  Becomes known when is_known
 * says so. */
const char *watch_model_label(struct watch *w, const char *name, bool is_known);

#endif
