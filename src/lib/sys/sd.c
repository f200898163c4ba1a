/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sd.h after the manual pages it names. */
#include "lib/sys/sd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/sys/config.h"

#define FIRST_FD 3

/* A number of the environment, 0 when it is none. */
static uint64_t env_number(const char *name)
{
    struct err err = ERR_INIT;
    uint64_t n = 0;
    const char *text = getenv(name);
    if (!text || config_parse_number(text, 0, UINT64_MAX, &n, &err) < 0)
        return 0;
    return n;
}

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t size = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

/* LISTEN_FDS descriptors from 3 on, if they are meant for this very process. */
static int listen_fds(struct sd *ret, struct err *err)
{
    uint64_t n = env_number("LISTEN_FDS");
    if (n == 0 || env_number("LISTEN_PID") != (uint64_t)getpid())
        return 0;
    if (n > SD_LISTEN_MAX)
        return err_set(err, E_LIMIT, "the service manager passes %llu sockets, more than %u",
                       (unsigned long long)n, SD_LISTEN_MAX);
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
        if (option_of(fd, SO_ACCEPTCONN) != 1 || option_of(fd, SO_TYPE) != SOCK_STREAM)
            return err_set(
                err, E_INVALID,
                "descriptor %d, passed by the service manager, is not a listening stream "
                "socket: the socket unit needs ListenStream= and Accept=no",
                fd);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        ret->fds[ret->n_fds++] = fd;
    }
    return 0;
}

int sd_init(struct sd *ret, struct err *err)
{
    *ret = (struct sd){0};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof(ret->notify_path))
        snprintf(ret->notify_path, sizeof(ret->notify_path), "%s", path);
    uint64_t pid = env_number("WATCHDOG_PID"), us = env_number("WATCHDOG_USEC");
    if (us && (pid == 0 || pid == (uint64_t)getpid()))
        ret->watchdog_ms = (uint32_t)MIN_OF(MAX_OF(us / 1000, 1), 86400000u);
    return listen_fds(ret, err);
}

void sd_notify(const struct sd *sd, const char *fmt, ...)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char text[512];
    size_t n = strlen(sd->notify_path);
    if (n == 0 || n > sizeof(to.sun_path))
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(to.sun_path, sd->notify_path, n);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t done =
        sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)done;
    close(fd);
}
