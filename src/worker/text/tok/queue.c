/* SPDX-License-Identifier: Apache-2.0 */
/* Implements queue.h. */
#include "worker/text/tok/queue.h"

#include <string.h>

#include "lib/base/mem.h"

void tok_queue_init(struct tok_queue *q)
{
    memset(q, 0, sizeof(*q));
}

void tok_queue_release(struct tok_queue *q)
{
    mem_free(q->early);
    mem_free(q->lists);
    mem_free(q->bits[0]);
    mem_free(q->unsorted);
    mem_free(q->scratch);
    memset(q, 0, sizeof(*q));
}

static size_t words_for(size_t n)
{
    return n / 64 + 1;
}

static int make_lists(struct tok_queue *q, uint32_t n_prio, struct err *err)
{
    size_t level[ARRAY_LEN(q->bits)], n_words = 0, n = n_prio;
    for (size_t i = 0; i < ARRAY_LEN(level); i++) {
        level[i] = n_words;
        n = words_for(n);
        n_words += n;
    }
    q->lists = mem_try_alloc(n_prio, sizeof(*q->lists), err);
    q->unsorted = mem_try_alloc(words_for(n_prio), sizeof(uint64_t), err);
    q->bits[0] = mem_try_alloc(n_words, sizeof(uint64_t), err);
    if (!q->lists || !q->unsorted || !q->bits[0]) {
        tok_queue_release(q);
        return -E_NOMEM;
    }
    for (size_t i = 1; i < ARRAY_LEN(level); i++)
        q->bits[i] = q->bits[0] + level[i];
    memset(q->lists, 0xFF, n_prio * sizeof(*q->lists));
    q->n_prio = n_prio;
    return 0;
}

int tok_queue_start(struct tok_queue *q, bool with_lists, uint32_t n_prio, struct err *err)
{
    if (with_lists && !q->lists) {
        int rc = make_lists(q, n_prio, err);
        if (rc < 0)
            return rc;
    }
    /* Nothing is open yet: priority 0 must not count as begun, so turns are numbered from one. */
    q->open = with_lists ? 0 : UINT32_MAX;
    q->n_early = 0;
    return 0;
}

static int early_put(struct tok_queue *q, uint64_t key, struct err *err)
{
    if (q->n_early == q->cap_early) {
        const uint32_t cap = q->cap_early ? q->cap_early * 2 : 256;
        void *p = cap > q->cap_early ? mem_try_resize(q->early, cap, sizeof(*q->early), err) : NULL;
        if (!p)
            return cap > q->cap_early
                       ? -E_NOMEM
                       : err_set(err, E_LIMIT, "the text has too many symbols to merge");
        q->early = p;
        q->cap_early = cap;
    }
    uint32_t i = q->n_early++;
    for (; i > 0 && q->early[(i - 1) / 2] > key; i = (i - 1) / 2)
        q->early[i] = q->early[(i - 1) / 2];
    q->early[i] = key;
    return 0;
}

static uint64_t early_take(struct tok_queue *q)
{
    const uint64_t top = q->early[0], key = q->early[--q->n_early];
    uint32_t i = 0;
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= q->n_early)
            break;
        if (c + 1 < q->n_early && q->early[c + 1] < q->early[c])
            c++;
        if (q->early[c] >= key)
            break;
        q->early[i] = q->early[c];
        i = c;
    }
    q->early[i] = key;
    return top;
}

static void bit_set(struct tok_queue *q, uint32_t prio)
{
    for (unsigned k = 0; k < ARRAY_LEN(q->bits); k++, prio /= 64)
        q->bits[k][prio / 64] |= 1ull << prio % 64;
}

static void bit_clear(struct tok_queue *q, uint32_t prio)
{
    for (unsigned k = 0; k < ARRAY_LEN(q->bits); k++, prio /= 64) {
        q->bits[k][prio / 64] &= ~(1ull << prio % 64);
        if (q->bits[k][prio / 64])
            return;
    }
}

/* The first list that holds something; n_prio if none does.  All before the open one are empty. */
static uint32_t first_list(const struct tok_queue *q)
{
    uint64_t word = 0, at = 0;
    const unsigned top = ARRAY_LEN(q->bits) - 1;
    while (at < words_for(q->n_prio >> 18) && !(word = q->bits[top][at]))
        at++;
    if (!word)
        return q->n_prio;
    at = at * 64 + (unsigned)__builtin_ctzll(word);
    for (unsigned k = top; k-- > 0;)
        at = at * 64 + (unsigned)__builtin_ctzll(q->bits[k][at]);
    return (uint32_t)at;
}

int tok_queue_put(struct tok_queue *q, struct tok_link *links, uint32_t at, uint32_t prio,
                  struct err *err)
{
    if (prio < q->open)
        return early_put(q, (uint64_t)prio << 32 | at, err);
    struct tok_list *l = &q->lists[prio];
    links[at] = (struct tok_link){QUEUE_NONE, l->tail};
    if (l->head == QUEUE_NONE) {
        l->head = at;
        bit_set(q, prio);
    } else {
        links[l->tail].next = at;
        if (at < l->tail)
            q->unsorted[prio / 64] |= 1ull << prio % 64;
    }
    l->tail = at;
    return 0;
}

void tok_queue_drop(struct tok_queue *q, struct tok_link *links, uint32_t at, uint32_t prio)
{
    const struct tok_link k = links[at];
    if (k.prev == QUEUE_LOOSE)
        return;
    struct tok_list *l = &q->lists[prio];
    if (k.prev == QUEUE_NONE)
        l->head = k.next;
    else
        links[k.prev].next = k.next;
    if (k.next == QUEUE_NONE)
        l->tail = k.prev;
    else
        links[k.next].prev = k.prev;
    if (l->head == QUEUE_NONE)
        bit_clear(q, prio);
    links[at].prev = QUEUE_LOOSE;
}

/* Least significant byte first, over as many bytes as the greatest position has. */
static void sort_positions(uint32_t *v, uint32_t *tmp, uint32_t n)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < n; i++)
        all |= v[i];
    for (unsigned shift = 0; shift < 32 && all >> shift; shift += 8) {
        uint32_t count[257] = {0};
        for (uint32_t i = 0; i < n; i++)
            count[(v[i] >> shift & 255) + 1]++;
        for (unsigned i = 1; i < 257; i++)
            count[i] += count[i - 1];
        for (uint32_t i = 0; i < n; i++)
            tmp[count[v[i] >> shift & 255]++] = v[i];
        memcpy(v, tmp, n * sizeof(*v));
    }
}

/* For the few: one by one into place. */
static void insert_positions(uint32_t *v, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        const uint32_t at = v[i];
        uint32_t k = i;
        for (; k > 0 && v[k - 1] > at; k--)
            v[k] = v[k - 1];
        v[k] = at;
    }
}

static int sort_list(struct tok_queue *q, struct tok_link *links, uint32_t prio, struct err *err)
{
    struct tok_list *l = &q->lists[prio];
    uint32_t n = 0;
    for (uint32_t i = l->head; i != QUEUE_NONE; i = links[i].next)
        n++;
    if (n > q->cap_scratch) {
        void *p = mem_try_resize(q->scratch, (size_t)n * 2, sizeof(uint32_t), err);
        if (!p)
            return -E_NOMEM;
        q->scratch = p;
        q->cap_scratch = n;
    }
    uint32_t *v = q->scratch, k = 0;
    for (uint32_t i = l->head; i != QUEUE_NONE; i = links[i].next)
        v[k++] = i;
    if (n <= 64)
        insert_positions(v, n);
    else
        sort_positions(v, v + n, n);
    for (uint32_t i = 0; i < n; i++)
        links[v[i]] =
            (struct tok_link){i + 1 < n ? v[i + 1] : QUEUE_NONE, i > 0 ? v[i - 1] : QUEUE_NONE};
    *l = (struct tok_list){v[0], v[n - 1]};
    q->unsorted[prio / 64] &= ~(1ull << prio % 64);
    return 0;
}

int tok_queue_take(struct tok_queue *q, struct tok_link *links, uint32_t *ret_at,
                   uint32_t *ret_prio, struct err *err)
{
    /* open is one more than the priority whose turn it is */
    if (q->open != UINT32_MAX && q->n_early == 0 &&
        (q->open == 0 || q->lists[q->open - 1].head == QUEUE_NONE)) {
        const uint32_t prio = first_list(q);
        if (prio >= q->n_prio)
            return 0;
        q->open = prio + 1;
        if (q->unsorted[prio / 64] >> prio % 64 & 1) {
            int rc = sort_list(q, links, prio, err);
            if (rc < 0)
                return rc;
        }
    }
    uint64_t head = UINT64_MAX;
    if (q->open != UINT32_MAX && q->open > 0 && q->lists[q->open - 1].head != QUEUE_NONE)
        head = (uint64_t)(q->open - 1) << 32 | q->lists[q->open - 1].head;
    if (q->n_early && q->early[0] < head) {
        head = early_take(q);
    } else if (head == UINT64_MAX) {
        return 0;
    } else {
        tok_queue_drop(q, links, (uint32_t)head, (uint32_t)(head >> 32));
    }
    *ret_at = (uint32_t)head;
    *ret_prio = (uint32_t)(head >> 32);
    return 1;
}
