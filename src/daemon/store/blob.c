/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs: read, and written so that one that has its name is whole.
 *
 * A blob on its way lies in ingest/HEX.part.  From time to time the part is synced and then
 * ingest/HEX.state written: the hash of all bytes so far.  A later try goes on from there without
 * reading them again; what lies beyond is cut off, since nobody has promised that it is on the
 * disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/store/hashing.h"
#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/oci/sha256.h"
#include "lib/sys/loop.h"

#define CHECKPOINT_BYTES (64u << 20)
#define CHECKPOINT_MS    2000u /* no oftener: each waits for the disk */
#define PUSH_BYTES       (8u << 20)
#define HASHING_BYTES    (4u << 20) /* from here on a thread hashes */

struct store_writer {
    struct store *store;
    char digest[OCI_DIGEST_CHARS + 1]; /* "" until the bytes tell */
    char part[BLOB_NAME_BYTES];
    uint64_t size; /* UINT64_MAX: unknown */
    uint64_t saved_bytes;
    uint64_t saved_ms;
    uint64_t pushed_bytes;   /* sent on to the disk, not waited for */
    uint64_t n_bytes;        /* written */
    struct sha256 hash;      /* of them, once hash_settle has been called */
    struct hashing *hashing; /* owned; of a large blob, NULL before it is one */
    bool is_small;           /* no thread for it */
    int fd;
};

int store_blob_size(struct store *s, const char *digest, uint64_t *ret, struct err *err)
{
    struct stat st;
    if (fstatat(s->blobs_fd, digest_hex(digest), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : store_io_error(s, 0, err, "looking for a blob");
    if (!S_ISREG(st.st_mode))
        return err_set(err, E_CORRUPT, "blob %s of the store %s is not a regular file", digest,
                       s->path);
    *ret = (uint64_t)st.st_size;
    return 1;
}

int store_blob_open(struct store *s, const char *digest, int *ret_fd, struct err *err)
{
    uint64_t size;
    int rc = store_blob_size(s, digest, &size, err);
    if (rc == 0)
        return err_set(err, E_NOTFOUND, "blob %s is not in the store %s", digest, s->path);
    if (rc < 0)
        return rc;
    int fd = openat(s->blobs_fd, digest_hex(digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return store_io_error(s, 0, err, "opening a blob");
    *ret_fd = fd;
    return 0;
}

int store_blob_read(struct store *s, const char *digest, size_t max_bytes, struct buf *ret,
                    struct err *err)
{
    char is[OCI_DIGEST_CHARS + 1], bytes[16384];
    struct sha256 hash;
    int fd = -1;
    ssize_t n = 0;
    buf_init(ret, max_bytes);
    int rc = store_blob_open(s, digest, &fd, err);
    if (rc < 0)
        return rc;
    sha256_init(&hash);
    while (buf_status(ret, "a blob", err) == 0 && (n = read(fd, bytes, sizeof(bytes))) > 0) {
        buf_append(ret, bytes, (size_t)n);
        sha256_add(&hash, bytes, (size_t)n);
    }
    rc = n < 0 ? store_io_error(s, 0, err, "reading a blob") : buf_status(ret, digest, err);
    close(fd);
    sha256_end(&hash, is);
    if (rc == 0 && strcmp(is, digest) != 0)
        rc =
            err_set(err, E_CORRUPT,
                    "blob %s of the store %s has other bytes (%s): `berth verify --repair` removes "
                    "it, pulling the model brings it back",
                    digest, s->path, is);
    return rc;
}

/* ---- writing ---- */

/* Small blobs are hashed here, the rest of large ones by a thread. */
static void hash_add(struct store_writer *w, const void *p, size_t n)
{
    w->n_bytes += n;
    if (!w->hashing && !w->is_small && w->n_bytes >= HASHING_BYTES) {
        w->hashing = hashing_start(&w->hash);
        w->is_small = !w->hashing;
    }
    if (w->hashing)
        hashing_add(w->hashing, p, n);
    else
        sha256_add(&w->hash, p, n);
}

static void hash_settle(struct store_writer *w)
{
    if (w->hashing)
        hashing_wait(w->hashing);
}

static void state_name(const struct store_writer *w, char ret[BLOB_NAME_BYTES])
{
    snprintf(ret, BLOB_NAME_BYTES, "%s.state", digest_hex(w->digest));
}

/* What was written so far is on the disk, and the next try may build on it. */
static int checkpoint(struct store_writer *w, struct err *err)
{
    unsigned char bytes[SHA256_STATE_BYTES];
    char name[BLOB_NAME_BYTES], temp[BLOB_NAME_BYTES + 4];
    if (!w->digest[0] || w->n_bytes == w->saved_bytes)
        return 0;
    if (fdatasync(w->fd) < 0)
        return store_io_error(w->store, w->n_bytes - w->saved_bytes, err, "writing a blob");
    state_name(w, name);
    snprintf(temp, sizeof(temp), "%s.tmp", name);
    hash_settle(w);
    sha256_save(&w->hash, bytes);
    int dir = w->store->ingest_fd;
    int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool ok = fd >= 0 && write(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes) &&
              fdatasync(fd) == 0 && renameat(dir, temp, dir, name) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return store_io_error(w->store, sizeof(bytes), err, "writing how far a blob is");
    w->saved_bytes = w->n_bytes;
    w->saved_ms = loop_now_ms();
    return 0;
}

/* Keeps the disk at work while bytes come, so that nobody waits long for it in the end; and notes
 * from time to time how far it is. */
static int keep_up(struct store_writer *w, struct err *err)
{
    if (w->n_bytes - w->pushed_bytes >= PUSH_BYTES) {
        /* A hint: what goes wrong shows in fdatasync. */
        sync_file_range(w->fd, (off_t)w->pushed_bytes, (off_t)(w->n_bytes - w->pushed_bytes),
                        SYNC_FILE_RANGE_WRITE);
        w->pushed_bytes = w->n_bytes;
    }
    bool is_due = w->n_bytes - w->saved_bytes >= CHECKPOINT_BYTES &&
                  loop_now_ms() - w->saved_ms >= CHECKPOINT_MS;
    return is_due ? checkpoint(w, err) : 0;
}

/* Takes up what an earlier try left; from the beginning when that is nothing, or not to be trusted.
 */
static void take_up(struct store_writer *w)
{
    unsigned char bytes[SHA256_STATE_BYTES];
    char name[BLOB_NAME_BYTES];
    struct stat st;
    ssize_t n = -1;
    state_name(w, name);
    int fd = openat(w->store->ingest_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        n = read(fd, bytes, sizeof(bytes));
        close(fd);
    }
    if (n < 0 || !sha256_load(&w->hash, bytes, (size_t)n) || fstat(w->fd, &st) < 0 ||
        (uint64_t)st.st_size < w->hash.n_bytes || w->hash.n_bytes > w->size)
        sha256_init(&w->hash);
    w->n_bytes = w->saved_bytes = w->hash.n_bytes;
}

/* The part ends where the hash does, and there is room for the rest. */
static int make_room(struct store_writer *w, struct err *err)
{
    struct statvfs v;
    const uint64_t at = w->n_bytes;
    if (ftruncate(w->fd, (off_t)at) < 0 || lseek(w->fd, (off_t)at, SEEK_SET) < 0)
        return store_io_error(w->store, 0, err, "beginning a blob");
    if (w->size == UINT64_MAX || w->size == at)
        return 0;
    const uint64_t wanted = w->size - at;
    if (fstatvfs(w->store->ingest_fd, &v) == 0 &&
        (uint64_t)v.f_bavail * (uint64_t)v.f_frsize < wanted) {
        errno = ENOSPC;
        return store_io_error(w->store, wanted, err, "beginning a blob");
    }
    return 0;
}

static int part_open(struct store_writer *w, struct err *err)
{
    w->fd = openat(w->store->ingest_fd, w->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (w->fd < 0)
        return store_io_error(w->store, 0, err, "beginning a blob");
    sha256_init(&w->hash);
    if (w->digest[0])
        take_up(w);
    return make_room(w, err);
}

/* Nobody else writes this blob meanwhile, and no collection takes it. */
static int claim(struct store_writer *w, const char *digest, struct err *err)
{
    struct store *s = w->store;
    uint64_t size;
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    if (!digest) {
        snprintf(w->part, sizeof(w->part), "anonymous-%llu.part",
                 (unsigned long long)++s->n_anonymous);
        s->n_anonymous_open++;
    } else if ((rc = store_blob_size(s, digest, &size, err)) == 1) {
        rc = err_set(err, E_EXISTS, "blob %s is in the store already", digest);
    } else if (rc == 0) {
        struct store_held *h = store_held_find_locked(s, digest);
        if (h && h->is_written)
            rc = err_set(err, E_BUSY, "blob %s is being written by somebody else", digest);
    }
    if (rc == 0 && digest) {
        store_hold_locked(s, digest)->is_written = true;
        snprintf(w->digest, sizeof(w->digest), "%s", digest);
        snprintf(w->part, sizeof(w->part), "%s.part", digest_hex(digest));
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static void writer_free(struct store_writer *w)
{
    struct store *s = w->store;
    hashing_stop(w->hashing);
    if (w->fd >= 0)
        close(w->fd);
    pthread_mutex_lock(&s->lock);
    if (w->digest[0]) {
        store_held_find_locked(s, w->digest)->is_written = false;
        store_unhold_locked(s, w->digest);
    } else if (w->part[0]) {
        s->n_anonymous_open--;
    }
    pthread_mutex_unlock(&s->lock);
    mem_free(w);
}

static void remove_part(struct store_writer *w)
{
    char name[BLOB_NAME_BYTES];
    unlinkat(w->store->ingest_fd, w->part, 0);
    state_name(w, name);
    if (w->digest[0])
        unlinkat(w->store->ingest_fd, name, 0);
}

int store_write_begin(struct store *s, const char *digest, uint64_t size, struct store_writer **ret,
                      uint64_t *ret_offset, struct err *err)
{
    struct store_writer *w = mem_alloc(sizeof(*w));
    *w = (struct store_writer){.store = s, .size = size, .fd = -1};
    int rc = claim(w, digest, err);
    if (rc == 0)
        rc = part_open(w, err);
    if (rc < 0) {
        writer_free(w);
        return rc;
    }
    *ret = w;
    *ret_offset = w->pushed_bytes = w->n_bytes;
    w->saved_ms = loop_now_ms();
    return 0;
}

int store_write(struct store_writer *w, const void *p, size_t n, struct err *err)
{
    const char *at = p;
    if (n > w->size - w->n_bytes)
        return err_set(err, E_CORRUPT, "blob %s has more than the %llu bytes that were declared",
                       w->digest, (unsigned long long)w->size);
    while (n) {
        ssize_t done = write(w->fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return store_io_error(w->store, w->size == UINT64_MAX ? n : w->size - w->n_bytes, err,
                                  "writing a blob");
        hash_add(w, at, (size_t)done);
        at += done;
        n -= (size_t)done;
    }
    return keep_up(w, err);
}

int store_write_restart(struct store_writer *w, struct err *err)
{
    char name[BLOB_NAME_BYTES];
    state_name(w, name);
    if (w->digest[0])
        unlinkat(w->store->ingest_fd, name, 0);
    hash_settle(w);
    sha256_init(&w->hash);
    w->n_bytes = w->saved_bytes = w->pushed_bytes = 0;
    return make_room(w, err);
}

void store_write_abandon(struct store_writer *w, bool keep)
{
    struct err err = ERR_INIT;
    if (!keep || !w->digest[0] || checkpoint(w, &err) < 0)
        remove_part(w);
    writer_free(w);
}

static int publish(struct store_writer *w, const char *digest, struct err *err)
{
    struct store *s = w->store;
    bool ok = fsync(w->fd) == 0 && fchmod(w->fd, 0444) == 0 &&
              renameat(s->ingest_fd, w->part, s->blobs_fd, digest_hex(digest)) == 0 &&
              fsync(s->blobs_fd) == 0;
    return ok ? 0 : store_io_error(s, w->n_bytes, err, "publishing a blob");
}

static int commit(struct store_writer *w, bool hold, char ret_digest[OCI_DIGEST_CHARS + 1],
                  struct err *err)
{
    char is[OCI_DIGEST_CHARS + 1];
    const uint64_t n = w->n_bytes;
    int rc = 0;
    if (w->size != UINT64_MAX && n < w->size) {
        rc = err_set(err, E_CORRUPT, "blob %s has %llu bytes instead of %llu", w->digest,
                     (unsigned long long)n, (unsigned long long)w->size);
        store_write_abandon(w, true); /* what is there may well be its beginning */
        return rc;
    }
    hash_settle(w);
    sha256_end(&w->hash, is);
    if (w->digest[0] && strcmp(is, w->digest) != 0)
        rc =
            err_set(err, E_CORRUPT,
                    "what came for blob %s is %s: it was not taken, for the copy there is damaged, "
                    "or something on the way changed it",
                    w->digest, is);
    if (rc == 0 && hold)
        store_hold(w->store, is); /* before it is there to be collected */
    if (rc == 0) {
        rc = publish(w, is, err);
        if (rc < 0 && hold)
            store_unhold(w->store, is);
    }
    remove_part(w); /* of a published one, only the state is left */
    writer_free(w);
    if (rc == 0 && ret_digest)
        memcpy(ret_digest, is, sizeof(is));
    return rc;
}

int store_write_commit(struct store_writer *w, char ret_digest[OCI_DIGEST_CHARS + 1],
                       struct err *err)
{
    return commit(w, false, ret_digest, err);
}

int store_write_commit_held(struct store_writer *w, char ret_digest[OCI_DIGEST_CHARS + 1],
                            struct err *err)
{
    return commit(w, true, ret_digest, err);
}

int store_put(struct store *s, const void *p, size_t n, char ret_digest[OCI_DIGEST_CHARS + 1],
              struct err *err)
{
    struct store_writer *w;
    uint64_t offset;
    int rc = store_write_begin(s, NULL, n, &w, &offset, err);
    if (rc < 0)
        return rc;
    rc = store_write(w, p, n, err);
    if (rc < 0) {
        store_write_abandon(w, false);
        return rc;
    }
    return store_write_commit(w, ret_digest, err);
}
