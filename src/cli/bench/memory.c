/* SPDX-License-Identifier: Apache-2.0 */
/* Implements memory.h: proc(5), smaps_rollup, net/tcp and the links in fd. */
#include "cli/bench/memory.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTENING 0x0A

bool bench_memory_of(pid_t pid, struct bench_memory *ret)
{
    char path[64], line[256];
    unsigned long long kb;
    bool has_rss = false;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = pid > 0 ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    *ret = (struct bench_memory){0, 0};
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Rss: %llu kB", &kb) == 1) {
            ret->rss_bytes = kb * 1024;
            has_rss = true;
        } else if (sscanf(line, "Private_Dirty: %llu kB", &kb) == 1 ||
                   sscanf(line, "Private_Hugetlb: %llu kB", &kb) == 1 ||
                   sscanf(line, "Swap: %llu kB", &kb) == 1) {
            ret->private_bytes += kb * 1024;
        }
    }
    fclose(f);
    return has_rss;
}

/* The inode of the socket that listens there, of a table of net/; 0: none. */
static unsigned long listening_inode(const char *path, uint32_t port)
{
    char line[512];
    unsigned long inode = 0;
    FILE *f = fopen(path, "re");
    while (f && !inode && fgets(line, sizeof(line), f)) {
        unsigned p, state;
        unsigned long i;
        /* sl local:port remote:port st queues timer retransmissions uid timeout inode */
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu", &p,
                   &state, &i) == 3 &&
            p == port && state == LISTENING)
            inode = i;
    }
    if (f)
        fclose(f);
    return inode;
}

/* Whether the process has that socket open. */
static bool holds(const char *pid, const char *link)
{
    char path[300], target[64];
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d && !found && (e = readdir(d))) {
        char fd[600];
        snprintf(fd, sizeof(fd), "%s/%s", path, e->d_name);
        ssize_t n = readlink(fd, target, sizeof(target) - 1);
        found = n > 0 && (size_t)n == strlen(link) && memcmp(target, link, (size_t)n) == 0;
    }
    if (d)
        closedir(d);
    return found;
}

pid_t bench_listener(uint32_t port)
{
    char link[64];
    pid_t found = 0;
    unsigned long inode = listening_inode("/proc/net/tcp", port);
    if (!inode)
        inode = listening_inode("/proc/net/tcp6", port);
    if (!inode)
        return 0;
    snprintf(link, sizeof(link), "socket:[%lu]", inode);
    DIR *d = opendir("/proc");
    const struct dirent *e;
    while (d && !found && (e = readdir(d))) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && holds(e->d_name, link))
            found = (pid_t)strtol(e->d_name, NULL, 10);
    }
    if (d)
        closedir(d);
    return found;
}
