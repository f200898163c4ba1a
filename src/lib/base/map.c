/* SPDX-License-Identifier: Apache-2.0 */
/* Implements map.h: open addressing with linear probing, at most three quarters full. */
#include "lib/base/map.h"

#include <pthread.h>
#include <sys/random.h>

#include "lib/base/mem.h"

static uint64_t hash_key[2];
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;

static void hash_key_init(void)
{
    /* Without entropy the key stays fixed: slower under attack, never wrong. */
    if (getrandom(hash_key, sizeof(hash_key), GRND_NONBLOCK) != (ssize_t)sizeof(hash_key))
        hash_key[0] = (uint64_t)(uintptr_t)&hash_key;
}

static inline uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t map_hash(const void *p, size_t n)
{
    pthread_once(&hash_once, hash_key_init);
    const uint64_t k0 = hash_key[0], k1 = hash_key[1];
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    const unsigned char *s = p;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, s + i, 8);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    uint64_t last = (uint64_t)n << 56;
    for (size_t j = 0; i + j < n; j++)
        last |= (uint64_t)s[i + j] << (8 * j);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_release(struct map *m)
{
    mem_free(m->slots);
    map_init(m);
}

/* The slot that holds key, or the empty one where it belongs. */
static struct map_slot *slot_find(const struct map *m, struct str key, uint32_t hash)
{
    uint32_t mask = m->cap - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_slot *s = &m->slots[i];
        if (!s->key.p || (s->hash == hash && str_eq(s->key, key)))
            return s;
    }
}

int map_try_reserve(struct map *m, uint32_t n_items, struct err *err)
{
    if (n_items > UINT32_MAX / 4)
        return err_set(err, E_LIMIT, "a table of %u names is too large", n_items);
    uint32_t cap = m->cap ? m->cap : 16;
    while (cap / 4 * 3 < n_items)
        cap *= 2;
    if (cap == m->cap)
        return 0;
    struct map grown = {.cap = cap, .len = m->len};
    grown.slots = mem_try_alloc(cap, sizeof(*grown.slots), err);
    if (!grown.slots)
        return -err->code;
    for (uint32_t i = 0; i < m->cap; i++) {
        if (m->slots[i].key.p)
            *slot_find(&grown, m->slots[i].key, m->slots[i].hash) = m->slots[i];
    }
    mem_free(m->slots);
    *m = grown;
    return 0;
}

int map_try_put(struct map *m, struct str key, uint32_t value, uint32_t *ret_old, struct err *err)
{
    BUG_ON(value == MAP_NONE);
    int ret = map_try_reserve(m, m->len + 1, err);
    if (ret < 0)
        return ret;
    if (!key.p)
        key.p = "";
    uint32_t hash = (uint32_t)map_hash(key.p, key.len);
    struct map_slot *s = slot_find(m, key, hash);
    *ret_old = s->key.p ? s->value : MAP_NONE;
    if (!s->key.p) {
        *s = (struct map_slot){key, value, hash};
        m->len++;
    }
    return 0;
}

uint32_t map_get(const struct map *m, struct str key)
{
    if (m->cap == 0)
        return MAP_NONE;
    const struct map_slot *s = slot_find(m, key, (uint32_t)map_hash(key.p ? key.p : "", key.len));
    return s->key.p ? s->value : MAP_NONE;
}
