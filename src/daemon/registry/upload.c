/* SPDX-License-Identifier: Apache-2.0 */
/* One blob to a registry (distribution-spec 1.1, "Pushing blobs"): not at all when it is there,
 * mounted when another repository of the same registry has it, in one piece, or in chunks when the
 * registry says so or did not take the whole. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/registry/registry_impl.h"
#include "daemon/registry/trust.h"

#define WAIT_MS   600000u      /* a registry may hash and move what it has got */
#define CHUNK_MAX (1ull << 30) /* that a registry may ask for */

struct upload {
    struct session *s;
    struct fetch *f;
    const struct oci_descriptor *d;
    struct job_part *part;
    int fd;
    struct buf at;        /* where the upload is: the last Location */
    uint64_t chunk_bytes; /* 0: in one piece */
    uint64_t sent;        /* bytes that the registry has */
    struct fetch_response resp;
    struct buf said;
};

static void on_sent(void *ctx, uint64_t n)
{
    struct upload *u = ctx;
    job_moved(u->s->job, u->part, u->sent + n);
}

static int fail(struct upload *u, const char *doing, struct err *err)
{
    return session_error(u->s, doing, &u->resp, &u->said, err);
}

/* 1: it is there. */
static int is_there(struct upload *u, struct err *err)
{
    char url[URL_BYTES];
    snprintf(url, sizeof(url), "%s/v2/%s/blobs/%s", buf_str(&u->s->base), u->s->repository,
             u->d->digest);
    const struct session_request rq = {.method = "HEAD", .url = url};
    int rc = session_try(u->s, u->f, &rq, &u->resp, &u->said, err);
    if (rc < 0)
        return rc;
    if (u->resp.status == 404)
        return 0;
    return u->resp.status == 200 ? 1 : fail(u, "looking for a blob of", err);
}

/* Where the upload goes on; it may be relative, and its query is kept. */
static int take_location(struct upload *u, const char *asked, struct err *err)
{
    struct str location;
    struct url from, to;
    struct buf next;
    if (!fetch_header(&u->resp, "Location", 0, &location))
        return err_set(err, E_NET, "%s does not say where the upload goes (no Location)",
                       u->s->url.host);
    int rc = url_parse(str_from(asked), &from, err);
    if (rc < 0)
        return rc;
    buf_init(&next, URL_BYTES);
    rc = url_resolve(&from, location, &next, err);
    if (rc == 0)
        rc = url_parse(str_from(buf_str(&next)), &to, err);
    /* A registry behind a proxy may not know that it is spoken to in https. */
    if (rc == 0 && from.is_https && !to.is_https && strcmp(from.host, to.host) == 0) {
        buf_clear(&next);
        rc = url_resolve(&from, to.target, &next, err);
    } else if (rc == 0 && !url_same_origin(&from, &to)) {
        rc = trust_redirect(&from, &to, err);
    }
    if (rc == 0) {
        buf_clear(&u->at);
        buf_append(&u->at, next.data, next.len);
        rc = buf_status(&u->at, "an upload's address", err);
    }
    buf_release(&next);
    return rc;
}

/* "OCI-Chunk-Min-Length: N": in chunks, and none smaller but the last. */
static void take_chunk_length(struct upload *u)
{
    struct str v;
    uint64_t n = 0;
    if (!fetch_header(&u->resp, "OCI-Chunk-Min-Length", 0, &v) || v.len > 12)
        return;
    for (size_t i = 0; i < v.len && v.p[i] >= '0' && v.p[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    if (n > 0 && n <= CHUNK_MAX)
        u->chunk_bytes = MAX_OF(n, u->s->job->r->cfg.chunk_bytes);
}

/* 1: mounted, nothing to send; 0: u->at takes the bytes. */
static int start(struct upload *u, const char *mount_from, struct err *err)
{
    struct buf url;
    buf_init(&url, URL_BYTES);
    buf_printf(&url, "%s/v2/%s/blobs/uploads/", buf_str(&u->s->base), u->s->repository);
    if (mount_from) {
        buf_append_str(&url, "?mount=");
        url_put_escaped(str_from(u->d->digest), ":", &url);
        buf_append_str(&url, "&from=");
        url_put_escaped(str_from(mount_from), "/", &url);
    }
    const struct session_request rq = {.method = "POST", .url = buf_str(&url)};
    int rc = buf_status(&url, "an address", err);
    if (rc == 0)
        rc = session_try(u->s, u->f, &rq, &u->resp, &u->said, err);
    u->sent = 0;
    if (rc == 0 && u->resp.status == 201 && mount_from)
        rc = 1;
    else if (rc == 0 && u->resp.status == 202)
        rc = take_location(u, buf_str(&url), err);
    else if (rc == 0)
        rc = fail(u, "beginning an upload to", err);
    if (rc == 0)
        take_chunk_length(u);
    buf_release(&url);
    return rc;
}

static int put_digest(struct upload *u, struct buf *url, struct err *err)
{
    buf_append(url, u->at.data, u->at.len);
    buf_append_str(url, strchr(buf_str(&u->at), '?') ? "&digest=" : "?digest=");
    url_put_escaped(str_from(u->d->digest), ":", url);
    return buf_status(url, "an upload's address", err);
}

/* The end of either way: PUT with what is left (all of it, or nothing). */
static int send_end(struct upload *u, struct err *err)
{
    struct buf url;
    buf_init(&url, URL_BYTES);
    int rc = put_digest(u, &url, err);
    const struct session_request rq = {
        .method = "PUT",
        .url = buf_str(&url),
        .headers = {"Content-Type: application/octet-stream"},
        .has_file = u->sent < u->d->size,
        .file_fd = u->fd,
        .file_offset = u->sent,
        .file_bytes = u->d->size - u->sent,
        .on_sent = on_sent,
        .ctx = u,
        .wait_ms = WAIT_MS,
    };
    if (rc == 0)
        rc = session_do(u->s, u->f, &rq, &u->resp, &u->said, err);
    if (rc == 0 && u->resp.status == 413)
        u->chunk_bytes = u->chunk_bytes ? u->chunk_bytes : u->s->job->r->cfg.chunk_bytes;
    if (rc == 0 && u->resp.status == 400 &&
        memmem(buf_str(&u->said), u->said.len, "DIGEST_INVALID", 14))
        rc = err_set(
            err, E_CORRUPT,
            "%s says that blob %s is not what its digest says: `berth verify` tells whether "
            "the store's is",
            u->s->url.host, u->d->digest);
    else if (rc == 0 && u->resp.status != 201 && u->resp.status != 204)
        rc = fail(u, "sending a blob to", err);
    buf_release(&url);
    return rc;
}

static int send_chunk(struct upload *u, uint64_t n, struct err *err)
{
    char range[80];
    struct buf asked;
    snprintf(range, sizeof(range), "Content-Range: %llu-%llu", (unsigned long long)u->sent,
             (unsigned long long)(u->sent + n - 1));
    const struct session_request rq = {
        .method = "PATCH",
        .url = buf_str(&u->at),
        .headers = {"Content-Type: application/octet-stream", range},
        .has_file = true,
        .file_fd = u->fd,
        .file_offset = u->sent,
        .file_bytes = n,
        .on_sent = on_sent,
        .ctx = u,
        .wait_ms = WAIT_MS,
    };
    int rc = session_do(u->s, u->f, &rq, &u->resp, &u->said, err);
    if (rc == 0 && u->resp.status != 202 && u->resp.status != 201 && u->resp.status != 204)
        return fail(u, "sending a piece of a blob to", err);
    if (rc < 0)
        return rc;
    u->sent += n;
    buf_init(&asked, URL_BYTES);
    buf_append(&asked, u->at.data, u->at.len);
    struct str ignored;
    rc = fetch_header(&u->resp, "Location", 0, &ignored) ? take_location(u, buf_str(&asked), err)
                                                         : 0;
    buf_release(&asked);
    return rc;
}

static int send_all(struct upload *u, struct err *err)
{
    int rc = 0;
    while (rc == 0 && u->chunk_bytes && u->sent < u->d->size)
        rc = send_chunk(u, MIN_OF(u->chunk_bytes, u->d->size - u->sent), err);
    return rc < 0 ? rc : send_end(u, err);
}

/* After a failure: how much the registry has of an upload in chunks.  False: from the beginning. */
static bool can_go_on(struct upload *u)
{
    struct err ignored = ERR_INIT;
    struct str range;
    uint64_t last = 0;
    size_t i = 2;
    const struct session_request rq = {.method = "GET", .url = buf_str(&u->at)};
    if (!u->chunk_bytes || !u->at.len ||
        session_do(u->s, u->f, &rq, &u->resp, &u->said, &ignored) < 0 || u->resp.status != 204 ||
        !fetch_header(&u->resp, "Range", 0, &range) || range.len < 3 || range.len > 20 ||
        memcmp(range.p, "0-", 2) != 0)
        return false;
    for (; i < range.len && range.p[i] >= '0' && range.p[i] <= '9'; i++)
        last = last * 10 + (uint64_t)(range.p[i] - '0');
    if (i < range.len || last == 0 || last >= u->d->size)
        return false;
    u->sent = last + 1;
    struct buf asked;
    buf_init(&asked, URL_BYTES);
    buf_append(&asked, u->at.data, u->at.len);
    bool ok = !fetch_header(&u->resp, "Location", 0, &range) ||
              take_location(u, buf_str(&asked), &ignored) == 0;
    buf_release(&asked);
    return ok;
}

/* Whether the upload had begun when what failed did. */
static bool is_uploading(const struct upload *u)
{
    return u->at.len > 0;
}

static int send_until_there(struct upload *u, const char *mount_from, struct err *err)
{
    struct patience patience = {0};
    const uint64_t chunk_bytes = u->s->job->r->cfg.chunk_bytes;
    bool goes_on = false;
    for (bool is_again = false;; is_again = true) {
        struct err e = ERR_INIT;
        uint64_t had = u->sent;
        uint64_t chunks = u->chunk_bytes;
        int rc = goes_on ? 0 : is_again ? is_there(u, &e) : 0;
        if (rc == 0 && !goes_on)
            rc = start(u, mount_from, &e);
        if (rc == 1)
            return 1;
        if (rc == 0)
            rc = send_all(u, &e);
        if (rc == 0)
            return 0;
        if (u->sent > had)
            patience.n_failed = 0;
        if ((u->resp.status == 404 || u->resp.status == 416) && is_uploading(u)) {
            e.code = E_NET; /* an answer of its may have been lost, or it has forgotten us */
            u->resp.status = 0;
        }
        bool in_pieces_now = !chunks && u->chunk_bytes && u->resp.status == 413;
        if (!in_pieces_now && !patience_wait(u->s->job, &patience, &u->resp, &e)) {
            *err = e;
            return -e.code;
        }
        /* A registry that ends a long upload before its end may take pieces. */
        if (!u->chunk_bytes && patience.n_failed >= 2 && u->d->size > chunk_bytes)
            u->chunk_bytes = chunk_bytes;
        goes_on = !in_pieces_now && can_go_on(u);
    }
}

int upload(struct session *s, struct fetch *f, const struct oci_descriptor *d,
           const char *mount_from, struct job_part *part, bool *ret_sent, struct err *err)
{
    struct upload u = {.s = s, .f = f, .d = d, .part = part, .fd = -1};
    *ret_sent = false;
    int rc = store_blob_open(s->job->r->store, d->digest, &u.fd, err);
    if (rc < 0)
        return rc;
    posix_fadvise(u.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    fetch_response_init(&u.resp);
    buf_init(&u.said, ERROR_BODY_BYTES);
    buf_init(&u.at, URL_BYTES);
    rc = is_there(&u, err);
    if (rc == 0) {
        rc = send_until_there(&u, mount_from, err);
        *ret_sent = rc == 0;
    }
    if (rc >= 0)
        job_moved(s->job, part, d->size);
    buf_release(&u.at);
    buf_release(&u.said);
    fetch_response_release(&u.resp);
    close(u.fd);
    return MIN_OF(rc, 0);
}
