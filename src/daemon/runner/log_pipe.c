/* SPDX-License-Identifier: Apache-2.0 */
/* The log pipe of a worker: its lines become lines of the daemon's log, cleaned, bounded and named.
 * See internal.h. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "daemon/runner/internal.h"
#include "lib/base/log.h"

#define LINES_PER_PERIOD 200u
#define PERIOD_MS        10000u
#define STAMP_BYTES      25u /* 2026-01-31T12:00:00.000Z and a space */

/* A line in our own log's form says its level; anything else (a bug's last words, a sanitizer) is a
 * warning. */
static const char *line_level(const char *line, enum log_level *ret)
{
    char name[8];
    *ret = LOG_LEVEL_WARN;
    if (strlen(line) <= STAMP_BYTES || line[STAMP_BYTES - 2] != 'Z')
        return line;
    const char *level = line + STAMP_BYTES;
    size_t n = strcspn(level, " ");
    const char *text = strstr(level, ": ");
    if (n == 0 || n >= sizeof(name) || !text)
        return line;
    memcpy(name, level, n);
    name[n] = '\0';
    return log_level_parse(name, ret) < 0 ? line : text + 2;
}

static void line_end(struct log_pipe *p)
{
    uint64_t now = loop_now_ms();
    if (now - p->period_ms > PERIOD_MS) {
        if (p->n_lines > LINES_PER_PERIOD)
            log_warn("worker %d (%s): %u more lines left out", p->pid, p->model_name,
                     p->n_lines - LINES_PER_PERIOD);
        p->period_ms = now;
        p->n_lines = 0;
    }
    p->line[p->len] = '\0';
    p->len = 0;
    if (p->line[0] == '\0' || ++p->n_lines > LINES_PER_PERIOD)
        return;
    enum log_level level;
    const char *text = line_level(p->line, &level);
    struct err clean; /* for its cleaning of control characters and broken UTF-8 */
    err_set(&clean, E_INTERNAL, "%s", text);
    log_write(level, "worker %d (%s): %s", p->pid, p->model_name, clean.msg);
}

static void take_bytes(struct log_pipe *p, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            line_end(p);
        else if (s[i] != '\0' && p->len < sizeof(p->line) - 1)
            p->line[p->len++] = s[i]; /* a longer line loses its rest */
    }
}

/* One read a turn, so that a worker that writes for ever starves nobody; true while there may be
 * more. */
static bool read_some(struct log_pipe *p)
{
    char bytes[4096];
    ssize_t n = read(p->fd, bytes, sizeof(bytes));
    if (n > 0)
        take_bytes(p, bytes, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void on_readable(void *ctx, uint32_t events)
{
    struct log_pipe *p = ctx;
    if (!read_some(p) && (events & EPOLLHUP)) {
        loop_del_fd(p->watch);
        p->watch = NULL;
    }
}

int log_pipe_open(struct log_pipe *p, struct loop *l, int fd, const char *model_name,
                  struct err *err)
{
    p->fd = fd;
    p->model_name = model_name;
    p->period_ms = loop_now_ms();
    return loop_add_fd(l, fd, EPOLLIN, on_readable, p, &p->watch, err);
}

void log_pipe_drain(struct log_pipe *p)
{
    /* A pipe holds 64 KiB: what was written before the end fits in so many reads. */
    for (int i = 0; i < 16 && read_some(p); i++)
        ;
    if (p->len)
        line_end(p);
}

void log_pipe_close(struct log_pipe *p)
{
    if (p->fd < 0)
        return;
    loop_del_fd(p->watch);
    close(p->fd);
    p->fd = -1;
    p->watch = NULL;
}
