/* SPDX-License-Identifier: Apache-2.0 */
/* A model from Hugging Face's hub: a revision becomes a commit, its files come straight into the
 * store, each verified, and what Docker Model Runner would have packaged of them is tagged.
 *
 * The hub's own word for what a file is (the SHA-256 of large ones, git's SHA-1 of small ones)
 * comes over the same connection as its bytes: it guards against mishaps, and the commit that is
 * named is what a later pull can be held to. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/registry/hub_files.h"
#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/oci/package.h"

#define ANSWER_BYTES (32u << 20) /* of the hub's API */
#define PAGES_MAX    200u

struct hub {
    struct job *job;
    const struct oci_reference *ref;
    struct session session;
    struct arena arena;
    struct hub_files files;
    char commit[GIT_BLOB_ID_CHARS + 1];
    int64_t created_unix;
    struct job_part *parts; /* owned, [files.n] */
    bool *is_held;          /* owned, [files.n]: the store holds its digest */
    atomic_bool has_moved;
};

static bool collect(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    (void)r;
    return buf_append(ctx, p, n) == 0;
}

/* What the hub answers with when it means that there is no such model is 401, so as not to tell. */
static int ask(struct hub *h, struct fetch *f, const char *url, struct fetch_response *resp,
               struct buf *answer, struct err *err)
{
    struct buf said;
    struct patience patience = {0};
    const struct session_request rq = {
        .method = "GET", .url = url, .on_data = collect, .ctx = answer};
    buf_init(&said, ERROR_BODY_BYTES);
    int rc;
    do {
        buf_clear(answer);
        rc = session_do(&h->session, f, &rq, resp, &said, err);
        if (rc < 0 && answer->failed)
            rc = err_set(err, E_LIMIT, "the hub's answer has more than %u bytes", ANSWER_BYTES);
        else if (rc == 0 && resp->status != 200)
            rc = session_error(&h->session, "asking for", resp, &said, err);
    } while (rc < 0 && !answer->failed && patience_wait(h->job, &patience, resp, err));
    buf_release(&said);
    return rc;
}

static int resolve(struct hub *h, struct fetch *f, struct err *err)
{
    struct fetch_response resp;
    struct buf url, answer;
    const char *revision = h->ref->revision[0] ? h->ref->revision : "main";
    buf_init(&url, URL_BYTES);
    buf_init(&answer, ANSWER_BYTES);
    fetch_response_init(&resp);
    buf_printf(&url, "%s/api/models/%s/revision/", buf_str(&h->session.base),
               h->session.repository);
    url_put_escaped(str_from(revision), "", &url);
    int rc = buf_status(&url, "an address", err);
    if (rc == 0)
        rc = ask(h, f, buf_str(&url), &resp, &answer, err);
    if (rc == -E_AUTH || rc == -E_NOTFOUND)
        err_wrap(err, "%s at revision %s, if there is such a model", h->session.repository,
                 revision);
    if (rc == 0)
        rc = hub_parse_revision((struct str){answer.data, answer.len}, h->commit, &h->created_unix,
                                err);
    fetch_response_release(&resp);
    buf_release(&answer);
    buf_release(&url);
    return rc;
}

/* url becomes the next page's address; false when this was the last. */
static int next_page(const struct hub *h, const struct fetch_response *resp, struct buf *url,
                     bool *ret_more, struct err *err)
{
    struct str link, next;
    struct url u;
    *ret_more = fetch_header(resp, "Link", 0, &link) && hub_next_page(link, &next);
    if (!*ret_more)
        return 0;
    buf_clear(url);
    int rc = url_resolve(&h->session.url, next, url, err);
    if (rc == 0)
        rc = url_parse(str_from(buf_str(url)), &u, err);
    if (rc == 0 && !url_same_origin(&u, &h->session.url))
        rc = err_set(err, E_DENIED, "the hub's list of files goes on at %s: not followed", u.host);
    return rc;
}

static int list(struct hub *h, struct fetch *f, struct err *err)
{
    struct fetch_response resp;
    struct buf url, answer;
    bool more = true;
    int rc = 0;
    buf_init(&url, URL_BYTES);
    buf_init(&answer, ANSWER_BYTES);
    fetch_response_init(&resp);
    buf_printf(&url, "%s/api/models/%s/tree/%s?recursive=true", buf_str(&h->session.base),
               h->session.repository, h->commit);
    for (uint32_t i = 0; rc == 0 && more; i++) {
        rc = i < PAGES_MAX ? ask(h, f, buf_str(&url), &resp, &answer, err)
                           : err_set(err, E_LIMIT, "the hub's list of files has more than %u pages",
                                     PAGES_MAX);
        if (rc == 0)
            rc = hub_parse_tree((struct str){answer.data, answer.len}, &h->arena, &h->files, err);
        if (rc == 0)
            rc = next_page(h, &resp, &url, &more, err);
    }
    fetch_response_release(&resp);
    buf_release(&answer);
    buf_release(&url);
    return rc;
}

static int pick(struct hub *h, struct err *err)
{
    char note[HUB_NOTE_BYTES];
    uint64_t total = 0;
    int rc = hub_pick(&h->files, h->ref->tag, note, err);
    if (rc < 0)
        return err_wrap(err, "%s", h->session.repository);
    h->parts = mem_try_alloc(MAX_OF(h->files.n, 1u), sizeof(*h->parts), err);
    if (!h->parts)
        return -err->code;
    for (uint32_t i = 0; i < h->files.n; i++) {
        const struct hub_file *file = &h->files.items[i];
        h->parts[i] = (struct job_part){.name = file->digest[0] ? file->digest : file->path,
                                        .size = file->size};
        if (!size_add(total, file->size, &total))
            return err_set(err, E_LIMIT, "the files there are larger than can be");
    }
    if (h->files.n > LIMIT_OCI_LAYERS - 1)
        return err_set(err, E_LIMIT, "the model has %u files, more than %u", h->files.n,
                       LIMIT_OCI_LAYERS - 1);
    if (note[0])
        job_note(h->job, true, "%s", note);
    h->job->total_bytes = total;
    job_note(h->job, false, "Found %u files (%.1f MB) at commit %.12s", h->files.n,
             (double)total / 1e6, h->commit);
    return 0;
}

/* No collection takes it from now on, until the model is tagged. */
static void hold(struct hub *h, uint32_t i)
{
    store_hold(h->job->r->store, h->files.items[i].digest);
    h->is_held[i] = true;
}

static int fetch_file(void *ctx, uint32_t i, struct fetch *f, struct err *err)
{
    struct hub *h = ctx;
    struct hub_file *file = &h->files.items[i];
    struct buf url;
    uint64_t size;
    bool is_here =
        file->digest[0] && store_blob_size(h->job->r->store, file->digest, &size, err) == 1;
    if (is_here && size == file->size) {
        job_moved(h->job, &h->parts[i], file->size);
        return 0;
    }
    buf_init(&url, URL_BYTES);
    buf_printf(&url, "%s/%s/resolve/%s/", buf_str(&h->session.base), h->session.repository,
               h->commit);
    url_put_escaped(str_from(file->path), "/", &url);
    int rc = buf_status(&url, "an address", err);
    struct download d = {
        .url = buf_str(&url),
        .digest = file->digest[0] ? file->digest : NULL,
        .git_id = file->digest[0] ? NULL : file->git_id,
        .size = file->size,
        .part = &h->parts[i],
    };
    if (rc == 0)
        rc = download(&h->session, f, &d, err);
    if (rc == 0 && file->digest[0])
        atomic_store(&h->has_moved, true);
    if (rc == 0 && !file->digest[0]) {
        memcpy(file->digest, d.ret_digest, sizeof(file->digest));
        hold(h, i);
    }
    buf_release(&url);
    return rc < 0 ? err_wrap(err, "%.200s", file->path) : 0;
}

static void release(struct hub *h)
{
    for (uint32_t i = 0; h->is_held && i < h->files.n; i++) {
        if (h->is_held[i])
            store_unhold(h->job->r->store, h->files.items[i].digest);
    }
    mem_free(h->is_held);
    mem_free(h->parts);
    hub_files_release(&h->files);
    arena_release(&h->arena);
    session_release(&h->session);
}

/* Config and manifest of the files, as Docker Model Runner would write them. */
static int build(struct hub *h, struct buf *config, struct buf *manifest, struct err *err)
{
    struct oci_package p;
    int rc = hub_facts(h->job, &h->files, &h->arena, &p.config, err);
    if (rc == 0) {
        struct oci_config facts = p.config;
        oci_package_init(&p, oci_package_kind(facts.format, false));
        facts.kind = p.config.kind;
        facts.created_unix = h->created_unix;
        p.config = facts;
    }
    for (uint32_t i = 0; rc == 0 && i < h->files.n; i++) {
        const struct hub_file *file = &h->files.items[i];
        bool is_folder = p.config.kind == OCI_CONFIG_DOCKER_V02;
        const char *slash = strrchr(file->path, '/');
        struct oci_file of = {.path = slash && !is_folder ? slash + 1 : file->path,
                              .role = file->role,
                              .size = file->size,
                              .packing = PACKING_RAW};
        memcpy(of.digest, file->digest, sizeof(of.digest));
        rc = oci_package_add(&p, &of, &h->arena, err);
    }
    if (rc == 0)
        rc = oci_package_build(&p, &h->arena, config, manifest, err);
    return rc;
}

static int publish(struct hub *h, const struct buf *config, const struct buf *manifest,
                   struct registry_result *ret, struct err *err)
{
    struct store *store = h->job->r->store;
    struct buf name;
    char config_digest[OCI_DIGEST_CHARS + 1];
    buf_init(&name, 2 * LIMIT_MODEL_NAME_BYTES);
    oci_reference_put(h->ref, &name);
    int rc = buf_status(&name, "a model's name", err);
    if (rc == 0)
        rc = store_put(store, config->data, config->len, config_digest, err);
    if (rc == 0)
        rc = store_put(store, manifest->data, manifest->len, ret->digest, err);
    if (rc == 0)
        rc = store_tag(store, buf_str(&name), ret->digest, err);
    if (rc == 0) {
        ret->name = buf_take(&name);
        ret->total_bytes = h->job->total_bytes;
        ret->was_cached = !atomic_load(&h->has_moved);
    }
    buf_release(&name);
    return rc;
}

static int package(struct hub *h, struct registry_result *ret, struct err *err)
{
    struct buf config, manifest;
    buf_init(&config, 0);
    buf_init(&manifest, 0);
    job_phase(h->job, REGISTRY_PACKAGE);
    int rc = build(h, &config, &manifest, err);
    if (rc == 0)
        rc = job_check(h->job, err);
    if (rc == 0)
        rc = publish(h, &config, &manifest, ret, err);
    buf_release(&config);
    buf_release(&manifest);
    return rc;
}

static int transfer(struct hub *h, struct fetch *f, struct err *err)
{
    h->is_held = mem_try_alloc(MAX_OF(h->files.n, 1u), sizeof(*h->is_held), err);
    if (!h->is_held)
        return -err->code;
    for (uint32_t i = 0; i < h->files.n; i++) {
        if (h->files.items[i].digest[0])
            hold(h, i);
    }
    job_phase(h->job, REGISTRY_TRANSFER);
    return transfer_all(h->job, f, h->files.n, fetch_file, h, err);
}

int hub_pull(struct job *j, struct fetch *f, const struct oci_reference *ref,
             struct registry_result *ret, struct err *err)
{
    struct hub h = {.job = j, .ref = ref};
    if (ref->digest[0])
        return err_set(err, E_UNSUPPORTED,
                       "a digest names no model on %s: name a revision, as in @COMMIT",
                       ref->registry);
    arena_init(&h.arena, 64u << 20);
    int rc = session_init(&h.session, j, ref->registry, ref->repository_as_given,
                          j->r->cfg.hub_endpoint, err);
    h.session.is_hub = true;
    if (rc == 0)
        rc = resolve(&h, f, err);
    if (rc == 0)
        rc = list(&h, f, err);
    if (rc == 0)
        rc = pick(&h, err);
    if (rc == 0)
        rc = job_check(j, err);
    if (rc == 0)
        rc = transfer(&h, f, err);
    if (rc == 0)
        rc = package(&h, ret, err);
    release(&h);
    return rc;
}
