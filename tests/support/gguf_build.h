/* SPDX-License-Identifier: Apache-2.0 */
/* Builds GGUF files byte by byte, right or wrong, for tests.  Appends die with the test on lack of
 * memory. */
#ifndef TESTS_SUPPORT_GGUF_BUILD_H
#define TESTS_SUPPORT_GGUF_BUILD_H

#include "lib/base/buf.h"
#include "worker/model/gguf.h"

struct gguf_build {
    struct buf values, tensors;   /* the two tables as they will stand in the file */
    uint64_t n_values, n_tensors; /* what the header will say: a test may lie */
    uint64_t data_bytes;          /* of all tensors, padded */
    uint64_t cut_bytes;           /* left off the end of the data */
    uint32_t version, alignment;
};

void build_init(struct gguf_build *b); /* version 3, alignment 32 */
void build_release(struct gguf_build *b);

/* Raw parts, for lies. */
void build_u32(struct buf *out, uint32_t v);
void build_u64(struct buf *out, uint64_t v);
void build_bytes(struct buf *out, const char *s); /* length and bytes */

void build_key(struct gguf_build *b, const char *key,
               enum gguf_type type); /* the value's bytes follow in b->values */
void build_kv_u32(struct gguf_build *b, const char *key, uint32_t v);
void build_kv_int(struct gguf_build *b, const char *key, enum gguf_type type, int64_t v);
void build_kv_f32(struct gguf_build *b, const char *key, float v);
void build_kv_bool(struct gguf_build *b, const char *key, bool v);
void build_kv_str(struct gguf_build *b, const char *key, const char *v);
void build_kv_array(struct gguf_build *b, const char *key, enum gguf_type item, uint64_t n);
void build_kv_strs(struct gguf_build *b, const char *key, uint64_t n, const char *const *v);

/* A tensor after those before it. */
void build_tensor(struct gguf_build *b, const char *name, uint32_t type, uint32_t n_dims,
                  const uint64_t *dims);
/* A tensor's description as given; makes no data. */
void build_tensor_raw(struct gguf_build *b, const char *name, uint32_t type, uint32_t n_dims,
                      const uint64_t *dims, uint64_t offset);
/* The keys a llama of 2 layers needs, and a vocabulary of 4. */
void build_llama(struct gguf_build *b);

/* The file; release out. */
void build_file(const struct gguf_build *b, struct buf *out);
/* An anonymous regular file with these bytes, read from its start; close it. */
int build_fd(const void *p, size_t n);
/* build_file, build_fd and gguf_open of the one file. */
int build_open(const struct gguf_build *b, unsigned flags, struct gguf **ret, struct err *err);
int build_open_bytes(const void *p, size_t n, unsigned flags, struct gguf **ret, struct err *err);
/* Reads a file of the repository; release out. */
void build_read(const char *path, struct buf *out);

#endif
