/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: which blobs a model is made of.  A pure codec; the bytes stay the caller's and are
 * never written anew, since their digest is the model's id.
 *
 * Sources: OCI image-spec 1.1, manifest.md, descriptor.md and image-index.md; the model's types in
 * media.def.  Any thread. */
#ifndef LIB_OCI_MANIFEST_H
#define LIB_OCI_MANIFEST_H

#include "lib/base/arena.h"
#include "lib/oci/reference.h"

enum oci_media {
#define MEDIA(id, type, role, packing) MEDIA_##id,
#include "lib/oci/media.def"
#undef MEDIA
    MEDIA_UNKNOWN
};

enum oci_role {
    ROLE_MANIFEST,
    ROLE_INDEX,
    ROLE_CONFIG,
    ROLE_GGUF,
    ROLE_SAFETENSORS,
    ROLE_DDUF,
    ROLE_WEIGHT, /* one of the three: the file's name tells */
    ROLE_MMPROJ,
    ROLE_TEMPLATE,
    ROLE_LICENSE,
    ROLE_LORA,
    ROLE_FILE,
    ROLE_CODE,
    ROLE_DATASET,
    ROLE_UNKNOWN
};
enum oci_packing { PACKING_RAW, PACKING_TAR, PACKING_TAR_GZIP, PACKING_TAR_ZSTD };

/* MEDIA_UNKNOWN for a type that is in no row. */
enum oci_media oci_media_find(struct str type);
const char *oci_media_type(enum oci_media m); /* not of MEDIA_UNKNOWN */
enum oci_role oci_media_role(enum oci_media m);
enum oci_packing oci_media_packing(enum oci_media m);

#define OCI_ANNOTATION_PATH     "org.cncf.model.filepath"
#define OCI_ANNOTATION_METADATA "org.cncf.model.file.metadata+json"
#define OCI_ANNOTATION_UNTESTED "org.cncf.model.file.mediatype.untested"

/* What a file is, by its name, as Docker Model Runner tells it: weights by their ending (mmproj in
 * a GGUF's name makes it a projector), templates, licences; ROLE_FILE for everything else. */
enum oci_role oci_role_of_name(const char *path);

struct oci_descriptor {
    enum oci_media media;
    const char *media_type; /* as given */
    char digest[OCI_DIGEST_CHARS + 1];
    uint64_t size;
    const char *path;        /* org.cncf.model.filepath: relative, plain, inside; NULL: none */
    const char *annotations; /* all of them, a JSON object as text; NULL: none */
    enum oci_role role; /* of a layer: media's, refined by path where ModelPack leaves it open */
};

struct oci_manifest {
    enum oci_media media;      /* MEDIA_OCI_MANIFEST or MEDIA_DOCKER_MANIFEST */
    const char *artifact_type; /* "" when absent */
    struct oci_descriptor config;
    struct oci_descriptor *layers;
    uint32_t n_layers;
    uint64_t total_bytes; /* of config and layers */
};

/* All memory comes from a.  E_FORMAT, E_LIMIT, E_UNSUPPORTED (an index, an encrypted or foreign
 * layer with "urls") with a sentence that names the field.  Layers of unknown type are kept, for
 * copying; a manifest without a model's config is kept, too: ask oci_manifest_check_model. */
int oci_manifest_parse(struct str text, struct arena *a, struct oci_manifest *ret,
                       struct err *err) MUST_USE;
/* Whether it is a model that can be run: a config of media.def and at least one layer of weights,
 * of one format; no two files of the same path.  E_UNSUPPORTED names what it is instead. */
int oci_manifest_check_model(const struct oci_manifest *m, struct err *err) MUST_USE;

/* One manifest of an index. */
struct oci_index {
    struct oci_descriptor *manifests;
    uint32_t n_manifests;
};
int oci_index_parse(struct str text, struct arena *a, struct oci_index *ret,
                    struct err *err) MUST_USE;

/* Appends the manifest as canonical JSON: fixed key order, no spaces, so that the same model gives
 * the same digest.  Of a descriptor, digest, size, media_type and annotations count, or path where
 * it has no annotations; artifact_type "" is left away. buf_status tells of failure. */
void oci_manifest_put(const struct oci_manifest *m, struct buf *out);

/* A path that a layer may claim: relative, no empty, "." or ".." part, no backslash, no colon in
 * its first part, no control character, valid UTF-8, at most LIMIT_OCI_PATH_BYTES.  E_INVALID. */
int oci_path_check(struct str path, struct err *err) MUST_USE;

#endif
