/* SPDX-License-Identifier: Apache-2.0 */
/* Models from and to where others have them: OCI registries (distribution-spec 1.1), and Hugging
 * Face's hub.  What comes lands in the store, verified; what goes is what the store has.
 *
 * Calls block and are for the threads of a pool, several at once.  Credentials are those of
 * Docker's config.json, read anew for each call.  Whom they are sent to, and where a registry may
 * send us, is trust.h's. */
#ifndef DAEMON_REGISTRY_REGISTRY_H
#define DAEMON_REGISTRY_REGISTRY_H

#include "daemon/store/store.h"
#include "lib/oci/reference.h"
#include "lib/sys/config.h"

struct registry;

/* NULL or 0: the default. */
struct registry_config {
    const char *default_registry;  /* "docker.io" */
    const char *mirrors;           /* "URL,..." for docker.io, "HOST=URL,..." for others */
    const char *insecure;          /* "HOST[:PORT],...": plain HTTP may be spoken there */
    const char *auth_hosts;        /* "HOST,...": further ones that may give tokens */
    const char *ca_file;           /* PEM, besides the system's authorities */
    const char *docker_config_dir; /* where config.json is; none: no credentials */
    const char *hub_endpoint;      /* "https://huggingface.co" */
    const char *hub_token;
    const char *search_endpoint; /* "https://hub.docker.com" */
    const char *user_agent;
    uint32_t max_parallel; /* transfers of one call at once; 4 */
    uint32_t stall_ms;     /* nothing moves for so long: tried again; 30000 */
    uint32_t pause_ms;     /* before the first try again, doubling after; 500 */
    uint32_t n_retries;    /* tries that bring nothing before it gives up; 6 */
    uint32_t chunk_bytes;  /* of an upload in pieces; 64 MiB */
};

/* What is in cfg is copied.  s is borrowed and outlives it. */
int registry_new(const struct registry_config *cfg, struct store *s, struct registry **ret,
                 struct err *err) MUST_USE;
/* From the options docker-config, default-registry, registry-mirrors, insecure-registries,
 * registry-auth-hosts, registry-ca, max-transfers, hf-endpoint, hf-token and
 * hub-search-endpoint. */
int registry_new_configured(const struct config *c, struct store *s, struct registry **ret,
                            struct err *err) MUST_USE;
void registry_free(struct registry *r); /* NULL is fine; no call may run */
/* For oci_reference_parse. */
const char *registry_default(const struct registry *r);

enum registry_phase { REGISTRY_RESOLVE, REGISTRY_TRANSFER, REGISTRY_PACKAGE, REGISTRY_DONE };
/* All borrowed for the time of the call. */
struct registry_progress {
    enum registry_phase phase;
    bool is_push;
    const char *layer; /* the digest, or a hub's file, that moved; "": none */
    uint64_t layer_done, layer_bytes;
    uint64_t done_bytes, total_bytes; /* of the whole; total 0: not known yet */
    const char *note;                 /* a sentence, or NULL */
    bool is_warning;                  /* note is one */
};
/* From any of the call's threads, never two at once, at least every 200 ms or so; false: stop. */
typedef bool (*registry_progress_fn)(void *ctx, const struct registry_progress *p);

struct registry_options {
    const char *bearer_token; /* of the request; NULL: config.json's credentials */
    registry_progress_fn on_progress;
    void *ctx;
};
struct registry_result {
    char digest[OCI_DIGEST_CHARS + 1]; /* of the manifest: the model's id */
    char *name;                        /* owned; in the store: "" untagged */
    uint64_t total_bytes;              /* of config and layers */
    bool was_cached;                   /* nothing had to come, or to go */
};
void registry_result_release(struct registry_result *r);

/* Brings ref into the store under its name; a reference by digest alone untagged.  What came of a
 * failed or stopped pull stays, and the next one goes on from there.  ret is filled on success.
 * E_NOTFOUND; E_AUTH: log in; E_DENIED; E_UNSUPPORTED: no model, or an index of several; E_CORRUPT;
 * E_BUSY: refused for too long; E_NET; E_TIMEOUT; E_IO: no room; E_CANCELED. */
int registry_pull(struct registry *r, const struct oci_reference *ref,
                  const struct registry_options *o, struct registry_result *ret,
                  struct err *err) MUST_USE;
/* Sends the stored model of this digest to ref.  A digest in ref is not looked at. */
int registry_push(struct registry *r, const char *digest, const struct oci_reference *ref,
                  const struct registry_options *o, struct registry_result *ret,
                  struct err *err) MUST_USE;
/* The model's manifest and config, nothing stored.  Both bufs are initialised here and released by
 * the caller in any case. */
int registry_inspect(struct registry *r, const struct oci_reference *ref,
                     const struct registry_options *o, struct buf *manifest, struct buf *config,
                     char ret_digest[OCI_DIGEST_CHARS + 1], struct err *err) MUST_USE;

#endif
