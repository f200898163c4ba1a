/* SPDX-License-Identifier: Apache-2.0 */
/* A file that a command writes for its user: it has its name only when it is whole.  What is there
 * already and is no file, such as a device or a pipe, is written into as it is and never replaced.
 */
#ifndef CLI_ARTIFACT_OUT_FILE_H
#define CLI_ARTIFACT_OUT_FILE_H

#include "lib/base/buf.h"
#include "lib/base/err.h"

struct out_file {
    int fd;
    const char *path; /* borrowed */
    struct buf part;  /* the file's name until it is whole; empty: written in place */
};

/* 0, or E_IO or E_LIMIT, and then nothing is to be closed. */
int out_file_open(struct out_file *f, const char *path, struct err *err) MUST_USE;
/* E_IO. */
int out_file_write(struct out_file *f, const char *p, size_t n, struct err *err) MUST_USE;
/* rc: how the writing went; below 0 the file is taken back and rc returned. */
int out_file_close(struct out_file *f, int rc, struct err *err) MUST_USE;

#endif
