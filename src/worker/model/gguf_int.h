/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of GGUF reading: shared by the gguf_*.c files of this folder and nobody else. */
#ifndef WORKER_MODEL_GGUF_INT_H
#define WORKER_MODEL_GGUF_INT_H

#include "lib/base/map.h"
#include "worker/model/gguf.h"

/* ---- gguf_read.c: a bounded cursor over one mapped file ---- */

/* What is being read, for messages: "tensor 'blk.0.attn_q.weight': the file ends inside its offset
 * …". */
enum gguf_part { GGUF_PART_HEADER, GGUF_PART_VALUE, GGUF_PART_TENSOR };

struct gguf_reader {
    const char *base;
    uint64_t size, pos; /* pos <= size */
    enum gguf_part part;
    struct str name;   /* of the key or tensor, once read */
    uint64_t index, n; /* this is entry index of n */
};

/* Names are cut to this in messages, so that the rest of the sentence survives. */
#define GGUF_NAME_SHOWN  100
#define GGUF_NAME_ARG(s) (int)MIN_OF((s).len, (size_t)GGUF_NAME_SHOWN), ((s).p ? (s).p : "")

/* Writes "tensor 'x'" or the like. */
#define GGUF_WHERE_MAX 192
const char *gguf_reader_where(const struct gguf_reader *r, char ret[GGUF_WHERE_MAX]);
static inline uint64_t gguf_reader_left(const struct gguf_reader *r)
{
    return r->size - r->pos;
}
/* E_FORMAT, naming field and offset, unless n more bytes are there. */
int gguf_reader_need(const struct gguf_reader *r, uint64_t n, const char *field,
                     struct err *err) MUST_USE;
int gguf_read_u32(struct gguf_reader *r, const char *field, uint32_t *ret,
                  struct err *err) MUST_USE;
int gguf_read_u64(struct gguf_reader *r, const char *field, uint64_t *ret,
                  struct err *err) MUST_USE;
/* A length and that many bytes, at most max: E_LIMIT. */
int gguf_read_str(struct gguf_reader *r, const char *field, uint64_t max, struct str *ret,
                  struct err *err) MUST_USE;
/* As gguf_read_str, for keys and tensor names: not empty, no NUL byte. */
int gguf_read_name(struct gguf_reader *r, uint64_t max, struct str *ret, struct err *err) MUST_USE;

/* ---- gguf_value.c: metadata ---- */

struct gguf_values {
    struct gguf_value *items; /* owned */
    uint32_t n;
    struct map index; /* key -> item */
};
void gguf_values_release(struct gguf_values *v);
/* Reads n entries at the cursor. */
int gguf_values_read(struct gguf_values *v, struct gguf_reader *r, uint32_t n,
                     struct err *err) MUST_USE;
const struct gguf_value *gguf_values_find(const struct gguf_values *v, const char *key);
int gguf_values_get_u64(const struct gguf_values *v, const char *key, uint64_t min, uint64_t max,
                        uint64_t dflt, uint64_t *ret, struct err *err) MUST_USE;
const char *gguf_type_name(enum gguf_type t);
bool gguf_type_is_int(enum gguf_type t);

/* ---- gguf_tensor.c: tensor descriptions ---- */

/* Reads n descriptions into t[0..n). */
int gguf_tensors_read(struct gguf_tensor *t, struct gguf_reader *r, uint32_t n, uint32_t shard,
                      struct err *err) MUST_USE;
/* Checks that the n tensors lie one after the other, each aligned and inside the file of file_bytes
 * bytes whose data begin at data_start, and that nothing follows them; turns their offsets into
 * offsets from the start of the file. */
int gguf_tensors_place(struct gguf_tensor *t, uint32_t n, uint64_t data_start, uint32_t alignment,
                       uint64_t file_bytes, struct err *err) MUST_USE;

/* ---- gguf.c: the opened model ---- */

struct gguf_shard {
    char *name;       /* owned; for messages */
    const char *base; /* the mapping, or NULL */
    size_t map_bytes;
    uint64_t file_bytes;
    uint64_t device, inode;
    uint32_t version, alignment, n_tensors;
};

struct gguf {
    struct gguf_shard *shards; /* owned */
    uint32_t n_shards;
    struct gguf_values values;   /* of the first shard */
    struct gguf_tensor *tensors; /* owned */
    uint32_t n_tensors;
    struct map tensor_index;
};

#endif
