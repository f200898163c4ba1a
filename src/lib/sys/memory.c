/* SPDX-License-Identifier: Apache-2.0 */
/* Implements memory.h. */
#include "lib/sys/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/sys/file.h"

/* One number in a small file; UINT64_MAX for "max" and for what is not there. */
static uint64_t read_number(const char *path)
{
    struct buf b;
    struct err err = ERR_INIT;
    uint64_t n = UINT64_MAX;
    if (file_read_all(path, 4096, &b, &err) == 0 && b.len && b.data[0] >= '0' && b.data[0] <= '9')
        n = strtoull(b.data, NULL, 10);
    buf_release(&b);
    return n;
}

/* The least of group and those above it. */
static uint64_t climb(const char *root, const char *group, const char *file)
{
    char path[2 * LIMIT_PATH_BYTES];
    uint64_t least = UINT64_MAX;
    size_t len = strlen(group);
    for (;;) {
        int n = snprintf(path, sizeof(path), "%s%.*s/%s", root, (int)len, group, file);
        if (n > 0 && (size_t)n < sizeof(path)) {
            uint64_t here = read_number(path);
            least = here < least ? here : least;
        }
        while (len && group[len - 1] != '/')
            len--;
        if (len == 0)
            return least;
        len--; /* the slash */
    }
}

uint64_t memory_cgroup_bytes(const char *self_cgroup, const char *cgroup_root)
{
    struct buf b;
    struct err err = ERR_INIT;
    uint64_t least = UINT64_MAX;
    char v1_root[LIMIT_PATH_BYTES];
    snprintf(v1_root, sizeof(v1_root), "%s/memory", cgroup_root);
    if (file_read_all(self_cgroup, 65536, &b, &err) < 0) {
        buf_release(&b);
        return least;
    }
    for (char *line = b.data, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        uint64_t here = UINT64_MAX;
        if (controllers[1] == '\0')
            here = climb(cgroup_root, group, "memory.max");
        else if (strcmp(controllers + 1, "memory") == 0)
            here = climb(v1_root, group, "memory.limit_in_bytes");
        least = here < least ? here : least;
    }
    buf_release(&b);
    return least;
}

uint64_t memory_limit_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    uint64_t group = memory_cgroup_bytes("/proc/self/cgroup", "/sys/fs/cgroup");
    return group < machine ? group : machine;
}

uint64_t memory_oom_kills(void)
{
    struct buf b;
    struct err err = ERR_INIT;
    uint64_t n = 0;
    if (file_read_all("/proc/vmstat", 1u << 20, &b, &err) == 0) {
        const char *at = strstr(buf_str(&b), "\noom_kill ");
        n = at ? strtoull(at + 10, NULL, 10) : 0;
    }
    buf_release(&b);
    return n;
}
