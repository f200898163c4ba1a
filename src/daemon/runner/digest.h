/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of model files: which bytes a model's answers come from.
 *
 * Two threads, started when there is something to do: one for small files, which a load waits for,
 * and one that yields to everybody else for large ones.  Hashing bytes is not parsing them.  Known
 * digests are kept in state_dir/digests.json by device, inode, size and times of the file, so that
 * a file is read once; a cache that is damaged is begun anew.
 *
 * The digest of a split model is that of the text of its shards' digests, "sha256:<hex>\n" each, in
 * order. */
#ifndef DAEMON_RUNNER_DIGEST_H
#define DAEMON_RUNNER_DIGEST_H

#include "lib/base/err.h"
#include "lib/sys/model_files.h"

#define DIGEST_BYTES       80u           /* "sha256:" and 64 hex digits, NUL */
#define DIGEST_SMALL_BYTES (64ull << 20) /* all files of a model together */

struct digests;

/* dir NULL: nothing is kept; nor where the folder cannot be made, which the log then says. */
struct digests *digests_open(const char *dir) MUST_USE;
/* Gives up what is being hashed; no callback comes any more. */
void digests_close(struct digests *d);

/* On one of the two threads; digest is "" when a file changed or could not be read. */
typedef void (*digest_fn)(void *ctx, uint64_t id, const char *digest);

/* The digest of these open files: 1 and ret when it is known, 0 when fn(ctx, id, …) will tell.
 * *ret_is_small: soon.  Any thread; the descriptors are read as they are now and hashed through
 * their paths later. */
int digests_get(struct digests *d, const struct model_files *files, uint64_t id, digest_fn fn,
                void *ctx, char ret[DIGEST_BYTES], bool *ret_is_small);

/* Whether it is known already, and *ret.  Any thread. */
bool digests_known(struct digests *d, const struct model_files *files, char ret[DIGEST_BYTES]);

#endif
