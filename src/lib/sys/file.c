/* SPDX-License-Identifier: Apache-2.0 */
/* Implements file.h. */
#include "lib/sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

int file_read_all(const char *path, size_t max_bytes, struct buf *out, struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    buf_init(out, max_bytes);
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_set_sys(err, errno == ENOENT || errno == ENOTDIR ? E_NOTFOUND : E_IO,
                           "opening %.300s", name);
    int rc = read_to_end(fd, out);
    if (rc < 0)
        rc = err_set_sys(err, E_IO, "reading %.300s", name);
    if (!is_stdin)
        close(fd);
    return rc < 0 ? rc : buf_status(out, name, err);
}
