/* SPDX-License-Identifier: Apache-2.0 */
/* Implements dduf.h. */
#include "worker/model/dduf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/codec/relpath.h"

#define END_BYTES       22u /* end of central directory */
#define END64_BYTES     56u
#define LOCATOR_BYTES   20u
#define CENTRAL_BYTES   46u
#define LOCAL_BYTES     30u
#define COMMENT_MAX     65535u
#define DIRECTORY_BYTES (16u << 20)
#define INDEX_BYTES     (1u << 20)
#define NAME_BYTES      255u

struct dduf {
    int fd; /* borrowed while it is opened */
    uint64_t file_bytes;
    struct dduf_entry *entries; /* owned, with their paths */
    uint64_t *headers;          /* [n], owned: where the local headers are */
    uint32_t n;
    json_t *index; /* owned */
};

/* ---- bytes ---- */

static uint64_t le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static int read_at(const struct dduf *d, uint64_t at, void *p, size_t n, const char *what,
                   struct err *err)
{
    if (at > d->file_bytes || n > d->file_bytes - at)
        return err_set(err, E_FORMAT, "%s lies outside the file", what);
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(d->fd, (char *)p + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? err_set_sys(err, E_IO, "reading %s", what)
                           : err_set(err, E_FORMAT, "the file became shorter while it was read");
        done += (size_t)got;
    }
    return 0;
}

/* ---- the directory ---- */

struct directory {
    uint64_t offset, n_bytes, n_entries;
};

/* Finds the end record: the last 22 bytes, or before a comment that reaches exactly to the end. */
static int end_find(const struct dduf *d, uint64_t *ret_at, unsigned char ret[END_BYTES],
                    struct err *err)
{
    size_t n = (size_t)MIN_OF(d->file_bytes, (uint64_t)END_BYTES + COMMENT_MAX);
    unsigned char *tail = n >= END_BYTES ? mem_try_alloc(n, 1, err) : NULL;
    if (n < END_BYTES)
        return err_set(err, E_FORMAT, "it has %zu bytes, which is no zip archive", n);
    if (!tail)
        return -err->code;
    int rc = read_at(d, d->file_bytes - n, tail, n, "the end of the directory", err);
    bool found = false;
    for (size_t i = n - END_BYTES; rc == 0 && !found; i--) {
        found = memcmp(tail + i, "PK\5\6", 4) == 0 && le(tail + i + 20, 2) == n - i - END_BYTES;
        if (found) {
            memcpy(ret, tail + i, END_BYTES);
            *ret_at = d->file_bytes - n + i;
        }
        if (i == 0)
            break;
    }
    mem_free(tail);
    if (rc == 0 && !found)
        rc = err_set(err, E_FORMAT,
                     "it is no DDUF file: a zip archive's directory is not where it must be");
    return rc;
}

/* What does not fit the old record stands in one of zip64, which a locator before it names. */
static int end64_read(const struct dduf *d, uint64_t end_at, struct directory *dir, struct err *err)
{
    unsigned char l[LOCATOR_BYTES], r[END64_BYTES];
    if (end_at < LOCATOR_BYTES)
        return err_set(err, E_FORMAT, "its zip64 record is missing");
    int rc = read_at(d, end_at - LOCATOR_BYTES, l, sizeof(l), "the zip64 locator", err);
    if (rc < 0)
        return rc;
    if (memcmp(l, "PK\6\7", 4) != 0)
        return err_set(err, E_FORMAT, "its zip64 record is missing");
    rc = read_at(d, le(l + 8, 8), r, sizeof(r), "the zip64 record", err);
    if (rc == 0 && memcmp(r, "PK\6\6", 4) != 0)
        rc = err_set(err, E_FORMAT, "its zip64 record is none");
    *dir = (struct directory){le(r + 48, 8), le(r + 40, 8), le(r + 32, 8)};
    return rc;
}

static int directory_find(const struct dduf *d, struct directory *dir, struct err *err)
{
    unsigned char end[END_BYTES];
    uint64_t at = 0;
    int rc = end_find(d, &at, end, err);
    if (rc < 0)
        return rc;
    *dir = (struct directory){le(end + 16, 4), le(end + 12, 4), le(end + 10, 2)};
    if (dir->offset == UINT32_MAX || dir->n_bytes == UINT32_MAX || dir->n_entries == UINT16_MAX)
        rc = end64_read(d, at, dir, err);
    if (rc == 0 && (le(end + 4, 2) != 0 || le(end + 6, 2) != 0))
        rc = err_set(err, E_UNSUPPORTED, "it is part of an archive of several files");
    if (rc == 0 && (dir->n_bytes > DIRECTORY_BYTES || dir->n_entries > LIMIT_OCI_LAYERS))
        rc = err_set(err, E_LIMIT, "its directory has %llu entries in %llu bytes, too many",
                     (unsigned long long)dir->n_entries, (unsigned long long)dir->n_bytes);
    if (rc == 0 && (dir->n_bytes > d->file_bytes || dir->offset > d->file_bytes - dir->n_bytes))
        rc = err_set(err, E_FORMAT, "its directory lies outside the file");
    if (rc == 0 && dir->n_entries == 0)
        rc = err_set(err, E_FORMAT, "it is an empty archive");
    return rc;
}

/* ---- entries ---- */

static bool has_ending(const char *s, const char *ending)
{
    size_t n = strlen(s), len = strlen(ending);
    return n > len && strcmp(s + n - len, ending) == 0;
}

static int path_check(const char *path, struct err *err)
{
    static const char *const endings[] = {".json", ".model", ".safetensors", ".txt"};
    const char *slash = strchr(path, '/');
    bool ok = false;
    if (!relpath_is_inside(str_from(path), NAME_BYTES) || (slash && strchr(slash + 1, '/')))
        return err_set(err, E_FORMAT,
                       "its path is not that of a file inside, at most one folder deep");
    for (size_t i = 0; i < ARRAY_LEN(endings); i++)
        ok = ok || has_ending(path, endings[i]);
    return ok ? 0
              : err_set(err, E_FORMAT,
                        "a DDUF file holds .json, .model, .safetensors and .txt files alone");
}

/* Sizes and place that are all ones stand in the zip64 field of the extra bytes, in this order. */
static int extra_read(const unsigned char *p, size_t n, uint64_t *const wide[3], struct err *err)
{
    while (n >= 4) {
        size_t len = (size_t)le(p + 2, 2);
        if (len > n - 4)
            break;
        if (le(p, 2) == 1) {
            size_t at = 4;
            for (int i = 0; i < 3; i++) {
                if (*wide[i] != UINT32_MAX)
                    continue;
                if (at + 8 > len + 4)
                    return err_set(err, E_FORMAT, "its zip64 field is too short");
                *wide[i] = le(p + at, 8);
                at += 8;
            }
            return 0;
        }
        p += 4 + len;
        n -= 4 + len;
    }
    return 0;
}

/* One record of the directory at p, n bytes left; *ret_len is how many it takes. */
static int central_read(struct dduf *d, const unsigned char *p, size_t n, size_t *ret_len,
                        struct err *err)
{
    struct dduf_entry *e = &d->entries[d->n];
    if (n < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return err_set(err, E_FORMAT, "entry %u of its directory is none", d->n);
    size_t n_name = (size_t)le(p + 28, 2), n_extra = (size_t)le(p + 30, 2);
    *ret_len = CENTRAL_BYTES + n_name + n_extra + (size_t)le(p + 32, 2);
    if (*ret_len > n || n_name == 0 || n_name > NAME_BYTES ||
        memchr(p + CENTRAL_BYTES, '\0', n_name))
        return err_set(err, E_FORMAT, "entry %u of its directory has no proper name", d->n);
    e->path = mem_dup((const char *)p + CENTRAL_BYTES, n_name);
    uint64_t packed = le(p + 20, 4), plain = le(p + 24, 4), at = le(p + 42, 4);
    uint64_t *const wide[3] = {&plain, &packed, &at};
    d->n++; /* its path is released from here on */
    int rc = extra_read(p + CENTRAL_BYTES + n_name, n_extra, wide, err);
    if (rc == 0)
        rc = path_check(e->path, err);
    if (rc == 0 && le(p + 10, 2) != 0)
        rc = err_set(err, E_UNSUPPORTED, "it is compressed (method %u), which DDUF forbids",
                     (unsigned)le(p + 10, 2));
    if (rc == 0 && (le(p + 8, 2) & 1))
        rc = err_set(err, E_UNSUPPORTED, "it is encrypted");
    if (rc == 0 && packed != plain)
        rc = err_set(err, E_FORMAT, "it has two sizes, %llu and %llu", (unsigned long long)packed,
                     (unsigned long long)plain);
    uint32_t mode = (uint32_t)le(p + 38, 4) >> 16; /* of Unix, where the archive says one */
    if (rc == 0 && p[5] == 3 && (mode & S_IFMT) && !S_ISREG(mode))
        rc = err_set(err, E_FORMAT, "it is a link or another special file");
    e->n_bytes = plain;
    d->headers[d->n - 1] = at;
    return rc < 0 ? err_wrap(err, "entry '%.100s'", e->path) : 0;
}

/* The local header must tell the same; it says where the bytes begin. */
static int local_read(struct dduf *d, uint32_t i, struct err *err)
{
    struct dduf_entry *e = &d->entries[i];
    unsigned char h[LOCAL_BYTES + NAME_BYTES];
    size_t n_name = strlen(e->path);
    int rc = read_at(d, d->headers[i], h, LOCAL_BYTES + n_name, "its header", err);
    if (rc < 0)
        return err_wrap(err, "entry '%.100s'", e->path);
    uint64_t plain = le(h + 22, 4), packed = le(h + 18, 4);
    bool has_sizes_later = le(h + 6, 2) & 8;
    bool same = memcmp(h, "PK\3\4", 4) == 0 && le(h + 26, 2) == n_name && le(h + 8, 2) == 0 &&
                memcmp(h + LOCAL_BYTES, e->path, n_name) == 0;
    same = same && (has_sizes_later || plain == UINT32_MAX || plain == e->n_bytes);
    same = same && (has_sizes_later || packed == UINT32_MAX || packed == e->n_bytes);
    if (!same)
        return err_set(err, E_FORMAT,
                       "entry '%.100s': its header and the directory say different things",
                       e->path);
    e->offset = d->headers[i] + LOCAL_BYTES + n_name + le(h + 28, 2);
    if (e->offset > d->file_bytes || e->n_bytes > d->file_bytes - e->offset)
        return err_set(err, E_FORMAT, "entry '%.100s': its bytes end past the end of the file",
                       e->path);
    return 0;
}

static int compare_offsets(const void *pa, const void *pb)
{
    const struct dduf_entry *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->n_bytes < b->n_bytes ? -1 : a->n_bytes > b->n_bytes;
}

static int entries_check(struct dduf *d, const struct directory *dir, struct err *err)
{
    struct map seen;
    uint64_t at = 0;
    uint32_t old = MAP_NONE;
    int rc = 0;
    qsort(d->entries, d->n, sizeof(*d->entries), compare_offsets);
    map_init(&seen);
    for (uint32_t i = 0; rc == 0 && i < d->n; i++) {
        const struct dduf_entry *e = &d->entries[i];
        if (e->offset < at ||
            (e->offset < dir->offset + dir->n_bytes && e->offset + e->n_bytes > dir->offset))
            rc =
                err_set(err, E_FORMAT, "entry '%.100s': its bytes overlap something else", e->path);
        at = e->offset + e->n_bytes;
        if (rc == 0)
            rc = map_try_put(&seen, str_from(e->path), i, &old, err);
        if (rc == 0 && old != MAP_NONE)
            rc = err_set(err, E_FORMAT, "entry '%.100s' is there twice", e->path);
    }
    map_release(&seen);
    return rc;
}

static int directory_read(struct dduf *d, const struct directory *dir, struct err *err)
{
    size_t n = (size_t)dir->n_bytes, at = 0;
    unsigned char *bytes = mem_try_alloc(MAX_OF(n, 1), 1, err);
    d->entries = mem_try_alloc((size_t)dir->n_entries, sizeof(*d->entries), err);
    d->headers = mem_try_alloc((size_t)dir->n_entries, sizeof(*d->headers), err);
    int rc = bytes && d->entries && d->headers
                 ? read_at(d, dir->offset, bytes, n, "its directory", err)
                 : -err->code;
    for (uint64_t i = 0; rc == 0 && i < dir->n_entries; i++) {
        size_t len = 0;
        rc = central_read(d, bytes + at, n - at, &len, err);
        at += len;
    }
    if (rc == 0 && at != n)
        rc = err_set(err, E_FORMAT, "its directory has %zu bytes that no entry describes", n - at);
    mem_free(bytes);
    for (uint32_t i = 0; rc == 0 && i < d->n; i++)
        rc = local_read(d, i, err);
    return rc < 0 ? rc : entries_check(d, dir, err);
}

/* ---- model_index.json ---- */

static bool has_entry(const struct dduf *d, const char *folder, const char *name)
{
    char path[2 * NAME_BYTES + 2];
    snprintf(path, sizeof(path), "%.255s/%s", folder, name);
    for (uint32_t i = 0; i < d->n; i++) {
        if (strcmp(d->entries[i].path, path) == 0)
            return true;
    }
    return false;
}

/* Every folder is a part that the index names, and says how it is set up. */
static int folders_check(const struct dduf *d, struct err *err)
{
    static const char *const configs[] = {"config.json", "tokenizer_config.json",
                                          "preprocessor_config.json", "scheduler_config.json"};
    for (uint32_t i = 0; i < d->n; i++) {
        char folder[NAME_BYTES + 1];
        const char *path = d->entries[i].path, *slash = strchr(path, '/');
        bool ok = false;
        if (!slash)
            continue;
        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
        if (!json_object_get(d->index, folder))
            return err_set(err, E_FORMAT, "model_index.json does not name the folder '%.100s'",
                           folder);
        for (size_t k = 0; k < ARRAY_LEN(configs); k++)
            ok = ok || has_entry(d, folder, configs[k]);
        if (!ok)
            return err_set(err, E_FORMAT,
                           "the folder '%.100s' has none of the configs that diffusers reads",
                           folder);
    }
    return 0;
}

static int index_read(struct dduf *d, struct err *err)
{
    const struct dduf_entry *e = NULL;
    for (uint32_t i = 0; i < d->n; i++) {
        if (strcmp(d->entries[i].path, "model_index.json") == 0)
            e = &d->entries[i];
    }
    if (!e)
        return err_set(err, E_FORMAT, "it has no model_index.json, which says what it is");
    if (e->n_bytes > INDEX_BYTES)
        return err_set(err, E_LIMIT, "its model_index.json has more than %u bytes", INDEX_BYTES);
    char *text = mem_try_alloc((size_t)MAX_OF(e->n_bytes, 1), 1, err);
    int rc = text ? read_at(d, e->offset, text, (size_t)e->n_bytes, "model_index.json", err)
                  : -err->code;
    if (rc == 0) {
        rc = json_parse((struct str){text, (size_t)e->n_bytes}, &d->index, err);
        if (rc < 0)
            rc = err_wrap(err, "its model_index.json");
    }
    mem_free(text);
    if (rc == 0 && !json_is_object(d->index))
        rc = err_set(err, E_FORMAT, "its model_index.json is %s instead of an object",
                     json_kind(d->index));
    return rc < 0 ? rc : folders_check(d, err);
}

int dduf_open(int fd, uint64_t n_bytes, struct dduf **ret, struct err *err)
{
    struct dduf *d = mem_alloc(sizeof(*d));
    struct directory dir;
    d->fd = fd;
    d->file_bytes = n_bytes;
    int rc = directory_find(d, &dir, err);
    if (rc == 0)
        rc = directory_read(d, &dir, err);
    if (rc == 0)
        rc = index_read(d, err);
    d->fd = -1;
    mem_free(d->headers);
    d->headers = NULL;
    if (rc < 0)
        dduf_close(d);
    else
        *ret = d;
    return rc;
}

void dduf_close(struct dduf *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->n; i++)
        mem_free((char *)(uintptr_t)d->entries[i].path);
    mem_free(d->entries);
    mem_free(d->headers);
    json_decref(d->index);
    mem_free(d);
}

uint32_t dduf_n_entries(const struct dduf *d)
{
    return d->n;
}

const struct dduf_entry *dduf_entry_at(const struct dduf *d, uint32_t i)
{
    return &d->entries[i];
}

const json_t *dduf_index(const struct dduf *d)
{
    return d->index;
}
