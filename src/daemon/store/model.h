/* SPDX-License-Identifier: Apache-2.0 */
/* A stored model: what its manifest and config say, which files it consists of, and those files
 * opened for a worker.  No byte of weights is read here.  Any thread. */
#ifndef DAEMON_STORE_MODEL_H
#define DAEMON_STORE_MODEL_H

#include <stdatomic.h>

#include "daemon/store/store.h"
#include "lib/oci/config.h"
#include "lib/sys/model_files.h"

/* One file of the model.  path is relative and inside: of Docker's v0.1 as Docker Model Runner's
 * bundles call it (model.gguf, model-00001-of-00002.gguf, model.mmproj, template.jinja), otherwise
 * what the layer, or the archive in it, says. */
struct store_file {
    const char *path;
    enum oci_role role;
    char digest[OCI_DIGEST_CHARS + 1]; /* a blob of the store */
    uint64_t size;
};

struct store_model {
    char digest[OCI_DIGEST_CHARS + 1]; /* of the manifest: the model's id */
    const char **names;                /* [n_names], sorted; none: untagged */
    uint32_t n_names;
    struct str manifest_text, config_text; /* their exact bytes */
    struct oci_manifest manifest;
    struct oci_config config;
    const char *format;   /* "gguf", "safetensors", "dduf": the config's, or what the layers are */
    int64_t created_unix; /* the config's, else when the manifest came into the store */
    uint64_t total_bytes; /* manifest, config and layers */
    struct store_file
        *files; /* [n_files], after store_model_files; sorted by role, then as there */
    uint32_t n_files;
    struct arena arena; /* owns all of the above */
    /* The caller's, after store_model_read: unpacking ends with E_CANCELED soon after it becomes
     * true.  NULL: never. */
    const atomic_bool *is_called_off;
};

/* Reads manifest and config, verified; ret is the caller's to release in any case.  E_NOTFOUND,
 * E_CORRUPT, E_UNSUPPORTED for what is no model. */
int store_model_read(struct store *s, const char *digest, struct store_model *ret,
                     struct err *err) MUST_USE;
void store_model_release(struct store_model *m);

/* Fills in files.  Layers that are archives are unpacked, once, into blobs of their own, which
 * belong to the layer for collection: this may take as long as writing the model does.  E_FORMAT,
 * E_LIMIT for a hostile archive; E_IO. */
int store_model_files(struct store *s, struct store_model *m, struct err *err) MUST_USE;
/* Whether that would unpack something. */
bool store_model_is_packed(struct store *s, struct store_model *m);

/* A model's files, open.  As long as it is, nothing of it is collected. */
struct store_opened {
    struct model_files files; /* the weights in order, with their paths inside the model */
    struct buf chat_template; /* the artifact's own; empty: none */
    int mmproj_fd;            /* -1: none */
    uint32_t context_size;    /* the artifact's; 0: none */
    char (*held)[OCI_DIGEST_CHARS + 1]; /* [n_held], owned */
    uint32_t n_held;
};
/* The weights: GGUF shards, the DDUF file, or of a safetensors model the whole folder but for
 * licences (weights first).  Each file has the size that the manifest says.  E_NOTFOUND, E_CORRUPT,
 * E_LIMIT for more than LIMIT_MSG_FDS files.  Calls store_model_files where that was not done. */
int store_model_open(struct store *s, struct store_model *m, struct store_opened *ret,
                     struct err *err) MUST_USE;
void store_model_close(struct store *s, struct store_opened *o); /* an all-zero one is fine */

/* What a user means by text: an id (12 or 64 digits, or a digest), a name, or a name with a digest,
 * completed as lib/oci/reference.h does it.  partial: failing that, the one model whose name ends
 * in /text, with its tag or without, as Docker Model Runner's GET /models/NAME has it.  ret_name,
 * initialised by the caller, receives the name in the store that was meant; nothing for an id.
 * E_NOTFOUND, E_INVALID, E_EXISTS when several are meant. */
int store_find(struct store *s, struct str text, const char *default_registry, bool partial,
               char ret[OCI_DIGEST_CHARS + 1], struct buf *ret_name, struct err *err) MUST_USE;

#endif
