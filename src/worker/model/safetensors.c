/* SPDX-License-Identifier: Apache-2.0 */
/* Implements safetensors.h. */
#include "worker/model/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define LENGTH_BYTES 8u
/* Names are cut to this in messages. */
#define NAME_ARG(s) (int)MIN_OF(strlen(s), (size_t)100), (s)

struct safetensors {
    json_t *root; /* owned */
    const json_t *metadata;
    struct safetensors_tensor *tensors; /* owned */
    uint32_t n_tensors;
    struct map index;
};

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"BOOL", 8},    {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16},    {"BF16", 16},
    {"I32", 32},    {"U32", 32}, {"F32", 32}, {"I64", 64},    {"U64", 64},
    {"F64", 64},    {"C64", 64}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

/* ---- the header's bytes ---- */

static int read_at(int fd, uint64_t at, void *p, size_t n, struct err *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)p + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_sys(err, E_IO, "reading the header");
        if (got == 0)
            return err_set(err, E_FORMAT, "the file became shorter while it was read");
        done += (size_t)got;
    }
    return 0;
}

static int header_read(int fd, uint64_t start, uint64_t n_bytes, char **ret, uint64_t *ret_n,
                       struct err *err)
{
    unsigned char raw[LENGTH_BYTES];
    uint64_t n = 0;
    if (n_bytes < LENGTH_BYTES)
        return err_set(err, E_FORMAT,
                       "it has %llu bytes, which is no safetensors file: the header's length alone "
                       "takes 8",
                       (unsigned long long)n_bytes);
    if (n_bytes > INT64_MAX - start)
        return err_set(err, E_FORMAT, "its size is out of range");
    int rc = read_at(fd, start, raw, sizeof(raw), err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(raw); i++)
        n |= (uint64_t)raw[i] << (8 * i);
    if (n < 2 || n > n_bytes - LENGTH_BYTES)
        return err_set(err, E_FORMAT,
                       "it says that its header has %llu bytes, which a file of %llu bytes cannot "
                       "hold: this is no safetensors file, or was not copied whole",
                       (unsigned long long)n, (unsigned long long)n_bytes);
    if (n > LIMIT_SAFETENSORS_HEADER_BYTES)
        return err_set(err, E_LIMIT, "its header has %llu bytes, more than %u",
                       (unsigned long long)n, LIMIT_SAFETENSORS_HEADER_BYTES);
    *ret = mem_try_alloc((size_t)n, 1, err);
    *ret_n = n;
    return *ret ? read_at(fd, start + LENGTH_BYTES, *ret, (size_t)n, err) : -err->code;
}

/* ---- tensors ---- */

/* A whole number that is not negative. */
static bool count_take(const json_t *v, uint64_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

static int shape_take(const json_t *shape, struct safetensors_tensor *t, struct err *err)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape))
        return err_set(err, E_FORMAT, "its 'shape' is no array");
    if (n > SAFETENSORS_DIMS)
        return err_set(err, E_LIMIT, "it has %zu dimensions, more than %u", n, SAFETENSORS_DIMS);
    t->n_elements = 1;
    t->n_dims = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        if (!count_take(json_array_get(shape, i), &t->dims[i]))
            return err_set(err, E_FORMAT, "dimension %zu is no whole number from 0", i);
        if (!size_mul(t->n_elements, t->dims[i], &t->n_elements))
            return err_set(err, E_FORMAT, "its dimensions overflow");
    }
    return 0;
}

/* *ret_begin: where its bytes begin, counted from the end of the header. */
static int tensor_take(const json_t *o, uint64_t data_bytes, struct safetensors_tensor *t,
                       struct err *err)
{
    struct str dtype;
    uint64_t begin, end, bits;
    size_t d = 0;
    if (!json_is_object(o))
        return err_set(err, E_FORMAT, "it is %s instead of an object", json_kind(o));
    int rc = json_field_str(o, "dtype", &dtype, err);
    if (rc < 1)
        return err_set(err, E_FORMAT, "its 'dtype' is missing or no string");
    while (d < ARRAY_LEN(dtypes) && !str_is(dtype, dtypes[d].name))
        d++;
    if (d == ARRAY_LEN(dtypes))
        return err_set(err, E_FORMAT, "its type '%.*s' is none that safetensors has",
                       (int)MIN_OF(dtype.len, (size_t)32), dtype.p);
    t->dtype = dtypes[d].name;
    rc = shape_take(json_object_get(o, "shape"), t, err);
    if (rc < 0)
        return rc;
    const json_t *offsets = json_object_get(o, "data_offsets");
    if (json_array_size(offsets) != 2 || !count_take(json_array_get(offsets, 0), &begin) ||
        !count_take(json_array_get(offsets, 1), &end))
        return err_set(err, E_FORMAT, "its 'data_offsets' are no two whole numbers");
    if (end < begin || end > data_bytes)
        return err_set(
            err, E_FORMAT, "its bytes %llu to %llu are not inside the %llu that follow the header",
            (unsigned long long)begin, (unsigned long long)end, (unsigned long long)data_bytes);
    if (!size_mul(t->n_elements, dtypes[d].bits, &bits) || bits % 8 || bits / 8 != end - begin)
        return err_set(
            err, E_FORMAT, "%llu elements of type %s do not take the %llu bytes that it says",
            (unsigned long long)t->n_elements, t->dtype, (unsigned long long)(end - begin));
    t->offset = begin;
    t->n_bytes = end - begin;
    return 0;
}

static int compare_offsets(const void *pa, const void *pb)
{
    const struct safetensors_tensor *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->n_bytes != b->n_bytes) /* empty ones first */
        return a->n_bytes < b->n_bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* No holes, no overlaps, nothing behind: what no tensor describes could be anything. */
static int tensors_place(struct safetensors *s, uint64_t data_start, uint64_t data_bytes,
                         struct err *err)
{
    uint64_t at = 0;
    uint32_t old;
    qsort(s->tensors, s->n_tensors, sizeof(*s->tensors), compare_offsets);
    for (uint32_t i = 0; i < s->n_tensors; i++) {
        struct safetensors_tensor *t = &s->tensors[i];
        if (t->offset != at)
            return err_set(err, E_FORMAT, "tensor '%.*s': its bytes begin at %llu, where %llu %s",
                           NAME_ARG(t->name), (unsigned long long)t->offset, (unsigned long long)at,
                           t->offset > at ? "is due: there is a hole before them"
                                          : "is due: they overlap another tensor's");
        at += t->n_bytes;
        t->offset += data_start;
        if (map_try_put(&s->index, str_from(t->name), i, &old, err) < 0)
            return -err->code;
    }
    if (at != data_bytes)
        return err_set(err, E_FORMAT,
                       "%llu bytes follow the last tensor, and nothing describes them",
                       (unsigned long long)(data_bytes - at));
    return 0;
}

static int metadata_check(const json_t *m, struct err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(m))
        return err_set(err, E_FORMAT, "'__metadata__' is %s instead of an object", json_kind(m));
    json_object_foreach((json_t *)(uintptr_t)m, key, v)
    {
        if (!json_is_string(v))
            return err_set(err, E_FORMAT,
                           "'__metadata__' holds %s under '%.*s'; only strings may "
                           "be there",
                           json_kind(v), NAME_ARG(key));
    }
    return 0;
}

static int tensors_read(struct safetensors *s, uint64_t data_start, uint64_t data_bytes,
                        struct err *err)
{
    const char *key;
    json_t *v;
    size_t n = json_object_size(s->root);
    if (n > LIMIT_GGUF_TENSORS)
        return err_set(err, E_LIMIT, "it has %zu tensors, more than %u", n, LIMIT_GGUF_TENSORS);
    s->tensors = mem_try_alloc(MAX_OF(n, 1), sizeof(*s->tensors), err);
    if (!s->tensors)
        return -err->code;
    json_object_foreach(s->root, key, v)
    {
        int rc;
        if (strcmp(key, "__metadata__") == 0) {
            s->metadata = v;
            rc = metadata_check(v, err);
            if (rc < 0)
                return rc;
            continue;
        }
        struct safetensors_tensor *t = &s->tensors[s->n_tensors];
        t->name = key;
        rc = tensor_take(v, data_bytes, t, err);
        if (rc < 0)
            return err_wrap(err, "tensor '%.*s'", NAME_ARG(key));
        s->n_tensors++;
    }
    return tensors_place(s, data_start, data_bytes, err);
}

int safetensors_open(int fd, uint64_t start, uint64_t n_bytes, struct safetensors **ret,
                     struct err *err)
{
    char *text = NULL;
    uint64_t n = 0;
    struct safetensors *s = mem_alloc(sizeof(*s));
    map_init(&s->index);
    int rc = header_read(fd, start, n_bytes, &text, &n, err);
    if (rc == 0 && text[0] != '{')
        rc = err_set(err, E_FORMAT, "its header does not begin with '{'");
    if (rc == 0) {
        rc = json_parse((struct str){text, (size_t)n}, &s->root, err);
        if (rc < 0)
            rc = err_wrap(err, "its header");
    }
    mem_free(text);
    if (rc == 0)
        rc = tensors_read(s, start + LENGTH_BYTES + n, n_bytes - LENGTH_BYTES - n, err);
    if (rc < 0)
        safetensors_close(s);
    else
        *ret = s;
    return rc;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    map_release(&s->index);
    mem_free(s->tensors);
    json_decref(s->root);
    mem_free(s);
}

uint32_t safetensors_n_tensors(const struct safetensors *s)
{
    return s->n_tensors;
}

const struct safetensors_tensor *safetensors_tensor_at(const struct safetensors *s, uint32_t i)
{
    return &s->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    uint32_t i = map_get(&s->index, str_from(name));
    return i == MAP_NONE ? NULL : &s->tensors[i];
}

uint64_t safetensors_n_params(const struct safetensors *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n_tensors; i++)
        sum += s->tensors[i].n_bytes ? s->tensors[i].n_elements : 0;
    return sum;
}

const char *safetensors_dtype_name(const struct safetensors *s)
{
    for (uint32_t i = 1; i < s->n_tensors; i++) {
        if (s->tensors[i].dtype != s->tensors[0].dtype)
            return "mixed";
    }
    return s->n_tensors ? s->tensors[0].dtype : "unknown";
}

const json_t *safetensors_metadata(const struct safetensors *s)
{
    return s->metadata;
}
