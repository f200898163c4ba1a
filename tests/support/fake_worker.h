/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that misbehaves as its model's name says, played by the test program itself, started
 * again as `berth worker NAME ...`; and a client of the runner that waits for what comes. */
#ifndef TESTS_SUPPORT_FAKE_WORKER_H
#define TESTS_SUPPORT_FAKE_WORKER_H

#include <pthread.h>
#include <sys/types.h>

#include "lib/ipc/gen.h"

/* The worker's main; does not return while its daemon lives. */
int fake_worker(const char *name);
/* The file whose being there heals "moody", for workers of this daemon. */
void fake_heal_path(pid_t daemon, char ret[64]);

struct caller {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[256];
    bool has_started, is_over;
    enum gen_event_type last;
    enum gen_finish finish;
    struct err err;
    uint32_t n_progress;
    char digest[80], fingerprint[64]; /* of STARTED */
};

void caller_init(struct caller *c);
void caller_on_event(void *client, const struct gen_event *e); /* a runner_event_fn */
/* Fails the test after 20 seconds. */
void caller_wait(struct caller *c, const bool *flag);

#endif
