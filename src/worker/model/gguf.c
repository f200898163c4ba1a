/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF: opens the files of a model, maps them, and puts header, metadata and tensors of all shards
 * together. Owns the mappings.  Not here: the byte-level reading (gguf_read.c), metadata
 * (gguf_value.c), tensor descriptions (gguf_tensor.c), names of files (gguf_path.c).  One thread
 * opens; afterwards read-only. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/gguf_int.h"

#define DEFAULT_ALIGNMENT 32u
/* name length 8, name 1, dimension count 4, one dimension 8, type 4, offset 8 */
#define TENSOR_MIN_BYTES 33u
#define MIN_ALIGNMENT    8u /* the specification's; and F32 rows can then be read in place */

/* ---- one file ---- */

static int shard_stat(struct gguf_shard *s, int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_sys(err, E_IO, "the file cannot be examined");
    if (!S_ISREG(st.st_mode))
        return err_set(err, E_FORMAT, "it is %s; a model is a regular file",
                       S_ISDIR(st.st_mode)    ? "a directory"
                       : S_ISFIFO(st.st_mode) ? "a pipe"
                       : S_ISSOCK(st.st_mode) ? "a socket"
                                              : "a device");
    s->file_bytes = (uint64_t)st.st_size;
    s->device = (uint64_t)st.st_dev;
    s->inode = (uint64_t)st.st_ino;
    return 0;
}

static int shard_map(struct gguf_shard *s, int fd, struct err *err)
{
    int rc = shard_stat(s, fd, err);
    if (rc < 0)
        return rc;
    if (s->file_bytes == 0)
        return err_set(err, E_FORMAT, "header: the file is empty: the magic is needed at offset 0");
    void *p = mmap(NULL, (size_t)s->file_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_set_sys(err, errno == ENOMEM ? E_NOMEM : E_IO, "its %llu bytes cannot be mapped",
                           (unsigned long long)s->file_bytes);
    s->base = p;
    s->map_bytes = (size_t)s->file_bytes;
    return 0;
}

/* Keeps only the pages up to used. */
static void shard_unmap_after(struct gguf_shard *s, uint64_t used)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t keep = ((size_t)used + page - 1) / page * page;
    if (keep >= s->map_bytes)
        return;
    munmap((char *)(uintptr_t)s->base + keep, s->map_bytes - keep);
    s->map_bytes = keep;
}

/* What the first bytes say when they are not GGUF's. */
static int magic_refuse(const char *p, uint64_t n, struct err *err)
{
    static const struct {
        const char *bytes, *what;
    } known[] = {
        {"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"},
        {"tjgg", "an old GGJT file, from before GGUF: take the model as GGUF"},
        {"fmgg", "an old GGMF file, from before GGUF: take the model as GGUF"},
        {"lmgg", "an old GGML file, from before GGUF: take the model as GGUF"},
        {"PK\003\004", "a ZIP archive"},
        {"<!DOCTYPE", "an HTML page, perhaps a failed download"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].bytes);
        if (n >= len && memcmp(p, known[i].bytes, len) == 0)
            return err_set(err, E_FORMAT, "header: not a GGUF file; it is %s", known[i].what);
    }
    if (n < 4)
        return err_set(err, E_FORMAT,
                       "header: the file ends inside the magic: 4 bytes are needed at offset 0 and "
                       "%llu are there",
                       (unsigned long long)n);
    return err_set(
        err, E_FORMAT,
        "header: not a GGUF file; it begins with the bytes %02x %02x %02x %02x instead of "
        "the magic 'GGUF'",
        (unsigned char)p[0], (unsigned char)p[1], (unsigned char)p[2], (unsigned char)p[3]);
}

static int version_read(struct gguf_reader *r, uint32_t *ret, struct err *err)
{
    int rc = gguf_read_u32(r, "version", ret, err);
    if (rc < 0)
        return rc;
    if ((*ret & 0xFFFF) == 0 && *ret != 0)
        return err_set(err, E_UNSUPPORTED,
                       "header: a big-endian GGUF file (version %u); berth reads little-endian "
                       "ones: convert it",
                       __builtin_bswap32(*ret));
    if (*ret == 1)
        return err_set(err, E_UNSUPPORTED,
                       "header: GGUF version 1 is not read, only 2 and 3: take the model in a "
                       "newer file or convert it again");
    if (*ret != 2 && *ret != 3)
        return err_set(err, E_UNSUPPORTED, "header: GGUF version %u is not read, only 2 and 3",
                       *ret);
    return 0;
}

/* A count of entries of the header, held to what the rest of the file could hold before it is
 * believed. */
static int count_read(struct gguf_reader *r, const char *field, uint64_t limit, uint32_t *ret,
                      struct err *err)
{
    uint64_t n;
    int rc = gguf_read_u64(r, field, &n, err);
    if (rc < 0)
        return rc;
    if (n > gguf_reader_left(r))
        return err_set(
            err, E_FORMAT,
            "header: the %s at offset %llu is %llu, which the file's %llu bytes cannot hold", field,
            (unsigned long long)r->pos - sizeof(n), (unsigned long long)n,
            (unsigned long long)r->size);
    if (n > limit)
        return err_set(err, E_LIMIT, "header: the %s at offset %llu is %llu; berth's limit is %llu",
                       field, (unsigned long long)r->pos - sizeof(n), (unsigned long long)n,
                       (unsigned long long)limit);
    *ret = (uint32_t)n;
    return 0;
}

static int alignment_get(const struct gguf_values *values, uint32_t *ret, struct err *err)
{
    uint64_t a;
    int rc =
        gguf_values_get_u64(values, "general.alignment", 0, UINT64_MAX, DEFAULT_ALIGNMENT, &a, err);
    if (rc < 0)
        return rc;
    if (a > LIMIT_GGUF_ALIGNMENT)
        return err_set(err, E_LIMIT,
                       "metadata key 'general.alignment' is %llu; berth's limit is %u",
                       (unsigned long long)a, LIMIT_GGUF_ALIGNMENT);
    if (a < MIN_ALIGNMENT || (a & (a - 1)))
        return err_set(err, E_FORMAT,
                       "metadata key 'general.alignment' is %llu; it must be a power of two of at "
                       "least %u",
                       (unsigned long long)a, MIN_ALIGNMENT);
    *ret = (uint32_t)a;
    return 0;
}

/* Adds n tensor descriptions at the cursor to the model's table. */
static int tensors_add(struct gguf *g, uint32_t shard, struct gguf_reader *r, uint32_t n,
                       struct err *err)
{
    struct gguf_shard *s = &g->shards[shard];
    if (n > gguf_reader_left(r) / TENSOR_MIN_BYTES)
        return err_set(
            err, E_FORMAT,
            "header: %u tensors are announced; the %llu bytes from offset %llu cannot hold them", n,
            (unsigned long long)gguf_reader_left(r), (unsigned long long)r->pos);
    if (n > LIMIT_GGUF_TENSORS - g->n_tensors)
        return err_set(err, E_LIMIT, "more than %u tensors in all, berth's limit",
                       LIMIT_GGUF_TENSORS);
    struct gguf_tensor *t = mem_try_resize(g->tensors, g->n_tensors + n, sizeof(*t), err);
    if (!t)
        return -err->code;
    g->tensors = t;
    t += g->n_tensors;
    memset(t, 0, n * sizeof(*t));
    int rc = gguf_tensors_read(t, r, n, shard, err);
    uint64_t data_start = (r->pos + s->alignment - 1) / s->alignment * s->alignment;
    if (rc == 0)
        rc = gguf_tensors_place(t, n, data_start, s->alignment, s->file_bytes, err);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        uint32_t old;
        t[i].data = s->base + t[i].offset;
        rc = map_try_put(&g->tensor_index, t[i].name, g->n_tensors + i, &old, err);
        if (rc == 0 && old != MAP_NONE)
            rc = err_set(err, E_FORMAT, "tensor '%.*s' is there twice", GGUF_NAME_ARG(t[i].name));
    }
    if (rc == 0) {
        g->n_tensors += n;
        s->n_tensors = n;
    }
    return rc;
}

/* ---- shards ---- */

/* split.no, split.count of this shard against its place among the files given. */
static int split_check(const struct gguf *g, uint32_t shard, const struct gguf_values *values,
                       struct err *err)
{
    uint64_t no = 0, count;
    int rc = gguf_values_get_u64(values, "split.count", 0, UINT16_MAX, 0, &count, err);
    if (rc == 0)
        rc = gguf_values_get_u64(values, "split.no", 0, UINT16_MAX, 0, &no, err);
    if (rc < 0)
        return rc;
    if (g->n_shards == 1 && count <= 1)
        return 0;
    if (g->n_shards == 1)
        return err_set(
            err, E_FORMAT,
            "it is shard %llu of %llu of a split model and the other shards are missing: "
            "keep all files side by side as NAME-00001-of-%05llu.gguf and so on",
            (unsigned long long)no + 1, (unsigned long long)count, (unsigned long long)count);
    if (count == 0)
        return err_set(
            err, E_FORMAT,
            "%u files are given and this one has no metadata key 'split.count': it is not "
            "a shard",
            g->n_shards);
    if (count != g->n_shards)
        return err_set(err, E_FORMAT,
                       "metadata key 'split.count' is %llu and %u shards are given%s",
                       (unsigned long long)count, g->n_shards,
                       count > g->n_shards ? ": some are missing" : "");
    for (uint32_t i = 0; i < shard; i++) {
        if (g->shards[i].device == g->shards[shard].device &&
            g->shards[i].inode == g->shards[shard].inode)
            return err_set(err, E_FORMAT, "it is the same file as shard %u; shard %u is missing",
                           i + 1, shard + 1);
    }
    if (no != shard)
        return err_set(err, E_FORMAT,
                       "metadata key 'split.no' is %llu where shard %u of %u (split.no %u) is due: "
                       "shards are swapped, or one is there twice and shard %u is missing",
                       (unsigned long long)no, shard + 1, g->n_shards, shard, shard + 1);
    return 0;
}

/* The tensors of all shards together against split.tensors.count of the first. */
static int split_check_total(const struct gguf *g, struct err *err)
{
    uint64_t total;
    int rc = gguf_values_get_u64(&g->values, "split.tensors.count", 0, LIMIT_GGUF_TENSORS,
                                 UINT64_MAX, &total, err);
    if (rc < 0 || (g->n_shards == 1 && total == UINT64_MAX))
        return rc;
    if (total == UINT64_MAX)
        return err_set(err, E_FORMAT,
                       "metadata key 'split.tensors.count' is missing from the first shard");
    if (total != g->n_tensors)
        return err_set(
            err, E_FORMAT,
            "metadata key 'split.tensors.count' is %llu and the %u shards hold %u tensors",
            (unsigned long long)total, g->n_shards, g->n_tensors);
    return 0;
}

static int shard_parse(struct gguf *g, uint32_t shard, struct gguf_values *values,
                       struct gguf_reader *r, struct err *err)
{
    struct gguf_shard *s = &g->shards[shard];
    uint32_t n_tensors = 0, n_values = 0;
    if (r->size < 4 || memcmp(r->base, "GGUF", 4) != 0)
        return magic_refuse(r->base, r->size, err);
    r->pos = 4;
    int rc = version_read(r, &s->version, err);
    if (rc == 0)
        rc = count_read(r, "number of tensors", LIMIT_GGUF_TENSORS, &n_tensors, err);
    if (rc == 0)
        rc = count_read(r, "number of metadata keys", LIMIT_GGUF_KEYS, &n_values, err);
    if (rc == 0)
        rc = gguf_values_read(values, r, n_values, err);
    if (rc == 0)
        rc = split_check(g, shard, values, err);
    if (rc == 0)
        rc = alignment_get(values, &s->alignment, err);
    if (rc == 0)
        rc = tensors_add(g, shard, r, n_tensors, err);
    return rc;
}

static int shard_open(struct gguf *g, uint32_t shard, int fd, unsigned flags, struct err *err)
{
    struct gguf_shard *s = &g->shards[shard];
    struct gguf_values other = {0};
    int rc = shard_map(s, fd, err);
    if (rc < 0)
        return rc;
    struct gguf_reader r = {.base = s->base, .size = s->file_bytes};
    /* Only the first shard's metadata count; the others' is read for its own split keys and
     * alignment. */
    rc = shard_parse(g, shard, shard == 0 ? &g->values : &other, &r, err);
    gguf_values_release(&other);
    if (rc == 0 && (flags & GGUF_HEADER_ONLY)) {
        for (uint32_t i = g->n_tensors - s->n_tensors; i < g->n_tensors; i++)
            g->tensors[i].data = NULL;
        shard_unmap_after(s, r.pos);
    }
    return rc;
}

/* The name without its folders where it is long, so that the message after it survives. */
static const char *name_short(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strlen(name) > 160 && slash ? slash + 1 : name;
}

static int shards_open(struct gguf *g, const int *fds, const char *const *names, unsigned flags,
                       struct err *err)
{
    for (uint32_t i = 0; i < g->n_shards; i++) {
        const char *name = names && names[i] ? names[i] : "the model file";
        size_t len = strlen(name);
        g->shards[i].name = mem_try_alloc(len + 1, 1, err);
        if (!g->shards[i].name)
            return -err->code;
        memcpy(g->shards[i].name, name, len);
        if (shard_open(g, i, fds[i], flags, err) < 0)
            return err_wrap(err, "%.160s", name_short(name));
    }
    if (split_check_total(g, err) < 0)
        return err_wrap(err, "%.160s", name_short(g->shards[0].name));
    return 0;
}

int gguf_open(const int *fds, const char *const *names, uint32_t n_fds, unsigned flags,
              struct gguf **ret_gguf, struct err *err)
{
    if (n_fds == 0 || n_fds > LIMIT_MSG_FDS)
        return err_set(err, E_LIMIT, "a model of %u files; between 1 and %u can be read", n_fds,
                       LIMIT_MSG_FDS);
    struct gguf *g = mem_try_alloc(1, sizeof(*g), err);
    if (!g)
        return -err->code;
    g->shards = mem_try_alloc(n_fds, sizeof(*g->shards), err);
    int rc = g->shards ? 0 : -err->code;
    if (rc == 0) {
        g->n_shards = n_fds;
        rc = shards_open(g, fds, names, flags, err);
    }
    if (rc < 0) {
        gguf_close(g);
        return rc;
    }
    *ret_gguf = g;
    return 0;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->n_shards; i++) {
        if (g->shards[i].base)
            munmap((char *)(uintptr_t)g->shards[i].base, g->shards[i].map_bytes);
        mem_free(g->shards[i].name);
    }
    mem_free(g->shards);
    gguf_values_release(&g->values);
    mem_free(g->tensors);
    map_release(&g->tensor_index);
    mem_free(g);
}

/* ---- asking ---- */

uint32_t gguf_version(const struct gguf *g)
{
    return g->shards[0].version;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_shards; i++)
        sum += g->shards[i].file_bytes;
    return sum;
}

uint32_t gguf_n_values(const struct gguf *g)
{
    return g->values.n;
}

const struct gguf_value *gguf_value_at(const struct gguf *g, uint32_t i)
{
    BUG_ON(i >= g->values.n);
    return &g->values.items[i];
}

uint32_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i)
{
    BUG_ON(i >= g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    return gguf_values_find(&g->values, key);
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    uint32_t i = map_get(&g->tensor_index, str_from(name));
    return i == MAP_NONE ? NULL : &g->tensors[i];
}
