/* SPDX-License-Identifier: Apache-2.0 */
/* Implements http_client.h. */
#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"

static int patient(int fd)
{
    struct timeval limit = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fd;
}

int client_dial(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BUG_ON(fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0);
    return patient(fd);
}

int client_dial_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    BUG_ON(strlen(path) >= sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BUG_ON(fd < 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return patient(fd);
}

void client_send_bytes(int fd, const void *p, size_t n)
{
    const char *s = p;
    while (n > 0) {
        ssize_t sent = send(fd, s, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        s += sent;
        n -= (size_t)sent;
    }
}

void client_send(int fd, const char *s)
{
    client_send_bytes(fd, s, strlen(s));
}

static char *read_until(int fd, const char *text, bool is_last)
{
    struct buf b;
    ssize_t n = 0;
    buf_init(&b, 256u << 20);
    buf_append(&b, "", 0);
    while (!(text && strstr(buf_str(&b), text))) {
        BUG_ON(buf_reserve(&b, 65536) < 0);
        n = recv(fd, b.data + b.len, 65536, 0);
        if (n <= 0)
            break;
        b.len += (size_t)n;
        b.data[b.len] = '\0';
    }
    if (n < 0)
        buf_append_str(&b, errno == EAGAIN ? "<timeout>" : "<reset>");
    if (is_last)
        close(fd);
    return buf_take(&b);
}

char *client_read_all(int fd)
{
    return read_until(fd, NULL, true);
}

char *client_read_until(int fd, const char *text)
{
    return read_until(fd, text, false);
}

bool client_sees_end(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

void client_reset(int fd)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

unsigned client_count(const char *s, const char *part)
{
    unsigned n = 0;
    for (; (s = strstr(s, part)); s += strlen(part))
        n++;
    return n;
}

void client_wait_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}
