/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests from registries: found, verified, understood. */
#include <stdio.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/oci/sha256.h"

#define ARENA_BYTES (32u << 20)

static bool collect(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    (void)r;
    return buf_append(ctx, p, n) == 0;
}

static void digest_of(const struct buf *b, char ret[OCI_DIGEST_CHARS + 1])
{
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, b->data, b->len);
    sha256_end(&h, ret);
}

/* The bytes are those that were asked for, and those that the registry says they are. */
static int check_digest(struct remote_manifest *m, const struct fetch_response *resp,
                        const char *wanted, struct err *err)
{
    struct str said;
    digest_of(&m->text, m->digest);
    if (strchr(wanted, ':') && strcmp(wanted, m->digest) != 0)
        return err_set(err, E_CORRUPT, "the manifest that came for %s is %s: it was not taken",
                       wanted, m->digest);
    if (fetch_header(resp, "Docker-Content-Digest", 0, &said) &&
        str_has_prefix(said, STR_LIT("sha256:")) && !str_is(said, m->digest))
        return err_set(err, E_CORRUPT,
                       "the registry calls the manifest %.*s and what came is %s: it was not taken",
                       (int)MIN_OF(said.len, OCI_DIGEST_CHARS), said.p, m->digest);
    return 0;
}

/* Another status than 200; of what is not there, its whole name. */
static int not_given(const struct session *s, const char *reference,
                     const struct fetch_response *resp, const struct buf *said, struct err *err)
{
    int rc = session_error(s, "asking for", resp, said, err);
    if (rc == -E_NOTFOUND)
        err_wrap(err, "there is no %s%c%s in %s", s->repository,
                 strchr(reference, ':') ? '@' : ':', reference, buf_str(&s->base));
    return rc;
}

static int get(struct session *s, struct fetch *f, const char *reference, struct remote_manifest *m,
               struct err *err)
{
    char url[URL_BYTES];
    struct fetch_response resp;
    struct buf said;
    int rc = session_probe(s, f, err);
    if (rc < 0)
        return rc;
    snprintf(url, sizeof(url), "%s/v2/%s/manifests/%s", buf_str(&s->base), s->repository,
             reference);
    const struct session_request rq = {
        .method = "GET",
        .url = url,
        .headers = {"Accept: application/vnd.oci.image.manifest.v1+json",
                    "Accept: application/vnd.docker.distribution.manifest.v2+json",
                    "Accept: application/vnd.oci.image.index.v1+json",
                    "Accept: application/vnd.docker.distribution.manifest.list.v2+json"},
        .on_data = collect,
        .ctx = &m->text,
    };
    fetch_response_init(&resp);
    buf_init(&said, ERROR_BODY_BYTES);
    struct patience patience = {0};
    do {
        buf_clear(&m->text);
        rc = session_do(s, f, &rq, &resp, &said, err);
        if (rc < 0 && m->text.failed)
            rc = err_set(err, E_LIMIT, "the manifest has more than %u bytes",
                         LIMIT_OCI_MANIFEST_BYTES);
        else if (rc == 0 && resp.status != 200)
            rc = not_given(s, reference, &resp, &said, err);
        else if (rc == 0)
            rc = check_digest(m, &resp, reference, err);
    } while (rc < 0 && !m->text.failed && patience_wait(s->job, &patience, &resp, err));
    fetch_response_release(&resp);
    buf_release(&said);
    return rc;
}

/* The first place that has it; what the last one says otherwise. */
static int find(struct sessions *l, struct fetch *f, const char *reference,
                struct remote_manifest *m, struct err *err)
{
    for (uint32_t i = m->session;; i++) {
        struct err e = ERR_INIT;
        int rc = get(&l->items[i], f, reference, m, &e);
        if (rc == 0) {
            m->session = i;
            return 0;
        }
        if (i + 1 == l->n || rc == -E_CANCELED) {
            *err = e;
            return rc;
        }
        log_write(LOG_LEVEL_INFO, "mirror %s: %s", buf_str(&l->items[i].base), e.msg);
    }
}

/* An index that names one manifest is as good as that. */
static int enter_index(struct sessions *l, struct fetch *f, struct remote_manifest *m,
                       struct err *err)
{
    struct oci_index index;
    char only[OCI_DIGEST_CHARS + 1];
    int rc = oci_index_parse((struct str){m->text.data, m->text.len}, &m->arena, &index, err);
    if (rc < 0)
        return rc;
    if (index.n_manifests != 1)
        return err_set(err, E_UNSUPPORTED,
                       index.n_manifests
                           ? "it is an index of %u manifests, not one model: name one "
                             "by its digest (the first is %s)"
                           : "it is an index of %u manifests: there is no model in it%s",
                       index.n_manifests, index.n_manifests ? index.manifests[0].digest : "");
    memcpy(only, index.manifests[0].digest, sizeof(only));
    rc = find(l, f, only, m, err);
    if (rc < 0)
        return rc;
    return oci_manifest_parse((struct str){m->text.data, m->text.len}, &m->arena, &m->m, err);
}

static bool is_index(struct remote_manifest *m)
{
    struct oci_index index;
    struct err ignored = ERR_INIT;
    return oci_index_parse((struct str){m->text.data, m->text.len}, &m->arena, &index, &ignored) ==
           0;
}

int manifest_fetch(struct job *j, struct sessions *l, struct fetch *f,
                   const struct oci_reference *ref, struct remote_manifest *ret, struct err *err)
{
    (void)j;
    *ret = (struct remote_manifest){0};
    buf_init(&ret->text, LIMIT_OCI_MANIFEST_BYTES);
    arena_init(&ret->arena, ARENA_BYTES);
    int rc = find(l, f, ref->digest[0] ? ref->digest : ref->tag, ret, err);
    if (rc == 0 && is_index(ret))
        rc = enter_index(l, f, ret, err);
    else if (rc == 0)
        rc = oci_manifest_parse((struct str){ret->text.data, ret->text.len}, &ret->arena, &ret->m,
                                err);
    return rc;
}

void manifest_release(struct remote_manifest *m)
{
    buf_release(&m->text);
    arena_release(&m->arena);
}
