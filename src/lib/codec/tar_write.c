/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the writing half of tar.h. */
#include <stdio.h>
#include <string.h>

#include "lib/codec/relpath.h"
#include "lib/codec/tar.h"

#define OCTAL_MAX ((1ull << 33) - 1) /* eleven digits */

static void put_octal(char *at, size_t n_digits, uint64_t v)
{
    for (size_t i = n_digits; i-- > 0; v >>= 3)
        at[i] = (char)('0' + (v & 7));
}

/* A header block; name and prefix are cut to their fields. */
static void put_header(struct buf *out, char type, const char *name, size_t name_len,
                       const char *prefix, size_t prefix_len, uint64_t size)
{
    char h[TAR_BLOCK] = {0};
    unsigned sum = 0;
    memcpy(h, name, name_len < 100 ? name_len : 100);
    put_octal(h + 100, 7, type == '5' ? 0755 : 0644);
    put_octal(h + 108, 7, 0);
    put_octal(h + 116, 7, 0);
    put_octal(h + 124, 11, size <= OCTAL_MAX ? size : 0);
    put_octal(h + 136, 11, 0);
    memset(h + 148, ' ', 8);
    h[156] = type;
    memcpy(h + 257, "ustar\00000", 8);
    put_octal(h + 329, 7, 0);
    put_octal(h + 337, 7, 0);
    memcpy(h + 345, prefix, prefix_len < 155 ? prefix_len : 155);
    for (size_t i = 0; i < sizeof(h); i++)
        sum += (unsigned char)h[i];
    put_octal(h + 148, 6, sum);
    h[154] = '\0';
    buf_append(out, h, sizeof(h));
}

/* "LEN key=value\n", where LEN counts itself. */
static void put_record(struct buf *out, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3, len = body, was;
    do {
        char digits[24];
        was = len;
        len = body + (size_t)snprintf(digits, sizeof(digits), "%zu", was);
    } while (len != was);
    buf_printf(out, "%zu %s=%s\n", len, key, value);
}

/* Where path can be cut so that both halves fit; 0: nowhere, or it need not be. */
static size_t cut_of(const char *path, size_t len)
{
    for (size_t i = len > 101 ? len - 101 : 0; len > 100 && i < len && i <= 155; i++) {
        if (path[i] == '/' && i > 0 && len - i - 1 <= 100)
            return i;
    }
    return 0;
}

static int put_entry(struct buf *out, char type, const char *path, uint64_t size, struct err *err)
{
    size_t len = strlen(path);
    if (!relpath_is_inside((struct str){path, len}, TAR_PATH_BYTES))
        return err_set(err, E_INVALID, "'%.200s' cannot be the path of an archive's entry", path);
    size_t cut = cut_of(path, len);
    if ((len > 100 && !cut) || size > OCTAL_MAX) {
        struct buf pax;
        char number[24];
        buf_init(&pax, 2 * TAR_PATH_BYTES);
        if (len > 100 && !cut)
            put_record(&pax, "path", path);
        snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
        if (size > OCTAL_MAX)
            put_record(&pax, "size", number);
        int rc = buf_status(&pax, "an archive's header", err);
        if (rc == 0) {
            put_header(out, 'x', "pax", 3, "", 0, pax.len);
            buf_append(out, pax.data, pax.len);
            tar_put_padding(out, pax.len);
        }
        buf_release(&pax);
        if (rc < 0)
            return rc;
    }
    put_header(out, type, path + (cut ? cut + 1 : 0), len - (cut ? cut + 1 : 0), path, cut, size);
    return buf_status(out, "an archive's header", err);
}

int tar_put_file(struct buf *out, const char *path, uint64_t size, struct err *err)
{
    return put_entry(out, '0', path, size, err);
}

int tar_put_dir(struct buf *out, const char *path, struct err *err)
{
    return put_entry(out, '5', path, 0, err);
}

void tar_put_padding(struct buf *out, uint64_t size)
{
    static const char zeros[TAR_BLOCK];
    buf_append(out, zeros, (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK));
}

void tar_put_end(struct buf *out)
{
    static const char zeros[2 * TAR_BLOCK];
    buf_append(out, zeros, sizeof(zeros));
}
