/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF metadata: reads and checks the key/value table once, then answers typed questions about it.
 * Owns the table of views; the bytes stay in the mapping.  Read-only after gguf_values_read: any
 * thread. */
#include <stdio.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/gguf_int.h"

/* key length 8, key 1, type 4, value 1 */
#define VALUE_MIN_BYTES 14u

static const struct {
    const char *name;
    uint8_t bytes; /* 0: of its own length */
    bool is_int;
} types[GGUF_N_TYPES] = {
    [GGUF_U8] = {"u8", 1, true},          [GGUF_I8] = {"i8", 1, true},
    [GGUF_U16] = {"u16", 2, true},        [GGUF_I16] = {"i16", 2, true},
    [GGUF_U32] = {"u32", 4, true},        [GGUF_I32] = {"i32", 4, true},
    [GGUF_F32] = {"f32", 4, false},       [GGUF_BOOL] = {"bool", 1, false},
    [GGUF_STRING] = {"string", 0, false}, [GGUF_ARRAY] = {"array", 0, false},
    [GGUF_U64] = {"u64", 8, true},        [GGUF_I64] = {"i64", 8, true},
    [GGUF_F64] = {"f64", 8, false},
};

const char *gguf_type_name(enum gguf_type t)
{
    return types[t].name;
}

bool gguf_type_is_int(enum gguf_type t)
{
    return types[t].is_int;
}

/* ---- reading ---- */

static int type_read(struct gguf_reader *r, const char *field, enum gguf_type *ret, struct err *err)
{
    uint32_t type;
    int rc = gguf_read_u32(r, field, &type, err);
    if (rc < 0)
        return rc;
    char where[GGUF_WHERE_MAX];
    if (type >= GGUF_N_TYPES)
        return err_set(err, E_FORMAT, "%s: the %s is %u, which GGUF does not define",
                       gguf_reader_where(r, where), field, type);
    *ret = (enum gguf_type)type;
    return 0;
}

/* Walks n items at the cursor, checking that they are all there and are what they say. */
static int items_walk(struct gguf_reader *r, enum gguf_type type, uint64_t n, const char *field,
                      struct err *err)
{
    char where[GGUF_WHERE_MAX];
    uint64_t item_bytes = type == GGUF_STRING ? 8 : types[type].bytes;
    if (n > gguf_reader_left(r) / item_bytes)
        return err_set(err, E_FORMAT,
                       "%s: the %s of %llu items of type %s does not fit in the %llu bytes left at "
                       "offset %llu",
                       gguf_reader_where(r, where), field, (unsigned long long)n, types[type].name,
                       (unsigned long long)gguf_reader_left(r), (unsigned long long)r->pos);
    if (n > LIMIT_GGUF_ARRAY_ITEMS)
        return err_set(err, E_LIMIT, "%s: the array has %llu items; berth's limit is %u",
                       gguf_reader_where(r, where), (unsigned long long)n, LIMIT_GGUF_ARRAY_ITEMS);
    struct str s;
    for (uint64_t i = 0; type == GGUF_STRING && i < n; i++) {
        int rc = gguf_read_str(r, field, LIMIT_GGUF_STRING_BYTES, &s, err);
        if (rc < 0)
            return rc;
    }
    for (uint64_t i = 0; type == GGUF_BOOL && i < n; i++) {
        if ((unsigned char)r->base[r->pos + i] > 1)
            return err_set(err, E_FORMAT, "%s: a bool is %u at offset %llu; only 0 and 1 are",
                           gguf_reader_where(r, where), (unsigned char)r->base[r->pos + i],
                           (unsigned long long)(r->pos + i));
    }
    r->pos += type == GGUF_STRING ? 0 : n * item_bytes;
    return 0;
}

static int array_read(struct gguf_reader *r, struct gguf_value *v, struct err *err)
{
    char where[GGUF_WHERE_MAX];
    int rc = type_read(r, "array's item type", &v->item_type, err);
    if (rc == 0)
        rc = gguf_read_u64(r, "array's length", &v->n_items, err);
    if (rc < 0)
        return rc;
    if (v->item_type == GGUF_ARRAY)
        return err_set(err, E_UNSUPPORTED, "%s: arrays inside arrays are not read",
                       gguf_reader_where(r, where));
    v->data = r->base + r->pos;
    uint64_t start = r->pos;
    rc = items_walk(r, v->item_type, v->n_items, "array", err);
    v->data_bytes = (size_t)(r->pos - start);
    return rc;
}

static int value_read(struct gguf_reader *r, struct gguf_value *v, struct err *err)
{
    int rc = gguf_read_name(r, LIMIT_GGUF_KEY_BYTES, &v->key, err);
    if (rc == 0)
        rc = type_read(r, "value type", &v->type, err);
    if (rc < 0)
        return rc;
    if (v->type == GGUF_ARRAY)
        return array_read(r, v, err);
    v->item_type = v->type;
    v->n_items = 1;
    v->data = r->base + r->pos;
    uint64_t start = r->pos;
    if (v->type == GGUF_STRING) {
        struct str s;
        rc = gguf_read_str(r, "value", LIMIT_GGUF_STRING_BYTES, &s, err);
        if (rc == 0) {
            v->data = s.p;
            v->data_bytes = s.len;
        }
        return rc;
    }
    rc = gguf_reader_need(r, types[v->type].bytes, "value", err);
    if (rc == 0)
        rc = items_walk(r, v->type, 1, "value", err);
    v->data_bytes = (size_t)(r->pos - start);
    return rc;
}

int gguf_values_read(struct gguf_values *v, struct gguf_reader *r, uint32_t n, struct err *err)
{
    BUG_ON(v->items);
    if (n > gguf_reader_left(r) / VALUE_MIN_BYTES)
        return err_set(err, E_FORMAT,
                       "header: %u metadata keys are announced; the %llu bytes from offset %llu "
                       "cannot hold them",
                       n, (unsigned long long)gguf_reader_left(r), (unsigned long long)r->pos);
    v->items = mem_try_alloc(n, sizeof(*v->items), err);
    if (!v->items)
        return -err->code;
    int rc = map_try_reserve(&v->index, n, err);
    r->part = GGUF_PART_VALUE;
    r->n = n;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        uint32_t old;
        r->index = i;
        r->name = (struct str){0};
        rc = value_read(r, &v->items[i], err);
        if (rc == 0)
            rc = map_try_put(&v->index, v->items[i].key, i, &old, err);
        if (rc == 0 && old != MAP_NONE)
            rc = err_set(err, E_FORMAT, "metadata key '%.*s' is there twice",
                         GGUF_NAME_ARG(v->items[i].key));
        if (rc == 0)
            v->n = i + 1;
    }
    return rc;
}

void gguf_values_release(struct gguf_values *v)
{
    mem_free(v->items);
    map_release(&v->index);
    *v = (struct gguf_values){0};
}

/* ---- asking ---- */

const struct gguf_value *gguf_values_find(const struct gguf_values *v, const char *key)
{
    uint32_t i = map_get(&v->index, str_from(key));
    return i == MAP_NONE ? NULL : &v->items[i];
}

/* The bits of item i of a type of fixed size, zero-extended. */
static uint64_t item_bits(const struct gguf_value *v, uint64_t i)
{
    uint64_t bits = 0;
    size_t bytes = types[v->item_type].bytes;
    BUG_ON(i >= v->n_items || bytes == 0);
    memcpy(&bits, v->data + i * bytes, bytes);
    return bits;
}

static bool is_signed_int(enum gguf_type t)
{
    return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

int64_t gguf_item_i64(const struct gguf_value *v, uint64_t i)
{
    uint64_t bits = item_bits(v, i);
    switch (v->item_type) {
    case GGUF_I8: return (int8_t)bits;
    case GGUF_I16: return (int16_t)bits;
    case GGUF_I32: return (int32_t)bits;
    case GGUF_F32:
    case GGUF_F64: BUG_ON(true);
    default: return (int64_t)bits;
    }
}

uint64_t gguf_item_u64(const struct gguf_value *v, uint64_t i)
{
    return (uint64_t)gguf_item_i64(v, i);
}

double gguf_item_f64(const struct gguf_value *v, uint64_t i)
{
    uint64_t bits = item_bits(v, i);
    if (v->item_type == GGUF_F32) {
        uint32_t low = (uint32_t)bits;
        float f;
        memcpy(&f, &low, sizeof(f));
        return (double)f;
    }
    if (v->item_type == GGUF_F64) {
        double d;
        memcpy(&d, &bits, sizeof(d));
        return d;
    }
    return is_signed_int(v->item_type) ? (double)gguf_item_i64(v, i) : (double)bits;
}

bool gguf_next_str(const struct gguf_value *v, size_t *cursor, struct str *ret)
{
    BUG_ON(v->type != GGUF_ARRAY || v->item_type != GGUF_STRING);
    uint64_t len;
    size_t left = v->data_bytes - *cursor;
    if (left < sizeof(len))
        return false;
    memcpy(&len, v->data + *cursor, sizeof(len));
    /* Checked at open; but the mapping is shared, and whoever may write the file can still change
     * it. */
    if (len > left - sizeof(len))
        return false;
    *ret = (struct str){v->data + *cursor + sizeof(len), (size_t)len};
    *cursor += sizeof(len) + (size_t)len;
    return true;
}

static int type_refuse(const struct gguf_value *v, const char *want, struct err *err)
{
    return err_set(err, E_FORMAT, "metadata key '%.*s' is of type %s; %s is needed",
                   GGUF_NAME_ARG(v->key), types[v->type].name, want);
}

int gguf_values_get_u64(const struct gguf_values *vs, const char *key, uint64_t min, uint64_t max,
                        uint64_t dflt, uint64_t *ret, struct err *err)
{
    const struct gguf_value *v = gguf_values_find(vs, key);
    if (!v) {
        *ret = dflt;
        return 0;
    }
    if (!types[v->type].is_int)
        return type_refuse(v, "an integer", err);
    int64_t i = gguf_item_i64(v, 0);
    if (is_signed_int(v->type) && i < 0)
        return err_set(err, E_FORMAT, "metadata key '%s' is %lld; it must be between %llu and %llu",
                       key, (long long)i, (unsigned long long)min, (unsigned long long)max);
    uint64_t u = (uint64_t)i;
    if (u < min || u > max)
        return err_set(err, E_FORMAT, "metadata key '%s' is %llu; it must be between %llu and %llu",
                       key, (unsigned long long)u, (unsigned long long)min,
                       (unsigned long long)max);
    *ret = u;
    return 0;
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t dflt,
                 uint64_t *ret, struct err *err)
{
    return gguf_values_get_u64(&g->values, key, min, max, dflt, ret, err);
}

int gguf_get_i64(const struct gguf *g, const char *key, int64_t dflt, int64_t *ret, struct err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) {
        *ret = dflt;
        return 0;
    }
    if (!types[v->type].is_int)
        return type_refuse(v, "an integer", err);
    if (v->type == GGUF_U64 && gguf_item_u64(v, 0) > INT64_MAX)
        return err_set(err, E_FORMAT, "metadata key '%s' is %llu, which is too large", key,
                       (unsigned long long)gguf_item_u64(v, 0));
    *ret = gguf_item_i64(v, 0);
    return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float dflt, float *ret, struct err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) {
        *ret = dflt;
        return 0;
    }
    if (v->type != GGUF_F32 && v->type != GGUF_F64)
        return type_refuse(v, "a float", err);
    *ret = (float)gguf_item_f64(v, 0);
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool dflt, bool *ret, struct err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) {
        *ret = dflt;
        return 0;
    }
    if (v->type != GGUF_BOOL)
        return type_refuse(v, "a bool", err);
    *ret = gguf_item_u64(v, 0) != 0;
    return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct str dflt, struct str *ret,
                 struct err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) {
        *ret = dflt;
        return 0;
    }
    if (v->type != GGUF_STRING)
        return type_refuse(v, "a string", err);
    *ret = (struct str){v->data, v->data_bytes};
    return 0;
}
