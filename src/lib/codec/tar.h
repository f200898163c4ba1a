/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives, streamed both ways: POSIX ustar with pax extensions (IEEE Std 1003.1, pax,
 * "ustar Interchange Format"), and GNU's long names and binary sizes when reading.  No I/O of its
 * own: bytes are pushed through, and memory is bounded whatever they are.
 *
 * Only regular files and folders are taken.  Links, devices, pipes and sparse files are refused by
 * name, and so is every path that is not inside (relpath.h).  Owners, modes and times are passed
 * over.  One thread at a time. */
#ifndef LIB_CODEC_TAR_H
#define LIB_CODEC_TAR_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define TAR_BLOCK      512u
#define TAR_PATH_BYTES 1024u

struct tar_entry {
    char path[TAR_PATH_BYTES + 1]; /* plain: no "./" before, no "/" behind */
    uint64_t size;
    bool is_dir;
};

/* What is called for each entry: begin, data as often as it takes, end.  Any failure stops it all
 * and is passed on. */
struct tar_sink {
    void *ctx;
    int (*begin)(void *ctx, const struct tar_entry *e, struct err *err);
    int (*data)(void *ctx, const void *p, size_t n, struct err *err);
    int (*end)(void *ctx, struct err *err);
};

struct tar_limits {
    uint64_t max_bytes;   /* of all files together */
    uint64_t max_entries; /* files, folders and headers of headers */
};

struct tar_reader;

struct tar_reader *tar_reader_new(const struct tar_sink *sink, const struct tar_limits *limits);
void tar_reader_free(struct tar_reader *r); /* NULL is fine */
/* Once it has failed it may only be freed.  E_FORMAT with the entry's number and path, E_LIMIT,
 * E_UNSUPPORTED, or what the sink said. */
int tar_reader_feed(struct tar_reader *r, const void *p, size_t n, struct err *err) MUST_USE;
/* No more bytes: E_FORMAT when the archive is cut short.  The two blocks of zeros that end an
 * archive may be missing, as some writers leave them away, when it stops between two entries. */
int tar_reader_finish(struct tar_reader *r, struct err *err) MUST_USE;

/* Appends what comes before a file's size bytes: one header, or three blocks more for a path or
 * size that ustar cannot hold.  Mode 0644, no owner, time 0: the same entry is always the same
 * bytes.  E_INVALID for a path that relpath.h refuses. */
int tar_put_file(struct buf *out, const char *path, uint64_t size, struct err *err) MUST_USE;
int tar_put_dir(struct buf *out, const char *path, struct err *err) MUST_USE;
/* What comes after the size bytes of a file. */
void tar_put_padding(struct buf *out, uint64_t size);
void tar_put_end(struct buf *out);

#endif
