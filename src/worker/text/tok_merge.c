/* SPDX-License-Identifier: Apache-2.0 */
/* Implements tok_merge.h: a scan for words, a radix heap for long chunks. */
#include "worker/text/tok_merge.h"

#include <string.h>

#include "lib/base/mem.h"

/* Up to so many symbols looking at every pair is faster than keeping a queue. */
#define SCAN_MAX 24

void tok_merge_init(struct tok_merge *m)
{
    memset(m, 0, sizeof(*m));
    tok_heap_init(&m->heap);
}

void tok_merge_release(struct tok_merge *m)
{
    mem_free(m->syms);
    tok_heap_release(&m->heap);
    memset(m, 0, sizeof(*m));
}

static int grow(struct tok_merge *m, struct err *err)
{
    const uint32_t cap = m->cap ? m->cap + m->cap / 2 : 64;
    if (cap < m->cap)
        return err_set(err, E_LIMIT, "the text has too many symbols to merge");
    void *p = mem_try_resize(m->syms, cap, sizeof(*m->syms), err);
    if (!p)
        return -E_NOMEM;
    m->syms = p;
    m->cap = cap;
    return 0;
}

int tok_merge_add(struct tok_merge *m, uint32_t start, uint32_t end, int32_t id, struct err *err)
{
    if (UNLIKELY(m->n == m->cap)) {
        int rc = grow(m, err);
        if (rc < 0)
            return rc;
    }
    const uint32_t i = m->n++;
    m->syms[i] = (struct tok_sym){start, end, SYM_END, i - 1, SYM_END, id};
    if (i > 0)
        m->syms[i - 1].next = i;
    return 0;
}

static void pair_update(struct tok_merge *m, uint32_t i)
{
    struct tok_sym *a = &m->syms[i];
    a->pair = a->next == SYM_END ? SYM_END : m->pair_find(m, a, &m->syms[a->next]);
}

/* Joins symbol i and its next one. */
static void join(struct tok_merge *m, uint32_t i)
{
    struct tok_sym *a = &m->syms[i], *b = &m->syms[a->next];
    a->id = m->pair_result(m, a->pair);
    a->end = b->end;
    const uint32_t dead = a->next;
    a->next = b->next;
    b->next = dead;
    b->pair = SYM_END;
    if (a->next != SYM_END)
        m->syms[a->next].prev = i;
    pair_update(m, i);
    if (a->prev != SYM_END)
        pair_update(m, a->prev);
}

static void run_scan(struct tok_merge *m)
{
    for (;;) {
        uint32_t best = SYM_END, best_prio = UINT32_MAX;
        for (uint32_t i = 0; i != SYM_END; i = m->syms[i].next) {
            if (m->syms[i].pair == SYM_END)
                continue;
            const uint32_t prio = m->pair_prio(m, m->syms[i].pair);
            if (best == SYM_END || prio < best_prio) {
                best = i;
                best_prio = prio;
            }
        }
        if (best == SYM_END)
            return;
        join(m, best);
    }
}

static int queue(struct tok_merge *m, uint32_t i, struct err *err)
{
    if (m->syms[i].pair == SYM_END)
        return 0;
    return tok_heap_push(&m->heap, (uint64_t)m->pair_prio(m, m->syms[i].pair) << 32 | i, err);
}

static int run_heap(struct tok_merge *m, struct err *err)
{
    tok_heap_clear(&m->heap);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < m->n; i++)
        rc = queue(m, i, err);
    uint64_t key;
    while (rc == 0 && (rc = tok_heap_pop(&m->heap, &key, err)) > 0) {
        const uint32_t i = (uint32_t)key, pair = m->syms[i].pair;
        rc = 0;
        if (pair == SYM_END || m->pair_prio(m, pair) != key >> 32)
            continue; /* one of the two has merged since with another */
        join(m, i);
        rc = queue(m, i, err);
        if (rc == 0 && m->syms[i].prev != SYM_END)
            rc = queue(m, m->syms[i].prev, err);
    }
    return rc;
}

int tok_merge_run(struct tok_merge *m, struct err *err)
{
    for (uint32_t i = 0; i < m->n; i++)
        pair_update(m, i);
    if (m->n <= SCAN_MAX) {
        run_scan(m);
        return 0;
    }
    return run_heap(m, err);
}
