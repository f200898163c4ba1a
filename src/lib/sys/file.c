/* SPDX-License-Identifier: Apache-2.0 */
/* Implements file.h. */
#include "lib/sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define READ_BYTES 65536u

/* To the end of fd, or of what *out may hold; one byte more than that is the failed append. */
static int read_to_end(int fd, struct buf *out)
{
    for (;;) {
        size_t room = MIN_OF((size_t)READ_BYTES, out->max - out->len);
        char over;
        if (buf_reserve(out, room) < 0)
            return 0;
        ssize_t n = read(fd, room ? out->data + out->len : &over, room ? room : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        if (room == 0)
            return buf_append_char(out, over) < 0 ? 0 : -1;
        out->len += (size_t)n;
        out->data[out->len] = '\0';
    }
}

/* What fd holds; errors speak of name. */
static int read_fd(int fd, const char *name, struct buf *out, struct err *err)
{
    if (read_to_end(fd, out) < 0)
        return err_set_sys(err, E_IO, "reading %.300s", name);
    return buf_status(out, name, err);
}

static int open_to_read(const char *path, int flags, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | flags);
    if (fd < 0)
        err_set_sys(err, errno == ENOENT || errno == ENOTDIR ? E_NOTFOUND : E_IO, "opening %.300s",
                    path);
    return fd;
}

int file_read_all(const char *path, size_t max_bytes, struct buf *out, struct err *err)
{
    buf_init(out, max_bytes);
    if (strcmp(path, "-") == 0)
        return read_fd(STDIN_FILENO, "standard input", out, err);
    int fd = open_to_read(path, 0, err);
    if (fd < 0)
        return -err->code;
    int rc = read_fd(fd, path, out, err);
    close(fd);
    return rc;
}

int file_read_regular(const char *path, size_t max_bytes, struct buf *out, struct err *err)
{
    struct stat st;
    buf_init(out, max_bytes);
    int fd = open_to_read(path, O_NONBLOCK, err);
    if (fd < 0)
        return -err->code;
    int rc = fstat(fd, &st) == 0 && S_ISREG(st.st_mode)
                 ? read_fd(fd, path, out, err)
                 : err_set(err, E_IO, "%.300s is not a regular file", path);
    close(fd);
    return rc;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        p += done;
        n -= (size_t)done;
    }
    return fsync(fd);
}

/* A rename lasts once the folder is on the disk too. */
static void dir_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? mem_dup(path, (size_t)(slash - path) + 1) : mem_dup(".", 1);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* some file systems refuse it for a folder, and need it not */
        close(fd);
    }
    mem_free(dir);
}

int file_write_whole(const char *path, const void *p, size_t n, struct err *err)
{
    char temp[LIMIT_PATH_BYTES + 16];
    int len = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (len < 0 || (size_t)len >= sizeof(temp))
        return err_set(err, E_IO, "path of %zu bytes is too long", strlen(path));
    int fd = mkostemp(temp, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return err_set_sys(err, E_IO, "cannot write %s", path);
    bool ok = write_all(fd, p, n) == 0;
    int code = errno;
    close(fd);
    if (ok && rename(temp, path) == 0) {
        dir_sync(path);
        return 0;
    }
    errno = ok ? errno : code;
    err_set_sys(err, E_IO, "cannot write %s", path);
    unlink(temp);
    return -E_IO;
}

int file_make_dirs(const char *path, struct err *err)
{
    char *copy = mem_dup(path, strlen(path));
    int rc = 0;
    for (char *at = copy + 1; rc == 0; at++) {
        char c = *at;
        if (c != '/' && c != '\0')
            continue;
        *at = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            rc = err_set_sys(err, E_IO, "cannot create the folder %s", copy);
        *at = c;
        if (c == '\0')
            break;
    }
    mem_free(copy);
    return rc;
}
