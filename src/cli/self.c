/* SPDX-License-Identifier: Apache-2.0 */
/* Implements self.h. */
#include "cli/self.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/buf.h"

#define SHOWN_MAX_BYTES (256u << 20)

static int start(const char *const *argv, int out_fd, int err_fd, const char *what, pid_t *ret,
                 struct err *err)
{
    extern char **environ;
    posix_spawn_file_actions_t fa;
    int e = posix_spawn_file_actions_init(&fa);
    BUG_ON(e != 0); /* glibc's allocates nothing */
    e = posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    e = e ? e : posix_spawn_file_actions_adddup2(&fa, out_fd, STDOUT_FILENO);
    e = e ? e : posix_spawn_file_actions_adddup2(&fa, err_fd, STDERR_FILENO);
    e = e ? e : posix_spawn_file_actions_addclosefrom_np(&fa, STDERR_FILENO + 1);
    e = e ? e : posix_spawn(ret, "/proc/self/exe", &fa, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (e) {
        errno = e;
        return err_set_sys(err, E_IO, "starting %s", what);
    }
    return 0;
}

/* Everything that comes down the pipe, at most out->max bytes; the rest is thrown away. */
static void drain(int fd, struct buf *out)
{
    char piece[65536];
    ssize_t n;
    while ((n = read(fd, piece, sizeof(piece))) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0)
            buf_append(out, piece, (size_t)n);
    }
}

/* What it said on standard error, without its own name before it. */
static int refusal(const char *what, struct buf *said, struct err *err)
{
    static const char me[] = "berth: ";
    char *s = said->data ? said->data : (char *)"";
    s[strcspn(s, "\n")] = '\0';
    if (strncmp(s, me, sizeof(me) - 1) == 0)
        s += sizeof(me) - 1;
    if (*s)
        return err_set(err, E_FORMAT, "%s", s);
    return err_set(err, E_GONE, "%s ended without a word", what);
}

/* Both pipes are open; runs it and collects what it says. */
static int run(const char *const *argv, const int out[2], const int said[2], const char *what,
               struct buf *text, struct err *err)
{
    struct buf words;
    pid_t pid = 0;
    int status = 0;
    buf_init(&words, 4096);
    /* What does not fit into the second pipe is lost: the process must not wait for us. */
    fcntl(said[1], F_SETFL, O_NONBLOCK);
    int rc = start(argv, out[1], said[1], what, &pid, err);
    close(out[1]);
    close(said[1]);
    if (rc == 0) {
        drain(out[0], text);
        drain(said[0], &words);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            rc = refusal(what, &words, err);
    }
    close(out[0]);
    close(said[0]);
    buf_release(&words);
    return rc;
}

int self_json(const char *const *argv, const char *what, json_t **ret, struct err *err)
{
    int out[2], said[2];
    struct buf text;
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set_sys(err, E_IO, "making a pipe");
    if (pipe2(said, O_CLOEXEC) < 0) {
        close(out[0]);
        close(out[1]);
        return err_set_sys(err, E_IO, "making a pipe");
    }
    buf_init(&text, SHOWN_MAX_BYTES);
    int rc = run(argv, out, said, what, &text, err);
    if (rc == 0)
        rc = buf_status(&text, what, err);
    if (rc == 0) {
        *ret = json_loadb(buf_str(&text), text.len, 0, NULL);
        if (!*ret)
            rc = err_set(err, E_FORMAT, "what %s printed is not JSON", what);
    }
    buf_release(&text);
    return rc;
}

int self_show_model(const char *path, json_t **ret, struct err *err)
{
    const char *argv[] = {"berth", "debug", "show", "--config", "/dev/null", "--", path, NULL};
    return self_json(argv, "the process that reads the model", ret, err);
}
