/* SPDX-License-Identifier: Apache-2.0 */
/* Small files, whole.  Model files are model_files.h's.  Any thread. */
#ifndef LIB_SYS_FILE_H
#define LIB_SYS_FILE_H

#include "lib/base/buf.h"

/* The whole of a file, or of standard input for "-", into *out, which is initialised here in any
 * case with the maximum max_bytes and is the caller's to release.  E_NOTFOUND, E_IO, E_LIMIT,
 * E_NOMEM, each naming the path. */
int file_read_all(const char *path, size_t max_bytes, struct buf *out, struct err *err) MUST_USE;
/* The same of a file that nobody gives as a pipe or device: one that stands in its place, which
 * could keep us waiting for ever, is E_IO. */
int file_read_regular(const char *path, size_t max_bytes, struct buf *out,
                      struct err *err) MUST_USE;

/* Replaces path by a file of these bytes, open to its owner alone: a temporary file beside it,
 * fsync, rename, fsync of the folder, so that at any time one whole version is there.  E_IO naming
 * the path. */
int file_write_whole(const char *path, const void *p, size_t n, struct err *err) MUST_USE;
/* The folder and those above it that are missing, mode 0700. */
int file_make_dirs(const char *path, struct err *err) MUST_USE;

#endif
