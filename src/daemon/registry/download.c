/* SPDX-License-Identifier: Apache-2.0 */
/* One blob into the store: from where an earlier try ended, again until it is whole, and under its
 * name only when it is what its digest says. */
#include <stdio.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/oci/git_blob.h"
#include "lib/sys/loop.h"

#define OTHERS_POLL_MS 100

/* One try. */
struct
try {
    struct download *d;
    struct job *job;
    struct store_writer *w;
    struct git_blob git;
    uint64_t offset;  /* where we asked to go on */
    uint64_t written; /* bytes of the blob that the writer has */
    bool has_begun;   /* the answer's head is checked */
    struct err err;   /* of the callback */
};

/* Digits up to the end or stop, at most 18. */
static bool take_number(struct str *s, char stop, uint64_t *ret)
{
    size_t n = 0;
    uint64_t v = 0;
    while (n < s->len && s->p[n] >= '0' && s->p[n] <= '9' && n < 18)
        v = v * 10 + (uint64_t)(s->p[n++] - '0');
    bool ok = n > 0 && (stop ? n < s->len && s->p[n] == stop : n == s->len);
    if (ok)
        *s = (struct str){s->p + n + (stop ? 1 : 0), s->len - n - (stop ? 1 : 0)};
    *ret = v;
    return ok;
}

/* "bytes FIRST-LAST/TOTAL" is what was asked for; TOTAL may be "*". */
static bool range_is(struct str v, uint64_t offset, uint64_t size)
{
    uint64_t first, last, total;
    if (v.len < 6 || strncasecmp(v.p, "bytes ", 6) != 0)
        return false;
    v = (struct str){v.p + 6, v.len - 6};
    if (!take_number(&v, '-', &first) || !take_number(&v, '/', &last))
        return false;
    bool any_total = str_is(v, "*");
    return first == offset && last == size - 1 &&
           (any_total || (take_number(&v, '\0', &total) && total == size));
}

/* Whether this answer continues the blob where we are. */
static int begin(struct try *t, const struct fetch_response *r, struct err *err)
{
    struct str range = STR_LIT("");
    uint64_t length = fetch_content_length(r), size = t->d->size;
    if (t->offset && r->status == 206) {
        fetch_header(r, "Content-Range", 0, &range);
        if (!range_is(range, t->offset, size))
            return err_set(err, E_CORRUPT,
                           "the rest of %s from byte %llu on was asked for, and '%.*s' came",
                           t->d->part->name, (unsigned long long)t->offset,
                           (int)MIN_OF(range.len, 80), range.p);
    } else if (r->status != 200) {
        return err_set(err, E_NET, "%s came with status %d", t->d->part->name, r->status);
    } else if (t->offset) { /* the other side cannot go on from a place */
        t->offset = t->written = 0;
        int rc = store_write_restart(t->w, err);
        if (rc < 0)
            return rc;
    }
    if (length != UINT64_MAX && length != size - t->offset)
        return err_set(err, E_CORRUPT, "%s should have %llu bytes, and %llu are offered",
                       t->d->part->name, (unsigned long long)size,
                       (unsigned long long)(t->offset + length));
    git_blob_init(&t->git, size);
    return 0;
}

static bool on_data(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    struct try *t = ctx;
    int rc = 0;
    if (!t->has_begun)
        rc = begin(t, r, &t->err);
    t->has_begun = true;
    if (rc == 0 && n > t->d->size - t->written)
        rc = err_set(&t->err, E_CORRUPT, "%s has more than its %llu bytes", t->d->part->name,
                     (unsigned long long)t->d->size);
    if (rc == 0)
        rc = store_write(t->w, p, n, &t->err);
    if (rc < 0)
        return false;
    if (t->d->git_id)
        git_blob_add(&t->git, p, n);
    t->written += n;
    job_moved(t->job, t->d->part, t->written);
    return true;
}

/* The body, from t->offset on. */
static int receive(struct session *s, struct fetch *f, struct try *t, struct fetch_response *resp,
                   struct err *err)
{
    char range[64];
    struct buf said;
    struct session_request rq = {.method = "GET", .url = t->d->url, .on_data = on_data, .ctx = t};
    if (t->offset) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)t->offset);
        rq.headers[0] = range;
    }
    buf_init(&said, ERROR_BODY_BYTES);
    int rc = session_do(s, f, &rq, resp, &said, err);
    if (rc < 0 && t->err.code) {
        *err = t->err;
        rc = -t->err.code;
    } else if (rc == 0 && resp->status == 416 && t->offset) {
        struct err ignored = ERR_INIT;
        rc = store_write_restart(t->w, &ignored); /* what is here is not its beginning */
        rc = err_set(err, E_CORRUPT, "%s: the other side has nothing from byte %llu on",
                     t->d->part->name, (unsigned long long)t->offset);
    } else if (rc == 0 && resp->status >= 300) {
        rc = session_error(s, "fetching a blob of", resp, &said, err);
    } else if (rc == 0 && t->written < t->d->size) {
        rc = t->has_begun || t->d->size == t->offset
                 ? err_set(err, E_NET, "%s ended after %llu of %llu bytes", t->d->part->name,
                           (unsigned long long)t->written, (unsigned long long)t->d->size)
                 : err_set(err, E_NET, "%s came without its bytes", t->d->part->name);
    }
    buf_release(&said);
    return rc;
}

static int finish(struct try *t, struct err *err)
{
    char id[GIT_BLOB_ID_CHARS + 1];
    if (t->d->git_id) {
        git_blob_end(&t->git, id);
        if (strcmp(id, t->d->git_id) != 0) {
            store_write_abandon(t->w, false);
            return err_set(err, E_CORRUPT,
                           "%s came with other bytes (%s) than %s: it was not taken",
                           t->d->part->name, id, t->d->git_id);
        }
    }
    return store_write_commit(t->w, t->d->ret_digest, err);
}

/* 0: it is there.  Whatever is good of a failed try stays with the store. */
static int one_try(struct session *s, struct fetch *f, struct download *d, bool from_start,
                   struct fetch_response *resp, uint64_t *ret_gained, struct err *err)
{
    struct try t = {.d = d, .job = s->job};
    resp->status = 0;
    *ret_gained = 0;
    int rc = store_write_begin(s->job->r->store, d->digest, d->size, &t.w, &t.offset, err);
    if (rc < 0)
        return rc;
    if (from_start && t.offset) {
        t.offset = 0;
        rc = store_write_restart(t.w, err);
    }
    const uint64_t had = t.offset;
    t.written = t.offset;
    job_moved(s->job, d->part, t.written);
    if (rc == 0 && d->size == 0)
        git_blob_init(&t.git, 0);
    else if (rc == 0 && t.written < d->size)
        rc = receive(s, f, &t, resp, err);
    if (rc == 0)
        return finish(&t, err);
    *ret_gained = t.written > had ? t.written - had : 0;
    store_write_abandon(t.w, rc != -E_CORRUPT);
    return rc;
}

/* Another pull brings the same blob: it is worth waiting for. */
static int wait_for_other(struct job *j, struct err *err)
{
    const struct timespec t = {0, OTHERS_POLL_MS * 1000000L};
    nanosleep(&t, NULL);
    return job_check(j, err);
}

int download(struct session *s, struct fetch *f, struct download *d, struct err *err)
{
    struct patience patience = {0};
    struct fetch_response resp;
    int rc;
    fetch_response_init(&resp);
    for (;;) {
        struct err e = ERR_INIT;
        uint64_t gained;
        rc = one_try(s, f, d, patience.n_corrupt > 0, &resp, &gained, &e);
        if (rc == 0)
            break;
        if (rc == -E_EXISTS) {
            snprintf(d->ret_digest, sizeof(d->ret_digest), "%s", d->digest);
            job_moved(s->job, d->part, d->size);
            rc = 0;
            break;
        }
        if (rc == -E_BUSY && resp.status == 0) {
            rc = wait_for_other(s->job, err);
            if (rc < 0)
                break;
            continue;
        }
        if (gained && resp.status < 400)
            patience.n_failed = 0;
        if (!patience_wait(s->job, &patience, &resp, &e)) {
            *err = e;
            rc = -e.code;
            break;
        }
    }
    fetch_response_release(&resp);
    return rc;
}
