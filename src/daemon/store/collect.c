/* SPDX-License-Identifier: Apache-2.0 */
/* What manifests need, what nobody needs, and whether everything is what it says. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/store/prepared.h"
#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/oci/sha256.h"

#define INDEX_DEPTH 4

/* ---- sets of digests ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

int digest_set_add(struct digest_set *d, const char *digest, struct err *err)
{
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 64;
        char(*items)[OCI_DIGEST_CHARS + 1] = mem_try_resize(d->items, cap, sizeof(*items), err);
        if (!items)
            return -err->code;
        d->items = items;
        d->cap = cap;
    }
    memcpy(d->items[d->n++], digest, OCI_DIGEST_CHARS + 1);
    d->is_sorted = false;
    return 0;
}

void digest_set_release(struct digest_set *d)
{
    mem_free(d->items);
    *d = (struct digest_set){0};
}

static void sort(struct digest_set *d)
{
    if (!d->is_sorted && d->n)
        qsort(d->items, d->n, sizeof(*d->items), compare);
    d->is_sorted = true;
}

void digest_set_unite(struct digest_set *d)
{
    size_t n = 0;
    sort(d);
    for (size_t i = 0; i < d->n; i++)
        if (n == 0 || strcmp(d->items[n - 1], d->items[i]) != 0)
            memmove(d->items[n++], d->items[i], sizeof(*d->items));
    d->n = n;
}

bool digest_set_has(struct digest_set *d, const char *digest)
{
    sort(d);
    return d->n && bsearch(digest, d->items, d->n, sizeof(*d->items), compare);
}

static int add_manifest(struct store *s, struct digest_set *d, const char *digest, int depth,
                        struct err *err);

/* An index is a manifest of manifests; some of them need not be here. */
static int add_nested(struct store *s, struct digest_set *d, struct str text, struct arena *a,
                      int depth, struct err *err)
{
    struct oci_index index;
    int rc = oci_index_parse(text, a, &index, err);
    if (rc == 0 && depth >= INDEX_DEPTH)
        rc = err_set(err, E_LIMIT, "indexes are nested more than %d deep", INDEX_DEPTH);
    for (uint32_t i = 0; rc == 0 && i < index.n_manifests; i++) {
        uint64_t size;
        rc = store_blob_size(s, index.manifests[i].digest, &size, err);
        if (rc == 1)
            rc = add_manifest(s, d, index.manifests[i].digest, depth + 1, err);
    }
    return rc;
}

/* A layer, and the blobs that it was unpacked to. */
static int add_layer(struct store *s, struct digest_set *d, const struct oci_descriptor *layer,
                     struct arena *a, struct err *err)
{
    struct unpacked u = {0};
    struct err ignored = ERR_INIT; /* a record that cannot be read is made again when needed */
    int rc = digest_set_add(d, layer->digest, err);
    if (rc < 0 || d->no_unpacked || oci_media_packing(layer->media) == PACKING_RAW ||
        unpacked_read(s, layer->digest, a, &u, &ignored) < 0)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < u.n_files; i++)
        rc = digest_set_add(d, u.files[i].digest, err);
    return rc;
}

static int add_manifest(struct store *s, struct digest_set *d, const char *digest, int depth,
                        struct err *err)
{
    struct arena a;
    struct buf text;
    struct oci_manifest m;
    arena_init(&a, 32u << 20);
    int rc = digest_set_add(d, digest, err);
    if (rc == 0)
        rc = store_blob_read(s, digest, LIMIT_OCI_MANIFEST_BYTES, &text, err);
    else
        buf_init(&text, 1);
    if (rc == 0) {
        struct str t = {text.data, text.len};
        rc = oci_manifest_parse(t, &a, &m, err);
        if (rc == -E_UNSUPPORTED) {
            rc = add_nested(s, d, t, &a, depth, err);
        } else if (rc == 0) {
            rc = digest_set_add(d, m.config.digest, err);
            for (uint32_t i = 0; rc == 0 && i < m.n_layers; i++)
                rc = add_layer(s, d, &m.layers[i], &a, err);
        }
    }
    buf_release(&text);
    arena_release(&a);
    return rc < 0 ? err_wrap(err, "manifest %s", digest) : 0;
}

int digest_set_add_model(struct store *s, struct digest_set *d, const char *digest, struct err *err)
{
    return add_manifest(s, d, digest, 0, err);
}

int digest_set_add_index(struct store *s, struct digest_set *d, const json_t *index,
                         struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1];
    const char *name;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < index_len(index); i++) {
        if (!index_entry(index, i, digest, &name))
            rc =
                err_set(err, E_FORMAT, "entry %zu of index.json has no digest that berth knows", i);
        else
            rc = add_manifest(s, d, digest, 0, err);
    }
    return rc;
}

/* ---- deleting ---- */

int collect_set_locked(struct store *s, const struct digest_set *gone, struct digest_set *keep,
                       struct err *err)
{
    for (size_t i = 0; i < gone->n; i++) {
        const char *digest = gone->items[i];
        if (digest_set_has(keep, digest))
            continue;
        store_prepared_remove(s, digest);
        if (store_held_find_locked(s, digest))
            continue;
        if (unlinkat(s->blobs_fd, digest_hex(digest), 0) < 0 && errno != ENOENT)
            return store_io_error(s, 0, err, "deleting a blob");
        unpacked_forget(s, digest);
    }
    return 0;
}

void store_drop_unneeded(struct store *s, struct digest_set *gone)
{
    struct digest_set keep = {0};
    struct err err = ERR_INIT;
    pthread_mutex_lock(&s->lock);
    bool is_known = gone->n && index_refresh(s, &err) == 0 &&
                    digest_set_add_index(s, &keep, s->index, &err) == 0;
    sort(gone);
    for (size_t i = 0, n; is_known && i < gone->n; i += n) {
        const struct store_held *h = store_held_find_locked(s, gone->items[i]);
        for (n = 1; i + n < gone->n && strcmp(gone->items[i], gone->items[i + n]) == 0;)
            n++;
        if (h && h->n == n && !digest_set_has(&keep, gone->items[i]))
            unlinkat(s->blobs_fd, digest_hex(gone->items[i]), 0);
    }
    pthread_mutex_unlock(&s->lock);
    digest_set_release(&keep);
}

int store_each_file(struct store *s, int dir_fd,
                    int (*fn)(struct store *s, const char *name, const struct stat *st, void *ctx,
                              struct err *err),
                    void *ctx, struct err *err)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int rc = 0;
    if (!dir) {
        rc = store_io_error(s, 0, err, "reading a folder");
        if (fd >= 0)
            close(fd);
        return rc;
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(dir));) {
        struct stat st;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            rc = fn(s, e->d_name, &st, ctx, err);
    }
    closedir(dir);
    return rc;
}

static bool name_digest(const char *name, char ret[OCI_DIGEST_CHARS + 1])
{
    struct err err = ERR_INIT;
    snprintf(ret, OCI_DIGEST_CHARS + 1, "sha256:%.64s", name);
    return strlen(name) >= 64 && oci_digest_check(str_from(ret), &err) == 0;
}

struct collecting {
    struct digest_set keep;
    time_t oldest;
    bool any_age; /* also of a time that a clock set back has not reached again */
    uint64_t n_bytes;
    enum { IN_BLOBS, IN_INGEST, IN_UNPACKED } where;
};

static int collect_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                        struct err *err)
{
    struct collecting *c = ctx;
    char digest[OCI_DIGEST_CHARS + 1];
    (void)err;
    if (!S_ISREG(st->st_mode) || (st->st_mtime > c->oldest && !c->any_age))
        return 0;
    bool has_digest = name_digest(name, digest);
    if (c->where == IN_UNPACKED) { /* of no layer that is needed, or left by an end half way */
        if (!has_digest || name[64] ||
            (!digest_set_has(&c->keep, digest) && !store_held_find_locked(s, digest)))
            unlinkat(s->unpacked_fd, name, 0);
        return 0;
    }
    if (c->where == IN_INGEST) {
        if (has_digest && store_held_find_locked(s, digest))
            return 0;
        if (!has_digest && s->n_anonymous_open)
            return 0;
    } else if (!has_digest || name[64] || digest_set_has(&c->keep, digest) ||
               store_held_find_locked(s, digest)) {
        return 0;
    }
    if (unlinkat(c->where == IN_INGEST ? s->ingest_fd : s->blobs_fd, name, 0) == 0)
        c->n_bytes += (uint64_t)st->st_size;
    return 0;
}

int store_collect(struct store *s, uint64_t min_age_s, uint64_t *ret_bytes, struct err *err)
{
    time_t oldest = time(NULL) - (time_t)MIN_OF(min_age_s, 1u << 30);
    struct collecting c = {.oldest = oldest, .any_age = min_age_s == 0};
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    if (rc == 0 && digest_set_add_index(s, &c.keep, s->index, err) < 0)
        rc = err_wrap(err, "nothing was deleted, since what is needed cannot be told");
    if (rc == 0)
        rc = store_each_file(s, s->blobs_fd, collect_file, &c, err);
    c.where = IN_INGEST;
    if (rc == 0)
        rc = store_each_file(s, s->ingest_fd, collect_file, &c, err);
    c.where = IN_UNPACKED;
    if (rc == 0)
        rc = store_each_file(s, s->unpacked_fd, collect_file, &c, err);
    pthread_mutex_unlock(&s->lock);
    digest_set_release(&c.keep);
    *ret_bytes = c.n_bytes;
    return rc;
}

/* ---- how much there is ---- */

struct counting {
    struct store_usage *u;
    struct digest_set *keep;
    bool is_ingest;
};

static int count_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                      struct err *err)
{
    struct counting *c = ctx;
    char digest[OCI_DIGEST_CHARS + 1];
    (void)s;
    (void)err;
    uint64_t n = (uint64_t)st->st_size;
    if (c->is_ingest) {
        c->u->n_partial += strstr(name, ".part") != NULL;
        c->u->partial_bytes += n;
    } else {
        c->u->n_blobs++;
        c->u->blob_bytes += n;
        if (!name_digest(name, digest) || !digest_set_has(c->keep, digest))
            c->u->unused_bytes += n;
    }
    return 0;
}

/* What the index names, each once, however many names it has. */
static int add_heads(const json_t *index, struct digest_set *ret, struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1];
    const char *name;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < index_len(index); i++)
        if (index_entry(index, i, digest, &name))
            rc = digest_set_add(ret, digest, err);
    digest_set_unite(ret);
    return rc;
}

/* What all models need.  A manifest that cannot be read names nothing here; `berth verify` tells of
 * it. */
static int add_needed(struct store *s, struct digest_set *ret, uint32_t *ret_models,
                      struct err *err)
{
    struct digest_set heads = {0};
    int rc = index_refresh(s, err);
    if (rc == 0)
        rc = add_heads(s->index, &heads, err);
    for (size_t i = 0; rc == 0 && i < heads.n; i++) {
        struct err ignored = ERR_INIT;
        if (digest_set_add_model(s, ret, heads.items[i], &ignored) < 0)
            continue;
    }
    *ret_models = (uint32_t)heads.n;
    digest_set_release(&heads);
    return rc;
}

int store_usage(struct store *s, struct store_usage *ret, struct err *err)
{
    struct digest_set keep = {0};
    struct store_usage u = {0};
    struct counting c = {&u, &keep, false};
    struct statvfs v;
    pthread_mutex_lock(&s->lock);
    int rc = add_needed(s, &keep, &u.n_models, err);
    if (rc == 0)
        rc = store_each_file(s, s->blobs_fd, count_file, &c, err);
    c.is_ingest = true;
    if (rc == 0)
        rc = store_each_file(s, s->ingest_fd, count_file, &c, err);
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        rc = store_prepared_usage(s, &u.n_prepared, &u.prepared_bytes, err);
    if (fstatvfs(s->root_fd, &v) == 0)
        u.free_bytes = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    digest_set_release(&keep);
    if (rc == 0)
        *ret = u;
    return rc;
}

/* ---- verification ---- */

struct verifying {
    struct store_finding f;
    store_finding_fn fn;
    void *ctx;
    uint64_t n_found;
    bool repair;
    char sentence[ERR_MSG_MAX];
};

static int tell(struct verifying *v, const char *digest, const char *name, const char *what,
                struct err *err)
{
    v->f.digest = digest;
    v->f.name = name;
    v->f.what = what;
    v->n_found += what != NULL;
    return v->fn(v->ctx, &v->f) ? 0 : err_set(err, E_CANCELED, "verification was stopped");
}

static int sum_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                    struct err *err)
{
    struct verifying *v = ctx;
    (void)s;
    (void)name;
    (void)err;
    v->f.total_bytes += (uint64_t)st->st_size;
    return 0;
}

/* The file's digest, telling of progress. */
static int hash_file(struct store *s, const char *name, struct verifying *v,
                     char ret[OCI_DIGEST_CHARS + 1], struct err *err)
{
    enum { PIECE = 1 << 20 };
    struct sha256 hash;
    int fd = openat(s->blobs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *piece = fd < 0 ? NULL : mem_try_alloc(1, PIECE, err);
    ssize_t n = -1;
    int rc = 0;
    if (fd < 0)
        return store_io_error(s, 0, err, "opening a blob");
    sha256_init(&hash);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* read ahead further */
    while (rc == 0 && piece && (n = read(fd, piece, PIECE)) > 0) {
        sha256_add(&hash, piece, (size_t)n);
        v->f.done_bytes += (uint64_t)n;
        rc = tell(v, NULL, "", NULL, err);
    }
    if (rc == 0)
        rc = !piece ? -err->code : n < 0 ? store_io_error(s, 0, err, "reading a blob") : 0;
    sha256_end(&hash, ret);
    mem_free(piece);
    close(fd);
    return rc;
}

static int verify_file(struct store *s, const char *name, const struct stat *st, void *ctx,
                       struct err *err)
{
    struct verifying *v = ctx;
    char digest[OCI_DIGEST_CHARS + 1], is[OCI_DIGEST_CHARS + 1];
    if (!name_digest(name, digest) || name[64] || !S_ISREG(st->st_mode)) {
        snprintf(v->sentence, sizeof(v->sentence), "blobs/sha256/%.100s is no blob", name);
        return tell(v, NULL, "", v->sentence, err);
    }
    struct err why = ERR_INIT;
    int rc = hash_file(s, name, v, is, &why);
    if (rc == -E_CANCELED) {
        *err = why;
        return rc;
    }
    if (rc < 0)
        return tell(v, digest, "", why.msg, err);
    if (strcmp(is, digest) == 0)
        return 0;
    bool is_gone = v->repair && unlinkat(s->blobs_fd, name, 0) == 0;
    snprintf(v->sentence, sizeof(v->sentence), "its bytes have the digest %s%s", is,
             is_gone ? "; it was deleted" : "");
    return tell(v, digest, "", v->sentence, err);
}

static int verify_model(struct store *s, const char *digest, const char *name, struct verifying *v,
                        struct err *err)
{
    struct digest_set needs = {.no_unpacked = true};
    struct err why = ERR_INIT;
    int rc = 0;
    if (digest_set_add_model(s, &needs, digest, &why) < 0)
        rc = tell(v, digest, name, why.msg, err);
    for (size_t i = 0; rc == 0 && i < needs.n; i++) {
        uint64_t size;
        struct err e = ERR_INIT;
        int there = store_blob_size(s, needs.items[i], &size, &e);
        if (there < 0)
            rc = tell(v, needs.items[i], name, e.msg, err);
        else if (there == 0 && strcmp(needs.items[i], digest) != 0)
            rc = tell(v, needs.items[i], name, "it is missing: pull the model again", err);
    }
    digest_set_release(&needs);
    return rc;
}

int store_verify(struct store *s, bool repair, store_finding_fn fn, void *ctx, uint64_t *ret_n,
                 struct err *err)
{
    struct verifying v = {.fn = fn, .ctx = ctx, .repair = repair};
    struct store_list l = {0};
    int rc = store_each_file(s, s->blobs_fd, sum_file, &v, err);
    if (rc == 0)
        rc = store_each_file(s, s->blobs_fd, verify_file, &v, err);
    if (rc == 0)
        rc = store_list(s, &l, err);
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        rc = verify_model(s, l.items[i].digest, l.items[i].name, &v, err);
    store_list_release(&l);
    *ret_n = v.n_found;
    return rc;
}
