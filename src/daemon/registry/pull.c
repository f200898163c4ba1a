/* SPDX-License-Identifier: Apache-2.0 */
/* A model from a registry into the store. */
#include <stdio.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

struct pull {
    struct job *job;
    struct sessions sessions;
    struct remote_manifest manifest;
    const struct oci_descriptor **blobs; /* owned, [n]: config and layers, each digest once */
    struct job_part *parts;              /* owned, [n] */
    uint32_t n;
    atomic_bool has_moved; /* something had to come */
};

/* The largest first, so that none is left alone at the end. */
static void sort_blobs(struct pull *p)
{
    for (uint32_t i = 1; i < p->n; i++) {
        const struct oci_descriptor *d = p->blobs[i];
        uint32_t k = i;
        for (; k > 0 && p->blobs[k - 1]->size < d->size; k--)
            p->blobs[k] = p->blobs[k - 1];
        p->blobs[k] = d;
    }
}

static int list_blobs(struct pull *p, struct err *err)
{
    const struct oci_manifest *m = &p->manifest.m;
    p->blobs = mem_try_alloc(m->n_layers + 1, sizeof(*p->blobs), err);
    p->parts = p->blobs ? mem_try_alloc(m->n_layers + 1, sizeof(*p->parts), err) : NULL;
    if (!p->parts)
        return -err->code;
    for (uint32_t i = 0; i <= m->n_layers; i++) {
        const struct oci_descriptor *d = i ? &m->layers[i - 1] : &m->config;
        uint32_t k = 0;
        while (k < p->n && strcmp(p->blobs[k]->digest, d->digest) != 0)
            k++;
        if (k < p->n && p->blobs[k]->size != d->size)
            return err_set(err, E_FORMAT, "the manifest gives blob %s two sizes", d->digest);
        if (k == p->n) {
            p->blobs[p->n++] = d;
            p->job->total_bytes += d->size;
        }
    }
    sort_blobs(p);
    for (uint32_t i = 0; i < p->n; i++)
        p->parts[i] = (struct job_part){.name = p->blobs[i]->digest, .size = p->blobs[i]->size};
    return 0;
}

/* From where the manifest was, then from the places after it. */
static int pull_blob(void *ctx, uint32_t i, struct fetch *f, struct err *err)
{
    struct pull *p = ctx;
    const struct oci_descriptor *d = p->blobs[i];
    uint64_t size;
    int rc = store_blob_size(p->job->r->store, d->digest, &size, err);
    if (rc == 1) {
        if (size != d->size)
            return err_set(err, E_CORRUPT,
                           "blob %s has %llu bytes in the store and %llu in the manifest: `berth "
                           "verify --repair` removes it, if it is broken",
                           d->digest, (unsigned long long)size, (unsigned long long)d->size);
        job_moved(p->job, &p->parts[i], d->size);
        return 0;
    }
    atomic_store(&p->has_moved, true);
    for (uint32_t k = p->manifest.session; rc == 0; k++) {
        struct session *s = &p->sessions.items[k];
        char url[URL_BYTES];
        struct err e = ERR_INIT;
        rc = session_probe(s, f, &e);
        snprintf(url, sizeof(url), "%s/v2/%s/blobs/%s", buf_str(&s->base), s->repository,
                 d->digest);
        struct download down = {
            .url = url, .digest = d->digest, .size = d->size, .part = &p->parts[i]};
        if (rc == 0)
            rc = download(s, f, &down, &e);
        if (rc == 0)
            return 0;
        if (k + 1 == p->sessions.n || rc == -E_CANCELED || rc == -E_IO)
            *err = e;
        else
            rc = 0;
        log_write(LOG_LEVEL_INFO, "%s: %s", buf_str(&s->base), e.msg);
    }
    return rc;
}

static int transfer(struct pull *p, struct fetch *f, struct err *err)
{
    struct store *store = p->job->r->store;
    for (uint32_t i = 0; i < p->n; i++)
        store_hold(store, p->blobs[i]->digest);
    store_hold(store, p->manifest.digest);
    job_phase(p->job, REGISTRY_TRANSFER);
    int rc = transfer_all(p->job, f, p->n, pull_blob, p, err);
    char digest[OCI_DIGEST_CHARS + 1];
    uint64_t size;
    if (rc == 0)
        rc = store_blob_size(store, p->manifest.digest, &size, err);
    if (rc == 0) {
        atomic_store(&p->has_moved, true);
        rc = store_put(store, p->manifest.text.data, p->manifest.text.len, digest, err);
    }
    return MIN_OF(rc, 0);
}

static void unhold(struct pull *p)
{
    struct store *store = p->job->r->store;
    for (uint32_t i = 0; i < p->n; i++)
        store_unhold(store, p->blobs[i]->digest);
    store_unhold(store, p->manifest.digest);
}

/* The name that the store keeps: what ref says without its digest; "" for a digest alone. */
static int name_of(const struct oci_reference *ref, struct buf *out, struct err *err)
{
    struct oci_reference named = *ref;
    buf_init(out, 2 * LIMIT_MODEL_NAME_BYTES);
    named.digest[0] = '\0';
    if (named.tag[0])
        oci_reference_put(&named, out);
    return buf_status(out, "a model's name", err);
}

static int publish(struct pull *p, const struct oci_reference *ref, struct registry_result *ret,
                   struct err *err)
{
    struct buf name;
    int rc = name_of(ref, &name, err);
    if (rc == 0)
        rc = store_tag(p->job->r->store, name.len ? buf_str(&name) : NULL, p->manifest.digest, err);
    if (rc == 0) {
        memcpy(ret->digest, p->manifest.digest, sizeof(ret->digest));
        ret->name = buf_take(&name);
        ret->total_bytes = p->manifest.m.total_bytes;
        ret->was_cached = !atomic_load(&p->has_moved);
    }
    buf_release(&name);
    return rc;
}

static int pull_oci(struct pull *p, struct fetch *f, const struct oci_reference *ref,
                    struct registry_result *ret, struct err *err)
{
    int rc = manifest_fetch(p->job, &p->sessions, f, ref, &p->manifest, err);
    if (rc == 0)
        rc = oci_manifest_check_model(&p->manifest.m, err);
    if (rc == 0)
        rc = list_blobs(p, err);
    if (rc == 0)
        rc = job_check(p->job, err);
    if (rc < 0)
        return rc;
    rc = transfer(p, f, err);
    if (rc == 0)
        rc = publish(p, ref, ret, err);
    unhold(p);
    return rc;
}

int registry_pull(struct registry *r, const struct oci_reference *ref,
                  const struct registry_options *o, struct registry_result *ret, struct err *err)
{
    struct job job;
    struct pull p = {.job = &job};
    struct fetch *f = NULL;
    *ret = (struct registry_result){0};
    job_init(&job, r, o, false);
    job_phase(&job, REGISTRY_RESOLVE);
    int rc = job_fetch_new(&job, &f, err);
    if (rc == 0 && oci_registry_is_hub(ref->registry)) {
        rc = hub_pull(&job, f, ref, ret, err);
    } else if (rc == 0) {
        rc = sessions_init(&p.sessions, &job, ref, err);
        if (rc == 0)
            rc = pull_oci(&p, f, ref, ret, err);
        manifest_release(&p.manifest);
        mem_free(p.blobs);
        mem_free(p.parts);
        sessions_release(&p.sessions);
    }
    if (rc == 0)
        job_phase(&job, REGISTRY_DONE);
    fetch_free(f);
    job_release(&job);
    return rc;
}
