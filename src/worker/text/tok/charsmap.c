/* SPDX-License-Identifier: Apache-2.0 */
/* Implements charsmap.h.  Unit layout: darts-clone (Yata 2008), as the sentencepiece project
 * documents it. */
#include "worker/text/tok/charsmap.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"

static uint32_t unit_at(const struct tok_charsmap *c, uint32_t i)
{
    const unsigned char *p = c->units + (size_t)i * 4;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool unit_has_leaf(uint32_t u)
{
    return u >> 8 & 1;
}
static uint32_t unit_label(uint32_t u)
{
    return u & (1u << 31 | 0xFF);
}
static uint32_t unit_offset(uint32_t u)
{
    return (u >> 10) << ((u & 1u << 9) >> 6);
}

int tok_charsmap_load(struct tok_charsmap *c, const struct gguf *g, struct err *err)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return 0;
    if (v->type != GGUF_ARRAY || (v->item_type != GGUF_U8 && v->item_type != GGUF_I8))
        return err_set(err, E_FORMAT, "%s is not an array of bytes", key);
    const uint64_t n = v->n_items;
    if (n == 0)
        return 0;
    if (n > LIMIT_CHARSMAP_BYTES)
        return err_set(err, E_LIMIT, "%s has %llu bytes; the limit is %u", key,
                       (unsigned long long)n, LIMIT_CHARSMAP_BYTES);
    const unsigned char *p = (const unsigned char *)v->data;
    const uint64_t units =
        n < 4 ? 0 : p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
    if (n < 4 || units % 4 || units == 0 || units >= n - 4)
        return err_set(err, E_FORMAT,
                       "%s says its trie has %llu bytes, which its %llu bytes cannot hold", key,
                       (unsigned long long)units, (unsigned long long)n);
    if (p[n - 1] != 0)
        return err_set(err, E_FORMAT, "%s ends inside a replacement", key);
    c->bytes = mem_try_alloc(n, 1, err);
    if (!c->bytes)
        return -E_NOMEM;
    memcpy(c->bytes, p, n);
    c->units = c->bytes + 4;
    c->n_units = (uint32_t)units / 4;
    c->texts = (const char *)c->bytes + 4 + units;
    c->n_texts = (uint32_t)(n - 4 - units);
    return 0;
}

void tok_charsmap_release(struct tok_charsmap *c)
{
    mem_free(c->bytes);
    memset(c, 0, sizeof(*c));
}

size_t tok_charsmap_match(const struct tok_charsmap *c, const char *p, size_t n, struct str *ret)
{
    if (c->n_units == 0)
        return 0;
    size_t found = 0;
    uint32_t at = unit_offset(unit_at(c, 0));
    for (size_t i = 0; i < n && p[i]; i++) {
        const unsigned char byte = (unsigned char)p[i];
        at ^= byte;
        if (at >= c->n_units)
            break;
        const uint32_t u = unit_at(c, at);
        if (unit_label(u) != byte)
            break;
        at ^= unit_offset(u);
        if (!unit_has_leaf(u))
            continue;
        if (at >= c->n_units)
            break;
        const uint32_t text = unit_at(c, at) & ~(1u << 31);
        if (text >= c->n_texts)
            break; /* a lie: as if nothing matched here */
        found = i + 1;
        *ret = (struct str){c->texts + text, strlen(c->texts + text)};
    }
    return found;
}
