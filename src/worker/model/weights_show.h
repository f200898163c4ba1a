/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors and DDUF files as JSON, for people and tests: `berth debug show`.  Any thread. */
#ifndef WORKER_MODEL_WEIGHTS_SHOW_H
#define WORKER_MODEL_WEIGHTS_SHOW_H

#include "lib/base/buf.h"

/* Whether the name is one of theirs. */
bool weights_show_knows(const char *name);

/* Reads the headers of the file fd and appends one JSON object, indented, with a newline at its
 * end:
 *   {"format": "safetensors", "file", "bytes", "quantization", "parameters",
 *    "metadata": {key: value}, "tensors": [{"name", "type", "shape", "offset", "bytes"}]}
 *   {"format": "dduf", "file", "bytes", "index": {…}, "entries": [{"path", "offset", "bytes"}]}
 * shape's last dimension is the contiguous one; offsets count from the start of the file.  Safe to
 * print as gguf_show_json is. */
int weights_show_json(int fd, const char *name, struct buf *out, struct err *err) MUST_USE;

#endif
