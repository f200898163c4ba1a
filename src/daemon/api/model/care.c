/* SPDX-License-Identifier: Apache-2.0 */
/* The store as a whole: is it what it should be, what does it take, what can go, what can come from
 * another store. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/info.h"
#include "daemon/api/model/model_api.h"
#include "daemon/store/import.h"
#include "daemon/store/prepared.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define EXTRA_MAX_BYTES 16384u

/* One job over the store. */
struct care {
    struct api *api;
    char *path; /* owned; import */
    bool repair;
    struct job *job; /* as long as it runs */
    uint64_t done_bytes, total_bytes;
    char request_id[LIMIT_HTTP_REQUEST_ID_BYTES + 1], key[64];
    uint64_t started_us;
};

static void care_free(void *ctx)
{
    struct care *c = ctx;
    mem_free(c->path);
    mem_free(c);
}

static struct care *care_new(struct api *a, struct httpd_request *r)
{
    const struct api_call *call = api_call_of(r);
    struct care *c = mem_alloc(sizeof(*c));
    *c = (struct care){.api = a, .started_us = api_now_us()};
    memcpy(c->request_id, call->request_id, sizeof(c->request_id));
    memcpy(c->key, call->key, sizeof(c->key));
    return c;
}

static void care_tell(const struct care *c, const char *action, uint64_t bytes,
                      const struct err *err)
{
    model_tell(c->api,
               &(struct watch_change){.request_id = c->request_id,
                                      .key = c->key,
                                      .action = action,
                                      .bytes = bytes,
                                      .total_ms = (double)(api_now_us() - c->started_us) / 1000},
               err);
}

/* --- verify --- */

static bool on_finding(void *ctx, const struct store_finding *f)
{
    struct care *c = ctx;
    c->done_bytes = f->done_bytes;
    c->total_bytes = f->total_bytes;
    struct job_event e = {
        .type = JOB_PROGRESS, .done_bytes = f->done_bytes, .total_bytes = f->total_bytes};
    struct buf extra;
    buf_init(&extra, EXTRA_MAX_BYTES);
    if (f->what) {
        e.type = JOB_WARNING;
        e.message = f->what;
        buf_append_str(&extra, ",\"finding\":{\"digest\":");
        json_put_str(&extra, str_from(f->digest ? f->digest : ""));
        buf_append_str(&extra, ",\"name\":");
        json_put_str(&extra, str_from(f->name ? f->name : ""));
        buf_append_str(&extra, ",\"what\":");
        json_put_str(&extra, str_from(f->what));
        buf_append_char(&extra, '}');
        e.extra = extra.failed ? NULL : buf_str(&extra);
    }
    bool goes_on = job_tell(c->job, &e);
    buf_release(&extra);
    return goes_on;
}

static int verify_run(struct job *j, void *ctx, struct err *err)
{
    struct care *c = ctx;
    uint64_t n = 0;
    char text[128], extra[128];
    c->job = j;
    int rc = store_verify(c->api->cfg.store, c->repair, on_finding, c, &n, err);
    care_tell(c, "verify", c->done_bytes, rc < 0 ? err : NULL);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof(text), n ? "%llu finding%s" : "the store is clean", (unsigned long long)n,
             n == 1 ? "" : "s");
    snprintf(extra, sizeof(extra), ",\"findings\":%llu,\"blob_bytes\":%llu,\"repaired\":%s",
             (unsigned long long)n, (unsigned long long)c->done_bytes,
             c->repair && n ? "true" : "false");
    job_tell(j, &(struct job_event){.type = JOB_SUCCESS,
                                    .message = text,
                                    .done_bytes = c->done_bytes,
                                    .total_bytes = c->total_bytes,
                                    .extra = extra});
    return 0;
}

/* -1: answered. */
static int body_flag(struct httpd_request *r, const json_t *root, const char *name, bool *ret)
{
    struct err err = ERR_INIT;
    if (json_field_bool(root, name, ret, &err) >= 0)
        return 0;
    model_fail_status(r, 400, "invalid_type", err.msg);
    return -1;
}

void handle_verify(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    bool repair = false;
    json_t *root = model_has_store(a, r) ? model_body(r, true) : NULL;
    if (root && body_flag(r, root, "repair", &repair) == 0) {
        struct care *c = care_new(a, r);
        c->repair = repair;
        struct job_start s = {.key = repair ? "verify and repair" : "verify",
                              .fn = verify_run,
                              .ctx = c,
                              .ctx_free = care_free};
        progress_start(a, r, PROGRESS_OWN, false, &s);
    }
    json_decref(root);
}

/* --- import --- */

static bool on_import(void *ctx, uint64_t done, uint64_t total, const char *note)
{
    struct care *c = ctx;
    const struct job_event e = {.type = note ? JOB_WARNING : JOB_PROGRESS,
                                .message = note,
                                .done_bytes = done,
                                .total_bytes = total};
    return job_tell(c->job, &e);
}

static int import_run(struct job *j, void *ctx, struct err *err)
{
    struct care *c = ctx;
    struct store_import_report rep = {0};
    char text[128], extra[256];
    c->job = j;
    int rc = store_import(c->api->cfg.store, c->path, on_import, c, &rep, err);
    uint64_t bytes = rep.linked_bytes + rep.copied_bytes;
    care_tell(c, "import", bytes, rc < 0 ? err : NULL);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof(text), "%u model%s imported", rep.n_models, rep.n_models == 1 ? "" : "s");
    snprintf(
        extra, sizeof(extra),
        ",\"models\":%u,\"names\":%u,\"skipped\":%u,\"linked_bytes\":%llu,\"copied_bytes\":%llu",
        rep.n_models, rep.n_names, rep.n_skipped, (unsigned long long)rep.linked_bytes,
        (unsigned long long)rep.copied_bytes);
    job_tell(j, &(struct job_event){.type = JOB_SUCCESS,
                                    .message = text,
                                    .done_bytes = bytes,
                                    .total_bytes = bytes,
                                    .extra = extra});
    return 0;
}

void handle_import(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    const char *path = NULL;
    json_t *root = model_has_store(a, r) ? model_body(r, false) : NULL;
    int rc = root ? model_text(r, root, "path", &path) : -1;
    if (rc >= 0 && (rc == 0 || path[0] != '/')) {
        model_fail_status(r, 400, "invalid_value",
                          "'path' must be the absolute path of a store of Docker Model Runner, on "
                          "the daemon's machine");
    } else if (rc == 1) {
        struct care *c = care_new(a, r);
        c->path = mem_dup(path, strlen(path));
        struct job_start s = {.fn = import_run, .ctx = c, .ctx_free = care_free};
        progress_start(a, r, PROGRESS_OWN, false, &s);
    }
    json_decref(root);
}

/* --- prune --- */

/* Untagged models that nobody has loaded. */
static int remove_untagged(struct api *a, struct buf *out, struct err *err)
{
    struct store_list l;
    struct store *s = a->cfg.store;
    const char *sep = "";
    int rc = store_list(s, &l, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct err gone = ERR_INIT;
        if (l.items[i].name[0] || runner_uses(a->cfg.runner, l.items[i].digest))
            continue;
        if (store_remove(s, l.items[i].digest, &gone) == 0) {
            buf_printf(out, "%s{\"id\":\"%s\"}", sep, l.items[i].digest);
            sep = ",";
        } else if (gone.code != E_NOTFOUND) {
            *err = gone;
            rc = -gone.code;
        }
    }
    store_list_release(&l);
    return rc;
}

struct prune_body {
    bool untagged;
    uint64_t older_than_s;
};

static int read_prune(struct httpd_request *r, struct prune_body *ret)
{
    json_t *root = model_body(r, true);
    const json_t *age = json_object_get(root, "older_than_s");
    *ret = (struct prune_body){.untagged = true};
    int rc = root ? body_flag(r, root, "untagged", &ret->untagged) : -1;
    if (rc == 0 && age && !json_is_null(age)) {
        if (json_is_integer(age) && json_integer_value(age) >= 0) {
            ret->older_than_s = (uint64_t)json_integer_value(age);
        } else {
            model_fail_status(r, 400, "invalid_value",
                              "'older_than_s' must be a number of seconds, 0 or more");
            rc = -1;
        }
    }
    json_decref(root);
    return rc;
}

/* Prepared weights stay for what is in the store or loaded. */
static bool keeps_prepared(void *ctx, const char *digest)
{
    struct api *a = ctx;
    struct err ignored = ERR_INIT;
    uint64_t n_bytes;
    return store_blob_size(a->cfg.store, digest, &n_bytes, &ignored) != 0 ||
           runner_uses(a->cfg.runner, digest);
}

static uint64_t all_bytes(const struct store_usage *u)
{
    return u->blob_bytes + u->partial_bytes + u->prepared_bytes;
}

static void prune(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct prune_body b;
    struct store_usage before, after;
    struct buf out;
    struct err err = ERR_INIT;
    uint64_t collected = 0, freed = 0;
    if (read_prune(r, &b) < 0)
        return;
    buf_init(&out, 4u << 20);
    buf_append_str(&out, "{\"removed\":[");
    int rc = store_usage(a->cfg.store, &before, &err);
    if (rc == 0 && b.untagged)
        rc = remove_untagged(a, &out, &err);
    if (rc == 0)
        rc = store_collect(a->cfg.store, b.older_than_s, &collected, &err);
    if (rc == 0)
        rc = store_prepared_prune(a->cfg.store, keeps_prepared, a, &collected, &err);
    if (rc == 0)
        rc = store_usage(a->cfg.store, &after, &err);
    if (rc == 0 && all_bytes(&before) > all_bytes(&after))
        freed = all_bytes(&before) - all_bytes(&after);
    model_tell_call(r, "prune", "", "", freed, rc < 0 ? &err : NULL);
    if (rc < 0) {
        model_fail(r, &err);
    } else {
        buf_printf(&out, "],\"freed_bytes\":%llu}", (unsigned long long)freed);
        api_answer_json(r, 200, &out);
    }
    buf_release(&out);
}

void handle_prune(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, prune);
}

/* --- df --- */

static void df(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct store_usage u;
    struct model_list list;
    struct err err = ERR_INIT;
    uint64_t n_files = 0, file_bytes = 0;
    if (store_usage(a->cfg.store, &u, &err) < 0) {
        model_fail(r, &err);
        return;
    }
    if (!info_list(a, r, &list))
        return;
    for (size_t i = 0; i < list.n; i++) {
        n_files += !list.items[i].is_stored;
        file_bytes += list.items[i].is_stored ? 0 : list.items[i].file_bytes;
    }
    model_list_release(&list);
    struct buf out;
    buf_init(&out, 65536);
    buf_append_str(&out, "{\"store\":");
    json_put_str(&out, str_from(a->cfg.store_path ? a->cfg.store_path : ""));
    const struct {
        const char *name;
        uint64_t v;
    } rows[] = {{"models", u.n_models},       {"blobs", u.n_blobs},
                {"blob_bytes", u.blob_bytes}, {"unused_bytes", u.unused_bytes},
                {"partial", u.n_partial},     {"partial_bytes", u.partial_bytes},
                {"prepared", u.n_prepared},   {"prepared_bytes", u.prepared_bytes},
                {"free_bytes", u.free_bytes}, {"files", n_files},
                {"files_bytes", file_bytes}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_printf(&out, ",\"%s\":%llu", rows[i].name, (unsigned long long)rows[i].v);
    buf_append_char(&out, '}');
    api_answer_json(r, 200, &out);
}

void handle_df(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, df);
}
