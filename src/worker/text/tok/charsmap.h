/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece's precompiled normalisation: a double-array trie from character sequences to
 * replacements.
 *
 * The blob is a 32-bit length, that many bytes of little-endian units, and the replacements, each
 * ending in NUL. It is hostile until checked: every index is bounded while walking.  Read-only
 * after loading: any thread. */
#ifndef WORKER_TEXT_TOK_CHARSMAP_H
#define WORKER_TEXT_TOK_CHARSMAP_H

#include "worker/model/gguf.h"

struct tok_charsmap {
    unsigned char *bytes; /* owned copy of the blob; NULL: nothing is replaced */
    const unsigned char *units;
    uint32_t n_units;
    const char *texts; /* ends in NUL */
    uint32_t n_texts;  /* bytes */
};

/* From tokenizer.ggml.precompiled_charsmap, if there is one.  E_FORMAT, E_LIMIT, E_NOMEM. */
int tok_charsmap_load(struct tok_charsmap *c, const struct gguf *g, struct err *err) MUST_USE;
void tok_charsmap_release(struct tok_charsmap *c);
/* The bytes of p[0, n) that the longest match replaces by *ret, or 0 when none does. */
size_t tok_charsmap_match(const struct tok_charsmap *c, const char *p, size_t n, struct str *ret);

#endif
