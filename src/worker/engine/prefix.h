/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix cache's index: which block of the key/value cache holds which tokens after which
 * others.
 *
 * Keys and values of a position depend on the tokens up to it and on nothing else, so a full block
 * can serve every sequence that begins alike (vLLM's automatic prefix caching).  What a block holds
 * has a serial number, its content, and names the content it follows; the first block of a text
 * follows a root, one per tenant.  A lookup compares those numbers and the tokens themselves, so
 * that no hash collision, made or met, can hand a text another one's keys.
 *
 * A block nobody refers to any more stays in the index, idle, until its memory is wanted: the one
 * idle for longest goes first.  Owned by the cache (kv.h), which counts references; allocates in
 * prefix_init alone.  One thread. */
#ifndef WORKER_ENGINE_PREFIX_H
#define WORKER_ENGINE_PREFIX_H

#include "lib/base/err.h"

#define PREFIX_NONE UINT32_MAX

struct prefix_block {
    uint64_t content, parent; /* content 0: not in the index */
    uint32_t next_in_bucket;
    bool is_idle;
    uint32_t newer, older; /* idle */
};

struct prefix {
    uint32_t n_blocks, block_len, n_buckets; /* n_buckets 0: nothing is ever found */
    struct prefix_block *blocks;             /* owned, [n_blocks] */
    uint32_t *buckets;                       /* owned, [n_buckets], a power of two */
    int32_t *tokens;                         /* owned, [n_blocks][block_len] */
    int32_t *key;                            /* owned, [block_len + 2]: what is hashed */
    uint32_t newest, oldest, n_idle;
    uint64_t n_contents; /* ever */
};

/* Where a sequence stands: the content of the last block that it has gone through. */
struct prefix_chain {
    uint64_t content; /* its last block's, or the root */
    uint32_t n_blocks;
};

/* Bytes of an index for so many blocks. */
uint64_t prefix_bytes(uint32_t n_blocks, uint32_t block_len);
/* E_NOMEM; on failure nothing is held. */
int prefix_init(struct prefix *p, uint32_t n_blocks, uint32_t block_len, struct err *err) MUST_USE;
void prefix_release(struct prefix *p);

/* The beginning of a text of tenant salt; only the lower 63 bits count. */
struct prefix_chain prefix_root(uint64_t salt);
/* The block that holds tokens[block_len] after chain, or PREFIX_NONE. */
uint32_t prefix_find(const struct prefix *p, struct prefix_chain chain, const int32_t *tokens);
/* block goes into the index as tokens[block_len] after *chain, unless another one is there as that;
 * *chain goes on past it either way. */
void prefix_add(struct prefix *p, struct prefix_chain *chain, uint32_t block,
                const int32_t *tokens);
/* *chain goes on past block, which is in the index. */
void prefix_follow(const struct prefix *p, struct prefix_chain *chain, uint32_t block);
static inline bool prefix_has(const struct prefix *p, uint32_t block)
{
    return p->n_buckets && p->blocks[block].content != 0;
}
/* Out of the index, and out of the idle ones. */
void prefix_drop(struct prefix *p, uint32_t block);

/* A block of the index has lost its last reference, or got one again. */
void prefix_idle(struct prefix *p, uint32_t block);
void prefix_wake(struct prefix *p, uint32_t block);

/* NULL, or what is broken; refs[n_blocks] are the cache's counts.  For tests; slow. */
const char *prefix_validate(const struct prefix *p, const uint32_t *refs);

#endif
