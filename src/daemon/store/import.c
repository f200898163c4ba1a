/* SPDX-License-Identifier: Apache-2.0 */
/* Implements import.h. */
#include "daemon/store/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"

#define COPY_BYTES (256u << 10)

struct import {
    struct store *store;
    const char *path;
    int root_fd, blobs_fd, manifests_fd;
    store_import_fn fn;
    void *ctx;
    uint64_t done_bytes, total_bytes;
    struct store_import_report *report;
    json_t *models; /* owned */
};

static int tell(struct import *im, const char *note, struct err *err)
{
    im->report->n_skipped += note != NULL;
    return im->fn(im->ctx, im->done_bytes, im->total_bytes, note)
               ? 0
               : err_set(err, E_CANCELED, "the import was stopped");
}

/* ---- reading the other store ---- */

/* A regular file of the other store: 1; 0 when it is not there. */
static int open_file(int dir_fd, const char *name, int *ret_fd, struct stat *ret, struct err *err)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_set_sys(err, E_IO, "opening %.100s there", name);
    if (fstat(fd, ret) == 0 && S_ISREG(ret->st_mode)) {
        *ret_fd = fd;
        return 1;
    }
    close(fd);
    return err_set(err, E_CORRUPT, "%.100s there is not a regular file", name);
}

/* The whole of a small one, into out, initialised by the caller. */
static int read_file(int dir_fd, const char *name, struct buf *out, struct err *err)
{
    char bytes[16384];
    struct stat st;
    ssize_t n = 0;
    int fd = -1;
    int rc = open_file(dir_fd, name, &fd, &st, err);
    if (rc == 0)
        return err_set(err, E_NOTFOUND, "%.100s is not there", name);
    if (rc < 0)
        return rc;
    while (buf_status(out, name, err) == 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
        buf_append(out, bytes, (size_t)n);
    close(fd);
    return n < 0 ? err_set_sys(err, E_IO, "reading %.100s there", name)
                 : buf_status(out, name, err);
}

static int read_json(struct import *im, const char *name, json_t **ret, struct err *err)
{
    struct buf text;
    buf_init(&text, LIMIT_STORE_INDEX_BYTES);
    int rc = read_file(im->root_fd, name, &text, err);
    if (rc == 0)
        rc = json_parse((struct str){text.data, text.len}, ret, err);
    buf_release(&text);
    return rc < 0 ? err_wrap(err, "%s", name) : 0;
}

static int open_dirs(struct import *im, struct err *err)
{
    static const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    im->root_fd = open(im->path, flags);
    if (im->root_fd < 0)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO, "opening the folder %.300s",
                           im->path);
    if (faccessat(im->root_fd, "layout.json", F_OK, 0) < 0 ||
        faccessat(im->root_fd, "models.json", F_OK, 0) < 0)
        return err_set(err, E_UNSUPPORTED,
                       "%.300s is no store of Docker Model Runner: it has no layout.json and "
                       "models.json",
                       im->path);
    im->blobs_fd = openat(im->root_fd, "blobs/sha256", flags);
    im->manifests_fd = openat(im->root_fd, "manifests/sha256", flags);
    return 0; /* an empty store has neither */
}

static int open_store(struct import *im, struct err *err)
{
    json_t *layout = NULL;
    struct str version = STR_LIT("");
    int rc = open_dirs(im, err);
    if (rc == 0)
        rc = read_json(im, "layout.json", &layout, err);
    if (rc == 0)
        rc = json_field_str(layout, "version", &version, err);
    if (rc >= 0 && !str_has_prefix(version, STR_LIT("1.")))
        rc = err_set(err, E_UNSUPPORTED, "its layout has the version '%.*s'; berth reads 1.x",
                     STR_ARG(version));
    json_decref(layout);
    if (rc >= 0)
        rc = read_json(im, "models.json", &im->models, err);
    if (rc >= 0 && !json_is_array(json_object_get(im->models, "models")) &&
        !json_is_null(json_object_get(im->models, "models")))
        rc = err_set(err, E_FORMAT, "models.json has no array 'models'");
    return rc < 0 ? err_wrap(err, "the store %.300s", im->path) : 0;
}

/* ---- blobs ---- */

/* Reads fd to its end: into the writer, or only to know the digest. */
static int stream(struct import *im, int fd, struct store_writer *w,
                  char ret_digest[OCI_DIGEST_CHARS + 1], struct err *err)
{
    struct sha256 hash;
    ssize_t n = 0;
    char *piece = mem_try_alloc(1, COPY_BYTES, err);
    int rc = piece ? 0 : -err->code;
    sha256_init(&hash);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    while (rc == 0 && (n = read(fd, piece, COPY_BYTES)) > 0) {
        if (w)
            rc = store_write(w, piece, (size_t)n, err);
        else
            sha256_add(&hash, piece, (size_t)n);
        im->done_bytes += (uint64_t)n;
        if (rc == 0)
            rc = tell(im, NULL, err);
    }
    if (rc == 0 && n < 0)
        rc = err_set_sys(err, E_IO, "reading a blob there");
    if (!w)
        sha256_end(&hash, ret_digest);
    mem_free(piece);
    return rc;
}

static int blob_copy(struct import *im, int fd, const char *digest, uint64_t size, struct err *err)
{
    struct store_writer *w;
    uint64_t offset = 0;
    int rc = store_write_begin(im->store, digest, size, &w, &offset, err);
    if (rc == -E_EXISTS)
        return 0;
    if (rc < 0)
        return rc;
    if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
        rc = err_set_sys(err, E_IO, "reading a blob there");
    im->done_bytes += offset;
    if (rc == 0)
        rc = stream(im, fd, w, NULL, err);
    if (rc < 0) {
        store_write_abandon(w, true);
        return rc;
    }
    rc = store_write_commit(w, NULL, err);
    im->report->copied_bytes += rc == 0 ? size : 0;
    return rc;
}

/* 1: linked; 0: it must be copied. */
static int blob_link(struct import *im, int fd, const char *digest, uint64_t size, struct err *err)
{
    char is[OCI_DIGEST_CHARS + 1];
    struct stat st, ours;
    struct store *s = im->store;
    if (fstat(fd, &st) < 0 || fstat(s->blobs_fd, &ours) < 0 || st.st_dev != ours.st_dev)
        return 0;
    int rc = stream(im, fd, NULL, is, err);
    if (rc < 0)
        return rc;
    if (strcmp(is, digest) != 0)
        return err_set(err, E_CORRUPT, "its blob %s has other bytes (%s)", digest, is);
    if (fsync(fd) == 0 &&
        linkat(im->blobs_fd, digest_hex(digest), s->blobs_fd, digest_hex(digest), 0) == 0) {
        im->report->linked_bytes += size;
        return fsync(s->blobs_fd) == 0 ? 1 : store_io_error(s, 0, err, "publishing a blob");
    }
    im->done_bytes -= MIN_OF(im->done_bytes, size);
    return lseek(fd, 0, SEEK_SET) < 0 ? err_set_sys(err, E_IO, "reading a blob there") : 0;
}

static int blob_take(struct import *im, const struct oci_descriptor *d, struct err *err)
{
    struct stat st;
    uint64_t size = 0;
    int fd = -1;
    int rc = store_blob_size(im->store, d->digest, &size, err);
    if (rc == 1) {
        im->done_bytes += size;
        return tell(im, NULL, err);
    }
    if (rc == 0)
        rc = open_file(im->blobs_fd, digest_hex(d->digest), &fd, &st, err);
    if (rc == 0)
        return err_set(err, E_NOTFOUND, "its blob %s is not there", d->digest);
    if (rc < 0)
        return rc;
    if ((uint64_t)st.st_size != d->size)
        rc = err_set(err, E_CORRUPT, "its blob %s has %llu bytes instead of %llu", d->digest,
                     (unsigned long long)st.st_size, (unsigned long long)d->size);
    if (rc == 1)
        rc = blob_link(im, fd, d->digest, d->size, err);
    if (rc == 0)
        rc = blob_copy(im, fd, d->digest, d->size, err);
    close(fd);
    return rc < 0 ? rc : 0;
}

/* ---- models ---- */

static int name_take(struct import *im, const char *tag, const char *digest, struct err *err)
{
    struct oci_reference ref;
    struct buf name;
    char there[OCI_DIGEST_CHARS + 1], note[ERR_MSG_MAX];
    struct err why = ERR_INIT;
    buf_init(&name, LIMIT_MODEL_NAME_BYTES);
    int rc = oci_reference_parse(str_from(tag), NULL, &ref, &why);
    if (rc == 0) {
        oci_reference_put(&ref, &name);
        rc = buf_status(&name, "a name", &why);
    }
    if (rc < 0) {
        rc = tell(im, why.msg, err);
    } else if (store_resolve(im->store, buf_str(&name), there, &why) == 0) {
        snprintf(note, sizeof(note), "the name %.200s means %s here already and stays with it",
                 buf_str(&name), there);
        rc = strcmp(there, digest) == 0 ? 0 : tell(im, note, err);
    } else {
        rc = store_tag(im->store, buf_str(&name), digest, err);
        im->report->n_names += rc == 0;
    }
    buf_release(&name);
    return rc;
}

/* The blobs first, then the manifest, then the names. */
static int model_put(struct import *im, const json_t *entry, const struct buf *text,
                     const struct oci_manifest *m, const char *digest, struct err *err)
{
    const json_t *tags = json_object_get(entry, "tags");
    char is[OCI_DIGEST_CHARS + 1];
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i <= m->n_layers; i++)
        rc = blob_take(im, i < m->n_layers ? &m->layers[i] : &m->config, err);
    if (rc == 0)
        rc = store_put(im->store, text->data, text->len, is, err);
    if (rc == 0)
        rc = store_tag(im->store, NULL, digest, err);
    im->report->n_models += rc == 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(tags); i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        rc = tag ? name_take(im, tag, digest, err) : 0;
    }
    return rc;
}

static int manifest_read(struct import *im, const json_t *entry, struct buf *text,
                         struct oci_manifest *m, struct arena *a, char digest[OCI_DIGEST_CHARS + 1],
                         struct err *err)
{
    struct sha256 hash;
    char is[OCI_DIGEST_CHARS + 1];
    struct str id;
    int rc = json_field_str(entry, "id", &id, err);
    if (rc == 0)
        rc = err_set(err, E_FORMAT, "'id' is missing");
    if (rc == 1)
        rc = oci_digest_check(id, err);
    if (rc == 0) {
        memcpy(digest, id.p, OCI_DIGEST_CHARS);
        digest[OCI_DIGEST_CHARS] = '\0';
        rc = read_file(im->manifests_fd, digest_hex(digest), text, err);
    }
    if (rc < 0)
        return rc;
    sha256_init(&hash);
    sha256_add(&hash, text->data, text->len);
    sha256_end(&hash, is);
    if (strcmp(is, digest) != 0)
        return err_set(err, E_CORRUPT, "its manifest has other bytes (%s)", is);
    rc = oci_manifest_parse((struct str){text->data, text->len}, a, m, err);
    return rc < 0 ? rc : oci_manifest_check_model(m, err);
}

static void holds(struct store *s, const struct oci_manifest *m, const char *digest,
                  void (*fn)(struct store *s, const char *digest))
{
    fn(s, digest);
    fn(s, m->config.digest);
    for (uint32_t i = 0; i < m->n_layers; i++)
        fn(s, m->layers[i].digest);
}

/* Adds up what there is to do, or takes the model.  Only what concerns our own store, or a wish to
 * stop, is an error. */
static int model_take(struct import *im, const json_t *entry, bool is_sum, struct err *err)
{
    struct arena a;
    struct buf text;
    struct oci_manifest m;
    char digest[OCI_DIGEST_CHARS + 1] = "", note[ERR_MSG_MAX];
    struct err why = ERR_INIT;
    arena_init(&a, 64u << 20);
    buf_init(&text, LIMIT_OCI_MANIFEST_BYTES);
    int rc = manifest_read(im, entry, &text, &m, &a, digest, &why);
    if (rc == 0 && is_sum) {
        im->total_bytes += m.total_bytes;
    } else if (rc == 0) {
        holds(im->store, &m, digest, store_hold);
        rc = model_put(im, entry, &text, &m, digest, &why);
        holds(im->store, &m, digest, store_unhold);
    }
    buf_release(&text);
    arena_release(&a);
    if (rc == 0 || is_sum)
        return 0;
    if (rc == -E_IO || rc == -E_CANCELED || rc == -E_NOMEM) {
        *err = why;
        return rc;
    }
    snprintf(note, sizeof(note), "model %.80s was passed over: %.400s", digest[0] ? digest : "?",
             why.msg);
    return tell(im, note, err);
}

int store_import(struct store *s, const char *path, store_import_fn fn, void *ctx,
                 struct store_import_report *ret, struct err *err)
{
    struct import im = {.store = s,
                        .path = path,
                        .root_fd = -1,
                        .blobs_fd = -1,
                        .manifests_fd = -1,
                        .fn = fn,
                        .ctx = ctx,
                        .report = ret};
    *ret = (struct store_import_report){0};
    int rc = open_store(&im, err);
    const json_t *models = json_object_get(im.models, "models");
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; rc == 0 && i < json_array_size(models); i++)
            rc = model_take(&im, json_array_get(models, i), pass == 0, err);
    }
    json_decref(im.models);
    const int fds[] = {im.blobs_fd, im.manifests_fd, im.root_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return rc;
}
