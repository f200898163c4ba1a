/* SPDX-License-Identifier: Apache-2.0 */
/* A byte trie over token texts, for longest-match searches: special tokens, WPM words, UGM pieces.
 *
 * Owns its nodes, not the texts, which are needed only while it is built.  Read-only afterwards:
 * any thread. */
#ifndef WORKER_TEXT_TOK_TRIE_H
#define WORKER_TEXT_TOK_TRIE_H

#include "lib/base/err.h"
#include "lib/base/str.h"

#define TRIE_DEAD UINT32_MAX

struct tok_trie_node {
    uint32_t first; /* its children lie at [first, first + n), ordered by byte */
    int32_t id;     /* of the text that ends here, or -1 */
    uint16_t n;
    unsigned char byte;
};

struct tok_trie {
    struct tok_trie_node *nodes; /* owned; node 0 is the root */
    uint32_t n_nodes;
    uint32_t root[256]; /* the root's children by byte, TRIE_DEAD where there is none */
};

struct tok_trie_item {
    struct str text; /* not empty */
    int32_t id;
};

/* Sorts items in place.  Of equal texts the greatest id is kept.  E_NOMEM, E_LIMIT. */
int tok_trie_build(struct tok_trie *t, struct tok_trie_item *items, uint32_t n_items,
                   struct err *err) MUST_USE;
void tok_trie_release(struct tok_trie *t);

/* The node that byte leads to, or TRIE_DEAD.  Start with node 0; on an empty trie everything is
 * dead. */
static inline uint32_t tok_trie_step(const struct tok_trie *t, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return t->n_nodes ? t->root[byte] : TRIE_DEAD;
    const struct tok_trie_node *v = &t->nodes[node];
    uint32_t lo = v->first, hi = v->first + v->n;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (t->nodes[mid].byte < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < v->first + v->n && t->nodes[lo].byte == byte ? lo : TRIE_DEAD;
}

#endif
