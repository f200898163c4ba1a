/* SPDX-License-Identifier: Apache-2.0 */
/* A log file that is bounded: at a size it is renamed to FILE.1 (FILE.1 to FILE.2, …) and begun
 * anew.
 *
 * Never blocks on anything but the disk and never fails its caller: a line that cannot be written
 * is dropped whole and counted, and the first one told to `on_trouble`.  Any thread. */
#ifndef LIB_SYS_LOG_FILE_H
#define LIB_SYS_LOG_FILE_H

#include "lib/base/err.h"

struct log_file;

struct log_file_config {
    const char *path;   /* copied */
    uint64_t max_bytes; /* of one file */
    uint32_t n_files;   /* the current one included; at least 1 */
    bool is_private;    /* mode 0600, also of a file that is there; else 0640 less the umask */
    /* Lines are being lost since now; on the thread that logs, with no lock held.  It comes again
     * only when lines were written in between and a minute has passed. */
    void (*on_trouble)(void *ctx, const struct err *why);
    void *ctx;
};

/* E_IO when it cannot be opened, E_INVALID for what is neither a regular file nor a character
 * device; the latter is never renamed. */
int log_file_open(const struct log_file_config *cfg, struct log_file **ret,
                  struct err *err) MUST_USE;
void log_file_close(struct log_file *f); /* NULL is fine */
/* line: whole, its end included; longer than max_bytes: dropped. */
void log_file_write(struct log_file *f, const char *line, size_t len);
/* Opens path anew: somebody has moved the file away.  The old one stays in use on failure. */
int log_file_reopen(struct log_file *f, struct err *err) MUST_USE;
uint64_t log_file_dropped(struct log_file *f); /* lines, ever */

#endif
