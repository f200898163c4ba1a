/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF by path: opens the file, and for a shard its sisters beside it.  The only place of
 * worker/model that opens files; inside the sandbox the worker has descriptors instead.  Any
 * thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/gguf_int.h"

#define SUFFIX_LEN 20u /* -00001-of-00002.gguf */

static bool five_digits(const char *p, uint32_t *ret)
{
    uint32_t n = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        n = n * 10 + (uint32_t)(p[i] - '0');
    }
    *ret = n;
    return true;
}

/* Whether path names a shard, and of how many. */
static bool path_is_shard(const char *path, uint32_t *ret_count)
{
    size_t len = strlen(path);
    uint32_t no, count;
    if (len < SUFFIX_LEN)
        return false;
    const char *p = path + len - SUFFIX_LEN;
    if (p[0] != '-' || !five_digits(p + 1, &no) || memcmp(p + 6, "-of-", 4) != 0 ||
        !five_digits(p + 10, &count) || strcmp(p + 15, ".gguf") != 0 || no == 0 || no > count)
        return false;
    *ret_count = count;
    return true;
}

/* Opening must not wait (a pipe) nor outlive an exec; what kind of file it is, gguf_open asks the
 * descriptor. */
static int path_open(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_set_sys(err, errno == ENOENT || errno == ENOTDIR ? E_NOTFOUND : E_IO,
                           "%.300s cannot be opened", path);
    return fd;
}

struct shard_files {
    uint32_t n;
    int *fds; /* n of them, -1: not open */
    char **paths;
};

static void files_release(struct shard_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->fds && f->fds[i] >= 0)
            close(f->fds[i]);
        if (f->paths)
            mem_free(f->paths[i]);
    }
    mem_free(f->fds);
    mem_free(f->paths);
}

/* Path and descriptor of shard i. */
static int file_open(struct shard_files *f, uint32_t i, const char *path, bool is_split,
                     struct err *err)
{
    size_t len = strlen(path);
    char *p = f->paths[i] = mem_try_alloc(len + 1, 1, err);
    if (!p)
        return -err->code;
    memcpy(p, path, len);
    if (is_split) {
        char suffix[40];
        snprintf(suffix, sizeof(suffix), "-%05u-of-%05u.gguf", i + 1, f->n);
        memcpy(p + len - SUFFIX_LEN, suffix, SUFFIX_LEN);
    }
    f->fds[i] = path_open(p, err);
    if (f->fds[i] >= 0)
        return 0;
    return is_split ? err_wrap(err, "shard %u of %u is missing", i + 1, f->n) : -err->code;
}

int gguf_open_path(const char *path, unsigned flags, struct gguf **ret_gguf, struct err *err)
{
    struct shard_files f = {.n = 1};
    bool is_split = path_is_shard(path, &f.n);
    if (f.n > LIMIT_GGUF_SHARDS)
        return err_set(err, E_LIMIT, "%.200s: a model of %u shards; berth's limit is %u", path, f.n,
                       LIMIT_GGUF_SHARDS);
    f.fds = mem_try_alloc(f.n, sizeof(*f.fds), err);
    if (!f.fds)
        return -err->code;
    for (uint32_t i = 0; i < f.n; i++)
        f.fds[i] = -1;
    f.paths = mem_try_alloc(f.n, sizeof(*f.paths), err);
    int rc = f.paths ? 0 : -err->code;
    for (uint32_t i = 0; rc == 0 && i < f.n; i++)
        rc = file_open(&f, i, path, is_split, err);
    if (rc == 0)
        rc = gguf_open(f.fds, (const char *const *)f.paths, f.n, flags, ret_gguf, err);
    files_release(&f);
    return rc;
}
