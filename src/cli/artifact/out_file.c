/* SPDX-License-Identifier: Apache-2.0 */
/* Implements out_file.h. */
#include "cli/artifact/out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"

int out_file_open(struct out_file *f, const char *path, struct err *err)
{
    struct stat st;
    bool in_place = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    *f = (struct out_file){.fd = -1, .path = path};
    buf_init(&f->part, LIMIT_PATH_BYTES);
    if (!in_place)
        buf_printf(&f->part, "%s.part", path);
    int rc = buf_status(&f->part, "the file's path", err);
    if (rc == 0) {
        f->fd = in_place ? open(path, O_WRONLY | O_CLOEXEC)
                         : open(buf_str(&f->part), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (f->fd < 0)
            rc = err_set_sys(err, E_IO, in_place ? "opening %s" : "making the file %s",
                             in_place ? path : buf_str(&f->part));
    }
    if (rc < 0)
        buf_release(&f->part);
    return rc;
}

int out_file_write(struct out_file *f, const char *p, size_t n, struct err *err)
{
    while (n > 0) {
        ssize_t w = write(f->fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_set_sys(err, E_IO, "writing %s", f->path);
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

int out_file_close(struct out_file *f, int rc, struct err *err)
{
    bool in_place = f->part.len == 0;
    if (rc == 0 && fsync(f->fd) < 0 && errno != EINVAL && errno != EROFS)
        rc = err_set_sys(err, E_IO, "writing %s", f->path);
    close(f->fd);
    if (rc == 0 && !in_place && rename(buf_str(&f->part), f->path) < 0)
        rc = err_set_sys(err, E_IO, "naming the file %s", f->path);
    if (rc < 0 && !in_place)
        unlink(buf_str(&f->part));
    buf_release(&f->part);
    return rc;
}
