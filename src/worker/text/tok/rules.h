/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizer rules by hand, over class bytes: each cuts the piece [from, to) of s->cls.  For
 * pre.c. */
#ifndef WORKER_TEXT_TOK_RULES_H
#define WORKER_TEXT_TOK_RULES_H

#include "worker/text/tok/pre.h"

int tok_rule_gpt2(struct tok_split *s, uint32_t from, uint32_t to, struct err *err) MUST_USE;
int tok_rule_words(struct tok_split *s, uint32_t from, uint32_t to, unsigned arg,
                   struct err *err) MUST_USE;
int tok_rule_digits(struct tok_split *s, uint32_t from, uint32_t to, unsigned arg,
                    struct err *err) MUST_USE;

int tok_split_grow(struct tok_split *s, struct err *err) MUST_USE;
/* Ends a piece at the character at. */
static inline int tok_split_cut(struct tok_split *s, uint32_t at, struct err *err)
{
    if (UNLIKELY(s->n_next == s->cap_next)) {
        int rc = tok_split_grow(s, err);
        if (rc < 0)
            return rc;
    }
    s->next[s->n_next++] = at;
    return 0;
}

#endif
