/* SPDX-License-Identifier: Apache-2.0 */
/* Implements listen.h. */
#include "daemon/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HOSTS_BYTES 4096u

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

static bool is_any(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return v4.s_addr == INADDR_ANY;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

/* 0.0.0.0 without keys is refused, whoever opened it. */
static int note_address(struct listening *l, const struct daemon_config *cfg, const char *host,
                        struct err *err)
{
    buf_printf(&l->hosts, "%s%s", l->hosts.len ? "," : "", host);
    l->any_address |= is_any(host);
    l->is_exposed |= !is_loopback(host);
    bool asks = cfg->api_keys && cfg->api_keys[0];
    if (is_loopback(host) || asks || cfg->allow_remote)
        return 0;
    return err_set(err, E_DENIED,
                   "refusing to listen on %s: anyone who reaches it could use this daemon, which "
                   "asks for no key; give it a file of keys with --api-keys, or say --insecure if "
                   "everybody on that network may use it",
                   host);
}

/* A socket that the service manager opened. */
static int add_inherited(struct listening *l, const struct daemon_config *cfg, int fd,
                         struct err *err)
{
    union address a = {0};
    socklen_t size = sizeof(a);
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, &a.any, &size) < 0)
        return err_set_sys(err, E_IO, "looking at descriptor %d of the service manager", fd);
    struct httpd_listen *item = &l->items[l->n];
    *item = (struct httpd_listen){.kind = HTTPD_INHERITED, .fd = fd};
    int rc = 0;
    if (a.any.sa_family == AF_INET)
        inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host));
    else if (a.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host));
    else if (a.any.sa_family != AF_UNIX)
        rc = err_set(err, E_UNSUPPORTED,
                     "descriptor %d of the service manager is neither TCP nor a Unix socket", fd);
    if (rc == 0 && host[0])
        rc = note_address(l, cfg, host, err);
    l->n += rc == 0;
    return rc;
}

/* Whether the service manager listens at that path already. */
static bool is_inherited(const struct sd *sd, const char *path)
{
    for (uint32_t i = 0; sd && i < sd->n_fds; i++) {
        union address a = {0};
        socklen_t size = sizeof(a) - 1;
        if (getsockname(sd->fds[i], &a.any, &size) == 0 && a.any.sa_family == AF_UNIX &&
            strcmp(a.local.sun_path, path) == 0)
            return true;
    }
    return false;
}

int listening_init(struct listening *l, const struct daemon_config *cfg, struct err *err)
{
    const struct sd *sd = cfg->sd;
    int rc = 0;
    *l = (struct listening){0};
    buf_init(&l->hosts, HOSTS_BYTES);
    for (uint32_t i = 0; sd && i < sd->n_fds && rc == 0; i++)
        rc = add_inherited(l, cfg, sd->fds[i], err);
    if (rc == 0 && (!sd || sd->n_fds == 0)) {
        const char *host = cfg->host ? cfg->host : "127.0.0.1";
        rc = note_address(l, cfg, host, err);
        l->items[l->n++] =
            (struct httpd_listen){.kind = HTTPD_TCP, .host = host, .port = cfg->port, .fd = -1};
    }
    if (rc == 0 && cfg->socket_path && cfg->socket_path[0] && !is_inherited(sd, cfg->socket_path))
        l->items[l->n++] =
            (struct httpd_listen){.kind = HTTPD_UNIX, .path = cfg->socket_path, .fd = -1};
    return rc == 0 ? buf_status(&l->hosts, "the addresses listened on", err) : rc;
}

void listening_release(struct listening *l)
{
    buf_release(&l->hosts);
}

void listening_print(const struct listening *l, bool tls, uint16_t port, struct buf *out)
{
    for (uint32_t i = 0; i < l->n; i++) {
        const struct httpd_listen *item = &l->items[i];
        if (i)
            buf_append_str(out, ", ");
        if (item->kind == HTTPD_UNIX) {
            buf_printf(out, "unix:%s", item->path);
        } else if (item->kind == HTTPD_TCP) {
            bool v6 = strchr(item->host, ':') != NULL;
            buf_printf(out, "http%s://%s%s%s:%u", tls ? "s" : "", v6 ? "[" : "", item->host,
                       v6 ? "]" : "", port);
        } else {
            buf_printf(out, "descriptor %d", item->fd);
        }
    }
}
