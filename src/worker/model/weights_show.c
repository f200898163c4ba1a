/* SPDX-License-Identifier: Apache-2.0 */
/* Implements weights_show.h. */
#include "worker/model/weights_show.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "worker/model/dduf.h"
#include "worker/model/facts_impl.h"
#include "worker/model/gguf_show.h"
#include "worker/model/safetensors.h"

bool weights_show_knows(const char *name)
{
    return facts_has_ending(name, ".safetensors") || facts_has_ending(name, ".dduf");
}

static void head_put(struct buf *out, const char *format, const char *name, uint64_t n_bytes)
{
    buf_printf(out, "{\n  \"format\": \"%s\",\n  \"file\": ", format);
    gguf_show_str(out, str_from(name));
    buf_printf(out, ",\n  \"bytes\": %llu,\n", (unsigned long long)n_bytes);
}

static void tensor_put(struct buf *out, const struct safetensors_tensor *t)
{
    buf_append_str(out, "{\"name\": ");
    gguf_show_str(out, str_from(t->name));
    buf_printf(out, ", \"type\": \"%s\", \"shape\": [", t->dtype);
    for (uint32_t d = 0; d < t->n_dims; d++)
        buf_printf(out, "%s%llu", d ? ", " : "", (unsigned long long)t->dims[d]);
    buf_printf(out, "], \"offset\": %llu, \"bytes\": %llu}", (unsigned long long)t->offset,
               (unsigned long long)t->n_bytes);
}

static int safetensors_show(int fd, const char *name, uint64_t n_bytes, struct buf *out,
                            struct err *err)
{
    struct safetensors *s = NULL;
    const char *key;
    json_t *v;
    bool is_first = true;
    int rc = safetensors_open(fd, 0, n_bytes, &s, err);
    if (rc < 0)
        return rc;
    head_put(out, "safetensors", name, n_bytes);
    buf_printf(out, "  \"quantization\": \"%s\",\n  \"parameters\": %llu,\n  \"metadata\": {",
               safetensors_dtype_name(s), (unsigned long long)safetensors_n_params(s));
    json_object_foreach((json_t *)(uintptr_t)safetensors_metadata(s), key, v)
    {
        buf_append_str(out, is_first ? "\n    " : ",\n    ");
        gguf_show_str(out, str_from(key));
        buf_append_str(out, ": ");
        gguf_show_str(out, (struct str){json_string_value(v), json_string_length(v)});
        is_first = false;
    }
    buf_append_str(out, "\n  },\n  \"tensors\": [");
    for (uint32_t i = 0; i < safetensors_n_tensors(s); i++) {
        buf_append_str(out, i ? ",\n    " : "\n    ");
        tensor_put(out, safetensors_tensor_at(s, i));
    }
    buf_append_str(out, "\n  ]\n}\n");
    safetensors_close(s);
    return 0;
}

/* Any JSON, with every string made safe to print. */
static void value_put(struct buf *out, const json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;
    bool is_first = true;
    if (json_is_string(v)) {
        gguf_show_str(out, (struct str){json_string_value(v), json_string_length(v)});
    } else if (json_is_object(v)) {
        buf_append_char(out, '{');
        json_object_foreach((json_t *)(uintptr_t)v, key, item)
        {
            buf_append_str(out, is_first ? "" : ", ");
            gguf_show_str(out, str_from(key));
            buf_append_str(out, ": ");
            value_put(out, item); /* LIMIT_JSON_DEPTH levels at most */
            is_first = false;
        }
        buf_append_char(out, '}');
    } else if (json_is_array(v)) {
        buf_append_char(out, '[');
        json_array_foreach(v, i, item)
        {
            buf_append_str(out, i ? ", " : "");
            value_put(out, item);
        }
        buf_append_char(out, ']');
    } else {
        json_put_value(out, v);
    }
}

static int dduf_show(int fd, const char *name, uint64_t n_bytes, struct buf *out, struct err *err)
{
    struct dduf *d = NULL;
    int rc = dduf_open(fd, n_bytes, &d, err);
    if (rc < 0)
        return rc;
    head_put(out, "dduf", name, n_bytes);
    buf_append_str(out, "  \"index\": ");
    value_put(out, dduf_index(d));
    buf_append_str(out, ",\n  \"entries\": [");
    for (uint32_t i = 0; i < dduf_n_entries(d); i++) {
        const struct dduf_entry *e = dduf_entry_at(d, i);
        buf_append_str(out, i ? ",\n    {\"path\": " : "\n    {\"path\": ");
        gguf_show_str(out, str_from(e->path));
        buf_printf(out, ", \"offset\": %llu, \"bytes\": %llu}", (unsigned long long)e->offset,
                   (unsigned long long)e->n_bytes);
    }
    buf_append_str(out, "\n  ]\n}\n");
    dduf_close(d);
    return 0;
}

int weights_show_json(int fd, const char *name, struct buf *out, struct err *err)
{
    const struct facts_file f = {fd, name};
    uint64_t n_bytes = 0;
    int rc = facts_size(&f, &n_bytes, err);
    if (rc < 0)
        return rc;
    rc = facts_has_ending(name, ".dduf") ? dduf_show(fd, name, n_bytes, out, err)
                                         : safetensors_show(fd, name, n_bytes, out, err);
    if (rc < 0)
        return err_wrap(err, "%.200s", name);
    return buf_status(out, "the description of the file", err);
}
