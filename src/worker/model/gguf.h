/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files, versions 2 and 3, whole or split: reads and checks everything before anything is
 * used.
 *
 * Source: the ggml project's docs/gguf.md; rules and limits: docs/FORMATS.md.  Owns the mappings
 * (read-only, shared) and the tables; strings and arrays are borrowed views of the mapping.  After
 * gguf_open succeeds every tensor's bytes lie inside its file, every string and array inside its
 * header, every name is unique, every type is known, and the split files are complete and in order.
 * Read-only afterwards: any thread. */
#ifndef WORKER_MODEL_GGUF_H
#define WORKER_MODEL_GGUF_H

#include "lib/base/err.h"
#include "lib/base/str.h"
#include "worker/kernel/dtype.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_TYPES
};

struct gguf_value {
    struct str key;
    enum gguf_type type;      /* of the value */
    enum gguf_type item_type; /* of an array's items, never GGUF_ARRAY */
    uint64_t n_items;         /* of an array, else 1 */
    const char
        *data; /* in the file, unaligned: the number, the string's first byte, the first item */
    size_t data_bytes;
};

struct gguf_tensor {
    struct str name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[4]; /* dims[0] is contiguous; unused ones are 1 */
    uint64_t n_bytes;
    uint32_t shard;   /* which file */
    uint64_t offset;  /* from the start of that file */
    const void *data; /* borrowed from the mapping; NULL when opened for the header alone */
};

struct gguf;

enum { GGUF_HEADER_ONLY = 1 /* check offsets against the files' sizes, map no tensor data */ };

/* Opens the model in n_fds files, the shards in order (the whole file: n_fds 1).  fds are borrowed:
 * not closed, not needed after return.  names are for messages.  Refuses what is not a regular
 * file.  E_FORMAT, E_LIMIT, E_UNSUPPORTED, E_IO, E_NOMEM. */
int gguf_open(const int *fds, const char *const *names, uint32_t n_fds, unsigned flags,
              struct gguf **ret_gguf, struct err *err) MUST_USE;
/* Opens a path; for a name ending in -00001-of-000NN.gguf also its sisters beside it (a missing one
 * is named). */
int gguf_open_path(const char *path, unsigned flags, struct gguf **ret_gguf,
                   struct err *err) MUST_USE;
void gguf_close(struct gguf *g); /* NULL is fine */

uint32_t gguf_version(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g); /* all shards */
uint32_t gguf_n_values(const struct gguf *g);
const struct gguf_value *gguf_value_at(const struct gguf *g, uint32_t i);
uint32_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i);
/* Elements of all tensors together. */
uint64_t gguf_n_params(const struct gguf *g);
/* "Q4_K_M", "F16" …: general.file_type's name where the tensors bear it out, else the type that
 * holds most bytes; "unknown" when neither says.  Static. */
const char *gguf_quant_name(const struct gguf *g);
/* NULL when there is none. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/* Typed reads.  Absent: *ret = dflt and 0.  Present with another kind of type or outside [min,
 * max]: E_FORMAT, naming the key.  Any integer type serves for u64/i64 reads; f32 and f64 serve for
 * float reads. */
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t dflt,
                 uint64_t *ret, struct err *err) MUST_USE;
int gguf_get_i64(const struct gguf *g, const char *key, int64_t dflt, int64_t *ret,
                 struct err *err) MUST_USE;
int gguf_get_f32(const struct gguf *g, const char *key, float dflt, float *ret,
                 struct err *err) MUST_USE;
int gguf_get_bool(const struct gguf *g, const char *key, bool dflt, bool *ret,
                  struct err *err) MUST_USE;
int gguf_get_str(const struct gguf *g, const char *key, struct str dflt, struct str *ret,
                 struct err *err) MUST_USE;

/* Item i (< n_items) of an array value. */
uint64_t gguf_item_u64(const struct gguf_value *v, uint64_t i); /* integer and bool items */
int64_t gguf_item_i64(const struct gguf_value *v, uint64_t i);
double gguf_item_f64(const struct gguf_value *v, uint64_t i); /* float and integer items */
/* String items have no fixed size: walk them.  Start with *cursor = 0; false at the end. */
bool gguf_next_str(const struct gguf_value *v, size_t *cursor, struct str *ret);

#endif
