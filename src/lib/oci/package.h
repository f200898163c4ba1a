/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts from files: given what the files are called, how large they are, their digests and what
 * was read of the weights, the bytes of config and manifest.  Pure: no file is touched here.
 *
 * The same files under the same names with the same options give the same bytes, wherever, whenever
 * and by whomever they are packaged: nothing of clocks, owners, modes or folders goes in.  A time
 * of creation is written only when it was given.  Any thread. */
#ifndef LIB_OCI_PACKAGE_H
#define LIB_OCI_PACKAGE_H

#include "lib/oci/config.h"

struct oci_file {
    const char *path; /* inside the model, as oci_path_check has it; "": the layer has no name */
    enum oci_role role;
    char digest[OCI_DIGEST_CHARS + 1]; /* of the layer: of the file itself, unless packed */
    uint64_t size;
    enum oci_packing packing; /* PACKING_RAW for a file; others only of layers taken over */
    char diff_id[OCI_DIGEST_CHARS + 1]; /* of the unpacked bytes; "": the same as digest */
    /* Of a layer taken over from an artifact, what it was there; NULL: made from the above. */
    const char *media_type, *annotations;
};

struct oci_package {
    /* kind says what is written: OCI_CONFIG_DOCKER_V01 (one file for each role: GGUF, DDUF), _V02
     * (a folder: every file with its path), _CNCF (ModelPack).  Its diff_ids are made here. */
    struct oci_config config;
    struct oci_file *files; /* [n_files], from the arena */
    uint32_t n_files, cap_files;
};

/* How a model of this format is written: safetensors as a folder, what else there is by role. */
enum oci_config_kind oci_package_kind(const char *format, bool is_cncf);

/* An empty package of this kind. */
void oci_package_init(struct oci_package *p, enum oci_config_kind kind);
/* A chat template replaces the one there is, and a projector too; anything else is added.  The
 * strings stay the caller's.  E_INVALID for a path that cannot be or is there already; E_LIMIT. */
int oci_package_add(struct oci_package *p, const struct oci_file *f, struct arena *a,
                    struct err *err) MUST_USE;

/* The package that an existing artifact is, from its manifest and config, to be changed and built
 * again: `--from`.  Layers keep their digests. */
int oci_package_from(struct str manifest, struct str config, struct arena *a,
                     struct oci_package *ret, struct err *err) MUST_USE;
/* Turns it into another kind.  ModelPack has no place for a context size, which is dropped. */
void oci_package_convert(struct oci_package *p, enum oci_config_kind kind);

/* Writes both; they are initialised here and the caller's to release in any case.  Weights come
 * first, in the order in which they were added (shards: in theirs), then the other files by role
 * and path; of a folder, all files by path.  E_INVALID for no weights, for weights of two formats,
 * and for a context size in ModelPack. */
int oci_package_build(const struct oci_package *p, struct arena *a, struct buf *ret_config,
                      struct buf *ret_manifest, struct err *err) MUST_USE;

#endif
