/* SPDX-License-Identifier: Apache-2.0 */
/* Implements hashing.h: a ring of blocks, filled on one side and hashed on the other. */
#include "daemon/store/hashing.h"

#include <pthread.h>
#include <string.h>

#include "lib/base/mem.h"

#define BLOCK_BYTES (256u << 10)
#define N_BLOCKS    4u

struct block {
    size_t len;
    unsigned char bytes[BLOCK_BYTES];
};

struct hashing {
    struct sha256 *hash;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t n_filled, n_hashed; /* blocks, ever; under lock */
    bool is_ending;
    struct block blocks[N_BLOCKS]; /* [n % N_BLOCKS]; from n_hashed to n_filled the thread's */
};

static void *hash_main(void *ctx)
{
    struct hashing *g = ctx;
    pthread_mutex_lock(&g->lock);
    for (;;) {
        while (g->n_hashed == g->n_filled && !g->is_ending)
            pthread_cond_wait(&g->changed, &g->lock);
        if (g->n_hashed == g->n_filled)
            break;
        const struct block *b = &g->blocks[g->n_hashed % N_BLOCKS];
        pthread_mutex_unlock(&g->lock);
        sha256_add(g->hash, b->bytes, b->len);
        pthread_mutex_lock(&g->lock);
        g->n_hashed++;
        pthread_cond_broadcast(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

struct hashing *hashing_start(struct sha256 *h)
{
    struct hashing *g = mem_alloc(sizeof(*g));
    g->hash = h;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    if (pthread_create(&g->thread, NULL, hash_main, g) == 0)
        return g;
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
    mem_free(g);
    return NULL;
}

/* Hands the block over that is being filled, and waits for room for the next. */
static void hand_over(struct hashing *g)
{
    pthread_mutex_lock(&g->lock);
    g->n_filled++;
    pthread_cond_broadcast(&g->changed);
    while (g->n_filled - g->n_hashed == N_BLOCKS)
        pthread_cond_wait(&g->changed, &g->lock);
    g->blocks[g->n_filled % N_BLOCKS].len = 0;
    pthread_mutex_unlock(&g->lock);
}

void hashing_add(struct hashing *g, const void *p, size_t n)
{
    const unsigned char *at = p;
    while (n) {
        struct block *b = &g->blocks[g->n_filled % N_BLOCKS]; /* only this side counts it up */
        size_t len = MIN_OF(n, BLOCK_BYTES - b->len);
        memcpy(b->bytes + b->len, at, len);
        b->len += len;
        at += len;
        n -= len;
        if (b->len == BLOCK_BYTES)
            hand_over(g);
    }
}

void hashing_wait(struct hashing *g)
{
    if (g->blocks[g->n_filled % N_BLOCKS].len)
        hand_over(g);
    pthread_mutex_lock(&g->lock);
    while (g->n_hashed != g->n_filled)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void hashing_stop(struct hashing *g)
{
    if (!g)
        return;
    hashing_wait(g);
    pthread_mutex_lock(&g->lock);
    g->is_ending = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
    mem_free(g);
}
