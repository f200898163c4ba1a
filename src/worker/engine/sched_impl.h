/* SPDX-License-Identifier: Apache-2.0 */
/* Between sched.c and request.c.  For those two files only. */
#ifndef WORKER_ENGINE_SCHED_IMPL_H
#define WORKER_ENGINE_SCHED_IMPL_H

#include "worker/engine/sched.h"

void seq_list_insert(struct seq_list *l, struct seq *q);
void seq_list_remove(struct seq_list *l, struct seq *q);
/* Gives slot and blocks back and leaves the running list; the state is the caller's to set. */
void seq_stop_running(struct sched *s, struct seq *q);
void request_free(struct request *r);

#endif
