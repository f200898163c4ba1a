/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the life of a registry.h, and looking without taking. */
#include "daemon/registry/registry.h"

#include <stdio.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/oci/sha256.h"

static const char *own(const char *s, const char *otherwise)
{
    const char *v = s && s[0] ? s : otherwise;
    return v ? mem_dup(v, strlen(v)) : NULL;
}

int registry_new(const struct registry_config *cfg, struct store *s, struct registry **ret,
                 struct err *err)
{
    struct url u;
    if (cfg->hub_endpoint && cfg->hub_endpoint[0] &&
        url_parse(str_from(cfg->hub_endpoint), &u, err) < 0)
        return err_wrap(err, "hf-endpoint");
    if (cfg->search_endpoint && cfg->search_endpoint[0] &&
        url_parse(str_from(cfg->search_endpoint), &u, err) < 0)
        return err_wrap(err, "hub-search-endpoint");
    struct registry *r = mem_alloc(sizeof(*r));
    r->store = s;
    r->cfg = (struct registry_config){
        .default_registry = own(cfg->default_registry, "docker.io"),
        .mirrors = own(cfg->mirrors, NULL),
        .insecure = own(cfg->insecure, NULL),
        .auth_hosts = own(cfg->auth_hosts, NULL),
        .ca_file = own(cfg->ca_file, NULL),
        .docker_config_dir = own(cfg->docker_config_dir, NULL),
        .hub_endpoint = own(cfg->hub_endpoint, "https://huggingface.co"),
        .hub_token = own(cfg->hub_token, NULL),
        .search_endpoint = own(cfg->search_endpoint, "https://hub.docker.com"),
        .user_agent = own(cfg->user_agent, "berth/" BERTH_VERSION),
        .max_parallel = MIN_OF(cfg->max_parallel ? cfg->max_parallel : 4, MAX_PARALLEL),
        .stall_ms = cfg->stall_ms ? cfg->stall_ms : 30000,
        .pause_ms = cfg->pause_ms ? cfg->pause_ms : 500,
        .n_retries = cfg->n_retries ? cfg->n_retries : 6,
        .chunk_bytes = cfg->chunk_bytes ? cfg->chunk_bytes : 64u << 20,
    };
    *ret = r;
    return 0;
}

int registry_new_configured(const struct config *c, struct store *s, struct registry **ret,
                            struct err *err)
{
    struct buf dir;
    buf_init(&dir, LIMIT_PATH_BYTES);
    int rc = config_docker_dir(c, &dir, err);
    if (rc == 0) {
        const struct registry_config cfg = {
            .default_registry = config_str(c, CONFIG_default_registry),
            .mirrors = config_str(c, CONFIG_registry_mirrors),
            .insecure = config_str(c, CONFIG_insecure_registries),
            .auth_hosts = config_str(c, CONFIG_registry_auth_hosts),
            .ca_file = config_str(c, CONFIG_registry_ca),
            .docker_config_dir = buf_str(&dir),
            .hub_endpoint = config_str(c, CONFIG_hf_endpoint),
            .hub_token = config_str(c, CONFIG_hf_token),
            .search_endpoint = config_str(c, CONFIG_hub_search_endpoint),
            .max_parallel = config_u32(c, CONFIG_max_transfers),
        };
        rc = registry_new(&cfg, s, ret, err);
    }
    buf_release(&dir);
    return rc;
}

void registry_free(struct registry *r)
{
    if (!r)
        return;
    const char *owned[] = {r->cfg.default_registry, r->cfg.mirrors,    r->cfg.insecure,
                           r->cfg.auth_hosts,       r->cfg.ca_file,    r->cfg.docker_config_dir,
                           r->cfg.hub_endpoint,     r->cfg.user_agent, r->cfg.hub_token,
                           r->cfg.search_endpoint};
    for (size_t i = 0; i < ARRAY_LEN(owned); i++)
        mem_free((void *)(uintptr_t)owned[i]);
    mem_free(r);
}

const char *registry_default(const struct registry *r)
{
    return r->cfg.default_registry;
}

void registry_result_release(struct registry_result *r)
{
    mem_free(r->name);
    *r = (struct registry_result){0};
}

/* ---- inspect ---- */

static bool collect(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    (void)r;
    return buf_append(ctx, p, n) == 0;
}

/* The config blob, verified. */
static int config_fetch(struct session *s, struct fetch *f, const struct oci_descriptor *d,
                        struct buf *out, struct err *err)
{
    char url[URL_BYTES], is[OCI_DIGEST_CHARS + 1];
    struct fetch_response resp;
    struct buf said;
    struct sha256 h;
    snprintf(url, sizeof(url), "%s/v2/%s/blobs/%s", buf_str(&s->base), s->repository, d->digest);
    const struct session_request rq = {.method = "GET", .url = url, .on_data = collect, .ctx = out};
    fetch_response_init(&resp);
    buf_init(&said, ERROR_BODY_BYTES);
    int rc = session_do(s, f, &rq, &resp, &said, err);
    if (rc < 0 && out->failed)
        rc = err_set(err, E_LIMIT, "the model's config has more than %u bytes", CONFIG_BLOB_BYTES);
    else if (rc == 0 && resp.status != 200)
        rc = session_error(s, "fetching the config of", &resp, &said, err);
    sha256_init(&h);
    sha256_add(&h, out->data, out->len);
    sha256_end(&h, is);
    if (rc == 0 && strcmp(is, d->digest) != 0)
        rc = err_set(err, E_CORRUPT, "what came for the config %s is %s", d->digest, is);
    buf_release(&said);
    fetch_response_release(&resp);
    return rc;
}

int registry_inspect(struct registry *r, const struct oci_reference *ref,
                     const struct registry_options *o, struct buf *manifest, struct buf *config,
                     char ret_digest[OCI_DIGEST_CHARS + 1], struct err *err)
{
    struct job job;
    struct sessions sessions;
    struct remote_manifest m = {0};
    struct fetch *f = NULL;
    buf_init(manifest, LIMIT_OCI_MANIFEST_BYTES);
    buf_init(config, CONFIG_BLOB_BYTES);
    if (oci_registry_is_hub(ref->registry))
        return err_set(err, E_UNSUPPORTED,
                       "%s holds files, not packaged models: pull it, then inspect it",
                       ref->registry);
    job_init(&job, r, o, false);
    int rc = sessions_init(&sessions, &job, ref, err);
    if (rc == 0)
        rc = job_fetch_new(&job, &f, err);
    if (rc == 0)
        rc = manifest_fetch(&job, &sessions, f, ref, &m, err);
    if (rc == 0)
        rc = oci_manifest_check_model(&m.m, err);
    if (rc == 0)
        rc = config_fetch(&sessions.items[m.session], f, &m.m.config, config, err);
    if (rc == 0) {
        memcpy(ret_digest, m.digest, sizeof(m.digest));
        buf_append(manifest, m.text.data, m.text.len);
        rc = buf_status(manifest, "the manifest", err);
    }
    manifest_release(&m);
    fetch_free(f);
    sessions_release(&sessions);
    job_release(&job);
    return rc;
}
