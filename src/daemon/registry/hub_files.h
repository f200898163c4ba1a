/* SPDX-License-Identifier: Apache-2.0 */
/* What a repository of Hugging Face's hub has, and which of its files are the model that a name
 * means.  Pure; any thread.
 *
 * Source: the hub's API as its own client uses it (huggingface.co/docs/hub/api). */
#ifndef DAEMON_REGISTRY_HUB_FILES_H
#define DAEMON_REGISTRY_HUB_FILES_H

#include "lib/base/arena.h"
#include "lib/oci/git_blob.h"
#include "lib/oci/manifest.h"

#define HUB_FILES_MAX 20000u

struct hub_file {
    const char *path; /* checked by oci_path_check */
    uint64_t size;
    char digest[OCI_DIGEST_CHARS + 1];  /* of a large file; "" of one that git itself keeps */
    char git_id[GIT_BLOB_ID_CHARS + 1]; /* of a small one */
    enum oci_role role;
};
struct hub_files {
    struct hub_file *items; /* owned */
    uint32_t n, cap;
};
void hub_files_release(struct hub_files *f);

/* The answer about a revision: its commit, and when it was made (-1: not told). */
int hub_parse_revision(struct str text, char ret_commit[GIT_BLOB_ID_CHARS + 1],
                       int64_t *ret_created_unix, struct err *err) MUST_USE;
/* Adds one page of the tree; paths live in a.  Files whose paths cannot be are passed over. */
int hub_parse_tree(struct str text, struct arena *a, struct hub_files *f, struct err *err) MUST_USE;
/* The address of the next page in a Link header; false when it names none. */
bool hub_next_page(struct str link, struct str *ret);

/* Leaves in f the files that the model of this tag is made of, in the order in which it is
 * packaged, with their roles.  A tag names a quantisation of GGUF files; "latest" and "main" name
 * none, then it is Q4_K_M, the only one, or the first by name, which *ret_note (for a person, ""
 * none) says. E_NOTFOUND names the quantisations that are there; E_FORMAT when shards are missing.
 */
#define HUB_NOTE_BYTES 256u
int hub_pick(struct hub_files *f, const char *tag, char ret_note[HUB_NOTE_BYTES],
             struct err *err) MUST_USE;
/* What looks like a quantisation in a GGUF file's name ("Q4_K_M"); else its name without ending. */
struct str hub_quant_of(const char *path);

#endif
