/* SPDX-License-Identifier: Apache-2.0 */
/* What the short roles of a worker have in common: one frame in, with descriptors, and frames out.
 * One thread. */
#ifndef WORKER_SERVE_ASKED_H
#define WORKER_SERVE_ASKED_H

#include "lib/base/limits.h"
#include "lib/ipc/frame.h"
#include "worker/model/facts.h"

/* The question. */
struct asked {
    int fds[LIMIT_MSG_FDS]; /* as they came; the process's end closes them */
    uint32_t n_fds;
    struct facts_file files[LIMIT_MSG_FDS]; /* [n_files], names in the arena */
    uint32_t n_files;
    struct arena arena;
    struct frame_reader in;
    struct frame frame;
};
void asked_init(struct asked *q);
void asked_release(struct asked *q);
/* Waits for it.  E_GONE when nobody asks; E_FORMAT. */
int asked_read(struct asked *q, int fd, struct err *err) MUST_USE;
/* u32 count, str names, one for each of the first descriptors, of which n_more come behind: fills
 * in files. */
int asked_files(struct asked *q, struct cursor *c, uint32_t n_more, struct err *err) MUST_USE;

/* One frame, whole. */
int answer_send(int fd, enum msg_type type, const struct buf *payload, struct err *err) MUST_USE;
/* LOAD_FAILED with why. */
int answer_refuse(int fd, const struct err *why, struct err *err) MUST_USE;

#endif
