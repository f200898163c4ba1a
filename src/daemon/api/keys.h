/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that clients must present, from a file of lines
 *     NAME  SCOPES  KEY-OR-HASH
 * (SCOPES: infer, manage or infer,manage; a key as it is, or "sha256:" and 64 hex digits of it;
 * empty lines and what follows a # are comments).  In memory there are only SHA-256 hashes,
 * compared in constant time.  Any thread. */
#ifndef DAEMON_API_KEYS_H
#define DAEMON_API_KEYS_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

enum key_scope { KEY_INFER = 1, KEY_MANAGE = 2 };

struct keys;

/* E_INVALID names the file and the line; a file that others than its owner may read is refused,
 * but for one of root's that a group of ours may read. */
int keys_open(const char *path, struct keys **ret, struct err *err) MUST_USE;
void keys_free(struct keys *k);
/* Reads the file again; on failure the old keys stay.  Counts of names that remain go on. */
int keys_reload(struct keys *k, struct err *err) MUST_USE;
size_t keys_n(const struct keys *k);

struct key_match {
    char name[64];
    uint32_t scopes; /* KEY_ bits */
};
/* Whether presented is a key, in time that does not depend on which.  Counts a use. */
bool keys_match(struct keys *k, struct str presented, struct key_match *ret);
/* Adds an answered request to the key's counts. */
void keys_count(struct keys *k, const char *name, uint64_t n_prompt, uint64_t n_generated);
/* JSON array of {name, scopes, requests, prompt_tokens, generated_tokens, last_used}. */
void keys_put_json(struct keys *k, struct buf *out);

#endif
