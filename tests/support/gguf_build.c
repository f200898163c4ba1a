/* SPDX-License-Identifier: Apache-2.0 */
/* Implements gguf_build.h. */
#include "tests/support/gguf_build.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_BYTES (64u << 20)

void build_init(struct gguf_build *b)
{
    *b = (struct gguf_build){.version = 3, .alignment = 32};
    buf_init(&b->values, MAX_BYTES);
    buf_init(&b->tensors, MAX_BYTES);
}

void build_release(struct gguf_build *b)
{
    buf_release(&b->values);
    buf_release(&b->tensors);
}

void build_u32(struct buf *out, uint32_t v)
{
    BUG_ON(buf_append(out, &v, sizeof(v)) < 0);
}

void build_u64(struct buf *out, uint64_t v)
{
    BUG_ON(buf_append(out, &v, sizeof(v)) < 0);
}

void build_bytes(struct buf *out, const char *s)
{
    build_u64(out, strlen(s));
    BUG_ON(buf_append_str(out, s) < 0);
}

void build_key(struct gguf_build *b, const char *key, enum gguf_type type)
{
    build_bytes(&b->values, key);
    build_u32(&b->values, type);
    b->n_values++;
}

void build_kv_u32(struct gguf_build *b, const char *key, uint32_t v)
{
    build_key(b, key, GGUF_U32);
    build_u32(&b->values, v);
}

void build_kv_int(struct gguf_build *b, const char *key, enum gguf_type type, int64_t v)
{
    static const size_t bytes[GGUF_N_TYPES] = {1, 1, 2, 2, 4, 4, 0, 1, 0, 0, 8, 8, 0};
    build_key(b, key, type);
    BUG_ON(bytes[type] == 0 || buf_append(&b->values, &v, bytes[type]) < 0);
}

void build_kv_f32(struct gguf_build *b, const char *key, float v)
{
    build_key(b, key, GGUF_F32);
    BUG_ON(buf_append(&b->values, &v, sizeof(v)) < 0);
}

void build_kv_bool(struct gguf_build *b, const char *key, bool v)
{
    build_kv_int(b, key, GGUF_BOOL, v);
}

void build_kv_str(struct gguf_build *b, const char *key, const char *v)
{
    build_key(b, key, GGUF_STRING);
    build_bytes(&b->values, v);
}

void build_kv_array(struct gguf_build *b, const char *key, enum gguf_type item, uint64_t n)
{
    build_key(b, key, GGUF_ARRAY);
    build_u32(&b->values, item);
    build_u64(&b->values, n);
}

void build_kv_strs(struct gguf_build *b, const char *key, uint64_t n, const char *const *v)
{
    build_kv_array(b, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++)
        build_bytes(&b->values, v[i]);
}

void build_tensor_raw(struct gguf_build *b, const char *name, uint32_t type, uint32_t n_dims,
                      const uint64_t *dims, uint64_t offset)
{
    build_bytes(&b->tensors, name);
    build_u32(&b->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        build_u64(&b->tensors, dims[i]);
    build_u32(&b->tensors, type);
    build_u64(&b->tensors, offset);
    b->n_tensors++;
}

void build_tensor(struct gguf_build *b, const char *name, uint32_t type, uint32_t n_dims,
                  const uint64_t *dims)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        n *= dims[i];
    build_tensor_raw(b, name, type, n_dims, dims, b->data_bytes);
    b->data_bytes +=
        (dtype_row_bytes(dtype_info(type), n) + b->alignment - 1) / b->alignment * b->alignment;
}

void build_llama(struct gguf_build *b)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a"};
    build_kv_str(b, "general.architecture", "llama");
    build_kv_u32(b, "llama.block_count", 2);
    build_kv_u32(b, "llama.embedding_length", 64);
    build_kv_u32(b, "llama.context_length", 128);
    build_kv_u32(b, "llama.feed_forward_length", 96);
    build_kv_u32(b, "llama.attention.head_count", 4);
    build_kv_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    build_kv_strs(b, "tokenizer.ggml.tokens", 4, tokens);
}

void build_file(const struct gguf_build *b, struct buf *out)
{
    buf_init(out, MAX_BYTES);
    BUG_ON(buf_append_str(out, "GGUF") < 0);
    build_u32(out, b->version);
    build_u64(out, b->n_tensors);
    build_u64(out, b->n_values);
    BUG_ON(buf_append(out, buf_str(&b->values), b->values.len) < 0);
    BUG_ON(buf_append(out, buf_str(&b->tensors), b->tensors.len) < 0);
    while (b->data_bytes && out->len % b->alignment)
        BUG_ON(buf_append_char(out, 0) < 0);
    for (uint64_t i = 0; i + b->cut_bytes < b->data_bytes; i++)
        BUG_ON(buf_append_char(out, (char)i) < 0);
}

int build_fd(const void *p, size_t n)
{
    int fd = memfd_create("test.gguf", MFD_CLOEXEC);
    BUG_ON(fd < 0 || (n && write(fd, p, n) != (ssize_t)n));
    return fd;
}

int build_open_bytes(const void *p, size_t n, unsigned flags, struct gguf **ret, struct err *err)
{
    const char *name = "test.gguf";
    int fd = build_fd(p, n);
    int rc = gguf_open(&fd, &name, 1, flags, ret, err);
    close(fd);
    return rc;
}

int build_open(const struct gguf_build *b, unsigned flags, struct gguf **ret, struct err *err)
{
    struct buf file;
    build_file(b, &file);
    int rc = build_open_bytes(buf_str(&file), file.len, flags, ret, err);
    buf_release(&file);
    return rc;
}

void build_read(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    size_t n = 1;
    BUG_ON(!f);
    buf_init(out, MAX_BYTES);
    while (n > 0) {
        BUG_ON(buf_reserve(out, 65536) < 0);
        n = fread(out->data + out->len, 1, 65536, f);
        out->len += n;
    }
    fclose(f);
}
