/* SPDX-License-Identifier: Apache-2.0 */
/* Implements merge.h: a scan for words, a queue for longer chunks. */
#include "worker/text/tok/merge.h"

#include <string.h>

#include "lib/base/mem.h"

#define SCAN_MAX                                                                                   \
    24u /* up to so many symbols, looking at every pair is faster than keeping a queue */
#define HEAP_MAX  2048u /* up to so many, a heap is faster than preparing lists */
#define MEMO_BITS 15u
#define MEMO_FROM 8192u /* bytes of text from which remembering pays */

void tok_merge_init(struct tok_merge *m)
{
    memset(m, 0, sizeof(*m));
    tok_queue_init(&m->queue);
}

void tok_merge_release(struct tok_merge *m)
{
    mem_free(m->syms);
    mem_free(m->links);
    mem_free(m->memo);
    tok_queue_release(&m->queue);
    memset(m, 0, sizeof(*m));
}

void tok_merge_expect(struct tok_merge *m, size_t n_bytes)
{
    struct err ignored = ERR_INIT;
    if (n_bytes < MEMO_FROM || m->memo)
        return;
    m->memo = mem_try_alloc(1u << MEMO_BITS, sizeof(*m->memo), &ignored);
    for (uint32_t i = 0; m->memo && i < 1u << MEMO_BITS; i++)
        m->memo[i].ids = UINT64_MAX;
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
    m->syms[i] = (struct tok_sym){start, SYM_END, i - 1, SYM_END, id};
    if (i > 0)
        m->syms[i - 1].next = i;
    m->end = end;
    return 0;
}

static uint32_t find_pair(struct tok_merge *m, const struct tok_sym *a)
{
    if (a->next == SYM_END)
        return SYM_END;
    const struct tok_sym *b = &m->syms[a->next];
    if (!m->memo || !m->is_costly || a->id < 0 || b->id < 0)
        return m->pair_find(m, a, b);
    const uint64_t ids = (uint64_t)(uint32_t)a->id << 32 | (uint32_t)b->id;
    struct tok_memo *e = &m->memo[ids * 0x9E3779B97F4A7C15u >> (64 - MEMO_BITS)];
    if (e->ids != ids)
        *e = (struct tok_memo){ids, m->pair_find(m, a, b)};
    return e->pair;
}

/* Joins symbol i and its next one, leaving the pairs around it to the caller. */
static void join(struct tok_merge *m, uint32_t i)
{
    struct tok_sym *a = &m->syms[i], *b = &m->syms[a->next];
    a->id = m->pair_result(m, a->pair);
    a->next = b->next;
    b->pair = SYM_END;
    if (a->next != SYM_END)
        m->syms[a->next].prev = i;
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
        m->syms[best].pair = find_pair(m, &m->syms[best]);
        const uint32_t prev = m->syms[best].prev;
        if (prev != SYM_END)
            m->syms[prev].pair = find_pair(m, &m->syms[prev]);
    }
}

/* Takes i's pair out of the queue, if it waits in a list. */
static void unqueue(struct tok_merge *m, uint32_t i)
{
    if (m->links && m->syms[i].pair != SYM_END)
        tok_queue_drop(&m->queue, m->links, i, m->pair_prio(m, m->syms[i].pair));
}

/* Looks at i's pair anew and queues it. */
static int requeue(struct tok_merge *m, uint32_t i, struct err *err)
{
    const uint32_t pair = find_pair(m, &m->syms[i]);
    m->syms[i].pair = pair;
    return pair == SYM_END ? 0 : tok_queue_put(&m->queue, m->links, i, m->pair_prio(m, pair), err);
}

static int run_queue(struct tok_merge *m, struct err *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < m->n; i++)
        rc = requeue(m, i, err);
    uint32_t i, prio;
    while (rc == 0 && (rc = tok_queue_take(&m->queue, m->links, &i, &prio, err)) > 0) {
        struct tok_sym *a = &m->syms[i];
        rc = 0;
        if (a->pair == SYM_END || m->pair_prio(m, a->pair) != prio)
            continue; /* one of the two has merged since with another */
        unqueue(m, a->next);
        join(m, i);
        rc = requeue(m, i, err);
        if (rc == 0 && a->prev != SYM_END) {
            unqueue(m, a->prev);
            rc = requeue(m, a->prev, err);
        }
    }
    return rc;
}

static int grow_links(struct tok_merge *m, struct err *err)
{
    if (m->n <= m->cap_links)
        return 0;
    void *p = mem_try_resize(m->links, m->n, sizeof(*m->links), err);
    if (!p)
        return -E_NOMEM;
    m->links = p;
    m->cap_links = m->n;
    return 0;
}

int tok_merge_run(struct tok_merge *m, struct err *err)
{
    if (m->n <= SCAN_MAX) {
        for (uint32_t i = 0; i < m->n; i++)
            m->syms[i].pair = find_pair(m, &m->syms[i]);
        run_scan(m);
        return 0;
    }
    int rc = grow_links(m, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < m->n; i++)
        m->links[i].prev = QUEUE_LOOSE;
    rc = tok_queue_start(&m->queue, m->n > HEAP_MAX, m->n_prio, err);
    return rc < 0 ? rc : run_queue(m, err);
}
