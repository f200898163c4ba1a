/* SPDX-License-Identifier: Apache-2.0 */
/* Implements kv.h.  Blocks are taken from the top of a stack and given back in reverse order of the
 * table, so that a sequence that starts over finds its blocks warm; which block a position gets
 * changes no result. */
#include "worker/engine/kv.h"

#include <string.h>

#include "lib/base/mem.h"

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t n_groups(uint32_t block_len)
{
    return (block_len + KV_LANES - 1) / KV_LANES;
}

/* Bytes of one block of one layer: sizes are far from overflow once plan_check has seen the model.
 */
static uint64_t layer_block_bytes(const struct hparams *hp, uint32_t il, enum kv_type type,
                                  uint32_t block_len)
{
    const uint64_t per_head = (uint64_t)kern_kv_group_bytes(type, hp->k_dim) * n_groups(block_len) +
                              (uint64_t)kern_kv_row_bytes(type, hp->v_dim) * block_len;
    uint64_t n;
    return size_mul(per_head, hp->layers[il].n_head_kv, &n) && n <= UINT64_MAX - 64
               ? round_up(n, 64)
               : 0;
}

uint64_t kv_block_bytes(const struct hparams *hp, enum kv_type type, uint32_t block_len)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        uint64_t n = layer_block_bytes(hp, i, type, block_len);
        if (n == 0 || !size_add(sum, n, &sum))
            return 0;
    }
    return sum;
}

static int init_arrays(struct kv *kv, struct err *err)
{
    kv->layers = mem_try_alloc(kv->n_layer, sizeof *kv->layers, err);
    kv->refs = kv->layers ? mem_try_alloc(kv->n_blocks, sizeof *kv->refs, err) : NULL;
    kv->free_list = kv->refs ? mem_try_alloc(kv->n_blocks, sizeof *kv->free_list, err) : NULL;
    kv->seqs = kv->free_list ? mem_try_alloc(kv->n_slots, sizeof *kv->seqs, err) : NULL;
    kv->tables =
        kv->seqs ? mem_try_alloc((size_t)kv->n_slots * kv->max_seq_blocks, sizeof *kv->tables, err)
                 : NULL;
    return kv->tables ? 0 : -err->code;
}

int kv_init(struct kv *kv, const struct hparams *hp, enum kv_type type, uint32_t block_len,
            uint32_t n_blocks, uint32_t n_slots, uint32_t n_ctx, struct err *err)
{
    *kv = (struct kv){.type = type,
                      .block_len = block_len,
                      .n_blocks = n_blocks,
                      .n_layer = hp->n_layer,
                      .n_slots = n_slots,
                      .k_group_bytes = kern_kv_group_bytes(type, hp->k_dim),
                      .v_row_bytes = kern_kv_row_bytes(type, hp->v_dim)};
    kv->max_seq_blocks = kv_blocks_for(kv, n_ctx);
    int r = init_arrays(kv, err);
    if (r) {
        kv_release(kv);
        return r;
    }
    size_t offset = 0;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        struct kv_layer *l = &kv->layers[i];
        l->offset_bytes = offset;
        l->block_bytes = (size_t)layer_block_bytes(hp, i, type, block_len);
        l->k_head_bytes = kv->k_group_bytes * n_groups(block_len);
        l->v_head_bytes = kv->v_row_bytes * block_len;
        l->v_offset_bytes = l->k_head_bytes * hp->layers[i].n_head_kv;
        offset += l->block_bytes * n_blocks;
    }
    kv->pool = mem_try_lazy(offset, &kv->pool_mem, err);
    if (!kv->pool) {
        kv_release(kv);
        return err_wrap(err, "key/value cache of %zu bytes", offset);
    }
    for (uint32_t i = 0; i < n_blocks; i++)
        kv->free_list[i] = n_blocks - 1 - i;
    kv->n_free = n_blocks;
    for (uint32_t i = 0; i < n_slots; i++)
        kv->seqs[i] = (struct kv_seq){.blocks = kv->tables + (size_t)i * kv->max_seq_blocks,
                                      .chain = prefix_root(0)};
    return 0;
}

void kv_release(struct kv *kv)
{
    mem_free(kv->layers);
    mem_free(kv->refs);
    mem_free(kv->free_list);
    mem_free(kv->seqs);
    mem_free(kv->tables);
    mem_free(kv->pool_mem);
    mem_free(kv->row);
    prefix_release(&kv->prefix);
    *kv = (struct kv){0};
}

int kv_enable_prefixes(struct kv *kv, struct err *err)
{
    kv->row = mem_try_alloc(kv->block_len, sizeof *kv->row, err);
    return kv->row ? prefix_init(&kv->prefix, kv->n_blocks, kv->block_len, err) : -err->code;
}

/* One that holds nothing, or the one whose text nobody has asked for longest. */
static uint32_t block_take(struct kv *kv)
{
    uint32_t b;
    if (kv->n_free) {
        b = kv->free_list[--kv->n_free];
    } else {
        b = kv->prefix.oldest;
        BUG_ON(kv->prefix.n_idle == 0);
        prefix_drop(&kv->prefix, b);
    }
    kv->refs[b] = 1;
    return b;
}

static void block_ref(struct kv *kv, uint32_t b)
{
    if (kv->refs[b]++ == 0)
        prefix_wake(&kv->prefix, b);
}

static void block_unref(struct kv *kv, uint32_t b)
{
    BUG_ON(kv->refs[b] == 0);
    if (--kv->refs[b])
        return;
    if (prefix_has(&kv->prefix, b))
        prefix_idle(&kv->prefix, b);
    else
        kv->free_list[kv->n_free++] = b;
}

bool kv_try_grow(struct kv *kv, uint32_t slot, uint32_t n_pos)
{
    struct kv_seq *s = &kv->seqs[slot];
    uint32_t want = kv_blocks_for(kv, n_pos);
    BUG_ON(want > kv->max_seq_blocks);
    if (want <= s->n_blocks)
        return true;
    if (want - s->n_blocks > kv_n_free(kv))
        return false;
    while (s->n_blocks < want)
        s->blocks[s->n_blocks++] = block_take(kv);
    return true;
}

static void block_copy(struct kv *kv, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        const struct kv_layer *l = &kv->layers[i];
        char *base = kv->pool + l->offset_bytes;
        memcpy(base + to * l->block_bytes, base + from * l->block_bytes, l->block_bytes);
    }
}

uint32_t kv_own_cost(const struct kv *kv, uint32_t slot, uint32_t first, uint32_t end)
{
    const struct kv_seq *s = &kv->seqs[slot];
    uint32_t n = 0;
    for (uint32_t i = first / kv->block_len;
         first < end && i < s->n_blocks && i <= (end - 1) / kv->block_len; i++)
        n += kv->refs[s->blocks[i]] > 1;
    return n;
}

bool kv_try_own(struct kv *kv, uint32_t slot, uint32_t first, uint32_t end)
{
    struct kv_seq *s = &kv->seqs[slot];
    if (first >= end)
        return true;
    BUG_ON(kv_blocks_for(kv, end) > s->n_blocks);
    if (kv_own_cost(kv, slot, first, end) > kv_n_free(kv))
        return false;
    for (uint32_t i = first / kv->block_len; i <= (end - 1) / kv->block_len; i++) {
        uint32_t old = s->blocks[i];
        if (kv->refs[old] == 1) {
            if (prefix_has(&kv->prefix, old)) /* it is about to hold something else */
                prefix_drop(&kv->prefix, old);
            continue;
        }
        s->blocks[i] = block_take(kv);
        block_copy(kv, old, s->blocks[i]);
        block_unref(kv, old);
    }
    return true;
}

void kv_share(struct kv *kv, uint32_t src, uint32_t dst, uint32_t n_pos)
{
    const struct kv_seq *from = &kv->seqs[src];
    struct kv_seq *to = &kv->seqs[dst];
    uint32_t n = kv_blocks_for(kv, n_pos);
    BUG_ON(to->n_blocks != 0 || n > from->n_blocks || src == dst);
    to->salt = from->salt;
    to->chain = prefix_root(to->salt);
    for (uint32_t i = 0; i < n; i++) {
        to->blocks[i] = from->blocks[i];
        kv->refs[to->blocks[i]]++;
    }
    to->n_blocks = n;
}

/* The tokens of block i, in one piece. */
static const int32_t *block_tokens(struct kv *kv, const struct kv_tokens *t, uint32_t i)
{
    const uint32_t first = i * kv->block_len;
    if (first + kv->block_len <= t->n_prompt)
        return t->prompt + first;
    for (uint32_t j = 0; j < kv->block_len; j++)
        kv->row[j] =
            first + j < t->n_prompt ? t->prompt[first + j] : t->answer[first + j - t->n_prompt];
    return kv->row;
}

uint32_t kv_attach(struct kv *kv, uint32_t slot, uint64_t salt, const struct kv_tokens *t,
                   uint32_t n_most)
{
    struct kv_seq *s = &kv->seqs[slot];
    BUG_ON(s->n_blocks != 0);
    s->salt = salt;
    s->chain = prefix_root(salt);
    while (kv->prefix.n_buckets && s->n_blocks < n_most) {
        const uint32_t b = prefix_find(&kv->prefix, s->chain, block_tokens(kv, t, s->n_blocks));
        if (b == PREFIX_NONE)
            break;
        block_ref(kv, b);
        prefix_follow(&kv->prefix, &s->chain, b);
        s->blocks[s->n_blocks++] = b;
    }
    return s->n_blocks;
}

void kv_publish(struct kv *kv, uint32_t slot, const struct kv_tokens *t, uint32_t n_pos)
{
    struct kv_seq *s = &kv->seqs[slot];
    const uint32_t n_full = kv->prefix.n_buckets ? n_pos / kv->block_len : 0;
    while (s->chain.n_blocks < n_full) {
        const uint32_t i = s->chain.n_blocks;
        prefix_add(&kv->prefix, &s->chain, s->blocks[i], block_tokens(kv, t, i));
    }
}

/* From the last to the first: of one text, the end is forgotten before the beginning. */
void kv_clear(struct kv *kv, uint32_t slot)
{
    struct kv_seq *s = &kv->seqs[slot];
    while (s->n_blocks)
        block_unref(kv, s->blocks[--s->n_blocks]);
    s->salt = 0;
    s->chain = prefix_root(0);
}

void *kv_k_group(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, uint32_t pos)
{
    const struct kv_layer *l = &kv->layers[il];
    uint32_t b = kv->seqs[slot].blocks[pos / kv->block_len];
    return kv->pool + l->offset_bytes + b * l->block_bytes + h * l->k_head_bytes +
           pos % kv->block_len / KV_LANES * kv->k_group_bytes;
}

void *kv_v_row(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, uint32_t pos)
{
    const struct kv_layer *l = &kv->layers[il];
    uint32_t b = kv->seqs[slot].blocks[pos / kv->block_len];
    return kv->pool + l->offset_bytes + b * l->block_bytes + l->v_offset_bytes +
           h * l->v_head_bytes + (pos % kv->block_len) * kv->v_row_bytes;
}

void kv_fill_attn(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, struct kern_attn *a)
{
    const struct kv_layer *l = &kv->layers[il];
    a->block_table = kv->seqs[slot].blocks;
    a->k = kv->pool + l->offset_bytes + h * l->k_head_bytes;
    a->v = kv->pool + l->offset_bytes + l->v_offset_bytes + h * l->v_head_bytes;
    a->k_block_stride_bytes = a->v_block_stride_bytes = l->block_bytes;
    a->k_group_stride_bytes = kv->k_group_bytes;
    a->v_row_stride_bytes = kv->v_row_bytes;
    a->block_len = kv->block_len;
}

const char *kv_validate(const struct kv *kv)
{
    uint64_t named_sum = 0, refs_sum = 0;
    uint32_t n_idle = 0;
    for (uint32_t s = 0; s < kv->n_slots; s++) {
        named_sum += kv->seqs[s].n_blocks;
        for (uint32_t i = 0; i < kv->seqs[s].n_blocks; i++)
            if (kv->seqs[s].blocks[i] >= kv->n_blocks)
                return "a table names a block that does not exist";
    }
    for (uint32_t b = 0; b < kv->n_blocks; b++) {
        uint32_t named = 0;
        for (uint32_t s = 0; s < kv->n_slots; s++)
            for (uint32_t i = 0; i < kv->seqs[s].n_blocks; i++)
                named += kv->seqs[s].blocks[i] == b;
        if (named != kv->refs[b])
            return "a block's reference count differs from how often tables name it";
        refs_sum += kv->refs[b];
        n_idle += kv->refs[b] == 0;
    }
    if (refs_sum != named_sum)
        return "reference counts do not add up";
    if (n_idle != kv_n_free(kv))
        return "free and idle blocks are not those that nobody refers to";
    for (uint32_t i = 0; i < kv->n_free; i++) {
        if (kv->free_list[i] >= kv->n_blocks || kv->refs[kv->free_list[i]] != 0 ||
            prefix_has(&kv->prefix, kv->free_list[i]))
            return "the free list names a block in use";
        for (uint32_t j = 0; j < i; j++)
            if (kv->free_list[j] == kv->free_list[i])
                return "the free list names a block twice";
    }
    return prefix_validate(&kv->prefix, kv->refs);
}
