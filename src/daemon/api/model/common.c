/* SPDX-License-Identifier: Apache-2.0 */
/* What the model manager's routes share: refusals, bodies, names, the short pool. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/model/model_api.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define DOCKER_AGENT "docker-model-cli/"

int model_status(const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    switch (err->code) {
    case E_EXISTS: return 409;
    case E_UNSUPPORTED: return 422;
    case E_IO: return err->sys ? 507 : 500;
    default: return e.status;
    }
}

static bool is_docker(const struct httpd_request *r)
{
    struct api_call *c = api_call_of(r);
    return strncmp(c->agent, DOCKER_AGENT, strlen(DOCKER_AGENT)) == 0 &&
           strncmp(httpd_path(r), "/models", 7) == 0;
}

static void answer_error(struct httpd_request *r, struct api_error *e)
{
    char text[ERR_MSG_MAX + 2];
    if (!is_docker(r)) {
        api_error_answer(r, e);
        return;
    }
    api_call_of(r)->code = e->code;
    snprintf(text, sizeof(text), "%s\n", e->msg);
    httpd_answer(r, e->status, "text/plain; charset=utf-8", str_from(text));
}

void model_fail(struct httpd_request *r, const struct err *err)
{
    struct api_error e;
    api_error_from(&e, err);
    e.status = model_status(err);
    if (err->code == E_EXISTS)
        e.code = "conflict";
    if (err->code == E_AUTH)
        e.code = "registry_unauthorized";
    answer_error(r, &e);
}

void model_fail_status(struct httpd_request *r, int status, const char *code, const char *message)
{
    struct api_error e = {.status = status,
                          .type = status >= 500 ? "server_error" : "invalid_request_error",
                          .code = code,
                          .no_retry = status >= 500};
    snprintf(e.msg, sizeof(e.msg), "%s", message);
    answer_error(r, &e);
}

bool model_has_store(struct api *a, struct httpd_request *r)
{
    if (a->cfg.store)
        return true;
    struct err why = ERR_INIT;
    err_set(&why, E_BUSY, "this daemon has no store for models: %s",
            a->cfg.no_store && a->cfg.no_store[0] ? a->cfg.no_store : "none was named");
    model_fail_status(r, 503, "no_store", why.msg);
    return false;
}

/* --- the short pool --- */

struct task {
    struct api *api;
    struct httpd_request *r;
    char *rest; /* owned */
    model_fn fn;
};

static void task_run(void *ctx)
{
    struct task *t = ctx;
    t->fn(t->api, t->r, t->rest);
    httpd_request_unref(t->r);
    mem_free(t->rest);
    mem_free(t);
}

void model_blocking(struct api *a, struct httpd_request *r, const char *rest, model_fn fn)
{
    struct err err = ERR_INIT;
    if (!model_has_store(a, r))
        return;
    struct task *t = mem_alloc(sizeof(*t));
    *t = (struct task){a, httpd_request_ref(r), mem_dup(rest, strlen(rest)), fn};
    if (pool_run(a->short_pool, task_run, t, &err) < 0) {
        model_fail(r, &err);
        httpd_request_unref(r);
        mem_free(t->rest);
        mem_free(t);
    }
}

/* --- names and bodies --- */

int model_in_store(struct api *a, const char *name, bool partial, char ret[OCI_DIGEST_CHARS + 1],
                   struct buf *ret_name, struct err *err)
{
    int rc = store_find(a->cfg.store, str_from(name), registry_default(a->cfg.registry), partial,
                        ret, ret_name, err);
    return rc == -E_NOTFOUND ? err_set(err, E_NOTFOUND,
                                       "no model is called '%.200s' in the store; GET /models "
                                       "lists those there are, and POST /models/create brings one",
                                       name)
                             : rc;
}

json_t *model_body(struct httpd_request *r, bool may_be_empty)
{
    json_t *root = NULL;
    struct err err = ERR_INIT;
    struct str body = httpd_body(r);
    if (body.len == 0 && may_be_empty)
        return json_object();
    if (json_parse(body, &root, &err) < 0 || !json_is_object(root)) {
        char text[ERR_MSG_MAX];
        snprintf(text, sizeof(text), "invalid request body: %.400s",
                 err.code ? err.msg : "it is not a JSON object");
        json_decref(root);
        model_fail_status(r, 400, "invalid_json", text);
        return NULL;
    }
    return root;
}

int model_text(struct httpd_request *r, const json_t *root, const char *name, const char **ret)
{
    const json_t *v = json_object_get(root, name);
    char text[256];
    *ret = json_string_value(v);
    if (!v || json_is_null(v) || (*ret && !(*ret)[0]))
        return 0;
    if (*ret && strlen(*ret) == json_string_length(v) && strlen(*ret) <= LIMIT_PATH_BYTES)
        return 1;
    snprintf(text, sizeof(text), "'%.64s' must be a string of at most %u bytes", name,
             LIMIT_PATH_BYTES);
    model_fail_status(r, 400, "invalid_value", text);
    return -1;
}

void put_human_mb(uint64_t n, char ret[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)n;
    size_t i = 0;
    while (v >= 1000 && i + 1 < ARRAY_LEN(units)) {
        v /= 1000;
        i++;
    }
    snprintf(ret, 32, i ? "%.2f%s" : "%.0f%s", v, units[i]);
}

/* --- what is told --- */

void model_tell(struct api *a, const struct watch_change *c, const struct err *err)
{
    struct watch_change rec = *c;
    rec.code = !err ? "" : err->code == E_CANCELED ? "cancelled" : err_code_name(err->code);
    rec.sentence = err ? err->msg : "";
    if (a->cfg.watch)
        watch_change(a->cfg.watch, &rec);
}

void model_tell_call(struct httpd_request *r, const char *action, const char *model,
                     const char *digest, uint64_t bytes, const struct err *err)
{
    struct api_call *c = api_call_of(r);
    model_tell(c->api,
               &(struct watch_change){.request_id = c->request_id,
                                      .key = c->key,
                                      .action = action,
                                      .model = model,
                                      .digest = digest,
                                      .bytes = bytes,
                                      .total_ms = (double)(api_now_us() - c->started_us) / 1000},
               err);
}
