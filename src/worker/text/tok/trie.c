/* SPDX-License-Identifier: Apache-2.0 */
/* Implements trie.h: sorts the texts and lays the trie out breadth first, so that siblings are
 * neighbours. */
#include "worker/text/tok/trie.h"

#include <stdlib.h>

#include "lib/base/mem.h"

/* While building: the items below a node and how many bytes of them lead to it. */
struct span {
    uint32_t lo, hi, depth;
};

struct builder {
    struct tok_trie *t;
    struct span *spans; /* beside t->nodes */
    uint32_t cap;
};

static int compare_items(const void *a, const void *b)
{
    const struct tok_trie_item *x = a, *y = b;
    const size_t n = MIN_OF(x->text.len, y->text.len);
    const int c = memcmp(x->text.p, y->text.p, n);
    if (c)
        return c;
    if (x->text.len != y->text.len)
        return x->text.len < y->text.len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int add_node(struct builder *b, unsigned char byte, struct span span, struct err *err)
{
    struct tok_trie *t = b->t;
    if (t->n_nodes == b->cap) {
        if (b->cap > UINT32_MAX / 4)
            return err_set(err, E_LIMIT, "the vocabulary's texts are too long for a trie");
        const uint32_t cap = b->cap ? b->cap * 2 : 256;
        void *p = mem_try_resize(t->nodes, cap, sizeof(*t->nodes), err);
        if (!p)
            return -E_NOMEM;
        t->nodes = p;
        p = mem_try_resize(b->spans, cap, sizeof(*b->spans), err);
        if (!p)
            return -E_NOMEM;
        b->spans = p;
        b->cap = cap;
    }
    t->nodes[t->n_nodes] = (struct tok_trie_node){.id = -1, .byte = byte};
    b->spans[t->n_nodes++] = span;
    return 0;
}

/* Makes the children of node i from its span. */
static int expand_node(struct builder *b, uint32_t i, const struct tok_trie_item *items,
                       struct err *err)
{
    struct tok_trie *t = b->t;
    struct span s = b->spans[i];
    for (; s.lo < s.hi && items[s.lo].text.len == s.depth; s.lo++)
        t->nodes[i].id = items[s.lo].id;
    const uint32_t first = t->n_nodes;
    while (s.lo < s.hi) {
        const unsigned char byte = (unsigned char)items[s.lo].text.p[s.depth];
        uint32_t end = s.lo + 1;
        while (end < s.hi && (unsigned char)items[end].text.p[s.depth] == byte)
            end++;
        int rc = add_node(b, byte, (struct span){s.lo, end, s.depth + 1}, err);
        if (rc < 0)
            return rc;
        s.lo = end;
    }
    t->nodes[i].first = first;
    t->nodes[i].n = (uint16_t)(t->n_nodes - first);
    return 0;
}

int tok_trie_build(struct tok_trie *t, struct tok_trie_item *items, uint32_t n_items,
                   struct err *err)
{
    memset(t, 0, sizeof(*t));
    if (n_items == 0)
        return 0;
    qsort(items, n_items, sizeof(*items), compare_items);
    struct builder b = {.t = t};
    int rc = add_node(&b, 0, (struct span){0, n_items, 0}, err);
    for (uint32_t i = 0; rc == 0 && i < t->n_nodes; i++)
        rc = expand_node(&b, i, items, err);
    mem_free(b.spans);
    if (rc < 0) {
        tok_trie_release(t);
        return rc;
    }
    memset(t->root, 0xFF, sizeof(t->root));
    for (uint32_t i = 0; i < t->nodes[0].n; i++)
        t->root[t->nodes[t->nodes[0].first + i].byte] = t->nodes[0].first + i;
    return 0;
}

void tok_trie_release(struct tok_trie *t)
{
    mem_free(t->nodes);
    memset(t, 0, sizeof(*t));
}
