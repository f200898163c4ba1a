/* SPDX-License-Identifier: Apache-2.0 */
/* index.json: read, changed by whole replacement, and what a change of names means.  Entries and
 * keys that berth does not know are kept as they are. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

size_t index_len(const json_t *index)
{
    return json_array_size(json_object_get(index, "manifests"));
}

static json_t *entry_at(const json_t *index, size_t i)
{
    return json_array_get(json_object_get(index, "manifests"), i);
}

bool index_entry(const json_t *index, size_t i, char digest[OCI_DIGEST_CHARS + 1],
                 const char **name)
{
    const json_t *e = entry_at(index, i);
    const char *d = json_string_value(json_object_get(e, "digest"));
    const char *n =
        json_string_value(json_object_get(json_object_get(e, "annotations"), REF_ANNOTATION));
    struct err err = ERR_INIT;
    if (!d || oci_digest_check(str_from(d), &err) < 0)
        return false;
    memcpy(digest, d, OCI_DIGEST_CHARS + 1);
    *name = n ? n : "";
    return true;
}

const char *index_name_of(const json_t *index, size_t i, const char *digest)
{
    const json_t *e = entry_at(index, i);
    const char *d = json_string_value(json_object_get(e, "digest"));
    const char *n;
    if (!d || strcmp(d, digest) != 0)
        return NULL;
    n = json_string_value(json_object_get(json_object_get(e, "annotations"), REF_ANNOTATION));
    return n ? n : "";
}

uint64_t index_entry_bytes(const json_t *index, size_t i)
{
    json_int_t n = json_integer_value(json_object_get(entry_at(index, i), "size"));
    return n > 0 ? (uint64_t)n : 0;
}

static int read_file(struct store *s, struct buf *out, struct stat *st, struct err *err)
{
    int fd = openat(s->root_fd, "index.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, st) < 0) {
        int rc = store_io_error(s, 0, err, "opening index.json");
        if (fd >= 0)
            close(fd);
        return rc;
    }
    char bytes[16384];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        buf_append(out, bytes, (size_t)n);
    int rc = n < 0 ? store_io_error(s, 0, err, "reading index.json")
                   : buf_status(out, "index.json", err);
    close(fd);
    return rc;
}

int index_load(struct store *s, struct err *err)
{
    struct buf text;
    struct stat st;
    json_t *index = NULL;
    buf_init(&text, LIMIT_STORE_INDEX_BYTES);
    int rc = read_file(s, &text, &st, err);
    if (rc == 0)
        rc = json_parse((struct str){text.data, text.len}, &index, err);
    if (rc == 0 && !json_is_array(json_object_get(index, "manifests")))
        rc = err_set(err, E_FORMAT, "it has no array 'manifests'");
    buf_release(&text);
    if (rc < 0) {
        json_decref(index);
        return err_wrap(err, "index.json of the store %s", s->path);
    }
    json_decref(s->index);
    s->index = index;
    s->index_stat = st;
    return 0;
}

int index_refresh(struct store *s, struct err *err)
{
    struct stat st;
    const struct stat *old = &s->index_stat;
    if (fstatat(s->root_fd, "index.json", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_ino == old->st_ino && st.st_size == old->st_size &&
        st.st_mtim.tv_sec == old->st_mtim.tv_sec && st.st_mtim.tv_nsec == old->st_mtim.tv_nsec)
        return 0;
    return index_load(s, err);
}

int index_replace(struct store *s, json_t *next, struct err *err)
{
    struct buf text;
    buf_init(&text, LIMIT_STORE_INDEX_BYTES);
    json_put_value(&text, next);
    buf_append_char(&text, '\n');
    int rc = buf_status(&text, "index.json", err);
    if (rc == 0)
        rc = store_write_file(s, "index.json", text.data, text.len, err);
    buf_release(&text);
    if (rc == 0 && fstatat(s->root_fd, "index.json", &s->index_stat, AT_SYMLINK_NOFOLLOW) < 0)
        s->index_stat = (struct stat){0}; /* read it again next time */
    if (rc < 0) {
        json_decref(next);
        return rc;
    }
    json_decref(s->index);
    s->index = next;
    return 0;
}

/* ---- changes of names ---- */

static void entry_name(json_t *e, const char *name)
{
    json_t *notes = json_object_get(e, "annotations");
    if (!name) {
        json_object_del(notes, REF_ANNOTATION);
        if (notes && json_object_size(notes) == 0)
            json_object_del(e, "annotations");
        return;
    }
    if (!notes) {
        notes = json_object();
        json_object_set_new(e, "annotations", notes);
    }
    json_object_set_new(notes, REF_ANNOTATION, json_string(name));
}

/* The entry of this name (NULL: an untagged one) and digest (NULL: any); -1 when there is none. */
static ssize_t entry_find(const json_t *index, const char *name, const char *digest)
{
    char d[OCI_DIGEST_CHARS + 1];
    const char *n;
    for (size_t i = 0; i < index_len(index); i++) {
        if (index_entry(index, i, d, &n) && (!digest || strcmp(d, digest) == 0) &&
            strcmp(n, name ? name : "") == 0)
            return (ssize_t)i;
    }
    return -1;
}

static size_t entry_count(const json_t *index, const char *digest)
{
    char d[OCI_DIGEST_CHARS + 1];
    const char *n;
    size_t count = 0;
    for (size_t i = 0; i < index_len(index); i++)
        count += index_entry(index, i, d, &n) && strcmp(d, digest) == 0;
    return count;
}

/* name leaves what it pointed to, which stays, untagged if it has no other name. */
static void name_leave(json_t *index, const char *name)
{
    char digest[OCI_DIGEST_CHARS + 1];
    const char *n;
    ssize_t i = entry_find(index, name, NULL);
    if (i < 0 || !index_entry(index, (size_t)i, digest, &n))
        return;
    if (entry_count(index, digest) > 1)
        json_array_remove(json_object_get(index, "manifests"), (size_t)i);
    else
        entry_name(entry_at(index, (size_t)i), NULL);
}

/* Every blob of the model is there, with its size. */
static int check_whole(struct store *s, const char *digest, struct buf *text,
                       struct oci_manifest *m, struct arena *a, struct err *err)
{
    int rc = store_blob_read(s, digest, LIMIT_OCI_MANIFEST_BYTES, text, err);
    if (rc == 0)
        rc = oci_manifest_parse((struct str){text->data, text->len}, a, m, err);
    for (uint32_t i = 0; rc == 0 && i <= m->n_layers; i++) {
        const struct oci_descriptor *d = i < m->n_layers ? &m->layers[i] : &m->config;
        uint64_t size = 0;
        rc = store_blob_size(s, d->digest, &size, err);
        if (rc == 0)
            rc = err_set(err, E_NOTFOUND, "its blob %s is not in the store", d->digest);
        else if (rc == 1)
            rc = size == d->size
                     ? 0
                     : err_set(err, E_CORRUPT, "its blob %s has %llu bytes instead of %llu",
                               d->digest, (unsigned long long)size, (unsigned long long)d->size);
    }
    return rc < 0 ? err_wrap(err, "model %s cannot be named", digest) : 0;
}

static json_t *entry_new(const struct oci_manifest *m, const char *digest, size_t n_bytes)
{
    json_t *e = json_pack("{s:s, s:s, s:I}", "mediaType", oci_media_type(m->media), "digest",
                          digest, "size", (json_int_t)n_bytes);
    if (e && m->artifact_type[0])
        json_object_set_new(e, "artifactType", json_string(m->artifact_type));
    return e;
}

static int tag_locked(struct store *s, const char *name, const char *digest,
                      const struct oci_manifest *m, size_t n_bytes, struct err *err)
{
    int rc = index_refresh(s, err);
    if (rc < 0 || entry_find(s->index, name, digest) >= 0 ||
        (!name && entry_count(s->index, digest)))
        return rc;
    json_t *next = json_deep_copy(s->index);
    if (!next)
        return err_set(err, E_NOMEM, "no memory for the index");
    if (name)
        name_leave(next, name);
    ssize_t untagged = entry_find(next, NULL, digest);
    json_t *e = untagged >= 0 ? entry_at(next, (size_t)untagged) : entry_new(m, digest, n_bytes);
    if (name)
        entry_name(e, name);
    if (untagged < 0)
        json_array_append_new(json_object_get(next, "manifests"), e);
    return index_replace(s, next, err);
}

int store_tag(struct store *s, const char *name, const char *digest, struct err *err)
{
    struct arena a;
    struct buf text;
    struct oci_manifest m;
    arena_init(&a, 32u << 20);
    /* The lock is taken before the look at its blobs, so that no collection comes between. */
    pthread_mutex_lock(&s->lock);
    int rc = check_whole(s, digest, &text, &m, &a, err);
    if (rc == 0)
        rc = tag_locked(s, name, digest, &m, text.len, err);
    pthread_mutex_unlock(&s->lock);
    buf_release(&text);
    arena_release(&a);
    return rc;
}

/* The index without the model; then its blobs that nothing else needs. */
static int remove_locked(struct store *s, const char *digest, struct err *err)
{
    char d[OCI_DIGEST_CHARS + 1];
    const char *n;
    struct digest_set gone = {0}, keep = {0};
    struct err ignored =
        ERR_INIT; /* a model whose manifest cannot be read is removed all the same */
    if (digest_set_add_model(s, &gone, digest, &ignored) < 0)
        log_warn("%s", ignored.msg);
    json_t *next = json_deep_copy(s->index);
    if (!next)
        return err_set(err, E_NOMEM, "no memory for the index");
    for (size_t i = index_len(next); i-- > 0;) {
        if (index_entry(next, i, d, &n) && strcmp(d, digest) == 0)
            json_array_remove(json_object_get(next, "manifests"), i);
    }
    int rc = index_replace(s, next, err);
    if (rc == 0 && digest_set_add_index(s, &keep, s->index, &ignored) < 0)
        log_warn("blobs of %s stay, since what other models need cannot be told: %s", digest,
                 ignored.msg);
    else if (rc == 0)
        rc = collect_set_locked(s, &gone, &keep, err);
    digest_set_release(&gone);
    digest_set_release(&keep);
    return rc;
}

int store_remove(struct store *s, const char *digest, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    if (rc == 0 && entry_count(s->index, digest) == 0)
        rc = err_set(err, E_NOTFOUND, "there is no model with the id %s here", digest);
    if (rc == 0)
        rc = remove_locked(s, digest, err);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_untag(struct store *s, const char *name, bool *ret_deleted, struct err *err)
{
    char digest[OCI_DIGEST_CHARS + 1];
    const char *n;
    *ret_deleted = false;
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    ssize_t i = rc == 0 ? entry_find(s->index, name, NULL) : -1;
    if (rc == 0 && (i < 0 || !index_entry(s->index, (size_t)i, digest, &n)))
        rc = err_set(err, E_NOTFOUND, "there is no model %s here", name);
    if (rc == 0 && entry_count(s->index, digest) > 1) {
        json_t *next = json_deep_copy(s->index);
        if (next)
            name_leave(next, name);
        rc = next ? index_replace(s, next, err) : err_set(err, E_NOMEM, "no memory for the index");
    } else if (rc == 0) {
        rc = remove_locked(s, digest, err);
        *ret_deleted = rc == 0;
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}
