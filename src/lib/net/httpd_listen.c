/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: TCP, Unix, inherited ones; and who connects to them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/httpd_impl.h"

#define BACKLOG 4096

static int open_tcp(const struct httpd_listen *cfg, struct listener *ret, struct err *err)
{
    const char *host = cfg->host ? cfg->host : "127.0.0.1";
    bool by_name = strcmp(host, "localhost") == 0;
    char service[8];
    snprintf(service, sizeof(service), "%u", cfg->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_family = by_name ? AF_INET : AF_UNSPEC,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV | AI_NUMERICHOST},
                    *ai = NULL;
    if (getaddrinfo(by_name ? "127.0.0.1" : host, service, &hints, &ai))
        return err_set(err, E_INVALID,
                       "host '%s' is not an address to listen on: give a number such as 127.0.0.1 "
                       "or ::1, or localhost",
                       host);
    ret->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, rc = 0;
    if (ret->fd >= 0)
        setsockopt(ret->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ret->fd < 0 || bind(ret->fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
        listen(ret->fd, BACKLOG) < 0)
        rc = errno == EADDRINUSE
                 ? err_set(err, E_EXISTS,
                           "port %u on %s is in use: choose another with --port; a berth that "
                           "listens there already is ended by `berth stop --daemon`",
                           cfg->port, host)
                 : err_set_sys(err, E_NET, "cannot listen on %s port %u", host, cfg->port);
    freeaddrinfo(ai);
    return rc;
}

/* Whether path is a socket on which nobody answers any more. */
static bool is_abandoned(const char *path, const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool refused =
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int open_unix(const struct httpd_listen *cfg, struct listener *ret, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;
    size_t n = strlen(cfg->path);
    if (n == 0 || n >= sizeof(addr.sun_path))
        return err_set(err, E_INVALID,
                       "the socket's path '%.200s' must have 1 to %zu bytes: choose a shorter one",
                       cfg->path, sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, cfg->path, n);
    ret->is_unix = true;
    ret->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the descriptor becomes the file's when it is bound: never open to others. */
    if (ret->fd < 0 || fchmod(ret->fd, 0600) < 0)
        return err_set_sys(err, E_NET, "cannot make the socket %s", cfg->path);
    int rc = bind(ret->fd, (struct sockaddr *)&addr, sizeof(addr));
    if (rc < 0 && errno == EADDRINUSE) {
        if (!is_abandoned(cfg->path, &addr))
            return err_set(err, E_EXISTS,
                           "%s is there already, and somebody answers on it or it is no socket: "
                           "choose another path, or end the program that uses it",
                           cfg->path);
        rc = unlink(cfg->path) < 0 ? -1 : bind(ret->fd, (struct sockaddr *)&addr, sizeof(addr));
    }
    if (rc < 0)
        return err_set_sys(err, E_NET, "cannot make the socket %s", cfg->path);
    ret->path = mem_dup(cfg->path, n);
    if (lstat(cfg->path, &st) == 0) {
        ret->dev = st.st_dev;
        ret->ino = st.st_ino;
    }
    if (chmod(cfg->path, 0600) < 0 || listen(ret->fd, BACKLOG) < 0)
        return err_set_sys(err, E_NET, "cannot listen on the socket %s", cfg->path);
    return 0;
}

static int open_inherited(const struct httpd_listen *cfg, struct listener *ret, struct err *err)
{
    int listens = 0;
    socklen_t len = sizeof(listens);
    ret->fd = cfg->fd;
    ret->is_inherited = true;
    if (getsockopt(cfg->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
        return err_set_sys(err, E_INVALID, "the inherited descriptor %d is no socket", cfg->fd);
    if (!listens)
        return err_set(err, E_INVALID, "the inherited socket %d does not listen", cfg->fd);
    int flags = fcntl(cfg->fd, F_GETFL);
    if (flags < 0 || fcntl(cfg->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(cfg->fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set_sys(err, E_NET, "the inherited socket %d cannot be used", cfg->fd);
    return 0;
}

/* What the system says the socket is bound to. */
static int look_up(struct listener *l, struct err *err)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int on = 1;
    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) < 0)
        return err_set_sys(err, E_NET, "a listening socket has no address");
    l->is_unix = addr.ss_family == AF_UNIX;
    if (addr.ss_family == AF_INET)
        l->port = ntohs(((struct sockaddr_in *)(void *)&addr)->sin_port);
    else if (addr.ss_family == AF_INET6)
        l->port = ntohs(((struct sockaddr_in6 *)(void *)&addr)->sin6_port);
    else if (!l->is_unix)
        return err_set(err, E_INVALID, "a listening socket is neither TCP nor Unix");
    if (!l->is_unix) /* connections inherit it */
        setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return 0;
}

int listener_open(const struct httpd_listen *cfg, struct listener *ret, struct err *err)
{
    *ret = (struct listener){.source.kind = SOURCE_LISTENER, .fd = -1};
    int rc = cfg->kind == HTTPD_TCP    ? open_tcp(cfg, ret, err)
             : cfg->kind == HTTPD_UNIX ? open_unix(cfg, ret, err)
                                       : open_inherited(cfg, ret, err);
    if (rc == 0)
        rc = look_up(ret, err);
    if (rc < 0) {
        listener_quiesce(ret);
        listener_close(ret);
    }
    return rc;
}

/* An inherited socket is its giver's too: it is left alone. */
void listener_quiesce(struct listener *l)
{
    struct stat st;
    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(l->path);
    mem_free(l->path);
    l->path = NULL;
    if (l->fd >= 0 && !l->is_inherited)
        shutdown(l->fd, SHUT_RDWR);
}

void listener_close(struct listener *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void listener_peer(const struct listener *l, int fd, const struct sockaddr_storage *addr,
                   struct httpd_peer *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (l->is_unix) {
        struct ucred who;
        socklen_t len = sizeof(who);
        ret->is_unix = true;
        ret->uid = UINT32_MAX;
        snprintf(ret->address, sizeof(ret->address), "unix");
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0) {
            ret->uid = who.uid;
            ret->pid = (uint32_t)who.pid;
        }
        return;
    }
    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)addr;
        inet_ntop(AF_INET, &v4->sin_addr, ret->address, sizeof(ret->address));
        ret->is_loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (addr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)addr;
        const struct in6_addr *a = &v6->sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(a);
        inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? &a->s6_addr[12] : &a->s6_addr[0],
                  ret->address, sizeof(ret->address));
        ret->is_loopback = mapped ? a->s6_addr[12] == 127 : IN6_IS_ADDR_LOOPBACK(a);
    }
}
