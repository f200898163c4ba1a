/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the exporting half of load.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/load.h"
#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/tar.h"

struct store_export {
    struct store *store;
    char digest[OCI_DIGEST_CHARS + 1];
    struct arena arena;
    struct oci_manifest m;
    struct buf manifest; /* its text */
    struct buf pending;  /* headers and padding that are due */
    size_t pending_at;
    uint32_t next; /* layers, then the config, then the manifest and the end */
    int fd;        /* of the blob that is being sent */
    uint64_t left; /* of it */
    uint64_t size;
    bool is_held, is_over;
};

static const struct oci_descriptor *blob_at(const struct store_export *e, uint32_t i)
{
    return i < e->m.n_layers ? &e->m.layers[i] : &e->m.config;
}

/* The same blob need be sent only once. */
static bool is_repeated(const struct store_export *e, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++) {
        if (strcmp(blob_at(e, j)->digest, blob_at(e, i)->digest) == 0)
            return true;
    }
    return false;
}

static int put_blob_header(struct buf *out, const struct oci_descriptor *d, struct err *err)
{
    char path[96] = "blobs/sha256/";
    memcpy(path + 13, digest_hex(d->digest), 65);
    return tar_put_file(out, path, d->size, err);
}

static int put_dirs(struct buf *out, struct err *err)
{
    int rc = tar_put_dir(out, "blobs", err);
    return rc < 0 ? rc : tar_put_dir(out, "blobs/sha256", err);
}

static int put_manifest(struct store_export *e, struct buf *out, struct err *err)
{
    int rc = tar_put_file(out, "manifest.json", e->manifest.len, err);
    buf_append(out, e->manifest.data, e->manifest.len);
    tar_put_padding(out, e->manifest.len);
    tar_put_end(out);
    return rc < 0 ? rc : buf_status(out, "an archive", err);
}

/* What the whole stream takes: everything but the blobs' bytes is made once, and thrown away. */
static int total_of(struct store_export *e, uint64_t *ret, struct err *err)
{
    struct buf out;
    uint64_t sum = 0;
    buf_init(&out, (64u << 20));
    int rc = put_dirs(&out, err);
    for (uint32_t i = 0; rc == 0 && i <= e->m.n_layers; i++) {
        const struct oci_descriptor *d = blob_at(e, i);
        if (is_repeated(e, i))
            continue;
        rc = put_blob_header(&out, d, err);
        tar_put_padding(&out, d->size);
        sum += d->size; /* the manifest's sum was checked */
    }
    if (rc == 0)
        rc = put_manifest(e, &out, err);
    *ret = sum + out.len;
    buf_release(&out);
    return rc;
}

static void holds(struct store_export *e, void (*fn)(struct store *s, const char *digest))
{
    fn(e->store, e->digest);
    for (uint32_t i = 0; i <= e->m.n_layers; i++)
        fn(e->store, blob_at(e, i)->digest);
}

int store_export_begin(struct store *s, const char *digest, struct store_export **ret,
                       uint64_t *ret_total, struct err *err)
{
    struct store_export *e = mem_alloc(sizeof(*e));
    *e = (struct store_export){.store = s, .fd = -1};
    memcpy(e->digest, digest, sizeof(e->digest));
    arena_init(&e->arena, 64u << 20);
    buf_init(&e->pending, LIMIT_OCI_MANIFEST_BYTES + (64u << 10));
    int rc = store_blob_read(s, digest, LIMIT_OCI_MANIFEST_BYTES, &e->manifest, err);
    if (rc == 0)
        rc = oci_manifest_parse((struct str){e->manifest.data, e->manifest.len}, &e->arena, &e->m,
                                err);
    if (rc == 0) {
        holds(e, store_hold);
        e->is_held = true;
        rc = total_of(e, ret_total, err);
    }
    if (rc == 0)
        rc = put_dirs(&e->pending, err);
    if (rc < 0) {
        store_export_end(e);
        return err_wrap(err, "exporting model %s", digest);
    }
    *ret = e;
    return 0;
}

void store_export_end(struct store_export *e)
{
    if (!e)
        return;
    if (e->is_held)
        holds(e, store_unhold);
    if (e->fd >= 0)
        close(e->fd);
    buf_release(&e->manifest);
    buf_release(&e->pending);
    arena_release(&e->arena);
    mem_free(e);
}

/* Makes something to send, or is over. */
static int advance(struct store_export *e, struct err *err)
{
    buf_clear(&e->pending);
    e->pending_at = 0;
    if (e->fd >= 0) {
        close(e->fd);
        e->fd = -1;
        tar_put_padding(&e->pending, e->size);
    }
    while (e->next <= e->m.n_layers && is_repeated(e, e->next))
        e->next++;
    if (e->next > e->m.n_layers) {
        e->is_over = e->next++ > e->m.n_layers + 1;
        return e->is_over ? 0 : put_manifest(e, &e->pending, err);
    }
    const struct oci_descriptor *d = blob_at(e, e->next++);
    uint64_t size = 0;
    int rc = store_blob_size(e->store, d->digest, &size, err);
    if (rc == 0 || (rc == 1 && size != d->size))
        return err_set(err, E_CORRUPT,
                       "blob %s is missing or has not the size that the manifest says: pull the "
                       "model again",
                       d->digest);
    if (rc == 1)
        rc = store_blob_open(e->store, d->digest, &e->fd, err);
    e->left = e->size = d->size;
    return rc < 0 ? rc : put_blob_header(&e->pending, d, err);
}

int store_export_read(struct store_export *e, void *p, size_t n, size_t *ret_n, struct err *err)
{
    *ret_n = 0;
    while (!e->is_over) {
        if (e->pending_at < e->pending.len) {
            *ret_n = MIN_OF(n, e->pending.len - e->pending_at);
            memcpy(p, e->pending.data + e->pending_at, *ret_n);
            e->pending_at += *ret_n;
            return 0;
        }
        if (e->fd >= 0 && e->left) {
            ssize_t got = read(e->fd, p, (size_t)MIN_OF((uint64_t)n, e->left));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return got < 0 ? store_io_error(e->store, 0, err, "reading a blob")
                               : err_set(err, E_CORRUPT, "a blob became shorter while it was read");
            e->left -= (uint64_t)got;
            *ret_n = (size_t)got;
            return 0;
        }
        int rc = advance(e, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
