/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded cursor under every GGUF read: nothing else in berth takes bytes off the file's
 * header, so nothing else can run past its end.  Private to worker/model; any thread, one cursor
 * each. */
#include <stdio.h>
#include <string.h>

#include "worker/model/gguf_int.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF values are used as they lie in the file: a little-endian machine is needed"
#endif

const char *gguf_reader_where(const struct gguf_reader *r, char ret[GGUF_WHERE_MAX])
{
    const char *kind = r->part == GGUF_PART_VALUE ? "metadata key" : "tensor";
    if (r->part == GGUF_PART_HEADER)
        snprintf(ret, GGUF_WHERE_MAX, "header");
    else if (r->name.p)
        snprintf(ret, GGUF_WHERE_MAX, "%s '%.*s'", kind, GGUF_NAME_ARG(r->name));
    else
        snprintf(ret, GGUF_WHERE_MAX, "%s number %llu of %llu", kind,
                 (unsigned long long)r->index + 1, (unsigned long long)r->n);
    return ret;
}

int gguf_reader_need(const struct gguf_reader *r, uint64_t n, const char *field, struct err *err)
{
    if (n <= gguf_reader_left(r))
        return 0;
    char where[GGUF_WHERE_MAX];
    return err_set(
        err, E_FORMAT,
        "%s: the file ends inside the %s: %llu bytes are needed at offset %llu and %llu are left; "
        "the file is damaged or was not copied whole",
        gguf_reader_where(r, where), field, (unsigned long long)n, (unsigned long long)r->pos,
        (unsigned long long)gguf_reader_left(r));
}

int gguf_read_u32(struct gguf_reader *r, const char *field, uint32_t *ret, struct err *err)
{
    int rc = gguf_reader_need(r, sizeof(*ret), field, err);
    if (rc < 0)
        return rc;
    memcpy(ret, r->base + r->pos, sizeof(*ret));
    r->pos += sizeof(*ret);
    return 0;
}

int gguf_read_u64(struct gguf_reader *r, const char *field, uint64_t *ret, struct err *err)
{
    int rc = gguf_reader_need(r, sizeof(*ret), field, err);
    if (rc < 0)
        return rc;
    memcpy(ret, r->base + r->pos, sizeof(*ret));
    r->pos += sizeof(*ret);
    return 0;
}

int gguf_read_str(struct gguf_reader *r, const char *field, uint64_t max, struct str *ret,
                  struct err *err)
{
    uint64_t len;
    int rc = gguf_read_u64(r, field, &len, err);
    if (rc == 0)
        rc = gguf_reader_need(r, len, field, err);
    if (rc < 0)
        return rc;
    char where[GGUF_WHERE_MAX];
    if (len > max)
        return err_set(err, E_LIMIT, "%s: the %s is %llu bytes long; berth's limit is %llu",
                       gguf_reader_where(r, where), field, (unsigned long long)len,
                       (unsigned long long)max);
    *ret = (struct str){r->base + r->pos, (size_t)len};
    r->pos += len;
    return 0;
}

int gguf_read_name(struct gguf_reader *r, uint64_t max, struct str *ret, struct err *err)
{
    char where[GGUF_WHERE_MAX];
    int rc = gguf_read_str(r, "name", max, ret, err);
    if (rc < 0)
        return rc;
    if (ret->len == 0)
        return err_set(err, E_FORMAT, "%s: the name is empty", gguf_reader_where(r, where));
    /* Readers that use C strings would see another name than we do. */
    if (memchr(ret->p, '\0', ret->len))
        return err_set(err, E_FORMAT, "%s: the name holds a NUL byte", gguf_reader_where(r, where));
    r->name = *ret;
    return 0;
}
