/* SPDX-License-Identifier: Apache-2.0 */
/* Implements speculate.h. */
#include "worker/engine/speculate.h"

/* Shorter agreements say too little; longer ones are not looked for. */
#define MATCH_MIN 2u
#define MATCH_MAX 8u

static int32_t token_at(const struct kv_tokens *t, uint32_t i)
{
    return i < t->n_prompt ? t->prompt[i] : t->answer[i - t->n_prompt];
}

/* How many tokens before position `end` are those before position n. */
static uint32_t agreement(const struct kv_tokens *t, uint32_t end, uint32_t n)
{
    uint32_t len = 0;
    while (len < end && len < MATCH_MAX && token_at(t, end - 1 - len) == token_at(t, n - 1 - len))
        len++;
    return len;
}

uint32_t speculate(const struct kv_tokens *t, uint32_t n_answer, uint32_t n_most, int32_t *draft)
{
    const uint32_t n = t->n_prompt + n_answer;
    uint32_t best = MATCH_MIN - 1, at = 0;
    for (uint32_t end = n - 1; end >= MATCH_MIN && best < MATCH_MAX; end--) {
        const uint32_t len = agreement(t, end, n);
        if (len > best) { /* of equals the last one */
            best = len;
            at = end;
        }
    }
    if (best < MATCH_MIN)
        return 0;
    /* What the text itself does not have yet, the guess goes on with: a loop stays one. */
    for (uint32_t i = 0; i < n_most; i++)
        draft[i] = at + i < n ? token_at(t, at + i) : draft[at + i - n];
    return n_most;
}
