/* SPDX-License-Identifier: Apache-2.0 */
/* Implements manifest.h. */
#include "lib/oci/manifest.h"

#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/codec/relpath.h"

#define PATH_ANNOTATION OCI_ANNOTATION_PATH

static const struct {
    const char *type;
    enum oci_role role;
    enum oci_packing packing;
} media[] = {
#define MEDIA(id, type, role, packing) {type, ROLE_##role, PACKING_##packing},
#include "lib/oci/media.def"
#undef MEDIA
};

enum oci_media oci_media_find(struct str type)
{
    int i = 0;
    while (i < MEDIA_UNKNOWN && !str_is(type, media[i].type))
        i++;
    return (enum oci_media)i;
}

const char *oci_media_type(enum oci_media m)
{
    BUG_ON(m >= MEDIA_UNKNOWN);
    return media[m].type;
}

enum oci_role oci_media_role(enum oci_media m)
{
    return m < MEDIA_UNKNOWN ? media[m].role : ROLE_UNKNOWN;
}

enum oci_packing oci_media_packing(enum oci_media m)
{
    return m < MEDIA_UNKNOWN ? media[m].packing : PACKING_RAW;
}

int oci_path_check(struct str path, struct err *err)
{
    if (relpath_is_inside(path, LIMIT_OCI_PATH_BYTES))
        return 0;
    return err_set(err, E_INVALID,
                   "'%.*s' cannot be the path of a model's file: it must be relative, stay inside "
                   "the model's folder and have at most %u bytes of plain text",
                   (int)MIN_OF(path.len, 160), path.p ? path.p : "", LIMIT_OCI_PATH_BYTES);
}

static bool has_ending(const char *s, const char *ending)
{
    size_t n = strlen(s), len = strlen(ending);
    return n >= len && strcasecmp(s + n - len, ending) == 0;
}

enum oci_role oci_role_of_name(const char *path)
{
    static const char *const licenses[] = {"license", "licence", "copying", "notice"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (has_ending(name, ".gguf"))
        return strcasestr(name, "mmproj") ? ROLE_MMPROJ : ROLE_GGUF;
    if (has_ending(name, ".safetensors"))
        return ROLE_SAFETENSORS;
    if (has_ending(name, ".dduf"))
        return ROLE_DDUF;
    if (has_ending(name, ".mmproj"))
        return ROLE_MMPROJ;
    if (has_ending(name, ".jinja") || strcasestr(name, "chat_template"))
        return ROLE_TEMPLATE;
    for (size_t i = 0; i < ARRAY_LEN(licenses); i++) {
        if (strcasestr(name, licenses[i]))
            return ROLE_LICENSE;
    }
    return ROLE_FILE;
}

/* ModelPack says of a layer only that it is weights, or what goes with them: the name tells more.
 */
static enum oci_role role_refine(enum oci_role role, enum oci_media media, const char *path)
{
    if (!path || oci_media_packing(media) != PACKING_RAW)
        return role;
    enum oci_role told = oci_role_of_name(path);
    bool is_weight =
        told == ROLE_GGUF || told == ROLE_SAFETENSORS || told == ROLE_DDUF || told == ROLE_MMPROJ;
    if (role == ROLE_WEIGHT)
        return is_weight ? told : role;
    return media == MEDIA_CNCF_FILE && told == ROLE_TEMPLATE ? told : role;
}

static int need_str(const json_t *obj, const char *name, size_t max, struct str *ret,
                    struct err *err)
{
    int rc = json_field_str(obj, name, ret, err);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return err_set(err, E_FORMAT, "'%s' is missing", name);
    if (ret->len > max || memchr(ret->p, '\0', ret->len))
        return err_set(err, E_FORMAT, "'%s' is longer than %zu bytes or holds a NUL", name, max);
    return 0;
}

/* All annotations as they are, for writing the descriptor again. */
static int take_notes(const json_t *notes, struct arena *a, struct oci_descriptor *ret,
                      struct err *err)
{
    struct buf text;
    buf_init(&text, LIMIT_OCI_MANIFEST_BYTES);
    json_put_value(&text, notes);
    int rc = buf_status(&text, "'annotations'", err);
    if (rc == 0) {
        ret->annotations = arena_try_dup(a, text.data, text.len, err);
        rc = ret->annotations ? 0 : -err->code;
    }
    buf_release(&text);
    return rc;
}

static int take_path(const json_t *obj, struct arena *a, struct oci_descriptor *ret,
                     struct err *err)
{
    const json_t *notes = NULL;
    struct str path;
    int rc = json_field_obj(obj, "annotations", &notes, err);
    if (rc == 1)
        rc = take_notes(notes, a, ret, err);
    if (rc == 0 && notes)
        rc = json_field_str(notes, PATH_ANNOTATION, &path, err);
    if (rc <= 0)
        return rc;
    rc = oci_path_check(path, err);
    ret->path = rc < 0 ? NULL : arena_try_dup(a, path.p, path.len, err);
    return ret->path ? 0 : -err->code;
}

static int descriptor_parse(const json_t *obj, struct arena *a, struct oci_descriptor *ret,
                            struct err *err)
{
    struct str type, digest;
    int64_t size = 0;
    struct oci_descriptor d = {.media = MEDIA_UNKNOWN};
    if (!json_is_object(obj))
        return err_set(err, E_FORMAT, "it is %s instead of an object", json_kind(obj));
    int rc = need_str(obj, "mediaType", LIMIT_OCI_MEDIA_TYPE_BYTES, &type, err);
    if (rc == 0)
        rc = need_str(obj, "digest", LIMIT_OCI_MEDIA_TYPE_BYTES, &digest, err);
    if (rc == 0)
        rc = oci_digest_check(digest, err);
    if (rc == 0) {
        rc = json_field_int(obj, "size", 0, (int64_t)LIMIT_OCI_BLOB_BYTES, &size, err);
        rc = rc == 0 ? err_set(err, E_FORMAT, "'size' is missing") : rc < 0 ? rc : 0;
    }
    if (rc == 0 && json_array_size(json_object_get(obj, "urls")))
        rc = err_set(err, E_UNSUPPORTED,
                     "it lies at foreign addresses ('urls'), which are never followed");
    if (rc < 0)
        return rc;
    memcpy(d.digest, digest.p, digest.len);
    d.size = (uint64_t)size;
    d.media = oci_media_find(type);
    d.media_type = arena_try_dup(a, type.p, type.len, err);
    rc = d.media_type ? take_path(obj, a, &d, err) : -err->code;
    if (rc < 0)
        return rc;
    d.role = role_refine(oci_media_role(d.media), d.media, d.path);
    *ret = d;
    return 0;
}

static int descriptors_parse(const json_t *arr, const char *what, uint32_t max, struct arena *a,
                             struct oci_descriptor **ret, uint32_t *ret_n, struct err *err)
{
    size_t n = json_array_size(arr);
    if (n > max)
        return err_set(err, E_LIMIT, "there are %zu %ss, more than %u", n, what, max);
    struct oci_descriptor *d = arena_try_alloc(a, MAX_OF(n, 1) * sizeof(*d), err);
    if (!d)
        return -err->code;
    for (size_t i = 0; i < n; i++) {
        int rc = descriptor_parse(json_array_get(arr, i), a, &d[i], err);
        if (rc < 0)
            return err_wrap(err, "%s %zu", what, i);
    }
    *ret = d;
    *ret_n = (uint32_t)n;
    return 0;
}

/* The top of either kind of document; its own mediaType, when it says one, is *ret_media. */
static int document_parse(struct str text, json_t **ret, enum oci_media *ret_media, struct err *err)
{
    struct str type;
    int64_t version = 0;
    json_t *root;
    if (text.len > LIMIT_OCI_MANIFEST_BYTES)
        return err_set(err, E_LIMIT, "it has %zu bytes, more than %u", text.len,
                       LIMIT_OCI_MANIFEST_BYTES);
    int rc = json_parse(text, &root, err);
    if (rc < 0)
        return rc;
    if (!json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is %s instead of an object", json_kind(root));
    if (rc == 0) {
        rc = json_field_int(root, "schemaVersion", 2, 2, &version, err);
        rc = rc == 0 ? err_set(err, E_FORMAT, "'schemaVersion' is missing") : rc < 0 ? rc : 0;
    }
    if (rc == 0)
        rc = json_field_str(root, "mediaType", &type, err);
    if (rc == 1)
        *ret_media = oci_media_find(type);
    if (rc < 0)
        json_decref(root);
    else
        *ret = root;
    return rc < 0 ? rc : 0;
}

static int body_parse(const json_t *root, struct arena *a, struct oci_manifest *m, struct err *err)
{
    struct str type = STR_LIT("");
    const json_t *arr = NULL;
    int rc = json_field_str(root, "artifactType", &type, err);
    if (rc < 0)
        return rc;
    if (type.len > LIMIT_OCI_MEDIA_TYPE_BYTES)
        return err_set(err, E_LIMIT, "'artifactType' is longer than %u bytes",
                       LIMIT_OCI_MEDIA_TYPE_BYTES);
    m->artifact_type = arena_try_dup(a, type.p, type.len, err);
    if (!m->artifact_type)
        return -err->code;
    if (descriptor_parse(json_object_get(root, "config"), a, &m->config, err) < 0)
        return err_wrap(err, "'config'");
    rc = json_field_arr(root, "layers", &arr, err);
    if (rc == 0)
        rc = err_set(err, E_FORMAT, "'layers' is missing");
    if (rc < 0)
        return rc;
    rc = descriptors_parse(arr, "layer", LIMIT_OCI_LAYERS, a, &m->layers, &m->n_layers, err);
    m->total_bytes = m->config.size;
    for (uint32_t i = 0; rc == 0 && i < m->n_layers; i++) {
        if (!size_add(m->total_bytes, m->layers[i].size, &m->total_bytes))
            rc = err_set(err, E_FORMAT, "the layers' sizes add up to more than 64 bits hold");
    }
    return rc;
}

int oci_manifest_parse(struct str text, struct arena *a, struct oci_manifest *ret, struct err *err)
{
    struct oci_manifest m = {.media = MEDIA_OCI_MANIFEST};
    json_t *root = NULL;
    int rc = document_parse(text, &root, &m.media, err);
    if (rc < 0)
        return err_wrap(err, "manifest");
    if (oci_media_role(m.media) == ROLE_INDEX || json_object_get(root, "manifests"))
        rc = err_set(err, E_UNSUPPORTED, "it is an index of several manifests, not one");
    else if (oci_media_role(m.media) != ROLE_MANIFEST)
        rc = err_set(err, E_UNSUPPORTED, "its media type is not a manifest's");
    else
        rc = body_parse(root, a, &m, err);
    json_decref(root);
    if (rc < 0)
        return err_wrap(err, "manifest");
    *ret = m;
    return 0;
}

int oci_index_parse(struct str text, struct arena *a, struct oci_index *ret, struct err *err)
{
    enum oci_media type = MEDIA_OCI_INDEX;
    struct oci_index index = {0};
    const json_t *arr = NULL;
    json_t *root = NULL;
    int rc = document_parse(text, &root, &type, err);
    if (rc < 0)
        return err_wrap(err, "index");
    if (oci_media_role(type) != ROLE_INDEX)
        rc = err_set(err, E_UNSUPPORTED, "its media type is not an index's");
    else
        rc = json_field_arr(root, "manifests", &arr, err);
    if (rc == 0)
        rc = err_set(err, E_FORMAT, "'manifests' is missing");
    if (rc == 1)
        rc = descriptors_parse(arr, "manifest", LIMIT_OCI_LAYERS, a, &index.manifests,
                               &index.n_manifests, err);
    json_decref(root);
    if (rc < 0)
        return err_wrap(err, "index");
    *ret = index;
    return 0;
}

static bool is_weight(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_DDUF ||
           role == ROLE_WEIGHT;
}

static int check_paths(const struct oci_manifest *m, struct err *err)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        for (uint32_t j = 0; j < i && m->layers[i].path; j++) {
            if (m->layers[j].path && strcmp(m->layers[i].path, m->layers[j].path) == 0)
                return err_set(err, E_FORMAT, "layers %u and %u both are the file '%s'", j, i,
                               m->layers[i].path);
        }
    }
    return 0;
}

int oci_manifest_check_model(const struct oci_manifest *m, struct err *err)
{
    enum oci_role weights = ROLE_UNKNOWN;
    if (oci_media_role(m->config.media) != ROLE_CONFIG)
        return err_set(err, E_UNSUPPORTED,
                       "this is no model that berth knows: its config is of type '%s'",
                       m->config.media_type);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        enum oci_role role = m->layers[i].role;
        if (!is_weight(role))
            continue;
        /* Of weights without a name, or in an archive, nobody knows yet what they are. */
        bool is_known = role != ROLE_WEIGHT && weights != ROLE_WEIGHT;
        if (weights != ROLE_UNKNOWN && weights != role && is_known)
            return err_set(err, E_UNSUPPORTED,
                           "the model mixes weights of several formats (layer %u is '%s')", i,
                           m->layers[i].media_type);
        weights = role == ROLE_WEIGHT && weights != ROLE_UNKNOWN ? weights : role;
    }
    if (weights == ROLE_UNKNOWN)
        return err_set(err, E_UNSUPPORTED, "the model has no layer of weights");
    /* v0.1 goes by roles: its annotations are for people. */
    return m->config.media == MEDIA_DOCKER_CONFIG_V01 ? 0 : check_paths(m, err);
}

static void put_descriptor(const struct oci_descriptor *d, struct buf *out)
{
    buf_append_str(out, "{\"mediaType\":");
    json_put_str(out, str_from(d->media_type));
    buf_printf(out, ",\"digest\":\"%s\",\"size\":%llu", d->digest, (unsigned long long)d->size);
    if (d->annotations) {
        buf_printf(out, ",\"annotations\":%s", d->annotations);
    } else if (d->path) {
        buf_append_str(out, ",\"annotations\":{\"" PATH_ANNOTATION "\":");
        json_put_str(out, str_from(d->path));
        buf_append_char(out, '}');
    }
    buf_append_char(out, '}');
}

void oci_manifest_put(const struct oci_manifest *m, struct buf *out)
{
    buf_printf(out, "{\"schemaVersion\":2,\"mediaType\":\"%s\"", oci_media_type(m->media));
    if (m->artifact_type[0]) {
        buf_append_str(out, ",\"artifactType\":");
        json_put_str(out, str_from(m->artifact_type));
    }
    buf_append_str(out, ",\"config\":");
    put_descriptor(&m->config, out);
    buf_append_str(out, ",\"layers\":[");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (i)
            buf_append_char(out, ',');
        put_descriptor(&m->layers[i], out);
    }
    buf_append_str(out, "]}");
}
