/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is, from its files' headers: for packaging it, and for lists.  Any thread. */
#ifndef WORKER_MODEL_FACTS_H
#define WORKER_MODEL_FACTS_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define FACTS_METADATA_BYTES (2u << 20) /* of all values together; what goes beyond is left away   \
                                         */
#define FACTS_VALUE_BYTES (128u << 10)
#define FACTS_ARRAY_ITEMS 50u

struct facts_file {
    int fd;           /* borrowed; a regular file */
    const char *name; /* its path inside the model: its ending tells what it is */
};

/* Appends one JSON object:
 *   {"format": "gguf", "architecture", "quantization", "parameters": N, "bytes": N,
 *    "context_size": N, "metadata": {key: string}}
 * The files are the GGUF shards in order, one .dduf, or those of a safetensors model: its
 * .safetensors files, and where it has them config.json and *.safetensors.index.json, which must
 * fit the tensors that are there.  Metadata is that of the GGUF header, of safetensors'
 * __metadata__ (and tensor_count), of a DDUF's pipeline.  E_FORMAT, E_LIMIT, E_UNSUPPORTED with the
 * file's name. */
int facts_read(const struct facts_file *files, uint32_t n, struct buf *out,
               struct err *err) MUST_USE;

#endif
