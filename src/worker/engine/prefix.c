/* SPDX-License-Identifier: Apache-2.0 */
/* Implements prefix.h: a chained hash table over block numbers, and a list of idle blocks by age.
 */
#include "worker/engine/prefix.h"

#include <string.h>

#include "lib/base/map.h"
#include "lib/base/mem.h"

#define ROOT (1ull << 63) /* contents are numbered from 1 and never get there */

static uint32_t bucket_count(uint32_t n_blocks)
{
    uint32_t n = 16;
    while (n < n_blocks && n < 1u << 31)
        n *= 2;
    return n;
}

uint64_t prefix_bytes(uint32_t n_blocks, uint32_t block_len)
{
    return (uint64_t)n_blocks *
               (sizeof(struct prefix_block) + (uint64_t)block_len * sizeof(int32_t)) +
           (uint64_t)bucket_count(n_blocks) * sizeof(uint32_t) +
           ((uint64_t)block_len + 2) * sizeof(int32_t);
}

int prefix_init(struct prefix *p, uint32_t n_blocks, uint32_t block_len, struct err *err)
{
    *p = (struct prefix){.n_blocks = n_blocks,
                         .block_len = block_len,
                         .n_buckets = bucket_count(n_blocks),
                         .newest = PREFIX_NONE,
                         .oldest = PREFIX_NONE};
    size_t n_tokens;
    if (!size_mul(n_blocks, block_len, &n_tokens))
        return err_set(err, E_NOMEM, "the prefix cache's size overflows");
    p->blocks = mem_try_alloc(n_blocks, sizeof *p->blocks, err);
    p->buckets = p->blocks ? mem_try_alloc(p->n_buckets, sizeof *p->buckets, err) : NULL;
    p->tokens = p->buckets ? mem_try_alloc(n_tokens, sizeof *p->tokens, err) : NULL;
    p->key = p->tokens ? mem_try_alloc((size_t)block_len + 2, sizeof *p->key, err) : NULL;
    if (!p->key) {
        prefix_release(p);
        return -err->code;
    }
    for (uint32_t i = 0; i < p->n_buckets; i++)
        p->buckets[i] = PREFIX_NONE;
    return 0;
}

void prefix_release(struct prefix *p)
{
    mem_free(p->blocks);
    mem_free(p->buckets);
    mem_free(p->tokens);
    mem_free(p->key);
    *p = (struct prefix){.newest = PREFIX_NONE, .oldest = PREFIX_NONE};
}

static int32_t *tokens_of(const struct prefix *p, uint32_t block)
{
    return p->tokens + (size_t)block * p->block_len;
}

/* SipHash under the process's random key: chosen prompts cannot fill one bucket. */
static uint32_t bucket_of(const struct prefix *p, uint64_t parent, const int32_t *tokens)
{
    memcpy(p->key, &parent, sizeof parent);
    memcpy(p->key + 2, tokens, p->block_len * sizeof *tokens);
    return (uint32_t)map_hash(p->key, ((size_t)p->block_len + 2) * sizeof *p->key) &
           (p->n_buckets - 1);
}

static uint32_t find_in(const struct prefix *p, uint32_t bucket, uint64_t parent,
                        const int32_t *tokens)
{
    uint32_t b = p->buckets[bucket];
    while (b != PREFIX_NONE &&
           (p->blocks[b].parent != parent ||
            memcmp(tokens_of(p, b), tokens, p->block_len * sizeof *tokens) != 0))
        b = p->blocks[b].next_in_bucket;
    return b;
}

struct prefix_chain prefix_root(uint64_t salt)
{
    return (struct prefix_chain){.content = salt | ROOT};
}

uint32_t prefix_find(const struct prefix *p, struct prefix_chain chain, const int32_t *tokens)
{
    if (!p->n_buckets)
        return PREFIX_NONE;
    return find_in(p, bucket_of(p, chain.content, tokens), chain.content, tokens);
}

void prefix_follow(const struct prefix *p, struct prefix_chain *chain, uint32_t block)
{
    BUG_ON(!prefix_has(p, block));
    chain->content = p->blocks[block].content;
    chain->n_blocks++;
}

void prefix_add(struct prefix *p, struct prefix_chain *chain, uint32_t block, const int32_t *tokens)
{
    if (!p->n_buckets)
        return;
    struct prefix_block *e = &p->blocks[block];
    if (e->content == 0) {
        const uint32_t bucket = bucket_of(p, chain->content, tokens);
        const uint32_t other = find_in(p, bucket, chain->content, tokens);
        if (other != PREFIX_NONE) {
            block = other;
        } else {
            *e = (struct prefix_block){.content = ++p->n_contents,
                                       .parent = chain->content,
                                       .next_in_bucket = p->buckets[bucket]};
            p->buckets[bucket] = block;
            memcpy(tokens_of(p, block), tokens, p->block_len * sizeof *tokens);
        }
    }
    prefix_follow(p, chain, block);
}

void prefix_idle(struct prefix *p, uint32_t block)
{
    struct prefix_block *e = &p->blocks[block];
    BUG_ON(!prefix_has(p, block) || e->is_idle);
    e->is_idle = true;
    e->newer = PREFIX_NONE;
    e->older = p->newest;
    *(p->newest == PREFIX_NONE ? &p->oldest : &p->blocks[p->newest].newer) = block;
    p->newest = block;
    p->n_idle++;
}

void prefix_wake(struct prefix *p, uint32_t block)
{
    struct prefix_block *e = &p->blocks[block];
    BUG_ON(!e->is_idle);
    *(e->newer == PREFIX_NONE ? &p->newest : &p->blocks[e->newer].older) = e->older;
    *(e->older == PREFIX_NONE ? &p->oldest : &p->blocks[e->older].newer) = e->newer;
    e->is_idle = false;
    p->n_idle--;
}

void prefix_drop(struct prefix *p, uint32_t block)
{
    struct prefix_block *e = &p->blocks[block];
    BUG_ON(!prefix_has(p, block));
    uint32_t *at = &p->buckets[bucket_of(p, e->parent, tokens_of(p, block))];
    while (*at != block)
        at = &p->blocks[*at].next_in_bucket;
    *at = e->next_in_bucket;
    if (e->is_idle)
        prefix_wake(p, block);
    *e = (struct prefix_block){0};
}

const char *prefix_validate(const struct prefix *p, const uint32_t *refs)
{
    uint32_t n_idle = 0, n_listed = 0, n_found = 0, n_held = 0;
    if (!p->n_buckets)
        return NULL;
    for (uint32_t b = 0; b < p->n_blocks; b++) {
        const struct prefix_block *e = &p->blocks[b];
        n_idle += e->is_idle;
        n_held += e->content != 0;
        if (e->is_idle != (e->content != 0 && refs[b] == 0))
            return "a block is idle though it is referred to, or not though it is not";
    }
    for (uint32_t i = 0; i < p->n_buckets; i++)
        for (uint32_t b = p->buckets[i]; b != PREFIX_NONE && n_found <= n_held;
             b = p->blocks[b].next_in_bucket, n_found++)
            if (bucket_of(p, p->blocks[b].parent, tokens_of(p, b)) != i)
                return "a block lies in another bucket than its tokens say";
    for (uint32_t b = p->oldest; b != PREFIX_NONE && n_listed <= n_idle; b = p->blocks[b].newer)
        n_listed++;
    if (n_found != n_held)
        return "the prefix index misses blocks, or has some twice";
    return n_listed == n_idle && n_idle == p->n_idle ? NULL : "the list of idle blocks is broken";
}
