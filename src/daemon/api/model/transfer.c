/* SPDX-License-Identifier: Apache-2.0 */
/* Pull and push: Docker Model Runner's POST /models/create and /models/NAME/push, and our own. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/model/model_api.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"

struct transfer {
    struct api *api;
    struct oci_reference ref;
    char *name;  /* owned: the reference as it is stored */
    char *token; /* owned; NULL: none */
    bool is_push;
    char digest[OCI_DIGEST_CHARS + 1]; /* of what is pushed */
    char request_id[LIMIT_HTTP_REQUEST_ID_BYTES + 1], key[64];
    uint64_t moved_bytes, started_us;
};

static void transfer_free(void *ctx)
{
    struct transfer *t = ctx;
    if (t->token)
        memset(t->token, 0, strlen(t->token));
    mem_free(t->token);
    mem_free(t->name);
    mem_free(t);
}

struct telling {
    struct job *job;
    struct transfer *t;
};

static bool on_progress(void *ctx, const struct registry_progress *p)
{
    struct telling *w = ctx;
    w->t->moved_bytes = MAX_OF(w->t->moved_bytes, p->done_bytes);
    const struct job_event e = {.type = p->is_warning ? JOB_WARNING : JOB_PROGRESS,
                                .message = p->note,
                                .done_bytes = p->done_bytes,
                                .total_bytes = p->total_bytes,
                                .layer = p->layer,
                                .layer_done = p->layer_done,
                                .layer_bytes = p->layer_bytes,
                                .is_push = p->is_push};
    if (p->phase == REGISTRY_RESOLVE && !p->note)
        return !job_is_stopped(w->job);
    return job_tell(w->job, &e);
}

/* Archives are unpacked now, when somebody waits for it; what no engine here loads is said. */
static void prepare(struct job *j, struct api *a, const char *digest)
{
    struct store_model m;
    struct err err = ERR_INIT;
    char text[ERR_MSG_MAX];
    int rc = store_model_read(a->cfg.store, digest, &m, &err);
    if (rc == 0)
        rc = store_model_files(a->cfg.store, &m, &err);
    if (rc < 0)
        snprintf(text, sizeof(text), "the model is stored, and cannot be loaded: %.400s", err.msg);
    else if (strcmp(m.format, "gguf") != 0)
        snprintf(text, sizeof(text),
                 "the model is stored; its format is %.32s, and the engines here load GGUF only",
                 m.format);
    if (rc < 0 || strcmp(m.format, "gguf") != 0)
        job_tell(j, &(struct job_event){.type = JOB_WARNING, .message = text});
    store_model_release(&m);
}

static void tell_success(struct job *j, struct transfer *t, const struct registry_result *res)
{
    char text[96], size[32];
    put_human_mb(res->total_bytes, size);
    if (t->is_push)
        snprintf(text, sizeof(text), "Model pushed successfully");
    else if (res->was_cached)
        snprintf(text, sizeof(text), "Using cached model: %s", size);
    else
        snprintf(text, sizeof(text), "Model pulled successfully");
    job_tell(j, &(struct job_event){.type = JOB_SUCCESS,
                                    .message = text,
                                    .done_bytes = res->total_bytes,
                                    .total_bytes = res->total_bytes,
                                    .is_push = t->is_push,
                                    .id = res->digest,
                                    .name = res->name,
                                    .extra = res->was_cached ? ",\"cached\":true" : NULL});
}

/* The pool's thread. */
static int transfer_run(struct job *j, void *ctx, struct err *err)
{
    struct transfer *t = ctx;
    struct registry_result res = {0};
    struct telling w = {j, t};
    const struct registry_options o = {
        .bearer_token = t->token, .on_progress = on_progress, .ctx = &w};
    struct registry *reg = t->api->cfg.registry;
    int rc = job_is_stopped(j) ? err_set(err, E_CANCELED, "nobody waits for it any more")
             : t->is_push      ? registry_push(reg, t->digest, &t->ref, &o, &res, err)
                               : registry_pull(reg, &t->ref, &o, &res, err);
    if (rc == 0 && !t->is_push && !res.was_cached)
        prepare(j, t->api, res.digest);
    model_tell(t->api,
               &(struct watch_change){.request_id = t->request_id,
                                      .key = t->key,
                                      .action = t->is_push ? "push" : "pull",
                                      .model = t->name,
                                      .digest = rc == 0 ? res.digest : t->digest,
                                      .bytes = res.was_cached ? 0 : t->moved_bytes,
                                      .total_ms = (double)(api_now_us() - t->started_us) / 1000},
               rc < 0 ? err : NULL);
    if (rc == 0)
        tell_success(j, t, &res);
    registry_result_release(&res);
    return rc;
}

static struct transfer *transfer_new(struct api *a, struct httpd_request *r,
                                     const struct oci_reference *ref, const char *token)
{
    const struct api_call *c = api_call_of(r);
    struct transfer *t = mem_alloc(sizeof(*t));
    struct buf name;
    *t = (struct transfer){.api = a, .ref = *ref, .started_us = api_now_us()};
    buf_init(&name, 2 * LIMIT_MODEL_NAME_BYTES);
    oci_reference_put(ref, &name);
    t->name = buf_take(&name);
    t->token = token ? mem_dup(token, strlen(token)) : NULL;
    memcpy(t->request_id, c->request_id, sizeof(t->request_id));
    memcpy(t->key, c->key, sizeof(t->key));
    return t;
}

/* Those who ask for the same with the same right are one. */
static void transfer_start(struct api *a, struct httpd_request *r, enum progress_shape shape,
                           struct transfer *t)
{
    struct buf key;
    struct sha256 h;
    char right[SHA256_STRING_CHARS + 1]; /* of the token, which is kept in one place alone */
    sha256_init(&h);
    sha256_add(&h, t->token ? t->token : "", t->token ? strlen(t->token) : 0);
    sha256_end(&h, right);
    buf_init(&key, 2 * LIMIT_MODEL_NAME_BYTES + 256);
    buf_printf(&key, "%s %s %s %s", t->is_push ? "push" : "pull", t->name, t->digest, right);
    struct job_start s = {
        .key = buf_str(&key), .fn = transfer_run, .ctx = t, .ctx_free = transfer_free};
    progress_start(a, r, shape, t->is_push, &s);
    buf_release(&key);
}

static int parse_reference(struct api *a, struct httpd_request *r, const char *text,
                           struct oci_reference *ret)
{
    struct err err = ERR_INIT;
    char said[ERR_MSG_MAX];
    if (oci_reference_parse(str_from(text), registry_default(a->cfg.registry), ret, &err) == 0)
        return 0;
    snprintf(said, sizeof(said), "Invalid model reference: %.450s", err.msg);
    model_fail_status(r, 400, "invalid_reference", said);
    return -E_INVALID;
}

/* Bodies {from, bearer-token} and {model, token}. */
static void pull(struct api *a, struct httpd_request *r, const char *field, const char *token_field,
                 enum progress_shape shape)
{
    const char *from = NULL, *token = NULL;
    struct oci_reference ref;
    char missing[64];
    json_t *root = model_has_store(a, r) ? model_body(r, false) : NULL;
    int rc = root ? model_text(r, root, field, &from) : -1;
    if (rc == 0) {
        snprintf(missing, sizeof(missing), "Invalid model reference: '%s' is missing", field);
        model_fail_status(r, 400, "missing_required_parameter", missing);
    }
    if (rc == 1 && model_text(r, root, token_field, &token) >= 0 &&
        parse_reference(a, r, from, &ref) == 0)
        transfer_start(a, r, shape, transfer_new(a, r, &ref, token));
    json_decref(root);
}

void handle_models_create(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    pull(a, r, "from", "bearer-token", progress_shape_of(r));
}

void handle_pull(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    pull(a, r, "model", "token", PROGRESS_OWN);
}

static void push(struct api *a, struct httpd_request *r, const char *name, const char *token,
                 enum progress_shape shape)
{
    struct err err = ERR_INIT;
    struct oci_reference ref;
    char digest[OCI_DIGEST_CHARS + 1];
    struct buf full;
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    if (model_in_store(a, name, false, digest, &full, &err) < 0) {
        model_fail(r, &err);
    } else if (full.len == 0) {
        model_fail_status(r, 400, "invalid_reference",
                          "Invalid model reference: an id says which model, and not where it goes; "
                          "tag it, and push the tag");
    } else if (parse_reference(a, r, buf_str(&full), &ref) == 0) {
        struct transfer *t = transfer_new(a, r, &ref, token);
        t->is_push = true;
        memcpy(t->digest, digest, sizeof(digest));
        transfer_start(a, r, shape, t);
    }
    buf_release(&full);
}

void model_push(struct api *a, struct httpd_request *r, const char *name)
{
    const char *token = NULL;
    json_t *root = model_has_store(a, r) ? model_body(r, true) : NULL;
    if (root && model_text(r, root, "bearer-token", &token) >= 0)
        push(a, r, name, token, progress_shape_of(r));
    json_decref(root);
}

void handle_push(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    const char *name = NULL, *token = NULL;
    json_t *root = model_has_store(a, r) ? model_body(r, false) : NULL;
    int rc = root ? model_text(r, root, "model", &name) : -1;
    if (rc == 0)
        model_fail_status(r, 400, "missing_required_parameter", "'model' is missing");
    if (rc == 1 && model_text(r, root, "token", &token) >= 0)
        push(a, r, name, token, PROGRESS_OWN);
    json_decref(root);
}
