/* SPDX-License-Identifier: Apache-2.0 */
/* Implements gguf_show.h by writing the text directly: a vocabulary of 250,000 strings needs no
 * tree of them. */
#include "worker/model/gguf_show.h"

#include <inttypes.h>
#include <math.h>

#include "worker/model/gguf_int.h"

/* Length of the UTF-8 sequence at p, 0 when there is none in n bytes.  Unicode 15, table 3-7. */
static size_t utf8_len_at(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xC2 ? 0
                 : p[0] < 0xE0 ? 2
                 : p[0] < 0xF0 ? 3
                 : p[0] < 0xF5 ? 4
                               : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    bool is_overlong = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90);
    bool is_surrogate = p[0] == 0xED && p[1] >= 0xA0;
    bool is_beyond = p[0] == 0xF4 && p[1] >= 0x90;
    return len > 1 && (is_overlong || is_surrogate || is_beyond) ? 0 : len;
}

void gguf_show_str(struct buf *out, struct str s)
{
    buf_append_char(out, '"');
    for (size_t i = 0; i < s.len && !out->failed;) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        size_t len = utf8_len_at(p, s.len - i);
        if (len == 0)
            buf_append_str(out, "\\ufffd");
        else if (*p == '"' || *p == '\\')
            buf_printf(out, "\\%c", *p);
        else if (*p == '\n')
            buf_append_str(out, "\\n");
        else if (*p == '\t')
            buf_append_str(out, "\\t");
        else if (*p < 0x20 || *p == 0x7F)
            buf_printf(out, "\\u%04x", *p);
        else if (len == 2 && p[0] == 0xC2 && p[1] < 0xA0)
            buf_printf(out, "\\u%04x", p[1]);
        else
            buf_append(out, p, len);
        i += len ? len : 1;
    }
    buf_append_char(out, '"');
}

static void float_put(struct buf *out, double d, bool is_f32)
{
    if (isnan(d))
        buf_append_str(out, "\"NaN\"");
    else if (isinf(d))
        buf_append_str(out, d < 0 ? "\"-Infinity\"" : "\"Infinity\"");
    else
        buf_printf(out, "%.*g", is_f32 ? 9 : 17, d);
}

/* One item that is not a string. */
static void item_put(struct buf *out, const struct gguf_value *v, uint64_t i)
{
    switch (v->item_type) {
    case GGUF_F32:
    case GGUF_F64: float_put(out, gguf_item_f64(v, i), v->item_type == GGUF_F32); break;
    case GGUF_BOOL: buf_append_str(out, gguf_item_u64(v, i) ? "true" : "false"); break;
    case GGUF_U64:
        /* Beyond int64 many readers of JSON refuse the number or round it. */
        buf_printf(out, gguf_item_u64(v, i) > INT64_MAX ? "\"%" PRIu64 "\"" : "%" PRIu64,
                   gguf_item_u64(v, i));
        break;
    default: buf_printf(out, "%" PRId64, gguf_item_i64(v, i));
    }
}

static void items_put(struct buf *out, const struct gguf_value *v, uint64_t n)
{
    size_t cursor = 0;
    struct str s;
    buf_append_char(out, '[');
    for (uint64_t i = 0; i < n && !out->failed; i++) {
        if (i > 0)
            buf_append_str(out, ", ");
        if (v->item_type != GGUF_STRING)
            item_put(out, v, i);
        else if (gguf_next_str(v, &cursor, &s))
            gguf_show_str(out, s);
        else
            buf_append_str(out, "null"); /* the file changed under us */
    }
    buf_append_char(out, ']');
}

static void value_put(struct buf *out, const struct gguf_value *v, unsigned flags)
{
    if (v->type == GGUF_STRING) {
        gguf_show_str(out, (struct str){v->data, v->data_bytes});
    } else if (v->type != GGUF_ARRAY) {
        item_put(out, v, 0);
    } else if (v->n_items <= GGUF_SHOW_ITEMS || (flags & GGUF_SHOW_ALL)) {
        items_put(out, v, v->n_items);
    } else {
        buf_printf(out, "{\"length\": %" PRIu64 ", \"type\": \"%s\", \"first\": ", v->n_items,
                   gguf_type_name(v->item_type));
        items_put(out, v, GGUF_SHOW_ITEMS);
        buf_append_char(out, '}');
    }
}

static void tensor_put(struct buf *out, const struct gguf *g, const struct gguf_tensor *t)
{
    const struct gguf_shard *s = &g->shards[t->shard];
    buf_append_str(out, "{\"name\": ");
    gguf_show_str(out, t->name);
    buf_printf(out, ", \"type\": \"%s\", \"shape\": [", dtype_info(t->type)->name);
    for (uint32_t d = 0; d < t->n_dims; d++)
        buf_printf(out, "%s%" PRIu64, d ? ", " : "", t->dims[d]);
    buf_printf(out, "], \"file\": %u, \"offset\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
               (unsigned)(s - g->shards), t->offset, t->n_bytes);
}

int gguf_show_json(const struct gguf *g, unsigned flags, struct buf *out, struct err *err)
{
    buf_printf(out, "{\n  \"format\": \"gguf\",\n  \"version\": %u,\n  \"files\": [",
               gguf_version(g));
    for (uint32_t i = 0; i < g->n_shards; i++) {
        buf_append_str(out, i ? ", {\"name\": " : "{\"name\": ");
        gguf_show_str(out, str_from(g->shards[i].name));
        buf_printf(out, ", \"bytes\": %" PRIu64 "}", g->shards[i].file_bytes);
    }
    buf_printf(out,
               "],\n  \"bytes\": %" PRIu64
               ",\n  \"quantization\": \"%s\",\n  \"parameters\": %" PRIu64,
               gguf_file_bytes(g), gguf_quant_name(g), gguf_n_params(g));
    buf_append_str(out, ",\n  \"metadata\": {");
    for (uint32_t i = 0; i < g->values.n && !out->failed; i++) {
        buf_append_str(out, i ? ",\n    " : "\n    ");
        gguf_show_str(out, g->values.items[i].key);
        buf_append_str(out, ": ");
        value_put(out, &g->values.items[i], flags);
    }
    buf_append_str(out, "\n  },\n  \"tensors\": [");
    for (uint32_t i = 0; i < g->n_tensors && !out->failed; i++) {
        buf_append_str(out, i ? ",\n    " : "\n    ");
        tensor_put(out, g, &g->tensors[i]);
    }
    buf_append_str(out, "\n  ]\n}\n");
    return buf_status(out, "the description of the file", err);
}
