/* SPDX-License-Identifier: Apache-2.0 */
/* Implements fds.h. */
#include "lib/ipc/fds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(LIMIT_MSG_FDS * sizeof(int))];
};

ssize_t fds_send(int socket, const void *bytes, size_t n_bytes, const int *fds, uint32_t n_fds)
{
    union control control = {0};
    const size_t fds_bytes = n_fds * sizeof(*fds);
    struct iovec iov = {(void *)bytes, n_bytes};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = CMSG_SPACE(fds_bytes)};
    BUG_ON(n_fds < 1 || n_fds > LIMIT_MSG_FDS);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(fds_bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, fds_bytes);
    return sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int take(struct msghdr *m, int fds[LIMIT_MSG_FDS], uint32_t *n_fds, struct err *err)
{
    if (m->msg_flags & MSG_CTRUNC)
        return err_set(err, E_LIMIT, "more descriptors than %u at once", LIMIT_MSG_FDS);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            return err_set(err, E_FORMAT, "ancillary data of unknown kind %d", c->cmsg_type);
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(*fds);
        if (n > LIMIT_MSG_FDS - *n_fds)
            return err_set(err, E_FORMAT, "descriptors that nothing asked for");
        memcpy(fds + *n_fds, CMSG_DATA(c), n * sizeof(*fds));
        *n_fds += (uint32_t)n;
    }
    return 0;
}

ssize_t fds_recv(int socket, void *bytes, size_t cap, int flags, int fds[LIMIT_MSG_FDS],
                 uint32_t *n_fds, struct err *err)
{
    union control control;
    struct iovec iov = {bytes, cap};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    const ssize_t n = recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
    if (n <= 0 || take(&m, fds, n_fds, err) == 0)
        return n;
    errno = EPROTO;
    return -1;
}
