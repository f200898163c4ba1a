/* SPDX-License-Identifier: Apache-2.0 */
/* A pack as the tar that stores load: blobs/sha256/HEX for every file and the config, manifest.json
 * last.  It is made while it is read. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/artifact/pack.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/tar.h"

/* One run of bytes: of memory, then of a file. */
struct part {
    struct buf head;              /* owned: headers, padding, small files */
    const struct pack_file *file; /* what follows; NULL: nothing */
};

struct pack_stream {
    struct part *parts; /* owned */
    unsigned n_parts, at;
    uint64_t done; /* of the current part */
};

/* Headers before a file, after the padding of the one before it. */
static int add_file(struct pack_stream *s, const struct pack_file *f, uint64_t last_size,
                    struct err *err)
{
    char path[OCI_DIGEST_CHARS + 16];
    struct part *p = &s->parts[s->n_parts++];
    buf_init(&p->head, 1u << 20);
    p->file = f;
    tar_put_padding(&p->head, last_size);
    snprintf(path, sizeof(path), "blobs/sha256/%s", f->digest + strlen("sha256:"));
    if (tar_put_file(&p->head, path, f->size, err) < 0)
        return -err->code;
    return buf_status(&p->head, "a header", err);
}

static int put_text(struct buf *out, const char *path, const struct buf *text, struct err *err)
{
    if (tar_put_file(out, path, text->len, err) < 0)
        return -err->code;
    buf_append(out, buf_str(text), text->len);
    tar_put_padding(out, text->len);
    return buf_status(out, path, err);
}

static bool is_earlier(const struct pack *p, unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (strcmp(p->files[k].digest, p->files[i].digest) == 0)
            return true;
    }
    return false;
}

static int fill(struct pack *p, struct pack_stream *s, struct err *err)
{
    char path[OCI_DIGEST_CHARS + 16];
    uint64_t last = 0;
    struct part *first = &s->parts[s->n_parts++];
    buf_init(&first->head, 1u << 16);
    if (tar_put_dir(&first->head, "blobs", err) < 0 ||
        tar_put_dir(&first->head, "blobs/sha256", err) < 0)
        return -err->code;
    for (unsigned i = 0; i < p->n_files; i++) {
        if (is_earlier(p, i)) /* the same bytes under two names */
            continue;
        if (add_file(s, &p->files[i], last, err) < 0)
            return -err->code;
        last = p->files[i].size;
    }
    struct part *end = &s->parts[s->n_parts++];
    buf_init(&end->head, 4 * LIMIT_OCI_MANIFEST_BYTES);
    tar_put_padding(&end->head, last);
    snprintf(path, sizeof(path), "blobs/sha256/%s", p->config_digest + strlen("sha256:"));
    if (put_text(&end->head, path, &p->config, err) < 0 ||
        put_text(&end->head, "manifest.json", &p->manifest, err) < 0)
        return -err->code;
    tar_put_end(&end->head);
    return buf_status(&end->head, "the end of the archive", err);
}

int pack_stream_new(struct pack *p, struct pack_stream **ret, uint64_t *ret_bytes, struct err *err)
{
    struct pack_stream *s = mem_alloc(sizeof(*s));
    s->parts = mem_try_alloc(p->n_files + 2, sizeof(*s->parts), err);
    int rc = s->parts ? fill(p, s, err) : -err->code;
    *ret_bytes = 0;
    for (unsigned i = 0; i < s->n_parts; i++)
        *ret_bytes += s->parts[i].head.len + (s->parts[i].file ? s->parts[i].file->size : 0);
    if (rc < 0)
        pack_stream_free(s);
    else
        *ret = s;
    return rc;
}

void pack_stream_free(struct pack_stream *s)
{
    for (unsigned i = 0; i < s->n_parts; i++)
        buf_release(&s->parts[i].head);
    mem_free(s->parts);
    mem_free(s);
}

const struct pack_file *pack_stream_at(const struct pack_stream *s, uint64_t *ret_done)
{
    const struct part *p = s->at < s->n_parts ? &s->parts[s->at] : NULL;
    *ret_done = p && s->done > p->head.len ? s->done - p->head.len : 0;
    return p ? p->file : NULL;
}

ssize_t pack_stream_read(void *ctx, char *out, size_t n, struct err *err)
{
    struct pack_stream *s = ctx;
    while (s->at < s->n_parts) {
        const struct part *p = &s->parts[s->at];
        uint64_t size = p->head.len + (p->file ? p->file->size : 0);
        if (s->done == size) {
            s->at++;
            s->done = 0;
            continue;
        }
        ssize_t got;
        if (s->done < p->head.len) {
            got = (ssize_t)MIN_OF(n, p->head.len - s->done);
            memcpy(out, p->head.data + s->done, (size_t)got);
        } else {
            got =
                pread(p->file->fd, out, MIN_OF(n, size - s->done), (off_t)(s->done - p->head.len));
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0)
                return err_set_sys(err, E_IO, "reading %.256s", p->file->path);
            if (got == 0)
                return err_set(err, E_IO, "%.256s has become shorter while it was read",
                               p->file->path);
        }
        s->done += (uint64_t)got;
        return got;
    }
    return 0;
}
