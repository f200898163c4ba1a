/* SPDX-License-Identifier: Apache-2.0 */
/* A GGUF file as JSON, for people and tests: `berth debug show`.  Any thread. */
#ifndef WORKER_MODEL_GGUF_SHOW_H
#define WORKER_MODEL_GGUF_SHOW_H

#include "lib/base/buf.h"
#include "worker/model/gguf.h"

enum { GGUF_SHOW_ALL = 1 /* arrays in full; otherwise those over GGUF_SHOW_ITEMS are cut */ };
#define GGUF_SHOW_ITEMS 16u

/* Appends one JSON object, indented, with a newline at its end:
 *   {"format": "gguf", "version", "files": [{"name", "bytes"}], "bytes", "quantization",
 *    "parameters", "metadata": {key: value},
 *    "tensors": [{"name", "type", "shape", "file", "offset", "bytes"}]}
 * shape[0] is the contiguous dimension; files count from 0.  A cut array is {"length": N,
 * "type": "f32", "first": [...]}.  Numbers that JSON or most of its readers lack are strings:
 * "NaN", "Infinity", "-Infinity", integers beyond int64.  Bytes that are not UTF-8 are U+FFFD;
 * control characters are escaped: the text is safe to print.  E_LIMIT, E_NOMEM from out. */
int gguf_show_json(const struct gguf *g, unsigned flags, struct buf *out, struct err *err) MUST_USE;

/* One string of it, quoted. */
void gguf_show_str(struct buf *out, struct str s);

#endif
