/* SPDX-License-Identifier: Apache-2.0 */
/* Implements model_files.h. */
#include "lib/sys/model_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define SUFFIX_LEN 20u /* -00001-of-00002.gguf */

/* The number in five digits, or 0. */
static uint32_t five_digits(const char *p)
{
    uint32_t n = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        n = n * 10 + (uint32_t)(p[i] - '0');
    }
    return n;
}

static void put_number(char *p, uint32_t n)
{
    for (int i = 4; i >= 0; i--, n /= 10)
        p[i] = (char)('0' + n % 10);
}

/* How many shards the model has by its first shard's name; 0: the name is not a shard's. */
static uint32_t shards_of(const char *path)
{
    size_t len = strlen(path);
    if (len < SUFFIX_LEN)
        return 0;
    const char *p = path + len - SUFFIX_LEN;
    if (p[0] != '-' || memcmp(p + 6, "-of-", 4) != 0 || strcmp(p + 15, ".gguf") != 0)
        return 0;
    uint32_t no = five_digits(p + 1), count = five_digits(p + 10);
    return no && no <= count ? count : 0;
}

/* Opening must not wait (a pipe), take a terminal, nor outlive an exec. */
static int open_one(const char *path, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_set_sys(err, errno == ENOENT || errno == ENOTDIR ? E_NOTFOUND : E_IO,
                           "opening the model file %.300s", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    err_set(err, E_INVALID, "%.300s is not a regular file, and a model is", path);
    close(fd);
    return -err->code;
}

int model_files_open(const char *path, struct model_files *ret, struct err *err)
{
    uint32_t count = shards_of(path);
    bool is_split = count > 0;
    *ret = (struct model_files){.n = is_split ? count : 1};
    if (ret->n > LIMIT_MSG_FDS) {
        *ret = (struct model_files){0};
        return err_set(err, E_LIMIT, "%.300s: a model of %u shards; berth opens at most %u", path,
                       count, LIMIT_MSG_FDS);
    }
    ret->fds = mem_alloc(ret->n * sizeof(*ret->fds));
    ret->paths = mem_alloc(ret->n * sizeof(*ret->paths));
    memset(ret->fds, 0xFF, ret->n * sizeof(*ret->fds)); /* -1: not open */
    size_t len = strlen(path);
    for (uint32_t i = 0; i < ret->n; i++) {
        ret->paths[i] = mem_dup(path, len);
        if (is_split)
            put_number(ret->paths[i] + len - SUFFIX_LEN + 1, i + 1);
        ret->fds[i] = open_one(ret->paths[i], err);
        if (ret->fds[i] < 0) {
            if (is_split)
                err_wrap(err,
                         err->code == E_NOTFOUND ? "shard %u of %u is missing" : "shard %u of %u",
                         i + 1, count);
            model_files_close(ret);
            return -err->code;
        }
    }
    return 0;
}

void model_files_close(struct model_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->fds[i] >= 0)
            close(f->fds[i]);
        mem_free(f->paths[i]);
    }
    mem_free(f->fds);
    mem_free(f->paths);
    *f = (struct model_files){0};
}
