/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two models speak of the same tokens (tokenizer.h). */
#include "worker/text/tok/tok.h"

/* Tables are padded at their ends, and not to the same length even within a family. */
#define SLACK_TOKENS 128u

#define HOW_TO_MEND                                                                                \
    "guesses would be other words than it says: choose a smaller model of the same family, or "    \
    "leave the draft model away and let speculative-num-tokens guess from the text"

static bool is_word(const struct tokenizer *t, int32_t id)
{
    const enum token_attr a = tokenizer_attr(t, id);
    return a == TOKEN_NORMAL || a == TOKEN_BYTE;
}

int tokenizer_check_draft(const struct tokenizer *t, const struct tokenizer *draft, struct err *err)
{
    const uint32_t n = MIN_OF(t->n_vocab, draft->n_vocab),
                   most = MAX_OF(t->n_vocab, draft->n_vocab);
    if (tokenizer_has_text(t) != tokenizer_has_text(draft))
        return err_set(
            err, E_INVALID,
            "the draft model's vocabulary is of the kind '%s' and the model's '%s'; " HOW_TO_MEND,
            tokenizer_kind(draft), tokenizer_kind(t));
    if (most - n > SLACK_TOKENS)
        return err_set(err, E_INVALID,
                       "the draft model has %u tokens and the model %u, which may differ by %u at "
                       "most; " HOW_TO_MEND,
                       draft->n_vocab, t->n_vocab, SLACK_TOKENS);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = (int32_t)i;
        const struct str a = tokenizer_piece(t, id), b = tokenizer_piece(draft, id);
        if (is_word(t, id) && is_word(draft, id) &&
            (a.len != b.len || memcmp(a.p, b.p, a.len) != 0))
            return err_set(err, E_INVALID,
                           "token %u of the draft model's vocabulary has another text than the "
                           "model's; " HOW_TO_MEND,
                           i);
    }
    return 0;
}
