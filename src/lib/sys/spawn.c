/* SPDX-License-Identifier: Apache-2.0 */
/* Implements spawn.h.  Between fork and exec only async-signal-safe calls: the daemon has other
 * threads. */
#include "lib/sys/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAMES_FD     3
#define FIRST_FREE_FD 4
#define ENV_MAX       16

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

extern char **environ;

/* What a worker may know of its surroundings: how to find its shared libraries, and in a sanitizer
 * build the sanitizers' own settings. */
static const char *const env_kept[] = {
    "LD_LIBRARY_PATH=",
#ifdef BERTH_SAN
    "ASAN_OPTIONS=",    "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "LSAN_OPTIONS=",
#endif
};

static void env_build(char *env[ENV_MAX])
{
    static char lang[] = "LC_ALL=C.UTF-8";
    size_t n = 0;
    env[n++] = lang;
    for (char **e = environ; e && *e && n < ENV_MAX - 1; e++) {
        for (size_t i = 0; i < ARRAY_LEN(env_kept); i++) {
            if (n < ENV_MAX - 1 && strncmp(*e, env_kept[i], strlen(env_kept[i])) == 0)
                env[n++] = *e;
        }
    }
    env[n] = NULL;
}

/* In the child: says over the pipe why it goes, and goes. */
NORETURN static void child_fail(int report_fd)
{
    int code = errno;
    ssize_t done = write(report_fd, &code, sizeof(code));
    (void)done;
    _exit(127);
}

static void signals_reset(void)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &dfl, NULL); /* SIGKILL and SIGSTOP refuse, rightly */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Moves the descriptors to their numbers.  The sources are first lifted above them all, so that no
 * move can overwrite one that is still needed. */
static void fds_arrange(const struct spawn_config *cfg, int null_fd, int *report_fd)
{
    int from[] = {null_fd, null_fd, cfg->stderr_fd, cfg->frames_fd};
    int lifted = fcntl(*report_fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (lifted < 0)
        child_fail(*report_fd);
    *report_fd = lifted;
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
        if (from[i] < 0)
            child_fail(*report_fd);
    }
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        if (dup2(from[i], (int)i) < 0)
            child_fail(*report_fd);
    }
}

/* Everything above FRAMES_FD, but for report_fd until exec closes it. */
static void fds_close_rest(int report_fd)
{
    unsigned r = (unsigned)report_fd;
    if ((r > FIRST_FREE_FD && syscall(SYS_close_range, FIRST_FREE_FD, r - 1, 0) < 0) ||
        syscall(SYS_close_range, r + 1, ~0u, 0) < 0) {
        /* Before Linux 5.9: berth opens all its own with O_CLOEXEC, this is for what it inherited.
         */
        for (int fd = FIRST_FREE_FD; fd < 4096; fd++) {
            if (fd != report_fd)
                close(fd);
        }
    }
}

NORETURN static void child_start(const struct spawn_config *cfg, char **env, int null_fd,
                                 int report_fd, pid_t parent)
{
    signals_reset();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || setpgid(0, 0) < 0)
        child_fail(report_fd);
    if (getppid() != parent) /* it died before prctl could notice */
        _exit(127);
    fds_arrange(cfg, null_fd, &report_fd);
    fds_close_rest(report_fd);
    execve("/proc/self/exe", (char *const *)(uintptr_t)cfg->argv, env);
    child_fail(report_fd);
}

/* Waits for exec: the pipe closes with nothing in it, or holds the errno. */
static int await_exec(int fd, pid_t pid, struct err *err)
{
    int code = 0;
    ssize_t n;
    do {
        n = read(fd, &code, sizeof(code));
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    waitpid(pid, NULL, 0);
    errno = n == (ssize_t)sizeof(code) ? code : EIO;
    return err_set_sys(err, E_IO, "worker process did not start");
}

static int fork_child(const struct spawn_config *cfg, int null_fd, const int report[2],
                      struct child *ret, struct err *err)
{
    char *env[ENV_MAX];
    env_build(env);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return err_set_sys(err, E_IO, "fork");
    if (pid == 0)
        child_start(cfg, env, null_fd, report[1], parent);
    ret->pid = pid;
    return 0;
}

int spawn_self(const struct spawn_config *cfg, struct child *ret, struct err *err)
{
    int report[2];
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return err_set_sys(err, E_IO, "/dev/null");
    if (pipe2(report, O_CLOEXEC) < 0) {
        close(null_fd);
        return err_set_sys(err, E_IO, "pipe");
    }
    int rc = fork_child(cfg, null_fd, report, ret, err);
    close(null_fd);
    close(report[1]);
    if (rc == 0)
        rc = await_exec(report[0], ret->pid, err);
    close(report[0]);
    if (rc < 0)
        return rc;
    ret->pidfd = (int)syscall(SYS_pidfd_open, ret->pid, 0);
    if (ret->pidfd >= 0)
        return 0;
    rc = err_set_sys(err, E_UNSUPPORTED, "pidfd_open (berth needs Linux 5.4 or later)");
    kill(ret->pid, SIGKILL);
    waitpid(ret->pid, NULL, 0);
    return rc;
}

int child_reap(const struct child *c, struct child_end *ret)
{
    siginfo_t si = {0};
    if (waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
        return 0;
    *ret = (struct child_end){
        .was_killed = si.si_code != CLD_EXITED,
        .status = si.si_status,
        .has_core = si.si_code == CLD_DUMPED,
    };
    return 1;
}

void child_kill(const struct child *c, int signo)
{
    syscall(SYS_pidfd_send_signal, c->pidfd, signo, NULL, 0);
}

void child_end_print(const struct child_end *e, char *out, size_t n)
{
    const char *name = e->was_killed ? sigabbrev_np(e->status) : NULL;
    if (!e->was_killed)
        snprintf(out, n, "exited with status %d", e->status);
    else if (name)
        snprintf(out, n, "was killed by SIG%s", name);
    else
        snprintf(out, n, "was killed by signal %d", e->status);
}
