/* SPDX-License-Identifier: Apache-2.0 */
/* Merging neighbouring symbols by priority, as SPM and BPE both do: the best pair first, of equals
 * the leftmost.
 *
 * O(n log n) time and O(n) memory in the number of symbols.  Scratch memory is kept between calls;
 * one thread. */
#ifndef WORKER_TEXT_TOK_MERGE_H
#define WORKER_TEXT_TOK_MERGE_H

#include "worker/text/tok/queue.h"

#define SYM_END UINT32_MAX

struct tok_sym {
    uint32_t start; /* first byte of the chunk that it covers; it ends where the next living one
                       starts */
    uint32_t next, prev; /* living neighbours, or SYM_END */
    uint32_t
        pair; /* what the merge with next would be, in the kind's own terms; SYM_END: impossible */
    int32_t id; /* token, or TOKEN_NONE */
};

struct tokenizer;

struct tok_merge {
    const struct tokenizer *t;
    const char *chunk;      /* borrowed: the bytes that symbols cover */
    uint32_t end;           /* of the last symbol */
    struct tok_sym *syms;   /* owned */
    struct tok_link *links; /* owned; for long chunks */
    uint32_t n, cap, cap_links;
    struct tok_queue queue;
    struct tok_memo { /* owned; answers of pair_find by the ids of the pair */
        uint64_t ids;
        uint32_t pair;
    } * memo;
    /* How the kind sees pairs: which merge (or SYM_END) two neighbours allow, its priority (below
     * n_prio), its token.  is_costly: worth remembering. */
    uint32_t (*pair_find)(const struct tok_merge *m, const struct tok_sym *a,
                          const struct tok_sym *b);
    uint32_t (*pair_prio)(const struct tok_merge *m, uint32_t pair);
    int32_t (*pair_result)(const struct tok_merge *m, uint32_t pair);
    uint32_t n_prio;
    bool is_costly;
};

void tok_merge_init(struct tok_merge *m);
void tok_merge_release(struct tok_merge *m);
/* A text of n bytes is about to come in chunks; without memory for it nothing is remembered. */
void tok_merge_expect(struct tok_merge *m, size_t n_bytes);
/* Appends a symbol to those of the current chunk. */
int tok_merge_add(struct tok_merge *m, uint32_t start, uint32_t end, int32_t id,
                  struct err *err) MUST_USE;
/* Merges; then the survivors are syms[0], syms[syms[0].next], ... up to SYM_END.  At least one
 * symbol. */
int tok_merge_run(struct tok_merge *m, struct err *err) MUST_USE;

static inline uint32_t tok_sym_end(const struct tok_merge *m, const struct tok_sym *s)
{
    return s->next == SYM_END ? m->end : m->syms[s->next].start;
}

#endif
