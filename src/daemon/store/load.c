/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the loading half of load.h. */
#include "daemon/store/load.h"

#include <stdio.h>
#include <string.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/tar.h"

struct store_load {
    struct store *store;
    struct tar_reader *tar;
    struct store_writer *writer;       /* of the blob that comes, or NULL: it is passed over */
    char digest[OCI_DIGEST_CHARS + 1]; /* its name */
    bool in_manifest, has_manifest;
    struct buf manifest;
    struct digest_set held;  /* every blob that was named, held */
    struct digest_set taken; /* those that came into the store by this stream */
};

/* ---- the stream ---- */

/* The digest that an entry's path names: 1; 0 for what is no blob of this kind; E_INVALID. */
static int blob_name(const char *path, char ret[OCI_DIGEST_CHARS + 1], struct err *err)
{
    static const struct str before[] = {STR_LIT("blobs/sha256/"), STR_LIT("manifests/sha256/")};
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        if (!str_has_prefix(str_from(path), before[i]))
            continue;
        char digest[TAR_PATH_BYTES + 8];
        snprintf(digest, sizeof(digest), "sha256:%s", path + before[i].len);
        int rc = oci_digest_check(str_from(digest), err);
        if (rc < 0)
            return err_wrap(err, "the archive's entry '%.200s'", path);
        memcpy(ret, digest, OCI_DIGEST_CHARS + 1);
        return 1;
    }
    return 0;
}

static int blob_begin(struct store_load *l, uint64_t size, struct err *err)
{
    uint64_t offset = 0;
    if (!digest_set_has(&l->held, l->digest)) {
        int rc = digest_set_add(&l->held, l->digest, err);
        if (rc < 0)
            return rc;
        store_hold(l->store, l->digest);
    }
    int rc = store_write_begin(l->store, l->digest, size, &l->writer, &offset, err);
    if (rc == 0 && offset) /* the stream begins at the blob's beginning */
        rc = store_write_restart(l->writer, err);
    if (rc == -E_EXISTS)
        return 0;      /* passed over */
    if (rc == -E_BUSY) /* somebody else writes it too: whoever is first */
        rc = store_write_begin(l->store, NULL, size, &l->writer, &offset, err);
    return rc;
}

static int on_begin(void *ctx, const struct tar_entry *e, struct err *err)
{
    struct store_load *l = ctx;
    l->writer = NULL;
    l->in_manifest = false;
    if (e->is_dir)
        return 0;
    if (strcmp(e->path, "manifest.json") == 0) {
        if (l->has_manifest)
            return err_set(err, E_FORMAT, "the archive has two files manifest.json");
        if (e->size > LIMIT_OCI_MANIFEST_BYTES)
            return err_set(err, E_LIMIT, "the archive's manifest.json has %llu bytes, more than %u",
                           (unsigned long long)e->size, LIMIT_OCI_MANIFEST_BYTES);
        l->in_manifest = l->has_manifest = true;
        return 0;
    }
    int rc = blob_name(e->path, l->digest, err);
    return rc == 1 ? blob_begin(l, e->size, err) : rc;
}

static int on_data(void *ctx, const void *p, size_t n, struct err *err)
{
    struct store_load *l = ctx;
    if (l->in_manifest)
        return buf_append(&l->manifest, p, n) < 0 ? buf_status(&l->manifest, "manifest.json", err)
                                                  : 0;
    return l->writer ? store_write(l->writer, p, n, err) : 0;
}

static int on_end(void *ctx, struct err *err)
{
    struct store_load *l = ctx;
    char is[OCI_DIGEST_CHARS + 1];
    struct store_writer *w = l->writer;
    l->writer = NULL;
    if (!w)
        return 0;
    int rc = store_write_commit(w, is, err);
    if (rc == -E_CORRUPT) /* as the sender made it: nothing that lies here is broken */
        rc = -(int)(err->code = E_FORMAT);
    if (rc == 0)
        rc = digest_set_add(&l->taken, is, err);
    if (rc == 0 && strcmp(is, l->digest) != 0)
        rc = err_set(err, E_FORMAT, "what came for blob %s is %s: it was not taken", l->digest, is);
    return rc;
}

struct store_load *store_load_begin(struct store *s)
{
    struct store_load *l = mem_alloc(sizeof(*l));
    const struct tar_sink sink = {l, on_begin, on_data, on_end};
    const struct tar_limits limits = {LIMIT_OCI_BLOB_BYTES, (uint64_t)4 * LIMIT_OCI_LAYERS};
    l->store = s;
    l->tar = tar_reader_new(&sink, &limits);
    buf_init(&l->manifest, LIMIT_OCI_MANIFEST_BYTES);
    return l;
}

int store_load_feed(struct store_load *l, const void *p, size_t n, struct err *err)
{
    return tar_reader_feed(l->tar, p, n, err);
}

/* ---- the end ---- */

/* Frees l; what it brought goes, unless something needs it by now. */
static void finish(struct store_load *l, bool is_good)
{
    struct store *s = l->store;
    if (l->writer)
        store_write_abandon(l->writer, false);
    for (size_t i = 0; !is_good && i < l->taken.n; i++)
        if (!digest_set_has(&l->held, l->taken.items[i]))
            store_hold(s, l->taken.items[i]); /* of a blob whose name was another */
    if (!is_good)
        store_drop_unneeded(s, &l->taken);
    for (size_t i = 0; !is_good && i < l->taken.n; i++)
        if (!digest_set_has(&l->held, l->taken.items[i]))
            store_unhold(s, l->taken.items[i]);
    for (size_t i = 0; i < l->held.n; i++)
        store_unhold(s, l->held.items[i]);
    tar_reader_free(l->tar);
    buf_release(&l->manifest);
    digest_set_release(&l->held);
    digest_set_release(&l->taken);
    mem_free(l);
}

/* Whether it is a model that can be listed, before it gets into the index. */
static int model_check(struct store_load *l, struct err *err)
{
    struct arena a;
    struct oci_manifest m;
    struct oci_config c;
    struct buf text;
    arena_init(&a, 64u << 20);
    buf_init(&text, 1);
    int rc = oci_manifest_parse((struct str){l->manifest.data, l->manifest.len}, &a, &m, err);
    if (rc == 0)
        rc = oci_manifest_check_model(&m, err);
    if (rc == 0)
        rc = store_blob_read(l->store, m.config.digest, LIMIT_OCI_CONFIG_BYTES, &text, err);
    if (rc == 0)
        rc = oci_config_parse((struct str){text.data, text.len}, m.config.media, &a, &c, err);
    buf_release(&text);
    arena_release(&a);
    return rc;
}

static void drop_one(struct store *s, const char *digest)
{
    struct digest_set gone = {0};
    struct err ignored = ERR_INIT;
    if (digest_set_add(&gone, digest, &ignored) == 0)
        store_drop_unneeded(s, &gone);
    digest_set_release(&gone);
}

int store_load_commit(struct store_load *l, char ret[OCI_DIGEST_CHARS + 1], struct err *err)
{
    struct store_writer *w = NULL;
    uint64_t offset;
    int rc = tar_reader_finish(l->tar, err);
    if (rc == 0 && !l->has_manifest)
        rc = err_set(err, E_FORMAT,
                     "the archive has no manifest.json: it is no model, or is cut short");
    if (rc == 0)
        rc = model_check(l, err);
    if (rc == 0)
        rc = store_write_begin(l->store, NULL, l->manifest.len, &w, &offset, err);
    if (rc == 0) {
        rc = store_write(w, l->manifest.data, l->manifest.len, err);
        if (rc < 0)
            store_write_abandon(w, false);
    }
    if (rc == 0)
        rc = store_write_commit_held(w, ret, err);
    if (rc == 0) {
        rc = store_tag(l->store, NULL, ret, err);
        if (rc < 0)
            drop_one(l->store, ret);
        store_unhold(l->store, ret);
    }
    finish(l, rc == 0);
    if (rc == -E_NOTFOUND) { /* what is missing is the sender's affair: no model was asked for */
        struct err why = *err;
        rc = err_set(err, E_FORMAT, "the archive is not whole: %s", why.msg);
    }
    return rc;
}

void store_load_abandon(struct store_load *l)
{
    if (l)
        finish(l, false);
}
