/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the reading half of tar.h: a machine over blocks. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/codec/relpath.h"
#include "lib/codec/tar.h"

#define META_BYTES     (64u << 10) /* one pax or long-name header */
#define TRAILING_BYTES (1u << 20)  /* zeros after the end */
#define SIZE_MAX_BYTES (1ull << 60)

enum state { IN_HEADER, IN_DATA, IN_META, IN_PADDING, AT_END };

struct tar_reader {
    struct tar_sink sink;
    struct tar_limits limits;
    enum state state;
    uint64_t n_entries, n_bytes; /* so far */
    uint64_t left;               /* of the data, the meta data or the padding */
    uint64_t padding;            /* after it */
    uint64_t n_trailing;
    struct tar_entry entry;
    struct buf meta; /* a pax or long-name header being collected */
    char meta_type;
    uint32_t n_zero_blocks;
    bool has_pax_size, has_long_path;
    uint64_t pax_size;
    char long_path[TAR_PATH_BYTES + 2]; /* with room to see that it is too long */
    size_t n_block;
    char block[TAR_BLOCK];
};

struct tar_reader *tar_reader_new(const struct tar_sink *sink, const struct tar_limits *limits)
{
    struct tar_reader *r = mem_alloc(sizeof(*r));
    r->sink = *sink;
    r->limits = *limits;
    buf_init(&r->meta, META_BYTES);
    return r;
}

void tar_reader_free(struct tar_reader *r)
{
    if (!r)
        return;
    buf_release(&r->meta);
    mem_free(r);
}

/* ---- numbers ---- */

/* Octal digits, spaces or NULs around them; with the top bit set, GNU's big-endian binary. */
static bool number_read(const char *p, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;
    if ((unsigned char)p[0] & 0x80) {
        if (((unsigned char)p[0] & 0x7F) != 0)
            return false; /* negative, or beyond 2^88 */
        for (i = 1; i < n; i++) {
            if (v >> 56)
                return false;
            v = v << 8 | (unsigned char)p[i];
        }
        *ret = v;
        return v <= SIZE_MAX_BYTES;
    }
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(p[i] - '0'); /* twelve digits at most */
    while (i < n && (p[i] == ' ' || p[i] == '\0'))
        i++;
    *ret = v;
    return i == n;
}

static bool checksum_holds(const char *h)
{
    uint64_t said, sum = 0;
    int64_t signed_sum = 0; /* as old writers counted */
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        char c = i >= 148 && i < 156 ? ' ' : h[i];
        sum += (unsigned char)c;
        signed_sum += (signed char)c;
    }
    return number_read(h + 148, 8, &said) && (said == sum || (int64_t)said == signed_sum);
}

/* ---- headers ---- */

static int refuse(const struct tar_reader *r, enum err_code code, struct err *err, const char *why)
{
    return err_set(err, code, "entry %llu of the archive, '%.200s', %s",
                   (unsigned long long)r->n_entries, r->entry.path, why);
}

/* The header's own path. */
static void path_read(const char *h, char *out, size_t n_out)
{
    struct buf b;
    buf_init(&b, n_out - 1);
    size_t n_prefix = memcmp(h + 257, "ustar\0", 6) == 0 ? strnlen(h + 345, 155) : 0;
    if (n_prefix) {
        buf_append(&b, h + 345, n_prefix);
        buf_append_char(&b, '/');
    }
    buf_append(&b, h, strnlen(h, 100));
    memcpy(out, buf_str(&b), b.len + 1);
    buf_release(&b);
}

/* Takes away what says nothing: "./" before, "/" behind.  False: nothing is left, it is the folder
 * itself. */
static bool path_trim(char *p)
{
    size_t from = 0, n = strlen(p);
    while (p[from] == '.' && p[from + 1] == '/') {
        from += 2;
        while (p[from] == '/')
            from++;
    }
    while (n > from && p[n - 1] == '/' && n > 1)
        n--;
    memmove(p, p + from, n - from);
    p[n - from] = '\0';
    return n > from && strcmp(p, ".") != 0;
}

static int type_check(struct tar_reader *r, char type, bool ends_in_slash, struct err *err)
{
    switch (type) {
    case '\0':
    case '0':
    case '7': r->entry.is_dir = ends_in_slash; return 0;
    case '5': r->entry.is_dir = true; return 0;
    case '1': return refuse(r, E_FORMAT, err, "is a hard link: only files and folders are taken");
    case '2':
        return refuse(r, E_FORMAT, err, "is a symbolic link: only files and folders are taken");
    case '3':
    case '4': return refuse(r, E_FORMAT, err, "is a device: only files and folders are taken");
    case '6': return refuse(r, E_FORMAT, err, "is a pipe: only files and folders are taken");
    case 'S': return refuse(r, E_UNSUPPORTED, err, "is a sparse file, which is not read");
    default:
        return refuse(r, E_UNSUPPORTED, err,
                      "is of a kind that berth does not know: only files and folders are taken");
    }
}

static int entry_begin(struct tar_reader *r, const char *h, uint64_t size, struct err *err)
{
    char path[TAR_PATH_BYTES + 2];
    if (r->has_long_path)
        memcpy(path, r->long_path, sizeof(path));
    else
        path_read(h, path, sizeof(path));
    if (r->has_pax_size)
        size = r->pax_size;
    r->has_long_path = r->has_pax_size = false;
    bool ends_in_slash = path[0] && path[strlen(path) - 1] == '/';
    bool is_named = path_trim(path);
    memcpy(r->entry.path, path, TAR_PATH_BYTES);
    r->entry.path[TAR_PATH_BYTES] = '\0';
    int rc = type_check(r, h[156], ends_in_slash, err);
    if (rc < 0)
        return rc;
    if (r->entry.is_dir && !is_named) {
        r->left = r->padding = 0;
        return 0;
    }
    if (!relpath_is_inside(str_from(path), TAR_PATH_BYTES))
        return refuse(r, E_FORMAT, err, "has a path that does not stay inside the folder");
    if (r->entry.is_dir)
        size = 0;
    if (size > r->limits.max_bytes - r->n_bytes)
        return err_set(err, E_LIMIT,
                       "entry %llu of the archive, '%.200s', would make more than %llu bytes in "
                       "all, the limit here",
                       (unsigned long long)r->n_entries, r->entry.path,
                       (unsigned long long)r->limits.max_bytes);
    r->n_bytes += size;
    r->entry.size = r->left = size;
    r->padding = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
    rc = r->sink.begin(r->sink.ctx, &r->entry, err);
    if (rc == 0 && size == 0)
        rc = r->sink.end(r->sink.ctx, err);
    if (rc == 0 && size)
        r->state = IN_DATA;
    return rc;
}

/* One header block is whole. */
static int header_take(struct tar_reader *r, struct err *err)
{
    static const char zeros[TAR_BLOCK];
    const char *h = r->block;
    uint64_t size;
    if (memcmp(h, zeros, sizeof(zeros)) == 0) {
        if (++r->n_zero_blocks == 2)
            r->state = AT_END;
        return 0;
    }
    if (r->n_zero_blocks)
        return err_set(err, E_FORMAT, "the archive goes on after a block of zeros");
    if (!checksum_holds(h))
        return err_set(err, E_FORMAT,
                       "the header of entry %llu has a wrong checksum: this is no tar archive, or "
                       "a damaged one",
                       (unsigned long long)r->n_entries + 1);
    if (++r->n_entries > r->limits.max_entries)
        return err_set(err, E_LIMIT, "the archive has more than %llu entries",
                       (unsigned long long)r->limits.max_entries);
    path_read(h, r->entry.path, sizeof(r->entry.path));
    if (!number_read(h + 124, 12, &size))
        return refuse(r, E_FORMAT, err, "has a size that is no number");
    char type = h[156];
    if (type != 'x' && type != 'g' && type != 'L' && type != 'K')
        return entry_begin(r, h, size, err);
    if (size > META_BYTES)
        return refuse(r, E_LIMIT, err, "is a header of more than 65536 bytes");
    r->meta_type = type;
    buf_clear(&r->meta);
    r->left = size;
    r->padding = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
    r->state = size ? IN_META : IN_HEADER;
    return 0;
}

/* ---- extensions ---- */

static int long_path_take(struct tar_reader *r, const char *p, size_t n, struct err *err)
{
    if (n > TAR_PATH_BYTES || memchr(p, '\0', n))
        return refuse(r, E_FORMAT, err, "gives a path that is too long or holds a NUL");
    memcpy(r->long_path, p, n);
    r->long_path[n] = '\0';
    r->has_long_path = true;
    return 0;
}

static int pax_record(struct tar_reader *r, struct str key, struct str value, struct err *err)
{
    if (str_is(key, "path"))
        return long_path_take(r, value.p, value.len, err);
    if (str_has_prefix(key, STR_LIT("GNU.sparse.")))
        return refuse(r, E_UNSUPPORTED, err, "is a sparse file, which is not read");
    if (!str_is(key, "size"))
        return 0;
    uint64_t v = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || v > SIZE_MAX_BYTES / 16)
            return refuse(r, E_FORMAT, err, "gives a size that is no number");
        v = v * 10 + (uint64_t)(value.p[i] - '0');
    }
    r->pax_size = v;
    r->has_pax_size = true;
    return value.len ? 0 : refuse(r, E_FORMAT, err, "gives a size that is no number");
}

/* Records "LEN key=value\n" after each other. */
static int pax_take(struct tar_reader *r, struct err *err)
{
    const char *p = r->meta.data;
    size_t left = r->meta.len;
    while (left) {
        size_t len = 0, i = 0;
        while (i < left && i < 6 && p[i] >= '0' && p[i] <= '9')
            len = len * 10 + (size_t)(p[i++] - '0');
        const char *eq = i && i < left && p[i] == ' ' && len > i + 1 && len <= left
                             ? memchr(p + i + 1, '=', len - i - 1)
                             : NULL;
        if (!eq || p[len - 1] != '\n')
            return refuse(r, E_FORMAT, err, "is a pax header with a malformed record");
        int rc = pax_record(r, (struct str){p + i + 1, (size_t)(eq - (p + i + 1))},
                            (struct str){eq + 1, (size_t)(p + len - 1 - (eq + 1))}, err);
        if (rc < 0)
            return rc;
        p += len;
        left -= len;
    }
    return 0;
}

static int meta_take(struct tar_reader *r, struct err *err)
{
    if (r->meta_type == 'x')
        return pax_take(r, err);
    if (r->meta_type == 'L')
        return long_path_take(r, r->meta.data, strnlen(r->meta.data, r->meta.len), err);
    return 0; /* global headers and links' targets say nothing that is used */
}

/* ---- feeding ---- */

/* Takes up to n bytes of what the state wants; *ret_taken is how many. */
static int step(struct tar_reader *r, const char *p, size_t n, size_t *ret_taken, struct err *err)
{
    size_t take = (size_t)MIN_OF(r->left, (uint64_t)n);
    int rc = 0;
    switch (r->state) {
    case IN_HEADER:
        take = MIN_OF(TAR_BLOCK - r->n_block, n);
        memcpy(r->block + r->n_block, p, take);
        r->n_block += take;
        if (r->n_block == TAR_BLOCK) {
            r->n_block = 0;
            rc = header_take(r, err);
        }
        break;
    case IN_DATA:
        r->left -= take;
        rc = r->sink.data(r->sink.ctx, p, take, err);
        if (rc == 0 && r->left == 0)
            rc = r->sink.end(r->sink.ctx, err);
        break;
    case IN_META:
        r->left -= take;
        rc = buf_append(&r->meta, p, take) < 0 ? buf_status(&r->meta, "a header", err) : 0;
        if (rc == 0 && r->left == 0)
            rc = meta_take(r, err);
        break;
    case IN_PADDING: r->left -= take; break;
    case AT_END:
        take = n;
        r->n_trailing += n;
        for (size_t i = 0; rc == 0 && i < n; i++)
            rc = p[i] ? err_set(err, E_FORMAT, "something follows the archive's end") : 0;
        if (rc == 0 && r->n_trailing > TRAILING_BYTES)
            rc = err_set(err, E_LIMIT, "more than %u zeros follow the archive's end",
                         TRAILING_BYTES);
        break;
    }
    if (rc == 0 && r->left == 0 && (r->state == IN_DATA || r->state == IN_META)) {
        r->left = r->padding;
        r->state = IN_PADDING;
    }
    if (rc == 0 && r->left == 0 && r->state == IN_PADDING)
        r->state = IN_HEADER;
    *ret_taken = take;
    return rc;
}

int tar_reader_feed(struct tar_reader *r, const void *p, size_t n, struct err *err)
{
    const char *at = p;
    int rc = 0;
    while (rc == 0 && n) {
        size_t taken = 0;
        rc = step(r, at, n, &taken, err);
        at += taken;
        n -= taken;
    }
    return rc;
}

int tar_reader_finish(struct tar_reader *r, struct err *err)
{
    if (r->state == AT_END)
        return 0;
    if (r->state != IN_HEADER || r->n_block || r->has_long_path || r->has_pax_size)
        return err_set(err, E_FORMAT,
                       "the archive ends inside entry %llu, '%.200s': it is cut "
                       "short",
                       (unsigned long long)r->n_entries, r->entry.path);
    if (r->n_entries == 0 && !r->n_zero_blocks)
        return err_set(err, E_FORMAT, "the archive is empty: it has not even an end");
    return 0;
}
