/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a daemon in the background when none listens: `berth serve --exit-idle 300` in a session
 * of its own, its log in the state folder.  The daemon's readiness comes up a pipe, so nothing is
 * polled. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/base/limits.h"
#include "lib/net/httpc.h"

#define READY_FD    3
#define DEADLINE_MS 20000
#define EXIT_IDLE_S "300"

/* mkdir -p */
static int make_dirs(const char *path, struct err *err)
{
    char part[LIMIT_PATH_BYTES];
    size_t n = strlen(path);
    if (n >= sizeof(part))
        return err_set(err, E_LIMIT, "the path %.64s... is longer than %u bytes", path,
                       LIMIT_PATH_BYTES);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) < 0 && errno != EEXIST)
            return err_set(
                err, E_IO,
                "cannot make the folder %s for the log of a daemon: %s; set XDG_STATE_HOME "
                "to a folder of yours, or start a daemon with `berth serve`",
                part, strerror(errno));
    }
    return 0;
}

/* "; its log ends with: LAST LINE" for a daemon that did not come up. */
static int not_started(const char *log_path, const char *how, struct err *err)
{
    char tail[1024] = "";
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        off_t size = lseek(fd, 0, SEEK_END);
        off_t from = size > (off_t)sizeof(tail) - 1 ? size - (off_t)sizeof(tail) + 1 : 0;
        ssize_t n = pread(fd, tail, sizeof(tail) - 1, from);
        n = n < 0 ? 0 : n;
        while (n && tail[n - 1] == '\n')
            n--;
        tail[n] = '\0';
        close(fd);
    }
    char *last = strrchr(tail, '\n');
    last = last ? last + 1 : tail;
    return err_set(err, E_GONE, "the daemon %s; its log %s ends with: %.300s", how, log_path,
                   *last ? last : "(nothing)");
}

static int spawn_daemon(const struct client *c, const char *log_path, int ready_fd, struct err *err)
{
    char port[16];
    snprintf(port, sizeof(port), "%u", c->config_port);
    const char *argv[20] = {"berth", "serve",       "--host",    c->host,      "--port",
                            port,    "--exit-idle", EXIT_IDLE_S, "--ready-fd", "3"};
    size_t n = 10;
    /* What it writes there itself is bounded; what its libraries might say comes by descriptor. */
    argv[n++] = "--else-log-file";
    argv[n++] = log_path;
    if (c->socket) {
        argv[n++] = "--socket";
        argv[n++] = c->socket;
    }
    if (c->models_dir) {
        argv[n++] = "--models-dir";
        argv[n++] = c->models_dir;
    }
    if (c->config_file) { /* the daemon reads what this command has read */
        argv[n++] = "--config";
        argv[n++] = c->config_file;
    }
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    int e = posix_spawn_file_actions_init(&fa);
    if (e == 0)
        e = posix_spawnattr_init(&attr);
    BUG_ON(e != 0); /* glibc's allocate nothing */
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    e = posix_spawn_file_actions_adddup2(&fa, ready_fd, READY_FD);
    e = e ? e : posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    e = e ? e
          : posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, log_path,
                                             O_WRONLY | O_CREAT | O_APPEND, 0600);
    e = e ? e : posix_spawn_file_actions_adddup2(&fa, STDERR_FILENO, STDOUT_FILENO);
    e = e ? e : posix_spawn_file_actions_addclosefrom_np(&fa, READY_FD + 1);
    pid_t pid;
    extern char **environ;
    e = e ? e : posix_spawn(&pid, "/proc/self/exe", &fa, &attr, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    if (e) {
        errno = e;
        return err_set_sys(err, E_IO, "starting a daemon with its log in %s", log_path);
    }
    return 0;
}

/* Waits for the daemon's line on the pipe: "port=N pid=N" or "error=SENTENCE"; none when it died.
 */
static int wait_ready(int fd, const char *log_path, struct err *err)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char line[ERR_MSG_MAX];
    int n = poll(&p, 1, DEADLINE_MS);
    if (n < 0 && errno == EINTR)
        return err_set(err, E_CANCELED, "interrupted while the daemon starts");
    if (n == 0)
        return not_started(log_path, "did not get ready within 20 seconds", err);
    ssize_t got = n < 0 ? -1 : read(fd, line, sizeof(line) - 1);
    if (got <= 0)
        return not_started(log_path, "did not start", err);
    line[got] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "error=", 6) == 0)
        return err_set(err, E_GONE, "the daemon did not start: %s", line + 6);
    return 0;
}

/* Whether a daemon started here would be the one that this client looks for. */
static int may_start(const struct client *c, struct err *err)
{
    static const char *const here[] = {"127.", "localhost", "::1"};
    if (!c->may_start)
        return err_set(err, E_NET,
                       "no daemon answers on %s; `berth serve` starts one (autostart is off)",
                       client_place(c));
    if (c->is_tls)
        return err_set(err, E_NET,
                       "no daemon answers on %s; one that speaks TLS is started with `berth serve "
                       "--tls-cert FILE --tls-key FILE`",
                       c->url);
    bool is_here = c->socket || strcmp(c->to, c->host) != 0; /* 0.0.0.0 and the like */
    for (size_t i = 0; i < ARRAY_LEN(here); i++)
        is_here |= strncmp(c->to, here[i], strlen(here[i])) == 0;
    if (!is_here)
        return err_set(err, E_NET,
                       "no daemon answers on %s, and none is started for another machine: "
                       "`berth serve` there does",
                       c->url);
    return 0;
}

int client_ensure(const struct client *c, struct err *err)
{
    int rc = client_probe(c, err);
    if (rc > 0 && c->models_dir && !c->is_quiet)
        fprintf(stderr,
                "berth: the daemon on %s runs already, with folders of its own; --models-dir is "
                "for one that is started\n",
                client_place(c));
    if (rc == 0)
        rc = may_start(c, err);
    else if (rc > 0)
        return 0;
    if (rc < 0)
        return rc;
    struct buf log_path;
    int fds[2];
    buf_init(&log_path, LIMIT_PATH_BYTES - 1);
    rc = config_state_dir(&log_path, err);
    if (rc == 0)
        rc = make_dirs(buf_str(&log_path), err);
    if (rc == 0) {
        buf_append_str(&log_path, "/serve.log");
        rc = buf_status(&log_path, "the log's path", err);
    }
    if (rc == 0 && pipe2(fds, O_CLOEXEC) < 0)
        rc = err_set_sys(err, E_IO, "making a pipe");
    if (rc == 0) {
        if (!c->is_quiet)
            fprintf(stderr, "berth: no daemon listens on %s; starting one (log: %s)\n",
                    client_place(c), buf_str(&log_path));
        rc = spawn_daemon(c, buf_str(&log_path), fds[1], err);
        close(fds[1]);
        if (rc == 0)
            rc = wait_ready(fds[0], buf_str(&log_path), err);
        close(fds[0]);
        struct err other = ERR_INIT;
        if (rc < 0 && client_probe(c, &other) == 1)
            rc = 0; /* another command started one in the same moment */
    }
    buf_release(&log_path);
    return rc;
}
