/* SPDX-License-Identifier: Apache-2.0 */
/* Models as tar streams: POST /models/load and GET /models/NAME/export.  Both are of any size, both
 * wait for the slower side. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/model/model_api.h"
#include "daemon/store/load.h"
#include "daemon/store/model.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

#define PIECE_BYTES (256u << 10)

/* A stream with its request, which the job's thread holds until its function returns. */
struct stream {
    struct api *api;
    struct httpd_request *r;
    char digest[OCI_DIGEST_CHARS + 1];
    bool begun; /* export: the answer's head is out */
};

static struct stream *stream_new(struct api *a, struct httpd_request *r)
{
    struct stream *s = mem_alloc(sizeof(*s));
    *s = (struct stream){.api = a, .r = httpd_request_ref(r)};
    return s;
}

/* The job never ran. */
static void stream_free(void *ctx)
{
    struct stream *s = ctx;
    if (s->r)
        httpd_request_unref(s->r);
    mem_free(s);
}

/* --- load --- */

static int take_all(struct job *j, struct stream *s, uint64_t *ret_bytes, struct err *err)
{
    struct buf piece;
    struct store_load *l = store_load_begin(s->api->cfg.store);
    int rc;
    buf_init(&piece, SIZE_MAX / 4);
    while ((rc = httpd_body_take(s->r, &piece, err)) == 1) {
        rc = store_load_feed(l, piece.data, piece.len, err);
        *ret_bytes += piece.len;
        if (rc == 0 && job_is_stopped(j))
            rc = err_set(err, E_CANCELED, "the load was stopped");
        if (rc < 0)
            break;
    }
    buf_release(&piece);
    if (rc < 0)
        store_load_abandon(l);
    else
        rc = store_load_commit(l, s->digest, err);
    return rc;
}

/* Archives in it are unpacked now, when somebody waits for it, and not when it first runs, when all
 * do.  Of one that cannot be, the reason is told to whoever runs it. */
static void unpack(struct api *a, const char *digest)
{
    struct store_model m;
    struct err err = ERR_INIT;
    int rc = store_model_read(a->cfg.store, digest, &m, &err);
    if (rc == 0)
        rc = store_model_files(a->cfg.store, &m, &err);
    if (rc < 0)
        log_warn("model %s is stored, and cannot be loaded: %s", digest, err.msg);
    store_model_release(&m);
}

static int load_run(struct job *j, void *ctx, struct err *err)
{
    struct stream *s = ctx;
    char text[OCI_DIGEST_CHARS + 64];
    uint64_t n_bytes = 0;
    int rc = take_all(j, s, &n_bytes, err);
    if (rc == 0)
        unpack(s->api, s->digest);
    model_tell_call(s->r, "load", "", rc == 0 ? s->digest : "", n_bytes, rc < 0 ? err : NULL);
    snprintf(text, sizeof(text), "Model loaded successfully: %s", s->digest);
    if (rc == 0)
        job_tell(j, &(struct job_event){.type = JOB_SUCCESS,
                                        .message = text,
                                        .done_bytes = n_bytes,
                                        .total_bytes = n_bytes,
                                        .id = s->digest});
    httpd_request_unref(s->r);
    s->r = NULL;
    return rc;
}

void handle_models_load(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    if (!model_has_store(a, r))
        return;
    struct job_start s = {.fn = load_run, .ctx = stream_new(a, r), .ctx_free = stream_free};
    progress_start(a, r, progress_shape_of(r), false, &s);
}

/* --- export --- */

static int send_all(struct job *j, struct stream *s, struct store_export *e, uint64_t *ret_bytes,
                    struct err *err)
{
    char *piece = mem_alloc(PIECE_BYTES);
    size_t n = 1;
    int rc = 0;
    while (rc == 0 && n > 0) {
        rc = store_export_read(e, piece, PIECE_BYTES, &n, err);
        if (rc == 0 && n > 0 && httpd_stream_write_wait(s->r, (struct str){piece, n}) < 0)
            rc = err_set(err, E_CANCELED, "the client has left");
        if (rc == 0 && job_is_stopped(j))
            rc = err_set(err, E_CANCELED, "the export was stopped");
        *ret_bytes += rc == 0 ? n : 0;
    }
    mem_free(piece);
    return rc;
}

static int export_run(struct job *j, void *ctx, struct err *err)
{
    struct stream *s = ctx;
    struct store_export *e = NULL;
    char text[OCI_DIGEST_CHARS + 64];
    uint64_t total = 0, n_bytes = 0;
    const bool is_head = strcmp(httpd_method(s->r), "HEAD") == 0;
    int rc = store_export_begin(s->api->cfg.store, s->digest, &e, &total, err);
    if (rc == 0) {
        snprintf(text, sizeof(text), "attachment; filename=\"model-%.12s.tar\"", s->digest + 7);
        httpd_set_header(s->r, "Content-Disposition", text);
        snprintf(text, sizeof(text), "%llu", (unsigned long long)total);
        httpd_set_header(s->r, "X-Total-Bytes", text);
        s->begun = true;
        if (is_head) { /* its answer ends with the head: nothing is held any more by then */
            store_export_end(e);
            e = NULL;
        }
        httpd_stream_begin(s->r, 200, "application/x-tar");
        if (!is_head)
            rc = send_all(j, s, e, &n_bytes, err);
    }
    store_export_end(e);
    model_tell_call(s->r, "export", "", s->digest, n_bytes, rc < 0 ? err : NULL);
    if (s->begun && rc == 0)
        httpd_stream_end(s->r);
    else if (s->begun)
        httpd_abort(s->r); /* an end would say that it was whole */
    else
        model_fail(s->r, err);
    httpd_request_unref(s->r);
    s->r = NULL;
    return rc;
}

static void no_event(void *ctx, const struct job_event *e)
{
    (void)ctx;
    (void)e;
}

/* Its job, for whoever frees the request. */
struct exporting {
    struct job *job;
};

static void exporting_free(void *ctx)
{
    struct exporting *x = ctx;
    if (x->job)
        job_unwatch(x->job, x);
    mem_free(x);
}

static void export_begin(struct api *a, struct httpd_request *r, const char *digest)
{
    struct api_call *c = api_call_of(r);
    struct err err = ERR_INIT;
    struct exporting *x = mem_alloc(sizeof(*x));
    struct stream *s = stream_new(a, r);
    memcpy(s->digest, digest, sizeof(s->digest));
    const struct job_start start = {
        .fn = export_run, .ctx = s, .ctx_free = stream_free, .watch = no_event, .watcher = x};
    c->job = x;
    c->job_free = exporting_free;
    if (jobs_start(a->jobs, &start, &x->job, &err) < 0)
        model_fail(r, &err);
}

void model_export(struct api *a, struct httpd_request *r, const char *rest, size_t n)
{
    char digest[OCI_DIGEST_CHARS + 1], *name;
    struct buf full;
    struct err err = ERR_INIT;
    if (!model_has_store(a, r))
        return;
    name = mem_dup(rest, n);
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    if (model_in_store(a, name, true, digest, &full, &err) < 0)
        model_fail(r, &err);
    else
        export_begin(a, r, digest);
    buf_release(&full);
    mem_free(name);
}
