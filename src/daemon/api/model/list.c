/* SPDX-License-Identifier: Apache-2.0 */
/* What the store has, as Docker Model Runner lists it, and what a registry has. */
#include <string.h>

#include "daemon/api/info.h"
#include "daemon/api/model/model_api.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

/* {"id","tags","created","config"}, and of our own route the files. */
static void put_model(const struct store_model *m, struct buf *out)
{
    buf_printf(out, "{\"id\":\"%s\"", m->digest);
    for (uint32_t i = 0; i < m->n_names; i++) {
        buf_append_str(out, i ? "," : ",\"tags\":[");
        json_put_str(out, str_from(m->names[i]));
    }
    buf_printf(out, "%s,\"created\":%lld,\"config\":", m->n_names ? "]" : "",
               (long long)m->created_unix);
    oci_config_put_inner(&m->config, out);
    buf_append_char(out, '}');
}

/* Every model once, whatever it is called. */
static int put_all(struct store *s, struct buf *out, struct err *err)
{
    struct store_list l;
    const char *sep = "";
    int rc = store_list(s, &l, err);
    if (rc < 0)
        return rc;
    buf_append_char(out, '[');
    for (size_t i = 0; i < l.n; i++) {
        struct store_model m;
        struct err ignored = ERR_INIT;
        bool is_again = false;
        for (size_t k = 0; k < i && !is_again; k++)
            is_again = strcmp(l.items[k].digest, l.items[i].digest) == 0;
        if (is_again)
            continue;
        if (store_model_read(s, l.items[i].digest, &m, &ignored) == 0) {
            buf_append_str(out, sep);
            put_model(&m, out);
            sep = ",";
        } /* else: berth verify tells of it */
        store_model_release(&m);
    }
    buf_append_char(out, ']');
    store_list_release(&l);
    return 0;
}

static void list(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, INFO_LIST_MAX_BYTES);
    if (put_all(a->cfg.store, &out, &err) < 0)
        model_fail(r, &err);
    else
        api_answer_json(r, 200, &out);
    buf_release(&out);
}

void handle_models_list(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, list);
}

static void answer_one(struct api *a, struct httpd_request *r, const char *digest)
{
    struct store_model m;
    struct err err = ERR_INIT;
    if (store_model_read(a->cfg.store, digest, &m, &err) < 0) {
        model_fail(r, &err);
    } else {
        struct buf out;
        buf_init(&out, INFO_LIST_MAX_BYTES);
        put_model(&m, &out);
        api_answer_json(r, 200, &out);
    }
    store_model_release(&m);
}

/* --- what a registry has --- */

/* The manifest as it is, and its config as clients see it. */
static int put_remote(const char *name, const char *digest, struct str manifest, struct str config,
                      bool with_manifest, struct buf *out, struct err *err)
{
    struct arena arena;
    struct oci_manifest m;
    struct oci_config c;
    arena_init(&arena, 64u << 20);
    int rc = oci_manifest_parse(manifest, &arena, &m, err);
    if (rc == 0)
        rc = oci_config_parse(config, m.config.media, &arena, &c, err);
    if (rc == 0) {
        buf_printf(out, "{\"id\":\"%s\",\"tags\":[", digest);
        json_put_str(out, str_from(name));
        buf_printf(out, "],\"created\":%lld,\"config\":",
                   (long long)(c.created_unix > 0 ? c.created_unix : 0));
        oci_config_put_inner(&c, out);
        if (with_manifest) {
            buf_append_str(out, ",\"name\":");
            json_put_str(out, str_from(name));
            buf_append_str(out, ",\"manifest\":");
            buf_append(out, manifest.p, manifest.len);
        }
        buf_append_char(out, '}');
    }
    arena_release(&arena);
    return rc;
}

static void remote(struct api *a, struct httpd_request *r, const char *text, bool with_manifest)
{
    struct oci_reference ref;
    struct buf manifest, config, out, name;
    char digest[OCI_DIGEST_CHARS + 1];
    struct err err = ERR_INIT;
    const char *token = api_call_of(r)->registry_token;
    const struct registry_options o = {.bearer_token = token[0] ? token : NULL};
    buf_init(&out, INFO_LIST_MAX_BYTES);
    buf_init(&name, 2 * LIMIT_MODEL_NAME_BYTES);
    buf_init(&manifest, 0);
    buf_init(&config, 0);
    int rc = oci_reference_parse(str_from(text), registry_default(a->cfg.registry), &ref, &err);
    if (rc == 0) {
        oci_reference_put(&ref, &name);
        rc = registry_inspect(a->cfg.registry, &ref, &o, &manifest, &config, digest, &err);
    }
    if (rc == 0)
        rc = put_remote(buf_str(&name), digest, (struct str){manifest.data, manifest.len},
                        (struct str){config.data, config.len}, with_manifest, &out, &err);
    if (rc < 0)
        model_fail(r, &err);
    else
        api_answer_json(r, 200, &out);
    buf_release(&out);
    buf_release(&name);
    buf_release(&manifest);
    buf_release(&config);
}

static void get(struct api *a, struct httpd_request *r, const char *name)
{
    char digest[OCI_DIGEST_CHARS + 1];
    struct buf full;
    struct err err = ERR_INIT;
    const char *is_remote = httpd_query_value(r, "remote");
    if (is_remote && strcmp(is_remote, "true") == 0) {
        remote(a, r, name, false);
        return;
    }
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    if (model_in_store(a, name, true, digest, &full, &err) < 0)
        model_fail(r, &err);
    else
        answer_one(a, r, digest);
    buf_release(&full);
}

/* GET /models/NAME and /models/NAME/export. */
void handle_models_get(struct api *a, struct httpd_request *r, const char *rest)
{
    static const char end[] = "/export";
    size_t n = strlen(rest), n_end = strlen(end);
    if (n > n_end && strcmp(rest + n - n_end, end) == 0)
        model_export(a, r, rest, n - n_end);
    else
        model_blocking(a, r, rest, get);
}

static void remote_of_query(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    const char *name = httpd_query_value(r, "model");
    if (name && name[0])
        remote(a, r, name, true);
    else
        model_fail_status(r, 400, "missing_required_parameter", "the query's 'model' is missing");
}

void handle_remote(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, remote_of_query);
}

static void manifest(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    const char *name = httpd_query_value(r, "model");
    char digest[OCI_DIGEST_CHARS + 1];
    struct store_model m;
    struct buf full;
    struct err err = ERR_INIT;
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    if (!name || !name[0]) {
        model_fail_status(r, 400, "missing_required_parameter", "the query's 'model' is missing");
    } else if (model_in_store(a, name, true, digest, &full, &err) < 0) {
        model_fail(r, &err);
    } else {
        if (store_model_read(a->cfg.store, digest, &m, &err) < 0) {
            model_fail(r, &err);
        } else {
            httpd_set_header(r, "Docker-Content-Digest", digest);
            httpd_answer(r, 200, oci_media_type(m.manifest.media), m.manifest_text);
        }
        store_model_release(&m);
    }
    buf_release(&full);
}

void handle_manifest(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, manifest);
}
