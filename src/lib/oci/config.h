/* SPDX-License-Identifier: Apache-2.0 */
/* Configs of models: what an artifact says of the model in it.  Two kinds are read and written, and
 * told as one neutral struct: Docker's (media types v0.1 and v0.2, the same text) and CNCF
 * ModelPack's.  Pure; any thread.
 *
 * Sources: Docker Model Runner's behaviour; github.com/modelpack/model-spec, docs/config.md. */
#ifndef LIB_OCI_CONFIG_H
#define LIB_OCI_CONFIG_H

#include "lib/oci/manifest.h"

enum oci_config_kind { OCI_CONFIG_DOCKER_V01, OCI_CONFIG_DOCKER_V02, OCI_CONFIG_CNCF };

struct oci_pair {
    const char *key, *value;
};
struct oci_pairs {
    const struct oci_pair *items;
    uint32_t n;
};
struct oci_strings {
    const char *const *items;
    uint32_t n;
};

/* What only ModelPack has.  No string is NULL. */
struct oci_config_cncf {
    const char *family, *name, *version, *revision, *vendor, *title, *description;
    const char *doc_url, *source_url, *precision;
    const char *capabilities; /* a JSON object as text, or "" */
    struct oci_strings authors, licenses, datasets;
};

/* Borrows from the arena it was parsed into, or from whoever filled it in.  "" and 0: absent. */
struct oci_config {
    enum oci_config_kind kind;
    const char *format; /* "gguf", "safetensors", "dduf", "diffusers": lower case */
    const char *architecture, *quantization;
    const char *parameters;                        /* "361.82M" */
    const char *size;                              /* "256.35MiB" */
    uint32_t context_size;                         /* tokens */
    struct oci_pairs gguf, safetensors, diffusers; /* metadata of the weights, as strings */
    int64_t created_unix;                          /* -1: absent */
    struct oci_strings diff_ids;
    struct oci_config_cncf cncf;
};

/* All empty, of this kind. */
void oci_config_init(struct oci_config *c, enum oci_config_kind kind);

/* media: the type under which the manifest names it; MEDIA_UNKNOWN: its members tell (ModelPack has
 * config.paramSize, descriptor.createdAt or modelfs).  Unknown members are passed over.  E_FORMAT,
 * E_LIMIT, E_UNSUPPORTED for a media type that is no config. */
int oci_config_parse(struct str text, enum oci_media media, struct arena *a, struct oci_config *ret,
                     struct err *err) MUST_USE;

/* Appends it as canonical JSON: fixed order of members, sorted metadata, no spaces; what is absent
 * is left away.  ModelPack's has no metadata of weights and no context size.  buf_status tells of
 * failure. */
void oci_config_put(const struct oci_config *c, struct buf *out);
/* Only what Docker's API shows as a model's "config": the inner object of Docker's kinds, the whole
 * of ModelPack's. */
void oci_config_put_inner(const struct oci_config *c, struct buf *out);

enum oci_media oci_config_media(enum oci_config_kind kind);

#define OCI_HUMAN_CHARS 32u
/* "361.82M": thousands, two decimals, then K, M, B, T. */
void oci_put_human_count(uint64_t n, char ret[OCI_HUMAN_CHARS]);
/* "256.35MiB": base 1024. */
void oci_put_human_bytes(uint64_t n, char ret[OCI_HUMAN_CHARS]);

#define OCI_TIME_CHARS 24u
/* RFC 3339; a fraction of a second is dropped.  False: it is none. */
bool oci_time_parse(struct str s, int64_t *ret_unix);
/* "2026-11-29T19:07:32Z"; "" outside the years 1 to 9999. */
void oci_time_put(int64_t unix_s, char ret[OCI_TIME_CHARS]);

#endif
