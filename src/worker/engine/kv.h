/* SPDX-License-Identifier: Apache-2.0 */
/* The paged key/value cache: a pool of blocks of block_len positions, reference counts, block
 * tables.
 *
 * A block holds its positions' keys and values of every layer.  A sequence reaches its positions
 * through a block table; sequences that share a prefix share its blocks, and a block with more than
 * one owner is copied before it is written (Kwon et al. 2023, PagedAttention).  Memory: layer by
 * layer, in a layer block by block, in a block the keys of each head, then the values of each head,
 * as kern.h says.  Everything is allocated in kv_init; nothing afterwards. One thread at a time for
 * the calls below; rows may be written by any thread between them. */
#ifndef WORKER_ENGINE_KV_H
#define WORKER_ENGINE_KV_H

#include "worker/engine/prefix.h"
#include "worker/kernel/kern.h"
#include "worker/model/hparams.h"

struct kv_layer {
    size_t offset_bytes;               /* of this layer in the pool */
    size_t block_bytes;                /* one block of this layer */
    size_t v_offset_bytes;             /* values in a block of this layer */
    size_t k_head_bytes, v_head_bytes; /* from one head's part to the next's */
};

/* A sequence's block table: owned by the cache, one per slot. */
struct kv_seq {
    uint32_t *blocks; /* [n_blocks] of kv->max_seq_blocks */
    uint32_t n_blocks;
    uint64_t salt;             /* the tenant whose text it is */
    struct prefix_chain chain; /* how far its blocks are in the prefix index */
};

/* The tokens of a sequence, in two pieces. */
struct kv_tokens {
    const int32_t *prompt, *answer; /* borrowed */
    uint32_t n_prompt;
};

struct kv {
    enum kv_type type;
    uint32_t block_len, n_blocks, n_layer, n_slots, max_seq_blocks;
    size_t k_group_bytes, v_row_bytes; /* of KV_LANES positions; of one */
    struct kv_layer *layers;           /* owned, [n_layer] */
    char *pool;                        /* 64-byte aligned, inside pool_mem */
    void *pool_mem;                    /* owned */
    uint32_t *refs;                    /* owned, [n_blocks] */
    uint32_t *free_list;               /* owned, a stack of n_free block numbers */
    uint32_t n_free;      /* that hold nothing; idle ones of the prefix index may be had, too */
    struct prefix prefix; /* owned */
    int32_t *row;         /* owned, [block_len]: one block's tokens, in one piece */
    struct kv_seq *seqs;  /* owned, [n_slots] */
    uint32_t *tables;     /* owned, [n_slots][max_seq_blocks] */
};

/* Bytes of one block, all layers; 0 on overflow. */
uint64_t kv_block_bytes(const struct hparams *hp, enum kv_type type, uint32_t block_len);

/* n_slots sequences of at most n_ctx positions each.  E_NOMEM; on failure nothing is held. */
int kv_init(struct kv *kv, const struct hparams *hp, enum kv_type type, uint32_t block_len,
            uint32_t n_blocks, uint32_t n_slots, uint32_t n_ctx, struct err *err) MUST_USE;
void kv_release(struct kv *kv);
/* From now on full blocks are found again by their tokens.  E_NOMEM. */
int kv_enable_prefixes(struct kv *kv, struct err *err) MUST_USE;
/* Blocks that kv_try_grow and kv_try_own can have. */
static inline uint32_t kv_n_free(const struct kv *kv)
{
    return kv->n_free + kv->prefix.n_idle;
}

/* Gives slot blocks for its first n_pos positions.  False, with nothing changed, when there are not
 * enough. */
bool kv_try_grow(struct kv *kv, uint32_t slot, uint32_t n_pos) MUST_USE;
/* Makes positions first .. end - 1 of slot (blocks it has) writable: shared blocks among them are
 * copied.  False, with nothing changed, when there are not enough free blocks. */
bool kv_try_own(struct kv *kv, uint32_t slot, uint32_t first, uint32_t end) MUST_USE;
/* How many free blocks kv_try_own would take. */
uint32_t kv_own_cost(const struct kv *kv, uint32_t slot, uint32_t first, uint32_t end);
/* dst (empty) shares the blocks that hold the first n_pos positions of src. */
void kv_share(struct kv *kv, uint32_t src, uint32_t dst, uint32_t n_pos);
/* slot (empty) shares the blocks that hold the beginning of t, among tenant salt's; at most n_most
 * of them. Returns how many. */
uint32_t kv_attach(struct kv *kv, uint32_t slot, uint64_t salt, const struct kv_tokens *t,
                   uint32_t n_most);
/* The first n_pos positions of slot hold t: its full blocks can be found from now on, and are never
 * written again. */
void kv_publish(struct kv *kv, uint32_t slot, const struct kv_tokens *t, uint32_t n_pos);
/* Gives all blocks of slot back; the next text in it belongs to tenant 0 unless attached. */
void kv_clear(struct kv *kv, uint32_t slot);

static inline uint32_t kv_blocks_for(const struct kv *kv, uint32_t n_pos)
{
    return n_pos / kv->block_len + (n_pos % kv->block_len != 0);
}

/* Where position pos of layer il, kv head h, lies, through slot's table: its group of keys, in
 * which it has lane pos % block_len % KV_LANES, and its row of values. */
void *kv_k_group(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, uint32_t pos);
void *kv_v_row(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, uint32_t pos);
/* Fills the cache's part of an attention call: table, bases, strides, block_len. */
void kv_fill_attn(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, struct kern_attn *a);

/* The invariant: every block is free or counted exactly as often as tables name it, never both.
 * NULL, or what is broken.  For tests and debug builds; allocates nothing, slow. */
const char *kv_validate(const struct kv *kv);

#endif
