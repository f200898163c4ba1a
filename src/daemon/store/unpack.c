/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that are archives, unpacked once: each file in them becomes a blob like any other, and
 * unpacked/HEX, named by the layer's digest, says which path is which blob.  The record is written
 * after the blobs, by rename, so that one that is there is whole; collection keeps what a record of
 * a needed layer names, and forgets the record with its layer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/inflate.h"
#include "lib/codec/json.h"
#include "lib/codec/tar.h"

#define RECORD_MAX_BYTES (16u << 20)
#define READ_BYTES       (1u << 20)

/* ---- records ---- */

static int record_parse(struct str text, struct arena *a, struct unpacked *ret, struct err *err)
{
    json_t *root = NULL;
    const json_t *arr = NULL;
    int rc = json_parse(text, &root, err);
    if (rc == 0)
        rc = json_field_arr(root, "files", &arr, err);
    size_t n = json_array_size(arr);
    if (rc >= 0 && (!arr || n > LIMIT_OCI_LAYERS))
        rc = err_set(err, E_FORMAT, "it has no array 'files', or too long a one");
    ret->files = rc < 0 ? NULL : arena_try_alloc(a, MAX_OF(n, 1) * sizeof(*ret->files), err);
    if (rc >= 0)
        rc = ret->files ? 0 : -err->code;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *o = json_array_get(arr, i);
        struct str path = {0}, digest = {0};
        int64_t size = -1;
        struct store_file *f = &ret->files[i];
        if (json_field_str(o, "path", &path, err) < 1 || oci_path_check(path, err) < 0 ||
            json_field_str(o, "digest", &digest, err) < 1 || oci_digest_check(digest, err) < 0 ||
            json_field_int(o, "size", 0, INT64_MAX, &size, err) < 1) {
            rc = err_set(err, E_FORMAT, "file %zu of it is none", i);
            break;
        }
        f->path = arena_try_dup(a, path.p, path.len, err);
        f->size = (uint64_t)size;
        memcpy(f->digest, digest.p, OCI_DIGEST_CHARS);
        rc = f->path ? 0 : -err->code;
        f->role = rc == 0 ? oci_role_of_name(f->path) : ROLE_FILE;
    }
    ret->n_files = rc == 0 ? (uint32_t)n : 0;
    json_decref(root);
    return rc;
}

int unpacked_read(struct store *s, const char *layer, struct arena *a, struct unpacked *ret,
                  struct err *err)
{
    char bytes[16384];
    struct buf text;
    ssize_t n = 0;
    *ret = (struct unpacked){0};
    int fd = openat(s->unpacked_fd, digest_hex(layer), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : store_io_error(s, 0, err, "opening what a layer unpacks to");
    buf_init(&text, RECORD_MAX_BYTES);
    while (buf_status(&text, "unpacked", err) == 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
        buf_append(&text, bytes, (size_t)n);
    close(fd);
    int rc = n < 0 ? store_io_error(s, 0, err, "reading what a layer unpacks to")
                   : buf_status(&text, "unpacked", err);
    if (rc == 0)
        rc = record_parse((struct str){text.data, text.len}, a, ret, err);
    buf_release(&text);
    return rc < 0 ? rc : 1;
}

void unpacked_forget(struct store *s, const char *layer)
{
    unlinkat(s->unpacked_fd, digest_hex(layer), 0);
}

static int record_write(struct store *s, const char *layer, const struct unpacked *u,
                        struct err *err)
{
    struct buf text;
    char name[BLOB_NAME_BYTES];
    buf_init(&text, RECORD_MAX_BYTES);
    buf_append_str(&text, "{\"files\":[");
    for (uint32_t i = 0; i < u->n_files; i++) {
        buf_append_str(&text, i ? ",{\"path\":" : "{\"path\":");
        json_put_str(&text, str_from(u->files[i].path));
        buf_printf(&text, ",\"digest\":\"%s\",\"size\":%llu}", u->files[i].digest,
                   (unsigned long long)u->files[i].size);
    }
    buf_append_str(&text, "]}\n");
    int rc = buf_status(&text, "what a layer unpacks to", err);
    snprintf(name, sizeof(name), "unpacked/%s", digest_hex(layer));
    if (rc == 0)
        rc = store_write_file(s, name, text.data, text.len, err);
    if (rc == 0 && fsync(s->unpacked_fd) < 0)
        rc = store_io_error(s, 0, err, "writing what a layer unpacks to");
    buf_release(&text);
    return rc;
}

/* ---- unpacking ---- */

struct unpacking {
    struct store *store;
    struct arena *arena;              /* the caller's */
    const atomic_bool *is_called_off; /* NULL: never */
    struct tar_reader *tar;
    struct store_writer *writer; /* of the entry that is open */
    struct unpacked u;
    uint32_t cap;
};

static int check_wanted(const struct unpacking *un, struct err *err)
{
    return un->is_called_off && atomic_load(un->is_called_off)
               ? err_set(err, E_CANCELED, "unpacking was called off")
               : 0;
}

static int on_begin(void *ctx, const struct tar_entry *e, struct err *err)
{
    struct unpacking *un = ctx;
    struct unpacked *u = &un->u;
    uint64_t offset;
    if (e->is_dir || check_wanted(un, err) < 0)
        return e->is_dir ? 0 : -err->code;
    for (uint32_t i = 0; i < u->n_files; i++) {
        if (strcmp(u->files[i].path, e->path) == 0)
            return err_set(err, E_FORMAT, "the archive has the file '%s' twice", e->path);
    }
    if (u->n_files == un->cap) {
        uint32_t cap = un->cap ? 2 * un->cap : 16;
        struct store_file *more = arena_try_alloc(un->arena, cap * sizeof(*more), err);
        if (!more)
            return -err->code;
        if (u->n_files)
            memcpy(more, u->files, u->n_files * sizeof(*more));
        u->files = more;
        un->cap = cap;
    }
    struct store_file *f = &u->files[u->n_files];
    *f = (struct store_file){.size = e->size, .role = oci_role_of_name(e->path)};
    f->path = arena_try_dup(un->arena, e->path, strlen(e->path), err);
    if (!f->path)
        return -err->code;
    return store_write_begin(un->store, NULL, e->size, &un->writer, &offset, err);
}

static int on_data(void *ctx, const void *p, size_t n, struct err *err)
{
    struct unpacking *un = ctx;
    int rc = check_wanted(un, err);
    return rc < 0 ? rc : store_write(un->writer, p, n, err);
}

static int on_end(void *ctx, struct err *err)
{
    struct unpacking *un = ctx;
    if (!un->writer) /* a folder */
        return 0;
    struct store_writer *w = un->writer;
    un->writer = NULL;
    int rc = store_write_commit_held(w, un->u.files[un->u.n_files].digest, err);
    un->u.n_files += rc == 0;
    return rc;
}

static int to_tar(void *ctx, const void *p, size_t n, struct err *err)
{
    struct unpacking *un = ctx;
    return tar_reader_feed(un->tar, p, n, err);
}

static enum inflate_kind inflate_of(enum oci_media media)
{
    return oci_media_packing(media) == PACKING_TAR_GZIP   ? INFLATE_GZIP
           : oci_media_packing(media) == PACKING_TAR_ZSTD ? INFLATE_ZSTD
                                                          : INFLATE_NONE;
}

/* Pushes the blob through. */
static int stream(struct unpacking *un, const struct oci_descriptor *d, struct err *err)
{
    struct inflate *z = NULL;
    int fd = -1;
    ssize_t n = 0;
    char *piece = mem_try_alloc(1, READ_BYTES, err);
    int rc = piece ? store_blob_open(un->store, d->digest, &fd, err) : -err->code;
    if (rc == 0)
        rc = inflate_new(inflate_of(d->media), to_tar, un, &z, err);
    while (rc == 0 && (n = read(fd, piece, READ_BYTES)) > 0)
        rc = inflate_feed(z, piece, (size_t)n, err);
    if (rc == 0 && n < 0)
        rc = store_io_error(un->store, 0, err, "reading a layer");
    if (rc == 0)
        rc = inflate_finish(z, err);
    if (rc == 0)
        rc = tar_reader_finish(un->tar, err);
    inflate_free(z);
    mem_free(piece);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What was brought goes again. */
static void drop(const struct unpacking *un)
{
    struct digest_set gone = {0};
    struct err ignored = ERR_INIT;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < un->u.n_files; i++)
        rc = digest_set_add(&gone, un->u.files[i].digest, &ignored);
    store_drop_unneeded(un->store, &gone);
    digest_set_release(&gone);
}

static int unpack(struct store *s, const struct oci_descriptor *d, struct arena *a,
                  const atomic_bool *is_called_off, struct unpacked *ret, struct err *err)
{
    struct unpacking un = {.store = s, .arena = a, .is_called_off = is_called_off};
    const struct tar_sink sink = {&un, on_begin, on_data, on_end};
    const struct tar_limits limits = {LIMIT_OCI_BLOB_BYTES, (uint64_t)2 * LIMIT_OCI_LAYERS};
    un.tar = tar_reader_new(&sink, &limits);
    int rc = stream(&un, d, err);
    if (un.writer)
        store_write_abandon(un.writer, false);
    tar_reader_free(un.tar);
    if (rc == 0 && un.u.n_files > LIMIT_OCI_LAYERS)
        rc = err_set(err, E_LIMIT, "the archive has more than %u files", LIMIT_OCI_LAYERS);
    if (rc == 0)
        rc = record_write(s, d->digest, &un.u, err);
    if (rc < 0)
        drop(&un);
    for (uint32_t i = 0; i < un.u.n_files; i++)
        store_unhold(s, un.u.files[i].digest);
    if (rc < 0)
        return err_wrap(err, "layer %s", d->digest);
    *ret = un.u;
    return 0;
}

bool unpacked_find(struct store *s, const struct oci_descriptor *d, struct arena *a,
                   struct unpacked *ret)
{
    struct err ignored = ERR_INIT;
    /* A record that cannot be read is made again, and so are blobs that went. */
    bool is_there = unpacked_read(s, d->digest, a, ret, &ignored) == 1;
    for (uint32_t i = 0; is_there && i < ret->n_files; i++) {
        uint64_t size;
        is_there = store_blob_size(s, ret->files[i].digest, &size, &ignored) == 1 &&
                   size == ret->files[i].size;
    }
    return is_there;
}

int unpacked_get(struct store *s, const struct oci_descriptor *d, struct arena *a,
                 const atomic_bool *is_called_off, struct unpacked *ret, struct err *err)
{
    if (unpacked_find(s, d, a, ret)) /* without waiting for another archive */
        return 0;
    pthread_mutex_lock(&s->unpack_lock);
    int rc = unpacked_find(s, d, a, ret) ? 0 : unpack(s, d, a, is_called_off, ret, err);
    pthread_mutex_unlock(&s->unpack_lock);
    return rc;
}
