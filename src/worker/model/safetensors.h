/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors files: the header, read and checked before anything is used.
 *
 * A file is a header length of eight bytes (little-endian), that many bytes of JSON, and the
 * tensors' bytes.  Source: github.com/huggingface/safetensors, README, "Format".  After it is open
 * every tensor's bytes lie inside the file, they cover all of it without holes or overlaps, sizes
 * are what type and shape say, and names are unique.  Tensors' bytes are not read here.  Read-only
 * afterwards: any thread. */
#ifndef WORKER_MODEL_SAFETENSORS_H
#define WORKER_MODEL_SAFETENSORS_H

#include <jansson.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

#define SAFETENSORS_DIMS 8u

struct safetensors_tensor {
    const char *name;  /* borrowed from the header */
    const char *dtype; /* "BF16": static */
    uint32_t n_dims;
    uint64_t dims[SAFETENSORS_DIMS]; /* row-major: the last is contiguous; may be 0 */
    uint64_t n_elements, n_bytes;
    uint64_t offset; /* from the start of the file */
};

struct safetensors;

/* The n_bytes bytes of fd from start on are the file (the whole of it: 0 and its size); fd is
 * borrowed and not needed after return.  E_FORMAT, E_LIMIT, E_UNSUPPORTED, E_IO, E_NOMEM, without
 * the file's name: the caller knows it. */
int safetensors_open(int fd, uint64_t start, uint64_t n_bytes, struct safetensors **ret,
                     struct err *err) MUST_USE;
void safetensors_close(struct safetensors *s); /* NULL is fine */

uint32_t safetensors_n_tensors(const struct safetensors *s);
/* In the order of their bytes. */
const struct safetensors_tensor *safetensors_tensor_at(const struct safetensors *s, uint32_t i);
/* NULL when there is none. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
uint64_t safetensors_n_params(const struct safetensors *s);
/* The one type that all tensors have, else "mixed"; "unknown" without tensors.  Static. */
const char *safetensors_dtype_name(const struct safetensors *s);
/* "__metadata__": an object of strings, borrowed; NULL without one. */
const json_t *safetensors_metadata(const struct safetensors *s);

#endif
