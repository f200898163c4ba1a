/* SPDX-License-Identifier: Apache-2.0 */
/* A model of the store to a registry: its blobs, a few at once, and its manifest last. */
#include <stdio.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define MOUNT_LOOKS 64u /* at other models, for where their blobs may be mounted from */

struct push {
    struct job *job;
    struct session session;
    const char *digest;
    struct buf text;
    struct arena arena;
    struct oci_manifest m;
    struct job_part *parts;                       /* owned, [n_layers + 1], the config last */
    char (*mount_from)[OCI_REPOSITORY_CHARS + 1]; /* owned, alike; "" none */
    atomic_bool has_moved;
};

static const struct oci_descriptor *blob_of(const struct push *p, uint32_t i)
{
    return i < p->m.n_layers ? &p->m.layers[i] : &p->m.config;
}

/* Whether an earlier one is the same blob, which then is sent once. */
static bool is_again(const struct push *p, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        if (strcmp(blob_of(p, k)->digest, blob_of(p, i)->digest) == 0)
            return true;
    }
    return false;
}

/* Blobs that this stored model, of the same registry, has too may be mounted from its repository.
 */
static void look_at(struct push *p, const struct store_entry *e, const char *repository)
{
    struct buf text;
    struct arena a;
    struct oci_manifest m;
    struct err ignored = ERR_INIT;
    arena_init(&a, 8u << 20);
    if (store_blob_read(p->job->r->store, e->digest, LIMIT_OCI_MANIFEST_BYTES, &text, &ignored) ==
            0 &&
        oci_manifest_parse((struct str){text.data, text.len}, &a, &m, &ignored) == 0) {
        for (uint32_t i = 0; i <= p->m.n_layers; i++) {
            for (uint32_t k = 0; k < m.n_layers && !p->mount_from[i][0]; k++) {
                if (strcmp(m.layers[k].digest, blob_of(p, i)->digest) == 0) {
                    memcpy(p->mount_from[i], repository, strlen(repository) + 1);
                    memcpy(p->session.mount_from, repository, strlen(repository) + 1);
                }
            }
        }
    }
    buf_release(&text);
    arena_release(&a);
}

static void find_mounts(struct push *p)
{
    struct store_list list;
    struct err ignored = ERR_INIT;
    uint32_t n = 0;
    if (store_list(p->job->r->store, &list, &ignored) < 0)
        return;
    for (size_t i = 0; i < list.n && n < MOUNT_LOOKS; i++) {
        struct oci_reference ref;
        const char *only = p->session.mount_from; /* the token's scope names one */
        if (!list.items[i].name[0] ||
            oci_reference_parse(str_from(list.items[i].name), NULL, &ref, &ignored) < 0 ||
            strcmp(ref.registry, p->session.registry) != 0 ||
            strcmp(ref.repository, p->session.repository) == 0 ||
            (only[0] && strcmp(only, ref.repository) != 0))
            continue;
        n++;
        look_at(p, &list.items[i], ref.repository);
    }
    store_list_release(&list);
}

static int push_blob(void *ctx, uint32_t i, struct fetch *f, struct err *err)
{
    struct push *p = ctx;
    bool was_sent;
    if (is_again(p, i))
        return 0;
    const char *from = p->mount_from[i][0] ? p->mount_from[i] : NULL;
    int rc = upload(&p->session, f, blob_of(p, i), from, &p->parts[i], &was_sent, err);
    if (rc == 0 && was_sent)
        atomic_store(&p->has_moved, true);
    return rc;
}

static int push_manifest(struct push *p, struct fetch *f, const char *tag, struct err *err)
{
    char url[URL_BYTES], type[LIMIT_OCI_MEDIA_TYPE_BYTES + 32];
    struct fetch_response resp;
    struct buf said;
    struct str is;
    snprintf(url, sizeof(url), "%s/v2/%s/manifests/%s", buf_str(&p->session.base),
             p->session.repository, tag);
    snprintf(type, sizeof(type), "Content-Type: %s", oci_media_type(p->m.media));
    const struct session_request rq = {
        .method = "PUT",
        .url = url,
        .headers = {type},
        .body = p->text.data,
        .body_len = p->text.len,
        .wait_ms = 120000,
    };
    fetch_response_init(&resp);
    buf_init(&said, ERROR_BODY_BYTES);
    int rc = session_try(&p->session, f, &rq, &resp, &said, err);
    if (rc == 0 && resp.status != 201)
        rc = session_error(&p->session, "sending the manifest to", &resp, &said, err);
    if (rc == 0 && fetch_header(&resp, "Docker-Content-Digest", 0, &is) &&
        str_has_prefix(is, STR_LIT("sha256:")) && !str_is(is, p->digest))
        rc = err_set(err, E_CORRUPT, "the registry took the manifest %s as %.*s", p->digest,
                     (int)MIN_OF(is.len, OCI_DIGEST_CHARS), is.p);
    buf_release(&said);
    fetch_response_release(&resp);
    return rc;
}

static int prepare(struct push *p, struct err *err)
{
    struct store *store = p->job->r->store;
    int rc = store_blob_read(store, p->digest, LIMIT_OCI_MANIFEST_BYTES, &p->text, err);
    if (rc == 0)
        rc = oci_manifest_parse((struct str){p->text.data, p->text.len}, &p->arena, &p->m, err);
    if (rc < 0)
        return rc;
    const uint32_t n = p->m.n_layers + 1;
    p->parts = mem_try_alloc(n, sizeof(*p->parts), err);
    p->mount_from = p->parts ? mem_try_alloc(n, sizeof(*p->mount_from), err) : NULL;
    if (!p->mount_from)
        return -err->code;
    for (uint32_t i = 0; i < n; i++) {
        const struct oci_descriptor *d = blob_of(p, i);
        p->parts[i] = (struct job_part){.name = d->digest, .size = d->size};
        p->job->total_bytes += is_again(p, i) ? 0 : d->size;
        store_hold(store, d->digest);
    }
    store_hold(store, p->digest);
    return 0;
}

static void release(struct push *p)
{
    struct store *store = p->job->r->store;
    for (uint32_t i = 0; p->mount_from && i <= p->m.n_layers; i++)
        store_unhold(store, blob_of(p, i)->digest);
    if (p->mount_from)
        store_unhold(store, p->digest);
    mem_free(p->parts);
    mem_free(p->mount_from);
    buf_release(&p->text);
    arena_release(&p->arena);
    session_release(&p->session);
}

static int push_all(struct push *p, struct fetch *f, const char *tag, struct err *err)
{
    find_mounts(p);
    job_phase(p->job, REGISTRY_TRANSFER);
    int rc = transfer_all(p->job, f, p->m.n_layers + 1, push_blob, p, err);
    if (rc == 0)
        rc = push_manifest(p, f, tag, err);
    return rc;
}

int registry_push(struct registry *r, const char *digest, const struct oci_reference *ref,
                  const struct registry_options *o, struct registry_result *ret, struct err *err)
{
    struct job job;
    struct push p = {.job = &job, .digest = digest};
    struct fetch *f = NULL;
    *ret = (struct registry_result){0};
    if (oci_registry_is_hub(ref->registry))
        return err_set(err, E_UNSUPPORTED,
                       "berth does not send models to %s; push to an OCI registry", ref->registry);
    job_init(&job, r, o, true);
    arena_init(&p.arena, 32u << 20);
    job_phase(&job, REGISTRY_RESOLVE);
    int rc = session_init(&p.session, &job, ref->registry, ref->repository, NULL, err);
    if (rc == 0)
        rc = prepare(&p, err);
    else
        buf_init(&p.text, 1);
    if (rc == 0)
        rc = job_fetch_new(&job, &f, err);
    if (rc == 0)
        rc = session_probe(&p.session, f, err);
    if (rc == 0)
        rc = push_all(&p, f, ref->tag[0] ? ref->tag : "latest", err);
    if (rc == 0) {
        struct buf name;
        buf_init(&name, 2 * LIMIT_MODEL_NAME_BYTES);
        oci_reference_put(ref, &name);
        memcpy(ret->digest, digest, strlen(digest) + 1);
        ret->name = buf_take(&name);
        ret->total_bytes = p.m.total_bytes;
        ret->was_cached = !atomic_load(&p.has_moved);
        job_phase(&job, REGISTRY_DONE);
    }
    release(&p);
    fetch_free(f);
    job_release(&job);
    return rc;
}
