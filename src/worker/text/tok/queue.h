/* SPDX-License-Identifier: Apache-2.0 */
/* Which symbol to merge next: the queue behind merge.c, by priority (0 first) and then by position.
 *
 * Long chunks keep, for every priority, the list of positions that wait with it; a position is in
 * one list at most and leaves it when its pair changes, so ten million symbols need no more than
 * two numbers each.  Positions come mostly in order; a list in which they did not is sorted when
 * its turn comes.  What arrives with a priority whose turn has begun or passed (vocabularies in
 * which a merge makes an earlier one possible) waits in a binary heap, as does everything in short
 * chunks.  One thread at a time; owns its memory. */
#ifndef WORKER_TEXT_TOK_QUEUE_H
#define WORKER_TEXT_TOK_QUEUE_H

#include "lib/base/err.h"

#define QUEUE_NONE  UINT32_MAX
#define QUEUE_LOOSE (UINT32_MAX - 1) /* link of a position in no list */

struct tok_link {
    uint32_t next, prev; /* within its list, QUEUE_NONE at the ends; prev QUEUE_LOOSE: in none */
};

struct tok_queue {
    uint64_t *early; /* owned: binary heap of priority << 32 | position */
    uint32_t n_early, cap_early;
    struct tok_list {
        uint32_t head, tail;
    } * lists;          /* owned, n_prio; NULL until a long chunk comes */
    uint64_t *bits[4];  /* owned (in one block with bits[0]): which lists hold something, and
                           summaries of that */
    uint64_t *unsorted; /* owned: which of them are out of order */
    uint32_t *scratch;  /* owned: for sorting */
    uint32_t cap_scratch;
    uint32_t n_prio, open; /* the priority whose turn it is; UINT32_MAX: heap alone */
};

void tok_queue_init(struct tok_queue *q);
void tok_queue_release(struct tok_queue *q);
/* Empties it for a chunk.  with_lists: for a long one, with priorities below n_prio. */
int tok_queue_start(struct tok_queue *q, bool with_lists, uint32_t n_prio,
                    struct err *err) MUST_USE;
/* links: one per position, LOOSE while it waits nowhere or in the heap. */
int tok_queue_put(struct tok_queue *q, struct tok_link *links, uint32_t at, uint32_t prio,
                  struct err *err) MUST_USE;
/* Takes it out of its list; one in the heap stays there, to be recognised as stale by the caller.
 */
void tok_queue_drop(struct tok_queue *q, struct tok_link *links, uint32_t at, uint32_t prio);
/* The next one: 1, 0 when empty, negative on E_NOMEM.  From the heap it may be stale. */
int tok_queue_take(struct tok_queue *q, struct tok_link *links, uint32_t *ret_at,
                   uint32_t *ret_prio, struct err *err) MUST_USE;

#endif
