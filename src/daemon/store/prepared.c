/* SPDX-License-Identifier: Apache-2.0 */
/* Implements prepared.h. */
#include "daemon/store/prepared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/ipc/frame.h"

#define NAME_BYTES (OCI_DIGEST_CHARS + 32)
#define PART       ".part"

static void name_print(const char *digest, const char *ending, char ret[NAME_BYTES])
{
    snprintf(ret, NAME_BYTES, "sha256-%s.v%u%s", digest_hex(digest), PREPARED_VERSION, ending);
}

static void unlink_as(struct store *s, const char *digest, const char *ending)
{
    char name[NAME_BYTES];
    name_print(digest, ending, name);
    unlinkat(s->prepared_fd, name, 0);
}

/* The digest of a whole file of this version; false: none of those. */
static bool name_parse(const char *name, char ret[OCI_DIGEST_CHARS + 1])
{
    char again[NAME_BYTES];
    struct err err = ERR_INIT;
    snprintf(ret, OCI_DIGEST_CHARS + 1, "sha256:%.64s",
             strncmp(name, "sha256-", 7) == 0 ? name + 7 : "");
    if (oci_digest_check(str_from(ret), &err) < 0)
        return false;
    name_print(ret, "", again);
    return strcmp(name, again) == 0;
}

int store_prepared_open(struct store *s, const char *digest, int *ret_fd, struct err *err)
{
    char name[NAME_BYTES];
    name_print(digest, "", name);
    *ret_fd = openat(s->prepared_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*ret_fd >= 0)
        return 0;
    return errno == ENOENT ? err_set(err, E_NOTFOUND, "%s is not prepared", digest)
                           : store_io_error(s, 0, err, "opening prepared weights");
}

static int check_room(struct store *s, uint64_t n_bytes, struct err *err)
{
    struct statvfs v;
    if (fstatvfs(s->prepared_fd, &v) < 0)
        return 0; /* writing will tell */
    const uint64_t free_bytes = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    if (free_bytes >= n_bytes && free_bytes - n_bytes >= PREPARED_SPARE_BYTES)
        return 0;
    int rc = err_set(err, E_IO,
                     "%.3g MB of prepared weights and a spare of %.3g MB do not fit in the %.3g MB "
                     "that are free in the store %s",
                     (double)n_bytes / 1e6, (double)PREPARED_SPARE_BYTES / 1e6,
                     (double)free_bytes / 1e6, s->path);
    err->sys = ENOSPC;
    return rc;
}

int store_prepared_begin(struct store *s, const char *digest, uint64_t n_bytes, int *ret_fd,
                         struct err *err)
{
    char name[NAME_BYTES];
    int rc = check_room(s, n_bytes, err);
    if (rc < 0)
        return rc;
    name_print(digest, PART, name);
    unlinkat(s->prepared_fd, name, 0); /* of an earlier try */
    const int fd =
        openat(s->prepared_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return store_io_error(s, n_bytes, err, "making prepared weights");
    /* Taken at once, where the file system can: others may not take it meanwhile. */
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)n_bytes) < 0 && errno == ENOSPC) {
        rc = store_io_error(s, n_bytes, err, "making prepared weights");
        close(fd);
        unlinkat(s->prepared_fd, name, 0);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static bool is_there(struct store *s, const char *digest)
{
    char each[OCI_DIGEST_CHARS + 1];
    const char *name;
    struct err ignored = ERR_INIT;
    bool ret = index_refresh(s, &ignored) < 0;
    for (size_t i = 0; !ret && i < index_len(s->index); i++)
        ret = index_entry(s->index, i, each, &name) && strcmp(each, digest) == 0;
    return ret;
}

int store_prepared_commit(struct store *s, const char *digest, bool stored, int fd, struct err *err)
{
    char part[NAME_BYTES], name[NAME_BYTES];
    name_print(digest, PART, part);
    name_print(digest, "", name);
    bool ok = fchmod(fd, 0444) == 0 && fsync(fd) == 0;
    int rc = ok ? 0 : store_io_error(s, 0, err, "writing prepared weights");
    pthread_mutex_lock(&s->lock); /* or its model might go just now */
    if (rc == 0 && stored && !is_there(s, digest))
        rc = err_set(err, E_NOTFOUND, "the model was removed meanwhile");
    if (rc == 0 &&
        (renameat(s->prepared_fd, part, s->prepared_fd, name) < 0 || fsync(s->prepared_fd) < 0))
        rc = store_io_error(s, 0, err, "naming prepared weights");
    pthread_mutex_unlock(&s->lock);
    if (rc < 0)
        unlinkat(s->prepared_fd, part, 0);
    return rc;
}

void store_prepared_abandon(struct store *s, const char *digest)
{
    unlink_as(s, digest, PART);
}

void store_prepared_remove(struct store *s, const char *digest)
{
    unlink_as(s, digest, "");
}

/* ---- all of them ---- */

static int sweep_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                      struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1];
    (void)st;
    (void)ctx;
    (void)err;
    if (!name_parse(name, digest) && strncmp(name, "sha256-", 7) == 0)
        unlinkat(s->prepared_fd, name, 0);
    return 0;
}

void store_prepared_sweep(struct store *s)
{
    struct err ignored = ERR_INIT;
    int rc = store_each_file(s, s->prepared_fd, sweep_file, NULL, &ignored);
    (void)rc; /* what stays is no harm */
}

struct pruning {
    store_prepared_keeps_fn keeps;
    void *ctx;
    uint64_t n_bytes;
};

static int prune_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                      struct err *err)
{
    struct pruning *p = ctx;
    char digest[OCI_DIGEST_CHARS + 1];
    (void)err;
    if (name_parse(name, digest) && !p->keeps(p->ctx, digest) &&
        unlinkat(s->prepared_fd, name, 0) == 0)
        p->n_bytes += (uint64_t)st->st_size;
    return 0;
}

int store_prepared_prune(struct store *s, store_prepared_keeps_fn keeps, void *ctx,
                         uint64_t *ret_bytes, struct err *err)
{
    struct pruning p = {.keeps = keeps, .ctx = ctx};
    int rc = store_each_file(s, s->prepared_fd, prune_file, &p, err);
    *ret_bytes = p.n_bytes;
    return rc;
}

struct sizing {
    uint32_t n;
    uint64_t n_bytes;
};

static int size_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                     struct err *err)
{
    struct sizing *z = ctx;
    (void)s;
    (void)name;
    (void)err;
    z->n++;
    z->n_bytes += (uint64_t)st->st_size;
    return 0;
}

int store_prepared_usage(struct store *s, uint32_t *ret_n, uint64_t *ret_bytes, struct err *err)
{
    struct sizing z = {0};
    int rc = store_each_file(s, s->prepared_fd, size_file, &z, err);
    *ret_n = z.n;
    *ret_bytes = z.n_bytes;
    return rc;
}
