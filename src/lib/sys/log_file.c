/* SPDX-License-Identifier: Apache-2.0 */
/* Implements log_file.h.
 *
 * What is in the way (no room, no right to rename) is tried again with every line, but the costly
 * part, renaming and opening, at most once in RETRY_MS: logging may be on the path of a request. */
#include "lib/sys/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define RETRY_MS 1000
#define TELL_MS  60000

struct log_file {
    struct log_file_config cfg; /* path owned */
    pthread_mutex_t lock;       /* guards everything below */
    int fd;                     /* -1: could not be opened after a rename */
    bool is_regular;
    uint64_t size;
    uint64_t n_dropped;
    uint64_t retry_ms; /* not before */
    uint64_t look_ms;  /* when it is looked again whether the file still has a name */
    bool is_losing;    /* the last line was dropped */
    uint64_t told_ms;  /* 0: never */
};

static uint64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

/* The descriptor, or negative; nothing of f changes then. */
static int open_locked(struct log_file *f, struct err *err)
{
    const char *path = f->cfg.path;
    struct stat st;
    /* O_NONBLOCK: a pipe that nobody reads must be refused below, not waited for. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                  f->cfg.is_private ? 0600 : 0640);
    if (fd < 0)
        return err_set_sys(err, E_IO, "opening the log file %.300s", path);
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode))) {
        close(fd);
        return err_set(err, E_INVALID, "the log file %.300s is not a regular file", path);
    }
    if (f->cfg.is_private && S_ISREG(st.st_mode) && (st.st_mode & 077) && fchmod(fd, 0600) < 0) {
        int rc = err_set_sys(err, E_IO, "making the log file %.300s private (mode 0600)", path);
        close(fd);
        return rc;
    }
    f->is_regular = S_ISREG(st.st_mode);
    f->size = f->is_regular ? (uint64_t)st.st_size : 0;
    return fd;
}

int log_file_open(const struct log_file_config *cfg, struct log_file **ret, struct err *err)
{
    struct log_file *f = mem_alloc(sizeof(*f));
    f->cfg = *cfg;
    f->cfg.path = mem_dup(cfg->path, strlen(cfg->path));
    pthread_mutex_init(&f->lock, NULL);
    f->fd = open_locked(f, err);
    if (f->fd < 0) {
        int rc = f->fd;
        log_file_close(f);
        return rc;
    }
    *ret = f;
    return 0;
}

void log_file_close(struct log_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    pthread_mutex_destroy(&f->lock);
    mem_free((char *)f->cfg.path);
    mem_free(f);
}

int log_file_reopen(struct log_file *f, struct err *err)
{
    pthread_mutex_lock(&f->lock);
    int fd = open_locked(f, err);
    if (fd >= 0) {
        if (f->fd >= 0)
            close(f->fd);
        f->fd = fd;
        f->retry_ms = 0;
    }
    pthread_mutex_unlock(&f->lock);
    return MIN_OF(fd, 0);
}

/* Moves FILE.k to FILE.k+1; 0: FILE itself.  What is not there needs no moving. */
static int shift(const struct log_file *f, uint32_t k, struct err *err)
{
    char from[LIMIT_PATH_BYTES + 16], to[LIMIT_PATH_BYTES + 16];
    snprintf(to, sizeof(to), "%s.%u", f->cfg.path, k + 1);
    if (k)
        snprintf(from, sizeof(from), "%s.%u", f->cfg.path, k);
    else
        snprintf(from, sizeof(from), "%s", f->cfg.path);
    if (rename(from, to) < 0 && errno != ENOENT)
        return err_set_sys(err, E_IO, "renaming the log file %.300s", from);
    return 0;
}

/* Every step is one rename, which happens or does not: killed in between, a number is missing and
 * no line is. */
static int rotate_locked(struct log_file *f, struct err *err)
{
    int rc = 0;
    for (uint32_t k = f->cfg.n_files - 1; rc == 0 && k-- > 0;)
        rc = shift(f, k, err);
    if (rc == 0 && f->cfg.n_files == 1 && unlink(f->cfg.path) < 0 && errno != ENOENT)
        rc = err_set_sys(err, E_IO, "removing the full log file %.300s", f->cfg.path);
    if (rc < 0)
        return rc;
    close(f->fd);
    f->fd = -1;
    f->fd = open_locked(f, err);
    return MIN_OF(f->fd, 0);
}

/* A file that somebody removed would swallow lines until it is full. */
static void look_locked(struct log_file *f, uint64_t now)
{
    struct stat st;
    if (f->fd < 0 || now < f->look_ms)
        return;
    f->look_ms = now + RETRY_MS;
    if (f->is_regular && fstat(f->fd, &st) == 0 && st.st_nlink == 0) {
        close(f->fd);
        f->fd = -1;
        f->retry_ms = 0;
    }
}

/* An open file with room for len more bytes. */
static int make_room_locked(struct log_file *f, size_t len, struct err *err)
{
    uint64_t now = now_ms();
    look_locked(f, now);
    bool is_full = f->is_regular && f->size && f->size + len > f->cfg.max_bytes;
    if (f->fd >= 0 && !is_full)
        return 0;
    if (now < f->retry_ms)
        return err_set(err, E_BUSY, "the log file is not tried again yet");
    f->retry_ms = now + RETRY_MS;
    if (f->fd < 0)
        f->fd = open_locked(f, err);
    else if (rotate_locked(f, err) < 0)
        return -err->code;
    if (f->fd < 0)
        return f->fd;
    f->retry_ms = 0;
    return 0;
}

static int write_locked(struct log_file *f, const char *line, size_t len, struct err *err)
{
    if (len > f->cfg.max_bytes)
        return err_set(err, E_LIMIT, "a log line is longer than a log file may be");
    int rc = make_room_locked(f, len, err);
    if (rc < 0)
        return rc;
    ssize_t n = write(f->fd, line, len);
    if (n == (ssize_t)len) {
        f->size += len;
        return 0;
    }
    if (n >= 0)
        errno = ENOSPC;
    rc = err_set_sys(err, E_IO, "writing the log file %.300s", f->cfg.path);
    /* A part of a line is taken back; when even that fails the next line follows it. */
    if (n > 0 && f->is_regular && ftruncate(f->fd, (off_t)f->size) < 0)
        f->size += (uint64_t)n;
    return rc;
}

void log_file_write(struct log_file *f, const char *line, size_t len)
{
    struct err err = ERR_INIT;
    bool tell = false;
    pthread_mutex_lock(&f->lock);
    int rc = write_locked(f, line, len, &err);
    if (rc < 0) {
        uint64_t now = now_ms();
        f->n_dropped++;
        tell = !f->is_losing && (!f->told_ms || now - f->told_ms > TELL_MS);
        if (tell)
            f->told_ms = now;
    }
    f->is_losing = rc < 0;
    pthread_mutex_unlock(&f->lock);
    if (tell && f->cfg.on_trouble)
        f->cfg.on_trouble(f->cfg.ctx, &err);
}

uint64_t log_file_dropped(struct log_file *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t n = f->n_dropped;
    pthread_mutex_unlock(&f->lock);
    return n;
}
