/* SPDX-License-Identifier: Apache-2.0 */
/* Implements frame.h: the header, the incremental reader and the bounded fields.  Payloads: msg.c.
 */
#include "lib/ipc/frame.h"

#include "lib/base/limits.h"

#define FRAME_MAGIC        0x48545242u /* "BRTH" in little-endian memory order */
#define FRAME_HEADER_BYTES 16u
/* What a reader may hold beyond one whole frame: the bytes of one feed. */
#define FRAME_FEED_BYTES (1u << 20)
/* A buffer that grew past this for one large frame is given back once it is empty. */
#define FRAME_KEEP_BYTES (1u << 20)

struct frame_header {
    uint32_t magic, n_bytes;
    uint16_t type, zero;
    uint32_t reserved;
};
_Static_assert(sizeof(struct frame_header) == FRAME_HEADER_BYTES, "a header has no padding");

struct msg_info {
    uint32_t type;
    const char *name;
    enum msg_dir dir;
    uint32_t max_bytes;
};

static const struct msg_info infos[] = {
#define MSG(value, name, dir, max_bytes, doc) {value, #name, dir, max_bytes},
#include "lib/ipc/msg.def"
#undef MSG
};

static const struct msg_info *info_find(uint32_t type)
{
    for (size_t i = 0; i < ARRAY_LEN(infos); i++) {
        if (infos[i].type == type)
            return &infos[i];
    }
    return NULL;
}

const char *msg_name(uint32_t type)
{
    const struct msg_info *info = info_find(type);
    return info ? info->name : NULL;
}

void frame_reader_init(struct frame_reader *r, enum msg_dir dir)
{
    *r = (struct frame_reader){.dir = dir};
    buf_init(&r->in, FRAME_HEADER_BYTES + (size_t)LIMIT_MSG_BYTES + FRAME_FEED_BYTES);
}

void frame_reader_release(struct frame_reader *r)
{
    buf_release(&r->in);
    r->taken = 0;
}

/* Drops the frames that were handed out: here and not in _next, so that a feed of many small frames
 * is moved once. */
static void reader_compact(struct frame_reader *r)
{
    buf_consume(&r->in, r->taken);
    r->taken = 0;
    if (r->in.len == 0 && r->in.cap > FRAME_KEEP_BYTES)
        buf_release(&r->in);
}

int frame_reader_feed(struct frame_reader *r, const void *p, size_t n, struct err *err)
{
    reader_compact(r);
    if (n > FRAME_FEED_BYTES)
        return err_set(err, E_LIMIT, "frame reader: %zu bytes at once, more than %u", n,
                       FRAME_FEED_BYTES);
    buf_append(&r->in, p, n);
    return buf_status(&r->in, "frame reader", err);
}

static int header_check(const struct frame_header *h, enum msg_dir dir, struct err *err)
{
    const struct msg_info *info = info_find(h->type);
    if (h->magic != FRAME_MAGIC || h->zero != 0 || h->reserved != 0)
        return err_set(err, E_FORMAT, "frame header is not one: magic 0x%08x", h->magic);
    if (!info)
        return err_set(err, E_FORMAT, "frame of unknown type %u", h->type);
    if (info->dir != dir)
        return err_set(err, E_FORMAT, "frame %s goes the other way", info->name);
    if (h->n_bytes > info->max_bytes)
        return err_set(err, E_LIMIT, "frame %s has %u bytes of payload, more than %u", info->name,
                       h->n_bytes, info->max_bytes);
    return 0;
}

int frame_reader_next(struct frame_reader *r, struct frame *ret, struct err *err)
{
    size_t have = r->in.len - r->taken;
    if (have < FRAME_HEADER_BYTES)
        return 0;
    struct frame_header h;
    memcpy(&h, r->in.data + r->taken, sizeof(h));
    int rc = header_check(&h, r->dir, err);
    if (rc < 0)
        return rc;
    if (have - FRAME_HEADER_BYTES < h.n_bytes)
        return 0;
    ret->type = (enum msg_type)h.type;
    ret->payload = (struct str){r->in.data + r->taken + FRAME_HEADER_BYTES, h.n_bytes};
    r->taken += FRAME_HEADER_BYTES + h.n_bytes;
    return 1;
}

int frame_write(struct buf *out, enum msg_type type, const void *payload, size_t n, struct err *err)
{
    const struct msg_info *info = info_find(type);
    BUG_ON(!info);
    if (n > info->max_bytes)
        return err_set(err, E_LIMIT, "message %s would have %zu bytes, more than %u", info->name, n,
                       info->max_bytes);
    struct frame_header h = {.magic = FRAME_MAGIC, .n_bytes = (uint32_t)n, .type = (uint16_t)type};
    if (buf_reserve(out, sizeof(h) + n) == 0) {
        buf_append(out, &h, sizeof(h));
        buf_append(out, payload, n);
    }
    return buf_status(out, "outgoing frames", err);
}

/* A failed append marks the buf; writers of fields ask buf_status() once at their end. */
void put_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, sizeof(v));
}

void put_u32(struct buf *b, uint32_t v)
{
    buf_append(b, &v, sizeof(v));
}

void put_u64(struct buf *b, uint64_t v)
{
    buf_append(b, &v, sizeof(v));
}

void put_f32(struct buf *b, float v)
{
    buf_append(b, &v, sizeof(v));
}

void put_f64(struct buf *b, double v)
{
    buf_append(b, &v, sizeof(v));
}

void put_str(struct buf *b, struct str s)
{
    if (s.len > UINT32_MAX) {
        b->failed = b->failed ? b->failed : E_LIMIT;
        return;
    }
    put_u32(b, (uint32_t)s.len);
    buf_append(b, s.p, s.len);
}

static bool get_bytes(struct cursor *c, void *ret, size_t n)
{
    if (c->bad || c->left < n) {
        c->bad = true;
        return false;
    }
    memcpy(ret, c->p, n);
    c->p += n;
    c->left -= n;
    return true;
}

bool get_u8(struct cursor *c, uint8_t *ret)
{
    return get_bytes(c, ret, sizeof(*ret));
}

bool get_u32(struct cursor *c, uint32_t *ret)
{
    return get_bytes(c, ret, sizeof(*ret));
}

bool get_u64(struct cursor *c, uint64_t *ret)
{
    return get_bytes(c, ret, sizeof(*ret));
}

bool get_f32(struct cursor *c, float *ret)
{
    return get_bytes(c, ret, sizeof(*ret));
}

bool get_f64(struct cursor *c, double *ret)
{
    return get_bytes(c, ret, sizeof(*ret));
}

bool get_str(struct cursor *c, size_t max, struct str *ret)
{
    uint32_t n;
    if (!get_u32(c, &n))
        return false;
    if (n > max || n > c->left) {
        c->bad = true;
        return false;
    }
    *ret = (struct str){c->p, n};
    c->p += n;
    c->left -= n;
    return true;
}
