/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the life of a store.h: folder, lock, holds; and the names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define EMPTY_INDEX                                                                                \
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","              \
    "\"manifests\":[]}"

int store_io_error(struct store *s, uint64_t wanted_bytes, struct err *err, const char *what)
{
    struct statvfs v;
    bool is_full = errno == ENOSPC || errno == EDQUOT;
    int rc = err_set_sys(err, E_IO, "%s in the store %s", what, s->path);
    int code = err->sys;
    if (is_full && fstatvfs(s->root_fd, &v) == 0) {
        /* A name or a folder takes a block at least. */
        wanted_bytes = MAX_OF(wanted_bytes, (uint64_t)v.f_frsize);
        rc = err_set(err, E_IO,
                     "%s: the store %s has no room: %.3g MB are needed and %.3g MB are free there; "
                     "make room (`berth rm`, `berth prune`) and try again, nothing is lost",
                     what, s->path, (double)wanted_bytes / 1e6,
                     (double)v.f_bavail * (double)v.f_frsize / 1e6);
        err->sys = code;
    }
    return rc;
}

int store_write_file(struct store *s, const char *name, const void *p, size_t n, struct err *err)
{
    char temp[BLOB_NAME_BYTES];
    snprintf(temp, sizeof(temp), "%s.tmp", name);
    int fd = openat(s->root_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool ok = fd >= 0;
    for (size_t at = 0; ok && at < n;) {
        ssize_t done = write(fd, (const char *)p + at, n - at);
        ok = done > 0 || (done < 0 && errno == EINTR);
        at += done > 0 ? (size_t)done : 0;
    }
    ok = ok && fsync(fd) == 0 && renameat(s->root_fd, temp, s->root_fd, name) == 0 &&
         fsync(s->root_fd) == 0;
    int rc = ok ? 0 : store_io_error(s, n, err, "writing the index");
    if (fd >= 0)
        close(fd);
    if (!ok)
        unlinkat(s->root_fd, temp, 0);
    return rc;
}

/* ---- open and close ---- */

static bool has_file(const struct store *s, const char *name)
{
    return faccessat(s->root_fd, name, F_OK, 0) == 0;
}

/* Nothing in it but what opening it puts there. */
static bool is_empty(const struct store *s)
{
    int fd = openat(s->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    bool ret = dir != NULL;
    for (const struct dirent *e; ret && (e = readdir(dir));)
        ret = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
              strcmp(e->d_name, "berth.lock") == 0 || strcmp(e->d_name, "index.json") == 0 ||
              strcmp(e->d_name, "index.json.tmp") == 0 || strcmp(e->d_name, "oci-layout.tmp") == 0;
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return ret;
}

static int open_dir(struct store *s, const char *name, int *ret, struct err *err)
{
    if (mkdirat(s->root_fd, name, 0755) < 0 && errno != EEXIST)
        return store_io_error(s, 4096, err, "making a folder");
    *ret = openat(s->root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *ret < 0 ? store_io_error(s, 0, err, "opening a folder") : 0;
}

static int take_lock(struct store *s, struct err *err)
{
    char who[32] = "";
    s->lock_fd = openat(s->root_fd, "berth.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->lock_fd < 0)
        return store_io_error(s, 0, err, "opening the lock");
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = pread(s->lock_fd, who, sizeof(who) - 1, 0);
        who[n > 0 ? n : 0] = '\0';
        who[strspn(who, "0123456789")] = '\0';
        return err_set(err, E_BUSY,
                       "the store %s is in use by another berth (process %s): ask that one "
                       "(--host, --port, --socket), end it, or name another --store",
                       s->path, who[0] ? who : "unknown");
    }
    int n = snprintf(who, sizeof(who), "%d\n", (int)getpid());
    if (ftruncate(s->lock_fd, 0) < 0 || pwrite(s->lock_fd, who, (size_t)n, 0) != n)
        log_warn("the store's lock could not be given our process number"); /* it holds anyway */
    return 0;
}

static int check_layout(struct store *s, struct err *err)
{
    if (has_file(s, "oci-layout"))
        return 0;
    if (has_file(s, "models.json"))
        return err_set(err, E_UNSUPPORTED,
                       "%s is a store of Docker Model Runner, not berth's; import it into another "
                       "folder",
                       s->path);
    if (!is_empty(s))
        return err_set(err, E_UNSUPPORTED,
                       "%s holds files and is no store (it has no oci-layout); name an empty or "
                       "missing folder",
                       s->path);
    int rc = store_write_file(s, "index.json", EMPTY_INDEX, strlen(EMPTY_INDEX), err);
    return rc < 0 ? rc : store_write_file(s, "oci-layout", LAYOUT, strlen(LAYOUT), err);
}

int store_open(const char *path, struct store **ret, struct err *err)
{
    struct store *s = mem_alloc(sizeof(*s));
    s->path = mem_dup(path, strlen(path));
    s->root_fd = s->blobs_fd = s->ingest_fd = s->unpacked_fd = s->prepared_fd = s->lock_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->unpack_lock, NULL);
    int rc = 0;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        rc = err_set_sys(err, E_IO, "making the store's folder %s", path);
    if (rc == 0) {
        s->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = s->root_fd < 0 ? err_set_sys(err, E_IO, "opening the store %s", path) : 0;
    }
    if (rc == 0)
        rc = take_lock(s, err);
    if (rc == 0)
        rc = check_layout(s, err);
    if (rc == 0)
        rc = open_dir(s, "blobs", &s->blobs_fd, err);
    if (rc == 0) {
        close(s->blobs_fd);
        rc = open_dir(s, "blobs/sha256", &s->blobs_fd, err);
    }
    if (rc == 0)
        rc = open_dir(s, "ingest", &s->ingest_fd, err);
    if (rc == 0)
        rc = open_dir(s, "unpacked", &s->unpacked_fd, err);
    if (rc == 0)
        rc = open_dir(s, "prepared", &s->prepared_fd, err);
    if (rc == 0)
        store_prepared_sweep(s);
    if (rc == 0)
        rc = index_load(s, err);
    if (rc < 0)
        store_close(s);
    else
        *ret = s;
    return rc;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    int fds[] = {s->blobs_fd, s->ingest_fd, s->unpacked_fd, s->prepared_fd, s->lock_fd, s->root_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    for (uint32_t i = 0; i < s->n_held; i++)
        BUG_ON(s->held[i].is_written);
    json_decref(s->index);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->unpack_lock);
    mem_free(s->held);
    mem_free(s->path);
    mem_free(s);
}

/* ---- holds ---- */

struct store_held *store_held_find_locked(struct store *s, const char *digest)
{
    for (uint32_t i = 0; i < s->n_held; i++) {
        if (s->held[i].n && strcmp(s->held[i].digest, digest) == 0)
            return &s->held[i];
    }
    return NULL;
}

struct store_held *store_hold_locked(struct store *s, const char *digest)
{
    struct store_held *h = store_held_find_locked(s, digest);
    for (uint32_t i = 0; !h && i < s->n_held; i++) {
        if (s->held[i].n == 0)
            h = &s->held[i];
    }
    if (!h) {
        struct store_held *more = mem_alloc((s->n_held + 16) * sizeof(*more)); /* zeroed */
        if (s->n_held)
            memcpy(more, s->held, s->n_held * sizeof(*more));
        mem_free(s->held);
        s->held = more;
        h = &s->held[s->n_held];
        s->n_held += 16;
    }
    if (h->n++ == 0)
        snprintf(h->digest, sizeof(h->digest), "%s", digest);
    return h;
}

void store_unhold_locked(struct store *s, const char *digest)
{
    struct store_held *h = store_held_find_locked(s, digest);
    BUG_ON(!h);
    h->n--;
}

void store_hold(struct store *s, const char *digest)
{
    pthread_mutex_lock(&s->lock);
    store_hold_locked(s, digest);
    pthread_mutex_unlock(&s->lock);
}

void store_unhold(struct store *s, const char *digest)
{
    pthread_mutex_lock(&s->lock);
    store_unhold_locked(s, digest);
    pthread_mutex_unlock(&s->lock);
}

/* ---- names ---- */

int store_list(struct store *s, struct store_list *ret, struct err *err)
{
    struct store_list l = {0};
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    size_t n = index_len(s->index);
    if (rc == 0) {
        l.items = mem_try_alloc(MAX_OF(n, 1), sizeof(*l.items), err);
        rc = l.items ? 0 : -err->code;
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct store_entry *e = &l.items[l.n];
        const char *name;
        if (!index_entry(s->index, i, e->digest, &name))
            continue;
        e->name = mem_dup(name, strlen(name));
        e->manifest_bytes = index_entry_bytes(s->index, i);
        l.n++;
    }
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        *ret = l;
    return rc;
}

void store_list_release(struct store_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->items[i].name);
    mem_free(l->items);
    *l = (struct store_list){0};
}

int store_resolve(struct store *s, const char *name, char ret[OCI_DIGEST_CHARS + 1],
                  struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1];
    const char *other;
    bool found = false;
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    for (size_t i = 0; rc == 0 && !found && i < index_len(s->index); i++) {
        found = index_entry(s->index, i, digest, &other) && name[0] && strcmp(other, name) == 0;
        if (found)
            memcpy(ret, digest, sizeof(digest));
    }
    pthread_mutex_unlock(&s->lock);
    return rc < 0 || found ? rc : err_set(err, E_NOTFOUND, "there is no model %s here", name);
}

int store_resolve_id(struct store *s, struct str hex, char ret[OCI_DIGEST_CHARS + 1],
                     struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1], found[OCI_DIGEST_CHARS + 1] = "";
    const char *name;
    bool twice = false;
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    for (size_t i = 0; rc == 0 && i < index_len(s->index); i++) {
        if (!index_entry(s->index, i, digest, &name) ||
            !str_has_prefix(str_from(digest_hex(digest)), hex))
            continue;
        twice |= found[0] && strcmp(found, digest) != 0;
        memcpy(found, digest, sizeof(found));
    }
    pthread_mutex_unlock(&s->lock);
    if (rc < 0)
        return rc;
    if (twice)
        return err_set(err, E_EXISTS, "several models' ids begin with %.*s; give more of it",
                       STR_ARG(hex));
    if (!found[0] || hex.len < 12)
        return err_set(err, E_NOTFOUND, "there is no model with the id %.*s here", STR_ARG(hex));
    memcpy(ret, found, sizeof(found));
    return 0;
}
