/* SPDX-License-Identifier: Apache-2.0 */
/* Names of models: what a user writes, and what it means.
 *
 * A reference is REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST or both; on a hub, @ may also
 * name a revision (hf.co/ORG/REPO:QUANT@REVISION).  An id is the digest of a manifest, whole or its
 * first 12 digits.  Short forms are completed as Docker Model Runner
 * does it, so that the same words mean the same model in both.  Plain values, no I/O; any thread.
 */
#ifndef LIB_OCI_REFERENCE_H
#define LIB_OCI_REFERENCE_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define OCI_DIGEST_CHARS     71u  /* "sha256:" and 64 hexadecimal digits */
#define OCI_REPOSITORY_CHARS 255u /* registry and repository together, as registries have it */
#define OCI_TAG_CHARS        128u

/* "sha256:" and 64 lower-case hexadecimal digits, nothing else (OCI image-spec, descriptor.md,
 * "Digests"; sha512 is registered there too and refused here by name).  E_INVALID, E_UNSUPPORTED.
 */
int oci_digest_check(struct str s, struct err *err) MUST_USE;

struct oci_reference {
    char registry[OCI_REPOSITORY_CHARS + 1];            /* "docker.io", "localhost:5000" */
    char repository[OCI_REPOSITORY_CHARS + 1];          /* "ai/smollm2": lower case */
    char repository_as_given[OCI_REPOSITORY_CHARS + 1]; /* hubs care for case */
    char tag[OCI_TAG_CHARS + 1];                        /* "latest"; "" with a digest and no tag */
    char digest[OCI_DIGEST_CHARS + 1];                  /* "" without */
    char revision[OCI_TAG_CHARS + 1]; /* of a hub's model: branch, tag or commit; "" without */
};

/* Completes and checks what a user wrote: spaces around it fall, "hf.co" is "huggingface.co", a
 * name without a slash belongs to "ai/", one without a registry to default_registry (NULL:
 * "docker.io"), one without tag and digest is ":latest".  The first part is a registry when it has
 * a dot or a colon or is "localhost".  E_INVALID says which part cannot be, and why. */
int oci_reference_parse(struct str text, const char *default_registry, struct oci_reference *ret,
                        struct err *err) MUST_USE;

/* Whether text may be the id of a stored model rather than a name: 12 or 64 lower-case hexadecimal
 * digits, or a digest.  The store knows whether it is one; if not, it is a name after all. */
bool oci_may_be_id(struct str text);

/* "docker.io/ai/smollm2:latest", with "@sha256:…" where there is a digest: how a store keeps it. */
void oci_reference_put(const struct oci_reference *r, struct buf *out);
/* As short as it still means the same: "smollm2", "org/model:q4", "registry.example/x". */
void oci_reference_put_short(const struct oci_reference *r, struct buf *out);

/* Plain HTTP is the rule there: loopback addresses, localhost and *.local. */
bool oci_registry_is_local(const char *registry);
/* "huggingface.co": not an OCI registry but a hub. */
bool oci_registry_is_hub(const char *registry);

#endif
