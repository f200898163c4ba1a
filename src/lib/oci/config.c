/* SPDX-License-Identifier: Apache-2.0 */
/* Implements config.h's reading and writing. */
#include "lib/oci/config.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

void oci_config_init(struct oci_config *c, enum oci_config_kind kind)
{
    *c = (struct oci_config){.kind = kind,
                             .format = "",
                             .architecture = "",
                             .quantization = "",
                             .parameters = "",
                             .size = "",
                             .created_unix = -1};
    c->cncf = (struct oci_config_cncf){.family = "",
                                       .name = "",
                                       .version = "",
                                       .revision = "",
                                       .vendor = "",
                                       .title = "",
                                       .description = "",
                                       .doc_url = "",
                                       .source_url = "",
                                       .precision = "",
                                       .capabilities = ""};
}

enum oci_media oci_config_media(enum oci_config_kind kind)
{
    return kind == OCI_CONFIG_DOCKER_V01   ? MEDIA_DOCKER_CONFIG_V01
           : kind == OCI_CONFIG_DOCKER_V02 ? MEDIA_DOCKER_CONFIG_V02
                                           : MEDIA_CNCF_CONFIG;
}

/* ---- reading ---- */

/* A member that is a string, into *ret; absent leaves it. */
static int take_str(const json_t *obj, const char *name, struct arena *a, const char **ret,
                    struct err *err)
{
    struct str s;
    int rc = json_field_str(obj, name, &s, err);
    if (rc <= 0)
        return rc;
    if (memchr(s.p, '\0', s.len))
        return err_set(err, E_FORMAT, "'%s' holds a NUL", name);
    *ret = arena_try_dup(a, s.p, s.len, err);
    return *ret ? 0 : -err->code;
}

/* An array of strings; absent leaves it empty. */
static int take_strings(const json_t *obj, const char *name, struct arena *a,
                        struct oci_strings *ret, struct err *err)
{
    const json_t *arr = NULL;
    int rc = json_field_arr(obj, name, &arr, err);
    if (rc <= 0)
        return rc;
    size_t n = json_array_size(arr);
    const char **items = arena_try_alloc(a, MAX_OF(n, 1) * sizeof(*items), err);
    if (!items)
        return -err->code;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(arr, i);
        if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
            return err_set(err, E_FORMAT, "item %zu of '%s' is no plain string", i, name);
        items[i] = arena_try_dup(a, json_string_value(v), json_string_length(v), err);
        if (!items[i])
            return -err->code;
    }
    *ret = (struct oci_strings){items, (uint32_t)n};
    return 0;
}

static int take_pair(const char *key, const json_t *v, struct arena *a, struct oci_pair *ret,
                     struct err *err)
{
    struct buf text;
    struct str s = {json_string_value(v), json_string_length(v)};
    buf_init(&text, LIMIT_OCI_CONFIG_BYTES);
    if (!json_is_string(v)) { /* strings is what is written; anything else is taken as its text */
        json_put_value(&text, v);
        s = (struct str){buf_str(&text), text.len};
    }
    int rc = buf_status(&text, key, err);
    if (rc == 0) {
        ret->key = arena_try_dup(a, key, strlen(key), err);
        ret->value = ret->key ? arena_try_dup(a, s.p, s.len, err) : NULL;
        rc = ret->value ? 0 : -err->code;
    }
    buf_release(&text);
    return rc;
}

static int take_pairs(const json_t *obj, const char *name, struct arena *a, struct oci_pairs *ret,
                      struct err *err)
{
    const json_t *map = NULL;
    const char *key;
    json_t *v;
    uint32_t n = 0;
    int rc = json_field_obj(obj, name, &map, err);
    if (rc <= 0)
        return rc;
    struct oci_pair *items =
        arena_try_alloc(a, MAX_OF(json_object_size(map), 1) * sizeof(*items), err);
    if (!items)
        return -err->code;
    /* jansson's iteration takes no const */
    json_object_foreach((json_t *)(uintptr_t)map, key, v)
    {
        rc = take_pair(key, v, a, &items[n++], err);
        if (rc < 0)
            return err_wrap(err, "'%s'", name);
    }
    *ret = (struct oci_pairs){items, n};
    return 0;
}

static int take_time(const json_t *obj, const char *name, int64_t *ret, struct err *err)
{
    struct str s;
    int rc = json_field_str(obj, name, &s, err);
    if (rc <= 0)
        return rc;
    if (!oci_time_parse(s, ret))
        return err_set(err, E_FORMAT, "'%s' is no time as RFC 3339 has it", name);
    return 0;
}

static void lower(const char *s, struct arena *a, const char **ret, struct err *err)
{
    char *copy = arena_try_dup(a, s, strlen(s), err);
    for (char *p = copy; p && *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    *ret = copy ? copy : "";
}

static int docker_parse(const json_t *root, const json_t *inner, struct arena *a,
                        struct oci_config *c, struct err *err)
{
    const json_t *d = NULL, *fs = NULL;
    int64_t n = 0;
    int rc = take_str(inner, "parameters", a, &c->parameters, err);
    if (rc == 0)
        rc = take_str(inner, "size", a, &c->size, err);
    if (rc == 0)
        rc = json_field_int(inner, "context_size", INT32_MIN, INT32_MAX, &n, err);
    if (rc >= 0)
        rc = take_pairs(inner, "gguf", a, &c->gguf, err);
    if (rc == 0)
        rc = take_pairs(inner, "safetensors", a, &c->safetensors, err);
    if (rc == 0)
        rc = take_pairs(inner, "diffusers", a, &c->diffusers, err);
    if (rc == 0)
        rc = json_field_obj(root, "descriptor", &d, err);
    if (rc == 1)
        rc = take_time(d, "created", &c->created_unix, err);
    if (rc == 0)
        rc = json_field_obj(root, "rootfs", &fs, err);
    if (rc == 1)
        rc = take_strings(fs, "diff_ids", a, &c->diff_ids, err);
    c->context_size = n > 0 ? (uint32_t)n : 0;
    return rc;
}

static int cncf_descriptor_parse(const json_t *d, struct arena *a, struct oci_config *c,
                                 struct err *err)
{
    struct oci_config_cncf *m = &c->cncf;
    const struct {
        const char *name;
        const char **ret;
    } words[] = {
        {"family", &m->family},           {"name", &m->name},      {"version", &m->version},
        {"revision", &m->revision},       {"vendor", &m->vendor},  {"title", &m->title},
        {"description", &m->description}, {"docURL", &m->doc_url}, {"sourceURL", &m->source_url}};
    int rc = take_time(d, "createdAt", &c->created_unix, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(words); i++)
        rc = take_str(d, words[i].name, a, words[i].ret, err);
    if (rc == 0)
        rc = take_strings(d, "authors", a, &m->authors, err);
    if (rc == 0)
        rc = take_strings(d, "licenses", a, &m->licenses, err);
    if (rc == 0)
        rc = take_strings(d, "datasetsURL", a, &m->datasets, err);
    return rc;
}

static int cncf_parse(const json_t *root, const json_t *inner, struct arena *a,
                      struct oci_config *c, struct err *err)
{
    const json_t *d = NULL, *fs = NULL, *caps = NULL;
    struct buf text;
    int rc = take_str(inner, "paramSize", a, &c->parameters, err);
    if (rc == 0)
        rc = take_str(inner, "precision", a, &c->cncf.precision, err);
    if (rc == 0)
        rc = json_field_obj(inner, "capabilities", &caps, err);
    if (rc == 1) {
        buf_init(&text, LIMIT_OCI_CONFIG_BYTES);
        json_put_value(&text, caps);
        rc = buf_status(&text, "'capabilities'", err);
        if (rc == 0) {
            c->cncf.capabilities = arena_try_dup(a, text.data, text.len, err);
            rc = c->cncf.capabilities ? 0 : -err->code;
        }
        buf_release(&text);
    }
    if (rc == 0)
        rc = json_field_obj(root, "descriptor", &d, err);
    if (rc == 1)
        rc = cncf_descriptor_parse(d, a, c, err);
    if (rc == 0)
        rc = json_field_obj(root, "modelfs", &fs, err);
    if (rc == 1)
        rc = take_strings(fs, "diffIds", a, &c->diff_ids, err);
    return rc;
}

static bool looks_like_cncf(const json_t *root)
{
    return json_object_get(root, "modelfs") ||
           json_object_get(json_object_get(root, "config"), "paramSize") ||
           json_object_get(json_object_get(root, "descriptor"), "createdAt");
}

static int root_parse(const json_t *root, enum oci_media media, struct arena *a,
                      struct oci_config *c, struct err *err)
{
    const json_t *inner = NULL;
    const char *format = "";
    if (!json_is_object(root))
        return err_set(err, E_FORMAT, "it is %s instead of an object", json_kind(root));
    if (media == MEDIA_UNKNOWN)
        media = looks_like_cncf(root) ? MEDIA_CNCF_CONFIG : MEDIA_DOCKER_CONFIG_V01;
    oci_config_init(c, media == MEDIA_CNCF_CONFIG         ? OCI_CONFIG_CNCF
                       : media == MEDIA_DOCKER_CONFIG_V02 ? OCI_CONFIG_DOCKER_V02
                                                          : OCI_CONFIG_DOCKER_V01);
    int rc = json_field_obj(root, "config", &inner, err);
    if (rc >= 0)
        rc = take_str(inner, "format", a, &format, err);
    if (rc == 0)
        rc = take_str(inner, "architecture", a, &c->architecture, err);
    if (rc == 0)
        rc = take_str(inner, "quantization", a, &c->quantization, err);
    if (rc == 0)
        rc = c->kind == OCI_CONFIG_CNCF ? cncf_parse(root, inner, a, c, err)
                                        : docker_parse(root, inner, a, c, err);
    if (rc == 0)
        lower(format, a, &c->format, err);
    return rc;
}

int oci_config_parse(struct str text, enum oci_media media, struct arena *a, struct oci_config *ret,
                     struct err *err)
{
    json_t *root = NULL;
    int rc = 0;
    if (media != MEDIA_UNKNOWN && oci_media_role(media) != ROLE_CONFIG)
        rc = err_set(err, E_UNSUPPORTED, "its type '%s' is not a model's config",
                     oci_media_type(media));
    else if (text.len > LIMIT_OCI_CONFIG_BYTES)
        rc = err_set(err, E_LIMIT, "it has %zu bytes, more than %u", text.len,
                     LIMIT_OCI_CONFIG_BYTES);
    if (rc == 0)
        rc = json_parse(text, &root, err);
    if (rc == 0)
        rc = root_parse(root, media, a, ret, err);
    json_decref(root);
    return rc < 0 ? err_wrap(err, "the model's config") : 0;
}

/* ---- writing ---- */

/* A member, with a comma before it unless it is the object's first. */
static void put_key(struct buf *out, const char *key)
{
    if (out->len && out->data[out->len - 1] != '{')
        buf_append_char(out, ',');
    buf_printf(out, "\"%s\":", key);
}

static void put_word(struct buf *out, const char *key, const char *value)
{
    if (!value[0])
        return;
    put_key(out, key);
    json_put_str(out, str_from(value));
}

static void put_list(struct buf *out, const char *key, const struct oci_strings *l)
{
    put_key(out, key);
    buf_append_char(out, '[');
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            buf_append_char(out, ',');
        json_put_str(out, str_from(l->items[i]));
    }
    buf_append_char(out, ']');
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct oci_pair *)a)->key, ((const struct oci_pair *)b)->key);
}

static void put_pairs(struct buf *out, const char *key, const struct oci_pairs *p)
{
    struct err err = ERR_INIT;
    if (p->n == 0)
        return;
    struct oci_pair *sorted = mem_try_alloc(p->n, sizeof(*sorted), &err);
    if (!sorted) {
        out->failed = E_NOMEM;
        return;
    }
    memcpy(sorted, p->items, p->n * sizeof(*sorted));
    qsort(sorted, p->n, sizeof(*sorted), compare_pairs);
    put_key(out, key);
    buf_append_char(out, '{');
    for (uint32_t i = 0; i < p->n; i++) {
        if (i)
            buf_append_char(out, ',');
        json_put_str(out, str_from(sorted[i].key));
        buf_append_char(out, ':');
        json_put_str(out, str_from(sorted[i].value));
    }
    buf_append_char(out, '}');
    mem_free(sorted);
}

static void put_time(struct buf *out, const char *key, int64_t unix_s)
{
    char t[OCI_TIME_CHARS];
    if (unix_s < 0)
        return;
    oci_time_put(unix_s, t);
    put_word(out, key, t);
}

static void put_docker_inner(const struct oci_config *c, struct buf *out)
{
    buf_append_char(out, '{');
    put_word(out, "format", c->format);
    put_word(out, "quantization", c->quantization);
    put_word(out, "parameters", c->parameters);
    put_word(out, "architecture", c->architecture);
    put_word(out, "size", c->size);
    put_pairs(out, "gguf", &c->gguf);
    put_pairs(out, "safetensors", &c->safetensors);
    put_pairs(out, "diffusers", &c->diffusers);
    if (c->context_size) {
        put_key(out, "context_size");
        buf_printf(out, "%u", c->context_size);
    }
    buf_append_char(out, '}');
}

static void put_docker(const struct oci_config *c, struct buf *out)
{
    buf_append_str(out, "{\"config\":");
    put_docker_inner(c, out);
    put_key(out, "descriptor");
    buf_append_char(out, '{');
    put_time(out, "created", c->created_unix);
    buf_append_char(out, '}');
    put_key(out, "rootfs");
    buf_append_str(out, "{\"type\":\"rootfs\"");
    put_list(out, "diff_ids", &c->diff_ids);
    buf_append_str(out, "}}");
}

static void put_cncf(const struct oci_config *c, struct buf *out)
{
    const struct oci_config_cncf *m = &c->cncf;
    buf_append_str(out, "{\"descriptor\":{");
    put_time(out, "createdAt", c->created_unix);
    if (m->authors.n)
        put_list(out, "authors", &m->authors);
    put_word(out, "family", m->family);
    put_word(out, "name", m->name);
    put_word(out, "docURL", m->doc_url);
    put_word(out, "sourceURL", m->source_url);
    if (m->datasets.n)
        put_list(out, "datasetsURL", &m->datasets);
    put_word(out, "version", m->version);
    put_word(out, "revision", m->revision);
    put_word(out, "vendor", m->vendor);
    if (m->licenses.n)
        put_list(out, "licenses", &m->licenses);
    put_word(out, "title", m->title);
    put_word(out, "description", m->description);
    buf_append_str(out, "},\"modelfs\":{\"type\":\"layers\"");
    put_list(out, "diffIds", &c->diff_ids);
    buf_append_str(out, "},\"config\":{");
    put_word(out, "architecture", c->architecture);
    put_word(out, "format", c->format);
    put_word(out, "paramSize", c->parameters);
    put_word(out, "precision", m->precision);
    put_word(out, "quantization", c->quantization);
    if (m->capabilities[0]) {
        put_key(out, "capabilities");
        buf_append_str(out, m->capabilities);
    }
    buf_append_str(out, "}}");
}

void oci_config_put(const struct oci_config *c, struct buf *out)
{
    if (c->kind == OCI_CONFIG_CNCF)
        put_cncf(c, out);
    else
        put_docker(c, out);
}

void oci_config_put_inner(const struct oci_config *c, struct buf *out)
{
    if (c->kind == OCI_CONFIG_CNCF)
        put_cncf(c, out);
    else
        put_docker_inner(c, out);
}
