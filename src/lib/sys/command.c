/* SPDX-License-Identifier: Apache-2.0 */
/* Implements command.h. */
#include "lib/sys/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/sys/loop.h"

extern char **environ;

/* The child reads and writes one end of a socket pair: a write to one that has gone is no signal.
 */
static int start(const char *const *argv, int child_fd, pid_t *ret_pid, struct err *err)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, child_fd, 0);
    posix_spawn_file_actions_adddup2(&files, child_fd, 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    errno = posix_spawnp(ret_pid, argv[0], &files, &attr, (char *const *)(uintptr_t)argv, environ);
    int rc = errno == 0        ? 0
             : errno == ENOENT ? err_set(err, E_NOTFOUND, "there is no program %s", argv[0])
                               : err_set_sys(err, E_IO, "starting %s", argv[0]);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* Feeds input, collects what comes, until the other side closes. */
static int converse(const char *name, int fd, struct str input, struct buf *out, uint64_t due_ms,
                    struct err *err)
{
    char bytes[4096];
    for (;;) {
        uint64_t now = loop_now_ms();
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (input.len ? POLLOUT : 0))};
        if (now >= due_ms)
            return err_set(err, E_TIMEOUT, "%s did not end in time and was stopped", name);
        if (poll(&p, 1, (int)MIN_OF(due_ms - now, 1000)) < 0 && errno != EINTR)
            return err_set_sys(err, E_IO, "waiting for %s", name);
        if (p.revents & POLLOUT) {
            ssize_t n = send(fd, input.p, input.len, MSG_NOSIGNAL | MSG_DONTWAIT);
            size_t done = n > 0 ? (size_t)n : n < 0 && errno != EAGAIN ? input.len : 0;
            input = (struct str){input.p + done, input.len - done};
            if (input.len == 0)
                shutdown(fd, SHUT_WR);
        }
        if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return 0;
        if (n > 0 && buf_append(out, bytes, (size_t)n) < 0)
            return buf_status(out, name, err);
    }
}

/* Reaps it, killing it and what it started when it does not end by itself. */
static int finish(pid_t pid, bool must_end, uint64_t due_ms)
{
    int status = 0;
    for (;;) {
        if (must_end)
            kill(-pid, SIGKILL);
        pid_t got = waitpid(pid, &status, must_end ? 0 : WNOHANG);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return 127;
        if (got == 0)
            poll(NULL, 0, 5);
        must_end |= loop_now_ms() >= due_ms;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int command_run(const char *const *argv, struct str input, struct buf *out, uint32_t timeout_ms,
                int *ret_status, struct err *err)
{
    int ends[2];
    pid_t pid = -1;
    const uint64_t due_ms = loop_now_ms() + timeout_ms;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return err_set_sys(err, E_IO, "starting %s", argv[0]);
    int rc = start(argv, ends[1], &pid, err);
    close(ends[1]);
    if (rc == 0) {
        if (input.len == 0)
            shutdown(ends[0], SHUT_WR);
        rc = converse(argv[0], ends[0], input, out, due_ms, err);
        *ret_status = finish(pid, rc < 0, due_ms);
    }
    close(ends[0]);
    return rc;
}
