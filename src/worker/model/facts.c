/* SPDX-License-Identifier: Apache-2.0 */
/* Implements facts.h for GGUF and DDUF; a folder of safetensors is facts_folder.c's. */
#include "worker/model/facts.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "worker/model/dduf.h"
#include "worker/model/facts_impl.h"
#include "worker/model/gguf.h"
#include "worker/model/safetensors.h"

bool facts_has_ending(const char *s, const char *ending)
{
    size_t n = strlen(s), len = strlen(ending);
    return n >= len && strcasecmp(s + n - len, ending) == 0;
}

int facts_size(const struct facts_file *f, uint64_t *ret, struct err *err)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return err_set_sys(err, E_IO, "%.200s", f->name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, E_INVALID, "%.200s is not a regular file, and a model is", f->name);
    *ret = (uint64_t)st.st_size;
    return 0;
}

void facts_put(const struct facts *f, const struct buf *metadata, struct buf *out)
{
    buf_printf(out, "{\"format\":\"%s\",\"architecture\":", f->format);
    json_put_str(out, f->architecture);
    buf_append_str(out, ",\"quantization\":");
    json_put_str(out, str_from(f->quantization));
    buf_printf(out, ",\"parameters\":%llu,\"bytes\":%llu,\"context_size\":%llu,\"metadata\":{%s}}",
               (unsigned long long)MIN_OF(f->n_params, (uint64_t)INT64_MAX),
               (unsigned long long)MIN_OF(f->n_bytes, (uint64_t)INT64_MAX),
               (unsigned long long)MIN_OF(f->context_size, (uint64_t)INT32_MAX), buf_str(metadata));
}

void facts_put_pair(struct buf *metadata, struct str key, struct str value)
{
    if (memchr(value.p ? value.p : "", '\0', value.len) || value.len > FACTS_VALUE_BYTES ||
        key.len > FACTS_VALUE_BYTES || metadata->len + key.len + value.len > FACTS_METADATA_BYTES)
        return;
    if (metadata->len)
        buf_append_char(metadata, ',');
    json_put_str(metadata, key);
    buf_append_char(metadata, ':');
    json_put_str(metadata, value);
}

/* ---- GGUF ---- */

static void item_put(struct buf *out, const struct gguf_value *v, enum gguf_type type, uint64_t i)
{
    size_t at = out->len;
    switch (type) {
    case GGUF_F32: json_put_float(out, (float)gguf_item_f64(v, i)); break;
    case GGUF_F64: json_put_num(out, gguf_item_f64(v, i)); break;
    case GGUF_BOOL: buf_append_str(out, gguf_item_u64(v, i) ? "true" : "false"); return;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64: buf_printf(out, "%llu", (unsigned long long)gguf_item_u64(v, i)); return;
    default: buf_printf(out, "%lld", (long long)gguf_item_i64(v, i)); return;
    }
    /* 10000, not 10000.0 */
    if (out->len > at + 2 && memcmp(out->data + out->len - 2, ".0", 2) == 0)
        out->data[out->len -= 2] = '\0';
}

static void value_put(struct buf *metadata, const struct gguf_value *v)
{
    struct buf text;
    struct str s;
    size_t cursor = 0;
    if (v->type == GGUF_STRING) {
        facts_put_pair(metadata, v->key, (struct str){v->data, v->data_bytes});
        return;
    }
    if (v->type == GGUF_ARRAY && v->n_items > FACTS_ARRAY_ITEMS)
        return;
    buf_init(&text, FACTS_VALUE_BYTES);
    for (uint64_t i = 0; i < v->n_items; i++) {
        buf_append_str(&text, i ? ", " : "");
        if (v->type == GGUF_ARRAY && v->item_type == GGUF_STRING) {
            if (gguf_next_str(v, &cursor, &s))
                buf_append(&text, s.p, s.len);
        } else {
            item_put(&text, v, v->type == GGUF_ARRAY ? v->item_type : v->type, i);
        }
    }
    if (!text.failed)
        facts_put_pair(metadata, v->key, (struct str){buf_str(&text), text.len});
    buf_release(&text);
}

static int gguf_facts(const struct facts_file *files, uint32_t n, struct buf *out, struct err *err)
{
    int fds[LIMIT_MSG_FDS];
    const char *names[LIMIT_MSG_FDS];
    struct gguf *g = NULL;
    struct buf metadata;
    char key[160];
    for (uint32_t i = 0; i < n; i++) {
        fds[i] = files[i].fd;
        names[i] = files[i].name;
    }
    int rc = gguf_open(fds, names, n, GGUF_HEADER_ONLY, &g, err);
    if (rc < 0)
        return rc;
    struct facts f = {.format = "gguf",
                      .quantization = gguf_quant_name(g),
                      .n_params = gguf_n_params(g),
                      .n_bytes = gguf_file_bytes(g)};
    buf_init(&metadata, 2 * FACTS_METADATA_BYTES);
    rc = gguf_get_str(g, "general.architecture", STR_LIT(""), &f.architecture, err);
    if (rc == 0 && f.architecture.len < 100) {
        snprintf(key, sizeof(key), "%.*s.context_length", STR_ARG(f.architecture));
        struct err ignored = ERR_INIT; /* a strange one is no reason not to package */
        if (gguf_get_u64(g, key, 0, INT32_MAX, 0, &f.context_size, &ignored) < 0)
            f.context_size = 0;
    }
    for (uint32_t i = 0; rc == 0 && i < gguf_n_values(g); i++)
        value_put(&metadata, gguf_value_at(g, i));
    if (rc == 0)
        facts_put(&f, &metadata, out);
    buf_release(&metadata);
    gguf_close(g);
    return rc;
}

/* ---- DDUF ---- */

static int dduf_facts(const struct facts_file *file, struct buf *out, struct err *err)
{
    struct dduf *d = NULL;
    struct buf metadata;
    const char *slash = strrchr(file->name, '/');
    struct str class = STR_LIT("");
    struct facts f = {.format = "dduf", .architecture = STR_LIT("diffusers"), .quantization = ""};
    int rc = facts_size(file, &f.n_bytes, err);
    if (rc == 0) {
        rc = dduf_open(file->fd, f.n_bytes, &d, err);
        if (rc < 0)
            return err_wrap(err, "%.200s", file->name);
    }
    for (uint32_t i = 0; rc == 0 && i < dduf_n_entries(d); i++) {
        const struct dduf_entry *e = dduf_entry_at(d, i);
        struct safetensors *s = NULL;
        if (!facts_has_ending(e->path, ".safetensors"))
            continue;
        rc = safetensors_open(file->fd, e->offset, e->n_bytes, &s, err);
        if (rc < 0) {
            err_wrap(err, "%.200s: entry '%.100s'", file->name, e->path);
            break;
        }
        const char *dtype = safetensors_dtype_name(s);
        f.n_params += safetensors_n_params(s);
        f.quantization = !f.quantization[0] || strcmp(f.quantization, dtype) == 0 ? dtype : "mixed";
        safetensors_close(s);
    }
    if (rc == 0) {
        struct err ignored = ERR_INIT;
        buf_init(&metadata, 2 * FACTS_METADATA_BYTES);
        facts_put_pair(&metadata, STR_LIT("layout"), STR_LIT("dduf"));
        facts_put_pair(&metadata, STR_LIT("dduf_file"), str_from(slash ? slash + 1 : file->name));
        if (json_field_str(dduf_index(d), "_class_name", &class, &ignored) == 1)
            facts_put_pair(&metadata, STR_LIT("pipeline"), class);
        facts_put(&f, &metadata, out);
        buf_release(&metadata);
    }
    dduf_close(d);
    return rc;
}

int facts_read(const struct facts_file *files, uint32_t n, struct buf *out, struct err *err)
{
    uint32_t n_gguf = 0, n_dduf = 0, n_safetensors = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_gguf += facts_has_ending(files[i].name, ".gguf");
        n_dduf += facts_has_ending(files[i].name, ".dduf");
        n_safetensors += facts_has_ending(files[i].name, ".safetensors");
    }
    int rc;
    if (n == 0 || n > LIMIT_MSG_FDS)
        rc = err_set(err, E_LIMIT, "a model of %u files; at most %u are read", n, LIMIT_MSG_FDS);
    else if (n_gguf == n)
        rc = gguf_facts(files, n, out, err);
    else if (n_dduf == 1 && n == 1)
        rc = dduf_facts(files, out, err);
    else if (n_safetensors && !n_gguf && !n_dduf)
        rc = facts_read_folder(files, n, out, err);
    else
        rc = err_set(err, E_UNSUPPORTED,
                     "%.200s: these are no GGUF shards, no single DDUF file and no safetensors "
                     "model",
                     files[0].name);
    return rc < 0 ? rc : buf_status(out, "what the model is", err);
}
