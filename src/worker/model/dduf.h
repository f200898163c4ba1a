/* SPDX-License-Identifier: Apache-2.0 */
/* DDUF files: a pipeline of diffusers in one zip archive that is not compressed, so that each entry
 * is a run of the file's bytes.  Only the directory and model_index.json are read, and checked
 * before anything is used.
 *
 * Sources: PKWARE's APPNOTE.TXT 6.3 (zip, zip64); Hugging Face's description of DDUF
 * (huggingface.co/docs/hub/dduf).  After it is open every entry's bytes lie inside the file and
 * overlap nobody else's, its headers agree, its path is plain and at most one folder deep, and
 * paths are unique.  Read-only afterwards: any thread. */
#ifndef WORKER_MODEL_DDUF_H
#define WORKER_MODEL_DDUF_H

#include <jansson.h>

#include "lib/base/err.h"

struct dduf_entry {
    const char *path; /* "unet/config.json" */
    uint64_t offset;  /* of its bytes, from the start of the file */
    uint64_t n_bytes;
};

struct dduf;

/* fd is borrowed and not needed after return.  E_FORMAT, E_LIMIT, E_UNSUPPORTED, E_IO, E_NOMEM,
 * without the file's name. */
int dduf_open(int fd, uint64_t n_bytes, struct dduf **ret, struct err *err) MUST_USE;
void dduf_close(struct dduf *d); /* NULL is fine */

uint32_t dduf_n_entries(const struct dduf *d);
const struct dduf_entry *dduf_entry_at(const struct dduf *d,
                                       uint32_t i); /* in the order of bytes */
/* model_index.json: an object, borrowed. */
const json_t *dduf_index(const struct dduf *d);

#endif
