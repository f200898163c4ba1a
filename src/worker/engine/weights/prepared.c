/* SPDX-License-Identifier: Apache-2.0 */
/* Implements prepared.h. */
#include "worker/engine/weights/prepared.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/ipc/frame.h"
#include "worker/kernel/panels.h"

/* The daemon names files by it without knowing what is in them. */
_Static_assert(PANELS_VERSION == PREPARED_VERSION, "lib/ipc/frame.h names this layout");

#define HEADER_BYTES 4096u /* strips begin behind it; every matrix at a multiple of it */
#define SAMPLE_BYTES 64u
#define WRITE_BYTES  (1u << 20)

struct header {
    char magic[16];
    uint32_t version, zero;
    uint64_t n_bytes, check;
};
static const char magic[16] = "berth prepared\n";

/* FNV-1a; not against malice: what it guards is the caller's own file. */
static uint64_t hash(uint64_t h, const void *p, size_t n)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

/* Of one matrix: bytes of its strips, 0: its kernels want none. */
static uint64_t strips_bytes(const struct kern *k, const struct kern_mat *m)
{
    const uint64_t strip = k->matmul_panels[m->type] ? panels_strip_bytes(m->type, m->n_cols) : 0;
    return (m->n_rows + PANELS_ROWS - 1) / PANELS_ROWS * strip;
}

/* ---- the plan ---- */

struct planning {
    const struct kern *k;
    uint64_t at, check;
    size_t strip_bytes; /* the largest */
    bool overflows;
};

static uint64_t check_mat(uint64_t h, const struct kern_mat *m, uint32_t n, size_t stride_bytes,
                          uint64_t at)
{
    const uint64_t facts[] = {m->type, m->n_rows, m->n_cols, n, at};
    h = hash(h, facts, sizeof facts);
    for (uint32_t i = 0; i < n; i++)
        h = hash(h, (const char *)m->data + i * stride_bytes,
                 MIN_OF(m->row_bytes, (size_t)SAMPLE_BYTES));
    return h;
}

static void plan_mat(void *ctx, struct kern_mat *m, uint32_t n, size_t stride_bytes,
                     size_t *panels_stride_bytes)
{
    struct planning *p = ctx;
    uint64_t bytes = strips_bytes(p->k, m);
    (void)panels_stride_bytes;
    if (bytes == 0 || p->overflows)
        return;
    p->strip_bytes = MAX_OF(p->strip_bytes, panels_strip_bytes(m->type, m->n_cols));
    p->check = check_mat(p->check, m, n, stride_bytes, p->at);
    p->overflows = !size_mul(bytes, n, &bytes) || !size_add(bytes, HEADER_BYTES - 1, &bytes) ||
                   !size_add(p->at, bytes / HEADER_BYTES * HEADER_BYTES, &p->at);
}

int prepared_plan_make(struct weights *w, const struct kern *k, struct prepared_plan *ret,
                       struct err *err)
{
    struct planning p = {.k = k, .at = HEADER_BYTES, .check = 0xcbf29ce484222325u};
    weights_each(w, plan_mat, &p);
    if (p.overflows || p.at > INT64_MAX)
        return err_set(err, E_LIMIT, "the prepared weights' sizes overflow 64 bits");
    const bool is_empty = p.at == HEADER_BYTES;
    *ret = (struct prepared_plan){.n_bytes = is_empty ? 0 : p.at,
                                  .strip_bytes = p.strip_bytes,
                                  .check = hash(p.check, w->small, w->n_small * sizeof *w->small)};
    return 0;
}

/* ---- writing ---- */

struct writing {
    const struct kern *k;
    int fd, rc;
    char *bytes; /* [cap] */
    size_t n, cap;
    uint64_t done, total;
    prepared_progress_fn fn;
    void *ctx;
    struct err *err;
};

static void put_out(struct writing *wr)
{
    for (size_t at = 0; wr->rc == 0 && at < wr->n;) {
        ssize_t n = write(wr->fd, wr->bytes + at, wr->n - at);
        if (n < 0 && errno != EINTR)
            wr->rc = err_set_sys(wr->err, E_IO, "writing the prepared weights");
        at += n > 0 ? (size_t)n : 0;
    }
    wr->done += wr->n;
    wr->n = 0;
    if (wr->rc == 0 && wr->fn)
        wr->fn(wr->ctx, wr->done, wr->total);
}

/* n bytes of room. */
static char *room_for(struct writing *wr, size_t n)
{
    if (wr->cap - wr->n < n)
        put_out(wr);
    wr->n += n;
    return wr->bytes + wr->n - n;
}

static void write_rows(struct writing *wr, const struct kern_mat *m, const char *rows)
{
    const size_t strip = panels_strip_bytes(m->type, m->n_cols);
    for (uint32_t r = 0; wr->rc == 0 && r < m->n_rows; r += PANELS_ROWS)
        panels_write(m->type, rows + (size_t)r * m->row_bytes, m->row_bytes,
                     MIN_OF(m->n_rows - r, (uint32_t)PANELS_ROWS), m->n_cols, room_for(wr, strip));
}

static void write_mat(void *ctx, struct kern_mat *m, uint32_t n, size_t stride_bytes,
                      size_t *panels_stride_bytes)
{
    struct writing *wr = ctx;
    (void)panels_stride_bytes;
    if (strips_bytes(wr->k, m) == 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        write_rows(wr, m, (const char *)m->data + i * stride_bytes);
    const size_t pad = (HEADER_BYTES - (wr->done + wr->n) % HEADER_BYTES) % HEADER_BYTES;
    memset(room_for(wr, pad), 0, pad);
}

int prepared_write(struct weights *w, const struct kern *k, const struct prepared_plan *p, int fd,
                   prepared_progress_fn fn, void *ctx, struct err *err)
{
    struct writing wr = {.k = k, .fd = fd, .total = p->n_bytes, .fn = fn, .ctx = ctx, .err = err};
    struct header h = {.version = PANELS_VERSION, .n_bytes = p->n_bytes, .check = p->check};
    memcpy(h.magic, magic, sizeof magic);
    wr.cap = MAX_OF(p->strip_bytes, (size_t)WRITE_BYTES);
    wr.bytes = mem_try_alloc(wr.cap, 1, err);
    if (!wr.bytes)
        return -err->code;
    memset(room_for(&wr, HEADER_BYTES), 0, HEADER_BYTES);
    weights_each(w, write_mat, &wr);
    put_out(&wr);
    BUG_ON(wr.rc == 0 && wr.done != p->n_bytes);
    if (wr.rc == 0 && lseek(fd, 0, SEEK_SET) != 0)
        wr.rc = err_set_sys(err, E_IO, "writing the prepared weights");
    memcpy(wr.bytes, &h, sizeof h);
    wr.n = wr.rc == 0 ? sizeof h : 0;
    wr.fn = NULL;
    put_out(&wr);
    mem_free(wr.bytes);
    return wr.rc;
}

/* ---- reading ---- */

struct attaching {
    const struct kern *k; /* NULL: detaching */
    const char *base;
    uint64_t at;
};

/* Pages of the model's file that are not needed any more need not count as this process's. */
static void let_go(const struct kern_mat *m, uint32_t n, size_t stride_bytes)
{
    const uintptr_t page = HEADER_BYTES, from = (uintptr_t)m->data,
                    to = from + (n - 1) * stride_bytes + m->n_rows * m->row_bytes,
                    first = (from + page - 1) / page * page, end = to / page * page;
    if (end > first)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

static void attach_mat(void *ctx, struct kern_mat *m, uint32_t n, size_t stride_bytes,
                       size_t *panels_stride_bytes)
{
    struct attaching *a = ctx;
    const uint64_t bytes = a->k ? strips_bytes(a->k, m) : 0;
    m->panels = bytes ? a->base + a->at : NULL;
    if (bytes)
        let_go(m, n, stride_bytes);
    if (panels_stride_bytes)
        *panels_stride_bytes = (size_t)bytes;
    a->at += (n * bytes + HEADER_BYTES - 1) / HEADER_BYTES * HEADER_BYTES;
}

static int header_check(const struct header *h, const struct prepared_plan *p, struct err *err)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return err_set(err, E_FORMAT, "prepared weights: the file does not begin like one");
    if (h->version != PANELS_VERSION || h->zero != 0)
        return err_set(err, E_FORMAT, "prepared weights: layout %u, and this berth reads %u",
                       h->version, PANELS_VERSION);
    if (h->n_bytes != p->n_bytes || h->check != p->check)
        return err_set(err, E_FORMAT,
                       "prepared weights: of another model, or for other kernels than these");
    return 0;
}

int prepared_attach(struct prepared *p, struct weights *w, const struct kern *k, int fd,
                    struct err *err)
{
    const struct prepared_plan *plan = &p->plan;
    struct stat st;
    if (p->map)
        return err_set(err, E_INVALID, "the prepared weights are in use already");
    if (plan->n_bytes == 0)
        return err_set(err, E_FORMAT, "prepared weights: this model has none");
    if (fstat(fd, &st) < 0)
        return err_set_sys(err, E_IO, "prepared weights");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != plan->n_bytes)
        return err_set(err, E_FORMAT, "prepared weights: %lld bytes, and %llu were expected",
                       (long long)st.st_size, (unsigned long long)plan->n_bytes);
    void *map = mmap(NULL, (size_t)plan->n_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_set_sys(err, E_IO, "prepared weights: mapping %llu bytes",
                           (unsigned long long)plan->n_bytes);
    int r = header_check(map, plan, err);
    if (r) {
        munmap(map, (size_t)plan->n_bytes);
        return r;
    }
    struct attaching a = {.k = k, .base = map, .at = HEADER_BYTES};
    weights_each(w, attach_mat, &a);
    BUG_ON(a.at != plan->n_bytes);
    p->map = map;
    return 0;
}

void prepared_detach(struct prepared *p, struct weights *w)
{
    struct attaching none = {0};
    if (!p->map)
        return;
    if (w->layers)
        weights_each(w, attach_mat, &none);
    munmap(p->map, (size_t)p->plan.n_bytes);
    p->map = NULL;
}
