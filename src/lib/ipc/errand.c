/* SPDX-License-Identifier: Apache-2.0 */
/* Implements errand.h. */
#include "lib/ipc/errand.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/ipc/fds.h"

#define LOOK_MS 100u /* between looks at is_called */

static uint64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

/* Until the socket can be used; E_TIMEOUT, E_CANCELED. */
static int await(const struct errand *e, short events, struct err *err)
{
    for (;;) {
        const uint64_t now = now_ms();
        struct pollfd pfd = {.fd = e->fd, .events = events};
        if (e->is_called && atomic_load(e->is_called))
            return err_set(err, E_CANCELED, "%s was called off", e->what);
        if (now >= e->deadline_ms)
            return err_set(err, E_TIMEOUT, "%s took more than %u seconds", e->what,
                           e->timeout_ms / 1000);
        const uint64_t left = e->deadline_ms - now;
        int n = poll(&pfd, 1, (int)(e->is_called ? MIN_OF(left, (uint64_t)LOOK_MS) : left));
        if (n < 0 && errno != EINTR)
            return err_set_sys(err, E_INTERNAL, "poll");
        if (n > 0)
            return 0;
    }
}

int errand_start(struct errand *e, const char *const *argv, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_sys(err, E_IO, "socketpair for a worker");
    const struct spawn_config cfg = {
        .argv = argv, .stderr_fd = STDERR_FILENO, .frames_fd = pair[1]};
    int rc = spawn_self(&cfg, &e->child, err);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        return rc;
    }
    e->fd = pair[0];
    e->deadline_ms = now_ms() + e->timeout_ms;
    frame_reader_init(&e->in, MSG_TO_DAEMON);
    return 0;
}

int errand_send(struct errand *e, const struct buf *out, const int *fds, uint32_t n,
                struct err *err)
{
    for (size_t at = 0; at < out->len;) {
        const char *rest = out->data + at;
        ssize_t sent = at ? send(e->fd, rest, out->len - at, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : fds_send(e->fd, rest, out->len, fds, n); /* with the first bytes */
        if (sent < 0 && errno == EAGAIN) {
            if (await(e, POLLOUT, err) < 0)
                return -err->code;
        } else if (sent < 0 && errno != EINTR) {
            return err_set_sys(err, E_GONE, "asking a worker");
        }
        at += sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

int errand_read(struct errand *e, struct frame *ret, struct err *err)
{
    char bytes[16384];
    for (;;) {
        int rc = frame_reader_next(&e->in, ret, err);
        if (rc != 0)
            return rc;
        rc = await(e, POLLIN, err);
        if (rc < 0)
            return rc;
        ssize_t n = recv(e->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set_sys(err, E_GONE, "hearing a worker");
        if (n > 0 && frame_reader_feed(&e->in, bytes, (size_t)n, err) < 0)
            return -err->code;
    }
}

int errand_refusal(struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint32_t code = 0;
    struct str message = STR_LIT("");
    if (!get_u32(&c, &code) || !get_str(&c, ERR_MSG_MAX, &message) || c.left || code == E_OK ||
        code >= E_N_CODES)
        return err_set(err, E_FORMAT, "a worker's answer is malformed");
    return err_set(err, (enum err_code)code, "%.*s", STR_ARG(message));
}

int errand_finish(struct errand *e, int rc, struct err *err)
{
    struct child_end end = {0};
    struct pollfd pfd = {.fd = e->child.pidfd, .events = POLLIN};
    if (rc < 0 && rc != -E_GONE)
        child_kill(&e->child, SIGKILL);
    close(e->fd);
    if (poll(&pfd, 1, 1000) <= 0)
        child_kill(&e->child, SIGKILL);
    while (!child_reap(&e->child, &end))
        poll(&pfd, 1, 100);
    close(e->child.pidfd);
    frame_reader_release(&e->in);
    if (rc == -E_GONE) {
        char how[64];
        child_end_print(&end, how, sizeof(how));
        rc = err_set(err, E_GONE, "%s: its worker %s", e->what, how);
    }
    return rc;
}
