/* SPDX-License-Identifier: Apache-2.0 */
/* Implements package.h. */
#include "lib/oci/package.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"

#define TITLE_ANNOTATION "org.opencontainers.image.title"
#define CNCF_ARTIFACT    "application/vnd.cncf.model.manifest.v1+json"

enum oci_config_kind oci_package_kind(const char *format, bool is_cncf)
{
    if (is_cncf)
        return OCI_CONFIG_CNCF;
    return strcmp(format, "safetensors") == 0 ? OCI_CONFIG_DOCKER_V02 : OCI_CONFIG_DOCKER_V01;
}

void oci_package_init(struct oci_package *p, enum oci_config_kind kind)
{
    *p = (struct oci_package){0};
    oci_config_init(&p->config, kind);
}

static int grow(struct oci_package *p, struct arena *a, struct err *err)
{
    if (p->n_files == LIMIT_OCI_LAYERS)
        return err_set(err, E_LIMIT, "the model has more than %u files", LIMIT_OCI_LAYERS);
    if (p->n_files < p->cap_files)
        return 0;
    uint32_t cap = p->cap_files ? 2 * p->cap_files : 16;
    struct oci_file *more = arena_try_alloc(a, cap * sizeof(*more), err);
    if (!more)
        return -err->code;
    if (p->n_files)
        memcpy(more, p->files, p->n_files * sizeof(*more));
    p->files = more;
    p->cap_files = cap;
    return 0;
}

int oci_package_add(struct oci_package *p, const struct oci_file *f, struct arena *a,
                    struct err *err)
{
    bool is_single = f->role == ROLE_TEMPLATE || f->role == ROLE_MMPROJ;
    bool is_named = p->config.kind == OCI_CONFIG_DOCKER_V02; /* a folder may have several */
    struct oci_file *place = NULL;
    int rc = f->path[0] ? oci_path_check(str_from(f->path), err) : 0;
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < p->n_files; i++) {
        struct oci_file *old = &p->files[i];
        bool same_path = f->path[0] && strcmp(old->path, f->path) == 0;
        if (is_single && old->role == f->role && (!is_named || same_path))
            place = old;
        else if (same_path)
            return err_set(err, E_INVALID,
                           "two files of the model would be called '%s'; rename one of them",
                           f->path);
    }
    if (!place) {
        rc = grow(p, a, err);
        if (rc < 0)
            return rc;
        place = &p->files[p->n_files++];
    }
    *place = *f;
    return 0;
}

int oci_package_from(struct str manifest, struct str config, struct arena *a,
                     struct oci_package *ret, struct err *err)
{
    struct oci_manifest m;
    int rc = oci_manifest_parse(manifest, a, &m, err);
    if (rc == 0)
        rc = oci_manifest_check_model(&m, err);
    oci_package_init(ret, OCI_CONFIG_DOCKER_V01);
    if (rc == 0)
        rc = oci_config_parse(config, m.config.media, a, &ret->config, err);
    for (uint32_t i = 0; rc == 0 && i < m.n_layers; i++) {
        const struct oci_descriptor *d = &m.layers[i];
        rc = grow(ret, a, err);
        if (rc < 0)
            break;
        struct oci_file *f = &ret->files[ret->n_files++];
        *f = (struct oci_file){.path = d->path ? d->path : "",
                               .role = d->role,
                               .size = d->size,
                               .packing = oci_media_packing(d->media),
                               .media_type = d->media_type,
                               .annotations = d->annotations};
        memcpy(f->digest, d->digest, sizeof(f->digest));
        const struct oci_strings *ids = &ret->config.diff_ids;
        if (f->packing != PACKING_RAW && i < ids->n &&
            oci_digest_check(str_from(ids->items[i]), err) == 0)
            memcpy(f->diff_id, ids->items[i], sizeof(f->diff_id));
    }
    return rc;
}

void oci_package_convert(struct oci_package *p, enum oci_config_kind kind)
{
    if (p->config.kind == kind)
        return;
    p->config.kind = kind;
    if (kind == OCI_CONFIG_CNCF)
        p->config.context_size = 0;
    for (uint32_t i = 0; i < p->n_files; i++)
        p->files[i].media_type = p->files[i].annotations = NULL;
}

/* ---- building ---- */

static bool is_weight(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_DDUF ||
           role == ROLE_WEIGHT;
}

static bool is_text(const char *path)
{
    size_t n = strlen(path);
    return n > 3 && strcasecmp(path + n - 3, ".md") == 0;
}

static enum oci_media docker_media(const struct oci_file *f)
{
    if (f->packing == PACKING_TAR)
        return MEDIA_DOCKER_DIR;
    switch (f->role) {
    case ROLE_GGUF: return MEDIA_DOCKER_GGUF;
    case ROLE_SAFETENSORS: return MEDIA_DOCKER_SAFETENSORS;
    case ROLE_DDUF: return MEDIA_DOCKER_DDUF;
    case ROLE_MMPROJ: return MEDIA_DOCKER_MMPROJ;
    case ROLE_TEMPLATE: return MEDIA_DOCKER_TEMPLATE;
    case ROLE_LICENSE: return MEDIA_DOCKER_LICENSE;
    case ROLE_LORA: return MEDIA_DOCKER_LORA;
    default: return MEDIA_DOCKER_FILE;
    }
}

/* Each row: raw, tar, tar+gzip, tar+zstd. */
static enum oci_media cncf_media(const struct oci_file *f)
{
    static const enum oci_media weight[] = {MEDIA_CNCF_WEIGHT, MEDIA_CNCF_WEIGHT_TAR,
                                            MEDIA_CNCF_WEIGHT_GZIP, MEDIA_CNCF_WEIGHT_ZSTD};
    static const enum oci_media file[] = {MEDIA_CNCF_FILE, MEDIA_CNCF_FILE_TAR,
                                          MEDIA_CNCF_FILE_GZIP, MEDIA_CNCF_FILE_ZSTD};
    static const enum oci_media doc[] = {MEDIA_CNCF_DOC, MEDIA_CNCF_DOC_TAR, MEDIA_CNCF_DOC_GZIP,
                                         MEDIA_CNCF_DOC_ZSTD};
    static const enum oci_media code[] = {MEDIA_CNCF_CODE, MEDIA_CNCF_CODE_TAR,
                                          MEDIA_CNCF_CODE_GZIP, MEDIA_CNCF_CODE_ZSTD};
    static const enum oci_media dataset[] = {MEDIA_CNCF_DATASET, MEDIA_CNCF_DATASET_TAR,
                                             MEDIA_CNCF_DATASET_GZIP, MEDIA_CNCF_DATASET_ZSTD};
    const enum oci_media *row = file;
    if (is_weight(f->role) || f->role == ROLE_MMPROJ || f->role == ROLE_LORA)
        row = weight;
    else if (f->role == ROLE_LICENSE || (f->role == ROLE_FILE && is_text(f->path)))
        row = doc;
    else if (f->role == ROLE_CODE)
        row = code;
    else if (f->role == ROLE_DATASET)
        row = dataset;
    return row[f->packing];
}

/* The annotations that Docker Model Runner, ModelPack's tools and oras look for.  The file's
 * metadata says what cannot differ between two copies of it: its name and size. */
static const char *annotations_make(const struct oci_file *f, struct arena *a, struct err *err)
{
    const char *slash = strrchr(f->path, '/');
    struct buf inner, out;
    buf_init(&inner, 8 * LIMIT_OCI_PATH_BYTES);
    buf_init(&out, (size_t)32 * LIMIT_OCI_PATH_BYTES);
    buf_append_str(&inner, "{\"name\":");
    json_put_str(&inner, str_from(slash ? slash + 1 : f->path));
    buf_printf(&inner,
               ",\"mode\":420,\"uid\":0,\"gid\":0,\"size\":%llu,\"mtime\":"
               "\"1970-01-01T00:00:00Z\",\"typeflag\":0}",
               (unsigned long long)f->size);
    buf_append_str(&out, "{\"" OCI_ANNOTATION_UNTESTED "\":\"false\",");
    buf_append_str(&out, "\"" OCI_ANNOTATION_METADATA "\":");
    json_put_str(&out, (struct str){buf_str(&inner), inner.len});
    buf_append_str(&out, ",\"" OCI_ANNOTATION_PATH "\":");
    json_put_str(&out, str_from(f->path));
    buf_append_str(&out, ",\"" TITLE_ANNOTATION "\":");
    json_put_str(&out, str_from(f->path));
    buf_append_char(&out, '}');
    const char *ret = NULL;
    if (buf_status(&inner, "a file's annotations", err) == 0 &&
        buf_status(&out, "a file's annotations", err) == 0)
        ret = arena_try_dup(a, out.data, out.len, err);
    buf_release(&inner);
    buf_release(&out);
    return ret;
}

/* Weights before everything else, then by role; a folder knows no roles. */
struct ordered {
    const struct oci_file *file;
    uint32_t rank, place;
    bool by_path;
};

static int compare(const void *pa, const void *pb)
{
    const struct ordered *a = pa, *b = pb;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    int rc = a->by_path && b->by_path ? strcmp(a->file->path, b->file->path) : 0;
    return rc ? rc : a->place < b->place ? -1 : 1;
}

static uint32_t rank_of(const struct oci_file *f)
{
    static const uint32_t ranks[ROLE_UNKNOWN + 1] = {
        [ROLE_MMPROJ] = 1,  [ROLE_TEMPLATE] = 2, [ROLE_LORA] = 3,    [ROLE_FILE] = 4,
        [ROLE_LICENSE] = 5, [ROLE_CODE] = 6,     [ROLE_DATASET] = 7,
    };
    return ranks[f->role];
}

/* ModelPack tells roles by names alone: a name that would tell another is given an ending, or a
 * beginning, that does not. */
static const char *cncf_path(const struct oci_file *f, struct arena *a, struct err *err)
{
    static const struct {
        enum oci_role role;
        const char *before, *after;
    } marks[] = {{ROLE_GGUF, "", ".gguf"},
                 {ROLE_SAFETENSORS, "", ".safetensors"},
                 {ROLE_DDUF, "", ".dduf"},
                 {ROLE_MMPROJ, "mmproj-", ""},
                 {ROLE_TEMPLATE, "", ".jinja"}};
    if (f->packing != PACKING_RAW || !f->path[0] || oci_role_of_name(f->path) == f->role)
        return f->path;
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        if (marks[i].role != f->role)
            continue;
        const char *slash = strrchr(f->path, '/');
        int dir = slash ? (int)(slash + 1 - f->path) : 0;
        struct buf b;
        buf_init(&b, LIMIT_OCI_PATH_BYTES);
        buf_printf(&b, "%.*s%s%s%s", dir, f->path, marks[i].before, f->path + dir, marks[i].after);
        const char *ret =
            buf_status(&b, "a file's name", err) == 0 ? arena_try_dup(a, b.data, b.len, err) : NULL;
        buf_release(&b);
        return ret;
    }
    return f->path;
}

static int layer_make(const struct oci_package *p, const struct oci_file *f, struct arena *a,
                      struct oci_descriptor *d, struct err *err)
{
    const bool is_cncf = p->config.kind == OCI_CONFIG_CNCF;
    struct oci_file named = *f;
    *d = (struct oci_descriptor){.size = f->size, .role = f->role};
    memcpy(d->digest, f->digest, sizeof(d->digest));
    if (f->media_type) {
        d->media_type = f->media_type;
        d->media = oci_media_find(str_from(f->media_type));
        d->path = f->path[0] ? f->path : NULL;
        d->annotations = f->annotations;
        return 0;
    }
    if (is_cncf && f->role == ROLE_LORA)
        return err_set(err, E_INVALID,
                       "ModelPack has no place for a LoRA adapter: package in Docker's format");
    if (!is_cncf && f->packing > PACKING_TAR)
        return err_set(err, E_INVALID,
                       "the model has a compressed layer, which Docker's format has not: package "
                       "it with --format cncf");
    if (is_cncf && !(named.path = cncf_path(f, a, err)))
        return -err->code;
    d->media = is_cncf ? cncf_media(f) : docker_media(f);
    d->media_type = oci_media_type(d->media);
    d->path = named.path[0] ? named.path : NULL;
    d->annotations = d->path ? annotations_make(&named, a, err) : NULL;
    return d->path && !d->annotations ? -err->code : 0;
}

static int layers_make(const struct oci_package *p, struct arena *a, struct oci_descriptor *layers,
                       const char **diff_ids, struct err *err)
{
    const bool is_folder = p->config.kind == OCI_CONFIG_DOCKER_V02;
    struct ordered *o = arena_try_alloc(a, MAX_OF(p->n_files, 1) * sizeof(*o), err);
    if (!o)
        return -err->code;
    for (uint32_t i = 0; i < p->n_files; i++) {
        const struct oci_file *f = &p->files[i];
        uint32_t rank = is_folder ? 0 : rank_of(f);
        o[i] = (struct ordered){f, rank, i, is_folder || rank > 0};
    }
    qsort(o, p->n_files, sizeof(*o), compare);
    for (uint32_t i = 0; i < p->n_files; i++) {
        const struct oci_file *f = o[i].file;
        struct oci_descriptor *d = &layers[i];
        int rc = layer_make(p, f, a, d, err);
        if (rc < 0)
            return rc;
        diff_ids[i] = f->diff_id[0] ? f->diff_id : f->digest;
    }
    return 0;
}

static int write_both(const struct oci_config *c, struct oci_manifest *m, struct buf *config,
                      struct buf *manifest, struct err *err)
{
    struct sha256 hash;
    oci_config_put(c, config);
    int rc = buf_status(config, "the model's config", err);
    if (rc < 0)
        return rc;
    sha256_init(&hash);
    sha256_add(&hash, config->data, config->len);
    sha256_end(&hash, m->config.digest);
    m->config.size = config->len;
    m->config.media = oci_config_media(c->kind);
    m->config.media_type = oci_media_type(m->config.media);
    rc = oci_manifest_check_model(m, err);
    if (rc < 0) {
        err->code = E_INVALID;
        return -E_INVALID;
    }
    oci_manifest_put(m, manifest);
    return buf_status(manifest, "the model's manifest", err);
}

int oci_package_build(const struct oci_package *p, struct arena *a, struct buf *ret_config,
                      struct buf *ret_manifest, struct err *err)
{
    struct oci_config c = p->config;
    struct oci_manifest m = {.media = MEDIA_OCI_MANIFEST, .n_layers = p->n_files};
    buf_init(ret_config, LIMIT_OCI_CONFIG_BYTES);
    buf_init(ret_manifest, LIMIT_OCI_MANIFEST_BYTES);
    if (c.kind == OCI_CONFIG_CNCF && c.context_size)
        return err_set(err, E_INVALID,
                       "ModelPack has no place for a context size: leave it away, or package in "
                       "Docker's format");
    const char **ids = arena_try_alloc(a, MAX_OF(p->n_files, 1) * sizeof(*ids), err);
    m.layers = arena_try_alloc(a, MAX_OF(p->n_files, 1) * sizeof(*m.layers), err);
    if (!ids || !m.layers)
        return -err->code;
    m.artifact_type = c.kind == OCI_CONFIG_CNCF ? CNCF_ARTIFACT : "";
    int rc = layers_make(p, a, m.layers, ids, err);
    if (rc < 0)
        return rc;
    c.diff_ids = (struct oci_strings){ids, p->n_files};
    if (c.kind == OCI_CONFIG_CNCF && !c.cncf.family[0])
        c.cncf.family = c.architecture;
    if (c.kind == OCI_CONFIG_CNCF) { /* its own spelling: "8.03b" */
        char *low = arena_try_dup(a, c.parameters, strlen(c.parameters), err);
        if (!low)
            return -err->code;
        for (char *s = low; *s; s++)
            *s = (char)(*s >= 'A' && *s <= 'Z' ? *s + 32 : *s);
        c.parameters = low;
    }
    return write_both(&c, &m, ret_config, ret_manifest, err);
}
